/* The virtqueue against a driver that keeps the rules: any shape of chain, any order of completion,
 * indices that wrap. A shadow of the whole guest memory is kept in step with what the device may
 * write, and compared to the byte. */
#include "tests/unit/driver.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "core/num.h"

#define LOW     (512 * KIB)
#define HIGH    (512 * KIB)
#define BLOCK   64U /* bytes of the buffers' pieces */
#define TABLE   8U  /* most entries of an indirect table */
#define INDICES 65536U

/* A chain as the driver knows it. */
struct sent {
    bool live;
    uint16_t n_desc;   /* of the descriptor table */
    uint16_t desc[16]; /* they, in order */
    unsigned n_block;
    uint16_t block[16 + TABLE];
    uint8_t data[(16 + TABLE) * BLOCK]; /* what the device shall read */
    size_t readable;
    struct iovec w[16 + TABLE]; /* in the shadow */
    unsigned n_w;
    size_t writable;
};

struct model {
    struct rng rng;
    struct gmem mem, shadow; /* the same layout twice */
    struct ring ring;
    struct virtq q;
    bool indirect, event_idx;
    /* The driver's. */
    uint64_t tables; /* an indirect table a head */
    uint16_t *free_desc, *free_block;
    unsigned n_free_desc, n_free_block;
    struct sent *sent; /* by head */
    /* The device's. */
    struct chain *held;
    unsigned n_held;
    struct iovec *iov;
    uint16_t published, pushed;
    bool asleep; /* rearm said that there is nothing */
    uint64_t done;
    /* Heads as they were offered, and pushed entries as they must come back. */
    uint16_t offered[VIRTQ_SIZE_MAX];
    uint16_t taken;
    struct used {
        uint16_t id;
        uint32_t len;
    } expect[VIRTQ_SIZE_MAX];
};

static void mem_init(struct gmem *m)
{
    uint8_t *host = calloc(1, LOW + HIGH);

    assert_non_null(host);
    *m = (struct gmem){ .n = 2,
                        .size = LOW + HIGH,
                        .region = {
                            { .base = 0, .len = LOW, .host = host },
                            { .base = GMEM_HIGH_BASE, .len = HIGH, .host = host + LOW },
                        } };
}

static void both_write(struct model *m, uint64_t at, const void *p, size_t n)
{
    memcpy(ram(&m->mem, at, n), p, n);
    memcpy(ram(&m->shadow, at, n), p, n);
}

/* The driver's part of the rings goes to the shadow as the driver writes it, the device's part as
 * the model says it must be. */
static void shadow_u16(struct model *m, const uint16_t *real, uint16_t v)
{
    size_t off = (size_t)((const uint8_t *)real - m->mem.region[0].host);

    memcpy(m->shadow.region[0].host + off, &v, sizeof v);
}

static void compare_all(struct model *m)
{
    assert_memory_equal(m->mem.region[0].host, m->shadow.region[0].host, LOW + HIGH);
}

static uint64_t block_at(const struct model *m, unsigned block)
{
    /* Half of them above the hole. */
    uint64_t off = (uint64_t)(block / 2) * BLOCK;

    return block % 2 ? GMEM_HIGH_BASE + off : m->tables + (uint64_t)m->ring.size * TABLE * 16 + off;
}

