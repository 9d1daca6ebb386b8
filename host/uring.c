/* The io_uring engine (io_uring(7)); see uring.h and disk.h.
 *
 * The device's loop waits in the ring instead of epoll. What wakes it are completions, and these
 * stand in the ring all the time:
 *
 *   a read of each eventfd that the device listens to (the guest's kicks), so that a kick costs no
 *   system call of its own;
 *   a poll of the loop's epoll descriptor, for everything else (the loop's door, timers).
 *
 * Calls are put into the submission ring as requests come and reach the kernel with the next wait,
 * all in one system call, which also signals the guest's interrupt for what was completed before.
 * A round is: wait; tell of all completions; batch(), in which the device publishes them and takes
 * new requests; again.
 *
 * What a ring does, the seccomp filter of its thread does not see. So the ring is restricted before
 * it can be used, and can't be changed after: only the operations below, only on the files that
 * were registered. The thread that enables it is the only one that may use it from then on.
 */
#include "host/uring.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/num.h"

/* Files by their place in the ring. */
enum { FILE_DISK, FILE_EPOLL = FILE_DISK + DISK_FILES, FILE_SIGNAL, FILE_LISTEN };

#define LISTEN_MAX 64
#define FILES_MAX  (FILE_LISTEN + LISTEN_MAX)
#define RING_MAX   32768 /* the kernel's */

static const uint8_t operations[] = {
    IORING_OP_READV, IORING_OP_WRITEV,    IORING_OP_READ,     IORING_OP_WRITE,
    IORING_OP_FSYNC, IORING_OP_FALLOCATE, IORING_OP_POLL_ADD,
};

struct listener {
    uint64_t count; /* what the read gives */
    void (*fn)(void *arg, unsigned i);
    void *arg;
    unsigned i;
    bool heard; /* signalled while a drain was at work */
};

struct uring {
    struct io_uring ring;
    struct disk *disk;
    struct loop *loop;
    int fd[FILES_MAX]; /* of the places above; -1: none */
    unsigned n_listen;
    struct listener listener[LISTEN_MAX];
    unsigned calls; /* in flight */
    bool draining;
    bool epoll_ready;
    enum { SIGNAL_NONE, SIGNAL_ON_ITS_WAY, SIGNAL_AGAIN } signal;
};

static const uint64_t one = 1;

/* --- submitting ----------------------------------------------------------------------------- */

/* An entry of the submission ring, which has room for all that can be in flight at once. */
static struct io_uring_sqe *next_entry(struct uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

    if (!sqe)
        abort();
    return sqe;
}

static void finish_entry(struct io_uring_sqe *sqe, void *data)
{
    io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
    io_uring_sqe_set_data(sqe, data);
}

static void stand_by(struct uring *u, struct listener *l)
{
    struct io_uring_sqe *sqe = next_entry(u);

    io_uring_prep_read(sqe, FILE_LISTEN + (int)(l - u->listener), &l->count, sizeof l->count, 0);
    finish_entry(sqe, l);
}

static void poll_epoll(struct uring *u)
{
    struct io_uring_sqe *sqe = next_entry(u);

    io_uring_prep_poll_add(sqe, FILE_EPOLL, POLLIN);
    finish_entry(sqe, &u->epoll_ready);
}

static void uring_signal(struct disk *d)
{
    struct uring *u = d->engine_data;

    if (u->signal != SIGNAL_NONE) {
        u->signal = SIGNAL_AGAIN;
        return;
    }
    struct io_uring_sqe *sqe = next_entry(u);

    io_uring_prep_write(sqe, FILE_SIGNAL, &one, sizeof one, 0);
    finish_entry(sqe, &u->signal);
    u->signal = SIGNAL_ON_ITS_WAY;
}

