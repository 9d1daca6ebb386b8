/* The mmio transport against a model: random accesses of every width at every offset, biased to
 * reach deep states, each answer and each effect compared. The model was written from the
 * specification (virtio 1.2, sections 2.1, 3.1 and 4.2) and the table in mmio.c's opening words,
 * not from the code. Now and then the device is saved and the load of that goes on in its place. */
#include "tests/unit/fake.h"

struct queue_model {
    bool ready;
    uint32_t num;
    uint64_t part[3];
};

struct model {
    uint8_t status;
    uint32_t dev_sel, drv_sel, q_sel;
    uint64_t features;
    bool foreign;
    struct queue_model q[FAKE_NQ];
    uint32_t isr;
    bool active, broken;
    uint8_t cfg[FAKE_CFG];
    bool cfg_changed; /* since the generation was read last */
    uint32_t gen;
    /* What the device must have been asked. */
    unsigned activated, quiesced, cfg_written;
    uint64_t kicks[FAKE_NQ], irqs;
};

struct fuzz {
    struct rng rng;
    struct gmem mem;
    struct fake *f;
    struct model m;
    /* Proof that the noise reaches everything. */
    unsigned running, running_queues, broken, failed, refused, loads;
};

enum { ST_QUEUES = S_ACK | S_DRIVER | S_FEATURES_OK, ST_RUN = ST_QUEUES | S_DRIVER_OK };

static void model_interrupt(struct model *m, uint32_t why)
{
    m->isr |= why;
    m->irqs++;
}

static void model_fail(struct model *m)
{
    if (!m->broken)
        model_interrupt(m, 2);
    m->broken = true;
}

/* --- the model of a write ----------------------------------------------------------------- */

static bool queue_usable(const struct queue_model *q)
{
    static const struct {
        uint64_t align, fixed, each;
    } part[] = { { 16, 0, 16 }, { 2, 6, 2 }, { 4, 6, 8 } }; /* the table in 2.7 */

    if (q->num == 0 || q->num > FAKE_QMAX || (q->num & (q->num - 1)))
        return false;
    for (unsigned i = 0; i < 3; i++) {
        uint64_t len = part[i].fixed + part[i].each * q->num;

        if (q->part[i] % part[i].align || q->part[i] > FAKE_RAM || FAKE_RAM - q->part[i] < len)
            return false;
    }
    return true;
}

static void model_driver_ok(struct fuzz *z)
{
    struct model *m = &z->m;

    m->active = true;
    m->status = ST_RUN;
    for (unsigned i = 0; i < FAKE_NQ; i++)
        if (m->q[i].ready && !queue_usable(&m->q[i])) {
            model_fail(m);
            return;
        }
    m->activated++;
    if (z->f->activate_ret) {
        model_fail(m);
        return;
    }
    for (unsigned i = 0; i < FAKE_NQ; i++)
        m->kicks[i] += m->q[i].ready;
}

static void model_reset(struct model *m)
{
    struct model now = { .cfg_changed = m->cfg_changed,
                         .gen = m->gen,
                         .activated = m->activated,
                         .quiesced = m->quiesced + m->active,
                         .cfg_written = m->cfg_written,
                         .irqs = m->irqs };

    memcpy(now.cfg, m->cfg, sizeof now.cfg);
    memcpy(now.kicks, m->kicks, sizeof now.kicks);
    *m = now;
}

static void model_status(struct fuzz *z, uint32_t v)
{
    static const uint8_t next[] = { S_ACK, S_DRIVER, S_FEATURES_OK, S_DRIVER_OK };
    struct model *m = &z->m;

    if (v == 0) {
        model_reset(m);
        return;
    }
    v &= ~(uint32_t)S_RESET; /* the device's own bit */
    if (v & S_FAILED) {
        m->status |= S_FAILED;
        return;
    }
    if (m->status & S_FAILED) /* until a reset */
        return;
    /* One step: the bit after those that are set. */
    unsigned steps = (unsigned)__builtin_popcount(m->status);

    if (steps == ARRAY_LEN(next) || v != (m->status | (uint32_t)next[steps]))
        return;
    if (next[steps] == S_FEATURES_OK &&
        (m->foreign || (m->features & ~FAKE_ALL) || !(m->features & VIRTIO_F_VERSION_1))) {
        z->refused++;
        return;
    }
    if (next[steps] == S_DRIVER_OK)
        model_driver_ok(z);
    m->status = (uint8_t)v;
}

static void model_half(uint64_t *v, bool high, uint32_t half)
{
    uint32_t halves[2];

    memcpy(halves, v, 8);
    halves[high] = half;
    memcpy(v, halves, 8);
}

