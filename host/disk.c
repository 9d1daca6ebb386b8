/* Requests become calls; see disk.h.
 *
 * disk_step() makes the next piece of a request until the engine keeps one in flight or the request
 * is done:
 *
 *   READ, WRITE     as far as base or private file reach (the overlay's map says), and as far as
 *                   the last call got
 *   DISCARD         one hole; a host that can't make one does nothing, which a discard allows
 *   ZERO            a hole or a range of zeros, or, where the host has neither, written zeros
 *
 * What must be on stable storage (a FLUSH; any change, for a guest that knows no flush) then joins
 * the next fdatasync. There is one at a time, for all that came before it began: Linux tells a
 * failure to one caller, and of several it would be any. What nobody will read again, an overlay,
 * needs none.
 *
 * A sector belongs to the private file once its data is there, not before: until then a read finds
 * what the sector held, and a write that failed changed nothing.
 *
 * After an fdatasync that failed Linux forgets which pages were not written, and the next one would
 * succeed. So once a flush has failed none succeeds: the guest was told that its data may be lost,
 * and is never told otherwise. A guest that knows no flush is told by each write itself: then those
 * fail that had begun when an fdatasync failed, and no others.
 */
#include "host/disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/num.h"
#include "host/uring.h"

#define TRIES_MAX 100 /* of a call that the kernel broke off */

/* What is written where the host can't make zeros otherwise; aligned for O_DIRECT. Never written
 * to; not const, for then it would be bytes of the binary. */
#define ZEROS (64 * KIB)
static uint8_t zeros[ZEROS] __attribute__((aligned(4096)));

/* --- the synchronous engine ----------------------------------------------------------------- */

static bool sync_start(struct disk *d, struct disk_io *io, int *res)
{
    int fd = d->fd[io->file];
    ssize_t n = -1;

    switch (io->op) {
    case IO_READ:
        n = preadv(fd, io->iov, (int)io->iov_n, (off_t)io->off);
        break;
    case IO_WRITE:
        n = pwritev(fd, io->iov, (int)io->iov_n, (off_t)io->off);
        break;
    case IO_SYNC:
        n = fdatasync(fd);
        break;
    case IO_PUNCH:
    case IO_ZERO:
        n = fallocate(fd, disk_fallocate_mode(io->op), (off_t)io->off, (off_t)io->len);
        break;
    }
    *res = n < 0 ? -errno : (int)n;
    return true;
}

static const struct disk_engine sync_engine = { .name = "sync", .start = sync_start };

