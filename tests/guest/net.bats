# Network cards on a real tap: what a guest sends and gets arrives, byte for byte, whatever was
# negotiated; what it must not send does not; what becomes of the tap is the guest's to see and
# nobody's end; limits hold.
#
# The guests are net.c and nethostile.c; at the tap's other end is host/frames.c. How a card comes by
# its tap: tap.bats.
load helper
load net

# --- frames ---

@test "a guest answers ARP and ping" {
    network
    tap tap0
    inside ip addr add 10.9.0.1/24 dev tap0
    local words
    for words in "" "mrg event indirect sleep"; do
        serve "$words" -n tap=tap0
        inside busybox ping -c 3 -i 0.1 -W 2 10.9.0.2 >ping
        inside busybox ping -c 2 -i 0.1 -W 2 -s 1472 10.9.0.2 >>ping
        [ "$(grep -c " bytes from 10.9.0.2" ping)" -eq 5 ]
        inside ip neigh show 10.9.0.2 | grep -q lladdr
        inside ip neigh flush dev tap0
        served
    done
}

# A driver that is slow to give its buffers back loses what then finds no room. So there is always
# room for more than is under way.
@test "frames of all lengths come back byte for byte, whatever is negotiated" {
    network
    tap tap0
    local words
    for words in "" "mrg" "mrg event" "mrg indirect sleep" "mrg event indirect sleep" "cut" \
        "cut indirect event sleep" "mrg buf=128 event" "mrg buf=250 cut indirect" "csum mrg sleep" \
        "size=4" "size=1" "mrg size=8 sleep" "mrg tso buf=4096 indirect sleep"; do
        echo "with: $words"
        serve "$words" -n tap=tap0
        frames tap0 echo n=80 burst=5 min=18
        served
        counted "received 80 frames of .*, sent 80 of "
        uncounted dropped
    done
}

@test "large frames" {
    network
    tap tap0
    inside ip link set tap0 mtu 65521
    local words
    for words in "" "cut indirect event sleep" "mrg buf=4096 event sleep" "mrg buf=65547" \
        "mrg buf=4096 indirect cut sleep" "size=2"; do
        echo "with: $words"
        serve "$words" -n tap=tap0
        frames tap0 echo n=12 burst=4 min=60 max=65535
        served
        counted "received 12 frames of .*, sent 12 of "
        uncounted dropped
    done
}

@test "packets to be cut up: whole for those who negotiated it, cut up for the others" {
    network
    tap tap0
    local words kind
    for words in "tso mrg buf=4096 event indirect sleep" "tso" "tso mrg cut buf=8192"; do
        echo "with: $words"
        serve "$words" -n tap=tap0
        for kind in 4 6; do
            frames tap0 gso kind=$kind len=60000
            grep -qE '^1 back, largest 600[57]4, 1 to be cut up$' frames.out
            frames tap0 gso kind=$kind len=60000 mss=300
            grep -qE '^1 back, largest 600[57]4, 1 to be cut up$' frames.out
        done
        frames tap0 gso kind=17 len=20000 mss=1400 # nobody negotiated this one
        grep -qx '15 back, largest 1442, 0 to be cut up' frames.out
        served
    done
    for words in "" "csum mrg buf=256 event sleep"; do
        echo "with: $words"
        serve "$words" -n tap=tap0
        frames tap0 gso kind=4 len=20000
        grep -qx '14 back, largest 1502, 0 to be cut up' frames.out
        frames tap0 gso kind=6 len=20000 mss=1400
        grep -qx '15 back, largest 1474, 0 to be cut up' frames.out
        served
        says "port 0: 29 frames, 41866 bytes, 0 to be cut up"
    done
}

