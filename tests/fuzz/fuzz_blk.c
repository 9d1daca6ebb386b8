/* The block device's request path, from rings to calls of the host: a hostile driver (ring.h), a
 * host that ends calls late, short, in any order and with errors, limits, time, resets, and now and
 * then a save whose load goes on.
 *
 * Whatever happens: memory outside of what was offered stays as it is; each call to the host lies
 * inside the disk, in whole sectors, over guest memory, and never writes to a read-only disk; what
 * a driver without flushes is told to be done is on stable storage; and after a reset the device
 * works. As long as the guest kept the rules
 *
 *   - each request is answered once, by a status and a length that blk_model.h has, too, a flush
 *     not before a sync that began behind it,
 *   - where the host ends calls at once and well, disk and reads are the model's.
 */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>

#include "tests/fuzz/ring.h"
#include "tests/unit/blk_model.h"

static int fake_timerfd_create(int clock, int flags);
static int fake_timerfd_settime(int fd, int flags, const struct itimerspec *t,
                                struct itimerspec *old);
static int fake_clock_gettime(clockid_t clock, struct timespec *ts);

#define timerfd_create  fake_timerfd_create
#define timerfd_settime fake_timerfd_settime
#define clock_gettime   fake_clock_gettime
/* NOLINTNEXTLINE(bugprone-suspicious-include): its calls are turned to the fakes */
#include "virtio/blk.c"
#undef timerfd_create
#undef timerfd_settime
#undef clock_gettime

#include "core/bus.h"

#define SECTORS   64
#define STORE     (SECTORS * 512)
#define QUEUES    2
#define CALLS     2048
#define MMIO_BASE UINT64_C(0xd0000000)

struct held {
    bool on;
    bool sure; /* its header was not written while it was read */
    uint64_t turn;
    uint64_t born; /* before any call of its own */
    struct view v;
    struct blk_want want;
};

struct fuzz {
    struct guest *g;
    struct bus bus;
    struct loop loop;
    struct watch stopper; /* always ready: ends loop_run after some rounds */
    unsigned rounds;
    struct image image;
    struct blk_opts opts;
    struct disk *disk;
    struct virtio_dev *dev;
    struct virtio_mmio t;
    uint64_t features;
    /* The host. */
    uint8_t store[STORE];
    struct disk_io *call[CALLS]; /* begun and not ended, */
    uint64_t number[CALLS];      /* and when */
    unsigned n_calls;
    uint64_t begun, synced; /* how many there were; the number of the last sync that went well */
    bool dirty;             /* changed, and not synced */
    bool blocks;            /* the device knows that it ends calls at once */
    bool later, faults;     /* it ends calls later; it ever failed one */
    /* The model. */
    uint8_t model[STORE];
    bool exact;  /* it is in step */
    bool misfit; /* a chain without room for header or status was offered */
    struct held held[QUEUES][BLK_QMAX];
    uint64_t turns;
    uint16_t taken[QUEUES], answered[QUEUES];
    uint64_t begun_before; /* calls, before the device began to work */
};

/* --- time --- */

static uint64_t fake_ns;
static struct itimerspec fake_timer;
static int fake_timer_fd = -1;

static int fake_timerfd_create(int clock, int flags)
{
    (void)clock, (void)flags;
    fake_timer_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    fake_timer = (struct itimerspec){ 0 };
    return fake_timer_fd;
}

static int fake_timerfd_settime(int fd, int flags, const struct itimerspec *t,
                                struct itimerspec *old)
{
    uint64_t count;

    (void)flags, (void)old;
    FUZZ_CHECK(fd == fake_timer_fd, "the timer of another");
    FUZZ_CHECK(t->it_value.tv_sec >= 0 && t->it_value.tv_nsec >= 0 &&
                   t->it_value.tv_nsec < 1000000000,
               "no time");
    FUZZ_CHECK(t->it_value.tv_sec || t->it_value.tv_nsec, "a wait that never ends");
    fake_timer = *t;
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
    uint64_t left = (uint64_t)fake_timer.it_value.tv_sec * 1000000000 +
                    (uint64_t)fake_timer.it_value.tv_nsec;
    uint64_t one = 1;

