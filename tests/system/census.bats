#!/usr/bin/env bats
# The census: every line of the policy of system calls (seccomp/policy.c) is used by something that
# users do, unless it says why it is rare, and nothing is done that no line allows.
#
# All tests but the last two do such things, with freestanding guests (tests/guest), which start at
# once, and with Linux. Together they have to use each line; the last judges their record. So one
# of them alone says nothing about the policy, and the last alone fails.
#
# --seccomp=log: filters are put on, which is where counting begins, but what they forbid is made
# all the same. Otherwise it could not be counted: the kernel asks the filter first and tells of a
# call only when it lets it through, and the thread would die there and hide the next one. That
# filters forbid is shown by tests/guest/seccomp.bats.

load lib.bash
load census.bash

guests=$root/build/guest-tests
judge=$root/build/system/census
onsocket=$root/build/system/onsocket
table=$root/build/check/census.txt # stays until the next check

setup_file() {
  local why
  why=$(census_unable)
  if [ -n "$why" ]; then
    echo "$why" >"$BATS_FILE_TMPDIR/unable"
    return
  fi
  census_start all
}

teardown_file() {
  census_drop all
  [ ! -e "$BATS_FILE_TMPDIR/netns" ] || ip netns del "$(<"$BATS_FILE_TMPDIR/netns")"
}

setup() {
  tmp=$BATS_TEST_TMPDIR kernel=$vmlinux
  [ ! -e "$BATS_FILE_TMPDIR/unable" ] || skip "calls can't be counted: $(<"$BATS_FILE_TMPDIR/unable")"
  mayfly=$(census_counted all)
}

# free GUEST [OPTION...]: sets cmd, to run a freestanding guest.
free() {
  cmd=("$mayfly" run -k "$guests/$1" --seccomp=log "${@:2}")
  [[ " $* " == *" --timeout "* ]] || cmd+=(--timeout 60s)
}

# free_start NAME GUEST [OPTION...]: in the background, as $pid.
free_start() {
  local cmd
  free "${@:2}"
  "${cmd[@]}" </dev/null >"$tmp/$1.out" 2>"$tmp/$1.err" 3>&- &
  pid=$!
}

# came NAME STATUS LINE: what free_start began has ended so.
came() {
  local status=0
  wait "$pid" || status=$?
  echo "$status" >"$tmp/$1.status"
  ended_after "$@"
}

