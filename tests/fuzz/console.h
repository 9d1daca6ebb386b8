/* The console between two pipes and the hostile driver of ring.h, without a thread: its loop runs
 * when the target says, time and the window's size are the target's, so that a run is the same
 * every time. */
#ifndef MAYFLY_TESTS_FUZZ_CONSOLE_H
#define MAYFLY_TESTS_FUZZ_CONSOLE_H

#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>

#include "host/stream.h"
#include "tests/fuzz/ring.h"
#include "virtio/console.h"

enum { RX, TX };

/* What stands between the console and the host's clock and terminal. */
struct host_fake {
    int64_t now_ms;
    struct itimerspec timer;
    int timer_fd; /* an eventfd in the timerfd's place; -1 */
    uint16_t cols, rows;
};
extern struct host_fake host_fake;

int fake_timerfd_create(int clock, int flags);
int fake_timerfd_settime(int fd, int flags, const struct itimerspec *t, struct itimerspec *old);
int fake_clock_gettime(clockid_t clock, struct timespec *ts);
bool fake_stream_size(const struct stream *s, uint16_t *cols, uint16_t *rows);

struct rig {
    struct guest *g;
    struct loop loop;
    struct watch stopper; /* always ready: ends loop_run after some rounds */
    unsigned rounds;
    struct stream stream;
    struct console_opts opts;
    struct virtio_dev *dev;
    struct virtio_mmio t;
    int keys, screen; /* our ends; -1 */
    unsigned escapes;
};

/* flags: bit 0, input is a terminal; bit 1, it is a pty. */
void rig_init(struct rig *r, struct guest *g, unsigned flags);
void rig_fini(struct rig *r);

/* The console alone, its stream stays. */
void rig_make(struct rig *r);
void rig_drop(struct rig *r);

/* Lets the loop go round n times. */
void rig_pump(struct rig *r, unsigned n);

/* Lets ms pass; the timer's event is there when it was set for a moment in between. */
void rig_pass(struct rig *r, int64_t ms);

/* Typed by the person; how many bytes the pipe took. */
size_t rig_type(struct rig *r, const void *data, size_t n);

#endif
