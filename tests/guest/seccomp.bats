# The roles' filters, in the binary that ships: host/inject.c makes its threads make system calls, as
# code of an attacker's in them would.
load helper

# From <asm/unistd_64.h>, and an i386 one.
mmap=9 ioctl=16 getpid=39 socket=41 kill=62 execve=59 rt_sigaction=13 tgkill=234 openat=257
io_uring_setup=425 i386_getpid=20

# attacked NAME OPTION...: a guest that waits for input, for ever.
attacked() {
    rm -f in
    mkfifo -m 600 in
    exec 5<>in
    start echo "$@" <&5
    wait_for grep -qa ready "$out"
}

# inject COMM CALL ARG...: into the one in the background; $injected is what came of it.
inject() {
    local status=0
    injected=$("$guests/inject" "$pid" "$@") || status=$?
    [ "$status" -ne 3 ] || skip "this host lets nobody ptrace"
    [ "$status" -eq 0 ]
}

# forbidden ROLE COMM TEXT CALL ARG...: the thread dies of it, and the report says TEXT.
forbidden() {
    local role=$1 comm=$2 text=$3
    shift 3
    attacked
    inject "$comm" "$@"
    [ "$injected" = SIGSYS ]
    finish
    [ "$status" -eq 159 ]
    [ "$(cat "$err")" = "mayfly: seccomp: role $role: $text is not allowed; Mayfly ends" ]
}

@test "each role makes a forbidden call: it is not made, one line tells, and Mayfly ends" {
    local row
    for row in main:mayfly vcpu:vcpu0 console:console; do
        forbidden "${row%:*}" "${row#*:}" "openat(0xffffffffffffff9c, 0x1000, 0x2, 0x0, 0x0, 0x0)" \
            $openat -100 0x1000 2
        forbidden "${row%:*}" "${row#*:}" "socket(0x1, 0x1, 0x0, 0x0, 0x0, 0x0)" $socket 1 1
        forbidden "${row%:*}" "${row#*:}" "execve(0x1, 0x2, 0x3, 0x0, 0x0, 0x0)" $execve 1 2 3
    done
}

@test "calls that open ways around a filter: none for any role" {
    local row
    for row in main:mayfly vcpu:vcpu0 console:console; do
        # Executable memory, another handler of SIGSYS, a ring that makes calls for us.
        forbidden "${row%:*}" "${row#*:}" "mmap(0x0, 0x1000, 0x7, 0x22, 0xffffffffffffffff, 0x0)" \
            $mmap 0 4096 7 0x22 -1
        forbidden "${row%:*}" "${row#*:}" "rt_sigaction(0x1f, 0x0, 0x0, 0x8, 0x0, 0x0)" \
            $rt_sigaction 31 0 0 8
        forbidden "${row%:*}" "${row#*:}" "io_uring_setup(0x1, 0x0, 0x0, 0x0, 0x0, 0x0)" \
            $io_uring_setup 1
    done
}

@test "arguments count: requests, signals, whom they go to" {
    # KVM_GET_REGS is main's, TIOCSTI nobody's, and the upper half of a request is no way out.
    forbidden vcpu vcpu0 "ioctl(0x3, 0x8090ae81, 0x0, 0x0, 0x0, 0x0)" $ioctl 3 0x8090ae81
    forbidden console console "ioctl(0x0, 0x5412, 0x0, 0x0, 0x0, 0x0)" $ioctl 0 0x5412
    forbidden vcpu vcpu0 "ioctl(0x3, 0x10000ae01, 0x0, 0x0, 0x0, 0x0)" $ioctl 3 0x10000ae01
    forbidden main mayfly "tgkill(0x1, 0x1, 0x28, 0x0, 0x0, 0x0)" $tgkill 1 1 40
    forbidden main mayfly "kill(0x1, 0x9, 0x0, 0x0, 0x0, 0x0)" $kill 1 9
    attacked
    inject mayfly $tgkill "$pid" "$pid" 9 # ourselves, by another signal
    [ "$injected" = SIGSYS ]
    finish
    [ "$status" -eq 159 ]
}

@test "other ABIs: i386 and x32 numbers pass for nobody" {
    forbidden vcpu vcpu0 "system call 1073741840(0x3, 0xae80, 0x0, 0x0, 0x0, 0x0)" \
        $((ioctl | 0x40000000)) 3 0xae80
    attacked
    inject console i386:$i386_getpid
    [ "$injected" = SIGSYS ]
    finish
    [ "$status" -eq 159 ]
    tells "role console: a system call of another architecture("
}

