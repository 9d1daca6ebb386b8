#!/usr/bin/env bats
# Guest memory, from what just boots to both sides of the hole under 4 GiB.

load lib.bash

MIB=$((1 << 20))

tell_memory() {
  guest "$1" <<'EOF'
grep MemTotal /proc/meminfo
dmesg | grep BIOS-e820
EOF
}

# judge NAME MIB: the memory map is exact; MemTotal lacks what the kernel itself takes: about
# 45 MiB and a 64th of all.
judge() {
  local name=$1 size=$(($2 * MIB)) low total
  ended "$name" 0 "$OFF"
  low=$((size < 3 << 30 ? size : 3 << 30))
  {
    printf 'BIOS-e820: [mem 0x%016x-0x%016x] %s\n' 0 0x9fbff usable \
      0xe0000 0xfffff 'ACPI data' 0x100000 $((low - 1)) usable
    if ((size > low)); then
      printf 'BIOS-e820: [mem 0x%016x-0x%016x] usable\n' $((4 << 30)) $(((1 << 30) + size - 1))
    fi
  } >"$tmp/$name.map"
  sed -n 's/.*\] BIOS-e820/BIOS-e820/p' "$tmp/$name.out" | diff -u "$tmp/$name.map" -
  total=$(($(value "$name" MemTotal | tr -dc 0-9) / 1024))
  say "$2 MiB: MemTotal is $total MiB"
  ((total <= $2 && total >= $2 - 50 - $2 / 60)) || fail "MemTotal of $2 MiB is $total MiB"
}

@test "memory: 96 MiB with an initrd, 128 MiB, 3 GiB and around: map and total" {
  for m in 96 128 3072 3073 4096 5120; do tell_memory "m$m"; done
  boot m96 --memory 96M & boot m128 --memory 128M
  wait
  boot m3072 --memory 3G & boot m3073 --memory 3073M
  wait
  boot m4096 --memory 4G & boot m5120 --memory 5G
  wait
  for m in 96 128 3072 3073 4096 5120; do judge "m$m" "$m"; done
}

@test "memory: pages on both sides of the hole are written and found again" {
  # 256 MiB lie above 4 GiB: Linux takes from there first, then from below.
  guest touch <<'EOF'
echo "pages: $(memtouch 256)"
EOF
  boot touch --memory 3328M
  ended touch 0 "$OFF"
  read -r _ below _ above _ wrong <<<"$(value touch pages)"
  same "$wrong" 0 "pages that hold something else"
  ((below > 5000 && above > 20000)) || fail "below $below, above $above pages"
}

@test "memory: gigabytes on both sides of the hole are written and found again" {
  [ "$MAYFLY_LONG" ] || skip "moves 3 GiB: make check-long"
  guest touch <<'EOF'
echo "pages: $(memtouch 3072)"
EOF
  boot touch --memory 5G --timeout 5m
  ended touch 0 "$OFF"
  read -r _ below _ above _ wrong <<<"$(value touch pages)"
  same "$wrong" 0 "pages that hold something else"
  ((below > 200000 && above > 400000)) || fail "below $below, above $above pages"
}

# least NAME: the MiB that the refusal of NAME gives as the minimum.
least() { grep -oE 'at least [0-9]+ MiB' "$tmp/$1.err" | tr -dc 0-9; }

@test "memory: too little is refused with the minimum named, and the minimum boots" {
  for kind in vmlinux vmlinuz; do
    kernel=${!kind}
    guest "$kind" <<'EOF'
echo alive
EOF
    cp "$tmp/$kind.cpio" "$tmp/less.cpio"
    boot less --memory 40M
    refused less 125 "^mayfly: memory: 40 MiB is too little for kernel $kernel .*at least [0-9]+ MiB"
    least=$(least less)
    say "$kind: the minimum is $least MiB"
    boot "$kind" --memory "${least}M" &
  done
  wait
  for kind in vmlinux vmlinuz; do
    ended "$kind" 0 "$OFF"
    echo alive | said "$kind"
  done
}

# resident NAME FIELD: MiB of the process's memory by this field of smaps_rollup.
resident() { echo $(($(awk -v f="$1:" '$1 == f { print $2 }' "/proc/$pid/smaps_rollup") / 1024)); }

@test "memory: --prefault: all of it is there before the guest runs" {
  guest pre <<'EOF'
read -r line
EOF
  mkfifo "$tmp/ready"
  exec {ready}<>"$tmp/ready"
  start pre --memory 192M --prefault --ready-fd "$ready"
  read -r -n 1 -t 60 byte <&"$ready"
  same "$byte" R "byte on --ready-fd"
  rss=$(resident Rss)
  kill "$pid"; kill "$pid" # the second ends the guest at once
  finish pre
  same "$(cat "$tmp/pre.status")" 143 status
  ((rss >= 192)) || fail "resident: $rss MiB of 192"
}

@test "memory: --hugepages: from the host's pool, refused when that is empty" {
  pool=/proc/sys/vm/nr_hugepages
  [ -w "$pool" ] || skip "$pool can't be written"
  before=$(cat "$pool")
  taken=$(awk '/HugePages_Total/ { t = $2 } /HugePages_Free/ { f = $2 } END { print t - f }' /proc/meminfo)
  boot none --memory "$(((before + 64) * 2))M" --hugepages
  refused none 125 '^mayfly: memory: [0-9]+ huge pages of 2 MiB: .*: reserve them with sysctl vm.nr_hugepages=N$'
  boot odd --memory 129M --hugepages
  refused odd 125 '^mayfly: option --memory: 132096K is not a multiple of 2 MiB, which --hugepages needs: give'

  echo $((taken + 64)) >"$pool"
  got=$(cat "$pool")
  if ((got < taken + 64)); then
    echo "$before" >"$pool"
    skip "the host can't reserve 64 huge pages"
  fi
  guest huge <<'EOF'
echo alive
read -r line
EOF
  start huge --memory 128M --hugepages
  until_true 60 seen huge alive || { echo "$before" >"$pool"; cat "$tmp/huge.err"; false; }
  used=$(resident Private_Hugetlb)
  echo >&"$in"
  finish huge
  echo "$before" >"$pool"
  ended huge 0 "$OFF"
  say "$used of 128 MiB in huge pages once in userspace"
  ((used >= 32)) || fail "only $used MiB are in huge pages"
}
