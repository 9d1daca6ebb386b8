/* The mmio transport, rule by rule (virtio 1.2, sections 2.1, 3.1, 4.2), and its saved state in the
 * hands of an enemy. */
#include "tests/unit/fake.h"

#include <pthread.h>
#include <stdio.h>

enum {
    ST_DRIVER = S_ACK | S_DRIVER,
    ST_QUEUES = ST_DRIVER | S_FEATURES_OK,
    ST_RUN = ST_QUEUES | S_DRIVER_OK,
};

#define PLAIN VIRTIO_F_VERSION_1

/* A device with a ring for each queue. */
struct rig {
    struct gmem mem;
    struct fake f;
    struct virtio_mmio *t;
    struct ring ring[FAKE_NQ];
};

static int rig_setup(void **state)
{
    struct rig *g = calloc(1, sizeof *g);
    uint64_t at = 0;

    assert_non_null(g);
    fake_mem(&g->mem);
    fake_init(&g->f, &g->mem);
    g->t = &g->f.t;
    for (unsigned i = 0; i < FAKE_NQ; i++)
        at = ring_init(&g->ring[i], &g->mem, at, (uint16_t)(8U << i));
    *state = g;
    return 0;
}

static int rig_teardown(void **state)
{
    struct rig *g = *state;

    fake_fini(&g->f);
    free(g->mem.region[0].host);
    free(g);
    return 0;
}

static void identity(void **state)
{
    struct rig *g = *state;

    assert_int_equal(reg_read(g->t, R_MAGIC), 0x74726976);
    assert_int_equal(reg_read(g->t, R_VERSION), 2);
    assert_int_equal(reg_read(g->t, R_DEVICE), FAKE_ID);
    assert_int_equal(reg_read(g->t, R_STATUS), 0);
    for (uint32_t sel = 0; sel < 4; sel++) {
        reg_write(g->t, R_DEV_FEATURES_SEL, sel);
        assert_int_equal(reg_read(g->t, R_DEV_FEATURES),
                         sel < 2 ? (uint32_t)(FAKE_ALL >> 32 * sel) : 0);
    }
    for (uint32_t q = 0; q < 5; q++) {
        reg_write(g->t, R_QUEUE_SEL, q);
        assert_int_equal(reg_read(g->t, R_QUEUE_NUM_MAX), q < FAKE_NQ ? FAKE_QMAX : 0);
        assert_int_equal(reg_read(g->t, R_QUEUE_READY), 0);
    }
    /* No shared memory: length and base read all ones (4.2.2). */
    for (uint64_t off = R_SHM_LEN_LOW; off <= R_SHM_BASE_HIGH; off += 4)
        assert_int_equal(reg_read(g->t, off), UINT32_MAX);
}

/* --- features ----------------------------------------------------------------------------- */

static void features_are_negotiated_strictly(void **state)
{
    struct rig *g = *state;

    assert_int_equal(drive_features(g->t, PLAIN), ST_QUEUES);
    assert_int_equal(drive_features(g->t, FAKE_ALL), ST_QUEUES);
    assert_int_equal(drive_features(g->t, 0), ST_DRIVER);
    assert_int_equal(drive_features(g->t, FAKE_ALL & ~PLAIN), ST_DRIVER); /* a legacy driver */
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t f = UINT64_C(1) << bit;

        assert_int_equal(drive_features(g->t, PLAIN | f), f & FAKE_ALL ? ST_QUEUES : ST_DRIVER);
    }
}

static void features_above_63_are_refused(void **state)
{
    struct rig *g = *state;

    for (uint32_t sel = 2; sel < 40; sel += sel < 4 ? 1 : 30) {
        for (uint32_t v = 0; v < 2; v++) {
            drive_features(g->t, 0); /* leaves ACK | DRIVER */
            reg_write(g->t, R_DRV_FEATURES_SEL, sel);
            reg_write(g->t, R_DRV_FEATURES, v);
            reg_write(g->t, R_DRV_FEATURES_SEL, 1);
            reg_write(g->t, R_DRV_FEATURES, PLAIN >> 32);
            reg_write(g->t, R_STATUS, ST_QUEUES);
            assert_int_equal(reg_read(g->t, R_STATUS), v ? ST_DRIVER : ST_QUEUES);
        }
    }
}