    fake_ns += ns;
    if (!left || fake_timer_fd < 0)
        return;
    fake_timer = (struct itimerspec){ 0 };
    if (left > ns)
        fake_timer.it_value = (struct timespec){ .tv_sec = (time_t)((left - ns) / 1000000000),
                                                 .tv_nsec = (long)((left - ns) % 1000000000) };
    else
        FUZZ_CHECK(write(fake_timer_fd, &one, sizeof one) == sizeof one, "the timer");
}

/* --- the host --- */

static bool in_guest(const struct fuzz *z, const struct iovec *v)
{
    for (int i = 0; i < z->g->mem.n; i++) {
        const struct gmem_region *r = &z->g->mem.region[i];
        const uint8_t *p = v->iov_base;

        if (p >= r->host && p < r->host + r->len && v->iov_len <= (size_t)(r->host + r->len - p))
            return true;
    }
    return false;
}

/* What the disk itself writes where the host can't make zeros. */
static bool all_zeros(const struct iovec *v)
{
    const uint8_t *p = v->iov_base;

    return v->iov_len && p[0] == 0 && memcmp(p, p + 1, v->iov_len - 1) == 0;
}

static void check_call(const struct fuzz *z, const struct disk_io *io)
{
    bool changes = io->op == IO_WRITE || io->op == IO_PUNCH || io->op == IO_ZERO;
    uint64_t total = 0;

    FUZZ_CHECK(io->file == DISK_BASE, "file %d", io->file);
    FUZZ_CHECK(!changes || !z->image.read_only, "a read-only disk is changed");
    if (io->op == IO_SYNC)
        return;
    FUZZ_CHECK(io->len && io->len % 512 == 0 && io->off % 512 == 0 && io->off <= STORE &&
                   io->len <= STORE - io->off,
               "%d at %ju, %ju bytes", io->op, (uintmax_t)io->off, (uintmax_t)io->len);
    for (unsigned i = 0; io->op <= IO_WRITE && i < io->iov_n; i++) {
        FUZZ_CHECK(in_guest(z, &io->iov[i]) || (io->op == IO_WRITE && all_zeros(&io->iov[i])),
                   "buffer %u is not the guest's", i);
        total += io->iov[i].iov_len;
    }
    FUZZ_CHECK(io->op > IO_WRITE || total == io->len, "%ju bytes of buffers for %ju",
               (uintmax_t)total, (uintmax_t)io->len);
}

/* Carries a call out, of at most `most` bytes. */
static int carry(struct fuzz *z, const struct disk_io *io, uint64_t most)
{
    uint64_t left = min_u64(io->len, most), off = io->off;
    int done = (int)left;

    z->dirty = io->op != IO_SYNC && (z->dirty || io->op != IO_READ);
    if (io->op == IO_SYNC)
        return 0;
    if (io->op == IO_PUNCH || io->op == IO_ZERO) {
        memset(z->store + off, 0, io->len);
        return 0;
    }
    for (unsigned i = 0; left; i++) {
        size_t n = min_size(left, io->iov[i].iov_len);

        if (io->op == IO_READ)
            memcpy(io->iov[i].iov_base, z->store + off, n);
        else
            memcpy(z->store + off, io->iov[i].iov_base, n);
        off += n;
        left -= n;
    }
    return done;
}

static bool host_start(struct disk *d, struct disk_io *io, int *res)
{
    struct fuzz *z = d->engine_data;

    check_call(z, io);
    z->begun++;
    if (z->later) {
        FUZZ_CHECK(z->n_calls < CALLS, "more calls than requests");
        z->number[z->n_calls] = z->begun;
        z->call[z->n_calls++] = io;
        return false;
    }
    *res = carry(z, io, UINT64_MAX);
    if (io->op == IO_SYNC)
        z->synced = z->begun;
    return true;
}

