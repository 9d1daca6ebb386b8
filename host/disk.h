/* A guest's disk on the host: requests on a raw image, with an overlay or without, carried out by
 * an engine.
 *
 *   virtio/blk.c ──disk_req──► disk.c ──disk_io──► engine ──► image, or the overlay's private file
 *
 * A request of the guest's becomes one or more pieces, each of them one call on one file: a part of
 * it lies in the base image and a part in the overlay, a call moves fewer bytes than it was asked
 * for, a host can't punch holes and zeros are written instead. The engine knows nothing of that: it
 * makes one call at a time for a request, now (struct disk_engine of disk.c: plain system calls) or
 * later (host/uring.c).
 *
 * Everything here runs on the device's loop, but for disk_open and disk_free.
 */
#ifndef MAYFLY_HOST_DISK_H
#define MAYFLY_HOST_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/err.h"
#include "core/log.h"
#include "core/loop.h"
#include "host/image.h"
#include "host/overlay.h"

enum disk_op { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_DISCARD, DISK_ZERO };

/* --- what an engine does -------------------------------------------------------------------- */

enum io_op {
    IO_READ,  /* preadv */
    IO_WRITE, /* pwritev */
    IO_SYNC,  /* fdatasync */
    IO_PUNCH, /* fallocate: the range reads as zeros and takes no room */
    IO_ZERO,  /* fallocate: the range reads as zeros and keeps its room */
};

enum disk_file { DISK_BASE, DISK_PRIVATE, DISK_FILES };

/* One call. */
struct disk_io {
    enum io_op op;
    enum disk_file file;
    uint64_t off, len;
    const struct iovec *iov; /* IO_READ, IO_WRITE: len bytes in all */
    unsigned iov_n;
};

struct disk;

struct disk_engine {
    const char *name;
    /* Makes the call. true: it is made, *res is what the kernel returned (bytes, 0 or -errno).
     * false: disk_io_done() will be called, later, from the engine's wait or drain. */
    bool (*start)(struct disk *d, struct disk_io *io, int *res);
    /* Returns when every call begun has ended and was told of, and nothing else was. NULL: none is
     * ever in flight. */
    void (*drain)(struct disk *d);
    /* On the loop's thread before its filter: 0 or -errno. NULL: nothing to do. */
    int (*enter)(struct disk *d);
    /* Reads the eventfd fd whenever it is signalled and calls fn(arg, i). 0 or -errno. Before the
     * loop's thread runs; the engine closes nothing. NULL: it can't, and the loop has to. */
    int (*listen)(struct disk *d, int fd, void (*fn)(void *arg, unsigned i), void *arg, unsigned i);
    /* From then on signal() signals this eventfd, with the next calls. As listen. */
    int (*reach)(struct disk *d, int fd);
    void (*signal)(struct disk *d);
    void (*free)(struct disk *d);
};

/* --- requests --------------------------------------------------------------------------------- */

struct disk_req {
    enum disk_op op;
    bool stable;       /* on stable storage when it is done (a guest without a flush) */
    bool unmap;        /* DISK_ZERO: the range need not keep its room */
    uint64_t off, len; /* bytes; multiples of IMAGE_SECTOR, inside the disk */
    struct iovec *iov; /* READ, WRITE: len bytes in all; the disk's to change until it is done */
    unsigned iov_n;
    int result; /* when done: 0 or -errno */
    /* The disk's own: the piece at hand. */
    struct disk_io io;
    struct iovec zero; /* of a piece of zeros */
    size_t cut;        /* what the last iovec of the piece has lost, to be given back */
    unsigned tries;
    enum disk_way { WAY_PUNCH, WAY_ZERO, WAY_WRITE } way; /* DISCARD, ZERO */
    struct disk_req *next;                                /* with whom it shares an fdatasync */
    unsigned failures;                                    /* of fdatasync, when it began */
};

/* In which way requests are carried out. */
enum disk_engine_choice { DISK_ENGINE_AUTO, DISK_ENGINE_URING, DISK_ENGINE_SYNC };

struct disk_opts {
    const char *path;
    bool read_only, direct;
    bool overlay;
    const char *overlay_dir; /* NULL: where temporary files go */
    enum disk_engine_choice engine;
    unsigned depth; /* requests at once, at most */
};

struct disk {
    struct image image;
    int fd[DISK_FILES]; /* the image's again, and the private file's or -1 */
    struct overlay overlay;
    bool overlaid;
    bool flush_failed;      /* data that was acknowledged may be lost: no flush succeeds any more */
    bool no_punch, no_zero; /* the host can't: not tried again */
    unsigned in_flight;
    struct disk_req *syncing, *to_sync; /* whom the fdatasync under way is for, and the next */
    unsigned sync_failures;
    const struct disk_engine *engine;
    void *engine_data;
    /* The device's. done: r->result is set; the request is the device's again. batch: some were
     * done by the engine, and no more are just now. */
    void (*done)(void *arg, struct disk_req *r);
    void (*batch)(void *arg);
    void *arg;
};

/* Opens image, overlay and engine. NULL with *e. Main thread. */
struct disk *disk_open(const struct disk_opts *o, struct loop *loop, struct err *e);
void disk_free(struct disk *d);

/* A disk on an image that is open already (the disk closes it) and an engine of the caller's. */
void disk_init(struct disk *d, const struct image *im, const struct disk_engine *engine,
               void *data);

/* Carries out r. d->done() is called now or later. */
void disk_submit(struct disk *d, struct disk_req *r);

/* Returns when no request is in flight. */
void disk_drain(struct disk *d);

/* For engines: the call io ended with res; and the mode of an IO_PUNCH or IO_ZERO. */
void disk_io_done(struct disk *d, struct disk_io *io, int res);
int disk_fallocate_mode(enum io_op op);

#endif
