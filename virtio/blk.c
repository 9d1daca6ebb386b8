/* virtio-blk (virtio 1.2, section 5.2); see blk.h.
 *
 *   kick ─► pop ─► blk_parse ─┬─► tokens? ─► disk_submit ─ ─ ► blk_on_done ─► status, push ─►
 * publish │      └─ wait in line ─ timer ─┘ └─► refused, GET_ID: status, push
 *
 * Each entry of a queue has a place for its request, found by the chain's head, so that a request
 * never waits for a place: everything the driver offers is taken at once, and a flush passes those
 * that wait for tokens.
 *
 * A flush is answered when what was written before it, as far as it was answered, is on stable
 * storage: the disk's fdatasync is made after those writes ended. Writes still under way may or may
 * not be covered (5.2.6.2). A driver that did not negotiate the flush never sends one, so each of
 * its writes is stable before it is answered.
 *
 * What failed on the host is an I/O error for the guest and a line of the log for the host's
 * people; the buffers of a read that failed are zeroed, so that the length given back is true and
 * no byte shows that is not the disk's.
 */
#include "virtio/blk.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "core/bucket.h"
#include "core/clock.h"
#include "core/num.h"
#include "virtio/blkreq.h"

/* Work in a round: chains, and bytes. An engine that blocks takes fewer, and answers each at once.
 */
#define BLK_BURST       128
#define BLK_BURST_SYNC  8
#define BLK_BURST_BYTES (16 * MIB)

#define F_SIZE_MAX     (UINT64_C(1) << 1)
#define F_SEG_MAX      (UINT64_C(1) << 2)
#define F_RO           (UINT64_C(1) << 5)
#define F_BLK_SIZE     (UINT64_C(1) << 6)
#define F_FLUSH        (UINT64_C(1) << 9)
#define F_TOPOLOGY     (UINT64_C(1) << 10)
#define F_MQ           (UINT64_C(1) << 12)
#define F_DISCARD      (UINT64_C(1) << 13)
#define F_WRITE_ZEROES (UINT64_C(1) << 14)

struct blk_config { /* 5.2.4 */
    uint64_t capacity;
    uint32_t size_max, seg_max;
    uint16_t cylinders;
    uint8_t heads, sectors;
    uint32_t blk_size;
    uint8_t physical_block_exp, alignment_offset;
    uint16_t min_io_size;
    uint32_t opt_io_size;
    uint8_t writeback, unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
    uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap, unused1[3];
} __attribute__((packed));
_Static_assert(sizeof(struct blk_config) == 60, "as in the spec");
_Static_assert(sizeof(struct blk_config) <= VIRTIO_CFG_MAX, "it fits");

/* A request in its place, from pop to push. */
struct blk_request {
    struct disk_req disk;
    struct blk_ask ask;
    unsigned segment;         /* the next of ask's */
    struct blk_request *next; /* in the line for tokens */
    uint16_t queue, head;
    uint32_t writable;
    struct iovec status;
};

typedef struct iovec blk_buffers[BLK_QMAX];

struct blk {
    struct virtio_dev dev;
    struct disk *disk;
    char id[BLK_ID_LEN];
    /* The place of queue q's head h is at q * BLK_QMAX + h. Pages that no request has used yet cost
     * nothing. */
    struct blk_request *request;
    blk_buffers *buffers; /* the data of each */
    blk_buffers popped;   /* the chain at hand */
    unsigned held;        /* taken, not yet given back */
    /* The line for tokens. */
    struct bucket bytes, requests;
    struct blk_request *first, **last;
    struct watch timer; /* its fd is a timerfd; -1 without limits */
    struct log_limit host_limit;
};

static struct blk *blk_of(struct virtio_dev *d)
{
    return CONTAINER_OF(d, struct blk, dev);
}

/* --- answers -------------------------------------------------------------------------------- */

static void blk_publish(struct blk *b)
{
    bool wanted = false;

    if (b->dev.broken)
        return;
    for (unsigned i = 0; i < b->dev.nq; i++)
        wanted |= virtq_publish(&b->dev.queue[i].vq);
    if (wanted)
        virtio_interrupt(&b->dev, VIRTIO_IRQ_QUEUE);
}

