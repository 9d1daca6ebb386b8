# What a user does wrong is answered by one line that names the thing, the reason and the remedy,
# with status 125, and leaves nothing behind. And the options that speak to whoever started us.
load helper

# refused TEXT OPTION...: one line, this one, and no new file.
refused() {
    local text=$1 before
    shift
    before=$(ls)
    monitor "$@"
    [ "$status" -eq 125 ]
    [ ! -s out ]
    [ "$(wc -l <err)" -eq 1 ]
    [ "$(cat err)" = "mayfly: $text" ] || { echo "expected: mayfly: $text"; return 1; }
    rm -f out err
    [ "$(ls)" = "$before" ]
}

@test "no kernel, a missing one, a directory, a FIFO, nothing in it" {
    local hello=$guests/hello
    : >empty
    mkfifo fifo
    mkdir dir
    refused "option --kernel: not given: name a bzImage or vmlinux, as in -k vmlinuz" run
    refused "kernel no/where: No such file or directory: give the path of a file that can be read" \
        run -k no/where
    refused "kernel dir: is a directory: give a regular file" run -k dir
    refused "kernel fifo: is a pipe: give a regular file" run -k fifo
    refused "kernel empty: is empty: was it written or downloaded whole?" run -k empty
    refused "initrd dir: is a directory: give a regular file" run -k "$hello" -i dir
    refused "initrd gone: No such file or directory: give the path of a file that can be read" \
        run -k "$hello" -i gone
}

@test "a kernel that is none, or not whole" {
    echo "a text, no kernel" >text
    printf '#!/bin/sh\n' >script
    head -c 40 "$guests/hello" >short
    head -c 4100 "$guests/hello" >cut
    gzip -c "$guests/hello" >zipped
    refused "kernel text: is neither a bzImage nor an ELF file: give Linux's vmlinuz or vmlinux for\
 x86_64" run -k text
    refused "kernel script: is a script: give a bzImage or a vmlinux" run -k script
    refused "kernel zipped: is compressed with gzip: unpack it with gzip -d" run -k zipped
    refused "kernel short: is a truncated ELF file: copy it again" run -k short
    monitor run -k cut
    [ "$status" -eq 125 ]
    [ "$(wc -l <err)" -eq 1 ]
    tells "mayfly: kernel cut: is truncated: 4100 bytes"
    # Cut anywhere, it is refused or boots; it never hurts.
    local n size=$(stat -c %s "$guests/hello")
    for ((n = 1; n < size; n += size / 25)); do
        head -c "$n" "$guests/hello" >cut
        monitor run -k cut --timeout 300ms
        case $status in 0 | 71 | 124 | 125) ;; *) false ;; esac
    done
}

@test "numbers out of bounds" {
    local k=(run -k "$guests/hello")
    local cpus="give how many vCPUs the guest gets, as in -c 2"
    refused "option --cpus: 0 is not between 1 and 64: $cpus" "${k[@]}" -c 0
    refused "option --cpus: 1000 is not between 1 and 64: $cpus" "${k[@]}" -c 1000
    refused "option --cpus: \"two\" is not a number: $cpus" "${k[@]}" -c two
    refused "option --memory: 2T is not between 1M and 1T: give a size, as in -m 512M or -m 2G" \
        "${k[@]}" -m 2T
    refused "option --mmio-cmdline: without ACPI a guest finds one vCPU, not 2: leave out --cpus" \
        "${k[@]}" -c 2 --mmio-cmdline
}

@test "a console, log or pidfile that can't be written" {
    local k=(run -k "$guests/hello")
    refused "console file no/way: No such file or directory: give a path that can be written" \
        "${k[@]}" --console file:no/way
    mkfifo fifo
    refused "console file fifo: No such device or address: it is a FIFO that nobody reads, start\
 the reader first" "${k[@]}" --console file:fifo
    refused "log file no/way: No such file or directory: give a path that can be written" \
        "${k[@]}" --log-file no/way
    refused "pidfile no/way: No such file or directory: give a path that can be written" \
        "${k[@]}" --pidfile no/way
    refused "option --ready-fd: descriptor 77 is not open: pass it on to mayfly" \
        "${k[@]}" --ready-fd 77
    # Nor is it one that the monitor opens for itself.
    monitor run -k "$guests/hello" --ready-fd 3 --log-file log 3>&-
    [ "$status" -eq 125 ]
    tells "option --ready-fd: descriptor 3 is not open: pass it on to mayfly"
}

