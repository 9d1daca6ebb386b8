/* Linux's zero page, struct boot_params, for the 64-bit entries. */
#ifndef MAYFLY_BOOT_ZEROPAGE_H
#define MAYFLY_BOOT_ZEROPAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "boot/kernel.h"
#include "core/gmem.h"

/* What either way of starting tells the kernel, beside the memory map. */
struct boot_info {
    uint64_t initrd, initrd_size; /* guest-physical; size 0 without one */
    bool acpi;                    /* tables are at LAYOUT_ACPI */
};

/* Writes it to LAYOUT_ZERO_PAGE and the seed to LAYOUT_SETUP. m has at least 1 MiB. */
void zeropage_build(struct gmem *m, const struct setup_header *hdr, const struct boot_info *b,
                    const uint8_t seed[BOOT_SEED_LEN]);

#endif