/* Gives the request back with its status, the first `data` bytes of the rest written. */
static void blk_answer(struct blk *b, struct blk_request *r, enum blk_status status, uint64_t data)
{
    const struct chain c = { .head = r->head, .writable = r->writable };

    b->held--;
    if (b->dev.broken) /* its driver was told to begin anew */
        return;
    *(volatile uint8_t *)r->status.iov_base = (uint8_t)status;
    /* The length counts from the first byte: with a gap before the status it ends there. */
    uint64_t written = data + 1 == r->writable ? data + 1 : data;

    virtq_push(&b->dev.queue[r->queue].vq, &c, (uint32_t)written);
}

static const char *blk_verb(enum disk_op op)
{
    static const char *const verbs[] = { "read", "write", "flush", "discard", "zero" };

    return verbs[op];
}

static void blk_tell(struct blk *b, const struct disk_req *r)
{
    uint32_t dropped;

    if (!log_allow(&b->host_limit, &dropped))
        return;
    log_warn("disk %s: %s at byte %" PRIu64 ", %" PRIu64 " left: %s: the guest gets an I/O error",
             b->disk->image.path, blk_verb(r->op), r->off, r->len, strerror(-r->result));
    if (dropped)
        log_warn("disk %s: %" PRIu32 " more such lines were left out", b->disk->image.path,
                 dropped);
}

/* Submits the next segment of a discard or write-zeroes. */
static void blk_segment(struct blk *b, struct blk_request *r)
{
    const struct blk_segment *s = &r->ask.segment[r->segment++];

    r->disk.off = s->off;
    r->disk.len = s->len;
    r->disk.unmap = s->unmap;
    disk_submit(b->disk, &r->disk);
}

static void blk_on_done(void *arg, struct disk_req *disk)
{
    struct blk_request *r = CONTAINER_OF(disk, struct blk_request, disk);
    struct blk *b = arg;
    bool read = disk->op == DISK_READ;

    if (disk->result == 0 && r->segment < r->ask.n_segments) {
        blk_segment(b, r);
        return;
    }
    if (disk->result)
        blk_tell(b, disk);
    if (disk->result && read) {
        for (; disk->iov_n; disk->iov++, disk->iov_n--)
            memset(disk->iov->iov_base, 0, disk->iov->iov_len);
    }
    blk_answer(b, r, disk->result ? BLK_S_IOERR : BLK_S_OK, read ? r->ask.len : 0);
}

/* The engine told of all that ended by now. */
static void blk_serve(struct blk *b, unsigned q);

static void blk_on_batch(void *arg)
{
    struct blk *b = arg;

    /* Who was answered will ask again, and may have done so by now: that saves its kick. */
    blk_publish(b);
    for (unsigned q = 0; q < b->dev.nq; q++)
        if (b->dev.active && !b->dev.broken && virtq_waiting(&b->dev.queue[q].vq))
            blk_serve(b, q);
}

/* --- requests ------------------------------------------------------------------------------- */

static void blk_submit(struct blk *b, struct blk_request *r)
{
    static const enum disk_op ops[] = {
        [BLK_T_IN] = DISK_READ,           [BLK_T_OUT] = DISK_WRITE,
        [BLK_T_FLUSH] = DISK_FLUSH,       [BLK_T_DISCARD] = DISK_DISCARD,
        [BLK_T_WRITE_ZEROES] = DISK_ZERO,
    };

    r->disk.op = ops[r->ask.type];
    r->disk.stable = !(b->dev.features & F_FLUSH);
    if (r->ask.n_segments) {
        blk_segment(b, r);
        return;
    }
    r->disk.off = r->ask.off;
    r->disk.len = r->ask.len;
    disk_submit(b->disk, &r->disk);
}

/* A discard moves no bytes. */
static uint64_t blk_bytes(const struct blk_request *r)
{
    return r->ask.type == BLK_T_DISCARD ? 0 : r->ask.len;
}

static bool blk_may_go(struct blk *b, const struct blk_request *r, uint64_t now)
{
    return bucket_ready(&b->requests, now) && (blk_bytes(r) == 0 || bucket_ready(&b->bytes, now));
}