int disk_fallocate_mode(enum io_op op)
{
    return FALLOC_FL_KEEP_SIZE | (op == IO_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
}

/* --- pieces --------------------------------------------------------------------------------- */

/* The first len bytes of the request's buffers as the piece's; the last of them may lose some,
 * which piece_moved gives back. */
static void piece_buffers(struct disk_req *r, uint64_t len)
{
    uint64_t have = 0;
    unsigned n = 0;

    while (have < len) {
        assert(n < r->iov_n);
        have += r->iov[n++].iov_len;
    }
    r->cut = (size_t)(have - len);
    if (n)
        r->iov[n - 1].iov_len -= r->cut;
    r->io.iov = r->iov;
    r->io.iov_n = n;
}

/* The piece's call moved n bytes: they are behind us. */
static void piece_moved(struct disk_req *r, uint64_t n)
{
    if (r->io.iov_n)
        r->iov[r->io.iov_n - 1].iov_len += r->cut;
    r->cut = 0;
    r->off += n;
    r->len -= n;
    while (n) {
        uint64_t k = min_u64(n, r->iov->iov_len);

        r->iov->iov_base = (uint8_t *)r->iov->iov_base + k;
        r->iov->iov_len -= k;
        n -= k;
        if (r->iov->iov_len == 0) {
            r->iov++;
            r->iov_n--;
        }
    }
}

static void piece_data(struct disk *d, struct disk_req *r)
{
    bool write = r->op == DISK_WRITE, mine = write && d->overlaid;
    uint64_t len = r->len;

    if (!write && d->overlaid)
        len = overlay_run(&d->overlay, r->off, len, &mine);
    r->io = (struct disk_io){ .op = write ? IO_WRITE : IO_READ,
                              .file = mine ? DISK_PRIVATE : DISK_BASE,
                              .off = r->off,
                              .len = len };
    piece_buffers(r, len);
}

static void piece_zeros(struct disk *d, struct disk_req *r)
{
    static const enum io_op ops[] = {
        [WAY_PUNCH] = IO_PUNCH, [WAY_ZERO] = IO_ZERO, [WAY_WRITE] = IO_WRITE
    };

    r->io = (struct disk_io){ .op = ops[r->way],
                              .file = d->overlaid ? DISK_PRIVATE : DISK_BASE,
                              .off = r->off,
                              .len = r->len };
    if (r->way != WAY_WRITE)
        return;
    r->io.len = min_u64(r->len, ZEROS);
    r->zero = (struct iovec){ zeros, (size_t)r->io.len };
    r->io.iov = &r->zero;
    r->io.iov_n = 1;
}

/* --- results -------------------------------------------------------------------------------- */

/* More calls, the next fdatasync, or done with r->result. */
enum step { STEP_MORE, STEP_SYNC, STEP_DONE };

static enum step step_end(struct disk_req *r, int result)
{
    r->result = result;
    return STEP_DONE;
}

/* All of a change is made. */
static enum step step_changed(const struct disk *d, struct disk_req *r)
{
    return r->stable && !d->overlaid ? STEP_SYNC : step_end(r, 0);
}

/* How much of what a call moved counts. One that stopped inside a block begins it again: direct I/O
 * takes whole ones, and so must the overlay's map, or the rest of one could not be read from the
 * base; without it both know sectors. */
static uint64_t moved(const struct disk *d, const struct disk_io *io, int res)
{
    uint64_t n = res > 0 ? (uint64_t)res : 0;

    assert(n <= io->len);
    if (n == io->len)
        return n;
    return align_down_u64(n, d->image.direct ? d->image.block : IMAGE_SECTOR);
}

static enum step step_data(struct disk *d, struct disk_req *r, int res)
{
    uint64_t off = r->off, n = moved(d, &r->io, res);

    piece_moved(r, n);
    if (res > 0 && n == 0 && r->tries++ < TRIES_MAX)
        return STEP_MORE;
    if (res < 0)
        return step_end(r, res);
    if (n == 0) /* the file ends here, though the disk does not */
        return step_end(r, -EIO);
    if (r->op == DISK_WRITE && d->overlaid)
        overlay_set(&d->overlay, off, n);
    if (r->len)
        return STEP_MORE;
    return r->op == DISK_READ ? step_end(r, 0) : step_changed(d, r);
}

/* The host can't do that to a file, however often it is asked. */
static bool unsupported(int res)
{
    return res == -EOPNOTSUPP || res == -ENOSYS || res == -ENODEV;
}

static enum step zeros_done(struct disk *d, struct disk_req *r, uint64_t n)
{
    if (d->overlaid)
        overlay_set(&d->overlay, r->off, n);
    r->off += n;
    r->len -= n;
    return r->len ? STEP_MORE : step_changed(d, r);
}

static enum step step_zeros(struct disk *d, struct disk_req *r, int res)
{
    switch (r->way) {
    case WAY_PUNCH:
        if (!unsupported(res))
            break;
        d->no_punch = true;
        if (r->op == DISK_DISCARD)
            return step_end(r, 0);
        r->way = d->no_zero ? WAY_WRITE : WAY_ZERO;
        return STEP_MORE;
    case WAY_ZERO:
        if (!unsupported(res))
            break;
        d->no_zero = true;
        r->way = WAY_WRITE;
        return STEP_MORE;
    case WAY_WRITE:
        if (res > 0 && moved(d, &r->io, res))
            return zeros_done(d, r, moved(d, &r->io, res));
        if (res > 0 && r->tries++ < TRIES_MAX)
            return STEP_MORE;
        return step_end(r, res < 0 ? res : -EIO);
    }
    return res < 0 ? step_end(r, res) : zeros_done(d, r, r->len);
}

/* Whether the kernel broke the call off, and it is to be made again. */
static bool broken_off(struct disk_req *r, int res)
{
    return (res == -EINTR || res == -EAGAIN) && r->tries++ < TRIES_MAX;
}

/* What a piece's call returned. */
static enum step step_result(struct disk *d, struct disk_req *r, int res)
{
    if (broken_off(r, res)) {
        if (r->op <= DISK_WRITE)
            piece_moved(r, 0);
        return STEP_MORE;
    }
    return r->op <= DISK_WRITE ? step_data(d, r, res) : step_zeros(d, r, res);
}

/* --- requests ------------------------------------------------------------------------------- */

static void disk_end(struct disk *d, struct disk_req *r)
{
    d->in_flight--;
    d->done(d->arg, r);
}

/* The fdatasync ended that stood for all in d->syncing. */
static void sync_end(struct disk *d, int res)
{
    struct disk_req *r = d->syncing, *next;

    d->syncing = NULL;
    d->sync_failures += res < 0;
    d->flush_failed |= res < 0; /* a flush's or not: it may have lost what one answers for */
    for (; r; r = next) {
        bool lost = r->op == DISK_FLUSH ? d->flush_failed : r->failures != d->sync_failures;

        next = r->next;
        r->result = res < 0 ? res : lost ? -EIO : 0;
        disk_end(d, r);
    }
}

/* Begins the next fdatasync, for all that wait for one, unless one is under way. */
static void sync_begin(struct disk *d)
{
    int res;

    while (d->to_sync && !d->syncing) {
        d->syncing = d->to_sync;
        d->to_sync = NULL;
        do {
            d->syncing->io = (struct disk_io){ .op = IO_SYNC, .file = DISK_BASE };
            if (!d->engine->start(d, &d->syncing->io, &res))
                return;
        } while (broken_off(d->syncing, res));
        sync_end(d, res);
    }
}

static void sync_join(struct disk *d, struct disk_req *r)
{
    r->tries = 0;
    r->next = d->to_sync;
    d->to_sync = r;
    sync_begin(d);
}

/* Goes on with r, whose last step was this, until a call is in flight or it is done. */
static void disk_go(struct disk *d, struct disk_req *r, enum step step)
{
    int res;

    while (step == STEP_MORE) {
        if (r->op <= DISK_WRITE)
            piece_data(d, r);
        else
            piece_zeros(d, r);
        if (!d->engine->start(d, &r->io, &res))
            return;
        step = step_result(d, r, res);
    }
    if (step == STEP_SYNC)
        sync_join(d, r);
    else
        disk_end(d, r);
}

/* The first step, which may be the last. */
static enum step disk_first(const struct disk *d, struct disk_req *r)
{
    bool changes = r->op != DISK_READ && r->op != DISK_FLUSH;

    if (changes && d->image.read_only)
        return step_end(r, -EROFS);
    if (r->op == DISK_FLUSH) {
        if (d->flush_failed)
            return step_end(r, -EIO);
        return d->overlaid || d->image.read_only ? step_end(r, 0) : STEP_SYNC;
    }
    if (r->len == 0 || (r->op == DISK_DISCARD && d->no_punch))
        return step_end(r, 0);
    return STEP_MORE;
}

static enum disk_way first_way(const struct disk *d, const struct disk_req *r)
{
    /* In the private file a hole is as good as zeros, and takes no room. */
    bool punch = r->op == DISK_DISCARD || ((r->unmap || d->overlaid) && !d->no_punch);

    return punch ? WAY_PUNCH : d->no_zero ? WAY_WRITE : WAY_ZERO;
}

void disk_submit(struct disk *d, struct disk_req *r)
{
    assert(r->op == DISK_FLUSH || range_within(r->off, r->len, d->image.size));
    r->tries = 0;
    r->cut = 0;
    r->failures = d->sync_failures;
    r->way = first_way(d, r);
    d->in_flight++;
    disk_go(d, r, disk_first(d, r));
}

void disk_io_done(struct disk *d, struct disk_io *io, int res)
{
    struct disk_req *r = CONTAINER_OF(io, struct disk_req, io);

    if (io->op != IO_SYNC) {
        disk_go(d, r, step_result(d, r, res));
    } else if (broken_off(r, res)) {
        /* The group waits for another try, with who came meanwhile. */
        while (r->next)
            r = r->next;
        r->next = d->to_sync;
        d->to_sync = d->syncing;
        d->syncing = NULL;
        sync_begin(d);
    } else {
        sync_end(d, res);
        sync_begin(d);
    }
}

void disk_drain(struct disk *d)
{
    if (d->engine->drain)
        d->engine->drain(d);
    assert(d->in_flight == 0);
}

/* --- opening -------------------------------------------------------------------------------- */

void disk_init(struct disk *d, const struct image *im, const struct disk_engine *engine, void *data)
{
    *d = (struct disk){ .image = *im,
                        .fd = { [DISK_BASE] = im->fd, [DISK_PRIVATE] = -1 },
                        .engine = engine,
                        .engine_data = data };
}

static int open_overlay(struct disk *d, const char *dir, struct err *e)
{
    int ret = overlay_init(&d->overlay, d->image.size, e);

    if (ret)
        return ret;
    d->overlaid = true;
    ret = image_private(dir, d->image.size, e);
    if (ret < 0)
        return ret;
    d->fd[DISK_PRIVATE] = ret;
    return 0;
}

static int open_engine(struct disk *d, const struct disk_opts *o, struct loop *loop, struct err *e)
{
    if (o->engine == DISK_ENGINE_SYNC)
        return 0;
    int ret = uring_open(d, o->depth, loop, e);

    if (ret == 0 || o->engine == DISK_ENGINE_URING)
        return ret;
    log_warn("disk %s: one request at a time, by system calls: %s", o->path, e->msg);
    return 0;
}

struct disk *disk_open(const struct disk_opts *o, struct loop *loop, struct err *e)
{
    struct disk *d = calloc(1, sizeof *d);
    struct image im;

    if (!d) {
        err_set(e, ENOMEM, "disk %s: out of memory: free some", o->path);
        return NULL;
    }
    /* The base of an overlay is read by any number of machines, and written by none. */
    int ret = image_open(&im, o->path, o->read_only || o->overlay, o->direct, e);

    if (ret) {
        free(d);
        return NULL;
    }
    disk_init(d, &im, &sync_engine, NULL);
    d->image.read_only = o->read_only;
    if (o->overlay)
        ret = open_overlay(d, o->overlay_dir, e);
    if (ret == 0)
        ret = open_engine(d, o, loop, e);
    if (ret) {
        disk_free(d);
        return NULL;
    }
    return d;
}

void disk_free(struct disk *d)
{
    if (d->engine->free)
        d->engine->free(d);
    if (d->fd[DISK_PRIVATE] >= 0)
        close(d->fd[DISK_PRIVATE]);
    if (d->overlaid)
        overlay_fini(&d->overlay);
    image_close(&d->image);
    free(d);
}