static void refused_features_may_be_asked_again(void **state)
{
    struct rig *g = *state;

    assert_int_equal(drive_features(g->t, PLAIN | 2), ST_DRIVER);
    reg_write(g->t, R_DRV_FEATURES_SEL, 0);
    reg_write(g->t, R_DRV_FEATURES, 1);
    reg_write(g->t, R_STATUS, ST_QUEUES);
    assert_int_equal(reg_read(g->t, R_STATUS), ST_QUEUES);
    reg_write(g->t, R_STATUS, ST_RUN);
    assert_true(g->f.dev.features == (PLAIN | 1));
}

static void features_are_deaf_out_of_turn(void **state)
{
    struct rig *g = *state;

    reg_write(g->t, R_DRV_FEATURES, 2); /* at status 0 */
    reg_write(g->t, R_STATUS, S_ACK);
    reg_write(g->t, R_DRV_FEATURES, 2);
    reg_write(g->t, R_STATUS, ST_DRIVER);
    reg_write(g->t, R_DRV_FEATURES, 1);
    reg_write(g->t, R_DRV_FEATURES_SEL, 1);
    reg_write(g->t, R_DRV_FEATURES, PLAIN >> 32);
    reg_write(g->t, R_STATUS, ST_QUEUES);
    assert_int_equal(reg_read(g->t, R_STATUS), ST_QUEUES);
    reg_write(g->t, R_DRV_FEATURES, 0); /* accepted is accepted (2.2.1) */
    reg_write(g->t, R_STATUS, ST_RUN);
    assert_true(g->f.dev.features == (PLAIN | 1));
    reg_write(g->t, R_DRV_FEATURES, 0);
    assert_true(g->f.dev.features == (PLAIN | 1));
}

/* --- status ------------------------------------------------------------------------------- */

static const uint8_t statuses[] = { 0, S_ACK, ST_DRIVER, ST_QUEUES, ST_RUN };

/* Brings it to statuses[i]. */
static void drive_to(struct rig *g, unsigned i)
{
    drive_features(g->t, i < 3 ? 0 : PLAIN); /* to DRIVER, or to FEATURES_OK */
    if (i < 2)
        reg_write(g->t, R_STATUS, 0);
    if (i == 1)
        reg_write(g->t, R_STATUS, S_ACK);
    if (i == 2) {
        reg_write(g->t, R_DRV_FEATURES_SEL, 1);
        reg_write(g->t, R_DRV_FEATURES, PLAIN >> 32);
    }
    if (i == 4)
        reg_write(g->t, R_STATUS, ST_RUN);
    assert_int_equal(reg_read(g->t, R_STATUS), statuses[i]);
}

/* From each status, every value: the next step, FAILED, a reset, or nothing. */
static void only_steps_in_order(void **state)
{
    struct rig *g = *state;

    for (unsigned i = 0; i < ARRAY_LEN(statuses); i++)
        for (uint32_t v = 0; v < 0x400; v++) {
            uint32_t plain = v & ~(uint32_t)S_RESET, want = statuses[i];

            drive_to(g, i);
            reg_write(g->t, R_STATUS, v);
            if (v == 0)
                want = 0;
            else if (plain & S_FAILED)
                want |= S_FAILED;
            else if (i + 1 < ARRAY_LEN(statuses) && plain == statuses[i + 1])
                want = statuses[i + 1];
            if (reg_read(g->t, R_STATUS) != want)
                fail_msg("0x%x written at 0x%x gives 0x%x", v, statuses[i],
                         reg_read(g->t, R_STATUS));
        }
}

static void failed_lasts_until_reset(void **state)
{
    struct rig *g = *state;

    for (unsigned i = 0; i < ARRAY_LEN(statuses); i++) {
        drive_to(g, i);
        reg_write(g->t, R_STATUS, statuses[i] | S_FAILED);
        for (uint32_t v = 1; v < 0x100; v++) {
            reg_write(g->t, R_STATUS, v);
            assert_int_equal(reg_read(g->t, R_STATUS), statuses[i] | S_FAILED);
        }
        reg_write(g->t, R_STATUS, 0);
        assert_int_equal(reg_read(g->t, R_STATUS), 0);
        assert_int_equal(drive_up(g->t, PLAIN, g->ring, FAKE_NQ), ST_RUN);
    }
}

