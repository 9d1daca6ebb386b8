# What the system tests share; every .bats file loads it.
#
# A test describes what its guest does, boots it, and judges what came out:
#
#   guest NAME <<'EOF'            the script that the guest of this name runs
#   boot NAME [OPTION...]         `mayfly run` with it to its end, in $tmp/NAME.{out,err,status}
#   ended NAME STATUS 'LINE'      judges status and standard error
#
# boots of one test run two at a time where they do not depend on each other: boot a & boot b; wait.
# The kernel is the vmlinux unless $kernel says otherwise: there is nothing to decompress. Every
# boot has a --timeout, since an emulated machine can be twenty times slower than a real one.
bats_require_minimum_version 1.5.0

root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd -P)
monitor=$root/build/mayfly
mayfly=$monitor # what tests run: a census puts something before it (census.bash)
vmlinux=$root/build/debian/cloud/vmlinux
vmlinuz=$root/build/debian/cloud/vmlinuz
initrd=$root/build/system/guest.cpio
noise=$root/build/system/root/bin/noise

OFF='mayfly: the guest powered off'
REBOOTED='mayfly: the guest rebooted; Mayfly ends there'
PANICKED="mayfly: the guest's kernel panicked"
TIMED_OUT='mayfly: the time of --timeout was up; the guest was ended'

setup() {
  tmp=$BATS_TEST_TMPDIR
  kernel=$vmlinux
}

exec {never}<> <(:) # nothing to read, for ever: reading from it with a timeout is a sleep
nap() { read -r -t "$1" -u "$never" || :; }

