/* The block device with many requests at once: out of order, in several queues, across resets and
 * saves, and under limits. */
#include "tests/unit/blk_rig.h"

static uint32_t irqs(struct rig *g)
{
    uint64_t n = 0;

    if (read(g->dev->irqfd, &n, sizeof n) < 0)
        assert_int_equal(errno, EAGAIN);
    return (uint32_t)n;
}

/* --- in flight ---------------------------------------------------------------------------- */

/* All that the queues hold, ended in a random order: answered in that order, each once. */
static void all_at_once_out_of_order(void **state)
{
    struct rng r = { 4 };

    (void)state;
    for (unsigned round = 0; round < 4; round++) {
        struct rig *g = rig_new();
        struct ask ask[RIG_QUEUES][BLK_QMAX];
        unsigned total = RIG_QUEUES * BLK_QMAX;

        g->opts.queues = RIG_QUEUES;
        g->host.later = true;
        rig_make(g);
        rig_up(g, VIRTIO_F_INDIRECT_DESC | F_MQ | (round % 2 ? VIRTIO_F_EVENT_IDX : 0));
        for (unsigned q = 0; q < RIG_QUEUES; q++)
            for (unsigned i = 0; i < BLK_QMAX; i++)
                ask[q][i] = rig_put(g, q, i, T_IN, (q * BLK_QMAX + i) % RIG_SECTORS, NULL, 512);
        for (unsigned q = 0; q < RIG_QUEUES; q++)
            rig_kick(g, q);
        assert_int_equal(g->host.n, total);
        for (; total; total--) {
            unsigned i = (unsigned)rng_below(&r, total);
            uint64_t sector = g->host.call[i]->off / 512;
            uint32_t id = 0, len = 0;
            unsigned q = 0;

            host_end(g, i);
            host_batch(g);
            while (q < RIG_QUEUES && !ring_take(&g->ring[q], &id, &len))
                q++;
            assert_in_range(q, 0, RIG_QUEUES - 1);
            assert_int_equal(len, 513);
            assert_int_equal((q * BLK_QMAX + id) % RIG_SECTORS, sector);
            assert_int_equal(rig_status(g, &ask[q][id]), S_OK);
            assert_memory_equal(ram(&g->mem, ask[q][id].data, 512), g->host.store + 512 * sector,
                                512);
            *(uint8_t *)ram(&g->mem, ask[q][id].status, 1) = 0xee;
        }
        rig_free(g);
    }
}

/* Calls that end together are told of by one interrupt, if one is wanted. */
static void one_interrupt_a_batch(void **state)
{
    struct rig *g = rig_start(VIRTIO_F_INDIRECT_DESC);

    (void)state;
    g->host.later = true;
    for (unsigned i = 0; i < 32; i++)
        rig_put(g, 0, i, T_IN, i, NULL, 512);
    rig_kick(g, 0);
    irqs(g);
    for (unsigned i = 0; i < 20; i++)
        host_end(g, 0);
    rig_nothing_used(g, 0); /* not yet */
    host_batch(g);
    assert_int_equal(irqs(g), 1);
    for (unsigned i = 0; i < 20; i++)
        rig_used(g, 0, i, 513);
    *ring_avail(&g->ring[0], 0) = 1; /* no interrupt, please */
    host_end(g, 0);
    host_batch(g);
    assert_int_equal(irqs(g), 0);
    rig_used(g, 0, 20, 513);
    rig_free(g);
}

static void event_idx_is_kept(void **state)
{
    struct rig *g = rig_start(VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX);

    (void)state;
    g->host.later = true;
    for (unsigned i = 0; i < 8; i++)
        rig_put(g, 0, i, T_IN, i, NULL, 512);
    rig_kick(g, 0);
    irqs(g);
    *ring_used_event(&g->ring[0]) = 3; /* with the fourth */
    for (unsigned i = 0; i < 8; i++) {
        host_end(g, 0);
        host_batch(g);
        assert_int_equal(irqs(g), i == 3);
    }
    /* It asks for the kick that comes next. */
    assert_int_equal(*ring_avail_event(&g->ring[0]), 8);
    rig_free(g);
}

