# For tests of network cards: a guest on a tap, in a network namespace that the test makes by network
# (helper.bash), and host/frames.c at the tap's other end.

# tap NAME WORD...: makes one, up.
tap() {
    inside ip tuntap add "$1" mode tap "${@:2}"
    inside ip link set "$1" up
}

# card WORDS OPTION...: the guest with these words on its command line judges itself.
card() {
    guest net -a "$1" "${@:2}"
    judged
    last "the guest powered off"
}

# hostile WORDS OPTION...
hostile() {
    guest nethostile -a "$1" --log-level debug "${@:2}"
    judged
    tells "mayfly: the guest powered off"
}

# serve WORDS OPTION...: a guest that answers, in the background, and does as it is asked.
serve() {
    rm -f in
    mkfifo in
    exec 8<>in
    start net -a "$1" --timeout 25s --log-level debug "${@:2}" <&8
    wait_for says ready
}

# ask LETTERS TEXT: of the guest; a line of its answer is TEXT. Lines are counted: it is a new one.
ask() {
    local seen=$(grep -caxF -- "$2" "$out")
    echo -n "$1" >&8
    wait_for more_than "$seen" "$2"
}

# more_than N TEXT: so many lines of the console are TEXT.
more_than() { [ "$(grep -caxF -- "$2" "$out")" -gt "$1" ]; }

# served: its end, and what it says of itself.
served() {
    echo -n q >&8
    finish
    judged
    tells "mayfly: the guest powered off"
}

# frames INTERFACE COMMAND WORD...: to its end.
frames() {
    inside timeout -k 1 25 "$guests/frames" "$@" >frames.out 2>&1 || { cat frames.out; return 1; }
}

# beside COMMAND WORD...: in the background, at tap0, ready; its words go to beside.out.
beside() {
    "${into[@]}" "$guests/frames" tap0 "$@" >beside.out 2>&1 3>&- & # not a shell's child: to be ended
    other=$!
    wait_for grep -qx ready beside.out
}

# beside_ends: what was in the background.
beside_ends() {
    kill "$other"
    wait "$other" 2>/dev/null || true
}

# drained: for a while nothing came.
drained() {
    ask t told
    sleep 0.1
    ask t told
    [ "$(port 0)" -eq 0 ]
}

# port N: frames it had, as last told.
port() { grep -a "^port $1: " "$out" | tail -n 1 | sed 's/^port .: \([0-9]*\) .*/\1/'; }

# counted TEXT: the monitor's line of counters holds that.
counted() { grep -qE -- "^mayfly: debug: net0: .*$1" "$err" || { echo "not counted: $1"; return 1; }; }

uncounted() { ! counted "$1" >/dev/null || { echo "counted: $1"; return 1; }; }
