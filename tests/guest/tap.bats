# How a network card comes by its tap: one that was there, that is made, or that a parent opened; whose
# it may be; and what users and hosts do wrong. What goes through it: net.bats.
load helper
load net

# refused TEXT OPTION...: one line that begins so, and status 125.
refused() {
    monitor run -k "$guests/hello" "${@:2}"
    [ "$status" -eq 125 ]
    [ ! -s out ]
    [ "$(wc -l <err)" -eq 1 ]
    [[ $(cat err) == "mayfly: $1"* ]] || { echo "expected: mayfly: $1..."; return 1; }
}

@test "a missing tap is made where that is allowed, up, and vanishes with its VM" {
    network
    serve "mrg" -n tap=new0,mtu=1400
    inside ip -o link show new0 | grep -q "[<,]UP[,>].* mtu 1400 "
    frames new0 echo n=10 max=1414
    served
    ! inside ip link show new0 2>/dev/null || false
    serve "mrg mq" -c 2 -n tap=new0,queues=2
    inside ip -o link show new0 | grep -q "[<,]UP[,>]"
    kill -KILL "$pid"
    finish 2>/dev/null
    wait_for eval '! inside ip link show new0 2>/dev/null'
    # One that was there stays, to be used again.
    tap tap0
    card "what=facts" -n tap=tap0
    card "what=facts" -n tap=tap0
    inside ip link show tap0 >/dev/null
}

# --- taps that a parent opened ---

# handed TAP WORDS: from here on the monitor has that as descriptor 7, opened so.
handed() { inside_is "$guests/tapfd" 7 "$1" "$2" "$plain"; }

@test "fd=: a tap that the parent opened" {
    network
    tap tap0
    handed tap0 tap,vnet
    serve "mrg event sleep" -n fd=7
    frames tap0 echo n=20
    inside ip link set tap0 down
    wait_for says "link down, mtu 1500"
    served
    # One with shorter headers, as its parent used it.
    inside ip link set tap0 up
    handed tap0 tap,vnet,short
    serve "" -n fd=7
    frames tap0 echo n=20
    served
}

@test "fd=: what is no tap as we need one" {
    network
    handed tap9 tun,vnet
    refused "net fd=7: a tun, which has no Ethernet frames: " -n fd=7
    handed tap9 tap
    refused "net fd=7: frames come without a vnet header: open it with IFF_VNET_HDR" -n fd=7
    handed tap9 none
    refused "net fd=7: a tap without an interface: " -n fd=7
    refused "net fd=8: not a descriptor that the parent left open" -n fd=8
    refused "net fd=8: not a tap: " -n fd=8 8<>/dev/null
    refused "net fd=8: not a tap that is open for reading and writing: " -n fd=8 8</dev/null
    : >file
    refused "net fd=8: not a tap: " -n fd=8 8<>file
    handed tap9 tap,vnet,info
    refused "net fd=7: frames come with a packet information header: open it with IFF_NO_PI" -n fd=7
    refused "option --net: fd=7: queues: " -c 2 -n fd=7,queues=2
}

# own_mounts: in a chroot, say, / is no mount, and what is mounted can't be kept from others.
own_mounts() { inside unshare -m true 2>/dev/null || skip "no name space of its own: no mounts"; }

@test "fd=: a macvtap" {
    network
    own_mounts
    inside ip link add one type veth peer name two 2>/dev/null || skip "no veth on this host"
    inside ip link set one up
    inside ip link set two up
    inside ip link add link one name mv0 type macvtap mode passthru 2>/dev/null ||
        skip "no macvtap on this host"
    inside ip link set mv0 up
    local dev
    dev=$(inside unshare -m bash -c 'mount -t sysfs none /sys && cat /sys/class/net/mv0/tap*/dev')
    mknod mv0 c "${dev%:*}" "${dev#*:}" 2>/dev/null || skip "not root: no node for a macvtap"
    exec 7<>mv0
    local words
    for words in "mrg event sleep" "tso indirect"; do
        serve "$words" -n fd=7
        frames two echo n=40 burst=5
        frames two gso kind=4 len=30000
        served
    done
}

# --- what a user or the host does wrong ---

