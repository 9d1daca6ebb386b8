/* A virtio driver in plain memory: the guest's side of the split virtqueue (virtio 1.2, 2.7) and of
 * the mmio transport (4.2), written from the specification and apart from the code under test.
 *
 * Rings are touched by atomic accesses, since the device may run on another thread. */
#ifndef MAYFLY_TESTS_DRIVER_H
#define MAYFLY_TESTS_DRIVER_H

#include "core/gmem.h"
#include "tests/unit/unit.h"
#include "virtio/mmio.h"
#include "virtio/queue.h"

enum { D_NEXT = 1, D_WRITE = 2, D_INDIRECT = 4 };

struct ring_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

struct ring {
    struct gmem *mem;
    uint16_t size;
    uint64_t desc, avail, used; /* guest-physical */
    uint16_t offered;           /* avail.idx as we wrote it */
    uint16_t seen;              /* used entries taken */
};

/* Guest memory that a test is sure of. */
static inline void *ram(struct gmem *m, uint64_t gpa, uint64_t len)
{
    void *p = gmem_span(m, (gpa_t){ gpa }, len);

    assert_non_null(p);
    return p;
}

static inline uint16_t *ring_avail(const struct ring *r, unsigned word)
{
    return (uint16_t *)ram(r->mem, r->avail + 2 * (uint64_t)word, 2);
}

static inline uint16_t *ring_used(const struct ring *r, unsigned word)
{
    return (uint16_t *)ram(r->mem, r->used + 2 * (uint64_t)word, 2);
}

/* The fields behind the rings. */
static inline uint16_t *ring_used_event(const struct ring *r)
{
    return ring_avail(r, 2U + r->size);
}

static inline uint16_t *ring_avail_event(const struct ring *r)
{
    return ring_used(r, 2U + 4U * r->size);
}

/* Lays the three parts out from at (a multiple of 16) and zeroes them. The first address behind,
 * a multiple of 16 too. */
static inline uint64_t ring_init(struct ring *r, struct gmem *mem, uint64_t at, uint16_t size)
{
    *r = (struct ring){ .mem = mem, .size = size, .desc = at };
    r->avail = r->desc + 16 * (uint64_t)size;
    r->used = (r->avail + 6 + 2 * (uint64_t)size + 3) / 4 * 4;
    uint64_t end = (r->used + 6 + 8 * (uint64_t)size + 15) / 16 * 16;

    memset(ram(mem, at, end - at), 0, end - at);
    return end;
}

static inline struct virtq_setup ring_setup(const struct ring *r)
{
    return (struct virtq_setup){
        .size = r->size, .desc = { r->desc }, .avail = { r->avail }, .used = { r->used }
    };
}

/* Entry i of the table at the guest address table. */
static inline void desc_set(struct gmem *m, uint64_t table, unsigned i, struct ring_desc d)
{
    memcpy(ram(m, table + 16 * (uint64_t)i, 16), &d, 16);
}

static inline void ring_desc(struct ring *r, unsigned i, struct ring_desc d)
{
    desc_set(r->mem, r->desc, i, d);
}

/* Puts head into the next entry and publishes n of those put so far. */
static inline void ring_put(struct ring *r, uint16_t head)
{
    __atomic_store_n(ring_avail(r, 2U + r->offered % r->size), head, __ATOMIC_RELAXED);
    r->offered++;
}