@test "datagrams to be cut up" {
    local release=$(uname -r | cut -d . -f 1,2)
    [ "$(printf '6.2\n%s\n' "$release" | sort -V | head -n 1)" = 6.2 ] ||
        skip "Linux $release: no tap knows USO"
    network
    tap tap0
    serve "tso uso mrg buf=4096" -n tap=tap0
    frames tap0 gso kind=17 len=20000 mss=1400
    grep -qx '1 back, largest 20042, 1 to be cut up' frames.out
    served
}

@test "resets under a flood" {
    local i words
    network
    tap tap0
    for words in "mrg event indirect sleep" "cut"; do
        serve "$words" -n tap=tap0
        beside flood gap=200
        for ((i = 0; i < 8; i++)); do ask r "started again"; done
        beside_ends
        ask r "started again"
        wait_for drained # of what the flood left in the tap
        frames tap0 echo n=20
        served
    done
}

@test "behind a reset nothing is written" {
    local words
    network
    tap tap0
    for words in "" "mrg event" "mrg tso buf=4096 indirect"; do
        beside flood gap=300
        hostile "what=resets $words" -n tap=tap0
        beside_ends
    done
}

# --- what does not reach the host ---

# dropped KIND WORD: as many as the guest says it made.
dropped() {
    local n=$(sed -n "s/^$1 //p" "$out")
    echo "$1: $n"
    if [ "$n" -eq 0 ]; then uncounted "dropped .$2.";
    else counted "dropped .$2. $n[,;]"; fi
}

@test "hostile headers are dropped and counted, never reach the tap, and harm nothing" {
    network
    tap tap0
    local words passed
    for words in "tso uso mrg buf=4096" "csum" "csum event indirect" "event"; do
        echo "with: $words"
        beside watch
        hostile "what=headers $words" -n tap=tap0
        sleep 0.1
        beside_ends
        # Each that may go has arrived, as it was told, and nothing else.
        passed=$(sed -n 's/^passed //p' "$out")
        cat beside.out
        ! grep -q 88b6 beside.out || false
        [ "$(grep -c ' from ' beside.out)" -eq "$passed" ]
        grep -q '^88b5 len 65557 flags 0 gso 0,0 ' beside.out
        grep -q '^88b5 len 14 flags 0 ' beside.out
        if [[ $words == *csum* || $words == *tso* ]]; then
            grep -q '^88b5 len 60 flags 1 gso 0,0 csum 50,8 ' beside.out
        fi
        dropped short short
        dropped long long
        dropped csum checksum
        dropped gso segmentation
        counted "sent $passed of "
        uncounted "refused"
    done
}

@test "rings that are none break the card, and a reset mends it" {
    network
    tap tap0
    local words
    beside mirror
    for words in "" "mrg event" "indirect cut"; do
        hostile "what=rings $words" -n tap=tap0
        grep -q "net0: the guest broke it: queue 0: a buffer to receive in is shorter than a" "$err"
    done
    # Told of a few times, then no more.
    between 3 8 "$(grep -c "warning: net0: " "$err")"
}

# --- frames that the kernel's vhost moves ---

@test "the same by vhost" {
    [ -c /dev/vhost-net ] || modprobe vhost_net 2>/dev/null || skip "no /dev/vhost-net on this host"
    local words kind vhost=tap=tap0,vhost=on
    network
    tap tap0
    for words in "" "mrg event sleep" "cut indirect sleep" "mrg tso buf=4096 event indirect sleep"; do
        echo "with: $words"
        serve "vhost ctlq $words" -n "$vhost"
        frames tap0 echo n=20 burst=5 min=18
        ask r "started again"
        frames tap0 echo n=20 burst=5
        for kind in 4 6; do frames tap0 gso kind=$kind len=20000 mss=1400; done
        if [[ $words == *tso* ]]; then grep -q '^1 back, ' frames.out; else grep -q '^15 back, ' frames.out; fi
        served
    done
    card "what=control ctrl offloads tso" -n "$vhost"
    serve "mrg sleep" -n "$vhost"
    inside ip link set tap0 down
    wait_for says "link down, mtu 1500"
    ask b "beacon 0: 1"
    inside ip link set tap0 up
    wait_for more_than 1 "link up, mtu 1500"
    frames tap0 echo n=20
    served
}