static void model_init(struct model *m, uint64_t seed, uint16_t size, bool indirect, bool event_idx,
                       uint16_t start)
{
    struct err e;

    *m = (struct model){ .rng = { seed }, .indirect = indirect, .event_idx = event_idx };
    mem_init(&m->mem);
    mem_init(&m->shadow);
    rng_fill(&m->rng, m->mem.region[0].host, LOW + HIGH);
    m->tables = ring_init(&m->ring, &m->mem, 4096, size);
    m->n_free_desc = size;
    m->n_free_block = min_size(2 * (LOW - block_at(m, 0)) / BLOCK, 8192);
    m->free_desc = calloc(size, sizeof *m->free_desc);
    m->free_block = calloc(m->n_free_block, sizeof *m->free_block);
    m->sent = calloc(size, sizeof *m->sent);
    m->held = calloc(size, sizeof *m->held);
    m->iov = calloc((size_t)size * size, sizeof *m->iov);
    assert_true(m->free_desc && m->free_block && m->sent && m->held && m->iov);
    for (unsigned i = 0; i < size; i++)
        m->free_desc[i] = (uint16_t)i;
    for (unsigned i = 0; i < m->n_free_block; i++)
        m->free_block[i] = (uint16_t)i;

    struct virtq_setup s = ring_setup(&m->ring);

    s.indirect = indirect;
    s.event_idx = event_idx;
    assert_int_equal(virtq_start(&m->q, &m->mem, &s, size, &e), 0);
    /* As if it had run for a while: the wrap at 65536 is never far. */
    uint8_t state[6];
    struct wbuf w = { .data = state, .cap = sizeof state };
    struct rbuf r = { .data = state, .len = sizeof state };

    for (int i = 0; i < 3; i++)
        wbuf_u16(&w, start);
    assert_int_equal(virtq_load(&m->q, &r), 0);
    *ring_avail(&m->ring, 1) = *ring_used(&m->ring, 1) = start;
    m->ring.offered = m->ring.seen = m->taken = m->published = m->pushed = start;
    memcpy(m->shadow.region[0].host, m->mem.region[0].host, LOW + HIGH);
}

static void model_fini(struct model *m)
{
    compare_all(m);
    free(m->mem.region[0].host);
    free(m->shadow.region[0].host);
    free(m->free_desc);
    free(m->free_block);
    free(m->sent);
    free(m->held);
    free(m->iov);
}

/* --- the driver --------------------------------------------------------------------------- */

static uint16_t pick(struct model *m, uint16_t *list, unsigned *n)
{
    unsigned i = (unsigned)rng_below(&m->rng, *n);
    uint16_t v = list[i];

    list[i] = list[--*n];
    return v;
}

/* A descriptor of a buffer of random place and length, 0 too, noted in s. */
static struct ring_desc make_buffer(struct model *m, struct sent *s, bool write)
{
    uint16_t block = pick(m, m->free_block, &m->n_free_block);
    uint32_t off = (uint32_t)rng_below(&m->rng, BLOCK);
    uint32_t len = rng_chance(&m->rng, 10) ? 0 : (uint32_t)rng_below(&m->rng, BLOCK - off + 1);
    uint64_t at = block_at(m, block) + off;

    s->block[s->n_block++] = block;
    if (write) {
        if (len)
            s->w[s->n_w++] = (struct iovec){ ram(&m->shadow, at, len), len };
        s->writable += len;
    } else {
        rng_fill(&m->rng, s->data + s->readable, len);
        if (len)
            both_write(m, at, s->data + s->readable, len);
        s->readable += len;
    }
    /* Bits that mean nothing here must not matter, nor where nothing points to. */
    uint16_t noise = (uint16_t)(rng_next(&m->rng) & 0xfff8);

    return (struct ring_desc){ len ? at : rng_next(&m->rng), len,
                               (uint16_t)(noise | (write ? D_WRITE : 0)),
                               (uint16_t)rng_next(&m->rng) };
}

/* An indirect table of n buffers, the first n_r of them readable, its entries in random order but
 * for the first. */
static void make_table(struct model *m, struct sent *s, uint64_t table, unsigned n, unsigned n_r)
{
    uint16_t order[TABLE], rest[TABLE];
    unsigned left = 0;

    for (unsigned i = 1; i < n; i++)
        rest[left++] = (uint16_t)i;
    order[0] = 0;
    for (unsigned i = 1; i < n; i++)
        order[i] = pick(m, rest, &left);
    for (unsigned i = 0; i < n; i++) {
        struct ring_desc d = make_buffer(m, s, i >= n_r);

        if (i + 1 < n) {
            d.flags |= D_NEXT;
            d.next = order[i + 1];
        }
        both_write(m, table + 16 * (uint64_t)order[i], &d, sizeof d);
    }
}

