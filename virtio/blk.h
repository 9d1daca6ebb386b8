/* virtio-blk (virtio 1.2, section 5.2): a disk. */
#ifndef MAYFLY_VIRTIO_BLK_H
#define MAYFLY_VIRTIO_BLK_H

#include "host/disk.h"
#include "virtio/dev.h"

#define BLK_QMAX 128 /* entries of a queue, and so requests of it at once */

struct blk_opts {
    struct disk *disk; /* the device's from then on, freed with it and when blk_new fails */
    const char *name;  /* of device and thread */
    const char *id;    /* what GET_ID answers, at most BLK_ID_LEN bytes */
    unsigned queues;
    /* Bytes and requests a second, and at once; rate 0: no limit. */
    uint64_t bw, bw_burst, iops, iops_burst;
};

/* NULL with *e on failure. Main thread, before the loop runs. Freed by cls->free. */
struct virtio_dev *blk_new(struct gmem *mem, struct loop *loop, const struct blk_opts *o,
                           struct err *e);

#endif
