/* The virtqueue against drivers that break the rules: each way has a row here. A broken rule gives
 * -EPROTO and keeps giving it, writes nothing anywhere, and a queue started anew works. */
#include "tests/unit/driver.h"

#include <stdlib.h>

#include "core/num.h"

#define LOW  0x8000U
#define HIGH 0x4000U
#define SIZE 8U

#define TABLE 0x4000U /* where indirect tables lie, with room for SIZE + 1 entries and more */
#define DATA  0x6000U

struct rig {
    struct gmem mem;
    uint8_t *host, *before; /* guest memory, and as it was */
    struct ring ring;
    struct virtq q;
    struct virtq_setup setup;
    struct iovec iov[VIRTQ_SIZE_MAX];
    struct chain c;
};

static void rig_start(struct rig *g)
{
    struct err e;

    assert_int_equal(virtq_start(&g->q, &g->mem, &g->setup, SIZE, &e), 0);
}

static void rig_init(struct rig *g, bool indirect)
{
    struct rng r = { 9 };

    *g = (struct rig){ .host = malloc(LOW + HIGH), .before = malloc(LOW + HIGH) };
    assert_true(g->host && g->before);
    rng_fill(&r, g->host, LOW + HIGH);
    g->mem = (struct gmem){ .n = 2,
                            .size = LOW + HIGH,
                            .region = {
                                { .base = 0, .len = LOW, .host = g->host },
                                { .base = GMEM_HIGH_BASE, .len = HIGH, .host = g->host + LOW },
                            } };
    ring_init(&g->ring, &g->mem, 0x1000, SIZE);
    g->setup = ring_setup(&g->ring);
    g->setup.indirect = indirect;
    g->c = (struct chain){ .iov = g->iov, .iov_max = ARRAY_LEN(g->iov) };
    rig_start(g);
}

static void rig_fini(struct rig *g)
{
    free(g->host);
    free(g->before);
}

static void snapshot(struct rig *g)
{
    memcpy(g->before, g->host, LOW + HIGH);
}

static void nothing_was_written(const struct rig *g)
{
    assert_memory_equal(g->host, g->before, LOW + HIGH);
}

/* A queue that works: one chain with readable and writable parts goes through. */
static void works(struct rig *g, uint16_t head)
{
    uint32_t id, len;
    char got[4];

    memcpy(ram(&g->mem, DATA, 4), "ping", 4);
    ring_desc(&g->ring, head, (struct ring_desc){ DATA, 4, D_NEXT, (head + 1) % SIZE });
    ring_desc(&g->ring, (head + 1) % SIZE, (struct ring_desc){ DATA + 16, 8, D_WRITE, 0 });
    ring_offer(&g->ring, head);
    assert_int_equal(virtq_pop(&g->q, &g->c), 1);
    assert_int_equal(cursor_get(&g->c.r, got, 4), 0);
    assert_memory_equal(got, "ping", 4);
    assert_int_equal(cursor_put(&g->c.w, "pong", 4), 0);
    virtq_push(&g->q, &g->c, 4);
    assert_true(virtq_publish(&g->q));
    assert_true(ring_take(&g->ring, &id, &len));
    assert_int_equal(id, head);
    assert_int_equal(len, 4);
    assert_memory_equal(ram(&g->mem, DATA + 16, 4), "pong", 4);
    assert_int_equal(virtq_pop(&g->q, &g->c), 0);
}

/* The queue is broken and stays so whatever the driver does next, and starts anew. */
static void broken_until_started(struct rig *g)
{
    snapshot(g);
    assert_int_equal(virtq_pop(&g->q, &g->c), -EPROTO);
    assert_non_null(g->q.fault);
    nothing_was_written(g);
    /* The driver mends its chain and offers more: too late. */
    for (unsigned i = 0; i < SIZE; i++)
        ring_desc(&g->ring, i, (struct ring_desc){ DATA, 4, 0, 0 });
    ring_offer(&g->ring, 0);
    snapshot(g);
    assert_int_equal(virtq_pop(&g->q, &g->c), -EPROTO);
    assert_false(virtq_rearm(&g->q));
    virtq_watch(&g->q, 0);
    assert_int_equal(virtq_waiting(&g->q), 0);
    assert_false(virtq_publish(&g->q));
    nothing_was_written(g);
    ring_init(&g->ring, &g->mem, 0x1000, SIZE);
    rig_start(g);
    assert_null(g->q.fault);
    works(g, 3);
}