/* Offers one random chain. false: no descriptors are free. */
static bool offer_one(struct model *m)
{
    if (m->n_free_desc == 0)
        return false;
    unsigned most = (unsigned)min_size(m->n_free_desc, 6);
    unsigned direct = 1 + (unsigned)rng_below(&m->rng, most), table = 0;
    uint16_t desc[16];

    if (m->indirect && rng_chance(&m->rng, 50)) {
        /* The table's own descriptor is no buffer, and the chain no longer than the queue. */
        table = 1 + (unsigned)rng_below(&m->rng, min_size(TABLE, m->ring.size - (direct - 1)));
    }
    for (unsigned i = 0; i < direct; i++)
        desc[i] = pick(m, m->free_desc, &m->n_free_desc);
    struct sent *s = &m->sent[desc[0]];
    unsigned buffers = table ? direct - 1 + table : direct;
    unsigned n_r = (unsigned)rng_below(&m->rng, buffers + 1);

    assert_false(s->live);
    *s = (struct sent){ .live = true, .n_desc = (uint16_t)direct };
    memcpy(s->desc, desc, direct * sizeof *desc);
    for (unsigned i = 0; i < direct; i++) {
        struct ring_desc d;

        if (table && i + 1 == direct) {
            uint64_t at = m->tables + (uint64_t)desc[0] * TABLE * 16;

            make_table(m, s, at, table, n_r > i ? n_r - i : 0);
            d = (struct ring_desc){ at, 16 * table, D_INDIRECT, (uint16_t)rng_next(&m->rng) };
            if (rng_chance(&m->rng, 50)) /* to be ignored (2.7.5.3.2) */
                d.flags |= D_WRITE;
        } else {
            d = make_buffer(m, s, i >= n_r);
        }
        if (i + 1 < direct) {
            d.flags |= D_NEXT;
            d.next = desc[i + 1];
        }
        both_write(m, m->ring.desc + 16 * (uint64_t)desc[i], &d, sizeof d);
    }
    m->offered[m->ring.offered % m->ring.size] = desc[0];
    shadow_u16(m, ring_avail(&m->ring, 2U + m->ring.offered % m->ring.size), desc[0]);
    ring_put(&m->ring, desc[0]);
    return true;
}

static void offer(struct model *m)
{
    uint16_t from = m->ring.offered;

    for (uint64_t n = 1 + rng_below(&m->rng, 4); n && offer_one(m); n--)
        ;
    ring_publish(&m->ring);
    shadow_u16(m, ring_avail(&m->ring, 1), m->ring.offered);
    /* A device that went to sleep must be told of the first that comes after. */
    if (m->asleep && m->ring.offered != from) {
        assert_true(ring_must_kick(&m->ring, from, m->event_idx));
        m->asleep = false;
    }
    /* What the driver wishes about interrupts changes now and then. */
    if (rng_chance(&m->rng, 30)) {
        uint16_t event = (uint16_t)(m->pushed + rng_below(&m->rng, 6) - 2);
        uint16_t flags = (uint16_t)rng_below(&m->rng, 2);

        *ring_used_event(&m->ring) = event;
        shadow_u16(m, ring_used_event(&m->ring), event);
        *ring_avail(&m->ring, 0) = flags;
        shadow_u16(m, ring_avail(&m->ring, 0), flags);
    }
}

static void reap(struct model *m)
{
    uint32_t id, len;

    while (m->ring.seen != m->published) {
        const struct used *u = &m->expect[m->ring.seen % m->ring.size];

        assert_true(ring_take(&m->ring, &id, &len));
        assert_int_equal(id, u->id);
        assert_int_equal(len, u->len);
        struct sent *s = &m->sent[id];

        assert_true(s->live);
        s->live = false;
        for (unsigned i = 0; i < s->n_desc; i++)
            m->free_desc[m->n_free_desc++] = s->desc[i];
        for (unsigned i = 0; i < s->n_block; i++)
            m->free_block[m->n_free_block++] = s->block[i];
        m->done++;
    }
    assert_false(ring_take(&m->ring, &id, &len)); /* nothing that was not published */
}

/* --- the device --------------------------------------------------------------------------- */

static void pop_one(struct model *m)
{
    struct chain c = { .iov_max = m->ring.size };
    bool some = m->taken != m->ring.offered;
    uint8_t got[sizeof((struct sent *)0)->data];

    /* Its iovecs must outlive it; a head is held once at most. */
    if (some)
        c.iov = m->iov + (size_t)m->offered[m->taken % m->ring.size] * m->ring.size;
    assert_int_equal(virtq_pop(&m->q, &c), some);
    if (!some)
        return;
    uint16_t head = m->offered[m->taken++ % m->ring.size];
    const struct sent *s = &m->sent[head];

    m->asleep = false; /* it woke by itself */
    assert_int_equal(c.head, head);
    assert_int_equal(cursor_left(&c.r), s->readable);
    assert_int_equal(cursor_left(&c.w), s->writable);
    assert_int_equal(c.writable, s->writable);
    assert_int_equal(cursor_get(&c.r, got, s->readable), 0);
    assert_memory_equal(got, s->data, s->readable);
    m->held[m->n_held++] = c;
}

