/* The MP table of a machine without ACPI. */
#ifndef MAYFLY_BOOT_MPTABLE_H
#define MAYFLY_BOOT_MPTABLE_H

#include "core/gmem.h"

/* Writes it at LAYOUT_MPTABLE. m has at least 1 MiB. */
void mptable_build(struct gmem *m);

#endif