/* --- chains ------------------------------------------------------------------------------- */

struct entry {
    unsigned at;
    struct ring_desc d;
};

/* One bad chain from head 0. Entries of the descriptor table, and of the indirect one. */
static const struct {
    const char *what;
    bool no_indirect; /* not negotiated */
    struct entry desc[SIZE], table[SIZE + 2];
    unsigned n_desc, n_table;
} bad_chains[] = {
    { "a next out of range", .n_desc = 1, .desc = { { 0, { DATA, 4, D_NEXT, SIZE } } } },
    { "a next far out of range", .n_desc = 1, .desc = { { 0, { DATA, 4, D_NEXT, 0xffff } } } },
    { "a loop of one", .n_desc = 1, .desc = { { 0, { DATA, 4, D_NEXT, 0 } } } },
    { "a loop of empty ones", .n_desc = 1, .desc = { { 0, { DATA, 0, D_NEXT, 0 } } } },
    { "a loop of three", .n_desc = 4,
      .desc = { { 0, { DATA, 4, D_NEXT, 1 } },
                { 1, { DATA, 4, D_NEXT, 2 } },
                { 2, { DATA, 4, D_NEXT, 3 } },
                { 3, { DATA, 4, D_NEXT, 1 } } } },
    { "the last byte of low RAM and one more", .n_desc = 1,
      .desc = { { 0, { LOW - 1, 2, 0, 0 } } } },
    { "into the hole", .n_desc = 1, .desc = { { 0, { LOW - 4096, 8192, 0, 0 } } } },
    { "in the hole", .n_desc = 1, .desc = { { 0, { 0xd0000000, 4, 0, 0 } } } },
    { "in the hole, writable", .n_desc = 1, .desc = { { 0, { 0xfee00000, 4, D_WRITE, 0 } } } },
    { "the last byte of the hole", .n_desc = 1,
      .desc = { { 0, { GMEM_HIGH_BASE - 1, 2, 0, 0 } } } },
    { "behind high RAM", .n_desc = 1, .desc = { { 0, { GMEM_HIGH_BASE + HIGH, 1, 0, 0 } } } },
    { "one byte behind high RAM", .n_desc = 1,
      .desc = { { 0, { GMEM_HIGH_BASE + 1, HIGH, D_WRITE, 0 } } } },
    { "an address that wraps", .n_desc = 1, .desc = { { 0, { UINT64_MAX - 3, 8, 0, 0 } } } },
    { "an address that wraps into RAM", .n_desc = 1,
      .desc = { { 0, { UINT64_MAX - 0xfff, 0x2000, D_WRITE, 0 } } } },
    { "all of 32 bits", .n_desc = 1, .desc = { { 0, { 0, UINT32_MAX, 0, 0 } } } },
    { "bad at its end", .n_desc = 3,
      .desc = { { 0, { DATA, 4, D_NEXT, 1 } },
                { 1, { DATA, 4, D_NEXT | D_WRITE, 2 } },
                { 2, { LOW, 4, D_WRITE, 0 } } } },
    { "readable behind writable", .n_desc = 2,
      .desc = { { 0, { DATA, 4, D_NEXT | D_WRITE, 1 } }, { 1, { DATA, 4, 0, 0 } } } },
    { "readable between writable ones", .n_desc = 4,
      .desc = { { 0, { DATA, 4, D_NEXT, 5 } },
                { 5, { DATA, 4, D_NEXT | D_WRITE, 6 } },
                { 6, { DATA, 4, D_NEXT, 7 } },
                { 7, { DATA, 4, D_WRITE, 0 } } } },
    { "readable behind an empty writable one", .n_desc = 2,
      .desc = { { 0, { DATA, 0, D_NEXT | D_WRITE, 1 } }, { 1, { DATA, 4, 0, 0 } } } },
    { "indirect, not negotiated", .no_indirect = true, .n_desc = 1,
      .desc = { { 0, { TABLE, 16, D_INDIRECT, 0 } } }, .n_table = 1,
      .table = { { 0, { DATA, 4, 0, 0 } } } },
    { "indirect with a next", .n_desc = 2,
      .desc = { { 0, { TABLE, 16, D_INDIRECT | D_NEXT, 1 } }, { 1, { DATA, 4, 0, 0 } } },
      .n_table = 1, .table = { { 0, { DATA, 4, 0, 0 } } } },
    { "indirect in indirect", .n_desc = 1, .desc = { { 0, { TABLE, 16, D_INDIRECT, 0 } } },
      .n_table = 2,
      .table = { { 0, { TABLE + 16, 16, D_INDIRECT, 0 } }, { 1, { DATA, 4, 0, 0 } } } },
    { "indirect in indirect, not the first", .n_desc = 1,
      .desc = { { 0, { TABLE, 32, D_INDIRECT, 0 } } }, .n_table = 3,
      .table = { { 0, { DATA, 4, D_NEXT, 1 } },
                 { 1, { TABLE + 32, 16, D_INDIRECT, 0 } },
                 { 2, { DATA, 4, 0, 0 } } } },
    { "an indirect table that is itself", .n_desc = 1,
      .desc = { { 0, { TABLE, 16, D_INDIRECT, 0 } } }, .n_table = 1,
      .table = { { 0, { TABLE, 16, D_INDIRECT, 0 } } } },
    { "an indirect table of nothing", .n_desc = 1, .desc = { { 0, { TABLE, 0, D_INDIRECT, 0 } } } },
    { "an indirect table of half an entry", .n_desc = 1,
      .desc = { { 0, { TABLE, 8, D_INDIRECT, 0 } } } },
    { "an indirect table of one and a half entries", .n_desc = 1,
      .desc = { { 0, { TABLE, 24, D_INDIRECT, 0 } } }, .n_table = 1,
      .table = { { 0, { DATA, 4, 0, 0 } } } },
    { "an indirect table longer than the queue", .n_desc = 1,
      .desc = { { 0, { TABLE, 16 * (SIZE + 1), D_INDIRECT, 0 } } }, .n_table = 1,
      .table = { { 0, { DATA, 4, 0, 0 } } } },
    { "an indirect table of 4 GiB", .n_desc = 1,
      .desc = { { 0, { TABLE, 0xfffffff0, D_INDIRECT, 0 } } } },
    { "an indirect table that leaves RAM", .n_desc = 1,
      .desc = { { 0, { LOW - 16, 32, D_INDIRECT, 0 } } } },
    { "an indirect table in the hole", .n_desc = 1,
      .desc = { { 0, { 0xd0000000, 16, D_INDIRECT, 0 } } } },
    { "an indirect table that wraps", .n_desc = 1,
      .desc = { { 0, { UINT64_MAX - 15, 32, D_INDIRECT, 0 } } } },
    { "a next out of the indirect table, inside the other", .n_desc = 1,
      .desc = { { 0, { TABLE, 32, D_INDIRECT, 0 } } }, .n_table = 2,
      .table = { { 0, { DATA, 4, D_NEXT, 2 } }, { 2, { DATA, 4, 0, 0 } } } },
    { "a loop in an indirect table", .n_desc = 1, .desc = { { 0, { TABLE, 32, D_INDIRECT, 0 } } },
      .n_table = 2, .table = { { 0, { DATA, 4, D_NEXT, 1 } }, { 1, { DATA, 4, D_NEXT, 0 } } } },
    { "an indirect table that loops on its first entry", .n_desc = 1,
      .desc = { { 0, { TABLE, 16, D_INDIRECT, 0 } } }, .n_table = 1,
      .table = { { 0, { DATA, 4, D_NEXT, 0 } } } },
    { "bad memory by an indirect table", .n_desc = 1,
      .desc = { { 0, { TABLE, 16, D_INDIRECT, 0 } } }, .n_table = 1,
      .table = { { 0, { LOW, 4, 0, 0 } } } },
    { "readable in a table behind writable before it", .n_desc = 2,
      .desc = { { 0, { DATA, 4, D_NEXT | D_WRITE, 1 } }, { 1, { TABLE, 16, D_INDIRECT, 0 } } },
      .n_table = 1, .table = { { 0, { DATA, 4, 0, 0 } } } },
    { "longer than the queue, a part before a full table", .n_desc = 2,
      .desc = { { 0, { DATA, 4, D_NEXT, 1 } }, { 1, { TABLE, 16 * SIZE, D_INDIRECT, 0 } } },
      .n_table = SIZE,
      .table = { { 0, { DATA, 4, D_NEXT, 1 } },
                 { 1, { DATA, 4, D_NEXT, 2 } },
                 { 2, { DATA, 4, D_NEXT, 3 } },
                 { 3, { DATA, 4, D_NEXT, 4 } },
                 { 4, { DATA, 4, D_NEXT, 5 } },
                 { 5, { DATA, 4, D_NEXT, 6 } },
                 { 6, { DATA, 4, D_NEXT, 7 } },
                 { 7, { DATA, 4, 0, 0 } } } },
};