/* Completes a random one of those held, with an answer of random length. */
static void push_one(struct model *m)
{
    if (m->n_held == 0)
        return;
    unsigned i = (unsigned)rng_below(&m->rng, m->n_held);
    struct chain c = m->held[i];
    const struct sent *s = &m->sent[c.head];
    uint8_t answer[sizeof s->data];
    struct cursor want;
    uint32_t n = rng_chance(&m->rng, 30) ? c.writable
                                         : (uint32_t)rng_below(&m->rng, (uint64_t)c.writable + 1);

    m->held[i] = m->held[--m->n_held];
    rng_fill(&m->rng, answer, n);
    assert_int_equal(cursor_put(&c.w, answer, n), 0);
    cursor_init(&want, s->w, s->n_w);
    assert_int_equal(cursor_put(&want, answer, n), 0);
    virtq_push(&m->q, &c, n);

    struct used *u = &m->expect[m->pushed % m->ring.size];
    uint32_t elem[2] = { c.head, n };

    *u = (struct used){ c.head, n };
    memcpy(ram(&m->shadow, m->ring.used + 4 + 8 * (uint64_t)(m->pushed % m->ring.size), 8), elem,
           8);
    m->pushed++;
}

static void publish(struct model *m)
{
    bool want = m->published != m->pushed;

    if (m->event_idx)
        want = must_notify(m->published, m->pushed, *ring_used_event(&m->ring));
    else
        want = want && !(*ring_avail(&m->ring, 0) & 1);
    assert_int_equal(virtq_publish(&m->q), want);
    m->published = m->pushed;
    shadow_u16(m, ring_used(&m->ring, 1), m->published);
    assert_false(virtq_publish(&m->q)); /* nothing new, no interrupt */
}

static void rearm(struct model *m)
{
    bool more = m->taken != m->ring.offered;

    assert_int_equal(virtq_rearm(&m->q), more);
    if (m->event_idx)
        shadow_u16(m, ring_avail_event(&m->ring), m->taken);
    else
        shadow_u16(m, ring_used(&m->ring, 0), 0);
    m->asleep = !more;
}

/* Leaves what waits where it is, and wants to be told once more than n wait. */
static void watch(struct model *m)
{
    uint16_t waiting = (uint16_t)(m->ring.offered - m->taken);
    uint16_t n = rng_chance(&m->rng, 50) ? waiting : (uint16_t)rng_below(&m->rng, m->ring.size);

    if (n == m->ring.size) /* more can't be */
        n--;
    virtq_watch(&m->q, n);
    if (m->event_idx)
        shadow_u16(m, ring_avail_event(&m->ring), (uint16_t)(m->taken + n));
    else
        shadow_u16(m, ring_used(&m->ring, 0), 0);
    m->asleep = n == waiting || !m->event_idx;
}

static void disarm(struct model *m)
{
    virtq_disarm(&m->q);
    if (m->event_idx) {
        assert_int_equal(*ring_used(&m->ring, 0), 0); /* the flags stay 0 then (2.7.10.2) */
    } else {
        shadow_u16(m, ring_used(&m->ring, 0), 1);
        assert_false(ring_must_kick(&m->ring, m->ring.offered, false));
        m->asleep = false;
    }
}

static void step(struct model *m)
{
    assert_int_equal(virtq_waiting(&m->q), (uint16_t)(m->ring.offered - m->taken));
    assert_int_equal(virtq_caught_up(&m->q),
                     m->event_idx && *ring_used_event(&m->ring) == m->published);
    switch (rng_below(&m->rng, 8)) {
    case 0:
    case 1:
        offer(m);
        break;
    case 2:
    case 3:
        for (uint64_t n = rng_below(&m->rng, 6); n; n--)
            pop_one(m);
        break;
    case 4:
        for (uint64_t n = rng_below(&m->rng, 6); n; n--)
            push_one(m);
        break;
    case 5:
        publish(m);
        break;
    case 6:
        reap(m);
        break;
    default:
        (void (*[])(struct model *)){ rearm, disarm, watch }[rng_below(&m->rng, 3)](m);
    }
}