static void host_end(struct fuzz *z, unsigned i, int res)
{
    struct disk_io *io = z->call[i];

    if (io->op == IO_SYNC && res == 0)
        z->synced = z->number[i];
    memmove(&z->call[i], &z->call[i + 1], (z->n_calls - i - 1) * sizeof(struct disk_io *));
    memmove(&z->number[i], &z->number[i + 1], (z->n_calls - i - 1) * sizeof z->number[0]);
    z->n_calls--;
    z->faults |= res < 0 || (res && res < 512); /* less than a sector: the file has ended */
    disk_io_done(z->disk, io, res < 0 ? res : carry(z, io, res ? (uint64_t)res : UINT64_MAX));
}

static void host_drain(struct disk *d)
{
    struct fuzz *z = d->engine_data;

    while (z->n_calls)
        host_end(z, 0, 0);
}

static const struct disk_engine host_engine = { .name = "fuzz",
                                                .start = host_start,
                                                .drain = host_drain };
static const struct disk_engine host_engine_blocks = { .name = "fuzz", .start = host_start };

/* --- the second reading --- */

/* The first bytes of a chain's readable part, as they were when the device took it. */
static size_t first_bytes(struct fuzz *z, const struct view *v, uint8_t *buf, size_t max,
                          bool *sure)
{
    size_t n = 0;

    for (unsigned i = 0; i < v->n && !v->piece[i].write; i++) {
        size_t part = min_size(max - n, v->piece[i].len);

        if (!part)
            continue;
        *sure &= !guest_changes(z->g, v->piece[i].gpa, part);
        memcpy(buf + n, z->g->before + guest_offset(v->piece[i].gpa, part), part);
        n += part;
    }
    return n;
}

/* What the device has taken since last time. */
static void reckon_taken(struct fuzz *z, unsigned q, bool sure, bool tidy)
{
    static struct view v;
    static uint8_t buf[16 + 16 * MODEL_RANGES];
    const struct virtq *vq = &z->dev->queue[q].vq;
    struct blk_model m = { .sectors = SECTORS, .read_only = z->image.read_only };

    memcpy(&m.max_discard, z->dev->cfg + 36, 4);
    memcpy(&m.max_zeroes, z->dev->cfg + 48, 4);
    for (; z->taken[q] != vq->avail_next; z->taken[q]++) {
        bool steady = sure;
        enum verdict seen = guest_view(&vq->setup, z->taken[q], NULL, guest_read_before, z->g, &v);

        if (seen != CHAIN_GOOD) {
            FUZZ_CHECK(!sure, "a broken chain was taken");
            z->exact = false;
            continue;
        }
        struct held *h = &z->held[q][v.head];

        FUZZ_CHECK(!sure || !tidy || !h->on, "head %u is in flight twice", v.head);
        memset(buf, 0, sizeof buf);
        first_bytes(z, &v, buf, sizeof buf, &steady);
        *h = (struct held){
            .on = true, .sure = steady, .turn = z->turns++, .born = z->begun_before, .v = v
        };
        h->want = blk_judge(&m, buf, v.readable, v.writable);
        z->exact &= steady;
        if (h->want.broken) {
            z->misfit = true;
            FUZZ_CHECK(!steady || z->dev->broken, "a request without header or status is taken");
            h->on = false;
        }
    }
}

/* Copies between a buffer and the pieces of one kind, `skip` bytes in. */
static void pieces_copy(struct fuzz *z, const struct view *v, bool write, uint64_t skip,
                        uint8_t *buf, uint64_t n)
{
    for (unsigned i = 0; i < v->n && n; i++) {
        const struct piece *p = &v->piece[i];

        if (p->write != write || p->len <= skip) {
            skip -= p->write == write ? p->len : 0;
            continue;
        }
        uint64_t part = min_u64(n, p->len - skip);

        memcpy(buf, guest_ram(z->g, p->gpa + skip, part), part);
        buf += part;
        n -= part;
        skip = 0;
    }
}

/* Carries a request out on the model. */
static void model_do(struct fuzz *z, const struct held *h)
{
    const struct blk_want *w = &h->want;

    if (w->type == T_OUT)
        pieces_copy(z, &h->v, false, 16, z->model + w->sector * 512, w->data);
    for (unsigned i = 0; w->type >= T_DISCARD && i < w->n; i++)
        memset(z->model + w->range[i].sector * 512, 0, 512UL * w->range[i].sectors);
}

