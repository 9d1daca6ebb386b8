/* virtio-console (virtio 1.2, section 5.3); see console.h.
 *
 * Output. Linux's driver spins with interrupts off until a transmit is complete, so a transmit is
 * completed at once, whatever the reader does: its bytes go into a bounded ring (host/outring.h)
 * and from there to the reader as it takes them.
 *
 * Input. Bytes are read into a small buffer and move to the guest as it offers buffers; while the
 * small buffer is full nothing is read, so the sender waits and no byte is lost. A terminal is
 * read ahead a little even while the guest takes nothing, so that Ctrl-] works on a hung guest. The
 * end of a pipe becomes one Ctrl-D.
 *
 * Knocking. Linux offers its receive buffers well before it listens: until its port is registered,
 * and in between lies the printing of the whole kernel log, it throws away what it is given, and a
 * new size too; nothing tells us when it is ready. But of a buffer given back empty we learn:
 * thrown away, it is taken and never comes back; with the port there but not opened, it is taken
 * and the next one is not; with somebody reading, it comes back at once. So we knock with empty
 * buffers, the next one only when the last was taken, with growing pauses, and hold input until one
 * came back and none is left before it (Linux's tty layer stops reading at an empty one until the
 * next interrupt). That a buffer came back is told from the driver's first offers by having seen
 * the ring full. A driver that does not fill the ring, or has no EVENT_IDX, is no Linux: it gets
 * its input as is.
 */
#include "virtio/console.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "core/num.h"
#include "host/outring.h"
#include "host/term.h"

enum { QUEUE_RX, QUEUE_TX, QUEUE_COUNT }; /* 5.3.2, as the driver counts from its own side */

#define CONSOLE_QMAX  64
#define CONSOLE_BURST 64 /* chains a kick */
#define CTRL_D        0x04

#define F_SIZE        (UINT64_C(1) << 0)
#define F_EMERG_WRITE (UINT64_C(1) << 2)

struct console_config { /* 5.3.4 */
    uint16_t cols, rows;
    uint32_t max_nr_ports, emerg_wr;
};

struct console {
    struct virtio_dev dev;
    struct console_opts opts;
    struct watch in, out;
    struct escape escape;
    _Atomic bool used;
    struct outring output;
    bool gone;                   /* nobody takes what is written */
    struct log_limit host_limit; /* apart from what the guest can provoke */
    /* Input: in_buf[in_off .. in_len). */
    uint8_t in_buf[4096];
    size_t in_off, in_len;
    enum listening { HOLD, KNOCKING, OPEN } state;
    unsigned knocks, pause; /* pause: ms to the next, taken or not */
    struct watch timer;     /* for the next knock; its fd is a timerfd */
    bool timer_set;
    struct iovec iov[CONSOLE_QMAX];
};

/* In a second of printing Linux throws away 8 of its 64 buffers, and KNOCK_MAX at the most. That is
 * after some ten seconds; then input is given unasked, and a guest that prints its log for longer
 * loses it. */
#define KNOCK_MAX      16
#define KNOCK_FIRST_MS 10
#define KNOCK_LAST_MS  1000
/* A driver that offers buffers and transmits nothing for so long is judged by what it offered. */
#define HOLD_MS 1000

static struct console *console_of(struct virtio_dev *d)
{
    return CONTAINER_OF(d, struct console, dev);
}

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* --- output ------------------------------------------------------------------------------- */

/* Writes what the reader takes: 0, -EAGAIN when it is slow, another -errno when it is gone. */
static int out_flush(struct console *c)
{
    bool any = outring_owed(&c->output) > 0;
    int ret = outring_flush(&c->output, c->opts.stream->out);
    uint32_t dropped;

    if (ret == -EAGAIN || !any)
        return ret;
    if (ret && !c->gone && log_allow(&c->host_limit, &dropped))
        log_warn("console: output can't be written: %s; it is discarded", strerror(-ret));
    c->gone = ret != 0;
    return ret;
}

static void out_pump(struct console *c)
{
    int ret = out_flush(c);

    loop_mod(c->dev.loop, &c->out, ret == -EAGAIN ? EPOLLOUT : 0);
}

static void console_on_out(struct watch *w, uint32_t revents)
{
    struct console *c = w->arg;

    (void)revents; /* a reader that went away shows when it is written to */
    out_pump(c);
}

static void console_judge(struct console *c);

/* Takes a transmission into the ring. Beyond the ring's size a guest that means well sends nothing
 * at once, and the work has to end: of more than that the last part is kept. */
