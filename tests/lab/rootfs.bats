#!/usr/bin/env bats
# What tests/lab/rootfs promises of what it makes. That guests boot with it: tests/system/kernel.bats.

setup_file() { "$BATS_TEST_DIRNAME/rootfs" tiny; } # its words are not the test's

setup() {
  root=${BATS_TEST_DIRNAME%/tests/lab}
  out=$root/build/rootfs
  tmp=$BATS_TEST_TMPDIR
  PATH=$PATH:/usr/sbin:/sbin
}

# Fails with what was found and what was wanted.
same() { [[ $1 == "$2" ]] || { echo "$3: '$1', not '$2'"; return 1; }; }

# sound NAME: the image is without a fault, and holds the tree, root's, with the modes it has there.
sound() {
  e2fsck -fn "$1.ext4"
  rm -rf "$tmp/dump"
  mkdir "$tmp/dump"
  debugfs -R "rdump / $tmp/dump" "$1.ext4" 2>"$tmp/err"
  rmdir "$tmp/dump/lost+found"
  diff <(cd "$1" && find . ! -type l -printf '%P %y %m %s\n' | grep -v ' d ' | sort) \
    <(cd "$tmp/dump" && find . ! -type l -printf '%P %y %m %s\n' | grep -v ' d ' | sort)
  diff <(cd "$1" && find . -type l -printf '%P %l\n' | sort) \
    <(cd "$tmp/dump" && find . -type l -printf '%P %l\n' | sort)
  cmp "$1/sbin/init" "$BATS_TEST_DIRNAME/rootfs.init"
  for f in / /bin/busybox /sbin/init /tmp /etc/passwd; do
    debugfs -R "stat $f" "$1.ext4" 2>/dev/null | grep -qE 'User: +0 +Group: +0 ' ||
      { echo "$1: $f is not root's"; return 1; }
  done
}

@test "rootfs: tiny is sound, small, and there is nothing to do a second time" {
  sound "$out/tiny"
  (($(du -sk "$out/tiny" | cut -f 1) < 4096))
  before=$(stat -c '%i %y' "$out/tiny" "$out/tiny.ext4")
  same "$("$BATS_TEST_DIRNAME/rootfs" tiny 2>&1)" "" words
  same "$(stat -c '%i %y' "$out/tiny" "$out/tiny.ext4")" "$before" "what is there"
}

# A copy of what it takes, in a place of its own.
project() {
  mkdir -p "$tmp/p/tests/lab" "$tmp/p/tools" "$tmp/p/build"
  cp "$BATS_TEST_DIRNAME"/rootfs{,.init} "$tmp/p/tests/lab/"
  cp "$root/tools/deps" "$tmp/p/tools/"
  p=$tmp/p/build/rootfs
}

@test "rootfs: another init is another recipe; two callers at once make one; a failure leaves nothing" {
  project
  "$tmp/p/tests/lab/rootfs" tiny 2>"$tmp/a" & "$tmp/p/tests/lab/rootfs" tiny 2>"$tmp/b"
  wait
  same "$(cat "$tmp/a" "$tmp/b" | wc -l)" 1 "lines of two callers"
  before=$(stat -c '%i %y' "$p/tiny.ext4")
  echo '# changed' >>"$tmp/p/tests/lab/rootfs.init"
  "$tmp/p/tests/lab/rootfs" tiny
  [ "$(stat -c '%i %y' "$p/tiny.ext4")" != "$before" ]
  grep -q '^# changed' "$p/tiny/sbin/init"

  # mke2fs fails: what was there stays, and is known to be old.
  mkdir "$tmp/bin"
  printf '#!/bin/sh\nexit 3\n' >"$tmp/bin/mke2fs"
  chmod 755 "$tmp/bin/mke2fs"
  before=$(stat -c '%i %y' "$p/tiny.ext4")
  echo '# once more' >>"$tmp/p/tests/lab/rootfs.init"
  status=0
  PATH=$tmp/bin:$PATH "$tmp/p/tests/lab/rootfs" tiny 2>"$tmp/err" || status=$?
  same "$status" 1 status
  grep -q '^rootfs: tiny: failed' "$tmp/err"
  same "$(stat -c '%i %y' "$p/tiny.ext4")" "$before" "what is there"
  same "$(ls "$p")" "$(printf '%s\n' tiny tiny.ext4 tiny.lock tiny.log tiny.recipe)" "files"
  "$tmp/p/tests/lab/rootfs" tiny
  grep -q '^# once more' "$p/tiny/sbin/init"

  status=0
  "$tmp/p/tests/lab/rootfs" other 2>"$tmp/err" || status=$?
  same "$status" 2 "status of a name it does not know"
}

@test "rootfs: tiny needs no root, and belongs to root all the same" {
  [ "$(id -u)" = 0 ] || skip "is somebody else already: the other tests show it"
  project
  chmod o+x "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR/test" "$BATS_TEST_TMPDIR"
  chown -R 65534:65534 "$tmp/p"
  setpriv --reuid 65534 --regid 65534 --clear-groups "$tmp/p/tests/lab/rootfs" tiny
  same "$(stat -c %u "$p/tiny.ext4")" 65534 "the image's owner"
  sound "$p/tiny"
  status=0
  setpriv --reuid 65534 --regid 65534 --clear-groups "$tmp/p/tests/lab/rootfs" debian 2>"$tmp/err" ||
    status=$?
  same "$status" 1 status
  same "$(cat "$tmp/err")" "rootfs: debian: debootstrap needs root" message
}

@test "rootfs: debian is sound and has its programs" {
  [ -e "$out/debian.recipe" ] || skip "not made yet: tests/lab/rootfs debian, some minutes"
  e2fsck -fn "$out/debian.ext4"
  for f in fio iperf3 mke2fs socat python3 stress-ng busybox bash; do
    chroot "$out/debian" sh -c "command -v $f"
  done
  cmp "$out/debian/sbin/init" "$BATS_TEST_DIRNAME/rootfs.init"
}