/* Runs until n chains came back, then until none is held anywhere. */
static void play(struct model *m, uint64_t n)
{
    uint64_t check = 0;

    while (m->done < n) {
        step(m);
        assert_int_equal(virtq_idle(&m->q), m->n_held == 0);
        if (++check % 1024 == 0)
            compare_all(m);
    }
    while (m->taken != m->ring.offered)
        pop_one(m);
    while (m->n_held)
        push_one(m);
    publish(m);
    reap(m);
    assert_int_equal(m->n_free_desc, m->ring.size);
    assert_true(virtq_idle(&m->q));
    compare_all(m);
}

static void every_size_and_feature(void **state)
{
    (void)state;
    for (unsigned size = 1; size <= VIRTQ_SIZE_MAX; size *= 2)
        for (unsigned features = 0; features < 4; features++) {
            struct model m;

            model_init(&m, size * 4 + features, (uint16_t)size, features & 1, features & 2,
                       (uint16_t)(INDICES - size - 100));
            play(&m, 1000);
            model_fini(&m);
        }
}

static void indices_wrap_several_times(void **state)
{
    (void)state;
    for (unsigned features = 0; features < 4; features += 3) {
        struct model m;

        model_init(&m, 77 + features, 32, features & 1, features & 2, 0);
        play(&m, 2 * INDICES + 1000);
        model_fini(&m);
    }
}

/* --- notifications ------------------------------------------------------------------------ */

/* Every position of the event index, for windows around the wrap and elsewhere. The queue's own
 * indices are set directly: publish reads nothing else. */
static void interrupts_by_event_index(void **state)
{
    static const uint16_t befores[] = { 0, 1, 7, 32767, 65528, 65535 };
    static const uint16_t counts[] = { 0, 1, 2, 7, 8 };
    struct model m;

    (void)state;
    model_init(&m, 1, 8, false, true, 0);
    for (size_t b = 0; b < ARRAY_LEN(befores); b++)
        for (size_t c = 0; c < ARRAY_LEN(counts); c++)
            for (unsigned event = 0; event < INDICES; event++) {
                uint16_t now = (uint16_t)(befores[b] + counts[c]);

                m.q.published = befores[b];
                m.q.used_next = now;
                *ring_used_event(&m.ring) = (uint16_t)event;
                /* The flags must not matter (2.7.7.2). */
                *ring_avail(&m.ring, 0) = event & 1;
                if (virtq_publish(&m.q) != must_notify(befores[b], now, (uint16_t)event))
                    fail_msg("from %u, %u of them, event %u", befores[b], counts[c], event);
            }
    memcpy(m.shadow.region[0].host, m.mem.region[0].host, LOW + HIGH);
    model_fini(&m);
}

static void interrupts_by_flag(void **state)
{
    struct model m;

    (void)state;
    model_init(&m, 2, 8, false, false, 0);
    for (unsigned flags = 0; flags < 4; flags++)
        for (unsigned n = 0; n < 3; n++)
            for (unsigned event = 0; event < 16; event++) {
                m.q.published = 5;
                m.q.used_next = (uint16_t)(5 + n);
                *ring_used_event(&m.ring) = (uint16_t)event; /* must not matter */
                *ring_avail(&m.ring, 0) = (uint16_t)flags;
                assert_int_equal(virtq_publish(&m.q), n && !(flags & 1));
            }
    memcpy(m.shadow.region[0].host, m.mem.region[0].host, LOW + HIGH);
    model_fini(&m);
}

/* --- a real second thread ----------------------------------------------------------------- */

#define RACE_CHAINS 30000U

struct racer {
    struct virtq q;
    unsigned kicks, interrupts; /* counters of the two directions */
    bool failed;
};

