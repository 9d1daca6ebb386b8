/* The real block device over a disk whose host is a piece of memory here, and a driver in plain
 * memory. The device's loop has no thread: it goes round when a test says so, and calls to the host
 * end at once, or, with host.later, when a test says so. */
#ifndef MAYFLY_TESTS_BLK_RIG_H
#define MAYFLY_TESTS_BLK_RIG_H

#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/log.h"
#include "core/num.h"
#include "tests/unit/blk_model.h"
#include "tests/unit/driver.h"
#include "virtio/blk.h"

#define RIG_RAM     (4 * MIB)
#define RIG_QUEUES  3
#define RIG_SECTORS 256
#define RIG_DATA    (256 * KIB) /* the first address for buffers */
#define HOST_CALLS  8192

#define F_SIZE_MAX     (UINT64_C(1) << 1)
#define F_SEG_MAX      (UINT64_C(1) << 2)
#define F_RO           (UINT64_C(1) << 5)
#define F_BLK_SIZE     (UINT64_C(1) << 6)
#define F_FLUSH        (UINT64_C(1) << 9)
#define F_TOPOLOGY     (UINT64_C(1) << 10)
#define F_MQ           (UINT64_C(1) << 12)
#define F_DISCARD      (UINT64_C(1) << 13)
#define F_WRITE_ZEROES (UINT64_C(1) << 14)
#define PLAIN          VIRTIO_F_VERSION_1

/* The host's side. */
struct host {
    uint8_t *store;
    uint64_t size;
    bool later;                       /* calls end by host_end */
    bool blocks;                      /* they end at once, and the device knows; before rig_make */
    struct disk_io *call[HOST_CALLS]; /* begun, in order */
    unsigned n;
    struct {
        enum io_op op;
        uint64_t off, len;
    } log[HOST_CALLS]; /* all since host_forget */
    unsigned logged, drains;
    int fail[IO_ZERO + 1]; /* by operation: what calls return instead, 0: as they should */
    uint64_t most;         /* bytes a call moves; 0: all of them */
};

struct rig {
    struct gmem mem;
    struct loop loop;
    struct watch stopper; /* always ready: ends loop_run after some rounds */
    unsigned rounds;
    struct host host;
    struct image image;
    struct blk_opts opts;
    struct disk *disk;
    struct virtio_dev *dev;
    struct virtio_mmio t;
    struct ring ring[RIG_QUEUES];
    uint64_t next; /* address for a buffer */
    bool indirect, event_idx;
};

/* --- the engine --- */

static inline int host_carry(struct host *h, const struct disk_io *io)
{
    uint64_t left = io->len, off = io->off;

    if (h->fail[io->op])
        return h->fail[io->op];
    if (io->op == IO_SYNC)
        return 0;
    if (io->op == IO_PUNCH || io->op == IO_ZERO) {
        memset(h->store + off, 0, left);
        return 0;
    }
    if (h->most && left > h->most)
        left = h->most;
    int done = (int)left;

    for (unsigned i = 0; left; i++) {
        size_t n = min_size(left, io->iov[i].iov_len);

        if (io->op == IO_READ)
            memcpy(io->iov[i].iov_base, h->store + off, n);
        else
            memcpy(h->store + off, io->iov[i].iov_base, n);
        off += n;
        left -= n;
    }
    return done;
}

static inline bool host_start(struct disk *d, struct disk_io *io, int *res)
{
    struct host *h = d->engine_data;
    uint64_t total = 0;

    assert_int_equal(io->file, DISK_BASE);
    if (io->op != IO_SYNC) {
        assert_true(io->len > 0 && range_within(io->off, io->len, h->size));
        assert_true(io->off % IMAGE_SECTOR == 0 && (io->len % IMAGE_SECTOR == 0));
    }
    for (unsigned i = 0; io->op <= IO_WRITE && i < io->iov_n; i++)
        total += io->iov[i].iov_len;
    assert_true(io->op > IO_WRITE || total == io->len);
    assert_false(d->image.read_only && io->op != IO_READ);
    assert_false(h->blocks && h->later);
    assert_in_range(h->logged, 0, HOST_CALLS - 1);
    h->log[h->logged].op = io->op;
    h->log[h->logged].off = io->off;
    h->log[h->logged++].len = io->len;
    if (!h->later) {
        *res = host_carry(h, io);
        return true;
    }
    assert_in_range(h->n, 0, HOST_CALLS - 1);
    h->call[h->n++] = io;
    return false;
}

