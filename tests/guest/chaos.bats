# Two vCPUs against the monitor (chaos.c): one drives a device, the other rewrites everything under
# it. The monitor stays up, other devices go on, after a reset the device works.
load helper

# some_net: sets net, a tap at whose other end somebody sends whatever he can think of. Of two pairs
# of queues, each of which has its thread; then a guest that has both write to one place is told of
# as a race of ours by a sanitizer.
some_net() {
    net=()
    local why=$(no_network) c
    [ -z "$why" ] || { echo "# without a network card: $why" >&3; return; }
    network
    inside ip tuntap add tap0 mode tap multi_queue
    inside ip link set tap0 up
    for c in mirror "flood gap=3000"; do
        "${into[@]}" "$guests/frames" tap0 $c >/dev/null 2>&1 3>&- &
    done
    net=(-n tap=tap0,queues=2)
    [ "${MAYFLY_FLAVOUR:-}" != tsan ] || net=(-n tap=tap0)
}

# attack SEED WORD...: a run of the guest; with the word input there is some.
attack() {
    local seed=$1 begin=$SECONDS
    some_disk "$seed"
    [ -n "${net+set}" ] || some_net
    echo "again: $mayfly run -k $guests/chaos -c 2 -d $disk ${net[*]} -a 'seed=$*'"
    if [[ " $* " == *" input "* ]]; then
        tr '\0' '\377' </dev/zero 2>/dev/null | guest chaos -c 2 -d "$disk" "${net[@]}" --timeout 25s -a "seed=$*"
    else
        guest chaos -c 2 -d "$disk" "${net[@]}" --timeout 25s -a "seed=$*" --console file:out
    fi
    survived "$seed" $((SECONDS - begin))
}

# some_disk SEED: sets disk, of the one engine or the other.
some_disk() {
    local ways=(io=uring io=sync)
    rm -f chaos.img # its lock may be another's yet
    truncate -s 1M chaos.img
    disk="chaos.img,id=chaos,queues=2,${ways[$1 % 2]}"
}

# survived SEED SECONDS: it ended by itself, found all well, and nobody said what is not to be
# expected, or more often than the log's limit has it: for each device 5 lines in 5 s, and
# how many were left out.
survived() {
    [ "$status" -eq 0 ]
    last "the guest powered off"
    ! grep -a "^BAD seed" out || false
    grep -qaxE "seed $1: [1-9][0-9]* checked, 0 bad" out
    # Each line that it printed to prove that the console works came, whole, and once.
    grep -aoxE 'console: proof [0-9]+' out >proofs
    [ "$(wc -l <proofs)" -ge 2 ]
    seq -f 'console: proof %.0f' "$(wc -l <proofs)" | cmp - proofs
    local said='the guest broke it: .*; it waits for a reset|[0-9]+ more such lines were left out'
    local who='console|blk(sync)?[0-9]+|net0'
    head -n -1 err | grep -vE "^mayfly: warning: ($who): ($said)$" >strange || true
    [ ! -s strange ]
    between 2 $((3 * 6 * ($2 / 5 + 2) + 1)) "$(wc -l <err)"
}

rounds=40
more=
[ -z "${MAYFLY_LONG:-}" ] || more=$(seq 11 40)

@test "both vCPUs at one device, console, power, disk and network card in turn: it survives, others go on, a reset mends it" {
    local seed
    for seed in 1 2 $more; do
        attack "$seed" input phases=4 rounds=$rounds
    done
}

@test "the same with descriptors that lie on rings and all over RAM" {
    local seed
    for seed in 4 $more; do
        attack "$seed" alias phases=4 rounds=$rounds
    done
}

@test "the same from a fresh seed" {
    local seed=$((RANDOM << 15 | RANDOM))
    echo "# seed $seed" >&3
    attack "$seed" input phases=4 rounds=$rounds
}

# beside: KiB of anonymous memory of the monitor's, the guest's 64 MiB apart.
beside() {
    awk '/^Size:/ { guest = $2 == 65536 } /^Anonymous:/ && !guest { n += $2 } END { print n + 0 }' \
        "/proc/$pid/smaps"
}

@test "the monitor's own memory does not grow under attack" {
    [ -z "${MAYFLY_FLAVOUR:-}" ] || skip "memory under a sanitizer is the sanitizer's"
    local now first=0 most=0 samples=0 begin=$SECONDS
    some_disk 6
    some_net
    start chaos -m 64M -c 2 -d "$disk" "${net[@]}" --timeout 25s \
        -a "seed=6 alias phases=4 rounds=$rounds" --console file:out
    while now=$(beside 2>/dev/null) && [ "$now" -gt 0 ]; do
        [ "$first" -gt 0 ] || first=$now
        [ "$now" -le "$most" ] || most=$now
        samples=$((samples + 1))
        sleep 0.05
    done
    finish
    echo "$samples samples: $first KiB at first, at most $most KiB"
    survived 6 $((SECONDS - begin))
    [ "$samples" -ge 5 ]
    # The console's ring is 1 MiB, present as far as output ever filled it; and each of the disk's 256
    # requests has its place, some 3 KiB.
    between "$first" $((first + 1024 + 768 + 128)) "$most"
}