static void model_queue(struct model *m, uint64_t off, uint32_t v)
{
    if (m->status != ST_QUEUES || m->q_sel >= FAKE_NQ)
        return;
    struct queue_model *q = &m->q[m->q_sel];

    if (off == R_QUEUE_READY)
        q->ready = v & 1;
    else if (q->ready) /* not to be touched then (4.2.2.2) */
        return;
    else if (off == R_QUEUE_NUM)
        q->num = v;
    else
        model_half(&q->part[(off - R_DESC_LOW) / 0x10], off % 8 == 4, v);
}

static void model_write(struct fuzz *z, uint64_t off, uint64_t v, unsigned len)
{
    struct model *m = &z->m;
    uint32_t w = (uint32_t)v;

    if (off >= R_CONFIG) {
        m->cfg_written += off - R_CONFIG + len <= FAKE_CFG;
        return;
    }
    if (len != 4 || off % 4)
        return;
    switch (off) {
    case R_DEV_FEATURES_SEL:
        m->dev_sel = w;
        break;
    case R_DRV_FEATURES_SEL:
        m->drv_sel = w;
        break;
    case R_DRV_FEATURES:
        if (m->status != (S_ACK | S_DRIVER))
            break;
        if (m->drv_sel > 1)
            m->foreign |= w != 0;
        else
            model_half(&m->features, m->drv_sel, w);
        break;
    case R_QUEUE_SEL:
        m->q_sel = w;
        break;
    case R_NOTIFY:
        if (w < FAKE_NQ)
            m->kicks[w]++;
        break;
    case R_ACK:
        m->isr &= ~w;
        break;
    case R_STATUS:
        model_status(z, w);
        break;
    case R_QUEUE_NUM:
    case R_QUEUE_READY:
    case R_DESC_LOW:
    case R_DESC_HIGH:
    case R_DRIVER_LOW:
    case R_DRIVER_HIGH:
    case R_DEVICE_LOW:
    case R_DEVICE_HIGH:
        model_queue(m, off, w);
        break;
    default:
        break;
    }
}

/* --- the model of a read ------------------------------------------------------------------ */

static uint32_t model_reg(struct model *m, uint64_t off)
{
    bool queue = m->q_sel < FAKE_NQ;

    switch (off) {
    case R_MAGIC:
        return 0x74726976;
    case R_VERSION:
        return 2;
    case R_DEVICE:
        return FAKE_ID;
    case R_VENDOR:
        return 0x594c464d;
    case R_DEV_FEATURES:
        return m->dev_sel == 0   ? (uint32_t)FAKE_ALL
               : m->dev_sel == 1 ? (uint32_t)(FAKE_ALL >> 32)
                                 : 0;
    case R_QUEUE_NUM_MAX:
        return queue ? FAKE_QMAX : 0;
    case R_QUEUE_READY:
        return queue && m->q[m->q_sel].ready;
    case R_ISR:
        return m->isr;
    case R_STATUS:
        return m->status | (m->broken ? S_RESET : 0);
    default:
        return off >= R_SHM_LEN_LOW && off <= R_SHM_BASE_HIGH ? UINT32_MAX : 0;
    }
}

static void check_read(struct fuzz *z, uint64_t off, unsigned len)
{
    uint8_t got[8 + 1], want[8] = { 0 };
    struct model *m = &z->m;

    memset(got, 0xcc, sizeof got);
    virtio_mmio_ops.read(&z->f->t, off, got, len);
    assert_int_equal(got[len], 0xcc);
    if (off == R_GENERATION && len == 4) {
        uint32_t gen;

        memcpy(&gen, got, 4);
        /* Another one exactly when something changed. */
        if ((gen != m->gen) != m->cfg_changed)
            fail_msg("generation %u after %u", gen, m->gen);
        m->gen = gen;
        m->cfg_changed = false;
        return;
    }
    if (off >= R_CONFIG) {
        if (off - R_CONFIG + len <= FAKE_CFG)
            memcpy(want, m->cfg + (off - R_CONFIG), len);
    } else if (len == 4 && off % 4 == 0) {
        uint32_t v = model_reg(m, off);

        memcpy(want, &v, 4);
    }
    if (memcmp(got, want, len) != 0)
        fail_msg("read of %u at 0x%jx, status 0x%x", len, (uintmax_t)off, m->status);
}

/* --- the noise ---------------------------------------------------------------------------- */