@test "the tap is deleted under vhost" {
    [ -c /dev/vhost-net ] || modprobe vhost_net 2>/dev/null || skip "no /dev/vhost-net on this host"
    network
    tap tap0
    serve "vhost mrg sleep" -n tap=tap0,vhost=on
    frames tap0 echo n=10
    inside ip link del tap0
    wait_for says "link down, mtu 1500"
    ask b "beacon 0: 1"
    ask b "beacon 0: 1"
    served
}

@test "two pairs of queues by vhost" {
    [ -c /dev/vhost-net ] || modprobe vhost_net 2>/dev/null || skip "no /dev/vhost-net on this host"
    network
    tap tap0 multi_queue
    serve "vhost mq event sleep" -c 2 -n tap=tap0,queues=2,vhost=on
    frames tap0 echo n=40 burst=10 flows=16
    ask 2 "pairs: 0"
    frames tap0 echo n=80 burst=10 flows=16
    ask t told
    [ "$(port 1)" -ge 5 ]
    ask 1 "pairs: 0"
    ask 2 "pairs: 0"
    frames tap0 echo n=40 burst=10 flows=16
    served
}

# --- the control queue ---

@test "commands are carried out or refused, by what was negotiated" {
    network
    tap tap0
    card "what=control ctrl offloads tso indirect" -n tap=tap0
    card "what=control ctrl offloads tso event" -n tap=tap0
    card "what=control ctlq" -n tap=tap0
    guest net -a "what=pairs mq" -n tap=tap0
    grep -qa "BAD features" "$out" # one pair is none to switch
}

# hears N COMMAND...: so many of the frames that it sends reach the guest.
hears() {
    frames tap0 send n=3 "${@:2}"
    frames tap0 echo n=1 # to all, and behind the others
    ask t told
    [ "$(port 0)" -eq $(($1 + 1)) ] || { echo "heard and one more: $(port 0), not $1: ${*:2}"; return 1; }
}

@test "what a card receives: modes and tables of addresses" {
    network
    tap tap0
    serve "ctrl event sleep" -n tap=tap0,mac=02:00:00:00:00:01
    hears 3 to=6
    ask p "promisc 0: 0"
    hears 0 to=6
    hears 3 to=1
    hears 0 to=5
    ask f "tables: 0"
    hears 3 to=5
    hears 0 to=6
    hears 3 to=7 group=1
    hears 0 to=9 group=1
    hears 3 to=255
    ask A "allmulti 1: 0"
    hears 3 to=9 group=1
    hears 0 to=6
    ask a "allmulti 0: 0"
    hears 0 to=9 group=1
    ask P "promisc 1: 0"
    hears 3 to=6
    ask p "promisc 0: 0"
    ask r "started again" # forgets it all
    hears 3 to=6
    served
}

# --- pairs of queues ---

@test "two pairs of queues" {
    network
    tap tap0 multi_queue
    card "what=facts" -c 2 -n tap=tap0,queues=2
    grep -qa ", 2 pairs$" out
    card "what=pairs mq" -c 2 -n tap=tap0,queues=2
    card "what=control ctrl offloads tso" -c 2 -n tap=tap0,queues=2 # its queue is the third
    serve "mq event sleep" -c 2 -n tap=tap0,queues=2
    frames tap0 echo n=100 burst=20 flows=16
    ask t told
    [ "$(port 1)" -eq 0 ]
    ask 2 "pairs: 0"
    frames tap0 echo n=200 burst=20 flows=16
    ask t told
    between 20 180 "$(port 0)"
    [ $(($(port 0) + $(port 1))) -eq 200 ]
    ask 1 "pairs: 0"
    frames tap0 echo n=100 burst=20 flows=16
    served
    [ "$(port 1)" -eq 0 ]
    counted "received 400 frames of .*, sent 400 of "
    uncounted dropped
}