# at_terminal STATUS GUEST STEP... [-- OPTION...]: on a terminal, whose user takes these steps.
at_terminal() {
  local want=$1 name=$2 steps=() cmd status=0
  shift 2
  while [ $# -gt 0 ] && [ "$1" != -- ]; do steps+=("$1"); shift; done
  shift || true
  free "$name" "$@"
  "$guests/pty" "${steps[@]}" -- "${cmd[@]}" >"$tmp/out" 2>"$tmp/err" 3>&- || status=$?
  same "$status" "$want" "status at a terminal" || { cat -v "$tmp/out" "$tmp/err"; false; }
}

@test "census: a terminal is resized, its job stopped and continued; three times Ctrl-]" {
  at_terminal 130 echo expect:ready raw size:100x30 sleep:200 signal:STOP sane cooked signal:CONT \
    raw 'send:x' expect:x 'send:\x1d\x1d\x1d' 'expect:Ctrl-]'
}

# What dies by a signal puts the terminal back, and does that, too, by allowed calls alone.
@test "census: signals that kill: to the process, and as the faults of its threads" {
  ulimit -c 0
  at_terminal 138 echo expect:ready raw signal:USR1
  at_terminal 139 echo expect:ready raw thread:console:SEGV
  at_terminal 134 echo expect:ready raw thread:vcpu0:ABRT
}

@test "census: SIGTERM presses the power button; files for console, log and process id" {
  free_start button button --console "file:$tmp/console" --log-file "$tmp/log" --log-level info \
    --pidfile "$tmp/pid" --grace 60s
  until_true 30 grep -q ready "$tmp/console"
  same "$(<"$tmp/pid")" "$pid" "process id in the pidfile"
  kill -TERM "$pid"
  came button 0 "$OFF"
  [ ! -e "$tmp/pid" ]
  grep -q 'Terminated: the guest has' "$tmp/log"
}

@test "census: the grace runs out; --timeout ends a guest that never used its console" {
  free_start deaf ends -a "say end=hlt" --grace 100ms
  until_true 30 grep -q here "$tmp/deaf.out"
  kill -TERM "$pid"
  came deaf 143 'mayfly: Terminated: the guest was ended'
  free_start mute ends -a end=loop --timeout 500ms
  came mute 124 "$TIMED_OUT"
  grep -q 'vCPU 0 is at RIP' "$tmp/mute.err"
}

@test "census: the console on a pty: a talk" {
  local reader path
  free_start pty echo --console pty
  until_true 30 grep -q /dev/pts "$tmp/pty.err"
  path=$(sed -n '1s/^mayfly: console: //p' "$tmp/pty.err")
  cat "$path" >"$tmp/talk" 3>&- &
  reader=$!
  until_true 30 grep -q ready "$tmp/talk"
  printf 'hello\004' >"$path"
  came pty 0 "$OFF"
  wait "$reader" || true # mayfly's end hangs the terminal up
  grep -q hello "$tmp/talk"
}

# The reader takes nothing until the guest is off, and Mayfly waits for it; is stopped, and goes on
# waiting.
@test "census: a slow reader gets everything, from a monitor that was stopped and continued" {
  local cmd reader
  mkfifo "$tmp/pipe"
  { until_true 60 [ -e "$tmp/read" ]; cat; } <"$tmp/pipe" >"$tmp/slow.out" 3>&- &
  reader=$!
  free output -a "what=flood kib=512" --grace 60s
  "${cmd[@]}" </dev/null >"$tmp/pipe" 2>"$tmp/slow.err" 3>&- &
  pid=$!
  until_true 30 waits_in_poll "$pid"
  kill -STOP "$pid"
  until_true 30 grep -q '^State:.T' "/proc/$pid/status"
  kill -CONT "$pid"
  touch "$tmp/read"
  wait "$reader"
  same "$(stat -c %s "$tmp/slow.out")" $((512 * 1024)) "bytes that arrived"
  came slow 0 "$OFF"
}

waits_in_poll() { [ "$(cut -d' ' -f1 "/proc/$1/syscall")" = 7 ]; }

@test "census: standard input and output are a socket that others share" {
  local cmd status=0
  free echo
  "$onsocket" $'hello\004' "${cmd[@]}" >"$tmp/out" 2>"$tmp/err" 3>&- || status=$?
  cat -v "$tmp/out" "$tmp/err"
  same "$status" 0 status # 99: its flags were not restored
  grep -q hello "$tmp/out"
}

# At the door of the device's loop the main thread stands with them, which is when two wait there.
# Once is enough as a rule; four times, so that it is not chance.
@test "census: four vCPUs set up and reset one device, all at once, and the window is resized" {
  local name
  for name in race again third fourth; do
    free_start $name race -c 4 -a cpus=4
    while kill -WINCH "$pid" 2>/dev/null; do :; done
    came $name 0 "$OFF"
    grep -q '^4 vCPUs done' "$tmp/$name.out"
  done
}

@test "census: a driver that breaks a rule is logged, and its device goes on" {
  free_start bad hostile -a only=head_range
  came bad 0 "$OFF"
  grep -q 'waits for a reset' "$tmp/bad.err"
  grep -aq ' 0 bad' "$tmp/bad.out"
}

# All that a disk does, and what its thread says of a driver that breaks a rule.
@test "census: disks, by a ring and by calls: requests of every kind, limits, a bad driver" {
  local io
  for io in uring sync; do
    awk 'BEGIN { for (s = 0; s < 4096; s++) for (i = 0; i < 32; i++) printf "%08x %06x\n", s, 0 }' \
      >"$tmp/$io" # the text that disk.c looks for
    cp "$tmp/$io" "$tmp/$io.more"
    free_start rw.$io disk -a "what=rw flush event sleep" -d "$tmp/$io,io=$io" \
      -d "$tmp/$io.more,io=$io,overlay,iops=1000:10"
    came rw.$io 0 "$OFF"
    free_start plain.$io disk -a "what=rw" -d "$tmp/$io.more,io=$io,iops=100:1"
    came plain.$io 0 "$OFF"
    free_start bad.$io disk -a "what=malformed flush" -d "$tmp/$io.more,io=$io"
    came bad.$io 0 "$OFF"
    grep -q 'waits for a reset' "$tmp/bad.$io.err"
  done
}

# carded WORDS OPTION...: the freestanding guest of network cards, in the namespace of the test; it
# judges itself. Where WORDS begin with what=serve it serves, as long as while_served takes.
# (nsenter: ip(8) would hide tracefs.)
carded() {
  local cmd=() name=card$((++cards)) in
  mkfifo "$tmp/$name.in"
  exec {in}<>"$tmp/$name.in"
  free net "${@:2}" -a "$1"
  nsenter --net="/run/netns/$cardnet" "${cmd[@]}" <"$tmp/$name.in" >"$tmp/$name.out" \
    2>"$tmp/$name.err" 3>&- &
  pid=$!
  [[ $1 != what=serve* ]] || { while_served "$name" "$in" && printf q >&"$in"; }
  exec {in}>&-
  came "$name" 0 "$OFF"
  grep -aqE '^[1-9][0-9]* checked, 0 bad' "$tmp/$name.out" || { show "$name"; false; }
}

# Frames come and go, the driver starts again, and the link goes down and comes up.
while_served() {
  until_true 30 grep -aq '^ready' "$tmp/$1.out"
  pinged
  printf r >&"$2"
  until_true 30 grep -aq '^started again' "$tmp/$1.out"
  pinged
  ip -n "$cardnet" link set "$cardtap" down
  until_true 30 grep -aq '^link down' "$tmp/$1.out"
  ip -n "$cardnet" link set "$cardtap" up
  until_true 30 links_up "$tmp/$1.out" 2
  pinged
}
pinged() {
  nsenter --net="/run/netns/$cardnet" busybox ping -A -c 3 -w 20 10.9.0.2 >"$tmp/ping" ||
    { cat "$tmp/ping"; false; }
}
links_up() { [ "$(grep -ac '^link up' "$1")" -ge "$2" ]; }

@test "census: network cards, ours and vhost's: frames, offloads, filters, pairs, limits, a link" {
  local cards=0 cardnet=${BATS_RUN_TMPDIR##*/}.census cardtap opts
  modprobe -a tun vhost_net 2>/dev/null || :
  ip netns add "$cardnet"
  echo "$cardnet" >"$BATS_FILE_TMPDIR/netns"
  ip -n "$cardnet" -batch - <<BATCH
tuntap add c0 mode tap
tuntap add c1 mode tap multi_queue
addr add 10.9.0.1/24 dev c0
link set c0 up
link set c1 up
BATCH
  for opts in "" ,vhost=on; do
    if [ "$opts" ] && [ ! -c /dev/vhost-net ]; then
      echo vhost >"$BATS_FILE_TMPDIR/unused"
      continue
    fi
    carded "what=control ctrl offloads tso" -n tap=c0$opts
    carded "what=pairs mq" -c 2 -n tap=c1,queues=2$opts
    cardtap=c0 carded "what=serve mrg event sleep" -n tap=c0$opts
    ip -n "$cardnet" addr flush dev c0
    ip -n "$cardnet" addr add 10.9.0.1/24 dev c1
    cardtap=c1 carded "what=serve mq mrg sleep" -c 2 -n tap=c1,queues=2$opts
    ip -n "$cardnet" addr flush dev c1
    ip -n "$cardnet" addr add 10.9.0.1/24 dev c0
  done
  carded "what=limit count=110" -n tap=c0,tx-pps=100:10
}

@test "census: Linux on a terminal, a shell and somebody who types" {
  type script >/dev/null || skip "no script(1) here"
  local out=$tmp/term.out cmd
  on() { until_true 60 grep -qF -- "$1" "$out"; }
  : >"$out"
  command term --seccomp=log
  { on 'guest# ' && printf 'stty size; echo ty""ped\r'
    on typed && printf 'exit\r'
    on "$OFF"; } | script -qfec "$(printf '%q ' "${cmd[@]}")" "$out" >"$tmp/shown" 3>&-
  cat -v "$out"
  grep -qF "$OFF" "$out"
}

# finds_bad POLICY RECORD REGEX...: the judge finds all these, a line each, and fails.
finds_bad() {
  local found=0 want
  "$judge" "$1" "$2" >"$tmp/judged" || found=$?
  same "$found" 1 "the judge's status"
  for want in "${@:3}"; do
    grep -qxE -- "BAD $want" "$tmp/judged" || { grep '^BAD' "$tmp/judged"; fail "not told: $want"; }
  done
}

@test "census: the judge sees what he should: calls, lines, threads, lost events" {
  local cmd
  census_start small
  free hello
  "${cmd[@]}" </dev/null 3>&-
  census_stop small

  # A line too many, one that is missing, one with another argument.
  { grep -vP '^main\texit_group\t' "$policy" | sed 's/=0xae80 KVM_RUN/=0xae81 KVM_RAN/'
    printf 'console\tsocket\t41\t-\tnowhere\t-\n'; } >"$tmp/policy"
  finds_bad "$tmp/policy" "$census/small" \
    'never made: console socket \(-\): nowhere' \
    'not allowed: thread mayfly made exit_group\(0x0, .*\), 1 times' \
    'never made: vcpu ioctl \(KVM_RAN\): kvm/vcpu.c vcpu_main' \
    'not allowed: thread vcpu0 made ioctl\(0x[0-9a-f]+, 0xae80, .*'

  # A thread with another name, one that puts on no filter, and no word on lost events.
  awk '/^overrun: / { next } { sub(/newcomm=console /, "newcomm=stranger ") }
       / newcomm=vcpu0 / { split($0, a, /pid=| oldcomm=/); vcpu = "-" a[2] " " }
       vcpu && index($0, vcpu) && / NR 317 / { next } { print }' "$census/small" >"$tmp/record"
  finds_bad "$policy" "$tmp/record" \
    "a thread named 'stranger' put on a filter: no role has that name" \
    "a thread named 'vcpu0' made calls and put on no filter" \
    ".*/record: it does not say whether events were lost"

  # And a buffer that really overflows.
  census_start tiny 4
  free race -a cpus=1
  "${cmd[@]}" </dev/null >/dev/null 3>&-
  census_stop tiny
  finds_bad "$policy" "$census/tiny" '.*/tiny: events were lost \(overrun: [1-9][0-9]*\): .*'
}

@test "census: every line of the policy was used, or is rare; nothing else was done" {
  local good=0 line
  mkdir -p "${table%/*}"
  census_stop all
  # Roles for which this host has nothing.
  if [ -e "$BATS_FILE_TMPDIR/unused" ]; then
    grep -v "^$(<"$BATS_FILE_TMPDIR/unused")" "$policy" >"$tmp/policy"
    say "not judged, for there is no /dev/vhost-net: $(<"$BATS_FILE_TMPDIR/unused")"
    policy=$tmp/policy
  fi
  "$judge" "$policy" "$census/all" >"$table" || good=$?
  cat "$table"
  while IFS= read -r line; do say "$line"; done < <(grep -E '^(census|rare, and met|BAD)' "$table")
  return "$good"
}
