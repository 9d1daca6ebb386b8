/* Prints what the guest was given: memory map, ACPI tables, seed, initrd, command line; and writes
 * and reads back at both ends of all RAM. By the PVH entry the same comes from the start info. */
#include "lib/virtio.h"

#define E820_RAM 1
#define RAM_MAX  16
#define GIB      (UINT64_C(1) << 30)
#define HIGH     4 /* GiB: where the loader's page tables end */
#define HIGH_GIB 3 /* how many more are mapped here */

struct range {
    uint64_t addr, size;
};

static struct range ram[RAM_MAX];
static unsigned n_ram;

static uint32_t zero32(unsigned off)
{
    return read32((uintptr_t)zero_page + off);
}

static uint64_t info64(unsigned off)
{
    return read64((uintptr_t)start_info + off);
}

static void map_entry(uint64_t addr, uint64_t size, uint32_t type)
{
    print("map %lx %lx %u\n", addr, size, type);
    if (type == E820_RAM && n_ram < RAM_MAX)
        ram[n_ram++] = (struct range){ addr, size };
}

/* boot.rst: e820_entries and e820_table; start_info.h: memmap_paddr. */
static void tell_map(void)
{
    if (zero_page) {
        for (unsigned i = 0; i < zero_page[0x1e8]; i++) {
            uint64_t e = (uintptr_t)zero_page + 0x2d0 + UINT64_C(20) * i;

            map_entry(read64(e), read64(e + 8), read32(e + 16));
        }
        return;
    }
    for (unsigned i = 0; i < (uint32_t)info64(48); i++) {
        uint64_t e = info64(40) + UINT64_C(24) * i;

        map_entry(read64(e), read64(e + 8), read32(e + 16));
    }
}

/* Pages of 2 MiB behind those that the loader mapped. */
static void map_high(void)
{
    static uint64_t pd[HIGH_GIB][512] __attribute__((aligned(4096)));
    uint64_t cr3;

    __asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
    uint64_t *pml4 = at(cr3 & ~UINT64_C(0xfff)), *pdpt = at(pml4[0] & ~UINT64_C(0xfff));

    for (unsigned g = 0; g < HIGH_GIB; g++) {
        for (unsigned i = 0; i < 512; i++)
            pd[g][i] = ((HIGH + g) * GIB + i * UINT64_C(0x200000)) | 0x83;
        pdpt[HIGH + g] = (uintptr_t)pd[g] | 3;
    }
}

/* The last bytes of each range of RAM, and the first where nobody uses them. All are written, then
 * all read: two of them may not be the same. */
static void tell_edges(void)
{
    unsigned bad_edges = 0;

    map_high();
    for (unsigned i = 0; i < n_ram; i++) {
        write64(ram[i].addr + ram[i].size - 8, 0x1111111111111111 * (i + 1));
        if (ram[i].addr >= 4 * GIB)
            write64(ram[i].addr, UINT64_C(0x0123456789abcdef) + i);
    }
    for (unsigned i = 0; i < n_ram; i++) {
        bad_edges += read64(ram[i].addr + ram[i].size - 8) !=
                     UINT64_C(0x1111111111111111) * (i + 1);
        if (ram[i].addr >= 4 * GIB)
            bad_edges += read64(ram[i].addr) != UINT64_C(0x0123456789abcdef) + i;
    }
    print("edges %u bad\n", bad_edges);
    const struct range *last = &ram[n_ram - 1];

    print("behind RAM %lx\n", read64(last->addr + last->size));
}

static uint8_t sum8(uint64_t addr, uint32_t len)
{
    uint8_t sum = 0;

    for (uint32_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + read8(addr + i));
    return sum;
}

static void tell_table(uint64_t addr)
{
    const char *s = at(addr);

    print("table %c%c%c%c length %u sum %u\n", s[0], s[1], s[2], s[3], read32(addr + 4),
          sum8(addr, read32(addr + 4)));
}

static void tell_acpi(void)
{
    uint64_t rsdp = zero_page ? zero32(0x70) : info64(32);

    if (!rsdp) {
        print("no rsdp\n");
        return;
    }
    print("rsdp revision %u sums %u %u\n", read8(rsdp + 15), sum8(rsdp, 20), sum8(rsdp, 36));
    uint64_t xsdt = read64(rsdp + 24);
    uint32_t n = (read32(xsdt + 4) - 36) / 8;

    tell_table(xsdt);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t table = read64(xsdt + 36 + UINT64_C(8) * i);

        tell_table(table);
        if (read32(table) == 0x50434146) { /* FACP: X_DSDT, reset register, sleep registers */
            tell_table(read64(table + 140));
            print("reset %lx value %u sleep %lx %lx\n", read64(table + 120), read8(table + 128),
                  read64(table + 248), read64(table + 260));
        }
        if (read32(table) == 0x43495041) { /* APIC: 8 bytes for each vCPU, 12 for the IOAPIC */
            print("madt local apics %u\n", (read32(table + 4) - 44 - 12) / 8);
        }
    }
}

/* boot.rst: struct setup_data, a list; type 9 is the seed. */
static void tell_seed(void)
{
    uint64_t d = read64((uintptr_t)zero_page + 0x250);

    for (; d; d = read64(d)) {
        print("setup_data type %u length %u ", read32(d + 8), read32(d + 12));
        for (uint32_t i = 0; i < read32(d + 12) && i < 32; i++)
            print("%02x", read8(d + 16 + i));
        print("\n");
    }
}

static void tell_initrd(void)
{
    uint64_t addr, size;
    uint32_t sum = 0;

    if (zero_page) {
        addr = zero32(0x218);
        size = zero32(0x21c);
    } else { /* start_info.h: nr_modules, modlist_paddr */
        print("start info version %u modules %u\n", (uint32_t)(info64(0) >> 32),
              (uint32_t)(info64(8) >> 32));
        addr = info64(8) >> 32 ? read64(info64(16)) : 0;
        size = info64(8) >> 32 ? read64(info64(16) + 8) : 0;
    }
    for (uint64_t i = 0; i < size; i++)
        sum = (sum * 31 + read8(addr + i)) & 0xffffff;
    print("initrd size %lu checksum %06x page offset %lu\n", size, sum, addr % 4096);
    if (size)
        print("initrd ends in RAM %u\n",
              addr + size <= ram[1].addr + ram[1].size && addr >= ram[1].addr);
}

void guest_main(void)
{
    console_start(0);
    print("entry %s\n", zero_page ? "64-bit" : "pvh");
    if (zero_page)
        print("header %x %x loader %x\n", read16((uintptr_t)zero_page + 0x1fe), zero32(0x202),
              zero_page[0x210]);
    else
        print("magic %x\n", (uint32_t)info64(0));
    print("command line [%s]\n", command_line);
    tell_map();
    tell_acpi();
    if (zero_page)
        tell_seed();
    tell_initrd();
    tell_edges();
}
