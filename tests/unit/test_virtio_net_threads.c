/* The network card with its threads, one a pair, and everybody at once: two drivers, the network,
 * control commands, the link, counters, resets. Under ThreadSanitizer (make check-tsan) for what
 * it is, and elsewhere for what gets lost. */
#include "tests/unit/net_control.h"

#include <pthread.h>
#include <stdio.h>

#define FRAMES 2000
#define LEN    200
#define SLOTS  64U

/* One pair's driver and its end of the network. */
struct side {
    struct rig *g;
    unsigned pair;
    uint64_t tx, rx; /* buffers: SLOTS of 256 bytes each */
    uint64_t seed;
    char why[100]; /* what went wrong; cmocka's asserts are the main thread's */
};

static bool say(struct side *s, const char *why)
{
    if (!s->why[0])
        snprintf(s->why, sizeof s->why, "%s", why);
    return false;
}

/* Frame number n, whose bytes follow from it. */
static void make_frame(uint8_t *p, uint32_t n)
{
    for (unsigned i = 0; i < LEN; i++)
        p[i] = (uint8_t)(n * 7 + i);
    memcpy(p + 14, &n, 4);
}

static void tell(struct side *s, unsigned q, uint16_t from)
{
    struct ring *r = &s->g->ring[q];

    ring_publish(r);
    if (ring_must_kick(r, from, s->g->event_idx))
        reg_write(&s->g->t, R_NOTIFY, q);
}

static void one(struct side *s, unsigned q, unsigned slot, uint64_t at, uint32_t len, bool write)
{
    struct ring *r = &s->g->ring[q];

    ring_desc(r, slot, (struct ring_desc){ at + 256UL * slot, len, write ? D_WRITE : 0, 0 });
    ring_put(r, (uint16_t)slot);
}

/* Sends what there is room for, takes what was sent. */
static bool drive_tx(struct side *s, uint32_t *offered, uint32_t *done)
{
    unsigned q = 2 * s->pair + 1;
    uint16_t from = s->g->ring[q].offered;
    uint32_t id, len;

    while (ring_take(&s->g->ring[q], &id, &len)) {
        if (id != *done % SLOTS || len)
            return say(s, "another chain was sent");
        ++*done;
    }
    while (*offered < FRAMES && *offered - *done < SLOTS) {
        unsigned slot = *offered % SLOTS;
        uint8_t *p = ram(&s->g->mem, s->tx + 256UL * slot, 256);

        memset(p, 0, HDR);
        make_frame(p + HDR, *offered);
        one(s, q, slot, s->tx, HDR + LEN, false);
        ++*offered;
    }
    if (from != s->g->ring[q].offered)
        tell(s, q, from);
    return true;
}

static bool drive_rx(struct side *s, uint32_t *got)
{
    unsigned q = 2 * s->pair;
    uint16_t from = s->g->ring[q].offered;
    uint8_t want[LEN];
    uint32_t id, len;

    while (ring_take(&s->g->ring[q], &id, &len)) {
        const uint8_t *p = ram(&s->g->mem, s->rx + 256UL * (id % SLOTS), 256);

        make_frame(want, *got);
        if (len != HDR + LEN || model_le16(p, 10) != 1 || memcmp(p + HDR, want, LEN) != 0)
            return say(s, "another frame was received");
        ++*got;
        one(s, q, id % SLOTS, s->rx, 256, true);
    }
    if (from != s->g->ring[q].offered)
        tell(s, q, from);
    return true;
}

/* The network: some frames to the guest, and those that it sent. */
static bool drive_wire(struct side *s, uint32_t *put, uint32_t *seen, uint32_t got)
{
    uint8_t buf[HDR + LEN + 1], want[LEN];

    for (unsigned i = 0; i < 16 && *put < FRAMES && *put - got < 200; i++) {
        make_frame(want, *put);
        if (!wire_send(s->g, s->pair, NULL, want, LEN))
            break;
        ++*put;
    }
    while (wire_recv(s->g, s->pair, buf, sizeof buf) > 0) {
        make_frame(want, *seen);
        if (memcmp(buf + HDR, want, LEN) != 0)
            return say(s, "another frame is on the wire");
        ++*seen;
    }
    return true;
}

static void *side_main(void *arg)
{
    struct side *s = arg;
    uint32_t offered = 0, done = 0, got = 0, put = 0, seen = 0;
    int64_t end = wall_ms() + 60000;
    uint16_t from = s->g->ring[2 * s->pair].offered;

    for (unsigned i = 0; i < SLOTS; i++)
        one(s, 2 * s->pair, i, s->rx, 256, true);
    tell(s, 2 * s->pair, from);
    while (done < FRAMES || got < FRAMES || seen < FRAMES) {
        if (!drive_wire(s, &put, &seen, got) || !drive_tx(s, &offered, &done) || !drive_rx(s, &got))
            break;
        if (wall_ms() > end) {
            snprintf(s->why, sizeof s->why, "stuck: %u sent, %u seen, %u of %u received", done,
                     seen, got, put);
            break;
        }
        if (!(done + got + seen + put & 7))
            sched_yield();
    }
    return NULL;
}

