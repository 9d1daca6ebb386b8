/* Linux's bzImage, entered by the 64-bit boot protocol. */
#ifndef MAYFLY_BOOT_BZIMAGE_H
#define MAYFLY_BOOT_BZIMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boot/kernel.h"

/* Whether the first len bytes of a file look like one. */
bool bzimage_is(const uint8_t *head, size_t len);

/* Fills *k, whose file is open and begins with head[0..len). 0 or -errno with *e. */
int bzimage_parse(struct kernel *k, const uint8_t *head, size_t len, enum boot_entry entry,
                  struct err *e);

#endif