static void check_read(struct fuzz *z, const struct held *h)
{
    static uint8_t got[STORE];

    pieces_copy(z, &h->v, true, 0, got, h->want.data);
    FUZZ_CHECK(memcmp(got, z->model + h->want.sector * 512, h->want.data) == 0,
               "a read of sector %ju gives something else", (uintmax_t)h->want.sector);
}

/* A flush, or a change for a driver that knows none, has seen a sync begin and end. (A change of
 * nothing, or a discard that the host can't do, needs none.) */
static void check_stable(const struct fuzz *z, const struct held *h, uint8_t status)
{
    const struct blk_want *w = &h->want;
    uint64_t sectors = w->type == T_OUT ? w->data : 0;

    for (unsigned i = 0; w->type == T_ZEROES && i < w->n; i++)
        sectors += w->range[i].sectors;
    if (status == S_OK && !z->image.read_only &&
        (w->type == T_FLUSH || (sectors && !(z->features & F_FLUSH))))
        FUZZ_CHECK(z->synced > h->born, "type %u is done without a sync", w->type);
}

/* One answer, of a guest that kept the rules. */
static void check_answer(struct fuzz *z, struct held *h, uint32_t len)
{
    unsigned carried = h->want.statuses == 1U << S_OK;
    uint8_t status;

    FUZZ_CHECK(h->on, "an answer to nothing");
    h->on = false;
    if (!h->sure)
        return;
    pieces_copy(z, &h->v, true, h->v.writable - 1, &status, 1);
    FUZZ_CHECK(len == h->want.len, "length %u, not %u", len, h->want.len);
    FUZZ_CHECK(status <= S_UNSUPP &&
                   (h->want.statuses >> status & 1 ||
                    (carried && status == S_IOERR && (z->faults || z->disk->flush_failed))),
               "type %u: status %u", h->want.type, status);
    check_stable(z, h, status);
    z->exact &= !z->faults;
    if (!z->exact || status != S_OK)
        return;
    model_do(z, h);
    if (h->want.type == T_IN)
        check_read(z, h);
}

/* What the device has answered since last time. */
static void reckon_answers(struct fuzz *z, unsigned q, bool sure)
{
    const struct virtq *vq = &z->dev->queue[q].vq;

    for (; z->answered[q] != vq->published; z->answered[q]++) {
        const uint8_t *e = guest_ram(
            z->g, vq->setup.used.v + 4 + 8 * (uint64_t)(z->answered[q] % vq->setup.size), 8);
        uint32_t id = (uint32_t)model_le(e, 4);

        if (sure && id < vq->setup.size)
            check_answer(z, &z->held[q][id], (uint32_t)model_le(e + 4, 4));
        else
            FUZZ_CHECK(!sure, "used: head %u", id);
    }
}

/* --- the device at work --- */

static void device_begin(struct fuzz *z)
{
    z->begun_before = z->begun;
    guest_enter(z->g);
    for (unsigned q = 0; q < z->g->nq; q++) {
        const struct virtq *vq = &z->dev->queue[q].vq;

        if (!z->dev->active || !virtq_running(vq))
            continue;
        guest_may_serve(z->g, &vq->setup, vq->avail_next);
        for (unsigned i = 0; i < BLK_QMAX; i++)
            for (unsigned k = 0; z->held[q][i].on && k < z->held[q][i].v.n; k++) {
                const struct piece *p = &z->held[q][i].v.piece[k];

                if (p->write && p->len)
                    guest_may(z->g, p->gpa, p->len);
            }
    }
}

