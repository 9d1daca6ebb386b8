/* The virtio-mmio transport (virtio 1.2, section 4.2); see mmio.h.
 *
 * The status register is a state machine (3.1.1) and stands here as a table: from a status the
 * driver may add one bit, in the order of the rows, FAILED at any time, and write 0 to start over.
 * Anything else leaves the status as it was. Which registers may be written follows from the
 * status too: features after DRIVER and before FEATURES_OK, queues after FEATURES_OK and before
 * DRIVER_OK. What a driver does beyond that is ignored with a rate-limited line of debug log: the
 * device is then simply not set up, which is the driver's problem.
 */
#include "virtio/mmio.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/num.h"

enum mmio_reg { /* 4.2.2 */
                REG_MAGIC = 0x000,
                REG_VERSION = 0x004,
                REG_DEVICE_ID = 0x008,
                REG_VENDOR_ID = 0x00c,
                REG_DEVICE_FEATURES = 0x010,
                REG_DEVICE_FEATURES_SEL = 0x014,
                REG_DRIVER_FEATURES = 0x020,
                REG_DRIVER_FEATURES_SEL = 0x024,
                REG_QUEUE_SEL = 0x030,
                REG_QUEUE_NUM_MAX = 0x034,
                REG_QUEUE_NUM = 0x038,
                REG_QUEUE_READY = 0x044,
                REG_QUEUE_NOTIFY = VIRTIO_MMIO_QUEUE_NOTIFY,
                REG_INTERRUPT_STATUS = 0x060,
                REG_INTERRUPT_ACK = 0x064,
                REG_STATUS = 0x070,
                REG_QUEUE_DESC_LOW = 0x080,
                REG_QUEUE_DESC_HIGH = 0x084,
                REG_QUEUE_DRIVER_LOW = 0x090,
                REG_QUEUE_DRIVER_HIGH = 0x094,
                REG_QUEUE_DEVICE_LOW = 0x0a0,
                REG_QUEUE_DEVICE_HIGH = 0x0a4,
                REG_SHM_LEN_LOW = 0x0b0,
                REG_SHM_LEN_HIGH = 0x0b4,
                REG_SHM_BASE_LOW = 0x0b8,
                REG_SHM_BASE_HIGH = 0x0bc,
                REG_CONFIG_GENERATION = 0x0fc,
                REG_CONFIG = 0x100,
};

#define MMIO_MAGIC   0x74726976 /* "virt" */
#define MMIO_VERSION 2
#define MMIO_VENDOR  0x594c464d /* "MFLY" */

/* The legal steps of the status machine and what each does. */
struct status_step {
    uint8_t from, to;
    bool (*enter)(struct virtio_mmio *t); /* false: the step is refused */
};

static bool mmio_check_features(struct virtio_mmio *t);
static bool mmio_driver_ok(struct virtio_mmio *t);

#define ST_ACK      VIRTIO_ACKNOWLEDGE
#define ST_DRIVER   (ST_ACK | VIRTIO_DRIVER)
#define ST_FEATURES (ST_DRIVER | VIRTIO_FEATURES_OK)
#define ST_RUNNING  (ST_FEATURES | VIRTIO_DRIVER_OK)

static const struct status_step status_steps[] = {
    { .from = 0, .to = ST_ACK },
    { .from = ST_ACK, .to = ST_DRIVER },
    { .from = ST_DRIVER, .to = ST_FEATURES, .enter = mmio_check_features },
    { .from = ST_FEATURES, .to = ST_RUNNING, .enter = mmio_driver_ok },
};

int virtio_mmio_init(struct virtio_mmio *t, struct virtio_dev *dev, struct err *e)
{
    *t = (struct virtio_mmio){ .dev = dev };
    t->queue = calloc(dev->nq, sizeof *t->queue);
    if (!t->queue)
        return err_set(e, ENOMEM, "%s: out of memory", dev->name);
    pthread_mutex_init(&t->lock, NULL);
    return 0;
}

void virtio_mmio_fini(struct virtio_mmio *t)
{
    if (t->queue)
        pthread_mutex_destroy(&t->lock);
    free(t->queue);
    t->queue = NULL;
}

