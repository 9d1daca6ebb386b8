/* The transport under two vCPUs: two register programs, both made from the input, run on two
 * threads at the same time through the bus, while the device's own loop thread serves its queues.
 *
 * The device echoes: what is readable of a chain goes back into what is writable. It is there to
 * notice what a transport without its lock or without loop_call would do: two of its functions at
 * once, or activate and reset out of order. Its configuration is always eight equal bytes, so that
 * a torn read shows. How the two programs interleave differs from run to run; what must hold does
 * not:
 *
 *   - the status is one of the state machine's, or that with FAILED or NEEDS_RESET,
 *   - the device is active exactly in the statuses that follow DRIVER_OK,
 *   - a reset ends everything, then a valid driver is served,
 *   - a save loads into a fresh transport and saves as the same bytes.
 *
 * The programs store into the rings too, as guests do, by whole aligned words. ThreadSanitizer
 * (make fuzz TARGET=mmio SAN=thread) is told that guest memory is racy by nature.
 */
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/bus.h"
#include "tests/fuzz/ring.h"

#define MMIO_BASE UINT64_C(0xd0000000)
#define ECHO_NQ   2
#define ECHO_QMAX 64
#define ECHO_CFG  8
#define ECHO_F    UINT64_C(0x10)
#define OPS_MAX   96
#define SERVED_MS 4000 /* for one request; a machine under load is no failure */

/* --- the device --------------------------------------------------------------------------- */

struct echo {
    struct virtio_dev dev;
    struct iovec iov[ECHO_QMAX];
    atomic_int inside; /* functions of the class that run */
    bool on;           /* between activate and quiesce */
    unsigned served;
};

static struct echo *echo_of(struct virtio_dev *d)
{
    return CONTAINER_OF(d, struct echo, dev);
}

static struct echo *echo_begin(struct virtio_dev *d)
{
    struct echo *e = echo_of(d);

    FUZZ_CHECK(atomic_fetch_add(&e->inside, 1) == 0, "two threads in one device");
    return e;
}

static void echo_end(struct echo *e)
{
    atomic_fetch_sub(&e->inside, 1);
}

static int echo_activate(struct virtio_dev *d)
{
    struct echo *e = echo_begin(d);

    FUZZ_CHECK(!e->on, "activated twice");
    e->on = true;
    echo_end(e);
    return d->features & ECHO_F ? -EIO : 0; /* the feature that fails */
}

static void echo_quiesce(struct virtio_dev *d)
{
    struct echo *e = echo_begin(d);

    e->on = false;
    echo_end(e);
}

static void echo_chain(struct chain *c)
{
    uint8_t buf[256];
    uint32_t n = 0;

    while (cursor_left(&c->r) && cursor_left(&c->w)) {
        size_t part = min_size(min_size(cursor_left(&c->r), cursor_left(&c->w)), sizeof buf);

        cursor_get(&c->r, buf, part);
        cursor_put(&c->w, buf, part);
        n += (uint32_t)part;
    }
    c->writable = n;
}

static void echo_kick(struct virtio_dev *d, unsigned q)
{
    struct echo *e = echo_begin(d);
    struct virtq *vq = &d->queue[q].vq;
    struct chain c = { .iov = e->iov, .iov_max = ECHO_QMAX };
    unsigned burst = 0;
    int ret = 0;

    FUZZ_CHECK(e->on, "a kick while it is off");
    do {
        virtq_disarm(vq);
        for (; burst < ECHO_QMAX && (ret = virtq_pop(vq, &c)) > 0; burst++) {
            echo_chain(&c);
            virtq_push(vq, &c, c.writable);
            e->served++;
        }
        if (virtq_publish(vq))
            virtio_interrupt(d, VIRTIO_IRQ_QUEUE);
    } while (burst < ECHO_QMAX && ret >= 0 && virtq_rearm(vq));
    if (ret < 0)
        virtio_fail(d, "%s", vq->fault);
    else if (burst == ECHO_QMAX)
        virtio_again(d, q);
    echo_end(e);
}