static const uint16_t registers[] = {
    R_MAGIC,      R_VERSION,     R_DEVICE,      R_VENDOR,        R_DEV_FEATURES, R_DEV_FEATURES_SEL,
    R_QUEUE_SEL,  R_QUEUE_SEL,   R_QUEUE_SEL,   R_DRV_FEATURES,  R_DRV_FEATURES, R_DRV_FEATURES_SEL,
    R_QUEUE_NUM,  R_QUEUE_NUM,   R_QUEUE_READY, R_QUEUE_READY,   R_NOTIFY,       R_QUEUE_NUM_MAX,
    R_ISR,        R_ACK,         R_STATUS,      R_STATUS,        R_STATUS,       R_STATUS,
    R_STATUS,     R_STATUS,      R_DESC_LOW,    R_DESC_HIGH,     R_DRIVER_LOW,   R_DRIVER_HIGH,
    R_DEVICE_LOW, R_DEVICE_HIGH, R_SHM_LEN_LOW, R_SHM_BASE_HIGH, R_GENERATION,   R_CONFIG,
    R_CONFIG + 8, R_CONFIG + 20, R_DESC_LOW,    R_DRIVER_LOW,    R_DEVICE_LOW,   0x0ac,
};

static const uint16_t queue_registers[] = { R_QUEUE_SEL,   R_QUEUE_NUM,   R_QUEUE_READY,
                                            R_DESC_LOW,    R_DRIVER_LOW,  R_DEVICE_LOW,
                                            R_QUEUE_READY, R_DRIVER_HIGH, R_QUEUE_NUM };

static uint64_t some_value(struct fuzz *z, uint64_t off)
{
    struct rng *r = &z->rng;
    uint8_t status = z->m.status;

    if (rng_chance(r, 2))
        return rng_next(r);
    switch (off) {
    case R_STATUS: {
        static const uint8_t next[] = { S_ACK, S_DRIVER, S_FEATURES_OK, S_DRIVER_OK };
        unsigned steps = (unsigned)__builtin_popcount(status & ~S_FAILED);

        /* The ends of all ways are left again before long. */
        if (rng_chance(r, (status & S_FAILED) || z->m.broken ? 10 : status == ST_RUN ? 3 : 1))
            return 0;
        if (rng_chance(r, 70))
            return status | next[steps % 4] | (z->m.broken ? S_RESET : 0);
        return rng_below(r, rng_chance(r, 95) ? 0x40 : 0x100);
    }
    case R_DRV_FEATURES:
        if (rng_chance(r, 20))
            return UINT64_C(1) << rng_below(r, 32);
        return z->m.drv_sel == 1 ? (FAKE_ALL & rng_next(r)) >> 32 | 1 : FAKE_ALL & rng_next(r);
    case R_DEV_FEATURES_SEL:
    case R_DRV_FEATURES_SEL:
        return rng_below(r, rng_chance(r, 90) ? 2 : 4);
    case R_QUEUE_SEL:
    case R_NOTIFY:
        return rng_below(r, FAKE_NQ + 1);
    case R_QUEUE_READY:
        return rng_chance(r, z->m.q_sel < FAKE_NQ && z->m.q[z->m.q_sel].num ? 70 : 5);
    case R_QUEUE_NUM:
        return rng_chance(r, 90) ? UINT64_C(1) << rng_below(r, 7) : rng_below(r, 130);
    case R_DESC_LOW:
    case R_DRIVER_LOW:
    case R_DEVICE_LOW:
        return rng_chance(r, 90) ? rng_below(r, FAKE_RAM / 16 - 64) * 16 : rng_below(r, FAKE_RAM);
    case R_DESC_HIGH:
    case R_DRIVER_HIGH:
    case R_DEVICE_HIGH:
        return rng_chance(r, 95) ? 0 : 1;
    default:
        return rng_below(r, 4);
    }
}

/* What the device itself does, once it runs. */
static void device_event(struct fuzz *z)
{
    struct model *m = &z->m;
    struct virtio_dev *d = &z->f->dev;
    uint8_t byte = (uint8_t)rng_below(&z->rng, 4);
    unsigned at = (unsigned)rng_below(&z->rng, FAKE_CFG);

    if (rng_chance(&z->rng, 50)) {
        bool changes = m->cfg[at] != byte;

        virtio_set_config(d, at, &byte, 1);
        m->cfg[at] = byte;
        m->cfg_changed |= changes;
        if (changes && m->active)
            model_interrupt(m, 2);
    } else if (m->active && rng_chance(&z->rng, 90)) {
        virtio_interrupt(d, 1);
        model_interrupt(m, 1);
    } else if (m->active) {
        virtio_fail(d, "a test");
        model_fail(m);
    }
}

