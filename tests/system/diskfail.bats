#!/usr/bin/env bats
# A host whose disk fails: the guest gets an I/O error for what could not be done and for nothing
# else, nothing hangs, the other disks and the VM go on, and the monitor says so without chatter.

load lib.bash
load disk.bash

words='ro loglevel=1' # the guest's kernel would say what its programs are told

# errors NAME PATH...: the monitor's lines on standard error before the last are about these disks
# and no other, some for each and not many; nothing else is there.
errors() {
  local name=$1 path n line
  shift
  ended_after "$name" 0 "$OFF"
  for path; do
    n=$(grep -c "^mayfly: warning: disk $path: .*: the guest gets an I/O error$" "$tmp/$name.err" || :)
    ((n >= 1 && n <= 15)) || { show "$name"; fail "$n lines on $path"; }
  done
  for line in "${err[@]:0:${#err[@]}-1}"; do
    path=${line#mayfly: warning: disk } path=${path%%:*}
    [[ " $* " == *" $path "* && $line == "mayfly: warning: disk "* ]] || fail "a line on something else: $line"
  done
}

@test "diskfail: bad sectors: EIO there and only there, reading, writing, flushing" {
  local why io disks=()
  why=$(dm_unable)
  [ -z "$why" ] || skip "$why"
  for io in uring sync direct; do
    "$noise" $((4 << 20)) 5 >"$tmp/$io.file"
    loop "$tmp/$io.file"
    # 1 MiB that is good, 1 MiB that is not, 2 MiB that are.
    dm "mayfly-$io" "0 2048 linear $loop 0
2048 2048 error
4096 4096 linear $loop 4096"
    disks+=("/dev/mapper/mayfly-$io")
  done
  truncate -s 4M "$tmp/good"
  guest bad <<'SCRIPT'
io() { # io NAME DD-ARGUMENT...
  local name=$1
  shift
  if dd "$@" bs=4k count=8 2>/tmp/said; then echo "$name good"; else
    grep -q 'Input/output error' /tmp/said && echo "$name EIO" || { echo "$name other"; cat /tmp/said; }
  fi
}
noise 32768 1 >/tmp/n
for d in b c d e; do
  io "$d read before" if=/dev/vd$d of=/dev/null iflag=direct skip=248
  io "$d read in it" if=/dev/vd$d of=/dev/null iflag=direct skip=300
  io "$d read over its edge" if=/dev/vd$d of=/dev/null iflag=direct skip=510
  io "$d read behind" if=/dev/vd$d of=/dev/null iflag=direct skip=512
  io "$d write behind" if=/tmp/n of=/dev/vd$d oflag=direct conv=notrunc,fsync seek=600
  io "$d write in it" if=/tmp/n of=/dev/vd$d oflag=direct conv=notrunc,fsync seek=300
  for i in 1 2 3 4 5 6 7 8 9 10; do dd if=/dev/vd$d of=/dev/null bs=4k skip=30$i count=1 iflag=direct 2>/dev/null; done
done
SCRIPT
  boot bad -d "${disks[0]},io=uring" -d "${disks[1]},io=sync" -d "${disks[2]},direct" -d "$tmp/good"
  for d in b c d; do
    printf "$d %s\n" "read before good" "read in it EIO" "read over its edge EIO" \
      "read behind good" "write behind good" "write in it EIO"
  done >"$tmp/want"
  printf "e %s\n" "read before good" "read in it good" "read over its edge good" \
    "read behind good" "write behind good" "write in it good" >>"$tmp/want"
  diff "$tmp/want" "$tmp/bad.out" || { show bad; false; }
  errors bad "${disks[@]}"
  # What was said to be good is.
  for io in uring sync direct; do
    "$noise" 32768 1 | cmp -n 32768 -i 0:$((600 * 4096)) - "/dev/mapper/mayfly-$io"
  done
}

@test "diskfail: a disk that fails every other second: what was said to be written is" {
  local why i n
  why=$(dm_unable dm-flakey)
  [ -z "$why" ] || skip "$why"
  truncate -s 4M "$tmp/file" "$tmp/good"
  loop "$tmp/file"
  dm mayfly-flakey "0 8192 flakey $loop 0 1 1"
  guest flakey <<'SCRIPT'
t() { read -r u _ </proc/uptime; echo ${u%.*}; }
end=$(($(t) + 5)) i=0
noise 524288 9 >/tmp/n
while [ $(t) -lt $end ] && [ $i -lt 1024 ]; do
  if dd if=/tmp/n of=/dev/vdb bs=512 count=1 skip=$i seek=$i oflag=direct conv=notrunc 2>/dev/null; then
    echo "good $i"
  else
    echo "failed $i"
  fi
  dd if=/dev/vdb of=/dev/null bs=512 skip=$i count=1 iflag=direct 2>/dev/null || echo "unread $i"
  dd if=/tmp/n of=/dev/vdc bs=512 count=1 skip=$i seek=$i oflag=direct conv=notrunc 2>/dev/null || echo "worse $i"
  i=$((i + 1))
done
echo end
SCRIPT
  boot flakey -d "/dev/mapper/mayfly-flakey,direct" -d "$tmp/good"
  errors flakey /dev/mapper/mayfly-flakey
  say "writes: $(grep -c '^good' "$tmp/flakey.out") good, $(grep -c '^failed' "$tmp/flakey.out") failed;" \
    "reads failed: $(grep -c '^unread' "$tmp/flakey.out")"
  ! grep worse "$tmp/flakey.out" || false
  same "$(tail -n 1 "$tmp/flakey.out")" end "last line"
  for n in good failed unread; do grep -q "^$n" "$tmp/flakey.out" || fail "none is $n"; done
  # The disk is whole again.
  dmsetup suspend mayfly-flakey
  dmsetup load mayfly-flakey --table "0 8192 linear $loop 0"
  dmsetup resume mayfly-flakey
  "$noise" 524288 9 | { cmp -l - /dev/mapper/mayfly-flakey 2>/dev/null || :; } |
    awk 'NR == FNR { if ($1 == "good") good[$2]; next } int(($1 - 1) / 512) in good { print; exit 1 }' \
      "$tmp/flakey.out" -
}

@test "diskfail: a flush that fails is told of, and no later one succeeds" {
  local why
  why=$(dm_unable)
  [ -z "$why" ] || skip "$why"
  truncate -s 4M "$tmp/uring.file" "$tmp/sync.file"
  for io in uring sync; do
    loop "$tmp/$io.file"
    dm "mayfly-$io" "0 2048 linear $loop 0
2048 6144 error"
  done
  guest flush <<'SCRIPT'
for d in b c; do
  # 64 KiB within a page that is read: none of them is there, so it goes to the page cache unread.
  noise 65536 1 | dd of=/dev/vd$d bs=64k seek=24 oflag=direct conv=notrunc 2>/dev/null && echo "$d took it"
  dd if=/dev/null of=/dev/vd$d conv=notrunc,fsync 2>/dev/null || echo "$d first flush failed"
  dd if=/dev/null of=/dev/vd$d conv=notrunc,fsync 2>/dev/null || echo "$d second flush failed"
done
SCRIPT
  boot flush -d /dev/mapper/mayfly-uring,io=uring -d /dev/mapper/mayfly-sync,io=sync
  show flush
  printf '%s\n' "b took it" "b first flush failed" "b second flush failed" "c took it" \
    "c first flush failed" "c second flush failed" | said flush
  errors flush /dev/mapper/mayfly-uring /dev/mapper/mayfly-sync
}

@test "diskfail: no room on the host: EIO for what did not fit, what did is there, room helps" {
  [ "$(id -u)" = 0 ] || skip "a small file system to fill needs root to mount it"
  local name
  mkdir "$tmp/small"
  mount -t tmpfs -o size=6M small "$tmp/small" || skip "no tmpfs can be mounted here"
  truncate -s 32M "$tmp/small/uring"
  truncate -s 32M "$tmp/small/sync" "$tmp/base" "$tmp/good"
  guest full <<'SCRIPT'
echo up
for d in b c d; do
  n=0
  while noise 1048576 $n | dd of=/dev/vd$d bs=1M seek=$n oflag=direct iflag=fullblock conv=notrunc 2>/tmp/said; do
    n=$((n + 1))
    [ $n -lt 32 ] || break
  done
  grep -o 'Input/output error' /tmp/said
  i=0
  while [ $i -lt $n ]; do
    noise 1048576 $i >/tmp/n
    dd if=/dev/vd$d bs=1M skip=$i count=1 iflag=direct 2>/dev/null | cmp - /tmp/n
    i=$((i + 1))
  done
  [ $n -ge 4 ] && [ $n -le 6 ] && echo "$d had room for some"
  noise 4096 1 | dd of=/dev/vde bs=4k oflag=direct 2>/dev/null && echo "another disk goes on"
  /sbin/blkdiscard /dev/vd$d
  noise 1048576 5 | dd of=/dev/vd$d bs=1M oflag=direct iflag=fullblock conv=notrunc,fsync 2>/dev/null && echo "room again"
  /sbin/blkdiscard /dev/vd$d
done
SCRIPT
  boot full -d "$tmp/small/uring,io=uring" -d "$tmp/small/sync,io=sync" \
    -d "$tmp/base,overlay=$tmp/small" -d "$tmp/good"
  umount "$tmp/small"
  { echo up; for d in b c d; do
    printf '%s\n' 'Input/output error' "$d had room for some" "another disk goes on" "room again"
  done; } >"$tmp/want"
  diff "$tmp/want" "$tmp/full.out" || { show full; false; }
  errors full "$tmp/small/uring" "$tmp/small/sync" "$tmp/base"
}

@test "diskfail: an image that is cut short under a running VM" {
  local io
  for io in uring sync; do
    "$noise" 4194304 3 >"$tmp/$io"
  done
  guest cut <<'SCRIPT'
echo up
read -r line
for d in b c; do
  dd if=/dev/vd$d bs=4k skip=10 count=4 iflag=direct 2>/dev/null | md5sum
  dd if=/dev/vd$d of=/dev/null bs=4k skip=300 count=4 iflag=direct 2>&1 | grep -o 'Input/output error'
  dd if=/dev/vd$d of=/dev/null bs=4k skip=254 count=4 iflag=direct 2>&1 | grep -o 'Input/output error'
done
echo goes on
SCRIPT
  begin cut -d "$tmp/uring,io=uring" -d "$tmp/sync,io=sync,ro"
  truncate -s 1M "$tmp/uring" "$tmp/sync"
  tell cut on
  end cut
  { echo up; for io in b c; do
    head -c $((14 * 4096)) "$tmp/uring" | tail -c $((4 * 4096)) | md5sum
    printf '%s\n' 'Input/output error' 'Input/output error'
  done; echo goes on; } | said cut || { show cut; false; }
  errors cut "$tmp/uring" "$tmp/sync"
}