/* Whatever is written becomes all of it. */
static void echo_cfg_write(struct virtio_dev *d, unsigned off, const void *data, unsigned n)
{
    struct echo *e = echo_begin(d);
    uint8_t all[ECHO_CFG], byte;

    FUZZ_CHECK(off + n <= ECHO_CFG && n, "%u bytes at %u", n, off);
    memcpy(&byte, data, 1);
    memset(all, byte, sizeof all);
    virtio_set_config(d, 0, all, sizeof all);
    echo_end(e);
}

static void echo_save(const struct virtio_dev *d, struct wbuf *w)
{
    wbuf_bytes(w, d->cfg, ECHO_CFG);
}

static int echo_load(struct virtio_dev *d, struct rbuf *r)
{
    rbuf_bytes(r, d->cfg, ECHO_CFG);
    echo_of(d)->on = d->active;
    return 0;
}

static const struct virtio_class echo_class = {
    .name = "echo",
    .id = 42,
    .features = ECHO_F,
    .nq = ECHO_NQ,
    .qmax = ECHO_QMAX,
    .cfg_len = ECHO_CFG,
    .activate = echo_activate,
    .kick = echo_kick,
    .quiesce = echo_quiesce,
    .cfg_write = echo_cfg_write,
    .save = echo_save,
    .load = echo_load,
};

/* --- the machine -------------------------------------------------------------------------- */

struct op {
    enum { OP_READ, OP_WRITE, OP_STORE } kind;
    uint64_t addr; /* on the bus; or in memory */
    uint64_t value;
    unsigned len;
};

struct vcpu {
    struct fuzz *z;
    struct op op[OPS_MAX];
    unsigned n;
    pthread_t thread;
};

struct fuzz {
    struct guest *g;
    struct loop loop;
    struct echo echo;
    struct virtio_mmio t;
    struct bus bus;
    struct vcpu vcpu[2];
    pthread_barrier_t start;
};

static void machine_make(struct fuzz *z)
{
    struct err e;

    z->echo = (struct echo){ 0 };
    z->bus.n = 0;
    FUZZ_CHECK(loop_init(&z->loop, &e) == 0, "%s", e.msg);
    FUZZ_CHECK(virtio_init(&z->echo.dev, &echo_class, "echo", echo_class.nq, &z->g->mem, &z->loop,
                           &e) == 0,
               "%s", e.msg);
    FUZZ_CHECK(virtio_mmio_init(&z->t, &z->echo.dev, &e) == 0, "%s", e.msg);
    FUZZ_CHECK(bus_add(&z->bus, MMIO_BASE, VIRTIO_MMIO_LEN, &virtio_mmio_ops, &z->t) == 0, "bus");
}

static void machine_drop(struct fuzz *z)
{
    virtio_mmio_fini(&z->t);
    virtio_fini(&z->echo.dev);
    loop_fini(&z->loop);
}

static void check_config(const struct fuzz *z, uint64_t off, const uint8_t *data, unsigned len)
{
    (void)z;
    for (unsigned i = 1; off + len <= R_CONFIG + ECHO_CFG && i < len; i++)
        FUZZ_CHECK(data[i] == data[0], "half of a configuration was read");
}

static void run_op(struct fuzz *z, const struct op *op)
{
    uint8_t data[8];

    switch (op->kind) {
    case OP_READ:
        bus_read(&z->bus, op->addr, data, op->len);
        if (op->addr >= MMIO_BASE + R_CONFIG)
            check_config(z, op->addr - MMIO_BASE, data, op->len);
        if (op->addr == MMIO_BASE + R_ISR && op->len == 4)
            FUZZ_CHECK(data[0] <= 3, "interrupt status %u", data[0]);
        break;
    case OP_WRITE:
        memcpy(data, &op->value, 8);
        bus_write(&z->bus, op->addr, data, op->len);
        break;
    default: {
        uint16_t *p = (uint16_t *)(void *)guest_ram(z->g, op->addr, 2);

        __atomic_store_n(p, (uint16_t)op->value, __ATOMIC_RELEASE);
        break;
    }
    }
}