static void check_effects(struct fuzz *z)
{
    struct model *m = &z->m;

    assert_int_equal(z->f->activated, m->activated);
    assert_int_equal(z->f->quiesced, m->quiesced);
    assert_int_equal(z->f->cfg_written, m->cfg_written);
    assert_int_equal(z->f->dev.active, m->active);
    if (m->active)
        assert_true(z->f->dev.features == m->features);
    if (!rng_chance(&z->rng, 10))
        return;
    assert_int_equal(drain(z->f->dev.irqfd), m->irqs);
    m->irqs = 0;
    for (unsigned i = 0; i < FAKE_NQ; i++) {
        const struct virtq *q = &z->f->dev.queue[i].vq;

        assert_int_equal(drain(z->f->dev.queue[i].kick.fd), m->kicks[i]);
        m->kicks[i] = 0;
        if (m->active && !m->broken) {
            assert_int_equal(virtq_running(q), m->q[i].ready);
            z->running_queues += m->q[i].ready;
        }
        if (m->active && !m->broken && m->q[i].ready) {
            assert_int_equal(q->setup.size, m->q[i].num);
            assert_true(q->setup.desc.v == m->q[i].part[0]);
            assert_true(q->setup.avail.v == m->q[i].part[1]);
            assert_true(q->setup.used.v == m->q[i].part[2]);
            assert_int_equal(q->setup.indirect, m->features >> 28 & 1);
            assert_int_equal(q->setup.event_idx, m->features >> 29 & 1);
        }
    }
}

/* Saves, and goes on with what loads from it. */
static void change_horses(struct fuzz *z)
{
    uint8_t bytes[1024], again[1024];
    struct wbuf w = { .data = bytes, .cap = sizeof bytes };
    struct wbuf w2 = { .data = again, .cap = sizeof again };
    struct fake *f = malloc(sizeof *f);
    struct err e = { 0 };

    assert_non_null(f);
    virtio_mmio_save(&z->f->t, &w);
    assert_false(w.overflow);
    z->m.quiesced += z->m.active;
    assert_int_equal(z->f->quiesced, z->m.quiesced);
    fake_fini(z->f);
    free(z->f);
    fake_init(f, &z->mem);
    struct rbuf r = { .data = bytes, .len = w.len };

    if (virtio_mmio_load(&f->t, &r, &e))
        fail_msg("status 0x%x%s: %s", z->m.status, z->m.broken ? ", broken" : "", e.msg);
    assert_int_equal(r.off, r.len);
    virtio_mmio_save(&f->t, &w2);
    assert_int_equal(w2.len, w.len);
    assert_memory_equal(again, bytes, w.len);
    f->activated = z->m.activated;
    f->cfg_written = z->m.cfg_written;
    f->quiesced = z->m.quiesced;
    z->f = f;
    z->loads++;
    /* An interrupt that may have been on its way is sent once more. */
    assert_int_equal(drain(f->dev.irqfd), f->dev.isr != 0);
    z->m.irqs = 0;
    /* It looks at every running queue by itself. */
    for (unsigned i = 0; i < FAKE_NQ; i++)
        z->m.kicks[i] = z->m.active && !z->m.broken && z->m.q[i].ready;
}

static void step(struct fuzz *z)
{
    struct rng *r = &z->rng;
    unsigned len = rng_chance(r, 90) ? 4 : 1U << rng_below(r, 4);
    uint64_t off = registers[rng_below(r, ARRAY_LEN(registers))];

    if (z->m.status == ST_QUEUES && rng_chance(r, 50)) /* nine registers make a queue */
        off = queue_registers[rng_below(r, ARRAY_LEN(queue_registers))];
    if (rng_chance(r, 10))
        off = rng_below(r, rng_chance(r, 80) ? 0x140 : VIRTIO_MMIO_LEN);
    if (off + len > VIRTIO_MMIO_LEN) /* the bus does not let it through */
        off = VIRTIO_MMIO_LEN - len;
    z->f->activate_ret = rng_chance(r, 10) ? -EIO : 0;
    if (rng_chance(r, 4)) {
        device_event(z);
    } else if (rng_chance(r, 40)) {
        check_read(z, off, len);
    } else {
        uint64_t v = some_value(z, off);

        model_write(z, off, v, len);
        virtio_mmio_ops.write(&z->f->t, off, &v, len);
    }
    check_effects(z);
    check_read(z, R_STATUS, 4);
    check_read(z, R_QUEUE_READY, 4);
    check_read(z, R_ISR, 4);
    if (rng_below(r, 200) == 0)
        change_horses(z);
    z->running += z->m.status == ST_RUN && !z->m.broken;
    z->broken += z->m.broken;
    z->failed += z->m.status > S_FAILED;
}

static void random_accesses_agree_with_the_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct fuzz z = { .rng = { seed }, .f = malloc(sizeof *z.f) };

        assert_non_null(z.f);
        fake_mem(&z.mem);
        fake_init(z.f, &z.mem);
        for (int i = 0; i < 50000; i++)
            step(&z);
        assert_true(z.running > 1000 && z.running_queues > 20 && z.broken > 1000);
        assert_true(z.failed > 1000 && z.refused > 20 && z.loads > 100);
        fake_fini(z.f);
        free(z.f);
        free(z.mem.region[0].host);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_accesses_agree_with_the_model),
    };

    return cmocka_run_group_tests(tests, log_to_nowhere, NULL);
}