@test "a tap in use, of another kind, with one queue; names that are none" {
    local tap
    network
    tap tap0
    tap tap2 multi_queue
    inside ip tuntap add tun0 mode tun
    for tap in tap0 tap2; do
        serve "sleep" -n tap=$tap
        out=$PWD/out2 err=$PWD/err2
        monitor run -k "$guests/hello" -n tap=$tap
        [ "$status" -eq 125 ]
        [ "$(cat err2)" = "mayfly: net $tap: in use by another program or VM: stop that one, or name \
another tap" ]
        out=$PWD/out err=$PWD/err
        served
        : >out
    done
    refused "net lo: an interface of another kind: " -n tap=lo
    refused "net tun0: an interface of another kind: " -n tap=tun0
    refused "net tap0: a tap with one queue: make it anew with ip tuntap add dev tap0 mode tap" \
        -c 2 -n tap=tap0,queues=2
    refused "net tap0: its MTU is 1500, and mtu=9000 exceeds it: ip link set tap0 mtu 9000" \
        -n tap=tap0,mtu=9000
    refused "option --net: tap: \"a-name-of-16-byte\" is longer than 15 bytes: " \
        -n tap=a-name-of-16-byte
    refused "option --net: tap: \"a/b\" can't be the name of an interface: " -n tap=a/b
    refused "option --net: tap=tap0: given twice: " -n tap=tap0 -n tap=tap0
    refused "option --net: tap=tap0: queues: 2 is more than the 1 of --cpus: " -n tap=tap0,queues=2
    refused "option --net: tap=tap0: vhost=on and a rate: " -n tap=tap0,vhost=on,rx-pps=5
    # A single program has one with several queues, too.
    card "what=facts" -n tap=tap2
}

@test "vhost=on where there is none" {
    [ ! -e /dev/vhost-net ] || skip "this host has /dev/vhost-net"
    network
    tap tap0
    refused "net tap0: " -n tap=tap0,vhost=on
    tells "/dev/vhost-net"
    tells "No such file or directory"
}

# nobody ARG...: the monitor as a user without rights, who may use /dev/kvm and /dev/net/tun.
as_nobody() {
    mkdir -p dev
    [ -e dev/tun ] || mknod dev/tun c 10 200
    [ -e dev/kvm ] || mknod dev/kvm c 10 "$(grep -w kvm /proc/misc | cut -d ' ' -f 1)"
    chmod 666 dev/*
    exec 5<"$plain" 7<"$guests/net"
    cat >nobody <<END
#!/bin/sh
mount --bind $PWD/dev/tun /dev/net/tun && mount --bind $PWD/dev/kvm /dev/kvm &&
exec setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all /proc/self/fd/5 "\$@"
END
    chmod +x nobody
    status=0
    inside unshare -m "$PWD/nobody" "$@" >"$out" 2>"$err" || status=$?
}

@test "a user without rights: his own tap he has, others he has not" {
    [ "$(id -u)" -eq 0 ] || skip "not root: who else could he be"
    network
    own_mounts
    inside ip tuntap add mine mode tap user 65534
    inside ip tuntap add root mode tap user 0
    inside ip link set mine up
    as_nobody run -k /proc/self/fd/7 --timeout 10s -a what=facts -n tap=mine
    judged
    grep -qa "link up, mtu 1500, 1 pairs" out
    as_nobody run -k /proc/self/fd/7 --timeout 10s -a what=facts -n tap=root
    [ "$status" -eq 125 ]
    [ "$(cat err)" = "mayfly: net root: belongs to another user: have it made for this one: ip tuntap \
add dev root mode tap user 65534" ]
    as_nobody run -k /proc/self/fd/7 --timeout 10s -a what=facts -n tap=none
    [ "$status" -eq 125 ]
    [ "$(cat err)" = "mayfly: net none: no such interface, and this user may not make one: have it \
made: ip tuntap add dev none mode tap user 65534" ]
    # Without the right to the device itself.
    chmod 600 dev/tun
    exec 5<"$plain" 7<"$guests/net"
    inside unshare -m "$PWD/nobody" run -k /proc/self/fd/7 -n tap=mine >"$out" 2>"$err" || status=$?
    [ "$status" -eq 125 ]
    tells "net mine: can't open /dev/net/tun: Permission denied: "
}
