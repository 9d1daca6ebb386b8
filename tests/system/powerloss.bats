#!/usr/bin/env bats
# What the guest was told is on stable storage is there when the power fails at any moment, and when
# Mayfly is killed. The page cache outlives a killed process, so the second proves little of flushes;
# the first goes by a log of what reached the disk, and of its flushes: host/powerlog.c. That a lost
# flush is found is shown with a Mayfly whose fdatasync does nothing.

load lib.bash
load disk.bash

RECORDS=12

setup_file() {
  local tmp=$BATS_FILE_TMPDIR
  records_image "$tmp/image"
}

# lives NAME DISK-OPTIONS [COMMAND...]: a guest writes records to a disk that logs; $mayfly is
# started by COMMAND. The log is in $tmp/NAME.log, the disk's first contents in $tmp/NAME.image.
#
# Each flush takes 20 ms, so that an answer which does not wait for it comes before it.
lives() {
  local name=$1 opts=$2 sectors=$((16 * 2048)) cmd base log
  shift 2
  cp "$BATS_FILE_TMPDIR/image" "$tmp/$name.image"
  cp "$tmp/$name.image" "$tmp/$name.disk0"
  truncate -s 512M "$tmp/$name.log"
  loop "$tmp/$name.disk0"
  base=$loop
  loop "$tmp/$name.log"
  log=$loop
  dm "mayfly-$name-slow" "0 $sectors delay $base 0 0 $base 0 0 $base 0 20"
  dm "mayfly-$name" "0 $sectors log-writes /dev/mapper/mayfly-$name-slow $log"
  guest "$name" <<SCRIPT
mount -t ext4 /dev/vdb /mnt && records /mnt $RECORDS step
SCRIPT
  command "$name" -d "/dev/mapper/mayfly-$name,$opts"
  mkfifo "$tmp/$name.in" "$tmp/$name.console"
  "$bin/powerlog" mark "mayfly-$name" "$tmp/$name.out" \
    <"$tmp/$name.console" >"$tmp/$name.in" 2>"$tmp/$name.marker" 3>&- &
  local marker=$! status=0
  # Both open the one pipe and then the other: in one order.
  "$@" "${cmd[@]}" >"$tmp/$name.console" <"$tmp/$name.in" 2>"$tmp/$name.err" 3>&- || status=$?
  echo "$status" >"$tmp/$name.status"
  wait "$marker" || { cat "$tmp/$name.marker"; false; }
  ended "$name" 0 "$OFF"
  same "$(acked "$tmp/$name.out")" "$RECORDS" "records acknowledged" || { show "$name"; false; }
  dm_clear
}

# replay NAME: the power fails everywhere in its life; what was found is in $tmp/NAME.found.
replay() {
  mkdir "$tmp/$1.work"
  "$bin/powerlog" replay "$tmp/$1.log" "$tmp/$1.image" "$tmp/$1.work" ${MAYFLY_LONG:+all} \
    >"$tmp/$1.found" 2>&1
}

survives() {
  local why
  why=$(dm_unable dm-log-writes dm-delay)
  [ -z "$why" ] || skip "$why"
  lives "$@"
  replay "$1" || { cat "$tmp/$1.found"; false; }
  say "$2: $(<"$tmp/$1.found")"
}

@test "powerloss: at every flush of a disk on io_uring all records acknowledged before are there" {
  survives uring io=uring
}

@test "powerloss: the same on plain calls" {
  survives sync io=sync
}

@test "powerloss: the same past the host's page cache" {
  [ "$MAYFLY_LONG" ] || skip "one more way, make check-long"
  survives direct direct,io=uring
}

@test "powerloss: a Mayfly whose fdatasync does nothing is found out" {
  local why
  why=$(dm_unable dm-log-writes dm-delay)
  [ -z "$why" ] || skip "$why"
  lives stub io=sync "$bin/nosync"
  ! replay stub || fail "nothing was found"
  cat "$tmp/stub.found"
  grep -q '^power failure after .*: record [0-9]* was acknowledged and is not there$' "$tmp/stub.found"
}

# One round: Mayfly is killed in the first seconds of a guest that writes records.
killed() {
  local name=kill after at status=0
  cp "$BATS_FILE_TMPDIR/image" "$tmp/disk"
  rm -rf "$tmp/kill".* "$tmp/work"
  mkdir "$tmp/work"
  guest kill <<'SCRIPT'
mount -t ext4 /dev/vdb /mnt && echo up && records /mnt 511 2000
echo end
read -r line
SCRIPT
  begin kill -d "$tmp/disk,io=$1"
  after=$((RANDOM % 1500))
  nap "$((after / 1000)).$(printf %03d $((after % 1000)))"
  kill -9 "$pid"
  wait "$pid" 2>/dev/null || status=$?
  exec {in}>&-
  same "$status" 137 "status"
  at=$(acked "$tmp/kill.out")
  "$bin/powerlog" check "$tmp/disk" "${at:-0}" "$tmp/work" >"$tmp/kill.found" 2>&1 ||
    { cat "$tmp/kill.found"; cp "$tmp/disk" "$root/build/check/" || :; false; }
  say "$1, killed $after ms after its mount: $(<"$tmp/kill.found")"
}

@test "powerloss: kill -9 at random moments: the file system is whole, the records are there" {
  local i rounds=${MAYFLY_LONG:+100}
  for ((i = 0; i < ${rounds:-3}; i++)); do
    killed "$( ((i % 2)) && echo sync || echo uring)"
  done
}