static void blk_go(struct blk *b, struct blk_request *r, uint64_t now)
{
    bucket_take(&b->requests, 1, now);
    bucket_take(&b->bytes, blk_bytes(r), now);
    blk_submit(b, r);
}

/* Wakes us when the first in line may go. */
static void blk_set_timer(struct blk *b, uint64_t now)
{
    uint64_t wait = bucket_wait(&b->requests, now);
    struct itimerspec t = { 0 };

    if (blk_bytes(b->first) && bucket_wait(&b->bytes, now) > wait)
        wait = bucket_wait(&b->bytes, now);
    wait += wait == 0; /* 0 would mean never */
    t.it_value.tv_sec = (time_t)(wait / 1000000000);
    t.it_value.tv_nsec = (long)(wait % 1000000000);
    timerfd_settime(b->timer.fd, 0, &t, NULL);
}

/* Sends off who may go, or all of them. */
static void blk_line(struct blk *b, bool all)
{
    uint64_t now = b->first ? clock_ns() : 0;

    while (b->first && (all || blk_may_go(b, b->first, now))) {
        struct blk_request *r = b->first;

        b->first = r->next;
        if (!b->first)
            b->last = &b->first;
        blk_go(b, r, now);
    }
    if (b->first)
        blk_set_timer(b, now);
}

static void blk_on_timer(struct watch *w, uint32_t revents)
{
    struct blk *b = w->arg;
    uint64_t count;

    (void)revents;
    if (read(w->fd, &count, sizeof count) != sizeof count)
        return;
    blk_line(b, false);
    blk_publish(b);
}

static void blk_limit(struct blk *b, struct blk_request *r)
{
    bool limited = b->timer.fd >= 0 && r->ask.type != BLK_T_FLUSH;

    if (!limited) {
        blk_submit(b, r);
        return;
    }
    r->next = NULL;
    *b->last = r;
    b->last = &r->next;
    if (b->first == r) /* nobody was before it */
        blk_line(b, false);
}

/* Zeroes what a refused request offered for data, as of a read that failed, and stands before the
 * status; of a monstrous one the beginning. Returns how many bytes that were. */
static size_t blk_refuse(struct chain *c, size_t in)
{
    size_t left = min_size(in, BLK_DATA_MAX);
    struct iovec piece[BLK_QMAX];
    struct cursor data = c->w;
    int n = cursor_take(&data, left, piece, BLK_QMAX);

    for (int i = 0; i < n; i++)
        memset(piece[i].iov_base, 0, piece[i].iov_len);
    cursor_skip(&c->w, in);
    return left;
}

/* Takes the chain that was popped from queue q. */
static void blk_take(struct blk *b, unsigned q, struct chain *c)
{
    size_t place = (size_t)q * BLK_QMAX + c->head;
    struct blk_request *r = &b->request[place];
    const char *why;

    r->queue = (uint16_t)q;
    r->head = c->head;
    r->writable = c->writable;
    r->segment = 0;
    int status = blk_parse(b->disk->image.size, b->disk->image.read_only, c, &r->ask, &why);

    if (status < 0) {
        virtio_fail(&b->dev, "queue %u: %s", q, why);
        return;
    }
    b->held++;
    size_t in = cursor_left(&c->w) - 1, answered = in;
    bool out = r->ask.type == BLK_T_OUT;

    if (status == BLK_S_OK && r->ask.type == BLK_T_GET_ID)
        cursor_put(&c->w, b->id, sizeof b->id);
    else if (status == BLK_S_OK && (in || out)) {
        r->disk.iov = b->buffers[place];
        r->disk.iov_n = (unsigned)cursor_take(out ? &c->r : &c->w, (size_t)r->ask.len, r->disk.iov,
                                              BLK_QMAX);
    } else {
        answered = blk_refuse(c, in);
    }
    cursor_take(&c->w, 1, &r->status, 1);
    if (status == BLK_S_OK && r->ask.type != BLK_T_GET_ID)
        blk_limit(b, r);
    else
        blk_answer(b, r, (enum blk_status)status, answered);
}

