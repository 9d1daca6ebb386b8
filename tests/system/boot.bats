#!/usr/bin/env bats
# Debian's own kernel, every way in: bzImage, ELF entry, PVH; to userspace and back.

load lib.bash

# What the guest says, and Mayfly at its end, is known to the byte.
lines() {
  guest "$1" <<'EOF'
echo "kernel $(uname -r)"
printf 'tab\tbyte \001\377, no newline at the end'
EOF
}

boots() {
  lines "$1"
  boot "$1" "${@:2}"
}

judge() {
  ended "$1" 0 "$OFF"
  printf 'kernel %s\ntab\tbyte \001\377, no newline at the end' \
    "$(cat "$root/build/debian/cloud/release")" | said "$1"
}

@test "boot: bzImage, vmlinux by its ELF entry and by PVH; console lines are exact" {
  kernel=$vmlinuz boots bzimage &
  boots elf --entry elf
  boots pvh --entry pvh
  wait
  for way in bzimage elf pvh; do judge "$way"; done
}

@test "boot: several initrds are one, each at a multiple of 4 bytes" {
  guest many <<'EOF'
cat /odd1 /odd2
EOF
  # Archives whose lengths are no multiple of 4, the first compressed.
  (cd "$tmp" && echo one >odd1 && echo two >odd2 &&
    echo odd1 | cpio -o -H newc --quiet | gzip >1.gz &&
    echo odd2 | cpio -o -H newc --quiet >2.cpio)
  while (($(stat -c %s "$tmp/1.gz") % 4 == 0)); do printf '\0' >>"$tmp/1.gz"; done
  boot many --initrd "$tmp/1.gz" --initrd "$tmp/2.cpio"
  ended many 0 "$OFF"
  printf 'one\ntwo\n' | said many
}

@test "boot: the random generator is seeded before userspace; no two boots are alike" {
  guest seed1 <<'EOF'
cat /proc/sys/kernel/random/uuid
dmesg
EOF
  cp "$tmp/seed1.cpio" "$tmp/seed2.cpio"
  boot seed1 & boot seed2
  wait
  for name in seed1 seed2; do
    ended "$name" 0 "$OFF"
    # Credited by the boot loader's seed: long before anything else could fill the pool.
    grep -n 'crng init done' "$tmp/$name.out"
    sed '/Run \/init as init process/q' "$tmp/$name.out" | grep -q 'random: crng init done'
  done
  a=$(head -n 1 "$tmp/seed1.out") b=$(head -n 1 "$tmp/seed2.out")
  matches "$a" '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' uuid
  [ "$a" != "$b" ] || fail "two boots, one uuid: $a"
}

@test "boot: mayfly probe says that Linux boots here" {
  run -0 "$mayfly" probe
  echo "$output"
  same "${lines[-1]}" 'Linux will boot on this host.' verdict
}