/* What is offered while a batch is answered needs no kick. */
static void more_is_found_without_a_kick(void **state)
{
    struct rig *g = rig_start(VIRTIO_F_INDIRECT_DESC);

    (void)state;
    g->host.later = true;
    rig_put(g, 0, 0, T_IN, 0, NULL, 512);
    rig_kick(g, 0);
    rig_put(g, 0, 1, T_IN, 1, NULL, 512);
    ring_publish(&g->ring[0]);
    host_end(g, 0);
    host_batch(g);
    assert_int_equal(g->host.n, 1);
    host_end(g, 0);
    host_batch(g);
    rig_used(g, 0, 0, 513);
    rig_used(g, 0, 1, 513);
    rig_free(g);
}

/* Thrice round the ring in one kick's time: all of it is served, whatever the cap on a kick is. */
static void more_than_one_kick_serves(void **state)
{
    struct rig *g = rig_start(VIRTIO_F_INDIRECT_DESC);
    uint32_t id, len;

    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < BLK_QMAX; i++)
            rig_put(g, 0, i, T_GET_ID, 0, NULL, 20);
        rig_kick(g, 0);
        for (unsigned i = 0; i < BLK_QMAX; i++) {
            assert_true(ring_take(&g->ring[0], &id, &len));
            assert_int_equal(id, i);
            assert_int_equal(len, 21);
        }
    }
    rig_free(g);
}

/* An engine that blocks answers each at once, and lets others at the loop in between. */
static void an_engine_that_blocks(void **state)
{
    struct rig *g = rig_new();

    (void)state;
    g->host.blocks = true;
    rig_make(g);
    rig_up(g, VIRTIO_F_INDIRECT_DESC | F_FLUSH);
    for (unsigned i = 0; i < BLK_QMAX; i++)
        rig_put(g, 0, i, T_IN, i, NULL, 512);
    ring_publish(&g->ring[0]);
    reg_write(&g->t, R_NOTIFY, 0);
    for (unsigned before = 0, i = 0; before < BLK_QMAX; before = g->host.logged, i++) {
        rig_pump(g);
        assert_in_range(g->host.logged - before, 1, BLK_QMAX / 2);
        assert_in_range(i, 0, BLK_QMAX);
    }
    for (unsigned i = 0; i < BLK_QMAX; i++)
        rig_used(g, 0, i, 513);
    rig_free(g);
}

/* As many buffers as a chain can have, of one byte and of many. */
static void the_longest_chain(void **state)
{
    struct rig *g = rig_start(VIRTIO_F_INDIRECT_DESC);
    struct part p[BLK_QMAX];
    uint64_t header = rig_room(g, 16), data = rig_room(g, 128 * 512), status = rig_room(g, 1);
    uint32_t total = 0;

    (void)state;
    memset(ram(&g->mem, header, 16), 0, 16);
    p[0] = (struct part){ header, 16, false };
    for (unsigned i = 1; i <= 126; i++) {
        uint32_t len = i < 126 ? 1 + i * 4 % 500 : 512 - total % 512;

        p[i] = (struct part){ data + total, len, true };
        total += len;
    }
    p[127] = (struct part){ status, 1, true };
    rig_chain(g, 0, 0, p, BLK_QMAX);
    rig_kick(g, 0);
    rig_used(g, 0, 0, total + 1);
    assert_int_equal(*(uint8_t *)ram(&g->mem, status, 1), S_OK);
    assert_memory_equal(ram(&g->mem, data, total), g->host.store, total);
    rig_free(g);
}

/* --- ends --------------------------------------------------------------------------------- */

/* Fills a queue with writes, each to the sector of its number. */
static void fill_with_writes(struct rig *g, unsigned n)
{
    uint8_t buf[512];

    for (unsigned i = 0; i < n; i++) {
        memset(buf, (int)i + 1, sizeof buf);
        rig_put(g, 0, i, T_OUT, i, buf, sizeof buf);
    }
    rig_kick(g, 0);
}

static void a_reset_waits_for_what_is_in_flight(void **state)
{
    struct rig *g = rig_start(VIRTIO_F_INDIRECT_DESC);
    uint8_t *before = malloc(RIG_RAM), buf[512];

    (void)state;
    assert_non_null(before);
    g->host.later = true;
    fill_with_writes(g, 60);
    assert_int_equal(g->host.n, 60);
    reg_write(&g->t, R_STATUS, 0);
    assert_int_equal(reg_read(&g->t, R_STATUS), 0);
    assert_int_equal(g->host.n, 0);
    assert_true(g->host.drains > 0);
    for (unsigned i = 0; i < 60; i++)
        assert_int_equal(g->host.store[512 * i], i + 1);
    /* From here on it touches nothing. */
    memcpy(before, ram(&g->mem, 0, RIG_RAM), RIG_RAM);
    rig_pump(g);
    assert_memory_equal(before, ram(&g->mem, 0, RIG_RAM), RIG_RAM);
    g->host.later = false;
    rig_up(g, 0);
    assert_int_equal(rig_do(g, T_IN, 4, buf, 512, 513), S_OK);
    assert_int_equal(buf[0], 5);
    free(before);
    rig_free(g);
}