static void console_print(struct console *c, struct cursor *r)
{
    uint8_t part[512];

    if (cursor_left(r) > OUTRING_SIZE) {
        size_t excess = cursor_left(r) - OUTRING_SIZE;

        out_flush(c);
        outring_leave_out(&c->output, excess);
        cursor_skip(r, excess);
    }
    while (cursor_left(r)) {
        size_t n = min_size(cursor_left(r), sizeof part);

        cursor_get(r, part, n);
        /* Nothing is dropped that the reader would have taken. */
        if (n > outring_room(&c->output))
            out_flush(c);
        outring_put(&c->output, part, n);
    }
}

static void console_tx(struct console *c)
{
    struct virtq *vq = &c->dev.queue[QUEUE_TX].vq;
    struct chain chain = { .iov = c->iov, .iov_max = CONSOLE_QMAX };
    unsigned burst = 0;
    int ret = 0;

    do {
        virtq_disarm(vq);
        while (burst < CONSOLE_BURST && (ret = virtq_pop(vq, &chain)) > 0) {
            console_print(c, &chain.r);
            virtq_push(vq, &chain, 0);
            burst++;
        }
        if (virtq_publish(vq))
            virtio_interrupt(&c->dev, VIRTIO_IRQ_QUEUE);
        out_pump(c);
    } while (burst < CONSOLE_BURST && ret >= 0 && virtq_rearm(vq));
    if (ret < 0)
        virtio_fail(&c->dev, "transmit queue: %s", vq->fault);
    else if (burst == CONSOLE_BURST)
        virtio_again(&c->dev, QUEUE_TX);
    if (burst == 0)
        return; /* the kick that follows activation brings nothing */
    atomic_store_explicit(&c->used, true, memory_order_relaxed);
    console_judge(c);
}

/* --- knocking ----------------------------------------------------------------------------- */

static void console_refresh_size(struct console *c)
{
    uint16_t size[2];

    if (stream_size(c->opts.stream, &size[0], &size[1]))
        virtio_set_config(&c->dev, offsetof(struct console_config, cols), size, sizeof size);
}

static bool console_has_size(const struct console *c)
{
    return c->dev.cfg[offsetof(struct console_config, cols)] ||
           c->dev.cfg[offsetof(struct console_config, cols) + 1];
}

/* ms 0: stops it. */
static void knock_timer(struct console *c, unsigned ms)
{
    struct itimerspec t = { .it_value = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L } };

    c->timer_set = ms && timerfd_settime(c->timer.fd, 0, &t, NULL) == 0;
    loop_mod(c->dev.loop, &c->timer, c->timer_set ? EPOLLIN : 0);
}

/* Linux takes the largest ring, and EVENT_IDX... */
static bool knock_thinkable(const struct virtq *vq)
{
    return vq->setup.event_idx && vq->setup.size == CONSOLE_QMAX;
}

/* ...and fills the ring before it does anything else. */
static bool knock_possible(const struct virtq *vq)
{
    return knock_thinkable(vq) && virtq_waiting(vq) == vq->setup.size;
}

/* Whether a buffer came back: the ring was full when we began. */
static bool knock_answered(const struct console *c)
{
    const struct virtq *vq = &c->dev.queue[QUEUE_RX].vq;

    return virtq_waiting(vq) + c->knocks > vq->setup.size;
}

static void console_open(struct console *c)
{
    c->state = OPEN;
    knock_timer(c, 0);
    if (console_has_size(c))
        virtio_interrupt(&c->dev, VIRTIO_IRQ_CONFIG);
}

static void console_knock(struct console *c)
{
    struct virtq *vq = &c->dev.queue[QUEUE_RX].vq;
    struct chain chain = { .iov = c->iov, .iov_max = CONSOLE_QMAX };
    bool taken = virtq_caught_up(vq);

    if ((knock_answered(c) && taken) || c->knocks == KNOCK_MAX) {
        console_open(c);
        return;
    }
    if (!c->in_len && !console_has_size(c))
        return; /* nothing to tell; the first input knocks */
    if (taken) {
        int ret = virtq_pop(vq, &chain);

        if (ret < 0) {
            virtio_fail(&c->dev, "receive queue: %s", vq->fault);
            return;
        }
        if (ret > 0) {
            virtq_push(vq, &chain, 0);
            c->knocks++;
        }
    }
    virtq_watch(vq, virtq_waiting(vq));
    virtq_publish(vq);
    /* A port that is there but not opened remembers the size. */
    virtio_interrupt(&c->dev, VIRTIO_IRQ_QUEUE | (console_has_size(c) ? VIRTIO_IRQ_CONFIG : 0));
    knock_timer(c, c->pause);
    c->pause = 2 * c->pause < KNOCK_LAST_MS ? 2 * c->pause : KNOCK_LAST_MS;
}

