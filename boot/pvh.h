/* PVH's hvm_start_info, for a kernel started by its Xen note. */
#ifndef MAYFLY_BOOT_PVH_H
#define MAYFLY_BOOT_PVH_H

#include <stdint.h>

#include "boot/zeropage.h"
#include "core/gmem.h"

/* Xen: public/arch-x86/hvm/start_info.h; all little-endian. */
#define PVH_MAGIC   UINT32_C(0x336ec578)
#define PVH_VERSION 1

struct pvh_start_info {
    uint32_t magic, version, flags, nr_modules;
    uint64_t modlist, cmdline, rsdp;
    uint64_t memmap; /* version 1 on */
    uint32_t memmap_entries, reserved;
};
struct pvh_module {
    uint64_t addr, size, cmdline, reserved;
};
struct pvh_memmap {
    uint64_t addr, size;
    uint32_t type, reserved;
};

/* Writes it, the module list and the map to LAYOUT_PVH. m has at least 1 MiB. */
void pvh_build(struct gmem *m, const struct boot_info *b);

#endif