static void mmio_complain(struct virtio_mmio *t, const char *what, uint64_t off, uint64_t value)
{
    uint32_t dropped;

    if (log_enabled(LOG_DEBUG) && log_allow(&t->limit, &dropped))
        log_debug("%s: ignored: %s (offset 0x%" PRIx64 ", value 0x%" PRIx64 ", status 0x%x)",
                  t->dev->name, what, off, value, t->status);
}

static bool mmio_check_features(struct virtio_mmio *t)
{
    uint64_t f = t->driver_features;

    /* Strictly: nothing we did not offer, and no legacy driver. */
    return !t->foreign_features && !(f & ~virtio_offered(t->dev)) && (f & VIRTIO_F_VERSION_1);
}

static bool mmio_driver_ok(struct virtio_mmio *t)
{
    struct virtq_setup setup[VIRTIO_QUEUES_MAX];
    uint16_t nq = t->dev->nq;

    assert(nq <= ARRAY_LEN(setup));
    for (unsigned i = 0; i < nq; i++)
        setup[i] = t->queue[i].ready ? t->queue[i].setup : (struct virtq_setup){ 0 };
    virtio_activate(t->dev, t->driver_features, setup);
    return true;
}

static void mmio_reset(struct virtio_mmio *t)
{
    virtio_reset(t->dev);
    t->status = 0;
    t->device_features_sel = t->driver_features_sel = t->queue_sel = 0;
    t->driver_features = 0;
    t->foreign_features = false;
    memset(t->queue, 0, t->dev->nq * sizeof *t->queue);
}

static void mmio_write_status(struct virtio_mmio *t, uint32_t v)
{
    if (v == 0) {
        mmio_reset(t);
        return;
    }
    /* A driver writes back what it read: NEEDS_RESET is ours, and the same again is no step. */
    uint32_t now = t->status & ~VIRTIO_FAILED;

    v &= ~VIRTIO_NEEDS_RESET;
    if (v == t->status)
        return;
    if (v & VIRTIO_FAILED) {
        t->status |= VIRTIO_FAILED;
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(status_steps); i++) {
        const struct status_step *s = &status_steps[i];

        if (t->status != now || s->from != now || s->to != v)
            continue;
        if (!s->enter || s->enter(t))
            t->status = s->to;
        else
            mmio_complain(t, "features refused", REG_STATUS, t->driver_features);
        return;
    }
    mmio_complain(t, "not a step of the status machine", REG_STATUS, v);
}

static uint32_t mmio_read_status(struct virtio_mmio *t)
{
    return t->status | (atomic_load(&t->dev->broken) ? VIRTIO_NEEDS_RESET : 0);
}

/* The selected queue, or NULL. */
static struct virtio_mmio_queue *mmio_queue(struct virtio_mmio *t)
{
    return t->queue_sel < t->dev->nq ? &t->queue[t->queue_sel] : NULL;
}

static uint32_t mmio_read_reg(struct virtio_mmio *t, uint64_t off)
{
    struct virtio_mmio_queue *q = mmio_queue(t);

    switch (off) {
    case REG_MAGIC:
        return MMIO_MAGIC;
    case REG_VERSION:
        return MMIO_VERSION;
    case REG_DEVICE_ID:
        return t->dev->cls->id;
    case REG_VENDOR_ID:
        return MMIO_VENDOR;
    case REG_DEVICE_FEATURES:
        return t->device_features_sel > 1
                   ? 0
                   : (uint32_t)(virtio_offered(t->dev) >> 32 * t->device_features_sel);
    case REG_QUEUE_NUM_MAX:
        return q ? t->dev->cls->qmax : 0;
    case REG_QUEUE_READY:
        return q && q->ready;
    case REG_INTERRUPT_STATUS:
        return atomic_load(&t->dev->isr) | atomic_load(&t->dev->isr_always);
    case REG_STATUS:
        return mmio_read_status(t);
    case REG_SHM_LEN_LOW: /* no shared memory region: all ones (4.2.2.1) */
    case REG_SHM_LEN_HIGH:
    case REG_SHM_BASE_LOW:
    case REG_SHM_BASE_HIGH:
        return UINT32_MAX;
    case REG_CONFIG_GENERATION:
        return virtio_config_generation(t->dev);
    default:
        return 0;
    }
}