static void two_pairs_at_once(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct rig *g = rig_new(2);
        struct side side[2];
        pthread_t thread[2];
        struct net_stats s;

        if (i == 2) { /* limits that are shared, and no hindrance */
            g->opts.rx_pps = g->opts.tx_pps = 1 << 20;
            g->opts.rx_pps_burst = g->opts.tx_pps_burst = 100;
        }
        rig_make(g);
        rig_threads(g, true);
        rig_up(g, USUAL | BIT(N_MQ) | (i & 1 ? VIRTIO_F_EVENT_IDX : 0));
        assert_int_equal(rig_command(g, 4, 0, &(uint16_t){ 2 }, 2), 0);
        for (unsigned k = 0; k < 2; k++) {
            side[k] = (struct side){
                .g = g, .pair = k, .tx = rig_room(g, 256 * SLOTS), .rx = rig_room(g, 256 * SLOTS)
            };
            assert_int_equal(pthread_create(&thread[k], NULL, side_main, &side[k]), 0);
        }
        for (unsigned k = 0; k < 40; k++) { /* and what goes on beside it */
            assert_int_equal(rig_command(g, 0, 0, &(uint8_t){ k & 1 }, 1), 0);
            link_say(g, RTM_NEWLINK, RIG_IFINDEX, k & 1, 1500 + k);
            net_stats(g->dev, &s);
            assert_true(rig_config(g, 10, 2) >= 1500);
            reg_write(&g->t, R_ACK, reg_read(&g->t, R_ISR));
        }
        for (unsigned k = 0; k < 2; k++) {
            pthread_join(thread[k], NULL);
            if (side[k].why[0])
                fail_msg("pair %u: %s", k, side[k].why);
        }
        net_stats(g->dev, &s);
        assert_true(s.rx_packets == 2 * FRAMES && s.tx_packets == 2 * FRAMES);
        reg_write(&g->t, R_STATUS, 0);
        rig_threads(g, false);
        rig_free(g);
    }
}

/* --- all at once, without manners --------------------------------------------------------- */

struct storm {
    struct rig *g;
    _Atomic bool stop;
};

static void *storm_main(void *arg)
{
    struct storm *s = arg;
    uint8_t frame[300] = { 0 };
    struct rng r = { 1 };

    while (!s->stop) {
        wire_send(s->g, rng_next(&r) & 1, NULL, frame, 14 + rng_below(&r, 200));
        reg_write(&s->g->t, R_NOTIFY, (uint32_t)rng_below(&r, 6));
        while (wire_recv(s->g, rng_next(&r) & 1, frame, sizeof frame) > 0)
            ;
        if (rng_chance(&r, 10))
            link_say(s->g, RTM_NEWLINK, RIG_IFINDEX, rng_next(&r) & 1, 1500);
        usleep(100);
    }
    return NULL;
}

/* A little of everything, so that all parts of the device have something in hand. */
static void busy(struct rig *g, unsigned pair, unsigned i)
{
    static const uint8_t frame[100];

    for (unsigned k = 0; k < 10; k++) {
        rig_offer(g, 2 * pair, k, 1600);
        rig_put(g, 2 * pair + 1, 2 * k, NULL, frame, sizeof frame);
    }
    ring_publish(&g->ring[2 * pair]);
    ring_publish(&g->ring[2 * pair + 1]);
    reg_write(&g->t, R_NOTIFY, 2 * pair);
    reg_write(&g->t, R_NOTIFY, 2 * pair + 1);
    if (i % 5 == 4) {
        ring_put(&g->ring[i % 2], 9999); /* and it breaks */
        ring_publish(&g->ring[i % 2]);
        reg_write(&g->t, R_NOTIFY, i % 2);
    }
}

/* A command that nobody waits for. */
static void command_blindly(struct rig *g)
{
    unsigned q = rig_control_queue(g);
    struct part p[] = { { rig_room(g, 16), 3, false }, { rig_room(g, 1), 1, true } };

    memset(ram(&g->mem, p[0].gpa, 3), 0, 3);
    rig_chain(g, q, 100, p, 2);
    ring_publish(&g->ring[q]);
    reg_write(&g->t, R_NOTIFY, q);
}

/* Resets at any moment, with MQ and without: then the control queue is the second pair's number 2.
 */
static void resets_in_a_storm(void **state)
{
    struct rig *g = rig_new(2);
    struct storm s = { .g = g };
    uint8_t bytes[8192];
    pthread_t thread;

    (void)state;
    rig_make(g);
    rig_threads(g, true);
    assert_int_equal(pthread_create(&thread, NULL, storm_main, &s), 0);
    for (unsigned i = 0; i < 200; i++) {
        bool mq = i & 1;

        rig_up(g, USUAL | (mq ? BIT(N_MQ) : 0) | (i & 2 ? VIRTIO_F_EVENT_IDX : 0));
        busy(g, 0, i);
        if (mq) {
            rig_command(g, 4, 0, &(uint16_t){ 2 }, 2);
            busy(g, 1, 0);
        }
        for (unsigned k = 0; k < 3; k++) /* no answer where it is broken */
            if (!rig_broken(g))
                rig_command(g, 0, 0, &(uint8_t){ k & 1 }, 1);
        command_blindly(g);
        if (i % 3 == 0) {
            struct wbuf w = { .data = bytes, .cap = sizeof bytes };

            virtio_mmio_save(&g->t, &w);
            assert_false(w.overflow);
        }
        reg_write(&g->t, R_STATUS, 0);
        assert_int_equal(reg_read(&g->t, R_STATUS), 0);
    }
    s.stop = true;
    pthread_join(thread, NULL);
    rig_threads(g, false);
    rig_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_pairs_at_once),
        cmocka_unit_test(resets_in_a_storm),
    };

    return cmocka_run_group_tests(tests, rig_group_setup, NULL);
}