static void a_reset_forgets_everything(void **state)
{
    struct rig *g = *state;

    for (unsigned i = 0; i < ARRAY_LEN(statuses); i++) {
        unsigned quiesced = g->f.quiesced;

        if (i < 4)
            drive_to(g, i);
        else
            drive_up(g->t, FAKE_ALL, g->ring, FAKE_NQ);
        reg_write(g->t, R_DEV_FEATURES_SEL, 1);
        reg_write(g->t, R_QUEUE_SEL, 2);
        virtio_interrupt(&g->f.dev, 3);
        quiesced = g->f.quiesced;
        reg_write(g->t, R_STATUS, 0);
        assert_int_equal(g->f.quiesced, quiesced + (i == 4));
        assert_int_equal(reg_read(g->t, R_STATUS), 0);
        assert_int_equal(reg_read(g->t, R_ISR), 0);
        assert_int_equal(reg_read(g->t, R_DEV_FEATURES), (uint32_t)FAKE_ALL);
        assert_false(g->f.dev.active);
        assert_true(g->f.dev.features == 0);
        for (uint32_t q = 0; q < FAKE_NQ; q++) {
            reg_write(g->t, R_QUEUE_SEL, q);
            assert_int_equal(reg_read(g->t, R_QUEUE_READY), 0);
            assert_false(virtq_running(&g->f.dev.queue[q].vq));
        }
        /* Features are asked anew: those of before are gone. */
        reg_write(g->t, R_STATUS, S_ACK);
        reg_write(g->t, R_STATUS, ST_DRIVER);
        reg_write(g->t, R_STATUS, ST_QUEUES);
        assert_int_equal(reg_read(g->t, R_STATUS), ST_DRIVER);
        /* And addresses: a queue of no size is none. */
        drive_features(g->t, PLAIN);
        reg_write(g->t, R_QUEUE_SEL, 0);
        reg_write(g->t, R_QUEUE_READY, 1);
        reg_write(g->t, R_STATUS, ST_RUN);
        assert_int_equal(reg_read(g->t, R_STATUS), ST_RUN | S_RESET);
    }
}

static void needs_reset_comes_and_goes(void **state)
{
    struct rig *g = *state;

    assert_int_equal(drive_up(g->t, PLAIN, g->ring, FAKE_NQ), ST_RUN);
    drain(g->f.dev.irqfd);
    virtio_fail(&g->f.dev, "for the test");
    assert_int_equal(reg_read(g->t, R_STATUS), ST_RUN | S_RESET);
    assert_int_equal(reg_read(g->t, R_ISR), 2); /* told by a config interrupt (2.1.2) */
    assert_int_equal(drain(g->f.dev.irqfd), 1);
    virtio_fail(&g->f.dev, "twice");
    assert_int_equal(drain(g->f.dev.irqfd), 0);
    /* A driver that writes back what it read changes nothing. */
    reg_write(g->t, R_STATUS, ST_RUN | S_RESET);
    assert_int_equal(reg_read(g->t, R_STATUS), ST_RUN | S_RESET);
    reg_write(g->t, R_STATUS, S_RESET);
    assert_int_equal(reg_read(g->t, R_STATUS), ST_RUN | S_RESET);
    /* No kick reaches a broken device. */
    unsigned kicked = g->f.kicked[0];

    reg_write(g->t, R_NOTIFY, 0);
    virtio_settle(&g->f.dev);
    assert_int_equal(g->f.kicked[0], kicked);
    reg_write(g->t, R_STATUS, 0);
    assert_int_equal(reg_read(g->t, R_STATUS), 0);
    assert_int_equal(drive_up(g->t, PLAIN, g->ring, FAKE_NQ), ST_RUN);
    virtio_settle(&g->f.dev);
    assert_int_equal(g->f.kicked[0], kicked + 1);
}

static void a_device_that_cannot_start(void **state)
{
    struct rig *g = *state;

    g->f.activate_ret = -EIO;
    assert_int_equal(drive_up(g->t, PLAIN, g->ring, FAKE_NQ), ST_RUN | S_RESET);
    virtio_settle(&g->f.dev);
    assert_int_equal(g->f.kicked[0], 0);
    g->f.activate_ret = 0;
    assert_int_equal(drive_up(g->t, PLAIN, g->ring, FAKE_NQ), ST_RUN);
}

/* --- queues ------------------------------------------------------------------------------- */

