#!/usr/bin/env bats
# The minimal kernel (make kernel): every way in, with and without ACPI; its ends; what it has for
# the programs that run on it, and what it has not. No module is loaded here: all is built in.

load lib.bash

vmlinux=$root/build/kernel/vmlinux
vmlinuz=$root/build/kernel/bzImage
initrd=$root/build/system/minimal.cpio

@test "kernel: bzImage, ELF entry, PVH, in little memory, and 4 vCPUs" {
  local way
  for way in bzimage elf pvh smp; do
    guest $way <<'EOF'
echo "kernel $(uname -r), $(nproc) CPUs"
EOF
  done
  kernel=$vmlinuz boot bzimage --memory 48M & boot elf --entry elf --memory 32M
  wait
  boot pvh --entry pvh --memory 32M & boot smp --cpus 4
  wait
  for way in bzimage elf pvh smp; do
    ended $way 0 "$OFF"
    echo "kernel $(<"$root/build/kernel/release"), $([ $way = smp ] && echo 4 || echo 1) CPUs" |
      said $way
  done
}

@test "kernel: no complaint in its log; ACPI is read, the clock is KVM's, the generator seeded" {
  guest log <<'EOF'
dmesg -r
EOF
  cp "$tmp/log.cpio" "$tmp/moved.cpio"
  boot log --cpus 2 & kernel=$vmlinuz boot moved
  wait
  for name in log moved; do
    ended $name 0 "$OFF"
    bad=$(grep -aE '^<[0-4]>|^<[0-9]+>.*(BUG:|WARNING:|Call Trace|[Ff]irmware [Bb]ug|ACPI Error)' \
      "$tmp/$name.out" || true)
    [ -z "$bad" ] || fail "$name: the kernel complains: $bad"
    for line in 'ACPI: Interpreter enabled' 'ACPI: button: Power Button' \
      'kvm-clock: Using msrs' 'random: crng init done'; do
      grep -aF "$line" "$tmp/$name.out" || fail "$name: not in its log: $line"
    done
  done
}

# talk NAME [OPTION...]: boots it with 100 lines to read.
talk() {
  local cmd
  guest "$1" <<'EOF'
stty -echo
echo; echo begin # behind what was echoed before
while read -r line; do echo "<$line>"; done
ls /sys/bus/acpi/devices 2>/dev/null | grep -c LNRO0005
reboot -f
EOF
  command "$@" --timeout 3m
  seq 1 100 | run_with_input "$1" "${cmd[@]}"
}

# As run_to, with our own standard input.
run_with_input() {
  local name=$1 status=0
  shift
  "$@" >"$tmp/$name.out" 2>"$tmp/$name.err" 3>&- || status=$?
  echo "$status" >"$tmp/$name.status"
}

@test "kernel: a talk over the console and a reboot, with ACPI and by --mmio-cmdline" {
  talk acpi & talk mmio --mmio-cmdline
  wait
  for name in acpi mmio; do
    ended $name 0 "$REBOOTED"
    { echo begin; seq -f '<%g>' 1 100; [ $name = mmio ] && echo 0 || echo 1; } >"$tmp/want"
    sed -n '/^begin$/,$p' "$tmp/$name.out" | diff "$tmp/want" -
  done
}

@test "kernel: SIGTERM is heard at the power button" {
  press_button
}

@test "kernel: --mmio-cmdline gives nothing to power off with: the guest halts" {
  guest off <<'EOF'
echo here
EOF
  boot off --mmio-cmdline --timeout 10s
  ended off 124 "$TIMED_OUT"
  echo here | said off
}

@test "kernel: a panic is 70, on the console or, without one, in the log that Mayfly finds" {
  guest console <<'EOF'
echo here
exit 3 # of process 1
EOF
  # Without ACPI, and nothing on the command line in its place, there are no devices.
  silent() {
    run_to "$1" "$mayfly" run --kernel "$vmlinux" --cmdline "$2" --timeout "${@:3}"
  }
  boot console & silent elf 'quiet acpi=off' 60s
  wait
  # A kernel of 16 MiB with 10: so early that it has not read panic= yet, and stays where it is.
  silent early mem=10M 15s & silent pvh 'quiet acpi=off' 60s --entry pvh
  wait
  ended console 70 "$PANICKED"
  grep -a 'Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000300' "$tmp/console.out"
  for name in elf pvh early; do
    if [ $name = early ]; then ended_after $name 124 "$TIMED_OUT"; else ended_after $name 70 "$PANICKED"; fi
    same "${err[0]}" \
      "mayfly: the guest never used its console; the end of its kernel log:" "first line"
    grep '^| .*Kernel panic - not syncing: ' "$tmp/$name.err" || { show $name; false; }
  done
}