@test "a pair of queues that is switched off and on again loses no buffer" {
    local i
    network
    tap tap0 multi_queue
    # 17 of the 20 are held ready for the largest packet.
    serve "mq mrg tso buf=4096 slots=20 event sleep" -c 2 -n tap=tap0,queues=2
    for i in 1 2 3 4 5; do
        ask 2 "pairs: 0"
        frames tap0 echo n=40 burst=3 flows=16
        ask 1 "pairs: 0"
    done
    served
    [ "$(port 1)" -ge 10 ]
    counted "received 200 frames of .*, sent 200 of "
    uncounted dropped
}

@test "two pairs of queues that the driver doesn't want" {
    network
    tap tap0 multi_queue
    serve "mrg event sleep" -c 2 -n tap=tap0,queues=2
    frames tap0 echo n=100 burst=20 flows=16
    served
}

@test "two cards hear each other" {
    network
    tap tap0
    tap tap1
    inside ip link add br0 type bridge mcast_snooping 0 2>/dev/null || skip "no bridges on this host"
    inside ip link set tap0 master br0
    inside ip link set tap1 master br0
    inside ip link set br0 up
    card "what=two" -n tap=tap0 -n tap=tap1
    card "what=two mrg event indirect" -n tap=tap1 -n tap=tap0
}

# --- what it is ---

@test "features and configuration space" {
    network
    tap tap0
    card "what=config" -n tap=tap0
    inside ip link set tap0 mtu 9000
    card "what=config mtu=9000" -n tap=tap0
    card "what=config mtu=1300" -n tap=tap0,mtu=1300
}

@test "an address of its own, the same each time, or the one that was given" {
    network
    tap tap0
    tap tap1
    card "what=facts" -n tap=tap0 -n tap=tap1
    cp out first
    card "what=facts" -n tap=tap1 -n tap=tap0
    grep -qE '^card 0: .[26ae](:[0-9a-f]{2}){5}, link up, mtu 1500, 1 pairs$' first
    [ "$(sed -n 's/^card 0: \([^,]*\),.*/\1/p' first)" = "$(sed -n 's/^card 1: \([^,]*\),.*/\1/p' out)" ]
    [ "$(sed -n 's/^card 1: \([^,]*\),.*/\1/p' first)" = "$(sed -n 's/^card 0: \([^,]*\),.*/\1/p' out)" ]
    [ "$(cut -d ' ' -f 3 first | sort -u | grep -c :)" -eq 2 ]
    card "what=facts" -n tap=tap0,mac=52:54:00:ab:cd:ef
    says "card 0: 52:54:00:ab:cd:ef, link up, mtu 1500, 1 pairs"
}

# --- what becomes of the tap ---

# idle: the monitor's threads are not busy.
idle() {
    local before after
    before=$(awk '{ print $14 + $15 }' "/proc/$pid/stat")
    sleep 0.5
    after=$(awk '{ print $14 + $15 }' "/proc/$pid/stat")
    between 0 15 $((after - before)) # hundredths of a second
}

@test "the link goes down and up, and its MTU changes: the guest sees it, and nothing stops" {
    network
    tap tap0
    serve "mrg sleep" -n tap=tap0
    says "link up, mtu 1500"
    inside ip link set tap0 down
    wait_for says "link down, mtu 1500"
    ask b "beacon 0: 1"
    ask b "beacon 0: 1"
    idle
    inside ip link set tap0 up
    wait_for more_than 1 "link up, mtu 1500"
    frames tap0 echo n=20
    inside ip link set tap0 mtu 1400
    wait_for says "link up, mtu 1400"
    frames tap0 echo n=20 max=1414
    inside ip link set tap0 mtu 4000
    wait_for says "link up, mtu 4000"
    frames tap0 echo n=20 max=4014
    served
    counted "received 60 frames .*sent 60 of .*dropped .down. 2;"
}

