/* The ACPI tables of a machine without legacy hardware. */
#ifndef MAYFLY_BOOT_ACPI_H
#define MAYFLY_BOOT_ACPI_H

#include "boot/boot.h"

#define ACPI_LAPIC_ADDR  UINT32_C(0xfee00000)
#define ACPI_IOAPIC_ADDR UINT32_C(0xfec00000)

/* Writes RSDP (first, at LAYOUT_ACPI), DSDT, FADT, MADT and XSDT. m has at least 1 MiB. 0, or
 * -ENOSPC with *e. */
int acpi_build(struct gmem *m, const struct boot_config *c, struct err *e);

/* What makes the bytes of a table, this one still 0, add up to 0. */
uint8_t acpi_checksum(const void *data, size_t len);

#endif
