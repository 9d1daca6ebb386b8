/* What a driver asks of a block device (virtio 1.2, section 5.2.6): the parser of requests, which
 * touches nothing but the request's own buffers and decides nothing but whether it may be done. */
#ifndef MAYFLY_VIRTIO_BLKREQ_H
#define MAYFLY_VIRTIO_BLKREQ_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/queue.h"

#define BLK_SECTOR       512
#define BLK_DATA_MAX     (8 * MIB) /* bytes of one request */
#define BLK_ID_LEN       20
#define BLK_SEGMENTS_MAX 16                     /* of a discard or write-zeroes request */
#define BLK_DISCARD_MAX  (1 * GIB / BLK_SECTOR) /* sectors of one segment */
#define BLK_ZEROES_MAX   (64 * MIB / BLK_SECTOR)

/* Types and statuses of the spec. */
enum blk_type {
    BLK_T_IN = 0,
    BLK_T_OUT = 1,
    BLK_T_FLUSH = 4,
    BLK_T_GET_ID = 8,
    BLK_T_DISCARD = 11,
    BLK_T_WRITE_ZEROES = 13,
};
enum blk_status { BLK_S_OK = 0, BLK_S_IOERR = 1, BLK_S_UNSUPP = 2 };

struct blk_segment {
    uint64_t off, len; /* bytes, inside the disk */
    bool unmap;
};

struct blk_ask {
    enum blk_type type;
    uint64_t off, len; /* IN, OUT: bytes, inside the disk; len > 0 */
    unsigned n_segments;
    struct blk_segment segment[BLK_SEGMENTS_MAX];
};

/* Judges the chain c for a disk of size bytes. BLK_S_OK: *a may be done, and the cursor of its data
 * (c->r of an OUT, c->w of an IN or GET_ID) stands at the first byte of it, the status being the
 * one byte of c->w behind the data. Another status: it may not. -EPROTO with *why: no header or no
 * room for a status, the driver's fault. */
int blk_parse(uint64_t size, bool read_only, struct chain *c, struct blk_ask *a, const char **why);

#endif