@test "an MTU that was given stays, unless the interface's is smaller" {
    network
    tap tap0
    serve "mrg sleep" -n tap=tap0,mtu=1400
    says "link up, mtu 1400"
    inside ip link set tap0 mtu 1300
    wait_for says "link up, mtu 1300"
    inside ip link set tap0 mtu 9000
    wait_for more_than 1 "link up, mtu 1400"
    served
}

@test "a larger frame than the driver's buffers is dropped, never cut" {
    local begin
    network
    tap tap0
    serve "sleep" -n tap=tap0
    inside ip link set tap0 mtu 4000
    wait_for says "link up, mtu 4000"
    frames tap0 send n=5 len=3000
    frames tap0 echo n=20
    served
    counted "received 20 frames .*dropped .no room. 5;"
    # Mergeable, but too few of them. The card waits for more, and not for long.
    serve "mrg slots=3 buf=512" -n tap=tap0
    begin=$(now_ms)
    frames tap0 send n=5 len=3000
    frames tap0 echo n=20 max=500
    between 10 4000 $(($(now_ms) - begin))
    served
    counted "received 20 frames .*dropped .no room. 5;"
}

@test "a card that starts with its link down" {
    network
    inside ip tuntap add tap0 mode tap
    serve "mrg event sleep" -n tap=tap0
    says "link down, mtu 1500"
    ask b "beacon 0: 1"
    inside ip link set tap0 up
    wait_for says "link up, mtu 1500"
    frames tap0 echo n=20
    served
}

@test "the tap is deleted under the running guest" {
    network
    local words
    for words in "mrg sleep" "event indirect sleep"; do
        tap tap0
        serve "$words" -n tap=tap0
        frames tap0 echo n=20
        inside ip link del tap0
        wait_for says "link down, mtu 1500"
        ask b "beacon 0: 1"
        ask r "started again"
        ask b "beacon 0: 1"
        idle
        served
        counted "received 20 frames .*sent 20 of .*dropped .down. 2;"
    done
}

# --- limits ---

# within LEAST BEGIN: ms that passed since; not absurdly many more.
within() {
    local took=$(($(now_ms) - $2))
    echo "$took ms, at least $1"
    between "$1" $(($1 * 3 + 5000)) "$took"
}

@test "tx-pps= and tx-bw= hold" {
    local begin
    network
    tap tap0
    begin=$(now_ms)
    card "what=limit count=110" -n tap=tap0,tx-pps=100:10
    within $((1000 * (110 - 10 - 1) / 100)) "$begin"
    begin=$(now_ms)
    card "what=limit count=80 len=1400 event" -n tap=tap0,tx-bw=100000:10000
    within $((1000 * (80 * 1400 - 10000 - 1400) / 100000)) "$begin"
}

@test "rx-pps= and rx-bw= hold" {
    local begin
    network
    tap tap0
    serve "mrg event sleep" -n tap=tap0,rx-pps=100:10
    begin=$(now_ms)
    frames tap0 send n=109
    frames tap0 echo n=1
    within $((1000 * (110 - 10 - 1) / 100)) "$begin"
    served
    counted "received 110 frames"
    serve "sleep" -n tap=tap0,rx-bw=100000:10000
    begin=$(now_ms)
    frames tap0 send n=80 len=1400
    frames tap0 echo n=1 max=60
    within $((1000 * (80 * 1400 - 10000 - 1400) / 100000)) "$begin"
    served
    counted "received 81 frames"
}

@test "a guest that ends or resets does not wait for its limit" {
    local begin
    network
    tap tap0
    serve "sleep" -n tap=tap0,rx-pps=1:1,tx-pps=1:1
    begin=$(now_ms)
    frames tap0 send n=20
    ask r "started again"
    ask r "started again"
    served
    between 0 4000 $(($(now_ms) - begin))
}
