#!/usr/bin/env bats
# Disks as Linux guests see them: root file systems, read-only, shared and under an overlay; every
# byte where it belongs; discard; locks. What happens when the power fails: powerloss.bats, when the
# host's disk does: diskfail.bats.

load lib.bash
load disk.bash

MIB=$((1 << 20))
VERIFY=60 # seconds of the guest's that fio works

# fio's minute passes while the other tests of this file run; hence its rates.
setup_file() {
  local cmd dir=$BATS_FILE_TMPDIR
  tmp=$dir kernel=$vmlinux
  guest fio <<SCRIPT
echo up
mount -t ext4 -o ro /dev/vdb /mnt || exit
fio() { /mnt/lib/ld-linux-x86-64.so.2 --library-path /mnt/lib /mnt/sbin/fio "\$@"; }
cat >/tmp/job <<'JOB'
[global]
ioengine=libaio
direct=1
iodepth=8
rw=randrw
bssplit=512/10:4k/60:20k/20:64k/10
blockalign=512
verify=crc32c
verify_backlog=128
verify_fatal=1
time_based=1
runtime=$VERIFY
rate=300k,300k
verify_state_save=0
group_reporting=0
[uring]
filename=/dev/vdc
[sync]
filename=/dev/vdd
[overlay]
filename=/dev/vde
JOB
fio --eta=never /tmp/job
echo "status: \$?"
SCRIPT
  for disk in uring sync overlay; do truncate -s 24M "$dir/$disk"; done
  command fio --timeout 250s -d "$root/build/system/fio.ext4,ro" -d "$dir/uring,io=uring" \
    -d "$dir/sync,io=sync" -d "$dir/overlay,overlay=$dir"
  run_to fio "${cmd[@]}" --pidfile "$dir/pid" &
  until_true 100 seen fio up # two that boot at once take longer
}

# When the last test was not asked for it is still there.
teardown_file() {
  [ ! -e "$BATS_FILE_TMPDIR/pid" ] || kill -9 "$(<"$BATS_FILE_TMPDIR/pid")"
}

@test "disk: Debian's kernel has its root on /dev/vda, read-only; another VM has the same image at once" {
  local name
  for name in debian second; do
    guest $name <<'SCRIPT'
echo up
read -r line
grep -o '^/dev/[a-z]* / ext4 ro' /proc/mounts
touch /new 2>&1
mount -o remount,rw / 2>&1
(echo 3 >/proc/sys/vm/drop_caches) 2>/dev/null
md5sum </bin/busybox
SCRIPT
  done
  kernel=$root/build/debian/cloud/vmlinux begin debian -i "$root/build/system/root.cpio"
  begin second
  for name in debian second; do tell $name on; done
  for name in debian second; do
    end $name
    ended $name 0 "$OFF"
    sed "s,/dev/root ,/dev/vda ," "$tmp/$name.out" >"$tmp/$name.same" # two names for it
    printf '%s\n' up '/dev/vda / ext4 ro' 'touch: /new: Read-only file system' \
      'mount: mounting /dev/vda on / failed: Permission denied' \
      "$(md5sum <"$root/build/rootfs/tiny/bin/busybox")" >"$tmp/want"
    diff "$tmp/want" "$tmp/$name.same"
  done
}

# The private file of a running VM: the descriptor's path in /proc.
private() { find "/proc/${pids[$1]}/fd" -lname "$tmp/private/* (deleted)"; }

@test "disk: overlay: two VMs write to one base, which stays as it was, and what they wrote goes" {
  local name before after
  mkdir "$tmp/private"
  cp "$rootdisk" "$tmp/base"
  before=$(md5sum <"$tmp/base")
  rootdisk=$tmp/base rootopts=,overlay=$tmp/private words=rw
  for name in one two; do
    guest $name <<SCRIPT
echo up
echo $name >/etc/hostname
noise 6000000 $(printf %d "'$name") >/big
sync
echo 3 >/proc/sys/vm/drop_caches
cat /etc/hostname
md5sum </big
cmp /sbin/e2fsck /sbin/e2fsck && echo "same"
echo written
read -r line
rm /big
mount -o remount,discard /
sync
fstrim -v / >/dev/null
echo trimmed
read -r line
SCRIPT
  done
  begin one
  begin two
  for name in one two; do until_true 100 seen $name written; done
  same "$(ls -A "$tmp/private")" "" "names in the directory of private files"
  for name in one two; do
    size=$(blocks "$(private $name)")
    say "$name: its private file takes $size KiB"
    ((size > 5800 && size < 16384)) || fail "$name: $size KiB"
    tell $name on
  done
  for name in one two; do
    until_true 100 seen $name trimmed
    size=$(blocks "$(private $name)")
    ((size < 3000)) || fail "$name: after fstrim $size KiB"
    tell $name on
  done
  for name in one two; do
    end $name
    ended $name 0 "$OFF"
    printf '%s\n' up $name "$("$noise" 6000000 "$(printf %d "'$name")" | md5sum)" same written trimmed |
      said $name
  done
  same "$(ls -A "$tmp/private")" "" "names in the directory of private files"
  after=$(md5sum <"$tmp/base")
  same "$after" "$before" "the base's checksum"
}

