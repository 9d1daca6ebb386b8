#!/usr/bin/env bats
# How a guest can end, the status of each end, and its last line.

load lib.bash

@test "ends: reboot is 0; a panic is 70, on any CPU, and its words are on the console" {
  guest reboot <<'EOF'
echo here
reboot -f
EOF
  guest panic <<'EOF'
taskset 2 sh -c 'echo c >/proc/sysrq-trigger'
EOF
  boot reboot & boot panic --cpus 2
  wait
  ended reboot 0 "$REBOOTED"
  echo here | said reboot
  ended panic 70 "$PANICKED"
  grep -q 'Kernel panic - not syncing: sysrq triggered crash' "$tmp/panic.out"
}

@test "ends: a triple fault is 71, with its RIP; a panic that ends in one is still 70" {
  guest triple <<'EOF'
echo here
reboot -f
EOF
  guest panic <<'EOF'
echo here
echo c >/proc/sysrq-trigger
EOF
  boot triple --cmdline 'quiet reboot=triple' & boot panic --cmdline 'quiet reboot=triple'
  wait
  ended triple 71 "$(tail -n 1 "$tmp/triple.err")"
  matches "${err[0]}" '^mayfly: the guest triple-faulted: vCPU 0 (at RIP 0xffffffff[0-9a-f]{8}|\(KVM has reset it, .*: its RIP is lost\))$' "last line"
  ended panic 70 "$PANICKED"
}

@test "ends: dying before the console exists, the guest is heard: panic, and timeout with RIP" {
  no_initrd() {
    run_to "$1" "$mayfly" run --kernel "$kernel" --timeout 60s --cmdline "$2"
  }
  guest early <<'EOF'
echo never
EOF
  # A kernel that wants a larger log moves to it, and leaves the old one where it was.
  no_initrd vfs quiet & no_initrd moved 'quiet log_buf_len=1M'
  wait
  boot early --timeout 1s
  for name in vfs moved; do
    ended_after $name 70 "$PANICKED"
    same "${err[0]}" \
      "mayfly: the guest never used its console; the end of its kernel log:" "first line"
    grep '^| .*VFS: Unable to mount root fs on unknown-block(0,0)' "$tmp/$name.err" ||
      { show $name; false; }
    # Nothing but marked lines of the log in between.
    [ -z "$(sed '1d;$d' "$tmp/$name.err" | grep -v '^| ')" ]
  done

  ended_after early 124 "$TIMED_OUT"
  matches "${err[-2]}" '^mayfly: vCPU 0 is at RIP 0x[0-9a-f]+$' RIP
  [ ! -s "$tmp/early.out" ]
}

@test "ends: --timeout with a live guest is 124; a guest that halts is no end" {
  guest live <<'EOF'
echo here
while :; do :; done
EOF
  guest halt <<'EOF'
echo here
halt -f
EOF
  boot live --timeout 12s & boot halt --timeout 12s
  wait
  ended live 124 "$TIMED_OUT"
  ended halt 124 "$TIMED_OUT"
  echo here | said live
  echo here | said halt
}

@test "ends: SIGTERM presses the power button; a guest that listens powers off by itself" {
  initrd=$root/build/system/button.cpio
  press_button
}

@test "ends: SIGTERM is 143 after --grace, a second one ends at once; SIGINT is 130" {
  guest term <<'EOF'
echo here
sleep 1000
EOF
  start term --grace 2s
  until_true 60 seen term here
  from=${EPOCHREALTIME/./}
  kill -TERM "$pid"
  finish term
  took=$(((${EPOCHREALTIME/./} - from) / 1000))
  ended term 143 'mayfly: Terminated: the guest was ended'
  ((took >= 2000 && took < 10000)) || fail "--grace 2s took $took ms"

  # While the guest boots the button is pressed in vain, and does no harm either.
  cp "$tmp/term.cpio" "$tmp/int.cpio"
  start int --grace 100s
  sleep 1
  kill -INT "$pid"
  until_true 60 seen int here
  kill -INT "$pid"
  finish int
  ended int 130 'mayfly: Interrupt: the guest was ended'
}