static inline void ring_publish(struct ring *r)
{
    __atomic_store_n(ring_avail(r, 1), r->offered, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static inline void ring_offer(struct ring *r, uint16_t head)
{
    ring_put(r, head);
    ring_publish(r);
}

/* Takes the next used entry. false: there is none. */
static inline bool ring_take(struct ring *r, uint32_t *id, uint32_t *len)
{
    if (__atomic_load_n(ring_used(r, 1), __ATOMIC_ACQUIRE) == r->seen)
        return false;
    uint32_t *elem = ram(r->mem, r->used + 4 + 8 * (uint64_t)(r->seen % r->size), 8);

    *id = __atomic_load_n(&elem[0], __ATOMIC_RELAXED);
    *len = __atomic_load_n(&elem[1], __ATOMIC_RELAXED);
    r->seen++;
    return true;
}

/* Whether writing entries [from, to) must be told to the other side, word for word as 2.7.7.2 and
 * 2.7.10 have it: one of them "was equal to" the event field. */
static inline bool must_notify(uint16_t from, uint16_t to, uint16_t event)
{
    for (uint16_t i = from; i != to; i++)
        if (i == event)
            return true;
    return false;
}

/* Whether the driver must kick for what it offered from index from on (2.7.10). */
static inline bool ring_must_kick(const struct ring *r, uint16_t from, bool event_idx)
{
    if (event_idx)
        return must_notify(from, r->offered,
                           __atomic_load_n(ring_avail_event(r), __ATOMIC_RELAXED));
    return !(__atomic_load_n(ring_used(r, 0), __ATOMIC_RELAXED) & 1);
}

/* --- transport ---------------------------------------------------------------------------- */

enum {
    R_MAGIC = 0x000,
    R_VERSION = 0x004,
    R_DEVICE = 0x008,
    R_VENDOR = 0x00c,
    R_DEV_FEATURES = 0x010,
    R_DEV_FEATURES_SEL = 0x014,
    R_DRV_FEATURES = 0x020,
    R_DRV_FEATURES_SEL = 0x024,
    R_QUEUE_SEL = 0x030,
    R_QUEUE_NUM_MAX = 0x034,
    R_QUEUE_NUM = 0x038,
    R_QUEUE_READY = 0x044,
    R_NOTIFY = 0x050,
    R_ISR = 0x060,
    R_ACK = 0x064,
    R_STATUS = 0x070,
    R_DESC_LOW = 0x080,
    R_DESC_HIGH = 0x084,
    R_DRIVER_LOW = 0x090,
    R_DRIVER_HIGH = 0x094,
    R_DEVICE_LOW = 0x0a0,
    R_DEVICE_HIGH = 0x0a4,
    R_SHM_LEN_LOW = 0x0b0,
    R_SHM_BASE_HIGH = 0x0bc,
    R_GENERATION = 0x0fc,
    R_CONFIG = 0x100,
};

enum {
    S_ACK = 1,
    S_DRIVER = 2,
    S_DRIVER_OK = 4,
    S_FEATURES_OK = 8,
    S_RESET = 0x40,
    S_FAILED = 0x80
};

static inline uint32_t reg_read(struct virtio_mmio *t, uint64_t off)
{
    uint32_t v;

    virtio_mmio_ops.read(t, off, &v, sizeof v);
    return v;
}

static inline void reg_write(struct virtio_mmio *t, uint64_t off, uint32_t v)
{
    virtio_mmio_ops.write(t, off, &v, sizeof v);
}

/* Up to FEATURES_OK as it stands after it was asked for (3.1.1, steps 1 to 6). */
static inline uint32_t drive_features(struct virtio_mmio *t, uint64_t features)
{
    reg_write(t, R_STATUS, 0);
    reg_write(t, R_STATUS, S_ACK);
    reg_write(t, R_STATUS, S_ACK | S_DRIVER);
    for (uint32_t i = 0; i < 2; i++) {
        reg_write(t, R_DRV_FEATURES_SEL, i);
        reg_write(t, R_DRV_FEATURES, (uint32_t)(features >> 32 * i));
    }
    reg_write(t, R_STATUS, S_ACK | S_DRIVER | S_FEATURES_OK);
    return reg_read(t, R_STATUS);
}

static inline void drive_queue(struct virtio_mmio *t, uint32_t q, const struct virtq_setup *s)
{
    const uint64_t at[] = { s->desc.v, s->avail.v, s->used.v };

    reg_write(t, R_QUEUE_SEL, q);
    reg_write(t, R_QUEUE_NUM, s->size);
    for (unsigned i = 0; i < 3; i++) {
        reg_write(t, R_DESC_LOW + 0x10 * i, (uint32_t)at[i]);
        reg_write(t, R_DESC_HIGH + 0x10 * i, (uint32_t)(at[i] >> 32));
    }
    reg_write(t, R_QUEUE_READY, 1);
}

/* From reset to DRIVER_OK with these rings as queues 0 to n - 1. The status as it reads then. */
static inline uint32_t drive_up(struct virtio_mmio *t, uint64_t features, const struct ring *r,
                                unsigned n)
{
    uint32_t status = drive_features(t, features);

    for (unsigned i = 0; i < n; i++) {
        struct virtq_setup s = ring_setup(&r[i]);

        drive_queue(t, i, &s);
    }
    reg_write(t, R_STATUS, status | S_DRIVER_OK);
    return reg_read(t, R_STATUS);
}

#endif
