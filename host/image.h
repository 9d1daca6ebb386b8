/* A disk image: a raw file or block device, opened, measured and locked for a guest's disk. */
#ifndef MAYFLY_HOST_IMAGE_H
#define MAYFLY_HOST_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

#define IMAGE_SECTOR 512

struct image {
    int fd;            /* -1: none */
    const char *path;  /* the caller's */
    uint64_t size;     /* bytes, a multiple of IMAGE_SECTOR and of block */
    uint32_t block;    /* the smallest unit of I/O: 512, or what O_DIRECT or the device demands */
    uint32_t physical; /* what the host writes at once: a multiple of block, a power of two */
    bool read_only;
    bool direct; /* opened with O_DIRECT */
    bool device; /* a block device */
};

/* Opens path and locks it: a writable image exclusively, a read-only one shared with other readers
 * (open file description locks, which end with the descriptor). 0, or -errno with *e: no such file,
 * no right, a directory or other thing that is no image, an empty one, a size that is no multiple
 * of the block, in use (for half a second: one that ended just now lets go late), mounted (a block
 * device), no O_DIRECT there. Main thread. */
int image_open(struct image *im, const char *path, bool read_only, bool direct, struct err *e);

/* With no call on it in flight: the lock goes at once. */
void image_close(struct image *im);

/* A private file of size bytes in dir (NULL: $TMPDIR, else /tmp), without a name, gone with its
 * descriptor. Returns the descriptor, or -errno with *e. Main thread. */
int image_private(const char *dir, uint64_t size, struct err *e);

#endif
