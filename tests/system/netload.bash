# Tests of the network that are made with vhost and without; behind net.bash.

# offloads_at MTU: each way, by the pairwise rows; with MAYFLY_LONG by all others, too, with less.
offloads_at() {
  local r
  tap t0 "$1"
  guest offloads 2
  begin offloads -n tap=t0 --timeout 3500s
  for r in "${PAIRWISE[@]}"; do moves_row offloads "$r" "$1" "$LOAD"; done
  if [ "${MAYFLY_LONG:-}" ]; then
    for r in $(pairs rows </dev/null); do moves_row offloads "$r" "$1" $((16 * MIB)); done
  fi
  end offloads
  counters offloads
}

other_mtus() {
  local mtu v=0
  for mtu in 1280 9000; do
    tap t0 $mtu
    at_peer ip link set v1 mtu $mtu
    guest at$mtu 2
    begin at$mtu -n tap=t0 --timeout 3500s
    ask at$mtu 'cat $eth0/mtu'
    same "$answer" $mtu "the guest's MTU"
    moves_row at$mtu 1111111$v $mtu "$LOAD"
    v=1
    moves_row at$mtu 1001001$v $mtu $MIB
    end at$mtu
    ip_net link del t0
  done
}

# --- A storm --------------------------------------------------------------------------------------

# What arrives is checked by who gets it. Then all three who counted frames are asked: the guest's
# driver, the tap, and Mayfly.
storm() {
  local other said counted
  tap t0
  guest storm 2
  begin storm -n tap=t0
  at_peer "$traffic" storm 7001 10.9.0.2 7002 5 4000 >"$tmp/peer" 3>&- &
  other=$!
  ask storm 'traffic storm 7002 10.9.0.1 7001 5 4000'
  wait "$other"
  for said in "$answer" "$(<"$tmp/peer")"; do
    say "$said"
    [[ $said =~ ^storm:\ sent\ ([0-9]+),\ received\ ([0-9]+),\ bad\ 0$ ]] || fail "$said"
    ((BASH_REMATCH[1] > 500 && BASH_REMATCH[2] > 100)) || fail "that is no storm: $said"
  done
  pings storm 2
  ask storm 'ip link set eth0 down; cd $eth0/statistics; cat tx_packets tx_bytes rx_packets rx_bytes'
  mapfile -t counted <<<"$answer"
  end storm
  counters storm
  same "$tap_rx $tap_rx_bytes" "${counted[0]} ${counted[1]}" "frames and bytes from the guest, by the tap"
  # A driver that has closed its device counts nothing more.
  ((tap_tx >= counted[2] && tap_tx <= counted[2] + 20)) ||
    fail "frames to the guest: $tap_tx by the tap, ${counted[2]} by the guest"
}

# counters NAME: what Mayfly said at its end is what the tap has counted (with vhost it counts nothing).
counters() {
  local line
  ip netns exec "$net" cat /proc/net/dev >"$tmp/dev"
  tap_stats "$tmp/dev" t0
  [[ $netopts != *vhost=on* ]] || return 0
  line=$(grep -o 'net0: received .*' "$tmp/$1.log")
  say "$line"
  [[ $line =~ received\ ([0-9]+)\ frames\ of\ ([0-9]+)\ bytes,\ sent\ ([0-9]+)\ of\ ([0-9]+) ]]
  same "${BASH_REMATCH[1]} ${BASH_REMATCH[2]}" "$tap_tx $tap_tx_bytes" "frames and bytes to the guest"
  same "${BASH_REMATCH[3]} ${BASH_REMATCH[4]}" "$tap_rx $tap_rx_bytes" "frames and bytes from it"
}

# --- iperf3 ---------------------------------------------------------------------------------------

iperf() {
  local way
  tap t0 1500 multi_queue
  guest iperf 2 'iperf() { /iperf/ld-linux-x86-64.so.2 --library-path /iperf /iperf/iperf3 "$@"; }'
  at_peer iperf3 -s >"$tmp/server" 2>&1 3>&- &
  echo $! >"$tmp/beside"
  begin iperf --initrd "$root/build/system/iperf.cpio" --cpus 2 -n tap=t0,queues=2
  for way in '' -R; do
    ask iperf "iperf -c 10.9.0.1 -P 4 -t 4 -i 0 -f m $way" 100
    say "iperf3 $way: $(grep 'SUM.*receiver' <<<"$answer")"
    grep -q 'SUM.* [1-9][0-9.]* Mbits/sec.*receiver' <<<"$answer"
  done
  [[ $netopts == *vhost=on* ]] || both_work
  end iperf
}

# Neither of the card's queues was idle, by the time that its thread has run.
both_work() {
  local t name ran _ names=
  for t in /proc/"${pids[iperf]}"/task/*; do
    read -r name <"$t/comm"
    [[ $name == net* ]] || continue
    read -r ran _ <"$t/schedstat"
    names+=" $name"
    ((ran > 100000000)) || fail "$name has worked for $ran ns"
  done
  same "$names" " net0 net0q1" "threads of the network card"
}

# --- A tap that comes and goes --------------------------------------------------------------------

down_and_up() {
  local before i
  tap t0
  guest load 2 'load() {
  until [ -e /tmp/stop ]; do
    traffic up 10.9.0.1 7000 8388608 1 && traffic down 10.9.0.1 7000 8388608 2 || echo broken
  done >/tmp/said
}'
  begin load -n tap=t0
  ask load 'load & sleep 1'
  for i in 1 2; do
    tap_stats "/proc/${pids[load]}/net/dev" t0
    before=$tap_rx
    ip_net link set t0 down
    ask load 'wait_for carrier 0'
    nap 0.5
    tap_stats "/proc/${pids[load]}/net/dev" t0
    ((tap_rx > before)) || fail "no load was there"
    before=$tap_rx
    ip_net link set t0 up
    ask load 'wait_for carrier 1'
    until_true 60 flows load "$((before + 100))"
  done
  ask load 'touch /tmp/stop; wait; cat /tmp/said' 100
  [[ $answer != *broken* ]] || fail "$answer"
  say "8 MiB moved $(wc -l <<<"$answer") times"
}

flows() {
  tap_stats "/proc/${pids[$1]}/net/dev" t0
  ((tap_rx > $2))
}

two_vms() {
  local way crc
  crc=$("$traffic" crc $((16 * MIB)) 5)
  tap t0
  guest one 2 'traffic serve 7000 >/dev/null &'
  guest two 3
  begin one -n tap=t0
  begin two -n tap=made
  ip_net link set made master br0
  ask two 'ping -A -c 2 -w 20 10.9.0.2 && ping -A -c 2 -w 20 fd00:9::2'
  for way in up down; do
    ask two "traffic $way 10.9.0.2 7000 $((16 * MIB)) 5" 100
    same "$answer" "$way $((16 * MIB)) bytes, crc32c $crc" "what the second said"
  done
  end two
  ! ip_net link show made 2>/dev/null || fail "the tap that Mayfly made is still there"
  pings one 2
  end one
}
