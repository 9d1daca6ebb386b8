/* The first vCPU's start: descriptors, page tables, registers. */
#ifndef MAYFLY_BOOT_CPUSTATE_H
#define MAYFLY_BOOT_CPUSTATE_H

#include "boot/boot.h"

/* Writes GDT and page tables to their places in layout.h and fills *s. m has at least 1 MiB. */
void cpustate_build(struct gmem *m, enum boot_mode mode, uint64_t entry, struct boot_state *s);

#endif