@test "kernel: what programs expect is there" {
  guest features <<'EOF'
mkdir /dev/pts
mount -t devpts pts /dev/pts
ifconfig lo up
ulimit -c unlimited
features
EOF
  boot features --cpus 2
  ended features 0 "$OFF"
  # Every one that the program knows to try, and it knows some.
  ! grep -v ': yes$' "$tmp/features.out" || false
  same "$(wc -l <"$tmp/features.out")" "$(grep -c '^    { "' "$BATS_TEST_DIRNAME/guest/features.c")" \
    "features tried"
}

@test "kernel: file systems, namespaces, control groups, mitigations; no PCI, serial port, module" {
  guest facts <<'EOF'
for f in ext4 erofs squashfs overlay tmpfs devtmpfs cgroup2 bpf mqueue; do
  grep -qw $f /proc/filesystems && echo "fs $f"
done
echo ns $(ls /proc/self/ns)
mkdir /cg
mount -t cgroup2 cg /cg
echo "controllers $(cat /cg/cgroup.controllers)"
# One of them at work: two processes and no third.
echo +pids >/cg/cgroup.subtree_control
mkdir /cg/few
echo 2 >/cg/few/pids.max
sh -c 'echo $$ >/cg/few/cgroup.procs; sh -c "true | true; exit 7" 2>/dev/null'
read -r _ n </cg/few/pids.events
echo "refused $((n > 0))"
cd /sys/devices/system/cpu/vulnerabilities
grep -H Vulnerable spectre_v1 spectre_v2 meltdown l1tf
cd /
ls -d /sys/bus/pci /proc/modules /dev/ttyS* /sys/class/tty/ttyS* /dev/mem 2>/dev/null
echo end
EOF
  boot facts
  ended facts 0 "$OFF"
  printf '%s\n' 'fs ext4' 'fs erofs' 'fs squashfs' 'fs overlay' 'fs tmpfs' 'fs devtmpfs' \
    'fs cgroup2' 'fs bpf' 'fs mqueue' \
    'ns cgroup ipc mnt net pid pid_for_children time time_for_children user uts' \
    'controllers cpuset cpu io memory pids' 'refused 1' end | said facts
}

@test "kernel: the tiny root's ext4 image under an overlay: what was made belongs to root" {
  guest image <<'EOF'
mkdir -p /ro /rw /all
mount -o loop,ro /tiny.ext4 /ro
mount -t tmpfs rw /rw
mkdir /rw/u /rw/w
mount -t overlay -o lowerdir=/ro,upperdir=/rw/u,workdir=/rw/w all /all
grep -o ' /ro ext4 r[ow]' /proc/mounts
chroot /all sh -c 'echo "in $(cat /etc/hostname)"; echo >/new; stat -c "%u %a %n" /sbin/init /tmp'
ls /rw/u
EOF
  (cd "$root/build/rootfs" && echo tiny.ext4 | cpio -o -H newc -R 0:0 --quiet) >"$tmp/file.cpio"
  boot image --initrd "$tmp/file.cpio"
  ended image 0 "$OFF"
  printf '%s\n' ' /ro ext4 ro' 'in tiny' '0 755 /sbin/init' '0 1777 /tmp' new | said image
}

@test "kernel: the tiny root's init, plain and under an overlay: a shell for commands, then off" {
  local cmd
  cat >"$tmp/commands" <<'EOF'
echo; echo begin # behind what was echoed before
hostname
echo 1 >/file; cat /file /run/upper/file 2>/dev/null
awk '$2 == "/" { print $1 }' /proc/mounts | tail -n 1
for d in /dev/pts /dev/shm /proc /run /sys /sys/fs/cgroup /tmp; do
  grep -q " $d " /proc/mounts || echo "nothing at $d"
done
[ -c /dev/null ] && ifconfig lo | grep -o 'UP LOOPBACK RUNNING'
read -r line
this is read
echo "<$line>"
EOF
  initrd=$root/build/system/tiny.cpio
  command plain --cmdline 'quiet rdinit=/sbin/init'
  run_with_input plain "${cmd[@]}" <"$tmp/commands" &
  command overlay --cmdline 'quiet rdinit=/sbin/init mayfly.overlay'
  run_with_input overlay "${cmd[@]}" <"$tmp/commands"
  wait
  ended plain 0 "$OFF"
  ended overlay 0 "$OFF"
  sed -i '1,/^begin$/d' "$tmp/plain.out" "$tmp/overlay.out"
  printf '%s\n' tiny 1 rootfs 'UP LOOPBACK RUNNING' '<this is read>' | said plain
  printf '%s\n' tiny 1 root 'UP LOOPBACK RUNNING' '<this is read>' | said overlay
}
