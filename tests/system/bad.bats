#!/usr/bin/env bats
# What people give by mistake: one line that names the thing, the reason and the remedy, status
# 125, nothing left behind.

load lib.bash

# run_with KERNEL [OPTION...]: as a user would, with a file for the pid.
run_with() {
  run_to bad "$mayfly" run --timeout 20s --pidfile "$tmp/pid" --kernel "$@"
}

# A refusal, and none of what a run leaves while it runs.
refuses() {
  refused bad 125 "^mayfly: $1"
  [ ! -e "$tmp/pid" ] || fail "the pidfile was left"
}

@test "bad: files that are no kernel" {
  echo "just some text" >"$tmp/text"
  : >"$tmp/empty"
  mkdir "$tmp/dir"
  mkfifo "$tmp/fifo"
  # The header of an arm64 Image: a branch, "MZ", and its magic at 56.
  { printf 'MZ\0\221\377\377\377\24'; head -c 48 /dev/zero; printf 'ARM\144'; head -c 4096 /dev/zero; } >"$tmp/arm64"
  head -c 1000000 "$vmlinux" | gzip -1 >"$tmp/vmlinux.gz"
  { head -c 18 "$vmlinux"; printf '\267\0'; head -c 1000000 "$vmlinux" | tail -c +21; } >"$tmp/elf-arm64"
  while IFS='|' read -r path why; do
    run_with "$path"
    refuses "kernel $path: $why"
  done <<EOF
$tmp/nothing|No such file or directory: give the path
$tmp/text|is neither a bzImage nor an ELF file: give Linux's vmlinuz
$tmp/empty|is empty:
$tmp/dir|is a directory: give a regular file
$tmp/fifo|is a pipe: give a regular file
/dev/null|is a character device: give a regular file
/dev/zero|is a character device: give a regular file
$tmp/arm64|is an arm64 image: give a kernel built for x86_64
$tmp/elf-arm64|is an ELF file for arm64: give one for x86_64
$tmp/vmlinux.gz|is compressed with gzip: unpack it with gzip -d
$initrd|is an initrd \(cpio\): give it with --initrd
EOF
}

@test "bad: kernels cut short at many lengths" {
  for kind in vmlinuz vmlinux; do
    size=$(stat -c %s "${!kind}")
    lengths=(1 3 63 64 512 513 530 617 4096 $((size / 2)))
    # At its very end a vmlinuz has a signature, an extracted vmlinux its section table, which no
    # one needs here.
    [ "$kind" = vmlinux ] || lengths+=($((size - 65536)))
    for n in "${lengths[@]}"; do
      head -c "$n" "${!kind}" >"$tmp/cut"
      run_with "$tmp/cut"
      refuses "kernel $tmp/cut: (is|has|its|ends) .*: [a-z]+"
    done
  done
}

@test "bad: a damaged kernel ends in a clean way, and not in silence" {
  # 64 KiB of noise, in the compressed payload and in the code.
  for kind in vmlinuz vmlinux; do
    cp "${!kind}" "$tmp/$kind"
    "$noise" 65536 9 | dd of="$tmp/$kind" conv=notrunc bs=65536 seek=80 status=none
    kernel=$tmp/$kind boot "$kind" --timeout 10s &
  done
  wait
  for kind in vmlinuz vmlinux; do
    show "$kind"
    mapfile -t err <"$tmp/$kind.err"
    matches "$(<"$tmp/$kind.status")" '^(70|71|124)$' status
    matches "${err[0]}" "^mayfly: the guest never used its console" "first line"
    matches "${err[-1]}" \
      "^(mayfly: the guest triple-faulted: .* RIP 0x.*|$PANICKED|$TIMED_OUT)$" "last line"
    [ ! -s "$tmp/$kind.out" ]
    say "damaged $kind: ${err[-1]}"
  done
}

@test "bad: initrds, sizes, numbers, places" {
  : >"$tmp/empty"
  truncate -s 300M "$tmp/large"
  truncate -s 4G "$tmp/huge"
  while IFS='|' read -r options why; do
    # shellcheck disable=SC2086 # words, meant to split
    run_with "$vmlinux" $options
    refuses "$why"
  done <<EOF
--initrd $tmp/nothing|initrd $tmp/nothing: No such file or directory: give
--initrd $tmp|initrd $tmp: is a directory: give a regular file
--initrd $tmp/empty|initrd $tmp/empty: is empty:
--initrd $initrd --initrd $tmp/large|memory: 256 MiB is too little for kernel $vmlinux .* initrds .* at least [0-9]+ MiB
--memory 8G --initrd $tmp/huge|memory: kernel $vmlinux and its initrds need more than the 3072 MiB .*: make them smaller
--cpus 0|option --cpus: 0 is not between 1 and 64: give
--cpus 1000|option --cpus: 1000 is not between 1 and 64: give
--cpus 2 --mmio-cmdline|option --mmio-cmdline: without ACPI a guest finds one vCPU, not 2: leave out --cpus
--memory 0|option --memory: 0 is not between 1M and 1T: give
--memory lots|option --memory: "lots" is not a size: give
--memory 2T|option --memory: 2T is not between 1M and 1T: give
--console file:$tmp/none/console|console file $tmp/none/console: No such file or directory: give
--console file:$tmp|console file $tmp: Is a directory: give
--log-file $tmp/none/log|log file $tmp/none/log: No such file or directory: give
--ready-fd 77|option --ready-fd: descriptor 77 is not open: pass
--entry bios|option --entry: "bios" is not one of auto.elf.pvh: leave
EOF
  run_to bad "$mayfly" run --kernel "$vmlinux" --pidfile "$tmp/none/pid"
  refused bad 125 "^mayfly: pidfile $tmp/none/pid: No such file or directory: give"
  run_to bad "$mayfly" run
  refused bad 125 '^mayfly: option --kernel: .*: name a bzImage or vmlinux'
  run_to bad "$mayfly" run --kernel "$vmlinuz" --entry pvh
  refused bad 125 "^mayfly: kernel $vmlinuz: is a bzImage, which has no PVH entry: leave out --entry"
}

@test "bad: no /dev/kvm, one that is something else, and no right to it" {
  [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null || skip "needs mount namespaces and root"
  inside() { run_to bad unshare -m sh -c "$1; exec \"\$@\" $mayfly run --kernel $vmlinux"; }
  inside 'mount -t tmpfs none /dev'
  refuses '/dev/kvm: No such file or directory: load kvm_intel or kvm_amd'
  inside 'mount --bind /dev/null /dev/kvm'
  refuses '/dev/kvm: it is not KVM'
  # A name that only root may open, as someone who is not.
  : >"$tmp/kvm"
  chmod 600 "$tmp/kvm"
  inside "mount --bind $tmp/kvm /dev/kvm; set -- setpriv --reuid 65534 --clear-groups"
  refuses '/dev/kvm: Permission denied: become a member of the group kvm'
}

@test "bad: a refusal leaves the terminal as it was" {
  type script >/dev/null || skip "no script(1) here"
  cat >"$tmp/session" <<EOF
stty rows 33 cols 101
before=\$(stty -g)
"$mayfly" run --kernel "$vmlinux" --memory 40M
echo "status \$?"
[ "\$(stty -g)" = "\$before" ] && echo restored
EOF
  run timeout 60 script -qec "bash $tmp/session" /dev/null </dev/null
  echo "$output"
  [[ $output == *"is too little"*"status 125"*restored* ]]
}