static void queues_are_set_up_in_turn_only(void **state)
{
    struct rig *g = *state;

    for (unsigned i = 0; i < ARRAY_LEN(statuses); i++)
        for (int failed = 0; failed < 2; failed++) {
            struct virtq_setup s = ring_setup(&g->ring[1]);

            drive_to(g, i);
            if (failed)
                reg_write(g->t, R_STATUS, S_FAILED);
            drive_queue(g->t, 1, &s);
            assert_int_equal(reg_read(g->t, R_QUEUE_READY), statuses[i] == ST_QUEUES && !failed);
            drive_queue(g->t, FAKE_NQ, &s); /* no such queue: nothing happens */
            assert_int_equal(reg_read(g->t, R_QUEUE_READY), 0);
            drive_queue(g->t, UINT32_MAX, &s);
            assert_int_equal(reg_read(g->t, R_QUEUE_READY), 0);
        }
}

static void a_ready_queue_is_not_moved(void **state)
{
    struct rig *g = *state;
    struct virtq_setup s = ring_setup(&g->ring[1]), junk = { .size = 4, .desc = { 1 } };

    drive_features(g->t, PLAIN);
    drive_queue(g->t, 1, &s);
    drive_queue(g->t, 1, &junk);
    /* Not ready any more it may be, and is then given again. */
    drive_queue(g->t, 2, &junk);
    reg_write(g->t, R_QUEUE_READY, 0);
    assert_int_equal(reg_read(g->t, R_QUEUE_READY), 0);
    struct virtq_setup other = ring_setup(&g->ring[2]);

    drive_queue(g->t, 2, &other);
    reg_write(g->t, R_STATUS, ST_RUN);
    assert_int_equal(reg_read(g->t, R_STATUS), ST_RUN);
    const struct virtq_setup *got = &g->f.dev.queue[1].vq.setup;

    assert_int_equal(got->size, s.size);
    assert_true(got->desc.v == s.desc.v && got->avail.v == s.avail.v && got->used.v == s.used.v);
    assert_int_equal(g->f.dev.queue[2].vq.setup.size, other.size);
    assert_false(virtq_running(&g->f.dev.queue[0].vq)); /* never made ready */
}

static void bad_queues_break_the_device_alone(void **state)
{
    static const struct {
        uint32_t size;
        uint64_t desc;
    } rows[] = { { 0, 0 },
                 { 3, 0 },
                 { 128, 0 },
                 { 0x10008, 0 },
                 { UINT32_MAX, 0 },
                 { 8, 8 },
                 { 8, FAKE_RAM },
                 { 8, UINT64_MAX - 15 },
                 { 8, UINT32_MAX + 1UL } };
    struct rig *g = *state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct virtq_setup s = ring_setup(&g->ring[0]);
        unsigned activated = g->f.activated;

        drive_features(g->t, PLAIN);
        drive_queue(g->t, 0, &s);
        s.desc.v = rows[i].desc;
        reg_write(g->t, R_QUEUE_SEL, 1);
        drive_queue(g->t, 1, &s);
        reg_write(g->t, R_QUEUE_READY, 0);
        reg_write(g->t, R_QUEUE_NUM, rows[i].size);
        reg_write(g->t, R_QUEUE_READY, 1);
        reg_write(g->t, R_STATUS, ST_RUN);
        assert_int_equal(reg_read(g->t, R_STATUS), ST_RUN | S_RESET);
        assert_int_equal(reg_read(g->t, R_ISR), 2);
        assert_int_equal(g->f.activated, activated);
        assert_int_equal(drive_up(g->t, PLAIN, g->ring, FAKE_NQ), ST_RUN);
    }
}

static void notify_finds_its_queue(void **state)
{
    static const uint32_t absent[] = { FAKE_NQ, 32, 0x10000, UINT32_MAX };
    struct rig *g = *state;

    drive_up(g->t, PLAIN, g->ring, FAKE_NQ);
    for (unsigned q = 0; q < FAKE_NQ; q++)
        assert_int_equal(drain(g->f.dev.queue[q].kick.fd), 1); /* once, since it may hold some */
    for (unsigned q = 0; q < FAKE_NQ; q++) {
        reg_write(g->t, R_NOTIFY, q);
        for (unsigned i = 0; i < FAKE_NQ; i++)
            assert_int_equal(drain(g->f.dev.queue[i].kick.fd), i == q);
    }
    for (size_t i = 0; i < ARRAY_LEN(absent); i++)
        reg_write(g->t, R_NOTIFY, absent[i]);
    for (unsigned i = 0; i < FAKE_NQ; i++)
        assert_int_equal(drain(g->f.dev.queue[i].kick.fd), 0);
}

