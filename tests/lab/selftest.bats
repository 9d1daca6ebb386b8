#!/usr/bin/env bats
# The lab's promises, checked on the host. A start of the lab costs seconds of
# both cores, so each test asks many things of one start.

setup_file() { "$BATS_TEST_DIRNAME/prepare"; } # its words are not the lab's

setup() {
  lab=$BATS_TEST_DIRNAME/lab
  root=${BATS_TEST_DIRNAME%/tests/lab}
  scratch=$root/build/lab/selftest.$$
  mkdir -p "$scratch"
  tmp=$BATS_TEST_TMPDIR
}

teardown() { rm -rf "$scratch"; }

# Fails with what was found and what was wanted.
same() { [[ $1 == "$2" ]] || { echo "$3: '$1', not '$2'"; return 1; }; }

@test "lab: streams byte for byte, end of input, directory, environment, machine" {
  head -c 1048576 /dev/urandom >"$tmp/in"
  # All byte values there and back, stderr apart, then facts on stderr.
  cat >"$scratch/cmd" <<'CMD'
cat                                   # ends only if end of input arrives
echo "cwd $PWD" >&2
echo "args $# <$1> <$2>" >&2
echo "env $MAYFLY_SELFTEST" >&2
echo "nofile $(ulimit -n) $(ulimit -Hn)" >&2
echo "host $(uname -n) cpus $(nproc)" >&2
[ -c /dev/kvm ] && echo "kvm device" >&2
grep -q '^kvm_amd ' /proc/modules && echo "kvm_amd loaded" >&2
echo "npt $(cat /sys/module/kvm_amd/parameters/npt)" >&2
echo "write" >"$2/made-inside" && echo "build written" >&2
echo private >/tmp/mayfly-selftest && echo private >/var/mayfly-selftest &&
  echo private >/run/mayfly-selftest && echo "memory on top" >&2
modprobe -a brd null_blk bridge veth dm_mod && echo "modprobe" >&2
[ -c /dev/net/tun ] && [ -c /dev/vhost-net ] && [ -c /dev/vhost-vsock ] &&
  echo "tun vhost" >&2
ip link show lo 2>/dev/null | grep -q UP || grep -q lo: /proc/net/dev &&
  echo "lo" >&2
[ -d /sys/kernel/debug/kvm ] && [ -d /sys/kernel/tracing/events ] &&
  echo "debugfs tracefs" >&2
grep -qw memory /sys/fs/cgroup/cgroup.subtree_control && echo "cgroup2" >&2
exit 42
CMD
  cd "$BATS_TEST_DIRNAME"
  status=0
  MAYFLY_SELFTEST='a  b"c' "$lab" --timeout 120 -- \
    bash "$scratch/cmd" 'x  y$' "$scratch" \
    <"$tmp/in" >"$tmp/out" 2>"$tmp/err" || status=$?
  cat "$tmp/err"
  same "$status" 42 status
  cmp "$tmp/in" "$tmp/out"
  cat >"$tmp/want" <<WANT
cwd $BATS_TEST_DIRNAME
args 2 <x  y\$> <$scratch>
env a  b"c
nofile 65536 65536
host lab cpus 1
kvm device
kvm_amd loaded
npt Y
build written
memory on top
modprobe
tun vhost
lo
debugfs tracefs
cgroup2
WANT
  diff "$tmp/want" "$tmp/err"
  same "$(cat "$scratch/made-inside")" write "the file in build/"
  [ ! -e /tmp/mayfly-selftest ] && [ ! -e /var/mayfly-selftest ]
}

@test "lab: a signal is 128+n; a slow reader loses nothing; a gone reader ends the writer" {
  # 8 MiB meet a reader that sleeps first, in order and whole.
  status=0
  "$lab" --timeout 120 -- bash -c 'seq 1 1200000; (yes; echo $? >&2) | head -n 1 >&2; kill -9 $$' \
    2>"$tmp/err" > >(sleep 6; cksum >"$tmp/sum") || status=$?
  same "$status" 137 status
  for _ in {1..100}; do [[ -s $tmp/sum ]] && break; sleep 0.1; done
  same "$(cat "$tmp/sum")" "$(seq 1 1200000 | cksum)" checksum
  same "$(head -n 1 "$tmp/err")" y stderr
}

@test "lab: a terminal: size, resize, echo, Ctrl-C, restored at the end" {
  # script gives the lab a terminal; keys come from a pipe, paced by output.
  cat >"$scratch/inside" <<'CMD'
tty -s && echo "is a tty"
stty size
trap 'echo "got INT"; stty size; exit 7' INT
trap 'stty size' WINCH
echo ready
read -r line && echo "read <$line>"
while :; do sleep 0.1; done
CMD
  cat >"$scratch/outside" <<CMD
stty rows 33 cols 101
tty=\$(tty)
before=\$(stty -g)
(for _ in {1..200}; do
   grep -q "read <" "$tmp/typescript" && break
   sleep 0.2
 done
 stty rows 44 cols 102 <"\$tty") &
"$lab" --timeout 120 -- bash "$scratch/inside"
echo "status \$?"
stty rows 33 cols 101
[ "\$(stty -g)" = "\$before" ] && echo restored
CMD
  : >"$tmp/typescript"
  await() { # at most 40 s, so that a failure shows what came instead
    for _ in {1..200}; do
      grep -q -- "$1" "$tmp/typescript" && return
      sleep 0.2
    done
  }
  keys() {
    await ready && echo hello
    await '^44 102' && printf '\003'
    await status
  }
  keys | script -qfec "timeout --foreground 120 bash $scratch/outside" \
    "$tmp/typescript" >/dev/null
  tr -d '\r' <"$tmp/typescript" | tee "$tmp/seen"
  for want in "is a tty" "33 101" "read <hello>" "44 102" "got INT" "status 7" restored; do
    grep -qF "$want" "$tmp/seen" || { echo "missing: $want"; false; }
  done
}

@test "lab: a dead kernel, a timeout and a kill each end the lab, and its QEMU" {
  status=0
  "$lab" --timeout 120 -- sh -c 'echo c >/proc/sysrq-trigger; sleep 60' \
    2>"$tmp/err" || status=$?
  same "$status" 125 "status after a panic"
  grep -q "machine died" "$tmp/err"
  grep -q "sysrq" "$tmp/err"

  # A timeout that strikes during the boot, and a kill at any time.
  status=0
  "$lab" --timeout 1 -- true 2>"$tmp/err" || status=$?
  same "$status" 124 "status after a timeout"

  local qemu=
  "$lab" -- sleep 600 & pid=$!
  for _ in {1..200}; do # the log's name is the lab's pid: then QEMU runs
    sleep 0.05
    [[ -e $root/build/lab/$pid.serial ]] || continue
    qemu=$(cat "/proc/$pid/task/$pid/children" 2>/dev/null || true)
    qemu=${qemu%% *}
    break
  done
  [[ $qemu ]]
  kill -TERM "$pid"
  status=0
  wait "$pid" || status=$?
  same "$status" 143 "status after SIGTERM"
  ! kill -0 "$qemu" 2>/dev/null || false
}

@test "lab: a small input ends; several at once; icount has one CPU" {
  # All of it reaches the agent together with START.
  echo few | "$lab" --timeout 30 -- cat >"$tmp/few" & one=$!
  "$lab" --timeout 120 --icount -- sh -c 'exit $(nproc)' & two=$!
  status=0
  wait "$one" || status=$?
  same "$status" 0 "status of cat"
  same "$(cat "$tmp/few")" few "a small input"
  status=0
  wait "$two" || status=$?
  same "$status" 1 "number of CPUs with --icount"
}
