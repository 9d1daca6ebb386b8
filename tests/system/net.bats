#!/usr/bin/env bats
# The network as Linux guests see it: behind a tap in a bridge (net.bash draws it). Both ways, both
# protocols, addresses, MTU and link; what becomes of a tap while a guest uses it.
# Several guests: netmany.bats; every byte of a load: netload.bats; all with the kernel's vhost:
# netvhost.bats.

load lib.bash
load net.bash
load netload.bash

@test "net: ping both ways, IPv4 and IPv6; the address given, or one that stays" {
  local mac
  tap t0
  tap t1
  guest first 2
  begin first -n tap=t0,mac=02:12:34:56:78:9a -n tap=t1
  pings first 2
  ask first 'cat $eth0/address /sys/class/net/eth1/address'
  same "${answer%$'\n'*}" 02:12:34:56:78:9a "the guest's address"
  mac=${answer#*$'\n'}
  matches "$mac" '^.[26ae](:..){5}$' "a derived address is local and one host's"
  end first
  begin first -n tap=t1 -n tap=t0
  pings first 2
  ask first 'cat $eth0/address /sys/class/net/eth1/address'
  same "${answer%$'\n'*}" "$mac" "the address at the next start"
  [ "${answer#*$'\n'}" != "$mac" ] || fail "another tap, and the same address"
  end first
}

# Offered to the driver is the interface's MTU, or the one that the user gives.
@test "net: the guest's MTU is the tap's, or the one given; a new one of the tap's is there when the driver starts" {
  local at=/sys/bus/virtio/drivers/virtio_net
  tap t0 1400
  tap t1 1400
  guest mtus 2
  begin mtus -n tap=t0 -n tap=t1,mtu=1280
  ask mtus 'cat $eth0/mtu /sys/class/net/eth1/mtu'
  same "$answer" 1400$'\n'1280 "MTUs"
  ip_net link set t0 mtu 1350
  ip_net link set t1 mtu 1350
  ask mtus "for d in virtio1 virtio2; do echo \$d >$at/unbind && echo \$d >$at/bind; done; \
cat /sys/class/net/eth[01]/mtu"
  same "$answer" 1350$'\n'1280 "MTUs after the driver was bound again"
  ask mtus up
  pings mtus 2
  end mtus
}

@test "net: the guest's carrier follows the tap: down and up, its cable out and in, deleted" {
  tap t0
  guest link 2
  begin link -n tap=t0
  ask link 'wait_for carrier 1'
  for way in 'down up' 'carrier=off carrier=on'; do
    # shellcheck disable=SC2086 # words, meant to split
    set -- $way
    ip_net link set t0 ${1/=/ }
    ask link 'wait_for carrier 0'
    ask link 'ping -c 1 -W 1 10.9.0.1 || :' # what is sent now goes nowhere
    ip_net link set t0 ${2/=/ }
    ask link 'wait_for carrier 1'
    pings link 2
  done
  ip_net link del t0
  ask link 'wait_for carrier 0'
  ask link 'ping -c 1 -W 1 10.9.0.1 || echo nobody'
  same "${answer##*$'\n'}" nobody "behind a deleted tap"
  end link
}

@test "net: the tap goes down and up under load, and TCP goes on" {
  down_and_up
  end load
}

# The nodes have the modes that udev gives them; the lab has no udev. What bats makes is root's alone.
@test "net: a plain user's Mayfly, without any privilege, and that user's tap" {
  local uid=65534 caps dir
  setpriv --reuid $uid --clear-groups test -x "$mayfly" || skip "$mayfly is closed to other users"
  for ((dir = 0; dir < 3; dir++)); do
    caps=$tmp
    for ((i = 0; i < dir; i++)); do caps=${caps%/*}; done
    chmod o+x "$caps"
  done
  tap t0 1500 user $uid
  tap t1 1500 user 1
  guest plain 2
  cat >"$tmp/as" <<SCRIPT
mount -t tmpfs nodes "$tmp/nodes"
cd "$tmp/nodes"
mknod -m 666 kvm c 10 232
mknod -m 666 tun c 10 200
mount --bind kvm /dev/kvm
mount --bind tun /dev/net/tun
exec setpriv --reuid $uid --regid $uid --clear-groups --bounding-set=-all --inh-caps=-all \
  --no-new-privs "\$@"
SCRIPT
  mkdir "$tmp/nodes"
  as=(unshare -m sh -e "$tmp/as")
  touch "$tmp/plain.log"
  chown $uid "$tmp/plain.log"
  begin plain -n tap=t0
  caps=$(grep -E '^(Uid|Cap(Prm|Eff|Bnd)):' "/proc/${pids[plain]}/status" | tr -s '\t\n' ' ')
  same "$caps" "Uid: 65534 65534 65534 65534 CapPrm: 0000000000000000 CapEff: 0000000000000000 \
CapBnd: 0000000000000000 " "what it may"
  pings plain 2
  moves plain up 10.9.0.1 $MIB 1
  moves plain down 10.9.0.1 $MIB 2
  end plain
  for name in t1 missing; do # another's, and one that it can't make
    boot plain -n tap=$name
    refused plain 125 "^mayfly: net $name: "
  done
}

@test "net: fd=: a macvtap that the parent has opened" {
  local index node fd
  modprobe macvtap 2>/dev/null || :
  ip_net -batch - <<'BATCH' || skip "this kernel has no macvtap"
link add w0 type veth peer name w1
link set w0 master br0 up
link set w1 up
link add link w1 name m0 type macvtap mode bridge
link set m0 up
BATCH
  printf 'link del %s\n' m0 w0 >"$tmp/taps"
  index=$(ip netns exec "$net" cat /sys/class/net/m0/ifindex)
  node=$(ip netns exec "$net" cat "/sys/class/net/m0/tap$index/dev")
  mknod "$tmp/node" c "${node%:*}" "${node#*:}"
  exec {fd}<>"$tmp/node"
  mac=$(ip netns exec "$net" cat /sys/class/net/m0/address)
  guest parent 2
  begin parent -n "fd=$fd,mac=$mac"
  exec {fd}>&-
  pings parent 2
  ask parent "traffic up 10.9.0.1 $PORT $MIB 1 && traffic down fd00:9::1 $PORT $MIB 2"
  end parent
}