/* Ends the i-th call begun, as it should. */
static inline void host_end(struct rig *g, unsigned i)
{
    struct host *h = &g->host;
    struct disk_io *io = h->call[i];

    assert_in_range(i, 0, h->n - 1);
    memmove(&h->call[i], &h->call[i + 1], (h->n - i - 1) * sizeof h->call[0]);
    h->n--;
    disk_io_done(g->disk, io, host_carry(h, io));
}

static inline void host_drain(struct disk *d)
{
    struct host *h = d->engine_data;
    struct rig *g = CONTAINER_OF(h, struct rig, host);

    h->drains++;
    while (h->n)
        host_end(g, 0);
}

static const struct disk_engine host_engine = { .name = "fake",
                                                .start = host_start,
                                                .drain = host_drain };
static const struct disk_engine host_engine_blocks = { .name = "fake", .start = host_start };

/* What an engine says when it has told of all that ended. */
static inline void host_batch(struct rig *g)
{
    g->disk->batch(g->disk->arg);
}

static inline void host_forget(struct rig *g)
{
    g->host.logged = 0;
}

/* How many calls of this kind there were. */
static inline unsigned host_count(const struct rig *g, enum io_op op)
{
    unsigned n = 0;

    for (unsigned i = 0; i < g->host.logged; i++)
        n += g->host.log[i].op == op;
    return n;
}

/* --- the device --- */

static inline void rig_stop(struct watch *w, uint32_t revents)
{
    struct rig *g = w->arg;

    (void)revents;
    if (--g->rounds == 0)
        loop_stop(&g->loop);
}

/* Lets the loop go round. */
static inline void rig_pump(struct rig *g)
{
    g->rounds = 4;
    g->loop.stop = false;
    loop_mod(&g->loop, &g->stopper, EPOLLIN);
    loop_run(&g->loop);
    loop_mod(&g->loop, &g->stopper, 0);
}

/* A device on the host's store. */
static inline void rig_make(struct rig *g)
{
    struct err e;

    assert_int_equal(loop_init(&g->loop, &e), 0);
    g->stopper = (struct watch){ .fd = eventfd(1, EFD_CLOEXEC), .fn = rig_stop, .arg = g };
    assert_int_equal(loop_add(&g->loop, &g->stopper), 0);
    g->disk = calloc(1, sizeof *g->disk);
    assert_non_null(g->disk);
    disk_init(g->disk, &g->image, g->host.blocks ? &host_engine_blocks : &host_engine, &g->host);
    g->opts.disk = g->disk;
    g->dev = blk_new(&g->mem, &g->loop, &g->opts, &e);
    if (!g->dev)
        fail_msg("%s", e.msg);
    assert_int_equal(virtio_mmio_init(&g->t, g->dev, &e), 0);
}

static inline void rig_drop(struct rig *g)
{
    virtio_mmio_fini(&g->t);
    g->dev->cls->free(g->dev);
    loop_del(&g->loop, &g->stopper);
    close(g->stopper.fd);
    loop_fini(&g->loop);
}

/* One queue, no limits, RIG_SECTORS writable sectors of random bytes. */
static inline void rig_prepare(struct rig *g)
{
    struct rng r = { 77 };
    void *host = calloc(1, RIG_RAM);

    *g = (struct rig){ .opts = { .name = "disk", .id = "fake", .queues = 1 } };
    assert_non_null(host);
    gmem_init_at(&g->mem, host, RIG_RAM);
    g->image = (struct image){
        .fd = -1, .path = "fake", .size = RIG_SECTORS * 512, .block = 512, .physical = 4096
    };
    g->host.size = g->image.size;
    g->host.store = malloc(g->host.size);
    assert_non_null(g->host.store);
    rng_fill(&r, g->host.store, g->host.size);
}

static inline struct rig *rig_new(void)
{
    struct rig *g = malloc(sizeof *g);

    assert_non_null(g);
    rig_prepare(g);
    return g;
}

static inline void rig_free(struct rig *g)
{
    rig_drop(g);
    free(g->mem.region[0].host);
    free(g->host.store);
    free(g);
}

/* --- the driver --- */

static inline void rig_up(struct rig *g, uint64_t features)
{
    uint64_t at = 0;

    reg_write(&g->t, R_STATUS, 0);
    for (unsigned q = 0; q < g->opts.queues; q++)
        at = ring_init(&g->ring[q], &g->mem, at, BLK_QMAX);
    assert_in_range(at, 1, RIG_DATA);
    g->next = RIG_DATA;
    g->indirect = features & VIRTIO_F_INDIRECT_DESC;
    g->event_idx = features & VIRTIO_F_EVENT_IDX;
    assert_int_equal(drive_up(&g->t, features | PLAIN, g->ring, g->opts.queues), 0xf);
}

