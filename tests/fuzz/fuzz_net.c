/* The network card, from rings to frames: a hostile driver (ring.h), a host that sends frames of
 * any size, refuses what it is sent, changes its link or goes away, commands, limits, time, resets,
 * and now and then a save whose load goes on.
 *
 * The card's calls to its queues and to the tap pass by here, so that each chain is read once more
 * at the moment it is taken, from the specification and apart from virtio/queue.c, however bent the
 * rings are. From there on it is known what must happen to it:
 *
 *   - what is read of the tap goes into the chains held, in order, and else into no guest memory,
 *   - a frame that fits is given back in as many of them as it takes, with lengths and a header
 * that say so, one that does not in none,
 *   - what is sent is the chain's bytes behind a header that may be passed on, once, or nothing,
 *   - a command has the answer that net_model.h has,
 *   - memory outside of all that stays as it is, a device that nobody bent is not broken, waits for
 *     kicks when it has nothing to do, and after a reset it works.
 */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>

#include "core/bus.h"
#include "tests/fuzz/ring.h"
#include "tests/unit/net_rig.h"

static int fake_timerfd_create(int clock, int flags);
static int fake_timerfd_settime(int fd, int flags, const struct itimerspec *t,
                                struct itimerspec *old);
static int fake_clock_gettime(clockid_t clock, struct timespec *ts);
static ssize_t fake_readv(int fd, const struct iovec *iov, int n);
static ssize_t fake_writev(int fd, const struct iovec *iov, int n);
static int fake_pop(struct virtq *vq, struct chain *c);
static void fake_unpop(struct virtq *vq, uint16_t head);
static void fake_push(struct virtq *vq, const struct chain *c, uint32_t len);

#define timerfd_create  fake_timerfd_create
#define timerfd_settime fake_timerfd_settime
#define clock_gettime   fake_clock_gettime
#define readv           fake_readv
#define writev          fake_writev
#define virtq_pop       fake_pop
#define virtq_unpop     fake_unpop
#define virtq_push      fake_push
/* NOLINTBEGIN(bugprone-suspicious-include): their calls are turned to the fakes */
#include "virtio/net.c"
#include "virtio/netio.c"
/* NOLINTEND(bugprone-suspicious-include) */
#undef timerfd_create
#undef timerfd_settime
#undef clock_gettime
#undef readv
#undef writev
#undef virtq_pop
#undef virtq_unpop
#undef virtq_push

#define MMIO_BASE UINT64_C(0xd0000000)
#define TIMERS    2
#define PAIRS     2
#define GUEST_BITS                                                                                 \
    (BIT(N_GUEST_CSUM) | BIT(N_GUEST_TSO4) | BIT(N_GUEST_TSO6) | BIT(N_GUEST_USO4) |               \
     BIT(N_GUEST_USO6))
#define SIZE_MOST 64 /* entries of a queue: five of them fit in memory */

/* A chain that the device has. */
struct hold {
    uint16_t head;
    unsigned n;
    struct piece piece[NET_QMAX];
    uint64_t readable, writable;
};

/* A queue as the device sees it. */
struct taken {
    struct hold hold[NET_QMAX];
    unsigned first, n;
};

struct fuzz {
    struct rig r; /* loops, tap, device; its guest's side is not used */
    struct guest *g;
    struct bus bus;
    unsigned map[GUEST_QUEUES];  /* the guest's queues among the device's */
    uint16_t told[GUEST_QUEUES]; /* offered, when the driver kicked last */
    struct taken taken[2 * PAIRS + 1];
    bool misfit; /* a chain was taken that must break the device */
    bool limits;
    uint64_t guest_bits; /* offloads in force */
    bool bits_known;
    uint64_t passed, delivered, frames; /* sent, received; made by the host */
    /* What was read into the chains held and has to be given back: bytes left, and the frame. */
    size_t left, frame_len;
    bool maybe;          /* or not: its header lies where others write */
    uint8_t frame[4096]; /* its beginning */
    /* What the chain at hand has to become. */
    bool must_write;
    uint64_t write_hash, write_len;
    uint8_t write_hdr[HDR];
    int answer; /* of a command */
    int host_errno, read_errno;
};

static struct fuzz z;

/* --- time --- */

static uint64_t fake_ns;
static struct {
    int fd;
    uint64_t at;
} fake_timer[TIMERS];
static unsigned fake_timers;

static int fake_timerfd_create(int clock, int flags)
{
    (void)clock, (void)flags;
    FUZZ_CHECK(fake_timers < TIMERS, "another timer");
    fake_timer[fake_timers].at = 0;
    fake_timer[fake_timers].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fake_timer[fake_timers++].fd;
}

static int fake_timerfd_settime(int fd, int flags, const struct itimerspec *t,
                                struct itimerspec *old)
{
    unsigned i = 0;
    uint64_t count;