static void blk_serve(struct blk *b, unsigned q)
{
    struct virtq *vq = &b->dev.queue[q].vq;
    struct chain c = { .iov = b->popped, .iov_max = BLK_QMAX };
    bool blocks = !b->disk->engine->drain;
    unsigned left = blocks ? BLK_BURST_SYNC : BLK_BURST;
    uint64_t bytes = 0;

    virtq_disarm(vq);
    do {
        int ret = 1;

        while (left && bytes < BLK_BURST_BYTES && !b->dev.broken && (ret = virtq_pop(vq, &c)) > 0) {
            left--;
            bytes += cursor_left(&c.r) + cursor_left(&c.w);
            blk_take(b, q, &c);
            if (blocks)
                blk_publish(b);
        }
        if (ret < 0)
            virtio_fail(&b->dev, "queue %u: %s", q, vq->fault);
        if (b->dev.broken)
            return;
        if (!left || bytes >= BLK_BURST_BYTES) {
            virtio_again(&b->dev, q);
            break;
        }
    } while (virtq_rearm(vq));
    blk_publish(b);
}

/* --- the device ----------------------------------------------------------------------------- */

static void blk_kick(struct virtio_dev *d, unsigned q)
{
    blk_serve(blk_of(d), q);
}

/* By the disk's engine, in place of the loop. */
static void blk_on_listen(void *arg, unsigned q)
{
    struct blk *b = arg;

    virtio_kicked(&b->dev, q);
}

static void blk_signal(struct virtio_dev *d)
{
    struct blk *b = blk_of(d);

    b->disk->engine->signal(b->disk);
}

static int blk_enter(struct virtio_dev *d)
{
    struct blk *b = blk_of(d);

    return b->disk->engine->enter ? b->disk->engine->enter(b->disk) : 0;
}

static void blk_quiesce(struct virtio_dev *d)
{
    struct blk *b = blk_of(d);

    /* Ahead of their time: their debt is paid by who comes next. */
    blk_line(b, true);
    disk_drain(b->disk);
    assert(b->held == 0);
    blk_publish(b);
    disk_drain(b->disk); /* the interrupt, too, is out */
}

static void blk_save(const struct virtio_dev *d, struct wbuf *w)
{
    struct blk *b = CONTAINER_OF(d, struct blk, dev);
    uint64_t now = clock_ns();

    wbuf_u64(w, b->disk->image.size);
    wbuf_u32(w, b->disk->image.read_only);
    wbuf_u32(w, b->disk->overlaid);
    wbuf_u32(w, b->dev.nq);
    wbuf_u32(w, b->disk->flush_failed);
    bucket_save(&b->bytes, now, w);
    bucket_save(&b->requests, now, w);
}

static int blk_load(struct virtio_dev *d, struct rbuf *r)
{
    struct blk *b = blk_of(d);
    uint64_t now = clock_ns();

    if (rbuf_u64(r) != b->disk->image.size || rbuf_u32(r) != b->disk->image.read_only)
        return -EPROTO;
    /* What an overlay holds is not in the state. */
    if (rbuf_u32(r) || b->disk->overlaid || rbuf_u32(r) != b->dev.nq)
        return -EPROTO;
    b->disk->flush_failed = rbuf_u32(r) != 0;
    int ret = bucket_load(&b->bytes, now, r);

    return ret ? ret : bucket_load(&b->requests, now, r);
}

static void blk_free(struct virtio_dev *d)
{
    struct blk *b = blk_of(d);

    loop_del(d->loop, &b->timer);
    if (b->timer.fd >= 0)
        close(b->timer.fd);
    disk_free(b->disk);
    virtio_fini(d);
    free(b->request);
    free(b->buffers);
    free(b);
}

static const struct virtio_class blk_class = {
    .name = "blk",
    .id = 2,
    .features = F_SIZE_MAX | F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY,
    .nq = VIRTIO_QUEUES_MAX,
    .qmax = BLK_QMAX,
    .cfg_len = sizeof(struct blk_config),
    .enter = blk_enter,
    .kick = blk_kick,
    .quiesce = blk_quiesce,
    .save = blk_save,
    .load = blk_load,
    .free = blk_free,
};

