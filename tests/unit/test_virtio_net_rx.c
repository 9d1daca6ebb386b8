/* Frames to the guest: what arrives and where, what does not, when the device waits for buffers,
 * and what breaks it. */
#include "tests/unit/net_frames.h"

/* The chain at gpa holds a frame's beginning, in one buffer. */
static void holds_frame(struct rig *g, uint64_t gpa, uint32_t len, unsigned buffers, uint8_t flags)
{
    const uint8_t *p = ram(&g->mem, gpa, HDR + (uint64_t)len);

    assert_int_equal(p[0], flags);
    assert_int_equal(model_le16(p, 10), buffers);
    assert_memory_equal(p + HDR, frame, len);
}

/* --- to the guest ------------------------------------------------------------------------- */

static void frames_arrive(void **state)
{
    static const uint32_t lens[] = { 14, 15, 60, 1000, 1514, 1518 };

    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(modes); m++)
        for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
            struct rig *g = rig_start(1, modes[m].features);
            uint8_t hdr[HDR] = { 3, 0, 1, 2, 3, 4, 34, 0, 16, 0, 99, 99 };
            bool csum = modes[m].features & BIT(N_GUEST_CSUM);
            uint64_t at[200];

            hdr[0] = csum ? 0xff : 0xfe; /* of what the host says, what the driver may hear */
            fill_frame(i);
            offer_all(g, RX, 200, 2000, at);
            assert_true(wire_send(g, 0, hdr, frame, lens[i]));
            rig_pump(g);
            rig_used(g, RX, 0, HDR + lens[i]);
            holds_frame(g, at[0], lens[i], 1, csum ? 3 : 0);
            if (csum)
                assert_memory_equal((uint8_t *)ram(&g->mem, at[0], HDR) + 1, hdr + 1, 9);
            /* Behind it nothing was touched. */
            const uint8_t *p = ram(&g->mem, at[0], 2000);

            for (uint32_t k = HDR + lens[i]; k < 2000; k++)
                assert_int_equal(p[k], 0xd7);
            rig_nothing_used(g, RX);
            assert_int_equal(rig_stats(g).rx_packets, 1);
            assert_int_equal(rig_stats(g).rx_bytes, lens[i]);
            rig_free(g);
        }
}

/* The largest frame, in as many buffers as it takes. */
static void the_largest_frame(void **state)
{
    static const uint32_t rooms[] = { 400, 1526, 4096, 65569 };

    (void)state;
    fill_frame(1);
    for (size_t i = 0; i < ARRAY_LEN(rooms); i++) {
        struct rig *g = rig_start(1, USUAL | SEGMENTS | VIRTIO_F_INDIRECT_DESC);
        unsigned n = rooms[i] == 65569 ? 2 : 200;
        unsigned want = (FRAME_MAX + HDR + rooms[i] - 1) / rooms[i];
        uint64_t at[200];
        size_t done = 0;

        offer_all(g, RX, n, rooms[i], at);
        assert_true(wire_send(g, 0, tso, frame, FRAME_MAX));
        rig_pump(g);
        for (unsigned k = 0; k < want; k++) {
            uint32_t part = (uint32_t)min_size(rooms[i], FRAME_MAX + HDR - done);

            rig_used(g, RX, k, part);
            memcpy(got + done, ram(&g->mem, at[k], part), part);
            done += part;
        }
        assert_int_equal(model_le16(got, 10), want);
        assert_memory_equal(got + HDR, frame, FRAME_MAX);
        rig_nothing_used(g, RX);
        rig_free(g);
    }
}

/* Larger than there are any: whole or not at all. */
static void larger_than_any_frame(void **state)
{
    static const uint32_t rooms[][4] = { { HDR, 60000, 60000, 60000 },
                                         { 2000, 65000, 65000, 65000 },
                                         { 65569, HDR, 65569, 65569 } };
    static uint8_t large[140000], now[4 * 65569];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rooms); i++)
        for (uint32_t len = FRAME_MAX; len < sizeof large; len += 1 + len / 300) {
            struct rig *g = rig_start(1, USUAL | SEGMENTS);
            uint64_t at[4], sum = 0;
            uint32_t id, part;

            memset(large, 0x77, sizeof large);
            for (unsigned k = 0; k < 4; k++)
                at[k] = rig_offer(g, RX, k, rooms[i][k]);
            rig_kick(g, RX);
            assert_true(wire_send(g, 0, tso, large, len));
            rig_pump(g);
            for (unsigned k = 0; ring_take(&g->ring[RX], &id, &part); k++) {
                assert_int_equal(id, k);
                memcpy(now + sum, ram(&g->mem, at[k], part), part);
                sum += part;
            }
            if (len == FRAME_MAX || sum) {
                assert_int_equal(sum, HDR + len);
                assert_memory_equal(now + HDR, large, len);
            }
            rig_free(g);
        }
}