    (void)old;
    while (i < fake_timers && fake_timer[i].fd != fd)
        i++;
    FUZZ_CHECK(i < fake_timers && flags == TFD_TIMER_ABSTIME, "the timer of another");
    FUZZ_CHECK(t->it_value.tv_sec >= 0 && t->it_value.tv_nsec >= 0 &&
                   t->it_value.tv_nsec < 1000000000,
               "no time");
    fake_timer[i].at = (uint64_t)t->it_value.tv_sec * 1000000000 + (uint64_t)t->it_value.tv_nsec;
    if (read(fd, &count, sizeof count) < 0)
        errno = 0;
    return 0;
}

static int fake_clock_gettime(clockid_t clock, struct timespec *ts)
{
    (void)clock;
    *ts = (struct timespec){ .tv_sec = (time_t)(fake_ns / 1000000000),
                             .tv_nsec = (long)(fake_ns % 1000000000) };
    return 0;
}

static void pass(uint64_t ns)
{
    uint64_t one = 1;

    fake_ns += ns;
    for (unsigned i = 0; i < fake_timers; i++)
        if (fake_timer[i].at && fake_timer[i].at <= fake_ns) {
            fake_timer[i].at = 0;
            FUZZ_CHECK(write(fake_timer[i].fd, &one, sizeof one) == sizeof one, "the timer");
        }
}

/* --- the second reading --- */

static bool read_now(void *arg, uint64_t gpa, void *buf, size_t len)
{
    const uint8_t *p = guest_ram(arg, gpa, len);

    if (p)
        memcpy(buf, p, len);
    return p != NULL;
}

static unsigned queue_number(const struct virtq *vq)
{
    const struct virtio_queue *q = CONTAINER_OF(vq, const struct virtio_queue, vq);
    unsigned i = (unsigned)(q - z.r.dev->queue);

    FUZZ_CHECK(i < z.r.dev->nq, "a queue of another");
    return i;
}

static bool is_control(unsigned q)
{
    return q == (z.r.dev->features & BIT(N_MQ) ? 2 * z.r.tap.n : 2);
}

/* The first bytes of a chain's readable part. */
static size_t first_bytes(const struct hold *h, uint8_t *buf, size_t max)
{
    size_t n = 0;

    for (unsigned i = 0; i < h->n && !h->piece[i].write && n < max; i++) {
        size_t part = min_size(max - n, h->piece[i].len);

        if (part)
            memcpy(buf + n, guest_ram(z.g, h->piece[i].gpa, part), part);
        n += part;
    }
    return n;
}

#define HASH_START UINT64_C(0xcbf29ce484222325)

