#!/usr/bin/env bats
# vCPUs: Linux finds as many as were asked for, understands how they hang together, is not
# astonished by anything, and runs on all of them.

load lib.bash
timers="nohz=off" # the timer that a guest has otherwise is looked at

# What the guest tells of its processors.
tell_cpus() {
  guest "$1" <<'EOF'
n=$(nproc)
echo "nproc: $n"
cpuid
while IFS=: read -r key text; do
  case $key in
  apicid* | siblings* | cpu?cores* | core?id* | physical?id*) echo "info ${key%%	*}:$text" ;;
  esac
done </proc/cpuinfo
for c in /sys/devices/system/cpu/cpu[0-9]*; do
  cd $c/topology
  set -- $(cat core_id physical_package_id core_cpus_list package_cpus_list)
  echo "topology: cpu ${c##*/cpu} core $1 package $2 threads $3 all $4"
done
read -r name </sys/devices/system/clocksource/clocksource0/current_clocksource
echo "clocksource: $name"
read -r name </sys/devices/system/clockevents/clockevent0/current_device
echo "timer: $name"
grep -qw nonstop_tsc /proc/cpuinfo && echo "nonstop_tsc: yes"
# All CPUs at once, each on its own.
cat >/work <<'W'
i=0
while [ $i -lt 1000 ]; do i=$((i + 1)); done
read -r line </proc/$$/stat
set -- $line
shift 30
echo "worked: $9" # proc(5), field 39
W
c=0
while [ $c -lt $n ]; do
  taskset "$(printf %x $((1 << c)))" sh /work &
  c=$((c + 1))
done
wait
dmesg -r
EOF
}

# Complaints that Linux makes on a machine like this, whatever its monitor does.
complaints_allowed=(
  # The machine has no PCI, and the command line says pci=off.
  'PCI: Fatal: No config space access function found'
  'PCI: System does not support PCI'
  # Debian builds virtio_console as a module: when init starts there is no console yet.
  'Warning: unable to open an initial console\.'
)

# no_complaints NAME: nothing at level "warning" or worse in the guest's log beyond those, and none
# of the words that Linux uses for a shock at any level.
no_complaints() {
  local allowed bad
  allowed=$(IFS='|'; echo "${complaints_allowed[*]}")
  bad=$(grep -a '^<[0-4]>' "$tmp/$1.out" | grep -vE "] ($allowed)" || true)
  bad+=$(grep -aE '^<[0-9]+>.*([Ff]irmware [Bb]ug|WARNING:|BUG:|Call Trace|unchecked MSR)' \
    "$tmp/$1.out" || true)
  [ -z "$bad" ] || fail "$1: the guest complains: $bad"
}

# judge NAME N: the guest saw N cores of one package, numbered 0 to N - 1 everywhere.
judge() {
  local name=$1 n=$2 c width=0 levels
  ended "$name" 0 "$OFF"
  no_complaints "$name"
  same "$(value "$name" nproc)" "$n" nproc
  while ((1 << width < n)); do width=$((width + 1)); done
  levels="1:0:1 2:$width:$n"
  grep -E '^cpu [0-9]+ apic' "$tmp/$name.out" >"$tmp/$name.cpuid"
  same "$(wc -l <"$tmp/$name.cpuid")" "$n" "CPUs that CPUID ran on"
  for ((c = 0; c < n; c++)); do
    matches "$(sed -n "$((c + 1))p" "$tmp/$name.cpuid")" \
      "^cpu $c apic $c count $((1 << width)) x2apic ($c levels $levels|- levels -) ext ($c|-)$" CPUID
    grep -q "^topology: cpu $c core $c package 0 threads $c all $(range "$n")$" "$tmp/$name.out" ||
      { grep ^topology "$tmp/$name.out"; fail "topology of CPU $c is wrong"; }
  done
  each=$(seq -s ' ' 0 $((n - 1)))
  same "$(value "$name" 'info apicid' | sort -n | xargs)" "$each" "apicid in cpuinfo"
  same "$(value "$name" 'info core id' | sort -n | xargs)" "$each" "core id in cpuinfo"
  same "$(value "$name" 'info siblings' | sort -u | xargs)" "$n" "siblings in cpuinfo"
  same "$(value "$name" 'info cpu cores' | sort -u | xargs)" "$n" "cores in cpuinfo"
  same "$(value "$name" 'info physical id' | sort -u | xargs)" 0 "packages in cpuinfo"
  same "$(value "$name" worked | sort -n | xargs)" "$each" "CPUs that did work"
}

# As the kernel writes the CPUs 0 to N - 1.
range() { if (($1 == 1)); then echo 0; else echo "0-$(($1 - 1))"; fi; }

# clocks NAME: kvm-clock (or a TSC that Linux trusts more, where the host's never stops), and no
# APIC timer that had to be calibrated where the host can do without.
clocks() {
  grep -q 'kvm-clock: Using msrs' "$tmp/$1.out"
  if [ "$(value "$1" nonstop_tsc)" = yes ]; then
    matches "$(value "$1" clocksource)" '^(kvm-clock|tsc)$' clocksource
  else
    same "$(value "$1" clocksource)" kvm-clock clocksource
  fi
  if "$mayfly" probe | grep -q '^TSC deadline timer *yes'; then
    same "$(value "$1" timer)" lapic-deadline "clock event device"
  fi
  say "$1: clock $(value "$1" clocksource), timer $(value "$1" timer)," \
    "$(sed -nE 's/.*\] (x2apic.*|.*Switched APIC routing.*)/\1/p' "$tmp/$1.out" | paste -sd,)"
}

@test "cpus: 1, 2 and 4: numbers, topology, clocks, work on each, no complaint of Linux" {
  for n in 1 2 4; do tell_cpus "cpus$n"; done
  boot cpus1 &
  boot cpus2 --cpus 2
  wait
  boot cpus4 --cpus 4
  for n in 1 2 4; do
    judge "cpus$n" "$n"
    clocks "cpus$n"
  done
}

@test "cpus: 64 are there; the last of them comes up and works" {
  # Not all of them: 64 kernels' worth of waking up takes minutes on an emulated machine.
  guest many <<'EOF'
echo "possible: $(cat /sys/devices/system/cpu/possible)"
echo 1 >/sys/devices/system/cpu/cpu63/online
echo "online: $(cat /sys/devices/system/cpu/online)"
grep ^apicid /proc/cpuinfo | sed 's/.*: /apicid: /'
taskset 8000000000000000 sh -c 'read -r line </proc/$$/stat; set -- $line; shift 30; echo "worked: $9"'
EOF
  boot many --cpus 64 --memory 512M --cmdline 'quiet maxcpus=2'
  ended many 0 "$OFF"
  printf '%s\n' 'possible: 0-63' 'online: 0-1,63' 'apicid: 0' 'apicid: 1' 'apicid: 63' \
    'worked: 63' | said many
}

@test "cpus: 16, all of them at work" {
  [ "$MAYFLY_LONG" ] || skip "takes long on an emulated machine: make check-long"
  tell_cpus cpus16
  boot cpus16 --cpus 16 --memory 512M --timeout 5m
  judge cpus16 16
}
