/* The kernel's command line. */
#ifndef MAYFLY_BOOT_CMDLINE_H
#define MAYFLY_BOOT_CMDLINE_H

#include <stddef.h>

#include "boot/boot.h"

/* Writes it with its NUL to buf[0..cap). limit is what the kernel takes, without the NUL. 0,
 * or -errno with *e: it is too long, or would announce the devices twice. */
int cmdline_build(const struct boot_config *c, char *buf, size_t cap, size_t limit, struct err *e);

#endif
