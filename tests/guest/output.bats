# What the guest prints arrives, byte for byte; a reader that is slow or gone never stops the guest.
load helper

@test "every value of a byte passes as it is" {
    { every_byte; every_byte; every_byte; every_byte; } >sent
    guest output -a what=bytes
    [ "$status" -eq 0 ]
    cmp sent out
}

@test "--console file: exact bytes, in a file made or emptied" {
    flood 128 >sent
    echo old >log
    guest output --console file:log
    [ "$status" -eq 0 ]
    cmp sent log
    [ ! -s out ]
    guest hello --console file:new
    [ "$(cat new)" = hello ]
}

@test "standard output appended to a file" {
    echo before >log
    "$mayfly" run -k "$guests/hello" --timeout 10s >>log 2>err
    [ "$(cat log)" = $'before\nhello' ]
}

@test "--console none" {
    guest output --console none
    [ "$status" -eq 0 ]
    [ ! -s out ]
    [ "$(cat err)" = "mayfly: the guest powered off" ]
}

@test "1 MiB waits in the ring, whole, for a reader that is late" {
    flood 63 >sent
    "$mayfly" run -k "$guests/output" -a kib=1008 --timeout 2s 2>err | { sleep 3; cat; } >out
    [ "${PIPESTATUS[0]}" -eq 0 ]
    cmp sent out
}

@test "a stalled reader never stalls the guest, and what was dropped is told exactly" {
    local notice at n
    flood 160 >sent
    "$mayfly" run -k "$guests/output" -a kib=2560 --timeout 2s --grace 10s 2>err |
        { sleep 3; cat; } >out
    [ "${PIPESTATUS[0]}" -eq 0 ]
    last "the guest powered off"
    notice=$(grep -abo '\[[0-9]* bytes dropped\]' out)
    [ "$(wc -l <<<"$notice")" -eq 1 ]
    at=${notice%%:*} n=${notice#*\[} n=${n%% *}
    echo "dropped $n at $at"
    # Before it what the pipe held, behind it the last 1 MiB, and nothing between was lost untold.
    head -c $((at - 2)) out | cmp -n $((at - 2)) - sent
    tail -c +$((at - 2 + 4 + ${#notice} - ${#at})) out >rest
    [ "$(stat -c %s rest)" -eq $((1 << 20)) ]
    tail -c $((1 << 20)) sent | cmp - rest
    [ $((at - 2 + n + (1 << 20))) -eq "$(stat -c %s sent)" ]
}

@test "a reader that never reads: the end waits for --grace, and says what was lost" {
    local begin=$(now_ms) code=0
    mkfifo fifo
    exec 8<>fifo
    "$mayfly" run -k "$guests/output" -a kib=1008 --timeout 5s --grace 300ms >fifo 2>err || code=$?
    [ "$code" -eq 0 ]
    between 300 2500 $(($(now_ms) - begin))
    tells "warning: console: the reader did not take the last $((1008 * 1024 - 65536)) bytes"
    last "the guest powered off"
}

@test "a reader that goes away" {
    "$mayfly" run -k "$guests/output" --timeout 5s 2>err | head -c 10 >out
    [ "${PIPESTATUS[0]}" -eq 0 ]
    [ "$(cat out)" = 000000.... ]
    tells "console: output can't be written: Broken pipe"
    [ "$(grep -c Broken err)" -eq 1 ]
    last "the guest powered off"
}

@test "a closed standard output, and a full disk" {
    "$mayfly" run -k "$guests/hello" --timeout 5s >&- 2>err
    [ "$(cat err)" = "mayfly: the guest powered off" ]
    # Nothing of it goes into a file that took the free number.
    "$mayfly" run -k "$guests/hello" --timeout 5s --pidfile pid --log-file log <&- >&- 2>&-
    [ ! -s log ]
    "$mayfly" run -k "$guests/hello" --timeout 5s >/dev/full 2>err
    tells "console: output can't be written: No space left on device"
    last "the guest powered off"
}

@test "a limit of the file's size ends the output, not the guest" {
    (ulimit -f 8 && exec "$mayfly" run -k "$guests/output" --timeout 5s --console file:log 2>&1) | cat >err
    [ "${PIPESTATUS[0]}" -eq 0 ]
    tells "console: output can't be written: File too large"
    last "the guest powered off"
}

@test "the pipe stays blocking for those who share it" {
    # The reader takes its time; a write of the shell's own may not fail with EAGAIN.
    { "$mayfly" run -k "$guests/hello" --timeout 5s 2>err; head -c 300000 /dev/zero; } |
        { sleep 0.5; cat; } >out
    [ "${PIPESTATUS[0]}" -eq 0 ]
    [ "$(stat -c %s out)" -eq 300006 ]
}

@test "sockets are blocking again afterwards" {
    command -v perl >/dev/null || skip "no perl to make sockets with"
    cat >sockets <<'END'
use Socket; use Fcntl;
socketpair(A, B, AF_UNIX, SOCK_STREAM, 0) && socketpair(C, D, AF_UNIX, SOCK_STREAM, 0) or die;
if (!(my $pid = fork)) { open(STDIN, "<&A"); open(STDOUT, ">&C"); exec @ARGV } else { waitpid($pid, 0) }
sysread(D, my $text, 100);
printf "%s%d %d\n", $text, map { fcntl($_, F_GETFL, 0) & O_NONBLOCK ? 1 : 0 } (*A, *C);
END
    perl sockets "$mayfly" run -k "$guests/hello" --timeout 5s >out 2>err
    [ "$(cat out)" = $'hello\n0 0' ]
}

# --- a pseudoterminal ---

# attach: connects descriptor 7 to the pty that the monitor named.
attach() {
    wait_for grep -q "^mayfly: console: /dev/pts/" err
    pts=$(sed -n 's/^mayfly: console: //p' err)
    exec 7<>"$pts"
}

# hears TEXT: the next line from the pty.
hears() {
    local line
    IFS= read -r -t 5 line <&7
    [ "$line" = "$1" ] || { echo "heard $line, not $1"; return 1; }
}

@test "--console pty: an exchange, detached and attached again" {
    start echo --console pty --timeout 10s
    attach
    hears ready
    printf 'one\n' >&7
    hears one
    exec 7>&-
    sleep 0.1
    attach
    printf 'two\003\n' >&7
    hears $'two\003'
    printf '\004' >&7
    hears $'\004'
    hears polled
    finish
    [ "$status" -eq 0 ]
    [ ! -s out ]
}

@test "--console pty that nobody reads" {
    local begin=$(now_ms)
    guest output --console pty --grace 300ms
    [ "$status" -eq 0 ]
    between 300 3000 $(($(now_ms) - begin))
    tells "console: the reader did not take the last"
}
