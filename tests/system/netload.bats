#!/usr/bin/env bats
# Every byte and every frame of a load: TCP with each offload on and off, at MTUs from the smallest of
# IPv6 to jumbo frames; more datagrams than anybody can take; iperf3 on two queues. MAYFLY_LONG: 200 MB
# and all combinations.

load lib.bash
load net.bash
load netload.bash

@test "netload: the rows of offloads hold every pair of values" {
  same "$(pairs rows </dev/null | wc -l)" 100 "combinations"
  pairs </dev/null >"$tmp/all"
  diff "$tmp/all" <(printf '%s\n' "${PAIRWISE[@]}" | pairs)
  ! diff "$tmp/all" <(printf '%s\n' "${PAIRWISE[@]:1}" | pairs) >"$tmp/diff" || fail "any rows will do"
}

@test "netload: 16 MiB each way by TCP, whatever is left to the other side, at MTU 1500" {
  offloads_at 1500
}

@test "netload: 16 MiB each way by TCP at MTU 1280, and at 9000" {
  other_mtus
}

@test "netload: a storm of datagrams both ways: no wrong byte, and the counters add up" {
  storm
}

@test "netload: iperf3 both ways, four streams, two queues" {
  iperf
}