/* One chain a frame: what does not fit is not cut, and the chain waits for the next. */
static void without_merging(void **state)
{
    struct rig *g = rig_start(1, USUAL & ~BIT(N_MRG));
    uint64_t at[8];

    (void)state;
    fill_frame(2);
    offer_all(g, RX, 8, 1000, at);
    assert_true(wire_send(g, 0, NULL, frame, 1001 - HDR));
    assert_true(wire_send(g, 0, NULL, frame, 3000));
    rig_pump(g);
    rig_nothing_used(g, RX);
    assert_int_equal(rig_stats(g).rx_drop[NET_DROP_NO_ROOM], 2);
    assert_true(wire_send(g, 0, NULL, frame, 1000 - HDR));
    rig_pump(g);
    rig_used(g, RX, 0, 1000);
    holds_frame(g, at[0], 1000 - HDR, 1, 0);
    assert_int_equal(rig_stats(g).rx_packets, 1);
    /* However many buffers there are: never two for one. */
    assert_true(wire_send(g, 0, NULL, frame, 1200));
    rig_pump(g);
    rig_nothing_used(g, RX);
    rig_free(g);
}

/* Without any buffer a frame stays in the tap; a kick brings it. */
static void no_buffers_at_all(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(modes); m++) {
        struct rig *g = rig_start(1, modes[m].features);
        uint64_t at[200];

        fill_frame(3);
        for (unsigned i = 0; i < 5; i++)
            assert_true(wire_send(g, 0, NULL, frame, 100 + i));
        rig_pump(g);
        assert_true(rig_sleeps(g));
        sleep_ms(15);
        rig_pump(g);
        assert_true(rig_sleeps(g));
        offer_all(g, RX, 200, 1600, at);
        for (unsigned i = 0; i < 5; i++) {
            rig_used(g, RX, i, HDR + 100 + i);
            holds_frame(g, at[i], 100 + i, 1, 0);
        }
        rig_free(g);
    }
}

/* Too few for the largest frame: the driver is waited for, but not for long. */
static void too_few_buffers(void **state)
{
    struct rig *g = rig_start(1, USUAL | SEGMENTS);
    int64_t begin = wall_ms();
    uint64_t at[60];

    (void)state;
    fill_frame(4);
    assert_true(wire_send(g, 0, NULL, frame, 100));
    offer_all(g, RX, 4, 1526, at);
    uint16_t idx = *ring_used(&g->ring[RX], 1);

    assert_true(wall_ms() - begin >= 9 || idx == 0);
    assert_true(rig_wait_used(g, RX, 1));
    assert_true(wall_ms() - begin >= 9);
    rig_used(g, RX, 0, HDR + 100);
    holds_frame(g, at[0], 100, 1, 0);
    /* A large one is dropped, what fits is not. */
    assert_true(wire_send(g, 0, tso, frame, 5000));
    assert_true(wire_send(g, 0, tso, frame, 3 * 1526 - HDR));
    assert_true(rig_wait_used(g, RX, 3));
    for (unsigned i = 1; i < 4; i++)
        rig_used(g, RX, i, 1526);
    assert_int_equal(model_le16(ram(&g->mem, at[1], HDR), 10), 3);
    assert_int_equal(rig_stats(g).rx_drop[NET_DROP_NO_ROOM], 1);
    /* With enough of them nothing is waited for nor dropped. */
    offer_all(g, RX, 60, 1526, at);
    assert_true(wire_send(g, 0, tso, frame, 60000));
    rig_pump(g);
    for (unsigned i = 0; i < 39; i++)
        rig_used(g, RX, i, 1526);
    rig_used(g, RX, 39, HDR + 60000 - 39 * 1526);
    assert_int_equal(rig_stats(g).rx_drop[NET_DROP_NO_ROOM], 1);
    rig_free(g);
}

/* A driver that gives a little every now and then is not waited for any longer. */
static void kicks_do_not_prolong_it(void **state)
{
    struct rig *g = rig_start(1, USUAL | SEGMENTS);
    int64_t begin = wall_ms();

    (void)state;
    assert_true(wire_send(g, 0, NULL, frame, 60));
    for (unsigned i = 0; i < 30 || wall_ms() - begin < 60; i++) {
        rig_offer(g, RX, i, 100);
        rig_kick(g, RX);
        sleep_ms(2);
    }
    rig_used(g, RX, 0, HDR + 60);
    rig_free(g);
}