@test "disk: several: their order, names, sizes; read-only refuses; queues; odd sizes" {
  local i
  for i in b c d e; do head -c 1000000 /dev/zero | tr '\0' $i >"$tmp/$i"; done
  truncate -s $MIB "$tmp/b"
  truncate -s $((MIB * 3)) "$tmp/c"
  truncate -s $((MIB + 512)) "$tmp/d"
  truncate -s 512 "$tmp/e"
  guest several <<'SCRIPT'
for d in b c d e; do
  cd /sys/block/vd$d
  echo "$d $(head -c 1 /dev/vd$d) size $(cat size) ro $(cat ro) serial <$(cat serial)> queues $(ls mq | wc -l)"
done
cd /
for d in b c d e; do
  echo x | dd of=/dev/vd$d conv=notrunc,fsync bs=512 2>&1 | grep -v records
done
dd if=/dev/vdd bs=512 skip=2048 2>/dev/null | wc -c
dd if=/dev/vde bs=512 2>/dev/null | wc -c
SCRIPT
  boot several --cpus 2 -d "$tmp/b,id=first,queues=2" -d "$tmp/c,ro,id=12345678901234567890" \
    -d "$tmp/d" -d "$tmp/e,id=x,ro,io=sync"
  ended several 0 "$OFF"
  cat "$tmp/several.out"
  grep -qx 'b b size 2048 ro 0 serial <first> queues 2' "$tmp/several.out"
  grep -qx 'c c size 6144 ro 1 serial <12345678901234567890> queues 1' "$tmp/several.out"
  grep -qxE 'd d size 2049 ro 0 serial <.*> queues 1' "$tmp/several.out"
  grep -qx 'e e size 1 ro 1 serial <x> queues 1' "$tmp/several.out"
  same "$(grep -c 'not permitted\|Read-only' "$tmp/several.out")" 2 "writes refused"
  same "$(tail -n 2 "$tmp/several.out" | xargs)" "512 512" "bytes at the end of odd sizes"
  same "$(head -c 1 "$tmp/b")$(head -c 1 "$tmp/c")$(head -c 1 "$tmp/d")$(head -c 1 "$tmp/e")" \
    xcxe "first bytes afterwards"
}

@test "disk: what was synced is there after power-off, byte for byte; two vCPUs, two queues" {
  local name
  for name in raw file; do truncate -s 24M "$tmp/$name"; done
  mke2fs -q -t ext4 "$tmp/file" >/dev/null 2>&1
  guest hot <<'SCRIPT'
mount -t ext4 /dev/vdc /mnt
noise 20000000 7 | dd of=/dev/vdb bs=100k 2>/dev/null &
(noise 9000000 8 >/mnt/one) &
noise 7000001 9 >/mnt/two
wait
sync
SCRIPT
  boot hot --cpus 2 -d "$tmp/raw,queues=2" -d "$tmp/file,io=sync"
  ended hot 0 "$OFF"
  "$noise" 20000000 7 | cmp -n 20000000 - "$tmp/raw"
  mkdir "$tmp/work"
  e2fsck -y -E journal_only "$tmp/file" >/dev/null 2>&1
  e2fsck -fn "$tmp/file"
  for name in 'one 9000000 8' 'two 7000001 9'; do
    # shellcheck disable=SC2086 # words, meant to split
    set -- $name
    debugfs -R "cat /$1" "$tmp/file" 2>/dev/null | cmp - <("$noise" $2 $3)
  done
}

@test "disk: mkfs.ext4, fsck, fstrim, blkdiscard: the host's file gives its blocks back" {
  local io step size
  truncate -s 64M "$tmp/uring" "$tmp/sync"
  guest trim <<'SCRIPT'
echo up
both() { "$@" vdb /mnt && "$@" vdc /mnt2; }
step() { echo "$1"; read -r line; }
fill() { /sbin/mkfs.ext4 -q /dev/$1 && mount -t ext4 /dev/$1 $2 && noise 20000000 3 >$2/f; }
trim() { rm $2/f; sync; fstrim $2; }
check() {
  umount $2
  /sbin/e2fsck -fn /dev/$1 >/tmp/fsck 2>&1 || cat /tmp/fsck
  noise 8388608 4 | dd of=/dev/$1 bs=1M conv=fsync 2>/dev/null
}
zero() {
  /sbin/blkdiscard -z -o 4096 -l 4194304 /dev/$1
  dd if=/dev/$1 bs=4096 skip=1 count=1024 2>/dev/null | tr -d '\0' | wc -c
}
discard() { /sbin/blkdiscard /dev/$1; }
both fill
sync
step full
both trim
step trimmed
both check
step written
both zero
step zeroed
both discard
step discarded
SCRIPT
  begin trim -d "$tmp/uring,io=uring" -d "$tmp/sync,io=sync"
  for step in full trimmed written zeroed discarded; do
    until_true 100 seen trim $step
    for io in uring sync; do
      size=$(blocks "$tmp/$io")
      say "$io, $step: $size KiB on the host"
      case $step in
      full) ((size > 19500)) ;;
      trimmed) ((size < 8000)) ;;
      written) "$noise" 8388608 4 | cmp -n 8388608 - "$tmp/$io" ;;
      zeroed)
        ((size > 8000)) # it was told to keep the room
        { "$noise" 8388608 4 | head -c 4096; head -c 4194304 /dev/zero
          "$noise" 8388608 4 | tail -c +$((4096 + 4194304 + 1)); } | cmp -n 8388608 - "$tmp/$io"
        ;;
      discarded) ((size < 100)) ;;
      esac || { show trim; fail "$io, $step: $size KiB"; }
    done
    tell trim on
  done
  end trim
  ended trim 0 "$OFF"
  printf '%s\n' up full trimmed written 0 0 zeroed discarded | said trim
}