static void device_end(struct fuzz *z)
{
    struct virtio_dev *d = z->dev;
    bool tidy = !z->g->bent && !z->g->wrapped, sure = guest_leave(z->g);

    z->exact &= sure && tidy;
    for (unsigned q = 0; q < z->g->nq; q++) {
        if (!d->active || !virtq_running(&d->queue[q].vq))
            continue;
        reckon_taken(z, q, sure, tidy);
        reckon_answers(z, q, sure && tidy);
    }
    for (unsigned q = 0; q < z->g->nq; q++)
        FUZZ_CHECK(d->broken || !d->queue[q].vq.fault, "a broken queue that nobody is told of: %s",
                   d->queue[q].vq.fault);
    FUZZ_CHECK(!d->broken || !sure || !tidy || z->misfit, "broken by a guest that kept the rules");
    FUZZ_CHECK(z->later || z->features & F_FLUSH || !z->dirty, "not write-through");
    FUZZ_CHECK((atomic_load(&d->isr) & ~3U) == 0, "isr");
    FUZZ_CHECK(!!(reg_read(&z->t, R_STATUS) & S_RESET) == atomic_load(&d->broken), "status");
}

static bool nothing_held(const struct fuzz *z)
{
    for (unsigned q = 0; q < z->g->nq; q++)
        for (unsigned i = 0; i < BLK_QMAX; i++)
            if (z->held[q][i].on)
                return false;
    return true;
}

/* With everything answered the disk is the model's. */
static void check_disk(struct fuzz *z)
{
    if (z->exact && nothing_held(z))
        FUZZ_CHECK(memcmp(z->model, z->store, STORE) == 0, "the disk holds something else");
}

static void pump(struct fuzz *z, unsigned n)
{
    device_begin(z);
    z->rounds = n;
    z->loop.stop = false;
    loop_mod(&z->loop, &z->stopper, EPOLLIN);
    loop_run(&z->loop);
    loop_mod(&z->loop, &z->stopper, 0);
    device_end(z);
    check_disk(z);
}

/* The queues are gone: what was held was carried out, in turn, and nobody was told. */
static void forget(struct fuzz *z)
{
    for (;;) {
        struct held *first = NULL;

        for (unsigned q = 0; q < QUEUES; q++)
            for (unsigned i = 0; i < BLK_QMAX; i++)
                if (z->held[q][i].on && (!first || z->held[q][i].turn < first->turn))
                    first = &z->held[q][i];
        if (!first)
            break;
        if (z->exact && first->want.statuses == 1U << S_OK)
            model_do(z, first);
        first->on = false;
    }
    check_disk(z);
    memcpy(z->model, z->store, STORE);
    /* Two queues: which came first is not known. */
    z->exact = !z->later && z->opts.queues == 1;
    z->misfit = false;
    memset(z->taken, 0, sizeof z->taken);
    memset(z->answered, 0, sizeof z->answered);
}

static void stop(struct watch *w, uint32_t revents)
{
    struct fuzz *z = w->arg;

    (void)revents;
    if (--z->rounds == 0)
        loop_stop(&z->loop);
}

static void device_make(struct fuzz *z)
{
    struct err e;

    FUZZ_CHECK(loop_init(&z->loop, &e) == 0, "%s", e.msg);
    z->stopper = (struct watch){ .fd = eventfd(1, EFD_CLOEXEC), .fn = stop, .arg = z };
    FUZZ_CHECK(loop_add(&z->loop, &z->stopper) == 0, "the loop's end");
    z->disk = calloc(1, sizeof *z->disk);
    FUZZ_CHECK(z->disk, "out of memory");
    disk_init(z->disk, &z->image, z->blocks ? &host_engine_blocks : &host_engine, z);
    z->opts.disk = z->disk;
    z->dev = blk_new(&z->g->mem, &z->loop, &z->opts, &e);
    FUZZ_CHECK(z->dev, "%s", e.msg);
    FUZZ_CHECK(virtio_mmio_init(&z->t, z->dev, &e) == 0, "%s", e.msg);
}

static void device_drop(struct fuzz *z)
{
    virtio_mmio_fini(&z->t);
    z->dev->cls->free(z->dev);
    loop_del(&z->loop, &z->stopper);
    close(z->stopper.fd);
    loop_fini(&z->loop);
    fake_timer_fd = -1;
    fake_timer = (struct itimerspec){ 0 };
}

/* --- the driver --- */

static void reset(struct fuzz *z)
{
    device_begin(z);
    reg_write(&z->t, R_STATUS, 0);
    guest_leave(z->g);
    forget(z);
}

