# The console as a virtio device: queues, notifications, registers, and drivers that mean ill.
load helper

@test "echo through the virtqueues, polling" {
    printf 'abc\ndef' | guest echo
    [ "$status" -eq 0 ]
    [ "$(cat -v out)" = $'ready\nabc\ndef^D\npolled' ]
}

@test "echo by interrupt, asleep in HLT" {
    printf 'abc\ndef' | guest echo -a irq
    [ "$status" -eq 0 ]
    [ "$(cat -v out)" = $'ready\nabc\ndef^D\ninterrupted' ]
}

@test "echo with EVENT_IDX, polling and by interrupt" {
    printf 'abc\ndef' | guest echo -a event
    [ "$(cat -v out)" = $'ready\nabc\ndef^D\npolled' ]
    printf 'abc\ndef' | guest echo -a "event irq"
    [ "$(cat -v out)" = $'ready\nabc\ndef^D\ninterrupted' ]
}

@test "echo with indirect descriptors" {
    printf 'abc\ndef' | guest echo -a "indirect event irq"
    [ "$status" -eq 0 ]
    [ "$(cat -v out)" = $'ready\nabc\ndef^D\ninterrupted' ]
}

@test "interrupts and notifications come when they were asked for, and only then" {
    guest events
    judged
}

@test "indices go round at 65536" {
    guest events -a wrap
    judged
}

# exits_until TEXT: has the guest go on, and counts the exits of vCPU 0 until it said TEXT.
exits_until() {
    rm -f counted # the shell that empties it runs beside us
    "$guests/exits" "$pid" vcpu0 >counted 3>&- &
    local watcher=$!
    wait_for grep -q counting counted || {
        local code=0
        wait $watcher || code=$?
        [ $code -ne 3 ] || skip "ptrace is not allowed here: exits can't be counted"
        return 1
    }
    echo >&8
    wait_for says "$1"
    kill -TERM $watcher
    wait $watcher
    tail -n 1 counted
}

@test "a kick makes no exit, one that no ioeventfd matches makes one" {
    mkfifo in
    exec 8<>in
    start kick --timeout 10s <in
    wait_for says matched
    exits_until unmatched >matched
    exits_until done >unmatched
    echo >&8
    finish
    [ "$status" -eq 0 ]
    echo "exits: $(<matched) with 200 matched, $(<unmatched) with 200 unmatched"
    between 0 60 "$(<matched)"
    between 200 260 "$(<unmatched)"
}

@test "accesses that no driver makes do no harm" {
    guest transport
    judged
}

@test "a size for a window, and its changes" {
    "$guests/pty" size:100x30 "expect:size 100 x 30" size:90x20 "expect:size 90 x 20" send:x -- \
        "$mayfly" run -k "$guests/size" --timeout 10s >out
}

# --- a hostile driver ---

@test "every breach of the queue's rules: NEEDS_RESET, an interrupt, and it works again" {
    printf xyz | guest hostile -m 3G
    judged
    between 40 100 "$(grep -c ': works again$' out)"
}

# breach NAME TEXT: and the log says what was wrong.
breach() {
    printf xyz | guest hostile -m 3G -a "only=$1"
    judged
    says "$1: works again"
    tells "warning: console: the guest broke it: $2; it waits for a reset"
}

@test "the log names the breach of a queue's set-up" {
    breach size_3 "queue 1: size 3 is not a power of two up to 64"
    breach desc_in_hole "queue 1: descriptor table at 0xc0000000 is not 256 bytes of RAM aligned to 16"
    breach avail_half_out "queue 1: avail ring at 0xbffffffc is not 38 bytes of RAM aligned to 2"
    breach used_in_hole "queue 1: used ring at 0xc0000000 is not 134 bytes of RAM aligned to 4"
}

@test "the log names the breach of a ring" {
    breach head_range "transmit queue: a head is out of range"
    breach index_jumps "transmit queue: the avail index jumped by more than the queue holds"
    breach next_range "transmit queue: a next descriptor is out of range"
    breach rx_range "receive queue: a head is out of range"
    breach rx_no_room "receive queue: a buffer without room"
}

@test "the log names the breach of a chain" {
    breach loop_two "transmit queue: a chain is longer than the queue, or a loop"
    breach chain_long "transmit queue: a chain is longer than the queue, or a loop"
    breach chain_huge "transmit queue: a chain is longer than 4 GiB"
    breach order "transmit queue: a readable buffer follows a writable one"
    breach order_empty "transmit queue: a readable buffer follows a writable one"
    breach buffer_half_out "transmit queue: a buffer lies outside RAM"
}

@test "the log names the breach of an indirect table" {
    breach table_uninvited "transmit queue: an indirect table without INDIRECT_DESC negotiated"
    breach table_nested "transmit queue: an indirect table inside an indirect table"
    breach table_and_next "transmit queue: an indirect table with a next descriptor"
    breach table_odd "transmit queue: an indirect table of a bad size"
    breach table_in_hole "transmit queue: an indirect table lies outside RAM"
    breach table_next_range "transmit queue: a next descriptor is out of range"
}

@test "a guest that breaks it again and again fills no log" {
    printf xyz | guest hostile -m 3G
    between 1 12 "$(wc -l <err)"
}