/* Some thousand bytes an operation: coverage of them would tell libFuzzer nothing. */
__attribute__((no_sanitize("coverage"), noinline)) static uint64_t hash(uint64_t h,
                                                                        const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

/* What a chain to transmit must become. */
static void expect_write(const struct hold *h)
{
    uint64_t skip = HDR, sum = HASH_START;

    z.must_write = false;
    if (h->readable < HDR)
        return;
    first_bytes(h, z.write_hdr, HDR);
    z.write_len = h->readable - HDR;
    if (model_judge(z.write_hdr, z.write_len, z.r.dev->features) != 1 << NET_PASS)
        return;
    for (unsigned i = 0; i < h->n && !h->piece[i].write; i++) {
        uint64_t off = min_u64(skip, h->piece[i].len), part = h->piece[i].len - off;

        skip -= off;
        if (part)
            sum = hash(sum, guest_ram(z.g, h->piece[i].gpa + off, part), part);
    }
    z.write_hash = sum;
    z.must_write = true;
}

static void expect_answer(const struct hold *h)
{
    static uint8_t bytes[2048];
    size_t n = first_bytes(h, bytes, sizeof bytes);
    uint64_t bits;

    /* A table of more addresses than that is no command of ours. */
    z.answer = h->readable > sizeof bytes ? -1
                                          : model_command(bytes, n, z.r.dev->features, z.r.tap.n);
    if (z.answer == 0 && bytes[0] == 5) {
        memcpy(&bits, bytes + 2, 8);
        z.guest_bits = bits;
        z.bits_known = true;
    }
}

static void hold_view(unsigned q, const struct view *v)
{
    struct taken *t = &z.taken[q];

    FUZZ_CHECK(t->n < NET_QMAX, "more chains than a queue has");
    struct hold *h = &t->hold[(t->first + t->n++) % NET_QMAX];

    h->head = v->head;
    h->n = v->n;
    h->readable = v->readable;
    h->writable = v->writable;
    memcpy(h->piece, v->piece, v->n * sizeof v->piece[0]);
    for (unsigned i = 0; i < v->n; i++)
        if (v->piece[i].write && v->piece[i].len)
            guest_may(z.g, v->piece[i].gpa, v->piece[i].len);
    if (is_control(q)) {
        z.misfit |= h->writable == 0;
        expect_answer(h);
    } else if (q % 2) {
        expect_write(h);
    } else {
        z.misfit |= h->readable || h->writable < HDR;
    }
}

/* The frame that was read is done with. */
static void frame_done(void)
{
    FUZZ_CHECK(!z.left || (z.maybe && z.left == z.frame_len), "%zu bytes of a frame are forgotten",
               z.left);
    z.left = 0;
}

static int fake_pop(struct virtq *vq, struct chain *c)
{
    static struct view v;
    bool fault = vq->fault, runs = vq->running;
    unsigned q = queue_number(vq);
    enum verdict seen = CHAIN_NONE;

    FUZZ_CHECK(!z.misfit, "it goes on behind a chain that breaks it");
    frame_done();
    FUZZ_CHECK(!z.must_write, "another chain is taken before this one is sent");
    if (runs && !fault)
        seen = guest_view(&vq->setup, vq->avail_next, vq->in_flight, read_now, z.g, &v);
    int ret = virtq_pop(vq, c);

    FUZZ_CHECK(ret == (fault || seen == CHAIN_BROKEN ? -EPROTO : seen == CHAIN_GOOD), "a pop: %d",
               ret);
    if (ret == 1)
        hold_view(q, &v);
    return ret;
}

static void fake_unpop(struct virtq *vq, uint16_t head)
{
    struct taken *t = &z.taken[queue_number(vq)];

    FUZZ_CHECK(t->n && t->hold[(t->first + t->n - 1) % NET_QMAX].head == head,
               "head %u is not the last", head);
    t->n--;
    virtq_unpop(vq, head);
}

/* --- what happens to a chain --- */

/* The bytes of what is held, from the first on: into buf, at most max; how many. */
static size_t held_bytes(const struct taken *t, uint8_t *buf, size_t max)
{
    size_t n = 0;

    for (unsigned i = 0; i < t->n && n < max; i++) {
        const struct hold *h = &t->hold[(t->first + i) % NET_QMAX];

        for (unsigned k = 0; k < h->n && n < max; k++) {
            size_t part = min_size(max - n, h->piece[k].len);

            if (part)
                memcpy(buf + n, guest_ram(z.g, h->piece[k].gpa, part), part);
            n += part;
        }
    }
    return n;
}

/* The driver's features, without the offloads that it switched off. */
static uint64_t in_force(void)
{
    uint64_t f = z.r.dev->features;

    return z.bits_known ? (f & ~GUEST_BITS) | z.guest_bits : f;
}

/* Whether the frame that was read is one for this driver. */
static bool may_deliver(void)
{
    uint16_t mtu = model_le16(z.r.dev->cfg, 10);
    bool told = model_has(z.r.dev->features, N_MTU);

    return model_judge_host(z.frame, z.frame_len - HDR, in_force(), told ? mtu : 0) ==
           1 << NET_PASS;
}

/* The frame as it was read, but for what the device has to write into its header. */
static void check_frame(const struct taken *t)
{
    static uint8_t now[sizeof z.frame];
    size_t n = held_bytes(t, now, min_size(z.frame_len, sizeof now)), left = z.frame_len;
    unsigned chains = 0;

    for (; left; chains++)
        left -= min_size(left, t->hold[(t->first + chains) % NET_QMAX].writable);
    z.delivered++;
    if (z.maybe)
        return;
    FUZZ_CHECK(now[0] == model_host_flags(z.frame, in_force()), "flags 0x%02x of 0x%02x", now[0],
               z.frame[0]);
    FUZZ_CHECK(model_le16(now, 10) == chains, "num_buffers %u of %u", model_le16(now, 10), chains);
    FUZZ_CHECK(memcmp(now + 1, z.frame + 1, 9) == 0 &&
                   memcmp(now + HDR, z.frame + HDR, n - HDR) == 0,
               "another frame");
}

static void check_push(unsigned q, const struct hold *h, uint32_t len)
{
    uint8_t ack = 0xee;

    if (is_control(q)) {
        FUZZ_CHECK(len == 1, "an answer of %u bytes", len);
        for (unsigned i = 0; i < h->n && ack == 0xee; i++)
            if (h->piece[i].write && h->piece[i].len)
                ack = *guest_ram(z.g, h->piece[i].gpa, 1);
        FUZZ_CHECK(ack <= 1 && (z.answer < 0 || ack == z.answer), "answer %u, not %d", ack,
                   z.answer);
        return;
    }
    if (q % 2) {
        FUZZ_CHECK(!z.must_write && len == 0, "a frame that was not sent, length %u", len);
        return;
    }
    FUZZ_CHECK(z.left, "a buffer without a frame");
    if (z.left == z.frame_len)
        check_frame(&z.taken[q]);
    FUZZ_CHECK(len == min_u64(z.left, h->writable), "%u of %zu bytes", len, z.left);
    z.left -= len;
}

static void fake_push(struct virtq *vq, const struct chain *c, uint32_t len)
{
    unsigned q = queue_number(vq);
    struct taken *t = &z.taken[q];

    FUZZ_CHECK(t->n && t->hold[t->first].head == c->head, "head %u is not the first", c->head);
    FUZZ_CHECK(c->writable == t->hold[t->first].writable, "%u bytes of room", c->writable);
    check_push(q, &t->hold[t->first], len);
    t->first = (t->first + 1) % NET_QMAX;
    t->n--;
    virtq_push(vq, c, len);
}

/* --- the tap --- */

static unsigned file_number(int fd)
{
    unsigned i = 0;

    while (i < z.r.tap.n && z.r.tap.fd[i] != fd)
        i++;
    FUZZ_CHECK(i < z.r.tap.n, "not a file of the tap's");
    return i;
}

static bool in_guest(const uint8_t *p)
{
    for (int i = 0; i < z.g->mem.n; i++) {
        const struct gmem_region *r = &z.g->mem.region[i];

        if (p >= r->host && p < r->host + r->len)
            return true;
    }
    return false;
}

/* What is read goes where the first chains say, and then into memory of the device's own. */
static void check_targets(const struct taken *t, const struct iovec *iov, int n)
{
    int k = 0;

    for (unsigned i = 0; i < t->n && (i == 0 || k + 1 < n); i++) {
        const struct hold *h = &t->hold[(t->first + i) % NET_QMAX];

        for (unsigned p = 0; p < h->n; p++) {
            if (!h->piece[p].len)
                continue;
            FUZZ_CHECK(k < n && iov[k].iov_len == h->piece[p].len &&
                           iov[k].iov_base == guest_ram(z.g, h->piece[p].gpa, h->piece[p].len),
                       "buffer %u of chain %u", p, i);
            k++;
        }
    }
    FUZZ_CHECK(k + 1 == n && iov[k].iov_len && !in_guest(iov[k].iov_base), "%d buffers and one", k);
}

static ssize_t fake_readv(int fd, const struct iovec *iov, int n)
{
    unsigned pair = file_number(fd);
    struct taken *t = &z.taken[2 * pair];
    uint64_t room = 0;

    frame_done();
    FUZZ_CHECK(t->n, "read without buffers");
    check_targets(t, iov, n);
    if (z.read_errno) {
        errno = z.read_errno;
        return -1;
    }
    ssize_t got = readv(fd, iov, n);

    if (got <= 0)
        return got;
    for (unsigned i = 0; i < t->n; i++)
        room += t->hold[(t->first + i) % NET_QMAX].writable;
    if ((size_t)got > room || got < HDR + 14)
        return got;
    z.frame_len = (size_t)got;
    for (size_t done = 0, i = 0; i < (size_t)n && done < sizeof z.frame; i++) {
        size_t part = min_size(iov[i].iov_len, sizeof z.frame - done);

        memcpy(z.frame + done, iov[i].iov_base, part);
        done += part;
    }
    z.maybe = z.g->bent || z.g->wrapped; /* buffers may lie over each other */
    if (z.maybe || may_deliver())
        z.left = z.frame_len;
    return got;
}

static ssize_t fake_writev(int fd, const struct iovec *iov, int n)
{
    uint64_t sum = HASH_START, len = 0;

    file_number(fd);
    FUZZ_CHECK(z.must_write, "what must not be sent");
    z.must_write = false;
    FUZZ_CHECK(n > 1 && iov[0].iov_len == HDR, "no header");
    FUZZ_CHECK(model_same(z.write_hdr, iov[0].iov_base), "another header");
    FUZZ_CHECK(model_host_takes(iov[0].iov_base, z.write_len), "a header that the host refuses");
    for (int i = 1; i < n; i++) {
        sum = hash(sum, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
    }
    FUZZ_CHECK(sum == z.write_hash && len == z.write_len, "another frame");
    if (z.host_errno) {
        errno = z.host_errno;
        return -1;
    }
    z.passed++;
    return (ssize_t)(HDR + len);
}

/* --- the device at work --- */

static void may_rings(void)
{
    for (unsigned q = 0; q < z.r.dev->nq; q++) {
        const struct virtq *vq = &z.r.dev->queue[q].vq;

        if (virtq_running(vq))
            guest_may(z.g, vq->setup.used.v, 6 + 8 * (uint64_t)vq->setup.size);
    }
}

static void device_begin(void)
{
    guest_enter(z.g);
    may_rings();
    for (unsigned q = 0; q < z.r.dev->nq; q++) {
        const struct taken *t = &z.taken[q];

        for (unsigned i = 0; i < t->n; i++) {
            const struct hold *h = &t->hold[(t->first + i) % NET_QMAX];

            for (unsigned k = 0; k < h->n; k++)
                if (h->piece[k].write && h->piece[k].len)
                    guest_may(z.g, h->piece[k].gpa, h->piece[k].len);
        }
    }
}

static void device_end(void)
{
    const struct virtio_dev *d = z.r.dev;
    struct net_stats s;

    may_rings(); /* of a driver that came just now */
    guest_leave(z.g);
    frame_done();
    FUZZ_CHECK(!z.must_write || d->broken, "a frame was not sent");
    z.must_write = false;
    FUZZ_CHECK(!z.misfit || d->broken, "not broken");
    for (unsigned q = 0; q < d->nq; q++)
        FUZZ_CHECK(d->broken || !d->queue[q].vq.fault, "a broken queue that nobody is told of: %s",
                   d->queue[q].vq.fault);
    FUZZ_CHECK(!d->broken || z.g->bent || z.g->wrapped || z.misfit,
               "broken by a guest that kept the rules: %s, %s, %s", d->queue[0].vq.fault,
               d->queue[1].vq.fault, d->queue[2].vq.fault);
    FUZZ_CHECK((atomic_load(&d->isr) & ~3U) == 0, "isr");
    FUZZ_CHECK(!!(reg_read(&z.r.t, R_STATUS) & S_RESET) == atomic_load(&d->broken), "status");
    net_stats(z.r.dev, &s);
    FUZZ_CHECK(s.tx_packets == z.passed && s.rx_packets == z.delivered, "%ju sent, %ju received",
               (uintmax_t)s.tx_packets, (uintmax_t)s.rx_packets);
}

static void pump(unsigned n)
{
    device_begin();
    for (unsigned i = 0; i < z.r.tap.n; i++) {
        z.r.rounds[i] = n;
        z.r.loop[i].stop = false;
        loop_mod(&z.r.loop[i], &z.r.stopper[i], EPOLLIN);
        loop_run(&z.r.loop[i]);
        loop_mod(&z.r.loop[i], &z.r.stopper[i], 0);
    }
    device_end();
}

static void forget(void)
{
    for (unsigned q = 0; q < 2 * PAIRS + 1; q++)
        z.taken[q].n = 0;
    z.misfit = false;
    z.bits_known = false;
}

static void device_drop(void)
{
    rig_drop(&z.r);
    fake_timers = 0;
}

static void device_make(unsigned pairs)
{
    rig_tap(&z.r, pairs);
    rig_make(&z.r);
    z.passed = z.delivered = 0;
}

/* --- the driver --- */

static void reset(void)
{
    device_begin();
    reg_write(&z.r.t, R_STATUS, 0);
    z.misfit = false;
    guest_leave(z.g);
    for (unsigned i = 0; i < z.r.tap.n; i++)
        FUZZ_CHECK(net_of(z.r.dev)->pair[i].n == 0, "chains are held behind a reset");
    forget();
}

static void bring_up(uint16_t size, uint64_t features)
{
    reset();
    z.g->nq = features & BIT(N_MQ) ? 4 : 3;
    guest_rings(z.g, size);
    z.g->indirect = features & VIRTIO_F_INDIRECT_DESC;
    z.g->event_idx = features & VIRTIO_F_EVENT_IDX;
    for (unsigned i = 0; i < 4; i++)
        z.map[i] = i, z.told[i] = 0;
    if (features & BIT(N_MQ)) { /* the second pair whole, and of the first the half */
        z.map[0] = 2;
        z.map[1] = 3;
        z.map[2] = 4;
        z.map[3] = 0;
    }
    uint32_t status = drive_features(&z.r.t, features);

    for (unsigned i = 0; i < z.g->nq; i++) {
        struct virtq_setup s = ring_setup(&z.g->q[i].ring);

        drive_queue(&z.r.t, z.map[i], &s);
    }
    device_begin();
    reg_write(&z.r.t, R_STATUS, status | S_DRIVER_OK);
    device_end();
    FUZZ_CHECK(reg_read(&z.r.t, R_STATUS) == 0xf, "status 0x%x after features 0x%jx", status,
               (uintmax_t)features);
}

static void tell(unsigned q, bool kick)
{
    ring_publish(&z.g->q[q].ring);
    if (!kick)
        return;
    z.told[q] = z.g->q[q].ring.offered;
    reg_write(&z.r.t, R_NOTIFY, z.map[q]);
}

static void op_bring_up(struct input *in)
{
    static const uint16_t sizes[] = { 64, 64, 8, 1, 2, 16, 32, 4 };
    uint8_t how = in_u8(in), more = in_u8(in);
    uint64_t f = VIRTIO_F_VERSION_1 | BIT(N_CTRL) | BIT(N_CTRL_RX);

    f |= how & 8 ? VIRTIO_F_INDIRECT_DESC : 0;
    f |= how & 16 ? VIRTIO_F_EVENT_IDX : 0;
    f |= how & 32 ? BIT(N_MRG) : 0;
    f |= how & 64 ? BIT(N_CSUM) | BIT(N_GUEST_CSUM) : 0;
    f |= how & 128 ? BIT(N_MQ) : 0;
    f |= more & 1 ? SEGMENTS & ~BIT(N_GUEST_OFFLOADS) : 0;
    f |= more & 2 ? BIT(N_GUEST_OFFLOADS) : 0;
    f |= more & 4 ? BIT(N_CTRL_RX_EXTRA) | BIT(N_CTRL_MAC) : 0;
    f |= more & 8 ? BIT(N_STATUS) | BIT(N_MTU) | BIT(N_MAC) : 0;
    bring_up(sizes[how % 8], f & virtio_offered(z.r.dev));
}

/* Buffers to receive in: some, of a size. */
static void op_offer(struct input *in)
{
    uint8_t how = in_u8(in);
    unsigned n = 1 + how % 8, q = how & 0x80 && z.g->nq > 3 ? 3 : 0;
    uint32_t len = in_u16(in) % 2000;

    if (!z.g->q[q].ring.size)
        return;
    for (; n; n--) {
        struct piece p[4] = { { 0, len + HDR, true } };
        unsigned parts = 1;

        if (how & 0x40) { /* cut within the header, and within the frame; one empty */
            p[0].len = how % 12;
            p[1].len = HDR - p[0].len + len / 3;
            p[2].len = 0;
            p[3].len = len - len / 3;
            parts = 4;
        }
        for (unsigned i = 0; i < parts; i++) {
            p[i].gpa = guest_buffer(z.g, p[i].len);
            p[i].write = true;
        }
        if ((uint16_t)(z.g->q[q].ring.offered - z.g->q[q].ring.seen) < z.g->q[q].ring.size)
            guest_chain(z.g, q, p, parts, z.g->indirect && how & 8 ? 0 : parts);
    }
    tell(q, how & 0x20);
}

/* A frame to send that is right but for what the input bends. */
static void op_send(struct input *in)
{
    static const uint8_t types[] = { 0, 0, 0, 1, 4, 5, 3, 0x81 };
    uint8_t how = in_u8(in), cuts = in_u8(in), h[HDR] = { 0 };
    uint32_t len = how & 8 ? in_u16(in) % 2000 : 14 + cuts % 64U, hdr = HDR;
    struct piece p[GUEST_PIECES];
    unsigned n = 0;

    if (!z.g->q[1].ring.size)
        return;
    h[1] = types[how % 8];
    h[0] = h[1] || how & 16;
    h[2] = 54;
    h[4] = h[1] ? 100 : 0;
    h[6] = 34;
    h[8] = 6;
    if (how & 32)
        h[in_u8(in) % HDR] = in_u8(in);
    if (how & 64 && cuts & 1)
        hdr = cuts % 13;
    p[n++] = (struct piece){ guest_buffer(z.g, hdr), hdr, false };
    memcpy(guest_ram(z.g, p[0].gpa, hdr), h, hdr);
    uint64_t at = guest_buffer(z.g, len);

    memset(guest_ram(z.g, at, len), 0x11 + how, len);
    if (how & 64) /* of many parts, or the same over and over: the longest there are */
        while (n < 2U + cuts / 4 % 60)
            p[n++] = (struct piece){ at, len, false };
    else
        p[n++] = (struct piece){ at, len, false };
    if (cuts & 2)
        p[n++] = (struct piece){ guest_buffer(z.g, 8), 8, true };
    guest_chain(z.g, 1, p, n, z.g->indirect ? cuts % 3 : n);
    tell(1, how & 128);
}

static void op_command(struct input *in)
{
    static const uint8_t known[][2] = { { 0, 0 }, { 0, 1 }, { 0, 5 }, { 1, 0 },
                                        { 1, 1 }, { 4, 0 }, { 5, 0 }, { 0, 3 } };
    static const uint8_t lens[] = { 1, 1, 1, 8, 6, 2, 8, 1 };
    uint8_t how = in_u8(in), bytes[64] = { 0 };
    unsigned what = how % 8, n = 2U + lens[what], extra = 0;
    struct piece p[3];

    if (!z.g->q[2].ring.size)
        return;
    memcpy(bytes, known[what], 2);
    if (what == 3) { /* tables */
        uint32_t hosts = in_u8(in) % 4, groups = in_u8(in) % 5;

        memcpy(bytes + 2, &hosts, 4);
        memcpy(bytes + 6 + 6UL * hosts, &groups, 4);
        n = 10 + 6 * (hosts + groups);
        extra = 6 * hosts;
    } else {
        in_bytes(in, bytes + 2, lens[what]);
    }
    if (how & 8) {
        bytes[in_u8(in) % n] = in_u8(in);
        n += in_u8(in) % 3 - 1U;
    }
    uint32_t first = how & 16 ? 2 + extra / 2 : n;

    p[0] = (struct piece){ guest_buffer(z.g, first), first, false };
    p[1] = (struct piece){ guest_buffer(z.g, n - first), n - first, false };
    p[2] = (struct piece){ guest_buffer(z.g, 2), how & 32 ? 2 : 1, true };
    memcpy(guest_ram(z.g, p[0].gpa, first), bytes, first);
    memcpy(guest_ram(z.g, p[1].gpa, n - first), bytes + first, n - first);
    guest_chain(z.g, 2, p, 3, z.g->indirect && how & 64 ? 0 : 3);
    tell(2, how & 128);
}

/* --- the host --- */

static void op_frame(struct input *in)
{
    static uint8_t bytes[70000];
    uint8_t how = in_u8(in),
            hdr[HDR] = { how & 4 ? how : 0, how & 8 ? how / 16 % 6 : 0, [10] = how };
    size_t len = how < 0xf0 ? in_u16(in) % 1600 : in_u16(in);
    unsigned pair = how & 1 ? z.r.tap.n - 1 : 0;

    if (z.r.wire[pair] < 0)
        return;
    memset(bytes, (int)++z.frames, min_size(len, 4096));
    for (unsigned n = how & 2 ? 1 + how / 16 : 1; n && z.r.wire[pair] >= 0; n--)
        wire_send(&z.r, pair, hdr, bytes, len);
}

static void op_link(struct input *in)
{
    uint8_t how = in_u8(in);
    uint32_t w[16];

    if (how & 1) { /* anything */
        in_bytes(in, w, sizeof w);
        w[0] = how & 2 ? sizeof w : w[0];
        w[1] = how & 4 ? RTM_NEWLINK : w[1];
        w[5] = how & 8 ? RIG_IFINDEX : w[5];
        if (write(z.r.report, w, sizeof w) < 0)
            errno = 0;
        return;
    }
    link_say(&z.r, how == 0xfe ? RTM_DELLINK : RTM_NEWLINK, RIG_IFINDEX + (how == 2), how & 4,
             how & 8 ? in_u16(in) : 0);
}

/* Saves, and goes on with what loads from it. */
static void op_change_horses(void)
{
    uint8_t bytes[8192];
    struct wbuf w = { .data = bytes, .cap = sizeof bytes };
    struct rbuf r = { .data = bytes };
    struct err e = { 0 };
    unsigned pairs = z.r.tap.n;
    bool known = z.bits_known, misfit = z.misfit;

    device_begin();
    virtio_mmio_save(&z.r.t, &w);
    device_end();
    FUZZ_CHECK(!w.overflow, "a state of more than %zu bytes", sizeof bytes);
    for (unsigned q = 0; q < z.r.dev->nq; q++)
        FUZZ_CHECK(z.r.dev->broken || z.taken[q].n == 0, "queue %u is saved with chains held", q);
    device_drop();
    forget();
    z.bits_known = known;
    z.misfit = misfit;
    device_make(pairs);
    r.len = w.len;
    FUZZ_CHECK(virtio_mmio_load(&z.r.t, &r, &e) == 0, "%s", e.msg);
    FUZZ_CHECK(r.off == r.len, "%zu of %zu bytes", r.off, r.len);
}

static void op_host(struct input *in)
{
    static const int errors[] = { 0, 0, EIO, EBADFD, EAGAIN, ENOBUFS, EINVAL, EPIPE };
    uint8_t how = in_u8(in);

    switch (how % 8) {
    case 0:
        z.host_errno = errors[how / 8 % 8];
        break;
    case 1:
        z.read_errno = errors[how / 8 % 8];
        break;
    case 2:
        for (unsigned i = 0; i < 3; i++)
            z.r.fail[i] = how >> (3 + i) & 1 ? -EPERM : 0;
        break;
    case 3:
        if (how == 0xfb && z.r.wire[z.r.tap.n - 1] >= 0)
            wire_cut(&z.r, z.r.tap.n - 1);
        break;
    case 4:
        op_change_horses();
        break;
    default:
        op_link(in);
        break;
    }
}

/* --- both --- */

static void op_register(struct input *in)
{
    uint8_t how = in_u8(in), buf[8];
    uint64_t off = how & 0x80 ? in_u16(in) % VIRTIO_MMIO_LEN : 4U * in_below(in, 72), v;
    unsigned len = how & 0x40 ? 1U << in_below(in, 4) : 4;

    if (!(how & 1)) {
        bus_read(&z.bus, MMIO_BASE + off, buf, len);
        return;
    }
    v = in_value(in);
    if (off == R_STATUS && len == 4 && v == 0) {
        reset();
    } else {
        bool was = z.r.dev->active;

        device_begin();
        bus_write(&z.bus, MMIO_BASE + off, &v, len);
        if (!z.r.dev->active && was)
            z.misfit = false;
        device_end();
        if (!z.r.dev->active || !was)
            forget();
    }
    /* It may have moved or ended the rings: what we know of them is theirs no more. */
    z.g->bent = true;
    if (!z.r.dev->active)
        for (unsigned q = 0; q < z.g->nq; q++)
            z.g->q[q].ring.size = 0;
}

/* A device with nothing left to do waits for a kick, and has left nothing undone. */
static void check_idle(void)
{
    const struct net *n = net_of(z.r.dev);

    z.read_errno = 0;
    for (unsigned i = 0; i < z.g->nq; i++) /* the driver kicks where it is asked to */
        if (z.g->q[i].ring.size)
            tell(i, ring_must_kick(&z.g->q[i].ring, z.told[i], z.g->event_idx));
    for (unsigned i = 0; i < 10; i++) {
        pump(4);
        pass(20000000);
    }
    if (z.g->bent || z.g->wrapped || z.r.dev->broken || !z.r.dev->active || z.limits)
        return;
    for (unsigned i = 0; i < z.g->nq; i++) {
        const struct ring *r = &z.g->q[i].ring;
        unsigned q = z.map[i];
        const struct virtq *vq = &z.r.dev->queue[q].vq;
        bool armed = z.g->event_idx ? *ring_avail_event(r) == vq->avail_next
                                    : !(*ring_used(r, 0) & 1);
        bool data = !is_control(q);

        if (!r->size || (data && !n->pair[q / 2].on))
            continue;
        if (data && q % 2 == 0) { /* nothing is left in the tap that could be taken */
            struct pollfd p = { .fd = z.r.tap.fd[q / 2], .events = POLLIN };

            if (!n->pair[q / 2].gone && poll(&p, 1, 0) == 1)
                FUZZ_CHECK(z.taken[q].n == 0 && virtq_waiting(vq) == 0 && armed,
                           "a frame waits, and so does the driver");
            continue;
        }
        FUZZ_CHECK(virtq_waiting(vq) == 0 && armed, "queue %u: %u wait, and no kick is asked for",
                   q, virtq_waiting(vq));
    }
}

static void take_back(void)
{
    uint32_t id, len;

    for (unsigned i = 0; i < z.g->nq; i++)
        while (z.g->q[i].ring.size && ring_take(&z.g->q[i].ring, &id, &len))
            if (id < z.g->q[i].ring.size)
                z.g->q[i].offer[id].out = false;
            else
                FUZZ_CHECK(z.g->bent || z.g->wrapped, "used: head %u", id);
}

static void serve(unsigned q)
{
    uint32_t id, len;

    for (unsigned i = 0; i < 100; i++) {
        pump(2);
        if (ring_take(&z.g->q[q].ring, &id, &len)) {
            z.g->q[q].offer[id % 8].out = false;
            return;
        }
        pass(UINT64_C(10000000000000));
    }
    FUZZ_CHECK(false, "queue %u: a valid request is not served", q);
}

/* A fresh driver is served, whatever was before. */
static void play_valid(void)
{
    static uint8_t rest[70000];
    struct piece p[3];
    uint64_t before;

    z.host_errno = z.read_errno = 0;
    bring_up(8, VIRTIO_F_VERSION_1 | BIT(N_CTRL) | BIT(N_CTRL_RX));
    p[0] = (struct piece){ guest_buffer(z.g, 72), 72, false };
    memset(guest_ram(z.g, p[0].gpa, 72), 0, 72);
    before = z.passed;
    guest_chain(z.g, 1, p, 1, 1);
    tell(1, true);
    serve(1);
    FUZZ_CHECK(z.passed == before + 1, "a valid frame is not sent");
    p[0] = (struct piece){ guest_buffer(z.g, 3), 3, false };
    p[1] = (struct piece){ guest_buffer(z.g, 1), 1, true };
    memset(guest_ram(z.g, p[0].gpa, 3), 0, 3);
    guest_chain(z.g, 2, p, 2, 2);
    tell(2, true);
    serve(2);
    FUZZ_CHECK(*guest_ram(z.g, p[1].gpa, 1) == 0, "a valid command is refused");
    if (z.r.wire[0] < 0 || net_of(z.r.dev)->pair[0].gone)
        return;
    /* Whatever is in the tap still is not of this driver's. */
    while (recv(z.r.tap.fd[0], rest, sizeof rest, MSG_DONTWAIT) >= 0)
        ;
    p[0] = (struct piece){ guest_buffer(z.g, 100), 100, true };
    guest_chain(z.g, 0, p, 1, 1);
    before = z.delivered;
    FUZZ_CHECK(wire_send(&z.r, 0, NULL, rest, 60), "the wire");
    tell(0, true);
    serve(0);
    FUZZ_CHECK(z.delivered == before + 1, "a valid frame is not received");
}

static void step(struct input *in)
{
    switch (in_below(in, 16)) {
    case 0:
        op_bring_up(in);
        break;
    case 1:
        op_register(in);
        break;
    case 2:
        reg_write(&z.r.t, R_NOTIFY, in_below(in, 6));
        pump(1 + in_u8(in) % 4);
        break;
    case 3:
        pump(1 + in_u8(in) % 4);
        break;
    case 4:
        pass(UINT64_C(1) << in_below(in, 40));
        break;
    case 5:
        op_host(in);
        break;
    case 6:
        take_back();
        break;
    case 7:
        check_idle();
        break;
    case 8:
        guest_op(z.g, in);
        break;
    case 9:
    case 10:
        op_frame(in);
        break;
    case 11:
    case 12:
        op_offer(in);
        break;
    case 13:
        op_command(in);
        break;
    default:
        op_send(in);
        break;
    }
}

void fuzz_one(struct input *in)
{
    static const uint64_t rates[] = { 1, 512, 64 * 1024, UINT64_C(1) << 50 };
    uint8_t how = in_u8(in), limits = in_u8(in);
    unsigned pairs = how & 1 ? 2 : 1;

    z.g = guest_init(3, SIZE_MOST);
    z.r = (struct rig){ .mem = z.g->mem, .opts = { .name = "fuzz" } };
    memcpy(z.r.opts.mac, rig_mac, sizeof rig_mac);
    z.r.opts.mtu = how & 2 ? 1280 : 0;
    z.host_errno = z.read_errno = 0;
    z.left = z.must_write = z.frames = 0;
    z.limits = limits & 0xf;
    fake_ns = 1000000;
    fake_timers = 0;
    for (unsigned i = 0; i < 4; i++)
        if (limits >> i & 1) {
            uint64_t *v = i < 2 ? &z.r.opts.rx_bw : &z.r.opts.tx_bw;

            v[i % 2 * 2] = rates[limits / 16 % 4];
            v[i % 2 * 2 + 1] = rates[limits / 64 % 4];
        }
    device_make(pairs);
    forget();
    z.bus.n = 0;
    FUZZ_CHECK(bus_add(&z.bus, MMIO_BASE, VIRTIO_MMIO_LEN, &virtio_mmio_ops, &z.r.t) == 0, "bus");
    op_bring_up(in);
    while (in->left)
        step(in);
    play_valid();
    device_drop();
}