static void bring_up(struct fuzz *z, uint16_t size, uint64_t features)
{
    struct ring rings[QUEUES];

    reset(z);
    guest_rings(z->g, size);
    z->g->indirect = features & VIRTIO_F_INDIRECT_DESC;
    z->g->event_idx = features & VIRTIO_F_EVENT_IDX;
    z->features = features;
    z->dirty = false;
    for (unsigned q = 0; q < z->g->nq; q++)
        rings[q] = z->g->q[q].ring;
    uint32_t status = drive_up(&z->t, features, rings, z->g->nq);

    FUZZ_CHECK(status == 0xf, "status 0x%x after features 0x%jx", status, (uintmax_t)features);
}

static void op_bring_up(struct fuzz *z, struct input *in)
{
    static const uint16_t sizes[] = { 128, 128, 8, 1, 2, 16, 64, 4 };
    uint8_t how = in_u8(in);

    bring_up(z, sizes[how % 8],
             VIRTIO_F_VERSION_1 | (how & 8 ? VIRTIO_F_INDIRECT_DESC : 0) |
                 (how & 16 ? VIRTIO_F_EVENT_IDX : 0) | (how & 32 ? F_FLUSH : 0));
}

/* Bytes that the guest offers in one direction: cut in up to three, the last one into the status's
 * buffer where told so. */
static unsigned add_pieces(struct fuzz *z, struct piece *p, const uint8_t *bytes, uint32_t n,
                           uint8_t cuts, bool write)
{
    unsigned k = 0;

    for (uint32_t done = 0; done < n; cuts >>= 2) {
        uint32_t part = k == 3 || cuts % 4 == 0 ? n - done : (n - done) * (cuts % 4U) / 4;

        p[k] = (struct piece){ guest_buffer(z->g, part), part, write };
        if (!write)
            memcpy(guest_ram(z->g, p[k].gpa, part), bytes + done, part);
        done += p[k++].len;
    }
    return k;
}

/* A request that is right but for what the input bends. */
static void op_request(struct fuzz *z, struct input *in)
{
    static const uint32_t types[] = { T_IN,    T_OUT,    T_IN,      T_OUT,
                                      T_FLUSH, T_GET_ID, T_DISCARD, T_ZEROES };
    static uint8_t out[16 + 8 * 512];
    struct piece p[GUEST_PIECES];
    unsigned q = in_below(in, z->g->nq), n;
    uint8_t how = in_u8(in), cuts = in_u8(in);
    uint32_t type = how < 0xf0 ? types[how % 8] : in_u8(in), len = 0, room = 0;
    uint64_t sector = how & 8 ? in_value(in) : in_below(in, SECTORS + 2);

    if (!z->g->q[q].ring.size)
        return;
    memcpy(out, &type, 4);
    memset(out + 4, how, 4);
    memcpy(out + 8, &sector, 8);
    if (type >= T_DISCARD) {
        len = 16U * (1 + in_below(in, how & 16 ? MODEL_RANGES + 2 : 3));
        for (uint32_t i = 16; i < 16 + len; i += 16) {
            uint8_t odd = in_u8(in);
            uint64_t first = odd & 0x80 ? in_value(in) : odd % SECTORS;
            uint32_t range[2] = { odd & 0x40 ? (uint32_t)in_value(in) : odd % 8U,
                                  odd & 0x20 ? in_u8(in) : type == T_ZEROES && odd & 1 };

            memcpy(out + i, &first, 8);
            memcpy(out + i + 8, range, 8);
        }
    } else if (type == T_OUT) {
        len = 512U * in_below(in, 9);
        for (uint32_t i = 0; i < len; i++)
            out[16 + i] = (uint8_t)(z->turns + i / 512 * 3 + i);
    } else {
        room = type == T_IN ? 512U * in_below(in, 9) : type == T_GET_ID ? 20 : 0;
    }
    if (how & 32) /* a byte more or less, or in the wrong place */
        *(in_u8(in) & 1 ? &len : &room) += in_below(in, 4) - 1U;
    if (len > 8 * 512 || room > 16 * 512)
        return;
    n = add_pieces(z, p, out, how & 64 ? 16 + len : 16, cuts, false);
    if (!(how & 64))
        n += add_pieces(z, p + n, out + 16, len, cuts >> 4, false);
    n += add_pieces(z, p + n, NULL, room, cuts >> 2, true);
    p[n] = (struct piece){ guest_buffer(z->g, 1), 1, true };
    n++;
    guest_chain(z->g, q, p, n, z->g->indirect && cuts & 1 ? cuts / 2 % (n + 1) : n);
    ring_publish(&z->g->q[q].ring);
    if (how & 128)
        reg_write(&z->t, R_NOTIFY, q);
}