/* The driver that is waited for comes: the frame is not dropped, whole as it is. */
static void more_buffers_in_time(void **state)
{
    (void)state;
    for (unsigned late = 0, i = 0; i < 20 && late < 3; i++) {
        struct rig *g = rig_start(1, USUAL | SEGMENTS | (i & 1 ? VIRTIO_F_EVENT_IDX : 0));
        int64_t begin;
        uint64_t at[60];

        fill_frame(5);
        begin = wall_ms();
        assert_true(wire_send(g, 0, tso, frame, 50000));
        for (unsigned k = 0; k < 60; k += 10) {
            uint16_t from = g->ring[RX].offered;

            for (unsigned n = k; n < k + 10; n++)
                at[n] = rig_offer(g, RX, n, 1526);
            rig_tell(g, RX, from);
            rig_pump(g);
        }
        late += wall_ms() - begin > 8;
        if (wall_ms() - begin <= 8) {
            for (unsigned k = 0; k < 33; k++)
                rig_used(g, RX, k, k < 32 ? 1526 : HDR + 50000 - 32 * 1526);
            assert_int_equal(rig_stats(g).rx_drop[NET_DROP_NO_ROOM], 0);
        }
        rig_free(g);
    }
}

/* Once there was enough, too few are waited for anew. */
static void patience_comes_back(void **state)
{
    (void)state;
    for (unsigned done = 0, i = 0; i < 20 && !done; i++) {
        struct rig *g = rig_start(1, USUAL | SEGMENTS);
        uint64_t at[60];
        int64_t begin;

        fill_frame(12);
        assert_true(wire_send(g, 0, NULL, frame, 100));
        offer_all(g, RX, 2, 1526, at);
        assert_true(rig_wait_used(g, RX, 1)); /* the patience is gone */
        rig_used(g, RX, 0, HDR + 100);
        for (unsigned k = 2; k < 46; k++)
            at[k] = rig_offer(g, RX, k, 1526);
        rig_kick(g, RX);
        assert_true(wire_send(g, 0, tso, frame, 42 * 1526 - HDR));
        rig_pump(g); /* three are left */
        for (unsigned k = 1; k < 43; k++)
            rig_used(g, RX, k, 1526);
        begin = wall_ms();
        assert_true(wire_send(g, 0, tso, frame, 6000));
        rig_pump(g);
        for (unsigned k = 0; k < 43; k++)
            at[k] = rig_offer(g, RX, k, 1526);
        rig_kick(g, RX);
        if (wall_ms() - begin <= 8) {
            for (unsigned k = 43; k < 46; k++)
                rig_used(g, RX, k, 1526);
            rig_used(g, RX, 0, HDR + 6000 - 3 * 1526);
            assert_int_equal(rig_stats(g).rx_drop[NET_DROP_NO_ROOM], 0);
            done++;
        }
        rig_free(g);
    }
}

/* Chains of so many small buffers that few of them fill a call's: what fits arrives. */
static void a_thousand_small_buffers(void **state)
{
    struct rig *g = rig_start(1, USUAL | VIRTIO_F_INDIRECT_DESC);
    struct part p[NET_QMAX];

    (void)state;
    fill_frame(13);
    for (unsigned i = 0; i < 40; i++) {
        uint64_t at = rig_room(g, 3 * NET_QMAX);

        for (unsigned k = 0; k < NET_QMAX; k++)
            p[k] = (struct part){ at + 3 * k, 1 + k % 3, true };
        rig_chain(g, RX, i, p, NET_QMAX);
    }
    rig_kick(g, RX);
    for (unsigned i = 0; i < 12; i++) {
        assert_true(wire_send(g, 0, NULL, frame, 1000));
        assert_true(rig_wait_used(g, RX, 2));
        rig_used(g, RX, 2 * i, 511);
        rig_used(g, RX, 2 * i + 1, HDR + 1000 - 511);
        assert_true(rig_sleeps(g));
    }
    assert_int_equal(rig_stats(g).rx_drop[NET_DROP_NO_ROOM], 0);
    rig_free(g);
}

