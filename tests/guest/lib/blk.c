/* The disks' driver; see blk.h. */
#include "blk.h"

#define DEVICES    19 /* docs/mayfly.1: a page each, GSIs from the console's on */
#define DEVICE_BLK 2

bool blk_sleep;

bool blk_find(struct blk *b, unsigned n)
{
    for (unsigned i = 0; i < DEVICES; i++) {
        uint64_t base = CONSOLE_BASE + UINT64_C(0x1000) * i;

        if (read32(base + MAGIC) != 0x74726976 || read32(base + DEVICE_ID) != DEVICE_BLK)
            continue;
        if (n--)
            continue;
        b->base = base;
        b->gsi = CONSOLE_GSI + i;
        b->sectors = read32(base + CONFIG + BLK_CAPACITY) |
                     (uint64_t)read32(base + CONFIG + BLK_CAPACITY + 4) << 32;
        return true;
    }
    return false;
}

uint64_t blk_offered(const struct blk *b)
{
    uint64_t f = 0;

    for (uint32_t half = 0; half < 2; half++) {
        blk_set_reg(b, DEVICE_FEATURES_SEL, half);
        f |= (uint64_t)blk_reg(b, DEVICE_FEATURES) << 32 * half;
    }
    return f;
}

void blk_reset(struct blk *b)
{
    blk_set_reg(b, STATUS, 0);
    while (blk_reg(b, STATUS) != 0)
        pause();
}

bool blk_negotiate(struct blk *b, uint64_t features)
{
    b->features = features;
    blk_set_reg(b, STATUS, ACKNOWLEDGE);
    blk_set_reg(b, STATUS, ACKNOWLEDGE | DRIVER);
    for (uint32_t half = 0; half < 2; half++) {
        blk_set_reg(b, DRIVER_FEATURES_SEL, half);
        blk_set_reg(b, DRIVER_FEATURES, (uint32_t)(features >> 32 * half));
    }
    blk_set_reg(b, STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    return blk_reg(b, STATUS) & FEATURES_OK;
}

static void set_address(struct blk *b, unsigned r, const volatile void *p)
{
    uint64_t v = (uintptr_t)p;

    blk_set_reg(b, r, (uint32_t)v);
    blk_set_reg(b, r + 4, (uint32_t)(v >> 32));
}

void blk_set_queue(struct blk *b, unsigned q, unsigned size)
{
    struct blk_queue *rq = &b->q[q];

    rq->index = q;
    rq->size = size;
    rq->offered = rq->told = rq->seen = 0;
    rq->avail[0] = rq->avail[1] = rq->avail[2 + size] = 0;
    rq->used[0] = rq->used[1 + 2 * size] = 0;
    blk_set_reg(b, QUEUE_SEL, q);
    blk_set_reg(b, QUEUE_NUM, size);
    set_address(b, QUEUE_DESC, rq->desc);
    set_address(b, QUEUE_DRIVER, rq->avail);
    set_address(b, QUEUE_DEVICE, rq->used);
    blk_set_reg(b, QUEUE_READY, 1);
}

void blk_ready(struct blk *b)
{
    blk_set_reg(b, STATUS, blk_reg(b, STATUS) | DRIVER_OK);
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
