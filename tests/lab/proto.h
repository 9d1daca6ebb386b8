/*
 * proto.h: what the lab's relay (on the host) and its agent (init of the
 * emulated machine) say to each other over one virtio-serial port.
 *
 * Theory of operation.  The port is a byte stream; on it go frames: a header
 * of eight bytes and a payload.  Both ends are x86-64 and built from this
 * file, so numbers are in native order.  A conversation:
 *
 *   relay   START                      what to run, at once (it waits in QEMU)
 *   agent   READY                      the command is about to be executed
 *   both    DATA, ACK, EOF, SHUT       streams 0, 1, 2: stdin, stdout, stderr
 *   relay   WINCH, PING; agent PONG
 *   agent   EXIT                       last frame: wait status as a shell has it
 *
 * Each stream has a window: its sender has at most WINDOW bytes on the way
 * that the far end has not yet written to the descriptor they are meant for.
 * So a full pipe stops its own stream and neither its neighbours nor control
 * frames, and no buffer grows.
 *
 * The two ends of a stream are the same code on both sides: a `source` reads a
 * descriptor and sends, a `sink` receives and writes a descriptor.
 */
#ifndef LAB_PROTO_H
#define LAB_PROTO_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum frame_type {
    F_START = 1, /* struct start, then strings */
    F_READY,
    F_DATA,  /* bytes of a stream */
    F_ACK,   /* uint32_t: so many bytes of the stream were written */
    F_EOF,   /* the stream's sender has no more */
    F_SHUT,  /* the stream's receiver is gone (EPIPE) */
    F_WINCH, /* struct winsz */
    F_PING,
    F_PONG,
    F_EXIT, /* uint32_t: 0..255 */
};

struct frame {
    uint8_t type, stream;
    uint16_t zero;
    uint32_t len;
};

struct winsz {
    uint16_t rows, cols;
};

/* START's payload: this, then NUL-terminated strings: the working directory,
 * the build directory, argc arguments, envc environment entries. */
struct start {
    int64_t sec; /* host's CLOCK_REALTIME */
    uint32_t nsec;
    uint32_t tty; /* bit n: descriptor n of the command is the terminal */
    struct winsz winsz;
    uint32_t argc, envc;
};

enum {
    FRAME_MAX = 8 << 20,  /* START holds an environment; all others are small */
    WINDOW = 256 << 10,   /* bytes of one stream on the way */
    CHUNK = 32 << 10,     /* most bytes in one DATA frame */
    OUT_ENOUGH = 64 << 10 /* sources rest while so much waits to be sent */
};

/* A queue of bytes; grows as needed, aborts when memory is out. */
struct fifo {
    uint8_t *p;
    size_t cap, head, len;
};

static inline uint8_t *fifo_room(struct fifo *f, size_t n)
{
    if (f->head + f->len + n > f->cap) {
        if (f->len)
            memmove(f->p, f->p + f->head, f->len);
        f->head = 0;
        if (f->len + n > f->cap) {
            f->cap = (f->len + n) * 2;
            f->p = realloc(f->p, f->cap);
            if (!f->p)
                abort();
        }
    }
    return f->p + f->head + f->len;
}

static inline void fifo_put(struct fifo *f, const void *p, size_t n)
{
    if (n)
        memcpy(fifo_room(f, n), p, n);
    f->len += n;
}

static inline void fifo_drop(struct fifo *f, size_t n)
{
    f->len -= n;
    f->head = f->len ? f->head + n : 0;
}

/* The port's end, non-blocking. */
struct link {
    int fd;
    struct fifo in, out;
};

static inline void link_send(struct link *l, enum frame_type type, int stream, const void *p,
                             size_t n)
{
    struct frame h = { .type = (uint8_t)type, .stream = (uint8_t)stream, .len = (uint32_t)n };
    fifo_put(&l->out, &h, sizeof h);
    fifo_put(&l->out, p, n);
}

