/* See console.h. virtio/console.c is included so that its calls for time and size come here. */
#include "tests/fuzz/console.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#define timerfd_create  fake_timerfd_create
#define timerfd_settime fake_timerfd_settime
#define clock_gettime   fake_clock_gettime
#define stream_size     fake_stream_size
/* NOLINTNEXTLINE(bugprone-suspicious-include): its calls are turned to the fakes */
#include "virtio/console.c"
#undef timerfd_create
#undef timerfd_settime
#undef clock_gettime
#undef stream_size

struct host_fake host_fake = { .timer_fd = -1 };

int fake_timerfd_create(int clock, int flags)
{
    (void)clock, (void)flags;
    host_fake.timer_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return host_fake.timer_fd;
}

int fake_timerfd_settime(int fd, int flags, const struct itimerspec *t, struct itimerspec *old)
{
    uint64_t count;

    (void)flags, (void)old;
    host_fake.timer = *t;
    FUZZ_CHECK(fd == host_fake.timer_fd, "the timer of another");
    /* Setting it forgets what expired before. */
    if (read(fd, &count, sizeof count) < 0)
        errno = 0;
    return 0;
}

int fake_clock_gettime(clockid_t clock, struct timespec *ts)
{
    (void)clock;
    *ts = (struct timespec){ .tv_sec = host_fake.now_ms / 1000,
                             .tv_nsec = host_fake.now_ms % 1000 * 1000000 };
    return 0;
}

bool fake_stream_size(const struct stream *s, uint16_t *cols, uint16_t *rows)
{
    (void)s;
    *cols = host_fake.cols;
    *rows = host_fake.rows;
    return *cols && *rows;
}

static void rig_escape(void *arg)
{
    struct rig *r = arg;

    r->escapes++;
}

static void rig_stopper(struct watch *w, uint32_t revents)
{
    struct rig *r = w->arg;

    (void)revents;
    if (--r->rounds == 0)
        loop_stop(&r->loop);
}

void rig_make(struct rig *r)
{
    struct err e;

    r->opts = (struct console_opts){ .stream = &r->stream, .escape = rig_escape, .escape_arg = r };
    FUZZ_CHECK(loop_init(&r->loop, &e) == 0, "%s", e.msg);
    r->stopper = (struct watch){ .fd = eventfd(1, EFD_CLOEXEC), .fn = rig_stopper, .arg = r };
    FUZZ_CHECK(loop_add(&r->loop, &r->stopper) == 0, "the loop's end");
    r->dev = console_new(&r->g->mem, &r->loop, &r->opts, &e);
    FUZZ_CHECK(r->dev, "%s", e.msg);
    FUZZ_CHECK(virtio_mmio_init(&r->t, r->dev, &e) == 0, "%s", e.msg);
}

void rig_drop(struct rig *r)
{
    virtio_mmio_fini(&r->t);
    r->dev->cls->free(r->dev);
    loop_del(&r->loop, &r->stopper);
    close(r->stopper.fd);
    loop_fini(&r->loop);
    host_fake.timer_fd = -1;
}

void rig_init(struct rig *r, struct guest *g, unsigned flags)
{
    int in[2], out[2];

    FUZZ_CHECK(pipe2(in, O_NONBLOCK | O_CLOEXEC) == 0 && pipe2(out, O_NONBLOCK | O_CLOEXEC) == 0,
               "no pipes");
    /* A slow reader is met after a page, not after sixteen. */
    FUZZ_CHECK(fcntl(out[1], F_SETPIPE_SZ, 4096) >= 4096, "no small pipe");
    host_fake = (struct host_fake){ .timer_fd = -1, .now_ms = 1000 };
    *r = (struct rig){ .g = g, .keys = in[1], .screen = out[0] };
    stream_none(&r->stream);
    r->stream.in = in[0];
    r->stream.out = out[1];
    r->stream.in_tty = flags & 1;
    r->stream.is_pty = flags & 2;
    rig_make(r);
}

void rig_fini(struct rig *r)
{
    rig_drop(r);
    r->stream.is_pty = false;
    stream_close(&r->stream);
    if (r->keys >= 0)
        close(r->keys);
    if (r->screen >= 0)
        close(r->screen);
}

void rig_pump(struct rig *r, unsigned n)
{
    r->rounds = n;
    r->loop.stop = false;
    loop_mod(&r->loop, &r->stopper, EPOLLIN);
    loop_run(&r->loop);
    loop_mod(&r->loop, &r->stopper, 0);
}

void rig_pass(struct rig *r, int64_t ms)
{
    const struct itimerspec *t = &host_fake.timer;
    int64_t left = (int64_t)t->it_value.tv_sec * 1000 + t->it_value.tv_nsec / 1000000;
    uint64_t one = 1;

    (void)r;
    host_fake.now_ms += ms;
    if (left == 0)
        return;
    left -= ms;
    host_fake.timer = (struct itimerspec){ 0 };
    if (left > 0)
        host_fake.timer.it_value = (struct timespec){ .tv_sec = left / 1000,
                                                      .tv_nsec = left % 1000 * 1000000 };
    else
        FUZZ_CHECK(write(host_fake.timer_fd, &one, sizeof one) == sizeof one, "the timer");
}

size_t rig_type(struct rig *r, const void *data, size_t n)
{
    ssize_t done = r->keys < 0 ? 0 : write(r->keys, data, n);

    return done < 0 ? 0 : (size_t)done;
}
