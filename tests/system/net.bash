# For tests of the network; behind lib.bash. Two network namespaces, so that no test touches the
# host's own network: in $net are the taps, the monitors and a bridge, br0, behind which a veth leads
# to $peer, which is the other end of what guests say:
#
#   $peer  v1 10.9.0.1, fd00:9::1 == v0 - br0 - t0 == eth0 10.9.0.N, fd00:9::N  guest  $net
#
#   tap NAME [MTU]                a tap in the bridge; gone with the test
#   guest NAME N [SCRIPT]         a guest of that number. It runs SCRIPT, then what it is asked
#   begin NAME -n tap=T...        boots it, and waits until it is there
#   ask NAME COMMAND              has it run this; what it printed is $answer. Fails as COMMAND does
#   $tmp/beside                   may hold the process id of a server; it ends with the test
#   end NAME                      powers it off, and judges its end
#
# The kernel is the minimal one, its initramfs has busybox and guest/*.c. $netopts is what else each
# network card is given (netvhost.bats: vhost).

vmlinux=$root/build/kernel/vmlinux
initrd=$root/build/system/minimal.cpio
bin=$root/build/system/root/bin
traffic=$bin/traffic
PATH=$PATH:/usr/sbin:/sbin
net=${BATS_RUN_TMPDIR##*/}
peer=$net.peer
netopts=
MIB=$((1 << 20))
LOAD=$((16 * MIB)) # bytes each way
[ -z "${MAYFLY_LONG:-}" ] || LOAD=200000000
PORT=7000 # where $peer and guests that are asked to do so serve traffic

# Why no namespaces and bridges can be made here; nothing where they can.
net_unable() {
  [ "$(id -u)" = 0 ] || { echo "network namespaces need root"; return; }
  type ip >/dev/null 2>&1 || { echo "no ip(8) here"; return; }
  modprobe -a bridge veth tun 2>/dev/null || :
  [ -c /dev/net/tun ] || { echo "no /dev/net/tun here"; return; }
  ip netns add "$net" 2>"$BATS_FILE_TMPDIR/why" || { cat "$BATS_FILE_TMPDIR/why"; return; }
  ip -n "$net" link add br0 type bridge 2>/dev/null || echo "this kernel has no bridge"
}

# For setup_file and teardown_file.
net_start() {
  local why
  why=$(net_unable)
  if [ -n "$why" ]; then
    echo "$why" >"$BATS_FILE_TMPDIR/unable"
    return
  fi
  ip netns add "$peer"
  ip -n "$net" -batch - <<BATCH
link add v0 mtu 9000 type veth peer name v1 mtu 9000 netns $peer
link set br0 type bridge mcast_snooping 0
link set v0 master br0 up
link set br0 up
link set lo up
BATCH
  ip -n "$peer" -batch - <<'BATCH'
addr add 10.9.0.1/24 dev v1
addr add fd00:9::1/64 dev v1 nodad
link set v1 up
link set lo up
BATCH
  ip netns exec "$peer" "$traffic" serve $PORT >"$BATS_FILE_TMPDIR/serve" 3>&- &
  echo $! >"$BATS_FILE_TMPDIR/serve.pid"
  until_true 20 test -s "$BATS_FILE_TMPDIR/serve"
}

net_stop() {
  [ ! -e "$BATS_FILE_TMPDIR/serve.pid" ] || kill "$(<"$BATS_FILE_TMPDIR/serve.pid")" 2>/dev/null || :
  ip netns del "$peer" 2>/dev/null || :
  ip netns del "$net" 2>/dev/null || :
}

setup_file() { net_start; }
teardown_file() { net_stop; }

setup() {
  tmp=$BATS_TEST_TMPDIR kernel=$vmlinux
  [ ! -e "$BATS_FILE_TMPDIR/unable" ] || skip "$(<"$BATS_FILE_TMPDIR/unable")"
}

teardown() {
  local left
  leftovers
  [ ${#left[@]} = 0 ] || { echo "still there: ${left[*]}"; kill -9 "${left[@]}"; }
  [ ! -e "$tmp/beside" ] || kill "$(<"$tmp/beside")" 2>/dev/null || :
  [ ! -e "$tmp/taps" ] || ip -n "$net" -force -batch "$tmp/taps" 2>/dev/null || :
  [ ${#left[@]} = 0 ]
}

# tap NAME [MTU [OPTION...]]: OPTIONs are those of `ip tuntap add`.
tap() {
  ip -n "$net" -batch - <<BATCH
tuntap add $1 mode tap ${*:3}
link set $1 mtu ${2:-1500} master br0 up
BATCH
  echo "link del $1" >>"$tmp/taps"
}

guest() {
  mkdir -p "$tmp/$1.root"
  cat >"$tmp/$1.root/test" <<SCRIPT
stty -echo
# No address waits until the link has been up for a while: Linux would send from ::1 meanwhile.
for d in /proc/sys/net/ipv6/conf/*/accept_dad; do echo 0 >\$d; done
n=$2 eth0=/sys/class/net/eth0
up() {
  ip addr add 10.9.0.$2/24 dev eth0
  ip addr add fd00:9::$2/64 dev eth0
  ip link set eth0 up
}
carrier() { read -r c <\$eth0/carrier && [ "\$c" = \$1 ]; }
wait_for() { for i in \$(seq 300); do "\$@" && return; usleep 100000; done; return 1; }
ip link set lo up
[ ! -e \$eth0 ] || up
${3:-}
echo up
while read -r line; do eval "\$line"; done
SCRIPT
  (cd "$tmp/$1.root" && echo test | cpio -o -H newc -R 0:0 --quiet) >"$tmp/$1.cpio"
}

# Interrupts get lost in the lab (tests/lab/relay.c). A guest's timer that is set for one moment after
# the other is then dead for half a minute, and one that ticks by itself has lost a tick: hence no
# deadlines. Without them timers wait for a tick, so nothing is measured with these guests.
command() {
  local name=$1 word
  shift
  cmd=(ip netns exec "$net" "${as[@]}" "$mayfly" run --kernel "$kernel" --initrd "$initrd"
    --initrd "$tmp/$name.cpio" --cmdline "$timers quiet" --memory 96M
    --log-level debug --log-file "$tmp/$name.log")
  [[ " $* " == *" --timeout "* ]] || cmd+=(--timeout 140s)
  for word; do
    [[ $word != tap=* && $word != fd=* ]] || word+=$netopts
    cmd+=("$word")
  done
}
as=() # a command that becomes the monitor

# As in disk.bash: several at once.
declare -gA pids ins
begin() {
  start "$@"
  pids[$1]=$pid
  ins[$1]=$in
  until_true 100 seen "$1" up$'\n' || { cat "$tmp/$1.out" "$tmp/$1.err"; false; }
}
end() {
  pid=${pids[$1]} in=${ins[$1]}
  echo exec poweroff -f >&"$in"
  finish "$1"
  rm "$tmp/$1.in"
  ended "$1" 0 "$OFF"
}
seen() {
  local text
  IFS= read -r -d '' text <"$tmp/$1.out" || :
  [[ $text == *"$2"* ]]
}

# tell NAME COMMAND starts what hear NAME waits for; ask does both. SECONDS: at most.
asked=0
declare -gA marks
tell() {
  marks[$1]=$((++asked))
  echo "echo {$asked; $2; echo }$asked \$?" >&"${ins[$1]}"
}
hear() { # NAME [SECONDS]
  local text n=${marks[$1]} status
  until_true "${2:-60}" answered "$1" "$n" || { show_talk "$1"; return 1; }
  IFS= read -r -d '' text <"$tmp/$1.out" || :
  text=${text#*"{$n"$'\n'}
  answer=${text%%"}$n "*}
  answer=${answer%$'\n'}
  status=${text#*"}$n "}
  status=${status%%$'\n'*}
  [ "$status" = 0 ] || { echo "$1 was asked, and said (status $status): $answer"; return 1; }
}
answered() {
  local text
  IFS= read -r -d '' text <"$tmp/$1.out" || :
  [[ $text =~ "}$2 "[0-9]+$'\n' ]]
}
ask() {
  tell "$1" "$2"
  hear "$1" "${3:-60}"
}
show_talk() {
  echo "--- $1, its console's end:"
  tail -c 2000 "$tmp/$1.out"
  echo "--- standard error:"
  cat "$tmp/$1.err"
}

# at_peer COMMAND...: in $peer.
at_peer() { ip netns exec "$peer" "$@"; }

# ip_net COMMAND...: ip(8) in $net.
ip_net() { ip -n "$net" "$@"; }

# tap_stats FILE TAP: what the tap has counted so far, by a file like /proc/net/dev. From the guest:
# rx, to it: tx.
tap_stats() {
  local name line
  tap_rx=
  while read -r name line; do
    [ "$name" = "$2:" ] || continue
    # shellcheck disable=SC2086 # words, meant to split
    set -- $line
    tap_rx_bytes=$1 tap_rx=$2 tap_tx_bytes=$9 tap_tx=${10}
    return
  done <"$1"
  fail "no $2 in $1"
}

# moves NAME up|down ADDRESS BYTES SEED: by TCP, from the guest or to it; every byte is there.
# Leaves the mean length of the frames that the tap took in that direction in $frame.
declare -gA sums # of bytes, by "BYTES SEED"
moves() {
  local bytes frames
  [ "${sums["$4 $5"]-}" ] || sums["$4 $5"]=$("$traffic" crc "$4" "$5")
  tap_stats "/proc/${pids[$1]}/net/dev" t0
  if [ "$2" = up ]; then bytes=$tap_rx_bytes frames=$tap_rx; else bytes=$tap_tx_bytes frames=$tap_tx; fi
  ask "$1" "traffic $2 $3 $PORT $4 $5" 400
  same "$answer" "$2 $4 bytes, crc32c ${sums["$4 $5"]}" "what $1 said"
  tap_stats "/proc/${pids[$1]}/net/dev" t0
  if [ "$2" = up ]; then
    ((bytes = tap_rx_bytes - bytes, frames = tap_rx - frames))
  else
    ((bytes = tap_tx_bytes - bytes, frames = tap_tx - frames))
  fi
  ((bytes > $4)) || fail "the tap has seen $bytes bytes of $4"
  frame=$((bytes / frames))
}

# ping from the guest, and to it; both protocols.
pings() { # NAME N
  ask "$1" 'ping -A -c 2 -w 20 10.9.0.1 && ping -A -c 2 -w 20 fd00:9::1' ||
    { whereabouts "$1"; fail "$1 does not reach the host"; }
  at_peer busybox ping -A -c 2 -w 20 "10.9.0.$2" >"$tmp/ping" &&
    at_peer busybox ping -A -c 2 -w 20 "fd00:9::$2" >>"$tmp/ping" ||
    { cat "$tmp/ping"; whereabouts "$1"; fail "the host does not reach $1"; }
}
whereabouts() {
  ip -n "$peer" neigh
  ip -n "$net" -s link
  ask "$1" 'ip neigh; ip addr; cat /proc/net/dev' || :
  echo "$answer"
}

# --- Offloads -------------------------------------------------------------------------------------
# What the guest leaves to the host when it sends: checksums, segmentation of TCP over IPv4, over
# IPv6 (ethtool's switches in the guest); the same for what the host sends to it (those of the tap);
# whether the guest has taken back by its control queue that it receives segments unsplit; the
# protocol. Linux gives up segmentation with checksums, so it is "off" in such rows. What Linux
# cannot turn off is in all rows: mergeable buffers, the driver's receive checksums, event indices.
FIELDS=8 # up: csum tso4 tso6; down: csum tso4 tso6; kept by the guest; IPv6
# All pairs of values that can be are in these rows (a test says so).
PAIRWISE=(11111110 00000001 11010101 00011010 10100011 11100000 00011101 11111111)

# Of rows on standard input (none: of all there are) the pairs of values, sorted and each once, or
# with "rows" the rows.
pairs() {
  awk -v n=$FIELDS -v what="${1-}" '
    function row(r, i, j) {
      if (what == "rows") { print r; return }
      for (i = 1; i <= n; i++)
        for (j = 1; j < i; j++) seen[j "=" substr(r, j, 1) " " i "=" substr(r, i, 1)]
    }
    { row($0) }
    END {
      for (x = 0; NR == 0 && x < 2 ^ n; x++) {
        r = ""
        for (b = n - 1; b >= 0; b--) r = r int(x / 2 ^ b) % 2
        if (r !~ /^(0.1|01|...0.1|...01)/) row(r)
      }
      for (p in seen) print p | "sort"
    }'
}

onoff() { if [ "$1" = 1 ]; then echo on; else echo off; fi; }

# features TEXT CSUM TSO4 TSO6: that in the list of what is on these three are so.
features() {
  local text=" $1 " word found
  for word in tx-checksum-ip-generic tx-tcp-segmentation tx-tcp6-segmentation; do
    shift
    found=0
    [[ $text != *" $word "* ]] || found=1
    same "$found" "$1" "$word"
  done
}

# row NAME ROW: turns them on and off.
row() {
  local r=$2 csum=tx-checksum-ip-generic tso4=tx-tcp-segmentation tso6=tx-tcp6-segmentation list
  ask "$1" "offload eth0 $csum=$(onoff "${r:0:1}") $tso4=$(onoff "${r:1:1}") \
$tso6=$(onoff "${r:2:1}") rx-gro-hw=$(onoff "${r:6:1}")"
  features "$answer" "${r:0:1}" "${r:1:1}" "${r:2:1}"
  list=$(ip netns exec "$net" "$bin/offload" t0 $csum="$(onoff "${r:3:1}")" \
    $tso4="$(onoff "${r:4:1}")" $tso6="$(onoff "${r:5:1}")") || : # not when the guest keeps it off
  echo "$r: the guest has on: $answer; the tap: $list"
  features "$list" "${r:3:1}" "$((r_tso4 = ${r:4:1} & ${r:6:1}))" "$((r_tso6 = ${r:5:1} & ${r:6:1}))"
}

# sized WHAT ON MTU: that frames were as long as segmentation makes them, or no longer than the MTU.
sized() {
  if [ "$2" = 1 ]; then
    ((frame > $3 + 14)) || fail "$1: frames of $frame bytes, as if nothing were left to the other"
  else
    ((frame <= $3 + 14)) || fail "$1: frames of $frame bytes, though nothing was left to the other"
  fi
}

# moves_row NAME ROW MTU BYTES: that many bytes each way.
moves_row() {
  local to=10.9.0.1 v=4 r=$2 up down r_tso4 r_tso6
  [ "${r:7:1}" = 0 ] || { to=fd00:9::1 v=6; }
  row "$1" "$r"
  if [ $v = 4 ]; then up=${r:1:1} down=$r_tso4; else up=${r:2:1} down=$r_tso6; fi
  moves "$1" up $to "$4" 11
  sized "$r up" "$up" "$3"
  moves "$1" down $to "$4" 12
  sized "$r down" "$down" "$3"
}
