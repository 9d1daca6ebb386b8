/* Frames to the host: what it is sent and what not, what breaks the device; and both ways under
 * limits, or without the interface. */
#include "tests/unit/net_control.h"
#include "tests/unit/net_frames.h"

/* --- to the host -------------------------------------------------------------------------- */

static void frames_are_sent(void **state)
{
    static const uint32_t lens[] = { 14, 15, 60, 1514, 9014, 65535, FRAME_MAX };

    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(modes); m++) {
        struct rig *g = rig_start(1, modes[m].features);

        for (unsigned i = 0; i < ARRAY_LEN(lens); i++) {
            fill_frame(i);
            rig_put(g, TX, 2 * i, NULL, frame, lens[i]);
            rig_kick(g, TX);
            rig_used(g, TX, 2 * i, 0);
            on_wire(g, 0, NULL, frame, lens[i]);
        }
        assert_int_equal(wire_recv(g, 0, got, sizeof got), -1);
        assert_int_equal(rig_stats(g).tx_packets, ARRAY_LEN(lens));
        rig_free(g);
    }
}

static void hostile_headers_are_dropped(void **state)
{
    static const struct {
        uint64_t features;
        uint8_t hdr[HDR];
        uint32_t len;
        enum net_drop why;
    } rows[] = {
        { USUAL, { 0 }, 13, NET_DROP_SHORT },
        { USUAL, { 0 }, 0, NET_DROP_SHORT },
        { USUAL, { 0 }, FRAME_MAX + 1, NET_DROP_LONG },
        { 0, { 1, 0, 0, 0, 0, 0, 34, 0, 16, 0 }, 60, NET_DROP_CSUM },
        { USUAL, { 1, 0, 0, 0, 0, 0, 34, 0, 25, 0 }, 60, NET_DROP_CSUM },
        { USUAL, { 1, 1, 54, 0, 9, 0, 34, 0, 16, 0 }, 60, NET_DROP_GSO },
        { USUAL | SEGMENTS, { 1, 3, 54, 0, 9, 0, 34, 0, 16, 0 }, 60, NET_DROP_GSO },
        { USUAL | SEGMENTS, { 1, 0x81, 54, 0, 9, 0, 34, 0, 16, 0 }, 60, NET_DROP_GSO },
    };

    (void)state;
    fill_frame(7);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rig *g = rig_start(1, rows[i].features);

        rig_put(g, TX, 0, rows[i].hdr, frame, rows[i].len);
        rig_put(g, TX, 4, NULL, frame, 60);
        rig_kick(g, TX);
        rig_used(g, TX, 0, 0);
        rig_used(g, TX, 4, 0);
        on_wire(g, 0, NULL, frame, 60);
        assert_int_equal(wire_recv(g, 0, got, sizeof got), -1);
        assert_int_equal(rig_stats(g).tx_drop[rows[i].why], 1);
        assert_int_equal(rig_stats(g).tx_packets, 1);
        assert_int_equal(rig_stats(g).tx_bytes, 60);
        assert_false(rig_broken(g));
        rig_free(g);
    }
}

/* Chains without a whole header; and room where none is asked for, which stays as it is. */
static void odd_chains(void **state)
{
    struct rig *g = rig_start(1, USUAL);
    uint64_t at = rig_room(g, 4096);
    uint8_t *p = ram(&g->mem, at, 4096);

    (void)state;
    memset(p, 0, 4096);
    for (unsigned n = 0; n < HDR; n++) {
        rig_chain(g, TX, 0, (struct part[]){ { at, n, false }, { at + 64, 100, true } }, 2);
        rig_kick(g, TX);
        rig_used(g, TX, 0, 0);
    }
    assert_int_equal(rig_stats(g).tx_drop[NET_DROP_SHORT], HDR);
    memset(p + 1000, 0xd7, 100);
    fill_frame(8);
    memcpy(p + 200, frame, 70);
    rig_chain(g, TX, 0,
              (struct part[]){ { at, 5, false },
                               { at, 0, false },
                               { at + 5, 7, false },
                               { at + 200, 70, false },
                               { at + 1000, 100, true } },
              5);
    rig_kick(g, TX);
    rig_used(g, TX, 0, 0);
    on_wire(g, 0, NULL, frame, 70);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(p[1000 + i], 0xd7);
    rig_free(g);
}