/* Sends what can be sent now. 0, or -errno when the port is broken. */
static inline int link_flush(struct link *l)
{
    while (l->out.len) {
        ssize_t n = write(l->fd, l->out.p + l->out.head, l->out.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        fifo_drop(&l->out, (size_t)n);
    }
    return 0;
}

/* Receives what there is. 1: something came, 0: nothing now, -EPIPE: the far
 * end closed, other -errno. */
static inline int link_fill(struct link *l)
{
    ssize_t n = read(l->fd, fifo_room(&l->in, CHUNK), CHUNK);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (!n)
        return -EPIPE;
    l->in.len += (size_t)n;
    return 1;
}

/* Takes the next whole frame; its payload stays valid until the next
 * link_fill. 1 | 0 none yet | -EPROTO. */
static inline int link_next(struct link *l, struct frame *h, const uint8_t **p)
{
    if (l->in.len < sizeof *h)
        return 0;
    memcpy(h, l->in.p + l->in.head, sizeof *h);
    if (h->zero || h->stream > 2 || h->len > FRAME_MAX)
        return -EPROTO;
    if (l->in.len < sizeof *h + h->len)
        return 0;
    *p = l->in.p + l->in.head + sizeof *h;
    fifo_drop(&l->in, sizeof *h + h->len);
    return 1;
}

/* Reads fd, sends DATA. fd is -1 when there is nothing to read any more. */
struct source {
    int fd, stream;
    size_t unacked;
    bool ended; /* EOF was sent */
};

static inline bool source_wants(const struct source *s, const struct link *l)
{
    return s->fd >= 0 && s->unacked < WINDOW && l->out.len < OUT_ENOUGH;
}

static inline void source_end(struct source *s, struct link *l)
{
    if (!s->ended)
        link_send(l, F_EOF, s->stream, NULL, 0);
    s->ended = true;
    s->fd = -1;
}

/* One read. True when bytes were read; end of file, and any error as a pty's
 * EIO, ends the source. The caller owns the descriptor and closes it. */
static inline bool source_pump(struct source *s, struct link *l)
{
    uint8_t buf[CHUNK];
    size_t want = WINDOW - s->unacked < CHUNK ? WINDOW - s->unacked : CHUNK;
    ssize_t n = read(s->fd, buf, want);
    if (n > 0) {
        link_send(l, F_DATA, s->stream, buf, (size_t)n);
        s->unacked += (size_t)n;
        return true;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        source_end(s, l);
    return false;
}

/* Receives DATA, writes fd, in pieces of at most `most` bytes. fd is -1 when
 * nobody takes the bytes any more: they are acknowledged and dropped. */
struct sink {
    int fd, stream;
    size_t most;
    struct fifo q;
    uint32_t done; /* written, not yet acknowledged */
    bool eof;      /* the far source ended: close fd once q is empty */
};

static inline bool sink_wants(const struct sink *s)
{
    return s->fd >= 0 && s->q.len > 0;
}

static inline void sink_ack(struct sink *s, struct link *l, size_t n)
{
    s->done += (uint32_t)n;
    if (s->done >= WINDOW / 8 || (s->done && !s->q.len)) {
        link_send(l, F_ACK, s->stream, &s->done, sizeof s->done);
        s->done = 0;
    }
}

/* The reader is gone: tell the far end, drop what waits. */
static inline void sink_shut(struct sink *s, struct link *l)
{
    size_t n = s->q.len;
    fifo_drop(&s->q, n);
    sink_ack(s, l, n);
    link_send(l, F_SHUT, s->stream, NULL, 0);
    s->fd = -1;
}

/* One write. False when the descriptor just broke: the caller closes it. */
static inline bool sink_pump(struct sink *s, struct link *l)
{
    size_t want = s->q.len < s->most ? s->q.len : s->most;
    ssize_t n = write(s->fd, s->q.p + s->q.head, want);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n < 0) {
        sink_shut(s, l);
        return false;
    }
    fifo_drop(&s->q, (size_t)n);
    sink_ack(s, l, (size_t)n);
    return true;
}

/* DATA arrived. 0 | -EPROTO when it exceeds the window. */
static inline int sink_take(struct sink *s, struct link *l, const uint8_t *p, size_t n)
{
    if (s->fd < 0) {
        sink_ack(s, l, n);
        return 0;
    }
    if (s->q.len + n > WINDOW)
        return -EPROTO;
    fifo_put(&s->q, p, n);
    return 0;
}

#endif