/* The ring is full, or the driver transmits and so has offered all the buffers that it will: is it
 * one to knock at? */
static void console_judge(struct console *c)
{
    const struct virtq *vq = &c->dev.queue[QUEUE_RX].vq;

    if (c->state != HOLD || !c->dev.active || c->dev.broken || !virtq_running(vq))
        return;
    knock_timer(c, 0);
    if (knock_possible(vq)) {
        c->state = KNOCKING;
        c->knocks = 0;
        c->pause = KNOCK_FIRST_MS;
        console_knock(c);
    } else {
        console_open(c);
        virtio_again(&c->dev, QUEUE_RX);
    }
}

static void console_rx(struct console *c);

static void console_on_timer(struct watch *w, uint32_t revents)
{
    struct console *c = w->arg;

    (void)revents;
    knock_timer(c, 0);
    if (c->state == HOLD)
        console_judge(c);
    else
        console_rx(c);
}

/* --- input -------------------------------------------------------------------------------- */

/* Reads more only while there is room, so that the sender waits for the guest. */
static void in_pump(struct console *c)
{
    loop_mod(c->dev.loop, &c->in, c->in_len < sizeof c->in_buf ? EPOLLIN : 0);
}

static void console_give(struct console *c)
{
    struct virtq *vq = &c->dev.queue[QUEUE_RX].vq;
    struct chain chain = { .iov = c->iov, .iov_max = CONSOLE_QMAX };
    int ret = 0;

    virtq_disarm(vq);
    while (c->in_off < c->in_len) {
        ret = virtq_pop(vq, &chain);
        if (ret < 0)
            break;
        if (ret == 0) {
            if (!virtq_rearm(vq))
                break;
            continue;
        }
        size_t n = min_size(chain.writable, c->in_len - c->in_off);

        cursor_put(&chain.w, c->in_buf + c->in_off, n);
        c->in_off += n;
        virtq_push(vq, &chain, (uint32_t)n);
        if (n == 0) /* it offers no room, and would for ever */
            break;
    }
    if (virtq_publish(vq))
        virtio_interrupt(&c->dev, VIRTIO_IRQ_QUEUE);
    if (ret < 0)
        virtio_fail(&c->dev, "receive queue: %s", vq->fault);
    else if (ret > 0 && c->in_off < c->in_len)
        virtio_fail(&c->dev, "receive queue: a buffer without room");
    if (c->in_off == c->in_len)
        c->in_off = c->in_len = 0;
    in_pump(c);
}

/* Input waits, or buffers came. */
static void console_rx(struct console *c)
{
    struct virtq *vq = &c->dev.queue[QUEUE_RX].vq;

    if (!c->dev.active || c->dev.broken || !virtq_running(vq))
        return;
    if (c->state == HOLD) {
        virtq_watch(vq, vq->setup.size - 1);
        if (knock_possible(vq) || !knock_thinkable(vq))
            console_judge(c);
        else if (c->in_len && !c->timer_set)
            knock_timer(c, HOLD_MS);
    }
    if (c->state == KNOCKING && (knock_answered(c) || !c->timer_set))
        console_knock(c);
    if (c->state == OPEN)
        console_give(c);
}

static void console_on_in(struct watch *w, uint32_t revents)
{
    struct console *c = w->arg;
    ssize_t n = read(w->fd, c->in_buf + c->in_len, sizeof c->in_buf - c->in_len);

    (void)revents;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        /* The end of a pipe or file, or a terminal that hung up. */
        if (!c->opts.stream->in_tty)
            c->in_buf[c->in_len++] = CTRL_D;
        loop_del(c->dev.loop, w);
    } else {
        bool escape = c->opts.stream->in_tty &&
                      escape_feed(&c->escape, c->in_buf + c->in_len, (size_t)n, now_ms());

        c->in_len += (size_t)n;
        if (escape && c->opts.escape)
            c->opts.escape(c->opts.escape_arg);
    }
    if (c->opts.stream->is_pty)
        console_refresh_size(c);
    console_rx(c);
    in_pump(c);
}

/* --- size --------------------------------------------------------------------------------- */

static void cross_resize(void *arg)
{
    console_refresh_size(arg);
}

void console_resize(struct virtio_dev *d)
{
    loop_call(d->loop, cross_resize, console_of(d));
}

/* --- the class ---------------------------------------------------------------------------- */

static int console_activate(struct virtio_dev *d)
{
    struct console *c = console_of(d);

    c->state = HOLD;
    knock_timer(c, 0);
    return 0;
}

static void console_kick(struct virtio_dev *d, unsigned q)
{
    if (q == QUEUE_TX)
        console_tx(console_of(d));
    else
        console_rx(console_of(d));
}