static void mmio_write_features(struct virtio_mmio *t, uint32_t v)
{
    unsigned shift = 32 * (t->driver_features_sel & 1);

    if (t->status != ST_DRIVER) {
        mmio_complain(t, "features written out of turn", REG_DRIVER_FEATURES, v);
    } else if (t->driver_features_sel > 1) {
        t->foreign_features |= v != 0;
    } else {
        t->driver_features &= ~(UINT64_C(0xffffffff) << shift);
        t->driver_features |= (uint64_t)v << shift;
    }
}

static void set_low(gpa_t *a, uint32_t v)
{
    a->v = (a->v & ~UINT64_C(0xffffffff)) | v;
}

static void set_high(gpa_t *a, uint32_t v)
{
    a->v = (a->v & UINT64_C(0xffffffff)) | (uint64_t)v << 32;
}

/* Registers of the selected queue. */
static void mmio_write_queue(struct virtio_mmio *t, uint64_t off, uint32_t v)
{
    struct virtio_mmio_queue *q = mmio_queue(t);
    /* Linux clears QueueReady after a reset, when it is clear already. */
    bool already = q && off == REG_QUEUE_READY && q->ready == (v & 1);

    if (!q || t->status != ST_FEATURES || (q->ready && off != REG_QUEUE_READY)) {
        if (!already)
            mmio_complain(t, "queue set up out of turn", off, v);
        return;
    }
    struct virtq_setup *s = &q->setup;

    switch (off) {
    case REG_QUEUE_NUM:
        /* A size out of bounds is remembered as one that virtq_start refuses. */
        s->size = v <= t->dev->cls->qmax ? (uint16_t)v : UINT16_MAX;
        break;
    case REG_QUEUE_READY:
        q->ready = v & 1;
        /* Ready without a size is a queue no one can use: refused as well when it starts. */
        if (q->ready && s->size == 0)
            s->size = UINT16_MAX;
        break;
    case REG_QUEUE_DESC_LOW:
        set_low(&s->desc, v);
        break;
    case REG_QUEUE_DESC_HIGH:
        set_high(&s->desc, v);
        break;
    case REG_QUEUE_DRIVER_LOW:
        set_low(&s->avail, v);
        break;
    case REG_QUEUE_DRIVER_HIGH:
        set_high(&s->avail, v);
        break;
    case REG_QUEUE_DEVICE_LOW:
        set_low(&s->used, v);
        break;
    case REG_QUEUE_DEVICE_HIGH:
        set_high(&s->used, v);
        break;
    default:
        break;
    }
}

static void mmio_write_reg(struct virtio_mmio *t, uint64_t off, uint32_t v)
{
    switch (off) {
    case REG_DEVICE_FEATURES_SEL:
        t->device_features_sel = v;
        break;
    case REG_DRIVER_FEATURES:
        mmio_write_features(t, v);
        break;
    case REG_DRIVER_FEATURES_SEL:
        t->driver_features_sel = v;
        break;
    case REG_QUEUE_SEL:
        t->queue_sel = v;
        break;
    case REG_QUEUE_NOTIFY: /* one that no ioeventfd matched */
        virtio_notify(t->dev, v);
        break;
    case REG_INTERRUPT_ACK:
        atomic_fetch_and(&t->dev->isr, ~v);
        break;
    case REG_STATUS:
        mmio_write_status(t, v);
        break;
    case REG_QUEUE_NUM:
    case REG_QUEUE_READY:
    case REG_QUEUE_DESC_LOW:
    case REG_QUEUE_DESC_HIGH:
    case REG_QUEUE_DRIVER_LOW:
    case REG_QUEUE_DRIVER_HIGH:
    case REG_QUEUE_DEVICE_LOW:
    case REG_QUEUE_DEVICE_HIGH:
        mmio_write_queue(t, off, v);
        break;
    default:
        mmio_complain(t, "no such register to write", off, v);
        break;
    }
}