@test "a pidfile is a regular file or nothing: no pipe waits, no device is removed" {
    mkfifo fifo
    monitor run -k "$guests/hello" --pidfile fifo
    [ "$status" -eq 125 ]
    tells "pidfile fifo: "
    [ -p fifo ]
    ln -s target link
    monitor run -k "$guests/hello" --pidfile link
    [ "$status" -eq 125 ]
    [ -L link ] && [ ! -e target ]
}

@test "too few descriptors: refused at whichever step they run out, or it runs" {
    [ -z "${MAYFLY_FLAVOUR:-}" ] || skip "a sanitizer's libraries and reports want descriptors too"
    local n
    for ((n = 4; n < 44; n += 2)); do
        status=0
        sh -c "ulimit -n $n; exec $mayfly run -k $guests/hello -c 8 --pidfile pid --timeout 5s" \
            >out 2>err || status=$?
        [ "$(wc -l <err)" -eq 1 ]
        [ ! -e pid ]
        [ "$status" -eq 0 ] && break
        [ "$status" -eq 125 ]
        tells "No file descriptors available"
    done
    [ "$n" -gt 10 ]
    [ "$status" -eq 0 ]
}

@test "nothing is left behind when the kernel turns out bad" {
    refused "kernel gone: No such file or directory: give the path of a file that can be read" \
        run -k gone --pidfile pid --console file:log
}

@test "--pidfile is there while it runs, and gone after" {
    start ends -a "say end=hlt" --pidfile vm.pid --timeout 10s --grace 0
    [ "$(cat vm.pid)" = "$pid" ]
    kill -TERM "$pid"
    finish
    [ "$status" -eq 143 ]
    [ ! -e vm.pid ]
    echo 12345 >vm.pid # of one that was killed
    guest hello --pidfile vm.pid
    [ "$status" -eq 0 ]
    [ ! -e vm.pid ]
}

@test "--ready-fd gets one byte and is closed" {
    mkfifo fifo
    exec 8<>fifo
    start ends -a "say end=hlt" --timeout 10s --grace 0
    [ "$(stat -c %s ready)" -eq 1 ]
    ! ls -l "/proc/$pid/fd" | grep -q /ready$ || false
    kill -TERM "$pid"
    finish
}

@test "--log-file is appended to, and stderr keeps the last line" {
    echo before >vm.log
    printf xyz | guest hostile -a only=head_range --log-file vm.log
    judged
    [ "$(cat err)" = "mayfly: the guest powered off" ]
    [ "$(head -n 1 vm.log)" = before ]
    grep -q "the guest broke it" vm.log
}

@test "--log-level debug names what a driver did out of turn; error silences warnings" {
    guest transport --log-level debug
    tells "debug: console: ignored: "
    printf xyz | guest hostile -a only=head_range --log-level error
    judged
    [ "$(cat err)" = "mayfly: the guest powered off" ]
}

@test "no /dev/kvm, one that is none, and no right to it" {
    [ "$(id -u)" -eq 0 ] || skip "not root: /dev/kvm can't be hidden"
    unshare -m true 2>/dev/null || skip "no name space of its own: /dev/kvm can't be hidden"
    : >file
    chmod 600 file
    exec 5<"$mayfly" # nobody may not come here, but may run what is open
    # hidden HOW TEXT [CMD...]
    hidden() {
        echo "$1; exec ${3:-} /proc/self/fd/5 run -k x --timeout 1s" >script
        status=0
        unshare -m sh script >out 2>err || status=$?
        [ "$status" -eq 125 ]
        [ "$(wc -l <err)" -eq 1 ]
        tells "mayfly: /dev/kvm: $2"
    }
    hidden 'mount -t tmpfs none /dev' "No such file or directory: load kvm_intel or kvm_amd"
    hidden 'mount --bind file /dev/kvm' "it is not KVM with API version 12"
    hidden 'mount --bind file /dev/kvm' "Permission denied: become a member of the group kvm" \
        "setpriv --reuid=65534 --regid=65534 --clear-groups"
}