/* --- interrupts and configuration --------------------------------------------------------- */

static void interrupts_are_acknowledged_by_bit(void **state)
{
    struct rig *g = *state;

    drive_up(g->t, PLAIN, g->ring, FAKE_NQ);
    drain(g->f.dev.irqfd);
    virtio_interrupt(&g->f.dev, 1);
    virtio_interrupt(&g->f.dev, 2);
    assert_int_equal(drain(g->f.dev.irqfd), 2);
    assert_int_equal(reg_read(g->t, R_ISR), 3);
    reg_write(g->t, R_ACK, 0xfffffffc);
    assert_int_equal(reg_read(g->t, R_ISR), 3);
    reg_write(g->t, R_ACK, 1);
    assert_int_equal(reg_read(g->t, R_ISR), 2);
    reg_write(g->t, R_ISR, 0); /* read-only */
    assert_int_equal(reg_read(g->t, R_ISR), 2);
    reg_write(g->t, R_ACK, 3);
    assert_int_equal(reg_read(g->t, R_ISR), 0);
    assert_int_equal(reg_read(g->t, R_ACK), 0); /* write-only */
}

static void configuration_has_generations(void **state)
{
    struct rig *g = *state;
    uint32_t gen = reg_read(g->t, R_GENERATION);
    uint8_t byte = 9;

    virtio_set_config(&g->f.dev, FAKE_CFG - 1, &byte, 1);
    assert_int_not_equal(reg_read(g->t, R_GENERATION), gen);
    assert_int_equal(reg_read(g->t, R_ISR), 0); /* nobody listens yet */
    drive_up(g->t, PLAIN, g->ring, FAKE_NQ);
    drain(g->f.dev.irqfd);
    gen = reg_read(g->t, R_GENERATION);
    virtio_set_config(&g->f.dev, FAKE_CFG - 1, &byte, 1); /* the same again is no change */
    assert_int_equal(reg_read(g->t, R_GENERATION), gen);
    assert_int_equal(reg_read(g->t, R_ISR), 0);
    byte++;
    virtio_set_config(&g->f.dev, FAKE_CFG - 1, &byte, 1);
    assert_int_not_equal(reg_read(g->t, R_GENERATION), gen);
    assert_int_equal(reg_read(g->t, R_ISR), 2);
    assert_int_equal(drain(g->f.dev.irqfd), 1);
}

static void configuration_has_bounds(void **state)
{
    struct rig *g = *state;
    uint8_t cfg[FAKE_CFG], junk[8] = "junkjunk";

    for (unsigned i = 0; i < FAKE_CFG; i++)
        cfg[i] = (uint8_t)(0x80 + i);
    virtio_set_config(&g->f.dev, 0, cfg, FAKE_CFG);
    for (unsigned len = 1; len <= 8; len *= 2)
        for (uint64_t off = R_CONFIG; off + len <= VIRTIO_MMIO_LEN; off++) {
            unsigned at = (unsigned)(off - R_CONFIG), writes = g->f.cfg_written;
            bool inside = at + len <= FAKE_CFG;
            uint8_t got[9], want[9] = { 0 };

            memset(got, 0xcc, sizeof got);
            if (inside)
                memcpy(want, cfg + at, len);
            want[len] = 0xcc;
            virtio_mmio_ops.read(g->t, off, got, len);
            assert_memory_equal(got, want, len + 1);
            virtio_mmio_ops.write(g->t, off, junk, len);
            assert_int_equal(g->f.cfg_written, writes + inside);
            if (inside) {
                assert_int_equal(g->f.cfg_off, at);
                assert_int_equal(g->f.cfg_n, len);
                assert_memory_equal(g->f.cfg_data, junk, len);
            }
        }
    assert_memory_equal(g->f.dev.cfg, cfg, FAKE_CFG); /* writes are the class's affair */
}

static void registers_are_32_bits_wide(void **state)
{
    struct rig *g = *state;

    drive_up(g->t, PLAIN, g->ring, FAKE_NQ);
    for (unsigned len = 1; len <= 8; len *= 2)
        for (uint64_t off = 0; off + len <= R_CONFIG; off++) {
            uint64_t v = 0, zero = 0;

            if (len == 4 && off % 4 == 0)
                continue;
            v = UINT64_MAX;
            virtio_mmio_ops.read(g->t, off, &v, len);
            assert_memory_equal(&v, &zero, len);
            virtio_mmio_ops.write(g->t, off, &zero, len); /* at 0x70 it would be a reset */
            assert_int_equal(reg_read(g->t, R_STATUS), ST_RUN);
        }
}