/* Saves, and goes on with a fresh device that loads it; if it does. */
static void change_horses(struct rig *g, bool fits)
{
    uint8_t bytes[8192];
    struct wbuf w = { .data = bytes, .cap = sizeof bytes };
    struct err e = { 0 };

    virtio_mmio_save(&g->t, &w);
    assert_false(w.overflow);
    assert_int_equal(g->host.n, 0);
    rig_drop(g);
    if (!fits)
        g->image.size -= 512;
    g->host.later = false;
    rig_make(g);
    struct rbuf r = { .data = bytes, .len = w.len };

    assert_int_equal(virtio_mmio_load(&g->t, &r, &e) == 0, fits);
    if (fits)
        assert_int_equal(r.off, r.len);
}

static void a_save_waits_too_and_its_load_goes_on(void **state)
{
    struct rig *g = rig_start(VIRTIO_F_INDIRECT_DESC | F_FLUSH);
    uint8_t buf[512];

    (void)state;
    g->host.later = true;
    fill_with_writes(g, 10);
    change_horses(g, true);
    for (uint32_t i = 0; i < 10; i++)
        rig_used(g, 0, i, 1);
    /* What was offered without a kick is found. */
    assert_int_equal(rig_do(g, T_IN, 9, buf, 512, 513), S_OK);
    assert_int_equal(buf[0], 10);
    assert_true(g->dev->features & F_FLUSH);
    assert_int_equal(rig_do(g, T_FLUSH, 0, NULL, 0, 1), S_OK);
    /* That flushes failed is not lost on the way. */
    g->host.fail[IO_SYNC] = -EIO;
    assert_int_equal(rig_do(g, T_FLUSH, 0, NULL, 0, 1), S_IOERR);
    g->host.fail[IO_SYNC] = 0;
    change_horses(g, true);
    assert_int_equal(rig_do(g, T_FLUSH, 0, NULL, 0, 1), S_IOERR);
    /* Another disk is not its disk. */
    change_horses(g, false);
    rig_free(g);
}

/* --- limits: real time passes, so only what must hold on the slowest host is asked --------- */

static int64_t now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Until n answers have come in queue 0, in this order or any (NULL). */
static void wait_answers(struct rig *g, unsigned n, const unsigned *order)
{
    int64_t end = wall_ms() + UNIT_WAIT;
    uint32_t id, len;

    for (unsigned i = 0; i < n;) {
        if (ring_take(&g->ring[0], &id, &len)) {
            if (order)
                assert_int_equal(id, order[i]);
            i++;
            continue;
        }
        if (wall_ms() > end)
            fail_msg("%u of %u answers came", i, n);
        sleep_ms(1);
        rig_pump(g);
    }
}

static struct rig *limited(uint64_t bw, uint64_t bw_burst, uint64_t iops, uint64_t iops_burst)
{
    struct rig *g = rig_new();

    g->opts.bw = bw;
    g->opts.bw_burst = bw_burst;
    g->opts.iops = iops;
    g->opts.iops_burst = iops_burst;
    rig_make(g);
    rig_up(g, VIRTIO_F_INDIRECT_DESC | F_FLUSH);
    return g;
}

/* Never more than rate * time + burst, but for the one that went into debt. */
static void bytes_are_limited(void **state)
{
    static const uint32_t types[] = { T_IN, T_OUT };

    (void)state;
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        int64_t begin = now_us();
        struct rig *g = limited(1 * MIB, 64 * KIB, 0, 0);
        const unsigned n = 40, len = 8192; /* 320 KiB: a quarter of a second behind the burst */

        for (unsigned i = 0; i < n; i++)
            rig_put(g, 0, i, types[t], 0, NULL, len);
        rig_kick(g, 0);
        wait_answers(g, n, NULL);
        double passed = (double)(now_us() - begin) * 1e-6;

        assert_true((n - 1) * (double)len <= passed * (double)MIB + 64 * KIB + 1);
        assert_int_equal(g->host.logged, n);
        rig_free(g);
    }
}

