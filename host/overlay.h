/* Which sectors of a disk lie in its private file, and which still in the base image.
 *
 * One bit a sector, in anonymous memory that costs nothing until it is touched. What the guest
 * wrote, zeroed or discarded is in the private file at the same offset (a hole there reads as
 * zeros); everything else is in the base, which is never written. One thread.
 */
#ifndef MAYFLY_HOST_OVERLAY_H
#define MAYFLY_HOST_OVERLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

struct overlay {
    uint64_t *bits;
    uint64_t sectors;
    size_t map_len;
};

/* For a disk of size bytes. 0 or -errno with *e. */
int overlay_init(struct overlay *o, uint64_t size, struct err *e);
void overlay_fini(struct overlay *o);

/* The bytes [off, off + len) now lie in the private file. Multiples of 512, within the disk. */
void overlay_set(struct overlay *o, uint64_t off, uint64_t len);

/* How many of the bytes from off on, len at most, lie together; *mine: whether in the private file.
 * off, len as above, len > 0; returns a positive multiple of 512. */
uint64_t overlay_run(const struct overlay *o, uint64_t off, uint64_t len, bool *mine);

#endif