/* Waits for *counter to move past *seen. false: it did not for a long time, a lost wake-up. */
static bool await(const unsigned *counter, unsigned *seen)
{
    int64_t end = wall_ms() + 5000;

    for (unsigned spins = 0;; spins++) {
        unsigned now = __atomic_load_n(counter, __ATOMIC_ACQUIRE);

        if (now != *seen) {
            *seen = now;
            return true;
        }
        if (spins > 100)
            sched_yield();
        if (spins % 1024 == 0 && wall_ms() > end)
            return false;
    }
}

static void *race_device(void *arg)
{
    struct racer *r = arg;
    struct iovec iov[16];
    struct chain c = { .iov = iov, .iov_max = ARRAY_LEN(iov) };
    unsigned seen = 0, done = 0;

    while (done < RACE_CHAINS) {
        virtq_disarm(&r->q);
        for (int ret; (ret = virtq_pop(&r->q, &c)) != 0;) {
            uint32_t v;

            if (ret < 0 || cursor_get(&c.r, &v, sizeof v) || cursor_put(&c.w, &v, sizeof v)) {
                r->failed = true;
                return NULL;
            }
            virtq_push(&r->q, &c, sizeof v);
            done++;
            if (virtq_publish(&r->q))
                __atomic_fetch_add(&r->interrupts, 1, __ATOMIC_RELEASE);
        }
        if (done < RACE_CHAINS && !virtq_rearm(&r->q) && !await(&r->kicks, &seen)) {
            r->failed = true;
            return NULL;
        }
    }
    return NULL;
}

/* Both sides sleep until told: a notification lost in either direction stops the exchange. */
static void no_wake_up_is_lost_between_threads(void **state)
{
    (void)state;
    for (int event_idx = 0; event_idx < 2; event_idx++) {
        struct racer r = { 0 };
        struct gmem mem;
        struct ring ring;
        struct err e;
        pthread_t thread;
        unsigned seen = 0;
        uint32_t id, len;

        mem_init(&mem);
        ring_init(&ring, &mem, 0, 16);
        struct virtq_setup s = ring_setup(&ring);

        s.event_idx = event_idx;
        assert_int_equal(virtq_start(&r.q, &mem, &s, 16, &e), 0);
        assert_int_equal(pthread_create(&thread, NULL, race_device, &r), 0);
        for (uint32_t sent = 0, back = 0; back < RACE_CHAINS;) {
            uint16_t from = ring.offered;

            while (sent < RACE_CHAINS && sent - back < 8 && (sent % 3 || ring.offered == from)) {
                uint16_t at = (uint16_t)(sent % 8 * 2);
                uint64_t buf = 0x10000 + at * 8UL;

                memcpy(ram(&mem, buf, 4), &sent, 4);
                ring_desc(&ring, at, (struct ring_desc){ buf, 4, D_NEXT, at + 1 });
                ring_desc(&ring, at + 1U, (struct ring_desc){ buf + 4, 4, D_WRITE, 0 });
                ring_put(&ring, at);
                sent++;
            }
            ring_publish(&ring);
            if (ring.offered != from && ring_must_kick(&ring, from, event_idx))
                __atomic_fetch_add(&r.kicks, 1, __ATOMIC_RELEASE);
            /* Ask for the next used one, then look once more before sleeping. */
            __atomic_store_n(ring_used_event(&ring), ring.seen, __ATOMIC_RELAXED);
            __atomic_thread_fence(__ATOMIC_SEQ_CST);
            bool any = false;

            while (ring_take(&ring, &id, &len)) {
                uint32_t echo;

                any = true;
                memcpy(&echo, ram(&mem, 0x10000 + id * 8UL + 4, 4), 4);
                assert_int_equal(id, back % 8 * 2);
                assert_int_equal(len, 4);
                assert_int_equal(echo, back++);
            }
            if (!any && back < RACE_CHAINS && !await(&r.interrupts, &seen))
                fail_msg("no interrupt after %u chains, event_idx %d", back, event_idx);
        }
        pthread_join(thread, NULL);
        assert_false(r.failed);
        free(mem.region[0].host);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_and_feature),
        cmocka_unit_test(indices_wrap_several_times),
        cmocka_unit_test(interrupts_by_event_index),
        cmocka_unit_test(interrupts_by_flag),
        cmocka_unit_test(no_wake_up_is_lost_between_threads),
    };

    return cmocka_run_group_tests(tests, unit_watchdog, NULL);
}