/* A flood: all of it arrives, in order, in few rounds, each with one interrupt at most. */
static void a_flood(void **state)
{
    struct rig *g = rig_start(1, USUAL | VIRTIO_F_INDIRECT_DESC);
    uint64_t at[NET_QMAX];

    (void)state;
    fill_frame(6);
    offer_all(g, RX, NET_QMAX, 1600, at);
    rig_irqs(g);
    for (unsigned i = 0; i < 250; i++)
        assert_true(wire_send(g, 0, NULL, frame, 60 + i));
    for (unsigned i = 0; i < 10; i++)
        rig_pump(g);
    for (unsigned i = 0; i < 250; i++)
        rig_used(g, RX, i, HDR + 60 + i);
    assert_in_range(rig_irqs(g), 1, 12); /* 1, 2, 4, 8, 16, 32, 64, 64, 64 */
    assert_int_equal(rig_stats(g).rx_packets, 250);
    rig_free(g);
}

static void interrupts_are_as_wanted(void **state)
{
    struct rig *g = rig_start(1, USUAL | VIRTIO_F_EVENT_IDX);
    uint64_t at[60];

    (void)state;
    offer_all(g, RX, 60, 1600, at);
    *ring_used_event(&g->ring[RX]) = 3; /* with the fourth */
    rig_irqs(g);
    for (unsigned i = 0; i < 8; i++) {
        assert_true(wire_send(g, 0, NULL, frame, 60));
        rig_pump(g);
        assert_int_equal(rig_irqs(g), i == 3);
    }
    assert_int_equal(rig_stats(g).interrupts, 1);
    rig_up(g, USUAL);
    offer_all(g, RX, 60, 1600, at);
    *ring_avail(&g->ring[RX], 0) = 1; /* none, please */
    rig_irqs(g);
    assert_true(wire_send(g, 0, NULL, frame, 60));
    rig_pump(g);
    rig_used(g, RX, 0, HDR + 60);
    assert_int_equal(rig_irqs(g), 0);
    rig_free(g);
}

static void bad_buffers_break_it(void **state)
{
    static const struct {
        struct part p[3];
        unsigned n;
    } rows[] = {
        { { { RIG_DATA, 11, true } }, 1 },
        { { { RIG_DATA, 5, true }, { RIG_DATA + 8, 0, true }, { RIG_DATA + 8, 6, true } }, 3 },
        { { { RIG_DATA, 0, true } }, 1 },
        { { { RIG_DATA, 2000, false } }, 1 },
        { { { RIG_DATA, 1, false }, { RIG_DATA + 8, 2000, true } }, 2 },
        { { { RIG_RAM - 1000, 2000, true } }, 1 },
    };
    struct rig *g = rig_start(1, USUAL);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (unsigned merge = 0; merge < 2; merge++) {
            uint64_t f = USUAL & ~(merge ? 0 : BIT(N_MRG)), at[8];

            rig_up(g, f);
            rig_chain(g, RX, 0, rows[i].p, rows[i].n);
            assert_true(wire_send(g, 0, NULL, frame, 60));
            rig_kick(g, RX);
            assert_true(rig_broken(g));
            rig_nothing_used(g, RX);
            /* Nothing moves, nothing hangs. */
            rig_put(g, TX, 0, NULL, frame, 60);
            rig_kick(g, TX);
            rig_nothing_used(g, TX);
            rig_up(g, f);
            assert_false(rig_broken(g));
            offer_all(g, RX, 8, 2000, at);
            rig_used(g, RX, 0, HDR + 60); /* the one that waited */
        }
    rig_free(g);
}

/* What is no frame does not reach the guest. */
static void short_frames(void **state)
{
    struct rig *g = rig_start(1, USUAL);
    uint64_t at[8];

    (void)state;
    offer_all(g, RX, 8, 2000, at);
    assert_true(wire_send(g, 0, NULL, frame, 13));
    assert_true(wire_send(g, 0, NULL, frame, 0));
    assert_int_equal(write(g->wire[0], frame, 5), 5);
    rig_pump(g);
    rig_nothing_used(g, RX);
    assert_int_equal(rig_stats(g).rx_drop[NET_DROP_SHORT], 3);
    assert_true(wire_send(g, 0, NULL, frame, 14));
    rig_pump(g);
    rig_used(g, RX, 0, HDR + 14);
    rig_free(g);
}

/* What is too long follows from what the driver was told, and what is prepared for from what may
 * come: a driver that took no MTU gets all that the interface has. */
