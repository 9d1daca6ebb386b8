/* The memory map that the guest is told. */
#ifndef MAYFLY_BOOT_E820_H
#define MAYFLY_BOOT_E820_H

#include <asm/bootparam.h>
#include <stdbool.h>

#include "core/gmem.h"

#define E820_MAX 4

enum e820_type { E820_RAM = 1, E820_ACPI = 3 }; /* ACPI 6.3, table 15-374 */

/* Ascending entries into map; with acpi the tables' place is one of them. Their number. */
int e820_build(const struct gmem *m, bool acpi, struct boot_e820_entry map[E820_MAX]);

#endif