static void bad_chain(size_t i, bool after_a_good_one)
{
    struct rig g;

    rig_init(&g, !bad_chains[i].no_indirect);
    if (after_a_good_one)
        works(&g, 1);
    for (unsigned k = 0; k < bad_chains[i].n_desc; k++)
        ring_desc(&g.ring, bad_chains[i].desc[k].at, bad_chains[i].desc[k].d);
    for (unsigned k = 0; k < bad_chains[i].n_table; k++)
        desc_set(&g.mem, TABLE, bad_chains[i].table[k].at, bad_chains[i].table[k].d);
    ring_offer(&g.ring, 0);
    snapshot(&g);
    int ret = virtq_pop(&g.q, &g.c);

    if (ret != -EPROTO)
        fail_msg("%s: %d", bad_chains[i].what, ret);
    nothing_was_written(&g);
    assert_true(virtq_idle(&g.q)); /* it never went into flight */
    broken_until_started(&g);
    rig_fini(&g);
}

static void bad_chains_break_the_queue(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_chains); i++) {
        bad_chain(i, false);
        bad_chain(i, true);
    }
}

/* At the edge of what is forbidden lies what must work. */
static void chains_at_the_limit(void **state)
{
    struct rig g;
    char got[4 * SIZE];

    (void)state;
    rig_init(&g, true);
    /* As long as the queue, all its descriptors. */
    for (unsigned i = 0; i < SIZE; i++)
        ring_desc(
            &g.ring, i,
            (struct ring_desc){ DATA + 4 * i, 4, i + 1 < SIZE ? D_NEXT : 0, (uint16_t)(i + 1) });
    ring_offer(&g.ring, 0);
    assert_int_equal(virtq_pop(&g.q, &g.c), 1);
    assert_int_equal(cursor_get(&g.c.r, got, sizeof got), 0);
    assert_memory_equal(got, ram(&g.mem, DATA, sizeof got), sizeof got);
    virtq_push(&g.q, &g.c, 0);
    /* A table of as many entries, behind none. */
    for (unsigned i = 0; i < SIZE; i++)
        desc_set(
            &g.mem, TABLE, i,
            (struct ring_desc){ DATA + 4 * i, 4, i + 1 < SIZE ? D_NEXT : 0, (uint16_t)(i + 1) });
    ring_desc(&g.ring, 2, (struct ring_desc){ TABLE, 16 * SIZE, D_INDIRECT | D_WRITE, 0 });
    ring_offer(&g.ring, 2);
    assert_int_equal(virtq_pop(&g.q, &g.c), 1);
    assert_int_equal(cursor_left(&g.c.r), 4 * SIZE);
    virtq_push(&g.q, &g.c, 0);
    /* One buffer before a table of one less; it ends with the last bytes of both regions. */
    desc_set(&g.mem, TABLE, 0, (struct ring_desc){ LOW - 3, 3, D_NEXT, 1 });
    desc_set(&g.mem, TABLE, 6, (struct ring_desc){ GMEM_HIGH_BASE, HIGH, D_WRITE, 0 });
    for (unsigned i = 1; i < 6; i++)
        desc_set(&g.mem, TABLE, i, (struct ring_desc){ UINT64_MAX, 0, D_NEXT, (uint16_t)(i + 1) });
    ring_desc(&g.ring, 4, (struct ring_desc){ DATA, 1, D_NEXT, 5 });
    ring_desc(&g.ring, 5, (struct ring_desc){ TABLE, 16 * (SIZE - 1), D_INDIRECT, 0 });
    ring_offer(&g.ring, 4);
    assert_int_equal(virtq_pop(&g.q, &g.c), 1);
    assert_int_equal(cursor_left(&g.c.r), 4);
    assert_int_equal(g.c.writable, HIGH);
    virtq_push(&g.q, &g.c, HIGH);
    assert_true(virtq_publish(&g.q));
    rig_fini(&g);
}