# Nothing of a test outlives it.
teardown() {
  local left
  leftovers
  [ ${#left[@]} = 0 ] || { echo "still there: ${left[*]}"; kill -9 "${left[@]}"; false; }
}

# Sets left: the process ids of this test's mayfly processes. Without a fork for each process of
# the machine: in the lab one costs 50 ms, and this goes for all that every test uses.
leftovers() {
  local p
  left=()
  for p in /proc/[0-9]*; do
    if [[ $p/exe -ef $monitor ]] && grep -qz "^BATS_TEST_TMPDIR=$BATS_TEST_TMPDIR$" "$p/environ"; then
      left+=("${p#/proc/}")
    fi
  done 2>/dev/null
}

# A line for who reads the TAP output.
say() { echo "# $*" >&3; }

fail() { echo "$*"; return 1; }

# same FOUND WANTED WHAT
same() { [[ $1 == "$2" ]] || fail "$3: '$1', not '$2'"; }

# matches TEXT REGEX WHAT
matches() { [[ $1 =~ $2 ]] || fail "$3: '$1' does not match '$2'"; }

# guest NAME <SCRIPT: becomes /test in an initrd of its own, behind the common one.
guest() {
  mkdir -p "$tmp/$1.root"
  cat >"$tmp/$1.root/test"
  (cd "$tmp/$1.root" && echo test | cpio -o -H newc -R 0:0 --quiet) >"$tmp/$1.cpio"
}

# In the lab a guest's idle loop can sleep past the interrupt it waits for, and interrupts get lost
# (docs/architecture.md): until the next tick, of a timer that ticks by itself.
timers="nohz=off highres=off lapic=notscdeadline"

# Sets cmd: mayfly run with the guest of this name, and options.
command() {
  local name=$1 ticks=$timers
  shift
  # Without ACPI a kernel finds nothing to measure such a timer by.
  [[ " $* " != *" --mmio-cmdline "* ]] || ticks=nohz=off
  cmd=("$mayfly" run --kernel "$kernel" --initrd "$initrd" --cmdline "$ticks")
  [ ! -e "$tmp/$name.cpio" ] || cmd+=(--initrd "$tmp/$name.cpio")
  [[ " $* " == *" --timeout "* ]] || cmd+=(--timeout 60s)
  [[ " $* " == *" --cmdline"* ]] || cmd+=(--cmdline quiet)
  cmd+=("$@")
}

# run_to NAME COMMAND...: runs it to its end.
run_to() {
  local name=$1 status=0
  shift
  "$@" </dev/null >"$tmp/$name.out" 2>"$tmp/$name.err" 3>&- || status=$?
  echo "$status" >"$tmp/$name.status"
}

boot() {
  local cmd
  command "$@"
  run_to "$1" "${cmd[@]}"
}

# start NAME [OPTION...]: boots in the background, its standard input the FIFO $tmp/NAME.in, open
# as descriptor $in; $pid is mayfly's.
start() {
  local cmd
  command "$@"
  mkfifo "$tmp/$1.in"
  "${cmd[@]}" <"$tmp/$1.in" >"$tmp/$1.out" 2>"$tmp/$1.err" 3>&- &
  pid=$!
  exec {in}>"$tmp/$1.in"
}

# finish NAME: waits for what start began.
finish() {
  local status=0
  wait "$pid" || status=$?
  echo "$status" >"$tmp/$1.status"
  exec {in}>&-
}

# until_true SECONDS COMMAND...: waits for it; fails when the time is up.
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || fail "waited in vain for: $*" || return
    nap 0.2
  done
}

# seen NAME TEXT: whether the guest has printed it.
seen() { grep -qF -- "$2" "$tmp/$1.out" 2>/dev/null; }

# SIGTERM presses the power button of a guest that listens, which then powers off.
press_button() {
  guest button <<'EOF'
echo here
head -c 24 /dev/input/event0 >/dev/null && echo pressed
EOF
  start button --grace 100s
  until_true 60 seen button here
  kill -TERM "$pid"
  finish button
  ended button 0 "$OFF"
  printf 'here\npressed\n' | said button
}

# What a failed judgement was made on.
show() {
  echo "--- $1: status $(<"$tmp/$1.status"), standard error:"
  cat "$tmp/$1.err"
  echo "--- standard output, its end:"
  tail -c 2000 "$tmp/$1.out" | cat -v
  echo "---"
}

# ended NAME STATUS LINE: that it ended so, and with this line alone on standard error.
ended() { ended_after "$@" && same ${#err[@]} 1 "lines on standard error" || { show "$1"; false; }; }

# parting FILE: takes the kernel's own last line ("reboot: Power down") from the end of the output.
# Newer kernels reset their virtio devices before they print it, older ones after.
parting() {
  local n
  n=$(tail -c 80 "$1" | LC_ALL=C grep -aoE '\[ *[0-9]+\.[0-9]+\] reboot: [A-Za-z ]+.?$' | wc -c)
  ((n == 0)) || truncate -s "-$n" "$1"
}

# ended_after NAME STATUS LINE: the same where the guest's death is told in lines before the last.
# Leaves them in err.
ended_after() {
  local status
  [ ! -f "$tmp/$1.out" ] || parting "$tmp/$1.out"
  read -r status <"$tmp/$1.status"
  mapfile -t err <"$tmp/$1.err"
  same "$status" "$2" status && same "${err[-1]-}" "$3" "last line" || { show "$1"; false; }
}

# refused NAME STATUS REGEX: one line on standard error that matches, none on standard output.
refused() {
  local status err
  read -r status <"$tmp/$1.status"
  mapfile -t err <"$tmp/$1.err"
  same "$status" "$2" status && same ${#err[@]} 1 "lines on standard error" &&
    matches "${err[0]}" "$3" message && [ ! -s "$tmp/$1.out" ] || { show "$1"; false; }
}

# said NAME <<EOF: that the guest's console holds exactly this, byte for byte.
said() { diff -u --label wanted --label found - "$tmp/$1.out"; }

# value NAME KEY: the rest of the guest's line "KEY: ...".
value() { sed -n "s/^$2: //p" "$tmp/$1.out"; }