/* Rings full over and over, each with one kick: all of it is sent. */
static void bursts(void **state)
{
    struct rig *g = rig_start(1, USUAL | VIRTIO_F_INDIRECT_DESC);

    (void)state;
    fill_frame(9);
    for (unsigned round = 0; round < 4; round++) {
        rig_irqs(g);
        for (unsigned i = 0; i < NET_QMAX; i++)
            rig_put(g, TX, i, NULL, frame + i, 60 + i);
        ring_publish(&g->ring[TX]);
        reg_write(&g->t, R_NOTIFY, TX);
        for (unsigned i = 0; i < 4; i++)
            rig_pump(g);
        for (unsigned i = 0; i < NET_QMAX; i++) {
            rig_used(g, TX, i, 0);
            on_wire(g, 0, NULL, frame + i, 60 + i);
        }
        assert_in_range(rig_irqs(g), 1, 5); /* a round serves 64 */
    }
    rig_free(g);
}

/* A kick's work has an end: others are at the loop, too. */
static void a_round_is_bounded(void **state)
{
    struct rig *g = rig_start(1, USUAL | VIRTIO_F_INDIRECT_DESC);
    uint64_t at[3];
    unsigned done;

    (void)state;
    fill_frame(10);
    for (unsigned i = 0; i < NET_QMAX; i++)
        rig_put(g, TX, i, NULL, frame, 60);
    ring_publish(&g->ring[TX]);
    reg_write(&g->t, R_NOTIFY, TX);
    rig_round(g);
    assert_in_range(*ring_used(&g->ring[TX], 1), 1, NET_QMAX / 2);
    rig_wait_used(g, TX, NET_QMAX);
    rig_up(g, USUAL | VIRTIO_F_INDIRECT_DESC);
    while (wire_recv(g, 0, got, 1) > 0)
        ;
    /* 200 large frames out of the same memory: 13 MB, more than a round may move. */
    at[0] = rig_room(g, FRAME_MAX);
    at[1] = rig_room(g, HDR);
    memset(ram(&g->mem, at[1], HDR), 0, HDR);
    for (unsigned i = 0; i < 200; i++)
        rig_chain(g, TX, i, (struct part[]){ { at[1], HDR, false }, { at[0], FRAME_MAX, false } },
                  2);
    ring_publish(&g->ring[TX]);
    reg_write(&g->t, R_NOTIFY, TX);
    rig_pump(g);
    done = *ring_used(&g->ring[TX], 1);
    assert_in_range(done, 1, 100);
    for (unsigned i = 0; i < 100 && done < 200; i++) {
        while (wire_recv(g, 0, got, 1) > 0)
            ;
        rig_pump(g);
        done = *ring_used(&g->ring[TX], 1);
    }
    assert_int_equal(done, 200);
    assert_int_equal(rig_stats(g).tx_packets + rig_stats(g).tx_drop[NET_DROP_REFUSED],
                     200 + NET_QMAX);
    rig_free(g);
}

static void ring_faults_break_it(void **state)
{
    struct rig *g = rig_start(1, USUAL);

    (void)state;
    fill_frame(11);
    for (unsigned i = 0; i < 3; i++) {
        rig_put(g, TX, 0, NULL, frame, 60);
        if (i == 0)
            ring_put(&g->ring[TX], NET_QMAX); /* no such head */
        else if (i == 1)
            rig_chain(g, TX, 4, (struct part[]){ { RIG_RAM, 60, false } }, 1);
        else
            rig_chain(g, TX, 4, (struct part[]){ { RIG_DATA, 12, true }, { RIG_DATA, 60, false } },
                      2);
        rig_put(g, TX, 8, NULL, frame, 61);
        rig_kick(g, TX);
        assert_true(rig_broken(g));
        on_wire(g, 0, NULL, frame, 60); /* what was before it */
        assert_int_equal(wire_recv(g, 0, got, sizeof got), -1);
        rig_up(g, USUAL);
        rig_put(g, TX, 0, NULL, frame, 62);
        rig_kick(g, TX);
        rig_used(g, TX, 0, 0);
        on_wire(g, 0, NULL, frame, 62);
    }
    rig_free(g);
}

