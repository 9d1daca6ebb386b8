/* A driver for disks, written from the specification (virtio 1.2: 2.7, 4.2, 5.2) and not from the
 * device. A request has a slot: a header, a status byte, a place in a table for its descriptors. It
 * is described by the caller's pieces or by blk_fill, put into the ring, told of by blk_kick, taken
 * back by blk_take. Everything lies open, so that a guest can do with it what it must not. */
#ifndef GUEST_BLK_H
#define GUEST_BLK_H

#include "virtio.h"

#define BLK_SIZE   128 /* of a queue, and slots of it */
#define BLK_QUEUES 2   /* that are driven */
#define BLK_PIECES 6   /* descriptors of a slot */
#define SECTOR     512

/* Feature bits (5.2.3), types and statuses (5.2.6), and where the configuration has what (5.2.4).
 */
#define BLK_F_SIZE_MAX     (UINT64_C(1) << 1)
#define BLK_F_SEG_MAX      (UINT64_C(1) << 2)
#define BLK_F_RO           (UINT64_C(1) << 5)
#define BLK_F_BLK_SIZE     (UINT64_C(1) << 6)
#define BLK_F_FLUSH        (UINT64_C(1) << 9)
#define BLK_F_TOPOLOGY     (UINT64_C(1) << 10)
#define BLK_F_MQ           (UINT64_C(1) << 12)
#define BLK_F_DISCARD      (UINT64_C(1) << 13)
#define BLK_F_WRITE_ZEROES (UINT64_C(1) << 14)

enum { BLK_IN, BLK_OUT, BLK_FLUSH = 4, BLK_GET_ID = 8, BLK_DISCARD = 11, BLK_WRITE_ZEROES = 13 };
enum { BLK_OK, BLK_IOERR, BLK_UNSUPP, BLK_NO_STATUS = 0xee /* what we put there before */ };
enum {
    BLK_CAPACITY = 0x00,
    BLK_SIZE_MAX = 0x08,
    BLK_SEG_MAX = 0x0c,
    BLK_BLK_SIZE = 0x14,
    BLK_PHYSICAL_EXP = 0x18,
    BLK_ALIGNMENT = 0x19,
    BLK_MIN_IO = 0x1a,
    BLK_OPT_IO = 0x1c,
    BLK_NUM_QUEUES = 0x22,
    BLK_MAX_DISCARD = 0x24,
    BLK_MAX_DISCARD_SEG = 0x28,
    BLK_DISCARD_ALIGN = 0x2c,
    BLK_MAX_ZEROES = 0x30,
    BLK_MAX_ZEROES_SEG = 0x34,
    BLK_MAY_UNMAP = 0x38,
    BLK_CONFIG_LEN = 0x3c,
};

struct blk_header {
    uint32_t type, reserved;
    uint64_t sector;
};

struct blk_range { /* of a discard or write of zeros */
    uint64_t sector;
    uint32_t count, flags;
};

struct blk_slot {
    struct blk_header header;
    struct desc table[BLK_PIECES]; /* by INDIRECT_DESC */
    uint8_t status;
};

struct blk_queue {
    unsigned index, size;
    struct desc desc[BLK_SIZE] __attribute__((aligned(16)));
    volatile uint16_t avail[3 + BLK_SIZE];    /* flags, idx, ring, used_event */
    volatile uint32_t used[2 + 2 * BLK_SIZE]; /* flags and idx, ring, avail_event */
    uint16_t offered, told, seen;
    uint32_t len; /* of the entry taken last */
    struct blk_slot slot[BLK_SIZE];
};

struct blk {
    uint64_t base;
    uint32_t gsi;
    uint64_t features; /* negotiated */
    uint64_t sectors;
    struct blk_queue q[BLK_QUEUES];
};

static inline uint32_t blk_reg(const struct blk *b, unsigned r)
{
    return read32(b->base + r);
}

static inline void blk_set_reg(const struct blk *b, unsigned r, uint32_t v)
{
    write32(b->base + r, v);
}

/* The n-th disk in the order of devices, from 0. False: there is none. */
bool blk_find(struct blk *b, unsigned n);

uint64_t blk_offered(const struct blk *b);

/* The steps of 3.1.1. */
void blk_reset(struct blk *b);
bool blk_negotiate(struct blk *b, uint64_t features); /* up to FEATURES_OK; whether it stuck */
void blk_set_queue(struct blk *b, unsigned q, unsigned size);
void blk_ready(struct blk *b);

/* All of them, with queues of BLK_SIZE: one, or with BLK_F_MQ two. features: beyond VERSION_1. */
void blk_start(struct blk *b, uint64_t features);

/* A request's chain, at this slot, from pieces: linked in the queue's table from descriptor
 * `slot * n` on, or in the slot's own with INDIRECT_DESC. Its head, not yet offered. */
uint16_t blk_chain(struct blk *b, unsigned q, unsigned slot, const struct desc *piece, unsigned n);
void blk_offer(struct blk *b, unsigned q, uint16_t head);

/* A whole request: header, data (none when len is 0), status; offered, not told of. Without
 * INDIRECT_DESC slots are below BLK_SIZE / 3. */
void blk_put(struct blk *b, unsigned q, unsigned slot, uint32_t type, uint64_t sector,
             const void *data, uint32_t len);

/* Makes what was offered available, and notifies if the device wants to know. */
void blk_kick(struct blk *b, unsigned q);

/* The next used entry's head, or -1: none yet. */
int blk_take(struct blk *b, unsigned q);

/* The slot of a head of blk_put's. */
unsigned blk_slot(const struct blk *b, int head);

/* Waits for a request of the queue's in HLT, by its interrupt: after intr_start and
 * intr_route(b->gsi, VECTOR_OTHER). False: polls. */
extern bool blk_sleep;

/* One request in slot 0, waited for: its status. */
uint8_t blk_do(struct blk *b, uint32_t type, uint64_t sector, const void *data, uint32_t len);

/* The same of given pieces. */
uint8_t blk_do_pieces(struct blk *b, const struct desc *piece, unsigned n);

#endif