@test "disk: a second Mayfly is refused what a first one writes to, and may read what it reads" {
  truncate -s 1M "$tmp/one" "$tmp/two"
  guest first <<'SCRIPT'
echo up
read -r line
SCRIPT
  guest second <<'SCRIPT'
echo in
SCRIPT
  begin first -d "$tmp/one" -d "$tmp/two,ro"
  for opts in "" ,ro ,overlay; do
    boot second -d "$tmp/one$opts"
    refused second 125 "^mayfly: disk $tmp/one: .*(in use|used|lock)"
  done
  boot second -d "$tmp/two"
  refused second 125 "^mayfly: disk $tmp/two: "
  boot second -d "$tmp/two,ro"
  ended second 0 "$OFF"
  boot second -d "$tmp/two" -d "$tmp/two"
  refused second 125 "^mayfly: disk $tmp/two: "
  tell first on
  end first
  ended first 0 "$OFF"
}

@test "disk: direct: past the host's page cache, with offsets and lengths of every kind" {
  # tmpfs has no O_DIRECT; a loop device on it has. The files may be on something better.
  local disks=("$tmp/uring" "$tmp/sync") disk
  truncate -s 24M "${disks[@]}"
  if ! dd if=/dev/zero of="$tmp/sync" oflag=direct conv=notrunc bs=4096 count=1 2>/dev/null; then
    guest refused <<<''
    boot refused -d "$tmp/sync,direct"
    refused refused 125 "^mayfly: disk $tmp/sync: .* no direct I/O: leave out direct"
    why=$(dm_unable)
    [ -z "$why" ] || skip "no O_DIRECT in $tmp, and no loop device: $why"
    loop "$tmp/uring"
    disks=("$loop")
    loop "$tmp/sync"
    disks+=("$loop")
  fi
  guest direct <<'SCRIPT'
noise 3000000 5 >/tmp/n
for d in /dev/vdb /dev/vdc; do
  dd if=/tmp/n of=$d bs=3001 conv=notrunc,fsync 2>/dev/null
  dio write $d 512 16385 300 </tmp/n
  dio write $d 10240 1001 20 </tmp/n
  dio write $d 1048576 20 2 </tmp/n
  echo 3 >/proc/sys/vm/drop_caches
  cmp -n 3000000 /tmp/n $d && echo same
  dio read $d 512 1 200 | cmp -n 102400 - /tmp/n 0 512 && echo same
  dio read $d 99840 0 26 | cmp -n 2595840 - /tmp/n && echo same
done
SCRIPT
  boot direct -d "${disks[0]},direct,io=uring" -d "${disks[1]},direct,io=sync"
  ended direct 0 "$OFF"
  printf '%s\n' same same same same same same | said direct || { show direct; false; }
  "$noise" 3000000 5 >"$tmp/n"
  for disk in "${disks[@]}"; do
    cmp -n 3000000 "$tmp/n" "$disk"
    cmp -n 153600 -i 0:$((16385 * 512)) "$tmp/n" "$disk"
    cmp -n 204800 -i 0:$((1001 * 10240)) "$tmp/n" "$disk"
    cmp -n 2097152 -i 0:$((20 * 1048576)) "$tmp/n" "$disk"
  done
}

# Last: its minute began with the file.
@test "disk: fio writes, reads and verifies for a minute, on io_uring, plain calls and an overlay" {
  tmp=$BATS_FILE_TMPDIR
  until_true 240 [ -s "$tmp/fio.status" ]
  ended fio 0 "$OFF"
  cat "$tmp/fio.out"
  same "$(value fio status)" 0 "fio's status"
  say "reads and writes: $(sed -n 's/.*issued rwts: total=\([0-9]*,[0-9]*\),.*/\1/p' "$tmp/fio.out" | xargs)"
}
