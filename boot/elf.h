/* A kernel as an ELF file: Linux's vmlinux, or any freestanding program linked for it. */
#ifndef MAYFLY_BOOT_ELF_H
#define MAYFLY_BOOT_ELF_H

#include <stddef.h>
#include <stdint.h>

#include "boot/kernel.h"

/* Fills *k, whose file is open and begins with head[0..len), an ELF magic among them.
 *
 * AUTO takes the 64-bit entry (e_entry, with the zero page in RSI and the state of Linux's 64-bit
 * boot protocol) when e_entry lies inside a segment's physical range, else the entry that a
 * XEN_ELFNOTE_PHYS32_ENTRY note names. 0 or -errno with *e. */
int elf_parse(struct kernel *k, const uint8_t *head, size_t len, enum boot_entry entry,
              struct err *e);

#endif
