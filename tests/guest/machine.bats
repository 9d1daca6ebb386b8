# The machine that a guest finds: vCPUs, memory, tables, initrd, command line, ways in.
load helper

@test "vCPUs come up by INIT and SIPI, one package, ids in order" {
    local n shift
    for n in 1:0 4:2 3:2 64:6; do
        shift=${n#*:} n=${n%:*}
        guest smp -c "$n" -a "cpus=$n"
        [ "$status" -eq 0 ]
        for ((i = 0; i < n; i++)); do
            echo "cpu $i: apic $i leaf1 $i leafb $i x2apic $i shift $shift cores $n types 0102"
        done | cmp - out
    done
}

@test "all vCPUs at the device at once: it neither hangs nor breaks" {
    local n
    for n in 1 2 4; do
        guest race -c "$n" -a "cpus=$n"
        [ "$status" -eq 0 ]
        says "$n vCPUs done"
    done
}

@test "the memory map: 96 MiB, 3 GiB, and 5 GiB with its hole" {
    guest facts -m 96M
    says "map 0 9fc00 1"
    says "map e0000 20000 3"
    says "map 100000 5f00000 1"
    [ "$(grep -c ^map out)" -eq 3 ]
    guest facts -m 3G
    says "map 100000 bff00000 1"
    [ "$(grep -c ^map out)" -eq 3 ]
    guest facts -m 5G
    says "map 100000 bff00000 1"
    says "map 100000000 80000000 1"
    [ "$(grep -c ^map out)" -eq 4 ]
}

@test "all of it is there, and nothing behind it" {
    local m
    for m in 96M 3G 5G; do
        guest facts -m "$m"
        [ "$status" -eq 0 ]
        says "edges 0 bad"
        says "behind RAM ffffffffffffffff"
    done
}

@test "ACPI: checksums, lengths, registers, a local APIC for each vCPU" {
    guest facts -c 5
    says "rsdp revision 2 sums 0 0"
    says "table XSDT length 52 sum 0"
    says "table FACP length 276 sum 0"
    grep -qE '^table DSDT length [0-9]+ sum 0$' out
    says "table APIC length $((44 + 12 + 5 * 8)) sum 0"
    says "madt local apics 5"
    says "reset 602 value 1 sleep 600 601"
}

@test "a seed for the random generator, another one each time" {
    guest facts
    grep '^setup_data type 9 length 32 ' out >first
    guest facts
    grep '^setup_data type 9 length 32 ' out >second
    ! cmp -s first second || false
    [ "$(grep -o ' [0-9a-f]*$' first | tr -d ' \n' | wc -c)" -eq 64 ]
    ! grep -E '0{32}' first second || false
}

@test "initrds: one behind the other, padded to 4 bytes" {
    head -c 1001 /dev/urandom >a
    head -c 50 /dev/urandom >b
    head -c 4 /dev/urandom >c
    { cat a; printf '\0\0\0'; cat b; printf '\0\0'; cat c; } >all
    guest facts -i a -i b -i c
    says "initrd size 1060 checksum $(checksum <all) page offset 0"
    says "initrd ends in RAM 1"
    guest facts
    says "initrd size 0 checksum 000000 page offset 0"
}

@test "the command line: default, added to, raw, for kernels without ACPI" {
    local default="console=hvc0 panic=-1 reboot=panic_warm pci=off 8250.nr_uarts=0 swiotlb=noforce"
    guest facts
    says "command line [$default]"
    guest facts -a "quiet x=1" -a "-- single"
    says "command line [$default quiet x=1 -- single]"
    guest facts --cmdline-raw "just this"
    says "command line [just this]"
    guest facts --mmio-cmdline -a quiet
    says "command line [$default acpi=off initcall_blacklist=i8042_init\
 virtio_mmio.device=4K@0xd0000000:5 quiet]"
    says "no rsdp"
    [ "$(grep -c ^map out)" -eq 2 ]
}

@test "the 64-bit entry gets a zero page" {
    guest facts
    says "entry 64-bit"
    says "header aa55 53726448 loader ff"
}

@test "the PVH entry gets start info, memory map, modules, command line, tables" {
    head -c 1001 /dev/urandom >a
    { cat a; printf '\0\0\0'; } >all
    guest facts --entry=pvh -i a -m 5G -a quiet
    [ "$status" -eq 0 ]
    says "entry pvh"
    says "magic 336ec578"
    says "command line [console=hvc0 panic=-1 reboot=panic_warm pci=off 8250.nr_uarts=0 swiotlb=noforce quiet]"
    says "map 100000000 80000000 1"
    says "rsdp revision 2 sums 0 0"
    says "start info version 1 modules 1"
    says "initrd size 1004 checksum $(checksum <all) page offset 0"
    guest facts --entry=pvh
    says "start info version 1 modules 0"
}

@test "PVH is found where there is no other way, and refused where there is none" {
    guest facts-pvh
    [ "$status" -eq 0 ]
    says "entry pvh"
    guest facts-pvh --entry=elf
    [ "$status" -eq 125 ]
    tells "its entry 0 is no physical address of a segment: try --entry=pvh"
}

@test "too little memory: the least is named, and is enough" {
    head -c 20000000 /dev/zero >a
    guest facts -m 16M -i a
    [ "$status" -eq 125 ]
    [ "$(wc -l <err)" -eq 1 ]
    local least=$(sed -n 's/.*give --memory at least \([0-9]*\) MiB$/\1/p' err)
    local fits=$(sed -n 's/.*, \([0-9]*\) MiB to be loaded: .*/\1/p' err)
    between 20 24 "$fits"
    between "$fits" 46 "$least"
    # Its own arithmetic on 20 MB would take the emulated guest long: hello will do.
    guest hello -m "$least" -i a
    [ "$status" -eq 0 ]
    guest hello -m "$fits" -i a
    [ "$status" -eq 0 ]
    guest hello -m "$((fits - 1))" -i a
    [ "$status" -eq 125 ]
}
