/* Where the loader puts things below 1 MiB: the one map of them.
 *
 *   00000  interrupt vectors and BIOS data: left zero; the word at 0x472 is the guest's word on
 *          how it resets (power.h)
 *   01000  GDT
 *   06000  stack of the first vCPU, one page, growing down from 07000
 *   07000  zero page, struct boot_params (64-bit entries)
 *   08000  hvm_start_info, its module list and memory map (PVH)
 *   09000  PML4, 0a000 PDPT, 0b000 four page directories
 *   0f000  setup_data: the seed of the guest's random generator
 *   10000  command line, 64 KiB
 *   20000  free RAM. Linux puts its 32-bit and SMP trampolines under 9f000
 *   9fc00  end of usable low memory, where PC firmware has always put it
 *   a0000  RAM that the memory map does not mention, as on a PC
 *   e0000  ACPI tables, up to 100000; without ACPI
 *   f0000  the MP table, one of the places where it is looked for
 *  100000  RAM: the kernel's own range and, high up, the initrds (boot.c)
 *
 * The loader wants fresh memory, all zero, and writes only what is not zero. What Linux still needs
 * of this once it runs, it copies or reserves before it gives the pages away.
 */
#ifndef MAYFLY_BOOT_LAYOUT_H
#define MAYFLY_BOOT_LAYOUT_H

#define LAYOUT_WARM_WORD     0x472
#define LAYOUT_GDT           0x1000
#define LAYOUT_GDT_LEN       0x1000
#define LAYOUT_STACK         0x6000
#define LAYOUT_STACK_TOP     0x7000
#define LAYOUT_ZERO_PAGE     0x7000
#define LAYOUT_ZERO_PAGE_LEN 0x1000
#define LAYOUT_PVH           0x8000
#define LAYOUT_PVH_LEN       0x1000
#define LAYOUT_PML4          0x9000
#define LAYOUT_PDPT          0xa000
#define LAYOUT_PD            0xb000
#define LAYOUT_PD_COUNT      4 /* one for each GiB below 4 GiB */
#define LAYOUT_SETUP         0xf000
#define LAYOUT_SETUP_LEN     0x1000
#define LAYOUT_CMDLINE       0x10000
#define LAYOUT_CMDLINE_LEN   0x10000
#define LAYOUT_LOW_RAM_END   0x9fc00
#define LAYOUT_ACPI          0xe0000
#define LAYOUT_ACPI_LEN      0x20000
#define LAYOUT_MPTABLE       0xf0000
#define LAYOUT_KERNEL_MIN    0x100000 /* nothing of a kernel or initrd goes below */

#define LAYOUT_BEFORE(end, next) _Static_assert((end) <= (next), #end " runs into " #next)
LAYOUT_BEFORE(LAYOUT_WARM_WORD + 2, LAYOUT_GDT);
LAYOUT_BEFORE(LAYOUT_GDT + LAYOUT_GDT_LEN, LAYOUT_STACK);
LAYOUT_BEFORE(LAYOUT_STACK_TOP, LAYOUT_ZERO_PAGE);
LAYOUT_BEFORE(LAYOUT_ZERO_PAGE + LAYOUT_ZERO_PAGE_LEN, LAYOUT_PVH);
LAYOUT_BEFORE(LAYOUT_PVH + LAYOUT_PVH_LEN, LAYOUT_PML4);
LAYOUT_BEFORE(LAYOUT_PML4 + 0x1000, LAYOUT_PDPT);
LAYOUT_BEFORE(LAYOUT_PDPT + 0x1000, LAYOUT_PD);
LAYOUT_BEFORE(LAYOUT_PD + LAYOUT_PD_COUNT * 0x1000, LAYOUT_SETUP);
LAYOUT_BEFORE(LAYOUT_SETUP + LAYOUT_SETUP_LEN, LAYOUT_CMDLINE);
LAYOUT_BEFORE(LAYOUT_CMDLINE + LAYOUT_CMDLINE_LEN, LAYOUT_LOW_RAM_END);
LAYOUT_BEFORE(LAYOUT_LOW_RAM_END, LAYOUT_ACPI);
LAYOUT_BEFORE(LAYOUT_ACPI + LAYOUT_ACPI_LEN, LAYOUT_KERNEL_MIN);

#endif
