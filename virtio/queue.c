/* The split virtqueue (virtio 1.2, section 2.7); see queue.h.
 *
 *   descriptor table        avail ring (driver writes)       used ring (device writes)
 *   ┌────────────────┐      ┌───────┬─────┬──────────┐       ┌───────┬─────┬───────────────┐
 *   │ addr len flags │◄──┐  │ flags │ idx │ ring[n]  │       │ flags │ idx │ ring[n]       │
 *   │           next │─┐ └──┼───────┼─────┼─ head    │   ┌───┼───────┼─────┼► head, length │
 *   │ addr len flags │◄┘    └───────┴─────┴──────────┘   │   └───────┴─────┴───────────────┘
 *   └────────────────┘        + used_event   │           │      + avail_event
 *                                            └─► pop ───► push, publish
 *
 * pop:     idx is loaded (acquire) and compared with avail_next, the entry gives a head, the chain
 *          from there is copied descriptor by descriptor, checked, and turned into iovecs.
 * publish: entries first, then idx (release), then a full fence, then the guest's wish is read:
 *          the fence orders our store of idx before our load of used_event, as the guest's orders
 *          its store of used_event before its load of idx. Without it both could miss the other.
 * rearm:   the same dance the other way round, with avail_event and avail.idx.
 *
 * What the guest can do wrong breaks the queue: a head or next out of range, an index that jumped
 * by more than the queue holds, a head that is in flight already, a chain longer than the queue
 * (a loop is one), longer than 4 GiB, with readable buffers after writable ones, outside RAM, or
 * with a bad indirect table. A broken queue gives nothing more until it is started again.
 */
#include "virtio/queue.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/num.h"

enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };
enum { AVAIL_NO_INTERRUPT = 1, USED_NO_NOTIFY = 1 };

struct desc { /* 2.7.5 */
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};
_Static_assert(sizeof(struct desc) == 16, "as in the spec");