static void mmio_read(void *ctx, uint64_t off, void *data, unsigned len)
{
    struct virtio_mmio *t = ctx;

    memset(data, 0, len);
    if (off >= REG_CONFIG) { /* no transport state in it, so no lock */
        virtio_read_config(t->dev, (unsigned)(off - REG_CONFIG), data, len);
        return;
    }
    pthread_mutex_lock(&t->lock);
    if (len == 4 && off % 4 == 0) { /* 4.2.2.2: registers are 32 bits wide, aligned */
        uint32_t v = mmio_read_reg(t, off);

        memcpy(data, &v, sizeof v);
    } else {
        mmio_complain(t, "a read that is not of 32 aligned bits", off, len);
    }
    pthread_mutex_unlock(&t->lock);
}

static void mmio_write(void *ctx, uint64_t off, const void *data, unsigned len)
{
    struct virtio_mmio *t = ctx;
    uint32_t v;

    pthread_mutex_lock(&t->lock);
    if (off >= REG_CONFIG) {
        virtio_write_config(t->dev, (unsigned)(off - REG_CONFIG), data, len);
    } else if (len == 4 && off % 4 == 0) {
        memcpy(&v, data, sizeof v);
        mmio_write_reg(t, off, v);
    } else {
        mmio_complain(t, "a write that is not of 32 aligned bits", off, len);
    }
    pthread_mutex_unlock(&t->lock);
}

const struct bus_ops virtio_mmio_ops = { .read = mmio_read, .write = mmio_write };

void virtio_mmio_save(struct virtio_mmio *t, struct wbuf *w)
{
    pthread_mutex_lock(&t->lock);
    wbuf_u32(w, t->dev->cls->id);
    wbuf_u32(w, t->status);
    wbuf_u32(w, t->device_features_sel);
    wbuf_u32(w, t->driver_features_sel);
    wbuf_u32(w, t->queue_sel);
    wbuf_u64(w, t->driver_features);
    wbuf_u32(w, t->foreign_features);
    for (unsigned i = 0; i < t->dev->nq; i++) {
        const struct virtio_mmio_queue *q = &t->queue[i];

        wbuf_u16(w, q->ready);
        wbuf_u16(w, q->setup.size);
        wbuf_u64(w, q->setup.desc.v);
        wbuf_u64(w, q->setup.avail.v);
        wbuf_u64(w, q->setup.used.v);
    }
    virtio_save(t->dev, w);
    pthread_mutex_unlock(&t->lock);
}

/* A status this transport can have: one of the table's, FAILED or not. */
static bool mmio_status_valid(uint32_t v)
{
    v &= ~VIRTIO_FAILED;
    for (size_t i = 0; i < ARRAY_LEN(status_steps); i++)
        if (v == status_steps[i].to)
            return true;
    return v == 0;
}

int virtio_mmio_load(struct virtio_mmio *t, struct rbuf *r, struct err *e)
{
    struct virtq_setup setup[VIRTIO_QUEUES_MAX] = { 0 };
    uint16_t nq = t->dev->nq;
    bool ok = rbuf_u32(r) == t->dev->cls->id;
    uint32_t status = rbuf_u32(r);

    assert(nq <= ARRAY_LEN(setup));
    pthread_mutex_lock(&t->lock);
    t->status = (uint8_t)status;
    t->device_features_sel = rbuf_u32(r);
    t->driver_features_sel = rbuf_u32(r);
    t->queue_sel = rbuf_u32(r);
    t->driver_features = rbuf_u64(r);
    t->foreign_features = rbuf_u32(r) != 0;
    for (unsigned i = 0; i < nq; i++) {
        struct virtio_mmio_queue *q = &t->queue[i];

        q->ready = rbuf_u16(r) != 0;
        q->setup.size = rbuf_u16(r);
        q->setup.desc.v = rbuf_u64(r);
        q->setup.avail.v = rbuf_u64(r);
        q->setup.used.v = rbuf_u64(r);
        if (q->ready)
            setup[i] = q->setup;
    }
    if ((status & VIRTIO_FEATURES_OK) && !mmio_check_features(t))
        ok = false;
    /* Before anything starts: a device that is active is one whose driver's features were checked.
     */
    ok = ok && !r->overrun && mmio_status_valid(status) &&
         virtio_load(t->dev, status & VIRTIO_DRIVER_OK, t->driver_features, setup, r) == 0;
    pthread_mutex_unlock(&t->lock);
    if (!ok)
        return err_set(e, EPROTO, "%s: its saved state does not fit this device", t->dev->name);
    return 0;
}