static void blk_describe(struct blk *b)
{
    const struct image *im = &b->disk->image;
    struct blk_config c = {
        .capacity = im->size / BLK_SECTOR,
        .size_max = BLK_DATA_MAX / BLK_QMAX,
        .seg_max = BLK_QMAX - 2, /* header and status take one each */
        .blk_size = im->block,
        .physical_block_exp = (uint8_t)__builtin_ctz(im->physical / im->block),
        .min_io_size = (uint16_t)(im->physical / im->block),
        .num_queues = b->dev.nq,
    };

    if (b->dev.nq > 1)
        b->dev.offers |= F_MQ;
    if (im->read_only) {
        b->dev.offers |= F_RO;
    } else {
        b->dev.offers |= F_DISCARD | F_WRITE_ZEROES;
        c.max_discard_sectors = BLK_DISCARD_MAX;
        c.max_write_zeroes_sectors = BLK_ZEROES_MAX;
        c.max_discard_seg = c.max_write_zeroes_seg = BLK_SEGMENTS_MAX;
        c.discard_sector_alignment = im->physical / BLK_SECTOR;
        c.write_zeroes_may_unmap = 1;
    }
    memcpy(b->dev.cfg, &c, sizeof c);
}

static int blk_limits(struct blk *b, const struct blk_opts *o, struct err *e)
{
    uint64_t now = clock_ns();

    bucket_init(&b->bytes, o->bw, o->bw_burst, now);
    bucket_init(&b->requests, o->iops, o->iops_burst, now);
    if (!o->bw && !o->iops)
        return 0;
    b->timer = (struct watch){ .fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
                               .events = EPOLLIN,
                               .fn = blk_on_timer,
                               .arg = b };
    int ret = b->timer.fd < 0 ? -errno : loop_add(b->dev.loop, &b->timer);

    return ret ? err_set(e, -ret, "%s: timer: %s: %s", o->name, strerror(-ret),
                         err_remedy(-ret, "report this"))
               : 0;
}

/* Where the engine can read the kicks itself, and signal the interrupt. */
static int blk_wire(struct blk *b, struct err *e)
{
    const struct disk_engine *engine = b->disk->engine;
    int ret = 0;

    if (!engine->listen)
        return 0;
    for (unsigned q = 0; ret == 0 && q < b->dev.nq; q++)
        ret = engine->listen(b->disk, virtio_take_kick(&b->dev, q), blk_on_listen, b, q);
    if (ret == 0)
        ret = engine->reach(b->disk, b->dev.irqfd);
    b->dev.signal = blk_signal;
    return ret ? err_set(e, -ret, "%s: %s: %s", b->dev.name, strerror(-ret), "report this") : 0;
}

struct virtio_dev *blk_new(struct gmem *mem, struct loop *loop, const struct blk_opts *o,
                           struct err *e)
{
    size_t places = (size_t)o->queues * BLK_QMAX;
    struct blk *b = calloc(1, sizeof *b);

    if (!b || virtio_init(&b->dev, &blk_class, o->name, o->queues, mem, loop, e)) {
        if (!b)
            err_set(e, ENOMEM, "%s: out of memory: free some", o->name);
        disk_free(o->disk);
        free(b);
        return NULL;
    }
    b->disk = o->disk;
    b->disk->done = blk_on_done;
    b->disk->batch = blk_on_batch;
    b->disk->arg = b;
    b->last = &b->first;
    b->timer.fd = -1;
    memcpy(b->id, o->id, strnlen(o->id, sizeof b->id));
    b->request = calloc(places, sizeof *b->request);
    b->buffers = calloc(places, sizeof *b->buffers);
    blk_describe(b);
    int ret = b->request && b->buffers
                  ? 0
                  : err_set(e, ENOMEM, "%s: out of memory: free some", o->name);

    if (ret == 0)
        ret = blk_limits(b, o, e);
    if (ret == 0)
        ret = blk_wire(b, e);
    if (ret) {
        blk_free(&b->dev);
        return NULL;
    }
    return &b->dev;
}