/* Ring fields are touched by these alone: once, whole, in this order. */
static uint16_t ring_load(const uint16_t *p)
{
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static uint16_t ring_load_acquire(const uint16_t *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void ring_store(uint16_t *p, uint16_t v)
{
    __atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static void ring_store_release(uint16_t *p, uint16_t v)
{
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static uint16_t *avail_idx(const struct virtq *q)
{
    return q->avail + 1;
}

static uint16_t *avail_used_event(const struct virtq *q)
{
    return q->avail + 2 + q->setup.size;
}

static uint16_t *used_avail_event(const struct virtq *q)
{
    return q->used + 2 + 4 * (size_t)q->setup.size;
}

static int queue_fault(struct virtq *q, const char *why)
{
    q->fault = why;
    return -EPROTO;
}

static void *ring_map(struct virtq *q, gpa_t at, uint64_t len, unsigned align, const char *what,
                      struct err *e)
{
    void *p = at.v % align ? NULL : gmem_span(q->mem, at, len);

    if (!p)
        err_set(e, EPROTO, "%s at 0x%" PRIx64 " is not %" PRIu64 " bytes of RAM aligned to %u",
                what, at.v, len, align);
    return p;
}

int virtq_start(struct virtq *q, struct gmem *mem, const struct virtq_setup *s, uint16_t max,
                struct err *e)
{
    *q = (struct virtq){ .mem = mem, .setup = *s };
    if (!is_pow2(s->size) || s->size > max || s->size > VIRTQ_SIZE_MAX)
        return err_set(e, EPROTO, "size %u is not a power of two up to %u", s->size, max);
    /* The event fields behind the rings are part of them whether negotiated or not (2.7.6). */
    q->desc = ring_map(q, s->desc, 16 * (uint64_t)s->size, 16, "descriptor table", e);
    if (!q->desc)
        return -EPROTO;
    q->avail = ring_map(q, s->avail, 6 + 2 * (uint64_t)s->size, 2, "avail ring", e);
    q->used = ring_map(q, s->used, 6 + 8 * (uint64_t)s->size, 4, "used ring", e);
    if (!q->avail || !q->used)
        return -EPROTO;
    q->running = true;
    return 0;
}

void virtq_stop(struct virtq *q)
{
    *q = (struct virtq){ 0 };
}

/* Adds one buffer to the chain: each of them RAM, less than 4 GiB in all. */
static int chain_add(struct virtq *q, struct chain *c, const struct desc *d, unsigned *n_r,
                     unsigned *n_w, uint64_t *total)
{
    bool write = d->flags & DESC_WRITE;

    *total += d->len;
    if (*total > UINT32_MAX)
        return queue_fault(q, "a chain is longer than 4 GiB");
    unsigned used = *n_r + *n_w;
    int n = gmem_iov(q->mem, (gpa_t){ d->addr }, d->len, c->iov + used, (int)(c->iov_max - used));

    if (n < 0)
        return queue_fault(q, "a buffer lies outside RAM");
    *(write ? n_w : n_r) += (unsigned)n;
    return 0;
}

/* A descriptor of a table that is RAM, copied: what was judged is not fetched a second time, which
 * the compiler is told. The guest may have the table anywhere, and change it at any time. */
static struct desc desc_copy(const uint8_t *table, unsigned index)
{
    struct desc d;

    memcpy(&d, table + index * sizeof d, sizeof d);
    __asm__ volatile("" : "+m"(d));
    return d;
}

/* Follows the chain from head. */
static int chain_walk(struct virtq *q, uint16_t head, struct chain *c)
{
    const uint8_t *table = q->desc;
    unsigned entries = q->setup.size, index = head, steps = 0, n_r = 0, n_w = 0;
    uint64_t total = 0;
    bool indirect = false, writing = false;
    struct desc d;

    for (;;) {
        if (steps++ == q->setup.size)
            return queue_fault(q, "a chain is longer than the queue, or a loop");
        d = desc_copy(table, index);
        if (d.flags & DESC_INDIRECT) {
            if (!q->setup.indirect)
                return queue_fault(q, "an indirect table without INDIRECT_DESC negotiated");
            if (indirect)
                return queue_fault(q, "an indirect table inside an indirect table");
            if (d.flags & DESC_NEXT)
                return queue_fault(q, "an indirect table with a next descriptor");
            if (d.len == 0 || d.len % sizeof d || d.len / sizeof d > q->setup.size)
                return queue_fault(q, "an indirect table of a bad size");
            table = gmem_span(q->mem, (gpa_t){ d.addr }, d.len);
            if (!table)
                return queue_fault(q, "an indirect table lies outside RAM");
            entries = d.len / (uint32_t)sizeof d;
            index = 0;
            indirect = true;
            steps--; /* the descriptor of the table is not a buffer */
            continue;
        }
        /* An empty one counts, though it adds no iovec. */
        if (!(d.flags & DESC_WRITE) && writing)
            return queue_fault(q, "a readable buffer follows a writable one");
        writing = d.flags & DESC_WRITE;
        int ret = chain_add(q, c, &d, &n_r, &n_w, &total);

        if (ret)
            return ret;
        if (!(d.flags & DESC_NEXT))
            break;
        if (d.next >= entries)
            return queue_fault(q, "a next descriptor is out of range");
        index = d.next;
    }
    c->head = head;
    cursor_init(&c->r, c->iov, n_r);
    cursor_init(&c->w, c->iov + n_r, n_w);
    c->writable = (uint32_t)cursor_left(&c->w);
    return 0;
}

int virtq_pop(struct virtq *q, struct chain *c)
{
    if (q->fault)
        return -EPROTO;
    if (!q->running)
        return 0;
    uint16_t waiting = (uint16_t)(ring_load_acquire(avail_idx(q)) - q->avail_next);

    if (waiting == 0)
        return 0;
    if (waiting > q->setup.size)
        return queue_fault(q, "the avail index jumped by more than the queue holds");
    uint16_t head = ring_load(q->avail + 2 + q->avail_next % q->setup.size);

    if (head >= q->setup.size)
        return queue_fault(q, "a head is out of range");
    uint64_t bit = UINT64_C(1) << head % 64;

    if (q->in_flight[head / 64] & bit)
        return queue_fault(q, "a head is in flight already");
    int ret = chain_walk(q, head, c);

    if (ret)
        return ret;
    q->in_flight[head / 64] |= bit;
    q->avail_next++;
    return 1;
}

void virtq_unpop(struct virtq *q, uint16_t head)
{
    uint64_t bit = UINT64_C(1) << head % 64;

    assert(q->in_flight[head / 64] & bit);
    q->in_flight[head / 64] &= ~bit;
    q->avail_next--;
}

void virtq_push(struct virtq *q, const struct chain *c, uint32_t written)
{
    uint64_t bit = UINT64_C(1) << c->head % 64;
    uint32_t *elem = (uint32_t *)(void *)(q->used + 2) + 2 * (size_t)(q->used_next % q->setup.size);

    assert(written <= c->writable && (q->in_flight[c->head / 64] & bit));
    q->in_flight[c->head / 64] &= ~bit;
    __atomic_store_n(&elem[0], c->head, __ATOMIC_RELAXED);
    __atomic_store_n(&elem[1], written, __ATOMIC_RELAXED);
    q->used_next++;
}

bool virtq_publish(struct virtq *q)
{
    uint16_t before = q->published, now = q->used_next;

    if (!q->running || now == before)
        return false;
    ring_store_release(q->used + 1, now);
    q->published = now;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!q->setup.event_idx)
        return !(ring_load(q->avail) & AVAIL_NO_INTERRUPT);
    /* Did idx move past the entry the guest waits for (2.7.7.2)? */
    uint16_t event = ring_load(avail_used_event(q));

    return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

void virtq_disarm(struct virtq *q)
{
    /* With EVENT_IDX the stale avail_event asks for nothing by itself. */
    if (q->running && !q->setup.event_idx)
        ring_store(q->used, USED_NO_NOTIFY);
}

bool virtq_rearm(struct virtq *q)
{
    if (!q->running || q->fault)
        return false;
    if (q->setup.event_idx)
        ring_store(used_avail_event(q), q->avail_next);
    else
        ring_store(q->used, 0);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return ring_load_acquire(avail_idx(q)) != q->avail_next;
}

uint16_t virtq_waiting(const struct virtq *q)
{
    if (!q->running || q->fault)
        return 0;
    return (uint16_t)(ring_load_acquire(avail_idx(q)) - q->avail_next);
}

bool virtq_caught_up(const struct virtq *q)
{
    return q->running && q->setup.event_idx && ring_load(avail_used_event(q)) == q->published;
}

void virtq_watch(struct virtq *q, uint16_t n)
{
    if (!q->running || q->fault)
        return;
    if (q->setup.event_idx)
        ring_store(used_avail_event(q), (uint16_t)(q->avail_next + n));
    else
        ring_store(q->used, 0);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

bool virtq_idle(const struct virtq *q)
{
    for (size_t i = 0; i < ARRAY_LEN(q->in_flight); i++)
        if (q->in_flight[i])
            return false;
    return true;
}

uint16_t virtq_lend(const struct virtq *q, void **desc, void **avail, void **used)
{
    assert(q->running && virtq_idle(q));
    *desc = (void *)(uintptr_t)q->desc;
    *avail = q->avail;
    *used = q->used;
    return q->avail_next;
}

void virtq_take_back(struct virtq *q, uint16_t next)
{
    uint16_t given = ring_load(q->used + 1);

    if ((uint16_t)(next - given) <= q->setup.size)
        next = given;
    q->avail_next = q->used_next = q->published = next;
}

void virtq_save(const struct virtq *q, struct wbuf *w)
{
    assert(virtq_idle(q));
    wbuf_u16(w, q->avail_next);
    wbuf_u16(w, q->used_next);
    wbuf_u16(w, q->published);
}

int virtq_load(struct virtq *q, struct rbuf *r)
{
    q->avail_next = rbuf_u16(r);
    q->used_next = rbuf_u16(r);
    q->published = rbuf_u16(r);
    /* An idle queue gave back as many chains as it took, and published them. */
    if (r->overrun || q->avail_next != q->used_next || q->used_next != q->published)
        return -EPROTO;
    return 0;
}
