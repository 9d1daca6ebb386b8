/* The last words of a guest whose console never came up: its printk log, found in its memory. */
#ifndef MAYFLY_BOOT_KLOG_H
#define MAYFLY_BOOT_KLOG_H

#include <stddef.h>

#include "core/gmem.h"

/* Copies the last lines of Linux's log, at most max bytes and whole lines where possible, each with
 * its newline, to out; no NUL. Only printable ASCII comes out. How many bytes; 0 when no log was
 * found. The guest must have stopped. Reads at most KLOG_SCAN_MAX bytes and makes no page present;
 * calls mincore(). Main thread. */
size_t klog_find(const struct gmem *m, char *out, size_t max);

#define KLOG_SCAN_MAX (8 * GIB)

#endif
