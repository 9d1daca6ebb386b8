# Recording the system calls of Mayfly's threads, for host/census.c; a file of tests that is to be
# counted loads this behind lib.bash.
#
#   census_start NAME [KIB]   begins a record; from here on $mayfly is counted. KIB: of buffer a CPU
#   census_stop NAME          ends it: it lies in $census/NAME
#
# Trace events, since nothing else sees every call of every thread without changing when things
# happen: a thread under strace stops twice a call. An instance of tracefs of our own, so that nobody
# else who traces here is disturbed or disturbs us. Only processes under test are in it: $mayfly
# becomes a script that enters itself there and then is Mayfly; children follow (event-fork).
#
# Nothing is read while it runs: buffers are large enough, and host/census.c refuses a record that
# lost an event. It takes several records as well, of as many files and labs: who wants one judgement
# on all copies each out of its lab, where its file of tests ends.

census=$BATS_FILE_TMPDIR/census # in the lab this is memory, and build/ is far away
policy=$root/build/gen/seccomp/policy.tsv
tracefs=/sys/kernel/tracing

# Why calls can't be recorded here; nothing where they can. Ids in trace events are those of the
# first pid namespace, 0xeffffffc by include/linux/proc_ns.h.
census_unable() {
  [ "$(readlink /proc/self/ns/pid)" = 'pid:[4026531836]' ] ||
    { echo "this is a pid namespace of its own: trace events speak of other ids"; return; }
  [ -d "$tracefs/instances" ] || mount -t tracefs tracefs "$tracefs" 2>/dev/null || :
  [ -w "$tracefs/instances" ] || { echo "tracefs can't be used here: are we root?"; return; }
  local e
  for e in raw_syscalls/sys_enter task/task_newtask task/task_rename; do
    [ -e "$tracefs/events/$e" ] || { echo "this kernel has no event $e"; return; }
  done
}

# What stands for $mayfly where the record NAME is made: in a test, whose setup_file began it.
census_counted() { echo "$BATS_FILE_TMPDIR/$1/mayfly"; }

census_start() {
  local dir=$tracefs/instances/mayfly-census-$$-$1 kib=${2:-16384}
  mkdir -p "$census"
  mkdir "$dir"
  echo "$dir" >"$census/$1.instance"
  echo "$kib" >"$dir/buffer_size_kb"
  echo global >"$dir/trace_clock" # one order of events for all CPUs
  echo 1 >"$dir/options/event-fork"
  # No process has the highest id. Without any the instance would record all of the machine.
  echo 4194303 >"$dir/set_event_pid"
  echo 1 >"$dir/events/task/enable"
  echo 1 >"$dir/events/raw_syscalls/sys_enter/enable"
  mayfly=$(census_counted "$1")
  mkdir -p "${mayfly%/*}"
  cat >"$mayfly" <<SCRIPT
#!/bin/sh
echo \$\$ >>$dir/set_event_pid && exec $monitor "\$@"
SCRIPT
  chmod +x "$mayfly"
}

census_stop() {
  local dir
  dir=$(<"$census/$1.instance")
  echo 0 >"$dir/tracing_on"
  { cat "$dir/trace" && grep -h . "$dir"/per_cpu/cpu*/stats; } >"$census/$1"
  census_drop "$1"
}

# Also for what a test that failed left behind.
census_drop() {
  local dir
  [ -e "$census/$1.instance" ] || return 0
  dir=$(<"$census/$1.instance")
  echo 0 >"$dir/events/enable"
  rmdir "$dir"
  rm "$census/$1.instance"
}