static bool uring_start(struct disk *d, struct disk_io *io, int *res)
{
    struct uring *u = d->engine_data;
    struct io_uring_sqe *sqe = next_entry(u);
    int file = FILE_DISK + (int)io->file;

    (void)res;
    switch (io->op) {
    case IO_READ:
        if (io->iov_n == 1)
            io_uring_prep_read(sqe, file, io->iov->iov_base, (unsigned)io->iov->iov_len, io->off);
        else
            io_uring_prep_readv(sqe, file, io->iov, io->iov_n, io->off);
        break;
    case IO_WRITE:
        if (io->iov_n == 1)
            io_uring_prep_write(sqe, file, io->iov->iov_base, (unsigned)io->iov->iov_len, io->off);
        else
            io_uring_prep_writev(sqe, file, io->iov, io->iov_n, io->off);
        break;
    case IO_SYNC:
        io_uring_prep_fsync(sqe, file, IORING_FSYNC_DATASYNC);
        break;
    case IO_PUNCH:
    case IO_ZERO:
        io_uring_prep_fallocate(sqe, file, disk_fallocate_mode(io->op), (off_t)io->off,
                                (off_t)io->len);
        break;
    }
    finish_entry(sqe, io);
    u->calls++;
    return false;
}

/* --- waiting -------------------------------------------------------------------------------- */

static void on_listen(struct uring *u, struct listener *l, int res)
{
    /* It fails for nothing but our own end; then nobody is kicked any more. */
    if (res == sizeof l->count || res == -EINTR || res == -EAGAIN)
        stand_by(u, l);
    if (u->draining)
        l->heard = true;
    else
        l->fn(l->arg, l->i);
}

static void on_signalled(struct uring *u)
{
    bool again = u->signal == SIGNAL_AGAIN;

    u->signal = SIGNAL_NONE;
    if (again)
        uring_signal(u->disk);
}

/* Tells of one completion; whether it was a call's. */
static bool on_completion(struct uring *u, void *data, int res)
{
    if (data == &u->epoll_ready) {
        u->epoll_ready = true;
    } else if (data == &u->signal) {
        on_signalled(u);
    } else if ((char *)data >= (char *)u->listener &&
               (char *)data < (char *)(u->listener + LISTEN_MAX)) {
        on_listen(u, data, res);
    } else {
        u->calls--;
        disk_io_done(u->disk, data, res);
        return true;
    }
    return false;
}

/* Submits what there is, waits for a completion where told to, and tells of all there are; whether
 * calls were among them. */
static bool uring_round(struct uring *u, bool sleep)
{
    struct io_uring_cqe *cqe;
    bool any = false;

    if (io_uring_cq_ready(&u->ring))
        sleep = false;
    int ret = sleep ? io_uring_submit_and_wait(&u->ring, 1)
                    : io_uring_submit_and_get_events(&u->ring);

    if (ret < 0 && ret != -EINTR && ret != -EAGAIN && ret != -EBUSY)
        abort(); /* the ring is ours alone, and sound */
    while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
        void *data = io_uring_cqe_get_data(cqe);
        int res = cqe->res;

        /* First, so that an entry it makes room for can't be the one read. */
        io_uring_cqe_seen(&u->ring, cqe);
        any |= on_completion(u, data, res);
    }
    return any;
}

static bool uring_wait(void *arg, bool sleep)
{
    struct uring *u = arg;

    if (u->epoll_ready) { /* the loop has served it */
        u->epoll_ready = false;
        poll_epoll(u);
    }
    for (unsigned i = 0; i < u->n_listen; i++)
        if (u->listener[i].heard) {
            u->listener[i].heard = false;
            u->listener[i].fn(u->listener[i].arg, u->listener[i].i);
            sleep = false;
        }
    if (uring_round(u, sleep))
        u->disk->batch(u->disk->arg);
    return u->epoll_ready;
}

static void uring_drain(struct disk *d)
{
    struct uring *u = d->engine_data;

    u->draining = true;
    while (u->calls || u->signal != SIGNAL_NONE)
        uring_round(u, true);
    u->draining = false;
}

/* --- opening -------------------------------------------------------------------------------- */