static void *vcpu_main(void *arg)
{
    struct vcpu *v = arg;

    pthread_barrier_wait(&v->z->start);
    for (unsigned i = 0; i < v->n; i++)
        run_op(v->z, &v->op[i]);
    return NULL;
}

/* --- the programs ------------------------------------------------------------------------- */

static void emit(struct vcpu *v, struct op op)
{
    if (v->n < OPS_MAX)
        v->op[v->n++] = op;
}

static void emit_write(struct vcpu *v, uint64_t reg, uint64_t value)
{
    emit(v, (struct op){ OP_WRITE, MMIO_BASE + reg, value, 4 });
}

static void emit_features(struct vcpu *v, uint64_t features)
{
    emit_write(v, R_STATUS, 0);
    emit_write(v, R_STATUS, S_ACK);
    emit_write(v, R_STATUS, S_ACK | S_DRIVER);
    for (uint32_t i = 0; i < 2; i++) {
        emit_write(v, R_DRV_FEATURES_SEL, i);
        emit_write(v, R_DRV_FEATURES, (uint32_t)(features >> 32 * i));
    }
    if (features & ECHO_F) { /* and bits above 63 */
        emit_write(v, R_DRV_FEATURES_SEL, 2);
        emit_write(v, R_DRV_FEATURES, features >> 50);
    }
    emit_write(v, R_STATUS, S_ACK | S_DRIVER | S_FEATURES_OK);
}

/* What a driver writes for a queue, with at most one register bent. */
static void emit_queue(struct vcpu *v, unsigned q, struct input *in)
{
    const struct ring *r = &v->z->g->q[q].ring;
    const uint64_t at[] = { r->desc, r->avail, r->used };
    uint8_t bend = in_u8(in);
    uint64_t bad = bend & 0x80 ? in_value(in) : 0;

    emit_write(v, R_QUEUE_SEL, q);
    emit_write(v, R_QUEUE_NUM, bend == 0x83 ? bad : r->size);
    for (unsigned i = 0; i < 3; i++) {
        emit_write(v, R_DESC_LOW + 0x10 * i, bend == 0x80 + i ? bad : at[i]);
        emit_write(v, R_DESC_HIGH + 0x10 * i, bend == 0x84 + i ? bad : at[i] >> 32);
    }
    emit_write(v, R_QUEUE_READY, bend & 0x40 ? 0 : 1);
}

static uint64_t some_features(uint8_t how)
{
    return (how & 1 ? 0 : VIRTIO_F_VERSION_1) | (how & 2 ? VIRTIO_F_EVENT_IDX : 0) |
           (how & 4 ? VIRTIO_F_INDIRECT_DESC : 0) | (how & 8 ? ECHO_F : 0) |
           (how & 16 ? UINT64_C(1) << 50 : 0);
}

/* A store into a ring: an index, a head, a field of a descriptor. */
static void emit_store(struct vcpu *v, struct input *in)
{
    const struct ring *r = &v->z->g->q[in_below(in, ECHO_NQ)].ring;
    uint8_t what = in_u8(in);
    uint64_t value = in_value(in), at;

    switch (what % 4) {
    case 0:
        at = r->avail + 2;
        value = what & 0x80 ? value : r->offered + (what >> 2) % 8;
        break;
    case 1:
        at = r->avail + 2 * (uint64_t)((what >> 2) % (r->size + 3U));
        break;
    case 2:
        at = r->used + 2 * (uint64_t)(what >> 2);
        break;
    default:
        at = r->desc + 2 * (uint64_t)(what >> 2);
        break;
    }
    emit(v, (struct op){ OP_STORE, at, value, 2 });
}

