#!/usr/bin/env bats
# Network cards whose frames the kernel's vhost-net moves: what net.bats, netmany.bats and netload.bats
# ask of ours holds for them.

load lib.bash
load net.bash
load netload.bash

netopts=,vhost=on

setup_file() {
  modprobe vhost_net 2>/dev/null || :
  if [ -c /dev/vhost-net ]; then
    net_start
  else
    echo "no /dev/vhost-net here: the kernel's module vhost_net is missing" >"$BATS_FILE_TMPDIR/unable"
  fi
}

@test "netvhost: ping both ways, IPv4 and IPv6; it is vhost that moves the frames" {
  tap t0
  guest vhost 2
  begin vhost -n tap=t0
  pings vhost 2
  [ -n "$(find "/proc/${pids[vhost]}/fd" -lname /dev/vhost-net)" ] || fail "it has no vhost"
  end vhost
  grep -q 'vhost0: received 0 frames .*by vhost' "$tmp/vhost.log" || { cat "$tmp/vhost.log"; false; }
}

@test "netvhost: 16 MiB each way by TCP, whatever is left to the other side, at MTU 1500" {
  offloads_at 1500
}

@test "netvhost: 16 MiB each way by TCP at MTU 1280, and at 9000" {
  other_mtus
}

@test "netvhost: a storm of datagrams both ways: no wrong byte, and the counters add up" {
  storm
}

@test "netvhost: iperf3 both ways, four streams, two queues" {
  iperf
}

@test "netvhost: the tap goes down and up under load, and TCP goes on; it is deleted, and the VM lives" {
  down_and_up
  ip_net link del t0
  ask load 'wait_for carrier 0; ping -c 1 -W 1 10.9.0.1 || echo nobody'
  same "${answer##*$'\n'}" nobody "behind a deleted tap"
  end load
}

@test "netvhost: two VMs talk over a bridge" {
  two_vms
}

@test "netvhost: a rate limit is refused" {
  tap t0
  guest limited 2
  boot limited -n tap=t0,rx-bw=1M
  refused limited 125 '^mayfly: .*vhost'
}