/* A default device with this driver. */
static inline struct rig *rig_start(uint64_t features)
{
    struct rig *g = rig_new();

    rig_make(g);
    rig_up(g, features);
    return g;
}

/* The next n bytes for buffers; they come round. */
static inline uint64_t rig_room(struct rig *g, uint64_t n)
{
    uint64_t at = g->next;

    if (at + n > RIG_RAM)
        at = RIG_DATA;
    g->next = at + n;
    return at;
}

/* A part of a request: bytes, and its direction. */
struct part {
    uint64_t gpa;
    uint32_t len;
    bool write;
};

/* Links parts from descriptor `head` on, or in a table there, and puts the chain in the ring. */
static inline void rig_chain(struct rig *g, unsigned q, unsigned head, const struct part *p,
                             unsigned n)
{
    uint64_t table = g->ring[q].desc;
    unsigned first = head;

    if (g->indirect) {
        table = rig_room(g, 16UL * n);
        first = 0;
        ring_desc(&g->ring[q], head, (struct ring_desc){ table, 16 * n, D_INDIRECT, 0 });
    }
    for (unsigned i = 0; i < n; i++)
        desc_set(
            &g->mem, table, first + i,
            (struct ring_desc){ p[i].gpa, p[i].len,
                                (uint16_t)((p[i].write ? D_WRITE : 0) | (i + 1 < n ? D_NEXT : 0)),
                                (uint16_t)(first + i + 1) });
    ring_put(&g->ring[q], (uint16_t)head);
}

static inline void rig_kick(struct rig *g, unsigned q)
{
    ring_publish(&g->ring[q]);
    reg_write(&g->t, R_NOTIFY, q);
    rig_pump(g);
}

/* A request as drivers make them: its status is at `status`, its data at `data`. */
struct ask {
    uint64_t header, data, status;
};

static inline struct ask rig_put(struct rig *g, unsigned q, unsigned head, uint32_t type,
                                 uint64_t sector, const void *data, uint32_t n)
{
    struct ask a = { rig_room(g, 16), rig_room(g, n), rig_room(g, 1) };
    bool in = type == T_IN || type == T_GET_ID;
    uint8_t *h = ram(&g->mem, a.header, 16);
    struct part p[] = { { a.header, 16, false }, { a.data, n, in }, { a.status, 1, true } };

    memcpy(h, &type, 4);
    memset(h + 4, 0x5a, 4); /* reserved, or a priority of old */
    memcpy(h + 8, &sector, 8);
    if (n)
        memset(ram(&g->mem, a.data, n), 0xd7, n);
    if (data && n)
        memcpy(ram(&g->mem, a.data, n), data, n);
    *(uint8_t *)ram(&g->mem, a.status, 1) = 0xee;
    if (n == 0)
        p[1] = p[2];
    rig_chain(g, q, head, p, n ? 3 : 2);
    return a;
}

static inline uint8_t rig_status(struct rig *g, const struct ask *a)
{
    return *(uint8_t *)ram(&g->mem, a->status, 1);
}

/* Takes the next used entry of queue q, which is this one with this length. */
static inline void rig_used(struct rig *g, unsigned q, uint32_t head, uint32_t len)
{
    uint32_t id, n;

    if (!ring_take(&g->ring[q], &id, &n))
        fail_msg("request %u was not answered", head);
    assert_int_equal(id, head);
    assert_int_equal(n, len);
}

static inline void rig_nothing_used(struct rig *g, unsigned q)
{
    uint32_t id, n;

    assert_false(ring_take(&g->ring[q], &id, &n));
}

/* A whole request, done by now: its status. len: of its used entry. */
static inline uint8_t rig_do(struct rig *g, uint32_t type, uint64_t sector, void *data, uint32_t n,
                             uint32_t len)
{
    struct ask a = rig_put(g, 0, 0, type, sector, data, n);

    rig_kick(g, 0);
    rig_used(g, 0, 0, len);
    if (n && data && (type == T_IN || type == T_GET_ID))
        memcpy(data, ram(&g->mem, a.data, n), n);
    return rig_status(g, &a);
}

static inline struct blk_model rig_model(const struct rig *g)
{
    struct blk_model m = { .sectors = g->image.size / 512, .read_only = g->image.read_only };

    memcpy(&m.max_discard, g->dev->cfg + 36, 4);
    memcpy(&m.max_zeroes, g->dev->cfg + 48, 4);
    return m;
}

/* Nobody shall see the lines that broken drivers make; but they are made. */
static inline int rig_group_setup(void **state)
{
    log_init(open("/dev/null", O_WRONLY | O_CLOEXEC), LOG_DEBUG);
    return unit_watchdog(state);
}

#endif