static int uring_listen(struct disk *d, int fd, void (*fn)(void *arg, unsigned i), void *arg,
                        unsigned i)
{
    struct uring *u = d->engine_data;

    if (u->n_listen == LISTEN_MAX)
        return -ENOSPC;
    u->fd[FILE_LISTEN + u->n_listen] = fd;
    u->listener[u->n_listen++] = (struct listener){ .fn = fn, .arg = arg, .i = i };
    return 0;
}

static int uring_reach(struct disk *d, int fd)
{
    struct uring *u = d->engine_data;

    u->fd[FILE_SIGNAL] = fd;
    return 0;
}

/* Files and restrictions, for good, and on with it. */
static int uring_enter(struct disk *d)
{
    struct uring *u = d->engine_data;
    struct io_uring_restriction res[ARRAY_LEN(operations) + 2] = { 0 };
    unsigned n = 0;

    for (; n < ARRAY_LEN(operations); n++)
        res[n] = (struct io_uring_restriction){ .opcode = IORING_RESTRICTION_SQE_OP,
                                                .sqe_op = operations[n] };
    res[n++] = (struct io_uring_restriction){ .opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED,
                                              .sqe_flags = IOSQE_FIXED_FILE };
    res[n++] = (struct io_uring_restriction){ .opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED,
                                              .sqe_flags = IOSQE_FIXED_FILE };
    int ret = io_uring_register_files(&u->ring, u->fd, FILE_LISTEN + u->n_listen);

    if (ret == 0)
        ret = io_uring_register_restrictions(&u->ring, res, n);
    if (ret == 0)
        ret = io_uring_enable_rings(&u->ring);
    if (ret)
        return ret;
    poll_epoll(u);
    for (unsigned i = 0; i < u->n_listen; i++)
        stand_by(u, &u->listener[i]);
    return 0;
}

static void uring_free(struct disk *d)
{
    struct uring *u = d->engine_data;

    loop_wait_by(u->loop, NULL, NULL);
    io_uring_queue_exit(&u->ring);
    free(u);
}

static const struct disk_engine uring_engine = {
    .name = "uring",
    .start = uring_start,
    .drain = uring_drain,
    .enter = uring_enter,
    .listen = uring_listen,
    .reach = uring_reach,
    .signal = uring_signal,
    .free = uring_free,
};

/* The ring, disabled until it is restricted; the newest way that this host knows. */
static int uring_setup(struct io_uring *ring, unsigned entries)
{
    static const unsigned ways[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, /* Linux 6.1 */
        IORING_SETUP_COOP_TASKRUN,                               /* 5.19 */
        0,
    };
    int ret = -EINVAL;

    for (size_t i = 0; ret == -EINVAL && i < ARRAY_LEN(ways); i++)
        ret = io_uring_queue_init(entries, ring, IORING_SETUP_R_DISABLED | ways[i]);
    return ret;
}

int uring_open(struct disk *d, unsigned depth, struct loop *loop, struct err *e)
{
    struct uring *u = calloc(1, sizeof *u);
    unsigned entries = 1;

    if (!u)
        return err_set(e, ENOMEM, "io_uring: out of memory: free some");
    *u = (struct uring){ .disk = d, .loop = loop };
    for (size_t i = 0; i < ARRAY_LEN(u->fd); i++)
        u->fd[i] = -1;
    memcpy(u->fd + FILE_DISK, d->fd, sizeof d->fd);
    u->fd[FILE_EPOLL] = loop->epfd;
    while (entries < depth + LISTEN_MAX + 2 && entries < RING_MAX)
        entries *= 2;
    int ret = uring_setup(&u->ring, entries);

    if (ret) {
        free(u);
        return err_set(e, -ret, "io_uring: %s: %s", strerror(-ret),
                       err_remedy(-ret, "have the host allow it (sysctl kernel.io_uring_disabled, "
                                        "the container's seccomp profile), or say io=sync"));
    }
    d->engine = &uring_engine;
    d->engine_data = u;
    loop_wait_by(loop, uring_wait, u);
    return 0;
}