static void console_cfg_write(struct virtio_dev *d, unsigned off, const void *data, unsigned n)
{
    struct console *c = console_of(d);
    uint8_t byte;

    /* 5.3.4: one character, before any queue or feature; the rest is read-only. */
    if (off != offsetof(struct console_config, emerg_wr) || n == 0)
        return;
    memcpy(&byte, data, 1);
    atomic_store_explicit(&c->used, true, memory_order_relaxed);
    outring_put(&c->output, &byte, 1);
    out_pump(c);
}

/* Output is the host's: it goes on being written and is no part of the state. Input that the guest
 * has not taken is. */
static void console_save(const struct virtio_dev *d, struct wbuf *w)
{
    const struct console *c = CONTAINER_OF((struct virtio_dev *)(uintptr_t)d, struct console, dev);

    wbuf_u32(w, c->state);
    wbuf_u32(w, c->knocks);
    wbuf_u32(w, (uint32_t)(c->in_len - c->in_off));
    wbuf_bytes(w, c->in_buf + c->in_off, c->in_len - c->in_off);
}

static int console_load(struct virtio_dev *d, struct rbuf *r)
{
    struct console *c = console_of(d);
    uint32_t state = rbuf_u32(r), knocks = rbuf_u32(r), n = rbuf_u32(r);

    if (n > sizeof c->in_buf || state > OPEN || knocks > KNOCK_MAX)
        return -EPROTO;
    c->state = (enum listening)state;
    c->knocks = knocks;
    c->pause = KNOCK_FIRST_MS;
    c->in_off = 0;
    c->in_len = n;
    rbuf_bytes(r, c->in_buf, n);
    in_pump(c);
    return 0;
}

static void console_free(struct virtio_dev *d)
{
    struct console *c = console_of(d);

    loop_del(d->loop, &c->in);
    loop_del(d->loop, &c->out);
    loop_del(d->loop, &c->timer);
    if (c->timer.fd >= 0)
        close(c->timer.fd);
    virtio_fini(d);
    outring_fini(&c->output);
    free(c);
}

static const struct virtio_class console_class = {
    .name = "console",
    .id = 3,
    .features = F_SIZE | F_EMERG_WRITE,
    .nq = QUEUE_COUNT,
    .qmax = CONSOLE_QMAX,
    .cfg_len = sizeof(struct console_config),
    .last_words = true,
    .activate = console_activate,
    .kick = console_kick,
    .cfg_write = console_cfg_write,
    .save = console_save,
    .load = console_load,
    .free = console_free,
};

struct virtio_dev *console_new(struct gmem *mem, struct loop *loop, const struct console_opts *o,
                               struct err *e)
{
    const struct stream *s = o->stream;
    struct console *c = calloc(1, sizeof *c);
    int ret = 0;

    if (!c) {
        err_set(e, ENOMEM, "console: out of memory");
        return NULL;
    }
    c->opts = *o;
    c->in = (struct watch){ .fd = s->in, .events = EPOLLIN, .fn = console_on_in, .arg = c };
    c->out = (struct watch){ .fd = s->out, .events = 0, .fn = console_on_out, .arg = c };
    if (virtio_init(&c->dev, &console_class, "console", QUEUE_COUNT, mem, loop, e)) {
        free(c);
        return NULL;
    }
    c->timer = (struct watch){ .fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
                               .fn = console_on_timer,
                               .arg = c };
    ret = c->timer.fd < 0 ? -errno : loop_add(loop, &c->timer);
    if (ret == 0)
        ret = outring_init(&c->output);
    if (ret == 0 && s->in >= 0)
        ret = loop_add(loop, &c->in);
    if (ret == 0 && s->out >= 0)
        ret = loop_add(loop, &c->out);
    if (ret) {
        err_set(e, -ret, "console: %s: %s", strerror(-ret), err_remedy(-ret, "report this"));
        console_free(&c->dev);
        return NULL;
    }
    console_refresh_size(c);
    return &c->dev;
}

uint64_t console_finish(struct virtio_dev *d, int stall_ms)
{
    struct console *c = console_of(d);

    while (out_flush(c) == -EAGAIN) {
        struct pollfd p = { .fd = c->opts.stream->out, .events = POLLOUT };

        if (poll(&p, 1, stall_ms) == 0)
            break;
    }
    return outring_owed(&c->output) + stream_drain(c->opts.stream, stall_ms);
}

bool console_was_used(const struct virtio_dev *d)
{
    const struct console *c = CONTAINER_OF((struct virtio_dev *)(uintptr_t)d, struct console, dev);

    return atomic_load_explicit(&c->used, memory_order_relaxed);
}