/* A table needs no alignment, and may end with the last byte of RAM. */
static void tables_anywhere_in_ram(void **state)
{
    static const uint64_t at[] = { TABLE + 1, TABLE + 15, LOW - 32, GMEM_HIGH_BASE,
                                   GMEM_HIGH_BASE + HIGH - 32 };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(at); i++) {
        struct rig g;

        rig_init(&g, true);
        desc_set(&g.mem, at[i], 0, (struct ring_desc){ DATA, 5, D_NEXT, 1 });
        desc_set(&g.mem, at[i], 1, (struct ring_desc){ DATA, 6, D_WRITE, 0 });
        ring_desc(&g.ring, 0, (struct ring_desc){ at[i], 32, D_INDIRECT, 0 });
        ring_offer(&g.ring, 0);
        assert_int_equal(virtq_pop(&g.q, &g.c), 1);
        assert_int_equal(cursor_left(&g.c.r), 5);
        assert_int_equal(g.c.writable, 6);
        rig_fini(&g);
    }
}

/* Nor is it half in RAM: the entries that nobody reads count too. */
static void tables_half_in_ram(void **state)
{
    static const uint64_t at[] = { LOW - 16, GMEM_HIGH_BASE + HIGH - 16 };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(at); i++) {
        struct rig g;

        rig_init(&g, true);
        desc_set(&g.mem, at[i], 0, (struct ring_desc){ DATA, 5, 0, 0 });
        ring_desc(&g.ring, 0, (struct ring_desc){ at[i], 32, D_INDIRECT, 0 });
        ring_offer(&g.ring, 0);
        broken_until_started(&g);
        rig_fini(&g);
    }
}