/* --- saved state -------------------------------------------------------------------------- */

/* Brings a device to the i-th of the states worth saving. false: there are no more. */
static bool interesting_state(struct rig *g, unsigned i)
{
    unsigned n = ARRAY_LEN(statuses);

    if (i < 2 * n) {
        drive_to(g, i % n);
        if (i >= n)
            reg_write(g->t, R_STATUS, S_FAILED);
        return true;
    }
    drive_up(g->t, FAKE_ALL, g->ring, FAKE_NQ);
    virtio_interrupt(&g->f.dev, 1);
    if (i == 2 * n + 1)
        virtio_fail(&g->f.dev, "for the test");
    if (i == 2 * n + 2) {
        g->ring[1].desc = 8; /* not aligned: its queues never start */
        drive_up(g->t, FAKE_ALL, g->ring, FAKE_NQ);
    }
    return i <= 2 * n + 2;
}

static int load(struct rig *g, struct fake *f, const uint8_t *bytes, size_t len)
{
    struct rbuf r = { .data = bytes, .len = len };
    struct err e = { 0 };

    fake_init(f, &g->mem);
    int ret = virtio_mmio_load(&f->t, &r, &e);

    assert_true(ret == 0 ? !r.overrun : e.msg[0] != 0);
    return ret;
}

/* Whatever it is now, it answers, and a reset makes it whole. */
static void still_a_device(struct rig *g, struct fake *f)
{
    uint32_t v;

    for (uint64_t off = 0; off < R_CONFIG + 32; off += 4)
        virtio_mmio_ops.read(&f->t, off, &v, 4);
    reg_write(&f->t, R_NOTIFY, 0);
    virtio_settle(&f->dev);
    for (unsigned i = 0; i < FAKE_NQ; i++)
        ring_init(&g->ring[i], &g->mem, 0x1000 * i, 8);
    assert_int_equal(drive_up(&f->t, PLAIN, g->ring, FAKE_NQ), ST_RUN);
}

static void state_goes_round_and_resists(void **state)
{
    struct rig *g = *state;
    struct fake *f = malloc(sizeof *f);
    uint8_t bytes[512];

    assert_non_null(f);
    for (unsigned i = 0; interesting_state(g, i); i++) {
        struct wbuf w = { .data = bytes, .cap = sizeof bytes };
        uint32_t status = reg_read(g->t, R_STATUS);

        virtio_mmio_save(g->t, &w);
        assert_false(w.overflow);
        assert_int_equal(load(g, f, bytes, w.len), 0);
        assert_int_equal(reg_read(&f->t, R_STATUS), status);
        assert_int_equal(reg_read(&f->t, R_ISR), reg_read(g->t, R_ISR));
        still_a_device(g, f);
        fake_fini(f);
        for (size_t len = 0; len < w.len; len++) {
            assert_int_equal(load(g, f, bytes, len), -EPROTO);
            fake_fini(f);
        }
        for (size_t bit = 0; bit < 8 * w.len; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
            if (load(g, f, bytes, w.len) == 0)
                still_a_device(g, f);
            fake_fini(f);
            bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
        }
    }
    free(f);
}

/* Offsets in what virtio_mmio_save writes. */
enum { SAVED_ID = 0, SAVED_STATUS = 4, SAVED_FEATURES = 20, SAVED_ACTIVE = 32 + 28 * FAKE_NQ };