/* --- the host's troubles ------------------------------------------------------------------ */

/* Down: what is sent is dropped and counted, and all goes on when it is up again. */
static void the_interface_is_down(void **state)
{
    struct rig *g = rig_start(1, USUAL);

    (void)state;
    wire_down(g, 0);
    for (unsigned i = 0; i < 200; i++) {
        rig_put(g, TX, 0, NULL, frame, 60);
        rig_kick(g, TX);
        rig_used(g, TX, 0, 0);
    }
    assert_int_equal(rig_stats(g).tx_drop[NET_DROP_DOWN], 200);
    assert_int_equal(rig_stats(g).tx_packets, 0);
    assert_int_equal(rig_stats(g).tx_bytes, 0);
    assert_false(rig_broken(g));
    rig_free(g);
}

/* A host that takes no more: the same. */
static void the_interface_is_full(void **state)
{
    struct rig *g = rig_start(1, USUAL);
    int small = 1;
    unsigned sent = 0;

    (void)state;
    assert_int_equal(setsockopt(g->tap.fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    for (unsigned i = 0; i < 100; i++) {
        rig_put(g, TX, 0, NULL, frame, 1000);
        rig_kick(g, TX);
        rig_used(g, TX, 0, 0);
    }
    while (wire_recv(g, 0, got, sizeof got) > 0)
        sent++;
    assert_in_range(sent, 1, 99);
    assert_int_equal(rig_stats(g).tx_packets, sent);
    assert_int_equal(rig_stats(g).tx_drop[NET_DROP_REFUSED], 100 - sent);
    rig_put(g, TX, 0, NULL, frame, 1000);
    rig_kick(g, TX);
    on_wire(g, 0, NULL, frame, 1000);
    rig_free(g);
}

/* Deleted under our hands: the loop sleeps, the driver is served what can be. In two ways: a pipe
 * without a reader has an error that stays, a socket that was hung up one that a read is told. */
static void the_interface_is_gone(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct rig *g = rig_new(1);
        uint64_t at[8];
        int fd[2];

        close(g->wire[0]);
        close(g->tap.fd[0]);
        if (i)
            assert_int_equal(pipe2(fd, O_CLOEXEC | O_NONBLOCK), 0);
        else
            assert_int_equal(
                socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
        g->wire[0] = fd[0];
        g->tap.fd[0] = fd[1];
        rig_make(g);
        rig_up(g, USUAL);
        offer_all(g, RX, 8, 2000, at);
        rig_put(g, TX, 0, NULL, frame, 60);
        rig_kick(g, TX);
        rig_used(g, TX, 0, 0);
        close(g->wire[0]);
        g->wire[0] = -1;
        rig_pump(g);
        assert_true(rig_sleeps(g));
        rig_put(g, TX, 0, NULL, frame, 60);
        rig_kick(g, TX);
        rig_used(g, TX, 0, 0);
        assert_int_equal(rig_stats(g).tx_packets, 1);
        assert_int_equal(rig_stats(g).tx_drop[NET_DROP_DOWN], 1);
        rig_nothing_used(g, RX);
        assert_false(rig_broken(g));
        assert_true(rig_sleeps(g));
        rig_up(g, USUAL);
        assert_true(rig_sleeps(g));
        rig_put(g, TX, 0, NULL, frame, 60);
        rig_kick(g, TX);
        rig_used(g, TX, 0, 0);
        rig_free(g);
    }
}

/* Reading fails and fails: it is tried again, but not all the time. */
static void reads_that_fail(void **state)
{
    struct rig *g = rig_new(1);
    struct epoll_event ev = { .events = EPOLLIN };
    int ready = eventfd(1, EFD_CLOEXEC);
    uint64_t at[8], before;

    (void)state;
    close(g->tap.fd[0]);
    g->tap.fd[0] = epoll_create1(EPOLL_CLOEXEC); /* always readable, and never */
    assert_int_equal(epoll_ctl(g->tap.fd[0], EPOLL_CTL_ADD, ready, &ev), 0);
    rig_make(g);
    rig_up(g, USUAL);
    offer_all(g, RX, 8, 2000, at);
    for (unsigned i = 0; i < 10; i++)
        rig_pump(g);
    assert_true(rig_sleeps(g));
    before = rig_stats(g).rx_drop[NET_DROP_REFUSED];
    assert_in_range(before, 1, 100);
    for (unsigned i = 0; i < 100 && rig_stats(g).rx_drop[NET_DROP_REFUSED] == before; i++) {
        sleep_ms(10);
        rig_pump(g);
    }
    assert_true(rig_stats(g).rx_drop[NET_DROP_REFUSED] > before);
    rig_nothing_used(g, RX);
    rig_put(g, TX, 0, NULL, frame, 60);
    rig_kick(g, TX);
    rig_used(g, TX, 0, 0);
    assert_int_equal(rig_stats(g).tx_drop[NET_DROP_REFUSED], 1);
    assert_false(rig_broken(g));
    close(ready);
    rig_free(g);
}

/* --- limits: real time passes, so only what must hold on the slowest host is asked --------- */

static double now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Never more than rate * time + burst, but for the one that went into debt; and all in the end. */
static void limits(void **state)
{
    static const struct {
        bool tx;
        uint64_t bw, bw_burst, pps, pps_burst;
    } rows[] = {
        { true, 1 << 20, 64 << 10, 0, 0 },
        { false, 1 << 20, 64 << 10, 0, 0 },
        { true, 0, 0, 400, 20 },
        { false, 0, 0, 400, 20 },
        { true, 1 << 20, 1 << 16, 400, 20 },
        { false, 1 << 20, 1 << 16, 400, 20 },
    };
    const unsigned n = 100, len = 3000;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rig *g = rig_new(1);
        double begin = now_s();
        unsigned q = rows[i].tx ? TX : RX, done;
        uint64_t at[NET_QMAX];

        uint64_t v[] = { rows[i].bw, rows[i].bw_burst, rows[i].pps, rows[i].pps_burst };

        memcpy(rows[i].tx ? &g->opts.tx_bw : &g->opts.rx_bw, v, sizeof v);
        rig_make(g);
        rig_up(g,
               (USUAL & ~BIT(N_MTU)) | VIRTIO_F_INDIRECT_DESC | (i & 1 ? VIRTIO_F_EVENT_IDX : 0));
        if (rows[i].tx) {
            for (unsigned k = 0; k < n; k++)
                rig_put(g, TX, k, NULL, frame, len);
            rig_kick(g, TX);
        } else {
            offer_all(g, RX, NET_QMAX, len + HDR, at);
            for (unsigned k = 0; k < n; k++)
                assert_true(wire_send(g, 0, NULL, frame, len));
            rig_pump(g);
        }
        do {
            done = *ring_used(&g->ring[q], 1);
            double passed = now_s() - begin;

            if (rows[i].bw && done)
                assert_true((done - 1) * (double)len <=
                            passed * (double)rows[i].bw + (double)rows[i].bw_burst);
            if (rows[i].pps && done)
                assert_true(done - 1 <= passed * (double)rows[i].pps + (double)rows[i].pps_burst);
            assert_true(passed < 10);
            sleep_ms(1);
            rig_pump(g);
        } while (done < n);
        /* Not far below it, either, where the host lets us. */
        print_message("# row %zu: %.0f ms\n", i, (now_s() - begin) * 1e3);
        rig_free(g);
    }
}

/* Each way has its own time to wait for. */
static void both_ways_are_limited(void **state)
{
    struct rig *g = rig_new(1);
    uint64_t at[20];

    (void)state;
    g->opts.rx_pps = 1000;
    g->opts.tx_pps = 50;
    g->opts.rx_pps_burst = g->opts.tx_pps_burst = 1;
    rig_make(g);
    rig_up(g, USUAL);
    offer_all(g, RX, 20, 2000, at);
    for (unsigned i = 0; i < 18; i++)
        assert_true(wire_send(g, 0, NULL, frame, 60));
    for (unsigned i = 0; i < 5; i++)
        rig_put(g, TX, 2 * i, NULL, frame, 60);
    rig_kick(g, TX);
    assert_true(rig_wait_used(g, RX, 18));
    assert_true(rig_wait_used(g, TX, 5));
    rig_free(g);
}

/* Limits are the card's, not each pair's. */
static void pairs_share_a_limit(void **state)
{
    struct rig *g = rig_new(2);
    double begin = now_s(), passed;
    unsigned done;

    (void)state;
    g->opts.tx_pps = 400;
    g->opts.tx_pps_burst = 20;
    rig_make(g);
    rig_up(g, USUAL | BIT(N_MQ) | VIRTIO_F_INDIRECT_DESC);
    assert_int_equal(rig_command(g, C_MQ, 0, &(uint16_t){ 2 }, 2), OK);
    for (unsigned k = 0; k < 50; k++) {
        rig_put(g, 1, k, NULL, frame, 100);
        rig_put(g, 3, k, NULL, frame, 100);
    }
    rig_kick(g, 1);
    rig_kick(g, 3);
    do {
        done = *ring_used(&g->ring[1], 1) + *ring_used(&g->ring[3], 1);
        passed = now_s() - begin;
        assert_true(!done || done - 1 <= passed * 400 + 20);
        assert_true(passed < 10);
        sleep_ms(1);
        rig_pump(g);
    } while (done < 100);
    rig_free(g);
}

/* A loop that waits for tokens, or for buffers, sleeps. And neither a reset nor a save waits. */
static void waiting_costs_nothing(void **state)
{
    struct rig *g = rig_new(1);

    (void)state;
    g->opts.tx_bw = g->opts.tx_bw_burst = g->opts.rx_bw = g->opts.rx_bw_burst = 1;
    rig_make(g);
    rig_up(g, USUAL);
    for (unsigned i = 0; i < 4; i++) {
        rig_put(g, TX, 4 * i, NULL, frame, 1000);
        rig_offer(g, RX, i, 2000);
        assert_true(wire_send(g, 0, NULL, frame, 1000));
    }
    ring_publish(&g->ring[RX]);
    rig_kick(g, TX);
    reg_write(&g->t, R_NOTIFY, RX);
    rig_pump(g);
    sleep_ms(20);
    rig_pump(g);
    assert_true(rig_sleeps(g));
    assert_int_equal(*ring_used(&g->ring[TX], 1), 1);
    assert_int_equal(*ring_used(&g->ring[RX], 1), 1);
    reg_write(&g->t, R_STATUS, 0);
    assert_int_equal(reg_read(&g->t, R_STATUS), 0);
    rig_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_sent),
        cmocka_unit_test(hostile_headers_are_dropped),
        cmocka_unit_test(odd_chains),
        cmocka_unit_test(bursts),
        cmocka_unit_test(a_round_is_bounded),
        cmocka_unit_test(ring_faults_break_it),
        cmocka_unit_test(the_interface_is_down),
        cmocka_unit_test(the_interface_is_full),
        cmocka_unit_test(the_interface_is_gone),
        cmocka_unit_test(reads_that_fail),
        cmocka_unit_test(limits),
        cmocka_unit_test(both_ways_are_limited),
        cmocka_unit_test(pairs_share_a_limit),
        cmocka_unit_test(waiting_costs_nothing),
    };

    return cmocka_run_group_tests(tests, rig_group_setup, NULL);
}