/* Lengths in all: 4 GiB - 1 byte fit a used entry's length; more than 4 GiB is forbidden (2.7.5.2).
 * RAM of 1 GiB that is never touched lends its addresses. */
static void totals_around_4_gib(void **state)
{
    struct gmem mem;
    struct err e;
    struct ring ring;
    struct virtq q;
    struct iovec iov[16];

    (void)state;
    for (int over = 0; over < 2; over++) {
        struct chain c = { .iov = iov, .iov_max = ARRAY_LEN(iov) };

        assert_int_equal(gmem_init(&mem, GIB, &(struct gmem_opts){ 0 }, &e), 0);
        ring_init(&ring, &mem, 0, 16);
        struct virtq_setup s = ring_setup(&ring);

        assert_int_equal(virtq_start(&q, &mem, &s, 16, &e), 0);
        /* Half readable, half writable: the limit is on their sum. */
        for (unsigned i = 0; i < 5; i++) {
            uint32_t len = i < 4 ? (uint32_t)GIB - 1 : 3 + 2 * (unsigned)over;

            ring_desc(&ring, i,
                      (struct ring_desc){ 0, len, (i < 2 ? 0 : D_WRITE) | (i < 4 ? D_NEXT : 0),
                                          (uint16_t)(i + 1) });
        }
        ring_offer(&ring, 0);
        assert_int_equal(virtq_pop(&q, &c), over ? -EPROTO : 1);
        if (!over)
            assert_int_equal(cursor_left(&c.r) + cursor_left(&c.w), UINT32_MAX);
        gmem_fini(&mem);
    }
}

/* --- indices and heads -------------------------------------------------------------------- */

static void heads_out_of_range(void **state)
{
    static const uint16_t heads[] = { SIZE, SIZE + 1, 63, 64, 1023, 1024, 0x7fff, 0xffff };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        struct rig g;

        rig_init(&g, true);
        works(&g, 0);
        ring_offer(&g.ring, heads[i]);
        broken_until_started(&g);
        rig_fini(&g);
    }
}

/* From every distance of the index: up to the queue's size there are so many, beyond it jumped,
 * backwards included. */
static void jumps_of_the_index(void **state)
{
    struct rig g;

    (void)state;
    rig_init(&g, true);
    for (unsigned i = 0; i < SIZE; i++) {
        ring_desc(&g.ring, i, (struct ring_desc){ DATA, 4, 0, 0 });
        *ring_avail(&g.ring, 2 + i) = (uint16_t)i;
    }
    for (unsigned jump = 0; jump < 65536; jump++) {
        rig_start(&g);
        *ring_avail(&g.ring, 1) = (uint16_t)jump;
        snapshot(&g);
        int want = jump == 0 ? 0 : jump <= SIZE ? 1 : -EPROTO, ret = virtq_pop(&g.q, &g.c);

        if (ret != want)
            fail_msg("index %u: %d", jump, ret);
        if (jump % 4096 < 10)
            nothing_was_written(&g);
    }
    rig_fini(&g);
}