static void op_register(struct fuzz *z, struct input *in)
{
    uint8_t how = in_u8(in), buf[8];
    uint64_t off = how & 0x80 ? in_u16(in) % VIRTIO_MMIO_LEN : 4U * in_below(in, 80), v;
    unsigned len = how & 0x40 ? 1U << in_below(in, 4) : 4;

    if (!(how & 1)) {
        bus_read(&z->bus, MMIO_BASE + off, buf, len);
        return;
    }
    v = in_value(in);
    if (off == R_STATUS && len == 4 && v == 0) {
        reset(z);
    } else {
        device_begin(z);
        bus_write(&z->bus, MMIO_BASE + off, &v, len);
        device_end(z);
        z->dirty &= !z->dev->active || z->dev->features == z->features;
        z->features = z->dev->active ? z->dev->features : z->features;
    }
    /* It may have moved or ended the rings: what we know of them is theirs no more. */
    z->g->bent = true;
    if (!z->dev->active)
        for (unsigned q = 0; q < z->g->nq; q++)
            z->g->q[q].ring.size = 0;
}

/* Saves, and goes on with what loads from it. */
static void op_change_horses(struct fuzz *z)
{
    uint8_t bytes[8192];
    struct wbuf w = { .data = bytes, .cap = sizeof bytes };
    struct err e = { 0 };

    device_begin(z);
    virtio_mmio_save(&z->t, &w);
    device_end(z);
    FUZZ_CHECK(!w.overflow, "a state of more than %zu bytes", sizeof bytes);
    FUZZ_CHECK(z->n_calls == 0, "saved with calls in flight");
    check_disk(z);
    FUZZ_CHECK(z->dev->broken || z->g->bent || z->g->wrapped || nothing_held(z),
               "saved with requests in flight");
    device_drop(z);
    device_make(z);
    struct rbuf r = { .data = bytes, .len = w.len };

    FUZZ_CHECK(virtio_mmio_load(&z->t, &r, &e) == 0, "%s", e.msg);
    FUZZ_CHECK(r.off == r.len, "%zu of %zu bytes", r.off, r.len);
}

static void op_host(struct fuzz *z, struct input *in)
{
    static const int errors[] = { -EIO, -ENOSPC, -EINTR, -EAGAIN, -EOPNOTSUPP, -EINVAL };
    uint8_t how = in_u8(in);

    device_begin(z);
    for (unsigned n = 1 + how / 64; n && z->n_calls; n--) {
        unsigned i = in_u8(in) % z->n_calls;
        int res = 0; /* as it should */

        if (how % 8 == 1)
            res = errors[in_below(in, ARRAY_LEN(errors))];
        else if (how % 8 == 2 && z->call[i]->op <= IO_WRITE)
            res = 1 + (int)(in_u16(in) % z->call[i]->len);
        host_end(z, i, res);
    }
    if (!(how & 8))
        z->disk->batch(z->disk->arg);
    device_end(z);
}

