# Loaded by every file here: runs guests and looks at what came of it.
#
# A guest's console goes to $out, the monitor's own words to $err, its exit status to $status; all
# three are shown when a test fails. Nothing hangs: every run has a --timeout, and what has no end
# of its own is killed after 30 s.

root=${BATS_TEST_DIRNAME%/tests/guest}
mayfly=$(realpath "${MAYFLY:-$root/build/mayfly}")
guests=$root/build/guest-tests

setup() {
    cd "$BATS_TEST_TMPDIR" || return
    out=$PWD/out err=$PWD/err status=0 pid=
    shopt -s lastpipe # "... | guest NAME" sets $status here
    exec </dev/null
}

teardown() {
    local rest=$(jobs -p)
    disown -a
    [ -z "$rest" ] || kill -KILL $rest 2>/dev/null || true
    echo "status: $status"
    [ ! -e out ] || head -c 2000 out
    [ ! -e err ] || { echo "--- stderr:"; head -c 4000 err; }
}

# monitor ARG...: the monitor, killed when all else fails.
monitor() {
    status=0
    timeout -k 1 30 "$mayfly" "$@" >"$out" 2>"$err" || status=$?
}

# guest NAME OPTION...: boots a guest and waits for its end.
guest() {
    local limit=(--timeout 10s)
    [[ " $* " != *" --timeout "* ]] || limit=()
    monitor run -k "$guests/$1" "${limit[@]}" "${@:2}"
}

# start NAME OPTION...: boots one in the background, as $pid; returns when its vCPUs run.
start() {
    rm -f ready # an earlier one's
    "$mayfly" run -k "$guests/$1" --ready-fd 9 "${@:2}" 9>ready >"$out" 2>"$err" <&0 3>&- &
    pid=$!
    wait_for [ -s ready ]
}

# finish: waits for the one in the background.
finish() {
    status=0
    wait "$pid" || status=$?
    pid=
}

# no_network: why there can be none for a test.
no_network() {
    [ -c /dev/net/tun ] || modprobe tun 2>/dev/null || true
    if [ ! -c /dev/net/tun ]; then
        echo "no /dev/net/tun"
    elif ! unshare -n true 2>/dev/null && ! unshare -Urn true 2>/dev/null; then
        echo "neither root nor user namespaces: no network of our own"
    fi
}

# network: the monitor of this test runs in a network namespace of its own from here on, where nobody
# says a word of his own accord. Skips where that can't be.
network() {
    local user=() why=$(no_network)
    [ -z "$why" ] || skip "$why"
    unshare -n true 2>/dev/null || user=(-Ur)
    # Lives as long as its standard input does, so that nothing is left of a test that was killed.
    mkfifo holder
    unshare "${user[@]}" -n cat <holder >/dev/null 2>&1 3>&- &
    local holder=$!
    exec 6>holder
    wait_for other_network "$holder"
    into=(nsenter ${user:+-U --preserve-credentials} -n -t "$holder")
    plain=$mayfly
    inside_is "$plain"
    inside bash -c 'for f in /proc/sys/net/ipv6/conf/{all,default}/disable_ipv6; do
        [ ! -e $f ] || echo 1 >$f; done'
}

other_network() { [ "$(readlink "/proc/$1/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }

# inside_is CMD...: what the monitor is from here on, run in that namespace.
inside_is() {
    printf '#!/bin/bash\nexec %s "$@"\n' "$(printf '%q ' "${into[@]}" "$@")" >mayfly-inside
    chmod +x mayfly-inside
    mayfly=$PWD/mayfly-inside
}

# inside CMD...: in that namespace.
inside() { "${into[@]}" "$@"; }

# wait_for CMD...: until it succeeds, 10 s at most.
wait_for() {
    local i
    for ((i = 0; i < 500; i++)); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.02
    done
    echo "waited in vain for: $*"
    return 1
}

now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# between LOW HIGH N
between() { (($1 <= $3 && $3 <= $2)) || { echo "$3 is not between $1 and $2"; return 1; }; }

# says TEXT: a line of the console is that.
says() { grep -qaxF -- "$1" "$out" || { echo "the guest did not say: $1"; return 1; }; }

# tells TEXT: the monitor's words hold that.
tells() { grep -qF -- "$1" "$err" || { echo "not told: $1"; return 1; }; }

# last TEXT: the last line of stderr is that.
last() { [ "$(tail -n 1 "$err")" = "mayfly: $1" ] || { echo "not the last line: $1"; return 1; }; }

# judged: a guest that judges itself found all well.
judged() {
    ! grep -a BAD "$out" || false
    grep -qaE '^[1-9][0-9]* checked, 0 bad$' "$out"
    [ "$status" -eq 0 ]
}

# symbol GUEST NAME: its address, as messages have it.
symbol() { nm "$guests/$1" | awk -v s="$2" '$3 == s { sub(/^0+/, "", $1); print "0x" $1 }'; }

# checksum: of standard input, as the guests compute it.
checksum() {
    od -An -v -tu1 | awk '{ for (i = 1; i <= NF; i++) s = (s * 31 + $i) % 16777216 }
        END { printf "%06x\n", s }'
}

# every_byte: 0 to 255.
every_byte() { awk 'BEGIN { for (i = 0; i < 256; i++) printf "%03o\n", i }' | while read -r o; do printf "\\$o"; done; }

# flood N: what guest output prints in N transmissions.
flood() {
    local i dots
    dots=$(head -c 16377 /dev/zero | tr '\0' .)
    for ((i = 0; i < $1; i++)); do printf '%06d%s\n' "$i" "$dots"; done
}