/* The index moves backwards, or on, after some were taken. */
static void the_index_goes_back(void **state)
{
    struct rig g;

    (void)state;
    rig_init(&g, true);
    works(&g, 0);
    works(&g, 2);
    g.ring.offered -= 3;
    ring_publish(&g.ring);
    broken_until_started(&g);
    rig_fini(&g);
}

static void a_head_in_flight_comes_again(void **state)
{
    struct rig g;
    uint32_t id, len;

    (void)state;
    rig_init(&g, true);
    for (unsigned i = 0; i < SIZE; i++)
        ring_desc(&g.ring, i, (struct ring_desc){ DATA, 4, D_WRITE, 0 });
    ring_offer(&g.ring, 5);
    assert_int_equal(virtq_pop(&g.q, &g.c), 1);
    struct chain held = g.c;

    assert_false(virtq_idle(&g.q));
    ring_offer(&g.ring, 6);
    ring_offer(&g.ring, 5);
    assert_int_equal(virtq_pop(&g.q, &g.c), 1);
    assert_int_equal(g.c.head, 6);
    snapshot(&g);
    assert_int_equal(virtq_pop(&g.q, &g.c), -EPROTO);
    nothing_was_written(&g);
    /* What was taken before the fault may still be given back, and touches the used ring alone. */
    virtq_push(&g.q, &held, 4);
    assert_true(virtq_publish(&g.q));
    assert_true(ring_take(&g.ring, &id, &len));
    assert_int_equal(id, 5);
    memcpy(g.before + g.ring.used, g.host + g.ring.used, 4 + 8);
    nothing_was_written(&g);
    broken_until_started(&g);

    /* Once given back it may come again, also before that was published. */
    rig_fini(&g);
    rig_init(&g, true);
    ring_desc(&g.ring, 5, (struct ring_desc){ DATA, 4, D_WRITE, 0 });
    ring_offer(&g.ring, 5);
    ring_offer(&g.ring, 5);
    assert_int_equal(virtq_pop(&g.q, &g.c), 1);
    virtq_push(&g.q, &g.c, 0);
    assert_int_equal(virtq_pop(&g.q, &g.c), 1);
    virtq_push(&g.q, &g.c, 0);
    assert_true(virtq_idle(&g.q));
    rig_fini(&g);
}

/* --- random memory ------------------------------------------------------------------------ */

/* Descriptors, tables and rings of noise, biased to be nearly right: whatever comes out lies in
 * RAM, is no longer than the queue, and nothing is written. */
static void noise(void **state)
{
    struct rng r = { 11 };
    struct rig g;
    unsigned good = 0, bad = 0;

    (void)state;
    rig_init(&g, true);
    for (int round = 0; round < 30000; round++) {
        for (unsigned i = 0; i < 3 * SIZE; i++) {
            static const uint64_t where[] = { DATA, TABLE, TABLE + 16, LOW - 8, GMEM_HIGH_BASE };
            struct ring_desc d = { .addr = where[rng_below(&r, ARRAY_LEN(where))],
                                   .len = (uint32_t)rng_below(&r, 5) * 8,
                                   .flags = (uint16_t)rng_below(&r, rng_chance(&r, 20) ? 8 : 2),
                                   .next = (uint16_t)rng_below(&r, SIZE + (i == 1)) };

            if (i < SIZE)
                ring_desc(&g.ring, i, d);
            else
                desc_set(&g.mem, TABLE, i - SIZE, d);
        }
        ring_init(&g.ring, &g.mem, 0x1000, 0);
        g.ring = (struct ring){ .mem = &g.mem,
                                .size = SIZE,
                                .desc = g.setup.desc.v,
                                .avail = g.setup.avail.v,
                                .used = g.setup.used.v };
        rig_start(&g);
        for (unsigned i = 0; i < SIZE; i++)
            ring_put(&g.ring, (uint16_t)rng_below(&r, SIZE));
        ring_publish(&g.ring);
        snapshot(&g);
        int ret;

        while ((ret = virtq_pop(&g.q, &g.c)) > 0) {
            struct iovec iov[SIZE];
            int n = cursor_take(&g.c.r, cursor_left(&g.c.r), iov, SIZE);

            assert_true(n >= 0);
            int w = cursor_take(&g.c.w, cursor_left(&g.c.w), iov + n, (int)SIZE - n);

            assert_true(w >= 0);
            for (int i = 0; i < n + w; i++) {
                size_t off = (size_t)((uint8_t *)iov[i].iov_base - g.host);

                assert_true(range_within(off, iov[i].iov_len, LOW) ||
                            (off >= LOW && range_within(off - LOW, iov[i].iov_len, HIGH)));
            }
            good++;
        }
        *(ret < 0 ? &bad : &good) += 1;
        nothing_was_written(&g);
    }
    assert_true(good > 1000 && bad > 1000); /* the noise reaches both */
    rig_fini(&g);
}