/* A fresh driver is served, whatever was before. */
static void play_valid(struct fuzz *z)
{
    static const uint32_t types[] = { T_OUT, T_IN, T_FLUSH, T_GET_ID };
    uint32_t id, len;

    z->later = false;
    bring_up(z, 16, VIRTIO_F_VERSION_1 | F_FLUSH);
    for (unsigned i = z->image.read_only ? 1 : 0; i < ARRAY_LEN(types); i++) {
        uint8_t header[16] = { (uint8_t)types[i], [8] = 5 };
        uint32_t data = i < 2 ? 512 : i == 2 ? 0 : 20;
        struct piece p[3] = { { guest_buffer(z->g, 16), 16, false },
                              { guest_buffer(z->g, 512), data, types[i] != T_OUT },
                              { guest_buffer(z->g, 1), 1, true } };
        uint8_t *at = guest_ram(z->g, p[1].gpa, 512), *status = guest_ram(z->g, p[2].gpa, 1);

        memcpy(guest_ram(z->g, p[0].gpa, 16), header, 16);
        memset(at, types[i] == T_OUT ? 0x42 : 0, 512);
        *status = 0xee;
        guest_chain(z->g, 0, p, 3, 3);
        ring_publish(&z->g->q[0].ring);
        reg_write(&z->t, R_NOTIFY, 0);
        for (unsigned k = 0; k < 40 && *status == 0xee; k++) {
            pump(z, 2);
            pass(UINT64_C(10000000000000));
        }
        FUZZ_CHECK(ring_take(&z->g->q[0].ring, &id, &len), "request %u is not served", i);
        FUZZ_CHECK(*status == S_OK || (types[i] == T_FLUSH && z->disk->flush_failed),
                   "request %u: status %u", i, *status);
        z->g->q[0].offer[id % 16].out = false;
        if (types[i] == T_IN)
            FUZZ_CHECK(memcmp(at, z->store + 5 * 512, 512) == 0, "another sector");
        if (types[i] == T_GET_ID)
            FUZZ_CHECK(memcmp(at, "fuzz", 5) == 0, "another name");
    }
}

static void step(struct fuzz *z, struct input *in)
{
    unsigned op = in_below(in, 16);

    switch (op) {
    case 0:
        op_bring_up(z, in);
        break;
    case 1:
        op_register(z, in);
        break;
    case 2:
        reg_write(&z->t, R_NOTIFY, in_below(in, QUEUES + 1));
        pump(z, 1 + in_u8(in) % 4);
        break;
    case 3:
        pump(z, 1 + in_u8(in) % 4);
        break;
    case 4:
        pass(UINT64_C(1) << in_below(in, 48));
        break;
    case 5:
    case 6:
        op_host(z, in);
        break;
    case 7:
        if (in_u8(in) & 1)
            op_change_horses(z);
        else
            pump(z, 6);
        break;
    case 8:
    case 9:
        guest_op(z->g, in);
        break;
    default:
        op_request(z, in);
        break;
    }
}

void fuzz_one(struct input *in)
{
    static const uint64_t rates[] = { 1, 512, 64 * 1024, UINT64_C(1) << 50 };
    static struct fuzz z;
    uint8_t how = in_u8(in), limits = in_u8(in);

    z.g = guest_init(how & 1 ? QUEUES : 1, BLK_QMAX);
    z.later = how & 2;
    z.blocks = !z.later && how & 64;
    z.faults = z.exact = z.dirty = false;
    z.n_calls = 0;
    z.begun = z.synced = 0;
    z.turns = 0;
    memset(z.held, 0, sizeof z.held);
    memset(z.store, 0x33, STORE);
    fake_ns = 1000000;
    z.image = (struct image){ .fd = -1,
                              .path = "fuzz",
                              .size = STORE,
                              .block = 512,
                              .physical = how & 4 ? 4096 : 512,
                              .read_only = how % 64 >= 56 };
    z.opts = (struct blk_opts){ .name = "fuzz", .id = "fuzz", .queues = z.g->nq };
    if (limits & 1) {
        z.opts.bw = rates[limits / 2 % 4];
        z.opts.bw_burst = rates[limits / 8 % 4];
    }
    if (limits & 0x40) {
        z.opts.iops = rates[limits / 2 % 4];
        z.opts.iops_burst = rates[limits / 8 % 4];
    }
    device_make(&z);
    z.bus.n = 0;
    FUZZ_CHECK(bus_add(&z.bus, MMIO_BASE, VIRTIO_MMIO_LEN, &virtio_mmio_ops, &z.t) == 0, "bus");
    op_bring_up(&z, in);
    while (in->left)
        step(&z, in);
    play_valid(&z);
    device_drop(&z);
}