@test "what a role needs is let through, and the guest goes on" {
    attacked
    inject mayfly $getpid
    [ "$injected" = "returned $pid" ]
    inject console $ioctl 0 0x5413 0 # TIOCGWINSZ of a FIFO
    [ "$injected" = "returned -25" ]
    printf 'still there\n\x04' >&5
    finish
    [ "$status" -eq 0 ]
    says "still there"
}

@test "--seccomp=kill: the kernel ends it, without a word" {
    attacked --seccomp=kill
    inject console $openat -100 0x1000
    [ "$injected" = SIGSYS ]
    finish
    [ "$status" -eq 159 ]
    [ ! -s "$err" ]
}

@test "--seccomp=log and off: the call is made and the guest goes on" {
    local mode
    for mode in log off; do
        attacked --seccomp=$mode
        inject console $openat -100 0x1000
        [ "$injected" = "returned -14" ]
        inject vcpu0 $getpid
        [ "$injected" = "returned $pid" ]
        [ "$(awk '/^Seccomp:/ { print $2 }' "/proc/$pid/status")" -eq "$([ $mode = log ] && echo 2 || echo 0)" ]
        printf '\x04' >&5
        finish
        [ "$status" -eq 0 ]
    done
}

@test "every thread has a filter, and no privilege can be gained" {
    attacked -c 3
    local t n=0
    for t in /proc/"$pid"/task/*; do
        [[ $(<"$t/comm") != kvm-* ]] || continue # the kernel's own
        [ "$(awk '/^Seccomp:/ { print $2 }' "$t/status")" -eq 2 ]
        [ "$(awk '/^Seccomp_filters:/ { print $2 }' "$t/status")" -eq 1 ]
        [ "$(awk '/^NoNewPrivs:/ { print $2 }' "$t/status")" -eq 1 ]
        n=$((n + 1))
    done
    [ "$n" -eq 5 ]
    printf '\x04' >&5
    finish
    [ "$status" -eq 0 ]
}

@test "the report reaches the log file too, and leaves the terminal as it was" {
    local t row
    for row in main:mayfly vcpu:vcpu0 console:console; do
        rm -f vm.pid vm.log
        timeout -k 1 30 "$guests/pty" expect:ready raw expect:ends -- "$mayfly" run \
            -k "$guests/echo" --pidfile vm.pid --log-file vm.log >"$out" 2>"$err" 3>&- &
        t=$!
        wait_for grep -qa ready "$out" || wait_for [ -s vm.pid ]
        sleep 0.2
        pid=$(cat vm.pid)
        inject "${row#*:}" $socket 1 1
        [ "$injected" = SIGSYS ]
        pid=
        status=0
        wait $t || status=$?
        [ "$status" -eq 159 ] # 99: not as it was
        grep -qxF "mayfly: seccomp: role ${row%:*}: socket(0x1, 0x1, 0x0, 0x0, 0x0, 0x0) is not allowed; Mayfly ends" vm.log
    done
}

@test "two at one door: a window that is resized while vCPUs reset the device" {
    for _ in 1 2 3; do
        start race -c 4 -a "cpus=4" --timeout 20s
        while kill -WINCH "$pid" 2>/dev/null; do :; done
        finish
        [ "$status" -eq 0 ]
    done
}

# on_such_a_kernel WHAT OPTION...: a guest where seccomp(2) fails, as host/without.c says.
on_such_a_kernel() {
    local code=0
    timeout -k 1 20 "$guests/without" "$1" "$mayfly" run -k "$guests/hello" "${@:2}" >"$out" 2>"$err" || code=$?
    status=$code
}

@test "a kernel that can't filter: refused with the remedy, or without filters when asked so" {
    on_such_a_kernel all --pidfile vm.pid
    [ "$status" -eq 125 ]
    [ "$(cat "$err")" = "mayfly: seccomp: the host's kernel can't filter system calls: Function not implemented: use Linux 4.14 or later with CONFIG_SECCOMP_FILTER, or do without by --seccomp=off" ]
    [ ! -s "$out" ]
    on_such_a_kernel all --seccomp=off
    [ "$status" -eq 0 ]
    says hello
}

@test "a filter that can't be put on: the guest does not run, and no file is left" {
    on_such_a_kernel enter --pidfile vm.pid --console file:console
    [ "$status" -eq 125 ]
    tells "mayfly: seccomp: a filter can't be put on: Out of memory: "
    [ ! -e vm.pid ]
    [ ! -e console ]
}