/* --- setup and state ---------------------------------------------------------------------- */

static void bad_setups_are_refused(void **state)
{
    static const struct {
        uint16_t size, max;
        uint64_t desc, avail, used;
    } rows[] = {
        { 0, 8, 0x1000, 0x2000, 0x3000 },
        { 3, 8, 0x1000, 0x2000, 0x3000 },
        { 7, 8, 0x1000, 0x2000, 0x3000 },
        { 16, 8, 0x1000, 0x2000, 0x3000 },
        { 0xffff, 0xffff, 0x1000, 0x0, 0x3000 },
        { 8, 8, 0x1008, 0x2000, 0x3000 },
        { 8, 8, 0x1001, 0x2000, 0x3000 },
        { 8, 8, 0x1000, 0x2001, 0x3000 },
        { 8, 8, 0x1000, 0x2000, 0x3002 },
        { 8, 8, 0x1000, 0x2000, 0x3001 },
        { 8, 8, LOW - 128 + 16, 0x2000, 0x3000 },
        { 8, 8, 0x1000, LOW - 20, 0x3000 }, /* the event field is outside */
        { 8, 8, 0x1000, 0x2000, LOW - 68 },
        { 8, 8, LOW, 0x2000, 0x3000 },
        { 8, 8, 0x1000, 0xd0000000, 0x3000 },
        { 8, 8, 0x1000, 0x2000, GMEM_HIGH_BASE - 4 },
        { 8, 8, UINT64_MAX - 15, 0x2000, 0x3000 },
        { 8, 8, 0x1000, UINT64_MAX - 1, 0x3000 },
        { 8, 8, 0x1000, 0x2000, UINT64_MAX - 3 },
        { 8, 8, UINT64_MAX - 127, 0x2000, 0x3000 }, /* its end is 2^64 */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rig g;
        struct err e = { 0 };
        struct virtq_setup s = { .size = rows[i].size,
                                 .desc = { rows[i].desc },
                                 .avail = { rows[i].avail },
                                 .used = { rows[i].used } };

        rig_init(&g, true);
        snapshot(&g);
        int ret = virtq_start(&g.q, &g.mem, &s, rows[i].max, &e);

        if (ret != -EPROTO)
            fail_msg("setup %zu: %d", i, ret);
        assert_true(e.msg[0] != 0);
        assert_false(virtq_running(&g.q));
        /* Such a queue does nothing. */
        assert_int_equal(virtq_pop(&g.q, &g.c), 0);
        assert_false(virtq_publish(&g.q));
        assert_false(virtq_rearm(&g.q));
        virtq_disarm(&g.q);
        nothing_was_written(&g);
        rig_start(&g);
        works(&g, 0);
        rig_fini(&g);
    }
}

/* More entries than we can count in flight, with all the memory they need. */
static void the_largest_size(void **state)
{
    struct gmem mem;
    struct err e;
    struct ring ring;
    struct virtq q;
    uint8_t *host = calloc(1, 2 * MIB);

    (void)state;
    assert_non_null(host);
    gmem_init_at(&mem, host, 2 * MIB);
    for (unsigned size = VIRTQ_SIZE_MAX; size <= 32768; size *= 2) {
        ring_init(&ring, &mem, 0, (uint16_t)size);
        struct virtq_setup s = ring_setup(&ring);

        assert_int_equal(virtq_start(&q, &mem, &s, 32768, &e),
                         size == VIRTQ_SIZE_MAX ? 0 : -EPROTO);
    }
    free(host);
}