static void emit_any(struct vcpu *v, struct input *in)
{
    static const uint8_t status[] = { 0, 1, 3, 11, 15, 0x80, 0x8f, 0x4f, 7, 0x41 };
    uint8_t how = in_u8(in);
    uint64_t off;

    switch (how % 16) {
    case 0:
        emit_features(v, some_features(in_u8(in)));
        break;
    case 1:
        emit_queue(v, how >> 4 & 3, in); /* there are two */
        emit(v, (struct op){ OP_READ, MMIO_BASE + R_QUEUE_READY, 0, 4 });
        break;
    case 2:
    case 3:
        emit_write(v, R_STATUS, status[in_below(in, sizeof status)]);
        break;
    case 4:
    case 5:
        emit_write(v, R_NOTIFY, how >> 4 & 3);
        break;
    case 6:
    case 7:
        emit_store(v, in);
        break;
    case 8:
        emit(v, (struct op){ OP_WRITE, MMIO_BASE + R_CONFIG + in_below(in, 12), in_u8(in), 1 });
        break;
    case 9:
        emit(v, (struct op){ OP_READ, MMIO_BASE + R_CONFIG, 0, 8 });
        break;
    case 10: { /* all of it: up and running */
        emit_features(v, some_features(in_u8(in)));
        for (unsigned q = 0; q < ECHO_NQ; q++)
            emit_queue(v, q, in);
        emit_write(v, R_STATUS, 15);
        emit_write(v, R_NOTIFY, 0);
        break;
    }
    case 11:
    case 12:
        emit(v, (struct op){ OP_READ, MMIO_BASE + 4U * in_below(in, 68), 0, 4 });
        break;
    case 13:
        emit_write(v, 4U * in_below(in, 68), in_value(in));
        break;
    default:
        off = in_u16(in) % (VIRTIO_MMIO_LEN + 16);
        emit(v, (struct op){ how & 16 ? OP_READ : OP_WRITE, MMIO_BASE + off, in_value(in),
                             1U << (how >> 5 & 3) });
        break;
    }
}

/* --- what must hold ----------------------------------------------------------------------- */

static void check_status(struct fuzz *z)
{
    uint32_t status = reg_read(&z->t, R_STATUS), base = status & ~(uint32_t)(S_FAILED | S_RESET);

    FUZZ_CHECK(base == 0 || base == 1 || base == 3 || base == 11 || base == 15, "status 0x%x",
               status);
    FUZZ_CHECK(z->echo.dev.active == (base == 15), "status 0x%x, active %d", status,
               z->echo.dev.active);
    FUZZ_CHECK(!!(status & S_RESET) == atomic_load(&z->echo.dev.broken), "status 0x%x", status);
}

static void reload(struct fuzz *z, const uint8_t *bytes, size_t len)
{
    struct rbuf r = { .data = bytes, .len = len };
    struct err e = { 0 };

    machine_drop(z);
    machine_make(z);
    FUZZ_CHECK(virtio_mmio_load(&z->t, &r, &e) == 0, "%s", e.msg);
}

/* A save loads, what loaded saves as the same, and goes on from there. Without the loop's thread.
 */
static void check_save(struct fuzz *z)
{
    uint8_t bytes[512] = { 0 }, again[512] = { 0 };
    struct wbuf w = { .data = bytes, .cap = sizeof bytes };
    struct wbuf w2 = { .data = again, .cap = sizeof again };

    virtio_mmio_save(&z->t, &w);
    FUZZ_CHECK(!w.overflow, "a state of more than %zu bytes", sizeof bytes);
    reload(z, bytes, w.len);
    virtio_mmio_save(&z->t, &w2);
    FUZZ_CHECK(w2.len == w.len && memcmp(bytes, again, w.len) == 0, "another state");
    reload(z, bytes, w.len); /* a save quiesced the other */
}