static void states_no_device_has_are_refused(void **state)
{
    static const struct {
        unsigned from; /* interesting state */
        unsigned off;  /* of a byte */
        uint8_t value;
    } rows[] = {
        { 4, SAVED_ID, FAKE_ID + 1 },
        { 4, SAVED_STATUS, S_DRIVER },
        { 4, SAVED_STATUS, ST_RUN | S_RESET },
        { 4, SAVED_STATUS, ST_RUN | 0x10 },
        { 4, SAVED_STATUS + 1, 1 },
        { 4, SAVED_FEATURES, 2 },     /* never offered */
        { 4, SAVED_FEATURES + 4, 0 }, /* no VERSION_1 */
        { 3, SAVED_ACTIVE, 1 },       /* running before DRIVER_OK */
        { 0, SAVED_ACTIVE, 1 },
        { 4, SAVED_ACTIVE, 0 }, /* DRIVER_OK, not running */
        { 9, SAVED_ACTIVE, 0 },
        { 4, SAVED_ACTIVE + 4, 4 }, /* an interrupt for no reason we have */
        { 3, SAVED_ACTIVE + 8, 1 }, /* broken before it ran */
    };
    struct rig *g = *state;
    struct fake *f = malloc(sizeof *f);

    assert_non_null(f);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t bytes[512];
        struct wbuf w = { .data = bytes, .cap = sizeof bytes };

        interesting_state(g, rows[i].from);
        virtio_mmio_save(g->t, &w);
        assert_int_equal(bytes[SAVED_ID], FAKE_ID);
        assert_int_equal(bytes[SAVED_ACTIVE], (rows[i].from % 5) == 4);
        bytes[rows[i].off] = rows[i].value;
        if (load(g, f, bytes, w.len) != -EPROTO)
            fail_msg("row %zu was taken", i);
        fake_fini(f);
    }
    free(f);
}

/* --- threads ------------------------------------------------------------------------------ */

#define VCPUS 3

struct vcpu {
    struct rig *g;
    uint64_t seed;
    pthread_t thread;
};

/* A vCPU that does anything at all, with now and then the right thing. */
static void *vcpu_main(void *arg)
{
    struct vcpu *v = arg;
    struct rng r = { v->seed };

    for (int i = 0; i < 3000; i++) {
        uint64_t off = rng_below(&r, 0x130), value = rng_below(&r, 16);
        unsigned len = rng_chance(&r, 80) ? 4 : 1U << rng_below(&r, 4);

        if (len == 4)
            off = off / 4 * 4;
        if (rng_chance(&r, 3))
            drive_up(v->g->t, PLAIN, v->g->ring, FAKE_NQ);
        else if (rng_chance(&r, 50))
            virtio_mmio_ops.read(v->g->t, off, &value, len);
        else
            virtio_mmio_ops.write(v->g->t, off, &value, len);
    }
    return NULL;
}

static void vcpus_at_once(void **state)
{
    struct rig *g = *state;
    struct vcpu v[VCPUS];
    struct err e;

    assert_int_equal(loop_start(&g->f.loop, "fake", NULL, NULL, &e), 0);
    for (unsigned i = 0; i < VCPUS; i++) {
        v[i] = (struct vcpu){ .g = g, .seed = i };
        assert_int_equal(pthread_create(&v[i].thread, NULL, vcpu_main, &v[i]), 0);
    }
    for (unsigned i = 0; i < VCPUS; i++)
        pthread_join(v[i].thread, NULL);
    assert_int_equal(drive_up(g->t, PLAIN, g->ring, FAKE_NQ), ST_RUN);
    virtio_settle(&g->f.dev);
    loop_join(&g->f.loop);
    assert_true(g->f.kicked[0] > 0 && g->f.activated > 0 && g->f.quiesced > 0);
}

int main(void)
{
#define RIG_TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        RIG_TEST(identity),
        RIG_TEST(features_are_negotiated_strictly),
        RIG_TEST(features_above_63_are_refused),
        RIG_TEST(refused_features_may_be_asked_again),
        RIG_TEST(features_are_deaf_out_of_turn),
        RIG_TEST(only_steps_in_order),
        RIG_TEST(failed_lasts_until_reset),
        RIG_TEST(a_reset_forgets_everything),
        RIG_TEST(needs_reset_comes_and_goes),
        RIG_TEST(a_device_that_cannot_start),
        RIG_TEST(queues_are_set_up_in_turn_only),
        RIG_TEST(a_ready_queue_is_not_moved),
        RIG_TEST(bad_queues_break_the_device_alone),
        RIG_TEST(notify_finds_its_queue),
        RIG_TEST(interrupts_are_acknowledged_by_bit),
        RIG_TEST(configuration_has_generations),
        RIG_TEST(configuration_has_bounds),
        RIG_TEST(registers_are_32_bits_wide),
        RIG_TEST(state_goes_round_and_resists),
        RIG_TEST(states_no_device_has_are_refused),
        RIG_TEST(vcpus_at_once),
    };

    return cmocka_run_group_tests(tests, log_to_nowhere, NULL);
}