/* At every moment on the way, too: the host sees no burst behind the first. */
static void requests_are_limited(void **state)
{
    int64_t begin = now_us(), end = wall_ms() + UNIT_WAIT;
    struct rig *g = limited(0, 0, 200, 10);
    struct range {
        uint64_t sector;
        uint32_t sectors, flags;
    } r = { 8, 1, 0 };
    static const uint32_t types[] = { T_IN, T_OUT, T_ZEROES, T_DISCARD };

    (void)state;
    for (unsigned i = 0; i < 60; i++)
        rig_put(g, 0, i, types[i % 4], 0, i % 4 < 2 ? NULL : &r, i % 4 < 2 ? 512 : sizeof r);
    rig_kick(g, 0);
    for (unsigned passed = 0; passed < 60; rig_pump(g)) {
        passed = g->host.logged; /* before the clock: it can only have been less */
        double most = (double)(now_us() - begin) * 1e-6 * 200 + 10 + 1;

        if (passed > most)
            fail_msg("%u passed, %f may", passed, most);
        if (wall_ms() > end)
            fail_msg("%u of 60 passed", passed);
        sleep_ms(1);
    }
    wait_answers(g, 60, NULL);
    rig_free(g);
}

/* In the order in which they came, but for flushes and names, which never wait. */
static void flushes_pass(void **state)
{
    static const unsigned order[] = { 0, 2, 3, 1, 4, 5 };
    struct rig *g = limited(1 * MIB, 4096, 1000000, 1000);

    (void)state;
    rig_put(g, 0, 0, T_OUT, 0, NULL, 64 * 1024); /* 60 ms of debt */
    rig_put(g, 0, 1, T_OUT, 0, NULL, 512);
    rig_put(g, 0, 2, T_FLUSH, 0, NULL, 0);
    rig_put(g, 0, 3, T_GET_ID, 0, NULL, 20);
    rig_put(g, 0, 4, T_IN, 0, NULL, 512);
    rig_put(g, 0, 5, T_OUT, 1, NULL, 512);
    rig_kick(g, 0);
    wait_answers(g, 6, order);
    rig_free(g);
}

/* Two hours of debt: a reset and a save don't wait for it, and what waited is carried out. */
static void the_end_does_not_wait_for_tokens(void **state)
{
    struct rig *g = limited(1, 1, 0, 0);
    uint8_t buf[512];

    (void)state;
    fill_with_writes(g, 16);
    rig_pump(g);
    assert_int_equal(g->host.logged, 1);
    change_horses(g, true);
    for (uint32_t i = 0; i < 16; i++)
        rig_used(g, 0, i, 1);
    assert_int_equal(g->host.store[512 * 15], 16);
    /* The debt went along. */
    memset(buf, 0x77, sizeof buf);
    rig_put(g, 0, 0, T_OUT, 3, buf, sizeof buf);
    rig_kick(g, 0);
    rig_nothing_used(g, 0);
    reg_write(&g->t, R_STATUS, 0);
    assert_int_equal(reg_read(&g->t, R_STATUS), 0);
    rig_used(g, 0, 0, 1);
    assert_int_equal(g->host.store[512 * 3], 0x77);
    rig_free(g);
}

/* A loop that waits for tokens sleeps. */
static void waiting_costs_nothing(void **state)
{
    struct rig *g = limited(1, 1, 0, 0);
    struct timespec a, b;
    struct err e;

    (void)state;
    fill_with_writes(g, 4);
    assert_int_equal(loop_start(&g->loop, "disk", NULL, NULL, &e), 0);
    sleep_ms(20);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    sleep_ms(60);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    assert_in_range((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000, 0, 20);
    loop_join(&g->loop);
    rig_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_at_once_out_of_order),
        cmocka_unit_test(one_interrupt_a_batch),
        cmocka_unit_test(event_idx_is_kept),
        cmocka_unit_test(more_is_found_without_a_kick),
        cmocka_unit_test(more_than_one_kick_serves),
        cmocka_unit_test(an_engine_that_blocks),
        cmocka_unit_test(the_longest_chain),
        cmocka_unit_test(a_reset_waits_for_what_is_in_flight),
        cmocka_unit_test(a_save_waits_too_and_its_load_goes_on),
        cmocka_unit_test(bytes_are_limited),
        cmocka_unit_test(requests_are_limited),
        cmocka_unit_test(flushes_pass),
        cmocka_unit_test(the_end_does_not_wait_for_tokens),
        cmocka_unit_test(waiting_costs_nothing),
    };

    return cmocka_run_group_tests(tests, rig_group_setup, NULL);
}