/* Each part with its last byte the last byte of RAM, and aligned no better than it must be. */
static void setups_at_the_edge_work(void **state)
{
    static const struct {
        uint64_t desc, avail, used;
    } rows[] = {
        { LOW - 128, 0x2002, 0x3004 },
        { 0x1010, LOW - 22, 0x3004 },
        { 0x1010, 0x2002, LOW - 72 },
        { GMEM_HIGH_BASE + HIGH - 128, GMEM_HIGH_BASE, GMEM_HIGH_BASE + 0x100 },
        { 0, 0x1fe, GMEM_HIGH_BASE + HIGH - 72 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rig g;

        rig_init(&g, true);
        g.ring = (struct ring){ .mem = &g.mem,
                                .size = SIZE,
                                .desc = rows[i].desc,
                                .avail = rows[i].avail,
                                .used = rows[i].used };
        memset(ram(&g.mem, rows[i].avail, 22), 0, 22);
        memset(ram(&g.mem, rows[i].used, 70), 0, 70);
        g.setup = ring_setup(&g.ring);
        rig_start(&g);
        works(&g, 0);
        works(&g, 6);
        rig_fini(&g);
    }
}

static void a_stopped_queue_is_silent(void **state)
{
    struct rig g;

    (void)state;
    rig_init(&g, true);
    ring_desc(&g.ring, 0, (struct ring_desc){ DATA, 4, 0, 0 });
    ring_offer(&g.ring, 0);
    virtq_stop(&g.q);
    snapshot(&g);
    assert_false(virtq_running(&g.q));
    assert_int_equal(virtq_pop(&g.q, &g.c), 0);
    assert_false(virtq_publish(&g.q));
    assert_false(virtq_rearm(&g.q));
    virtq_disarm(&g.q);
    virtq_watch(&g.q, 0);
    assert_int_equal(virtq_waiting(&g.q), 0);
    nothing_was_written(&g);
    rig_fini(&g);
}

static void state_goes_round(void **state)
{
    struct rig g;
    uint8_t bytes[64];
    struct wbuf w = { .data = bytes, .cap = sizeof bytes };

    (void)state;
    rig_init(&g, true);
    for (unsigned i = 0; i < 20; i++)
        works(&g, (uint16_t)(i % SIZE));
    virtq_save(&g.q, &w);
    assert_false(w.overflow);
    /* Into a queue at the same place: it goes on where the other stopped. */
    rig_start(&g);
    struct rbuf r = { .data = bytes, .len = w.len };

    assert_int_equal(virtq_load(&g.q, &r), 0);
    assert_int_equal(r.off, r.len);
    assert_int_equal(virtq_pop(&g.q, &g.c), 0);
    works(&g, 4);
    /* Cut short anywhere it is refused. */
    for (size_t len = 0; len < w.len; len++) {
        rig_start(&g);
        r = (struct rbuf){ .data = bytes, .len = len };
        assert_int_equal(virtq_load(&g.q, &r), -EPROTO);
    }
    /* Indices that no idle queue has. */
    for (size_t bit = 0; bit < 8 * w.len; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
        rig_start(&g);
        r = (struct rbuf){ .data = bytes, .len = w.len };
        assert_int_equal(virtq_load(&g.q, &r), -EPROTO);
        bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    rig_fini(&g);
}

/* A consistent lie about the indices harms nobody: the next pop sees a jump. */
static void state_that_lies(void **state)
{
    struct rig g;
    uint8_t bytes[6];

    (void)state;
    rig_init(&g, true);
    works(&g, 0);
    for (unsigned v = 0; v < 65536; v += 97) {
        struct wbuf w = { .data = bytes, .cap = sizeof bytes };
        struct rbuf r = { .data = bytes, .len = sizeof bytes };

        for (int i = 0; i < 3; i++)
            wbuf_u16(&w, (uint16_t)v);
        rig_start(&g);
        assert_int_equal(virtq_load(&g.q, &r), 0);
        snapshot(&g);
        int ret = virtq_pop(&g.q, &g.c);

        assert_int_equal(ret, v == 1 ? 0 : (uint16_t)(1 - v) <= SIZE ? 1 : -EPROTO);
        nothing_was_written(&g);
    }
    rig_fini(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_chains_break_the_queue),
        cmocka_unit_test(chains_at_the_limit),
        cmocka_unit_test(tables_anywhere_in_ram),
        cmocka_unit_test(tables_half_in_ram),
        cmocka_unit_test(totals_around_4_gib),
        cmocka_unit_test(heads_out_of_range),
        cmocka_unit_test(jumps_of_the_index),
        cmocka_unit_test(the_index_goes_back),
        cmocka_unit_test(a_head_in_flight_comes_again),
        cmocka_unit_test(noise),
        cmocka_unit_test(bad_setups_are_refused),
        cmocka_unit_test(the_largest_size),
        cmocka_unit_test(setups_at_the_edge_work),
        cmocka_unit_test(a_stopped_queue_is_silent),
        cmocka_unit_test(state_goes_round),
        cmocka_unit_test(state_that_lies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
