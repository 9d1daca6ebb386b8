# The terminal it was started from: the guest's while it runs, as it was at every end that can be
# caught. host/pty.c plays the user, and fails with 99 when the terminal was not left as found.
load helper

# pty STATUS GUEST STEP... [-- OPTION...]
pty() {
    local want=$1 name=$2 steps=()
    shift 2
    while [ $# -gt 0 ] && [ "$1" != -- ]; do steps+=("$1"); shift; done
    shift || true
    status=0
    timeout -k 1 30 "$guests/pty" "${steps[@]}" -- "$mayfly" run -k "$guests/$name" "$@" \
        >out 2>err || status=$?
    [ "$status" -eq "$want" ]
}

@test "raw while the guest runs: every key is its, and what it says comes back as it is" {
    pty 0 echo expect:ready raw 'send:a\x03b\x1a\x1c\x11c\r' 'expect:a\x03b\x1a\x1c\x11c\r' \
        'send:\x04' expect:polled
}

@test "left as it was: poweroff, --timeout, triple fault, a bad kernel" {
    pty 0 hello
    pty 124 echo expect:ready raw -- --timeout 500ms
    pty 71 ends -- -a "say end=triple"
    pty 125 ends -- -i gone
}

@test "left as it was: SIGTERM, SIGHUP, SIGQUIT, twice or once" {
    pty 143 echo expect:ready raw signal:TERM -- --grace 200ms
    pty 143 echo expect:ready raw signal:TERM sleep:100 signal:TERM -- --grace 20s
    pty 129 echo expect:ready raw signal:HUP -- --grace 0
    pty 131 echo expect:ready raw signal:QUIT -- --grace 0
}

@test "left as it was: the monitor's own faults" {
    local s
    ulimit -c 0
    for s in SEGV:139 ABRT:134 BUS:135 ILL:132 FPE:136 SYS:159 TRAP:133; do
        pty "${s#*:}" echo expect:ready raw "signal:${s%:*}"
    done
}

@test "left as it was: every other signal that can be caught" {
    local s
    for s in USR1:138 USR2:140 ALRM:142 XCPU:152 VTALRM:154 PROF:155 POLL:157 PWR:158; do
        pty "${s#*:}" echo expect:ready raw "signal:${s%:*}"
    done
}

# Not sent by a process: it looks like a fault, and does not come a second time by itself.
@test "an alarm that was set before Mayfly ends it" {
    mkfifo in
    exec 5<>in
    status=0
    timeout -k 1 20 python3 -c 'import os, signal, sys
signal.alarm(1)
os.execv(sys.argv[1], sys.argv[1:])' "$mayfly" run -k "$guests/echo" <&5 >"$out" 2>"$err" || status=$?
    [ "$status" -eq 142 ]
}

@test "left as it was: a fault in a thread of its own" {
    local t
    ulimit -c 0
    for t in console vcpu0; do
        pty 139 echo expect:ready raw "thread:$t:SEGV" -- --timeout 3s
        pty 134 echo expect:ready raw "thread:$t:ABRT" -- --timeout 3s
    done
}

@test "Ctrl-] three times ends it, a slow or interrupted one does not" {
    pty 130 echo expect:ready raw 'send:\x1d\x1d\x1d' 'expect:Ctrl-] was pressed three times'
    pty 0 echo expect:ready raw 'send:\x1d\x1dx\x1d' sleep:100 'send:\x04'
    pty 0 echo expect:ready raw 'send:\x1d\x1d' sleep:1200 'send:\x1d' sleep:100 'send:\x04'
}

@test "Ctrl-] ends a guest that takes no input" {
    pty 130 ends expect:here raw 'send:\x1d' 'send:\x1d' 'send:\x1d' -- -a "say end=loop"
}

@test "Ctrl-] in a pipe is a byte as any other" {
    printf '\035\035\035\035' | guest input
    [ "$status" -eq 0 ]
    grep -q '^4 bytes' out
}

@test "with standard output elsewhere it is raw all the same, with input elsewhere it is not" {
    local m="$mayfly run -k $guests/echo --timeout 10s"
    "$guests/pty" raw 'send:\x03x\x04' -- sh -c "exec $m >console"
    grep -qa $'\003x' console
    "$guests/pty" expect:ready cooked -- sh -c "{ sleep 0.5; echo hi; } | $m" >out
}

@test "stopped and continued: raw again" {
    pty 0 echo expect:ready raw signal:STOP sane cooked signal:CONT raw 'send:x\x04' expect:polled
}

@test "the monitor's lines stand at the left edge of a raw terminal" {
    pty 0 hostile -- -a only=head_range
    grep -q $'waits for a reset\r$' out
}