/* A valid driver, and its request is served by the loop's thread. */
static void play_valid(struct fuzz *z)
{
    struct piece piece[] = { { 0, 16, false }, { 0, 16, true } };
    struct ring rings[ECHO_NQ];
    uint32_t id, len;

    reg_write(&z->t, R_STATUS, 0);
    FUZZ_CHECK(reg_read(&z->t, R_STATUS) == 0 && reg_read(&z->t, R_ISR) == 0,
               "a reset that is none");
    FUZZ_CHECK(!z->echo.dev.active, "active after a reset");
    guest_rings(z->g, 8);
    for (unsigned i = 0; i < ECHO_NQ; i++)
        rings[i] = z->g->q[i].ring;
    FUZZ_CHECK(drive_up(&z->t, VIRTIO_F_VERSION_1, rings, ECHO_NQ) == 15,
               "no valid driver comes up");
    for (unsigned i = 0; i < 2; i++) {
        piece[i].gpa = guest_buffer(z->g, 16);
        memset(guest_ram(z->g, piece[i].gpa, 16), i ? 0 : 'v', 16);
    }
    guest_chain(z->g, 1, piece, 2, 2);
    ring_publish(&z->g->q[1].ring);
    reg_write(&z->t, R_NOTIFY, 1);
    while (!ring_take(&z->g->q[1].ring, &id, &len)) {
        struct pollfd p = { .fd = z->echo.dev.irqfd, .events = POLLIN };
        int n = poll(&p, 1, SERVED_MS);
        uint64_t count;

        if (n < 0 && errno == EINTR) /* libFuzzer's own alarm */
            continue;
        FUZZ_CHECK(n == 1 && read(p.fd, &count, sizeof count) == sizeof count,
                   "a valid request is not served");
    }
    reg_write(&z->t, R_STATUS, S_FAILED);
    FUZZ_CHECK(reg_read(&z->t, R_STATUS) == (15 | S_FAILED),
               "a driver gives up, and nobody notes it");
    FUZZ_CHECK(id == 0 && len == 16 && *guest_ram(z->g, piece[1].gpa, 1) == 'v', "head %u, %u", id,
               len);
}

void fuzz_one(struct input *in)
{
    static struct fuzz z;
    struct err e;

    z.g = guest_init(ECHO_NQ, ECHO_QMAX);
    guest_rings(z.g, 8);
    machine_make(&z);
    for (unsigned i = 0; i < 2; i++)
        z.vcpu[i] = (struct vcpu){ .z = &z };
    /* Memory first, as far as the first byte says. */
    for (unsigned i = in_u8(in) % 16; i; i--)
        guest_op(z.g, in);
    while (in->left)
        emit_any(&z.vcpu[in_u8(in) & 1], in);

    FUZZ_CHECK(loop_start(&z.loop, "echo", NULL, NULL, &e) == 0, "%s", e.msg);
    pthread_barrier_init(&z.start, NULL, 2);
    for (unsigned i = 0; i < 2; i++)
        FUZZ_CHECK(pthread_create(&z.vcpu[i].thread, NULL, vcpu_main, &z.vcpu[i]) == 0, "thread");
    for (unsigned i = 0; i < 2; i++)
        pthread_join(z.vcpu[i].thread, NULL);
    pthread_barrier_destroy(&z.start);
    loop_join(&z.loop);
    check_status(&z);
    check_save(&z);
    check_status(&z);

    FUZZ_CHECK(loop_start(&z.loop, "echo", NULL, NULL, &e) == 0, "%s", e.msg);
    play_valid(&z);
    loop_join(&z.loop);
    machine_drop(&z);
}

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
/* Called before ThreadSanitizer is up, so nothing of its may be in it. */
__attribute__((disable_sanitizer_instrumentation, no_sanitize("coverage"))) const char *
__tsan_default_suppressions(void);

/* Guest memory is written by the guest whenever it likes; these are where it is touched by more
 * than the atomic accesses of rings. */
const char *__tsan_default_suppressions(void)
{
    return "race:desc_copy\nrace:cursor_get\nrace:cursor_put\n";
}
#endif
#endif
