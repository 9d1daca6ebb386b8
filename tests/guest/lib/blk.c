/* The disks' driver; see blk.h. */
#include "blk.h"

#define DEVICE_BLK 2

bool blk_sleep;

bool blk_find(struct blk *b, unsigned n)
{
    b->base = device_find(DEVICE_BLK, n, &b->gsi);
    if (!b->base)
        return false;
    b->sectors = read32(b->base + CONFIG + BLK_CAPACITY) |
                 (uint64_t)read32(b->base + CONFIG + BLK_CAPACITY + 4) << 32;
    return true;
}

uint64_t blk_offered(const struct blk *b)
{
    return device_offered(b->base);
}

void blk_reset(struct blk *b)
{
    device_reset(b->base);
}

bool blk_negotiate(struct blk *b, uint64_t features)
{
    b->features = features;
    return device_negotiate(b->base, features);
}

void blk_set_queue(struct blk *b, unsigned q, unsigned size)
{
    struct blk_queue *rq = &b->q[q];

    rq->index = q;
    rq->size = size;
    rq->offered = rq->told = rq->seen = 0;
    rq->avail[0] = rq->avail[1] = rq->avail[2 + size] = 0;
    rq->used[0] = rq->used[1 + 2 * size] = 0;
    device_set_queue(b->base, q, size, (uintptr_t)rq->desc, (uintptr_t)rq->avail,
                     (uintptr_t)rq->used);
}

void blk_ready(struct blk *b)
{
    device_ready(b->base);
}

void blk_start(struct blk *b, uint64_t features)
{
    blk_reset(b);
    if (!blk_negotiate(b, features | F_VERSION_1)) {
        print("BAD features 0x%lx are refused\n", features);
        power_off();
    }
    for (unsigned q = 0; q < (features & BLK_F_MQ ? 2 : 1); q++)
        blk_set_queue(b, q, BLK_SIZE);
    blk_ready(b);
}

uint16_t blk_chain(struct blk *b, unsigned q, unsigned slot, const struct desc *piece, unsigned n)
{
    struct blk_queue *rq = &b->q[q];
    bool indirect = b->features & F_INDIRECT;
    unsigned head = indirect ? slot : slot * n;
    struct desc *d = indirect ? rq->slot[slot].table : &rq->desc[head];

    for (unsigned i = 0; i < n; i++) {
        d[i].addr = piece[i].addr;
        d[i].len = piece[i].len;
        d[i].flags = (uint16_t)(piece[i].flags | (i + 1 < n ? DESC_NEXT : 0));
        d[i].next = (uint16_t)((indirect ? 0 : head) + i + 1);
    }
    if (indirect)
        rq->desc[head] = (struct desc){ (uintptr_t)d, (uint32_t)(n * sizeof *d), DESC_INDIRECT, 0 };
    return (uint16_t)head;
}

void blk_offer(struct blk *b, unsigned q, uint16_t head)
{
    struct blk_queue *rq = &b->q[q];

    rq->avail[2 + rq->offered % rq->size] = head;
    rq->offered++;
}

void blk_put(struct blk *b, unsigned q, unsigned slot, uint32_t type, uint64_t sector,
             const void *data, uint32_t len)
{
    struct blk_slot *s = &b->q[q].slot[slot];
    bool in = type == BLK_IN || type == BLK_GET_ID;
    struct desc d[3] = {
        { (uintptr_t)&s->header, sizeof s->header, 0, 0 },
        { (uintptr_t)data, len, in ? DESC_WRITE : 0, 0 },
    };
    unsigned n = len ? 2 : 1;

    s->header = (struct blk_header){ type, 0, sector };
    s->status = BLK_NO_STATUS;
    d[n] = (struct desc){ (uintptr_t)&s->status, 1, DESC_WRITE, 0 };
    /* Three apart even where two are used, so that blk_slot() can tell. */
    if (n == 1 && !(b->features & F_INDIRECT)) {
        uint16_t head = (uint16_t)(slot * 3);
        struct desc *at = &b->q[q].desc[head];

        at[0] = (struct desc){ d[0].addr, d[0].len, DESC_NEXT, (uint16_t)(head + 1) };
        at[1] = d[1];
        blk_offer(b, q, head);
        return;
    }
    blk_offer(b, q, blk_chain(b, q, slot, d, n + 1));
}

unsigned blk_slot(const struct blk *b, int head)
{
    return (unsigned)head / (b->features & F_INDIRECT ? 1 : 3);
}

void blk_kick(struct blk *b, unsigned q)
{
    struct blk_queue *rq = &b->q[q];
    uint16_t from = rq->told, n = (uint16_t)(rq->offered - from);

    fence(); /* entries before the index */
    rq->avail[1] = rq->told = rq->offered;
    fence(); /* the index before the device's wish */
    if (b->features & F_EVENT_IDX) {
        /* Is the entry it waits for among them? */
        if ((uint16_t)((uint16_t)rq->used[1 + 2 * rq->size] - from) >= n)
            return;
    } else if (rq->used[0] & 1) {
        return;
    }
    blk_set_reg(b, QUEUE_NOTIFY, q);
}

int blk_take(struct blk *b, unsigned q)
{
    struct blk_queue *rq = &b->q[q];

    (void)b;
    if ((uint16_t)(rq->used[0] >> 16) == rq->seen)
        return -1;
    fence();
    unsigned at = 1 + 2 * (rq->seen % rq->size);
    uint32_t head = rq->used[at];

    rq->len = rq->used[at + 1];
    rq->seen++;
    rq->avail[2 + rq->size] = rq->seen; /* the next one interrupts */
    return (int)head;
}

/* Asleep it looks only after an interrupt, so that one that does not come is noticed. */
static uint8_t finish(struct blk *b)
{
    unsigned before = interrupts;

    blk_kick(b, 0);
    do {
        if (!blk_sleep) {
            pause();
            continue;
        }
        wait_interrupt(before);
        before = interrupts;
        blk_set_reg(b, INTERRUPT_ACK, blk_reg(b, INTERRUPT_STATUS));
    } while (blk_take(b, 0) < 0);
    return b->q[0].slot[0].status;
}

uint8_t blk_do(struct blk *b, uint32_t type, uint64_t sector, const void *data, uint32_t len)
{
    blk_put(b, 0, 0, type, sector, data, len);
    return finish(b);
}

uint8_t blk_do_pieces(struct blk *b, const struct desc *piece, unsigned n)
{
    b->q[0].slot[0].status = BLK_NO_STATUS;
    blk_offer(b, 0, blk_chain(b, 0, 0, piece, n));
    return finish(b);
}
