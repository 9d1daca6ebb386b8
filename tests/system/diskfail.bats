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
io() { # io DISK NAME DIO-ARGUMENT...
  local name="$1 $2" disk=$1 way=$3
  shift 3
  if dio $way /dev/vd$disk "$@" </tmp/n >/dev/null 2>/tmp/said; then echo "$name good"; else
    grep -q 'I/O error' /tmp/said && echo "$name EIO" || { echo "$name other"; cat /tmp/said; }
  fi
}
noise 32768 1 >/tmp/n
for d in b c d e; do
  io $d "read before" read 4096 248 8
  io $d "read in it" read 512 2400 1
  io $d "read over its edge" read 8192 255 1
  io $d "read behind" read 65536 32 1
  io $d "write behind" write 4096 600 8
  io $d "flush" flush
  io $d "write in it" write 4096 300 8 # into the host's page cache, but for the third
  [ $d = d ] || io $d "flush" flush
  for i in 1 2 3 4 5 6 7 8 9 10; do dio read /dev/vd$d 4096 30$i 1 >/dev/null 2>&1; done
done
SCRIPT
  boot bad -d "${disks[0]},io=uring" -d "${disks[1]},io=sync" -d "${disks[2]},direct" -d "$tmp/good"
  for d in b c d e; do
    printf "$d %s\n" "read before good" "read in it EIO" "read over its edge EIO" \
      "read behind good" "write behind good" "flush good"
    case $d in
    d) echo "d write in it EIO" ;;
    *) printf "$d %s\n" "write in it good" "flush EIO" ;;
    esac
  done | sed '/^e/s/EIO/good/' >"$tmp/want"
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
noise 262144 9 >/tmp/n
while [ $(t) -lt $end ] && [ $i -lt 512 ]; do
  tail -c +$((i * 512 + 1)) /tmp/n >/tmp/rest
  if dio write /dev/vdb 512 $i 1 </tmp/rest 2>/dev/null; then
    echo "good $i"
  else
    echo "failed $i"
  fi
  dio read /dev/vdb 512 $i 1 >/dev/null 2>&1 || echo "unread $i"
  dio write /dev/vdc 512 $i 1 </tmp/rest || echo "worse $i"
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
  n=$(grep -cE '^(good|failed)' "$tmp/flakey.out")
  "$noise" $((n * 512)) 9 | { cmp -l - /dev/mapper/mayfly-flakey 2>/dev/null || :; } |
    awk 'NR == FNR { if ($1 == "good") good[$2]; next }
      int(($1 - 1) / 512) in good { print "block", int(($1 - 1) / 512); exit 1 }' "$tmp/flakey.out" -
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
  noise 65536 1 | dio write /dev/vd$d 65536 24 1 && echo "$d took it"
  dio flush /dev/vd$d 2>/dev/null || echo "$d first flush failed"
  dio flush /dev/vd$d 2>/dev/null || echo "$d second flush failed"
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
  while noise 1048576 $n | dio write /dev/vd$d 1048576 $n 1 2>/tmp/said; do
    n=$((n + 1))
    [ $n -lt 32 ] || break
  done
  grep -o 'I/O error' /tmp/said
  i=0
  while [ $i -lt $n ]; do
    noise 1048576 $i >/tmp/n
    dio read /dev/vd$d 1048576 $i 1 | cmp - /tmp/n
    i=$((i + 1))
  done
  [ $n -ge 4 ] && [ $n -le 6 ] && echo "$d had room for some"
  noise 4096 1 | dio write /dev/vde 4096 0 1 && echo "another disk goes on"
  /sbin/blkdiscard /dev/vd$d
  noise 1048576 5 | dio write /dev/vd$d 1048576 0 1 && dio flush /dev/vd$d && echo "room again"
  /sbin/blkdiscard /dev/vd$d
done
SCRIPT
  boot full -d "$tmp/small/uring,io=uring" -d "$tmp/small/sync,io=sync" \
    -d "$tmp/base,overlay=$tmp/small" -d "$tmp/good"
  umount "$tmp/small"
  { echo up; for d in b c d; do
    printf '%s\n' 'I/O error' "$d had room for some" "another disk goes on" "room again"
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
  dio read /dev/vd$d 4096 10 4 | md5sum
  dio read /dev/vd$d 4096 300 1 2>&1 | grep -o 'I/O error'
  dio read /dev/vd$d 16384 63 1 | tail -c 1 | wc -c
  dio read /dev/vd$d 12288 85 1 2>&1 >/dev/null | grep -o 'I/O error'
done
echo goes on
SCRIPT
  begin cut -d "$tmp/uring,io=uring" -d "$tmp/sync,io=sync,ro"
  truncate -s 1M "$tmp/uring" "$tmp/sync"
  tell cut on
  end cut
  { echo up; for io in b c; do
    head -c $((14 * 4096)) "$tmp/uring" | tail -c $((4 * 4096)) | md5sum
    printf '%s\n' 'I/O error' 1 'I/O error'
  done; echo goes on; } | said cut || { show cut; false; }
  errors cut "$tmp/uring" "$tmp/sync"
}