static void frames_and_the_mtu(void **state)
{
    static const struct {
        unsigned told, mtu;
        uint64_t feature;
        uint32_t most, dropped; /* the longest that arrives; one that does not, 0: none */
    } rows[] = {
        { 0, 9000, BIT(N_MTU), 9022, 9023 }, { 1280, 9000, BIT(N_MTU), 1302, 1303 },
        { 1280, 9000, 0, 9022, 0 },          { 0, 9000, 0, 9022, 0 },
        { 0, 68, BIT(N_MTU), 90, 91 },
    };

    (void)state;
    fill_frame(15);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rig *g = rig_new(1);
        uint64_t at[40];

        g->opts.mtu = (uint16_t)rows[i].told;
        g->tap.link.mtu = (uint16_t)rows[i].mtu;
        rig_make(g);
        rig_up(g, BIT(N_MRG) | rows[i].feature);
        offer_all(g, RX, 40, 500, at);
        assert_true(wire_send(g, 0, NULL, frame, rows[i].most));
        if (rows[i].dropped)
            assert_true(wire_send(g, 0, NULL, frame, rows[i].dropped));
        rig_pump(g);
        assert_int_equal(rig_stats(g).rx_packets, 1);
        assert_int_equal(rig_stats(g).rx_bytes, rows[i].most);
        assert_int_equal(rig_stats(g).rx_drop[NET_DROP_LONG], rows[i].dropped != 0);
        rig_free(g);
    }
}

/* What the driver did not take: it was on its way when that changed, perhaps. */
static void frames_it_did_not_ask_for(void **state)
{
    static const struct {
        uint64_t features;
        uint8_t hdr[HDR];
        uint32_t len;
        enum net_drop want;
    } rows[] = {
        { 0, { 1, 0, 0, 0, 0, 0, 34, 0, 16, 0 }, 60, NET_DROP_CSUM },
        { BIT(N_GUEST_CSUM), { 1, 0, 0, 0, 0, 0, 34, 0, 16, 0 }, 60, NET_PASS },
        { BIT(N_GUEST_CSUM), { 1, 1, 54, 0, 100, 0, 34, 0, 16, 0 }, 60, NET_DROP_GSO },
        { BIT(N_GUEST_CSUM) | BIT(N_GUEST_TSO4),
          { 1, 4, 54, 0, 9, 0, 34, 0, 16, 0 },
          60,
          NET_DROP_GSO },
        { BIT(N_GUEST_CSUM) | BIT(N_GUEST_TSO4),
          { 1, 1, 54, 0, 9, 0, 34, 0, 16, 0 },
          60,
          NET_PASS },
        { BIT(N_GUEST_CSUM) | BIT(N_GUEST_TSO4),
          { 1, 0x81, 54, 0, 9, 0, 34, 0, 16, 0 },
          60,
          NET_DROP_GSO },
        { SEGMENTS, { 0, 3, 54, 0, 9, 0, 34, 0, 16, 0 }, 60, NET_DROP_GSO },
        { BIT(N_MTU), { 0 }, 1522, NET_PASS },
        { BIT(N_MTU), { 0 }, 1523, NET_DROP_LONG },
        { 0, { 0 }, 1523, NET_PASS },
        { BIT(N_MTU) | BIT(N_GUEST_CSUM) | SEGMENTS,
          { 1, 1, 54, 0, 9, 0, 34, 0, 16, 0 },
          1900,
          NET_PASS },
    };

    (void)state;
    fill_frame(14);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rig *g = rig_start(1, rows[i].features);
        uint64_t at[8];

        offer_all(g, RX, 8, 2000, at);
        assert_true(wire_send(g, 0, rows[i].hdr, frame, rows[i].len));
        assert_true(wire_send(g, 0, NULL, frame, 61));
        rig_pump(g);
        if (rows[i].want == NET_PASS)
            rig_used(g, RX, 0, HDR + rows[i].len);
        rig_used(g, RX, rows[i].want == NET_PASS, HDR + 61);
        assert_int_equal(rig_stats(g).rx_drop[rows[i].want], rows[i].want != NET_PASS);
        assert_int_equal(rig_stats(g).rx_packets, 1 + (rows[i].want == NET_PASS));
        rig_free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_arrive),
        cmocka_unit_test(the_largest_frame),
        cmocka_unit_test(larger_than_any_frame),
        cmocka_unit_test(without_merging),
        cmocka_unit_test(no_buffers_at_all),
        cmocka_unit_test(too_few_buffers),
        cmocka_unit_test(kicks_do_not_prolong_it),
        cmocka_unit_test(more_buffers_in_time),
        cmocka_unit_test(patience_comes_back),
        cmocka_unit_test(a_thousand_small_buffers),
        cmocka_unit_test(a_flood),
        cmocka_unit_test(interrupts_are_as_wanted),
        cmocka_unit_test(bad_buffers_break_it),
        cmocka_unit_test(short_frames),
        cmocka_unit_test(frames_and_the_mtu),
        cmocka_unit_test(frames_it_did_not_ask_for),
    };

    return cmocka_run_group_tests(tests, rig_group_setup, NULL);
}
