#!/usr/bin/env bats
# Several guests at once on one bridge, and a guest whose kernel is Debian's.

load lib.bash
load net.bash
load netload.bash

@test "netmany: Debian's kernel and its module; 16 MiB each way" {
  tap t0
  guest debian 2
  kernel=$root/build/debian/cloud/vmlinux initrd=$root/build/system/net.cpio
  begin debian -n tap=t0
  pings debian 2
  moves debian up 10.9.0.1 $((16 * MIB)) 11
  moves debian down 10.9.0.1 $((16 * MIB)) 12
  end debian
}

@test "netmany: two VMs talk over a bridge; one of their taps Mayfly has made" {
  two_vms
}

# Each reaches the host and its neighbour.
eight_vms() {
  local i
  for i in 2 3 4 5 6 7 8 9; do
    tap "t$i"
    guest "vm$i" $i
  done
  for i in 2 3 4 5 6 7 8 9; do begin "vm$i" -n tap="t$i"; done
  for i in 2 3 4 5 6 7 8 9; do
    tell "vm$i" "ping -A -c 2 -w 40 10.9.0.1 && ping -A -c 2 -w 40 10.9.0.$((i == 9 ? 2 : i + 1))"
  done
  for i in 2 3 4 5 6 7 8 9; do hear "vm$i" 100; done
  for i in 2 3 4 5 6 7 8 9; do end "vm$i"; done
}

@test "netmany: eight VMs at once, each with a tap" {
  eight_vms
}

@test "netmany: eight VMs at once, each with a tap and with vhost" {
  modprobe vhost_net 2>/dev/null || :
  [ -c /dev/vhost-net ] || skip "no /dev/vhost-net here"
  netopts=,vhost=on
  eight_vms
}
