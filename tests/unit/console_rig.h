/* The real console between two pipes and a driver in plain memory. The console's loop has a thread
 * of its own, as in the monitor; the test is the guest and the person at the other ends. */
#ifndef MAYFLY_TESTS_CONSOLE_RIG_H
#define MAYFLY_TESTS_CONSOLE_RIG_H

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/log.h"
#include "core/num.h"
#include "tests/unit/driver.h"
#include "virtio/console.h"

#define RIG_RAM   (32 * MIB)
#define RIG_SLOTS 64U       /* queue size, and buffers of each direction */
#define RIG_SLOT  8192U     /* bytes of a buffer */
#define RIG_RX    (1 * MIB) /* buffers */
#define RIG_TX    (2 * MIB)
#define RIG_TABLE (3 * MIB)  /* an indirect table a slot */
#define RIG_BIG   (16 * MIB) /* 16 MiB more */
#define RIG_WAIT  UNIT_WAIT

enum { RX, TX };

#define PLAIN VIRTIO_F_VERSION_1

struct rig {
    struct gmem mem;
    struct loop loop;
    struct stream stream;
    struct console_opts opts;
    struct virtio_dev *dev;
    struct virtio_mmio t;
    struct ring ring[2];
    bool indirect, event_idx, running;
    int keys, screen; /* our ends; -1 */
    int escapes;
};

static inline void rig_escape(void *arg)
{
    __atomic_fetch_add((int *)arg, 1, __ATOMIC_RELAXED);
}

static inline void rig_console(struct rig *g)
{
    struct err e;

    g->opts = (struct console_opts){ .stream = &g->stream,
                                     .escape = rig_escape,
                                     .escape_arg = &g->escapes };
    assert_int_equal(loop_init(&g->loop, &e), 0);
    g->dev = console_new(&g->mem, &g->loop, &g->opts, &e);
    if (!g->dev)
        fail_msg("%s", e.msg);
    assert_int_equal(virtio_mmio_init(&g->t, g->dev, &e), 0);
}

/* A console on the descriptors in and out, which become the rig's. No thread yet. */
static inline void rig_init_fds(struct rig *g, int in, int out)
{
    void *host = mmap(NULL, RIG_RAM, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    assert_true(host != MAP_FAILED);
    *g = (struct rig){ .keys = -1, .screen = -1 };
    gmem_init_at(&g->mem, host, RIG_RAM);
    stream_none(&g->stream);
    g->stream.in = in;
    g->stream.out = out;
    rig_console(g);
}

/* A console between two pipes that do not block on its side. */
static inline void rig_init(struct rig *g)
{
    int in[2], out[2];

    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    fcntl(in[0], F_SETFL, O_NONBLOCK);
    fcntl(out[1], F_SETFL, O_NONBLOCK);
    rig_init_fds(g, in[0], out[1]);
    g->keys = in[1];
    g->screen = out[0];
}

static inline void rig_run(struct rig *g)
{
    struct err e;

    assert_int_equal(loop_start(&g->loop, "console", NULL, NULL, &e), 0);
    g->running = true;
}

static inline void rig_stop(struct rig *g)
{
    loop_join(&g->loop);
    g->running = false;
}

/* Everything of the console's, but not the guest's memory nor the stream. */
static inline void rig_drop_console(struct rig *g)
{
    rig_stop(g);
    virtio_mmio_fini(&g->t);
    g->dev->cls->free(g->dev);
    loop_fini(&g->loop);
}

static inline void rig_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static inline void rig_fini(struct rig *g)
{
    rig_drop_console(g);
    stream_close(&g->stream);
    rig_close(&g->keys);
    rig_close(&g->screen);
    munmap(g->mem.region[0].host, RIG_RAM);
}

/* Rings for a driver with these features; a device that used them before lets go of them. */
static inline void rig_rings(struct rig *g, uint64_t features)
{
    reg_write(&g->t, R_STATUS, 0);
    uint64_t at = ring_init(&g->ring[RX], &g->mem, 0, RIG_SLOTS);

    ring_init(&g->ring[TX], &g->mem, at, RIG_SLOTS);
    g->indirect = features & VIRTIO_F_INDIRECT_DESC;
    g->event_idx = features & VIRTIO_F_EVENT_IDX;
}

static inline void rig_kick(struct rig *g, unsigned q, uint16_t from)
{
    ring_publish(&g->ring[q]);
    if (ring_must_kick(&g->ring[q], from, g->event_idx))
        reg_write(&g->t, R_NOTIFY, q);
}

/* Offers a slot's buffer of len bytes in queue q, in up to three pieces. */
static inline void rig_offer(struct rig *g, unsigned q, unsigned slot, uint32_t len)
{
    struct ring *r = &g->ring[q];
    uint64_t at = (q == RX ? RIG_RX : RIG_TX) + (uint64_t)slot * RIG_SLOT;
    uint16_t flags = q == RX ? D_WRITE : 0, from = r->offered;
    uint32_t part = len > 10 && g->indirect ? len / 3 : len;

    assert_true(len <= RIG_SLOT && slot < RIG_SLOTS);
    if (g->indirect) {
        uint64_t table = RIG_TABLE + (q * RIG_SLOTS + slot) * 64UL;
        unsigned n = 0;

        for (uint32_t off = 0; off < len || n == 0; n++) {
            uint32_t piece = n == 2 || len - off < part ? len - off : part;

            off += piece;
            desc_set(&g->mem, table, n,
                     (struct ring_desc){ at + off - piece, piece,
                                         (uint16_t)(flags | (off < len ? D_NEXT : 0)),
                                         (uint16_t)(n + 1) });
        }
        ring_desc(r, slot, (struct ring_desc){ table, 16 * n, D_INDIRECT, 0 });
    } else {
        ring_desc(r, slot, (struct ring_desc){ at, len, flags, 0 });
    }
    ring_put(r, (uint16_t)slot);
    rig_kick(g, q, from);
}

/* Waits for the next used entry of queue q, sleeping until the interrupt. false: none in ms. */
static inline bool rig_used(struct rig *g, unsigned q, int ms, uint32_t *id, uint32_t *len)
{
    int64_t end = wall_ms() + ms;
    struct ring *r = &g->ring[q];

    for (;;) {
        __atomic_store_n(ring_used_event(r), r->seen, __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (ring_take(r, id, len))
            return true;
        struct pollfd p = { .fd = g->dev->irqfd, .events = POLLIN };
        int64_t left = end - wall_ms();
        uint64_t count;

        if (left <= 0)
            return false;
        if (poll(&p, 1, (int)left) > 0 && read(p.fd, &count, sizeof count) < 0)
            assert_int_equal(errno, EAGAIN);
    }
}

/* Transmits n bytes and waits until the device has taken them. */
static inline void rig_print(struct rig *g, const void *data, uint32_t n)
{
    uint32_t id, len, slot = g->ring[TX].offered % RIG_SLOTS;

    memcpy(ram(&g->mem, RIG_TX + (uint64_t)slot * RIG_SLOT, RIG_SLOT), data, n);
    rig_offer(g, TX, slot, n);
    if (!rig_used(g, TX, RIG_WAIT, &id, &len))
        fail_msg("a transmit was not completed");
    assert_int_equal(id, slot);
    assert_int_equal(len, 0);
}

/* The driver brings the device up, from reset to DRIVER_OK, and transmits: by that the console
 * knows that it has offered the receive buffers that it will, and holds back input no longer. */
static inline void rig_up(struct rig *g, uint64_t features)
{
    rig_rings(g, features);
    assert_int_equal(drive_up(&g->t, features, g->ring, 2), 0xf);
    rig_print(g, "", 0);
}

/* Receives n bytes of input through buffers of size bytes, the last as small as it must be. */
static inline void rig_receive(struct rig *g, uint8_t *buf, size_t n, uint32_t size)
{
    uint32_t id, len;

    for (size_t done = 0; done < n; done += len) {
        unsigned slot = g->ring[RX].offered % RIG_SLOTS;

        rig_offer(g, RX, slot, (uint32_t)min_size(size, n - done));
        if (!rig_used(g, RX, RIG_WAIT, &id, &len))
            fail_msg("%zu of %zu bytes of input came", done, n);
        assert_int_equal(id, slot);
        assert_in_range(len, 1, min_size(size, n - done));
        memcpy(buf + done, ram(&g->mem, RIG_RX + (uint64_t)slot * RIG_SLOT, len), len);
    }
}

/* No input comes for a while. The buffer that was offered stays offered. */
static inline void rig_receive_nothing(struct rig *g)
{
    uint32_t id, len;

    rig_offer(g, RX, g->ring[RX].offered % RIG_SLOTS, RIG_SLOT);
    assert_false(rig_used(g, RX, 60, &id, &len));
}

/* The loop's thread sleeps: it uses next to no time of the processor. */
static inline void rig_sleeps(struct rig *g)
{
    clockid_t cpu;

    assert_int_equal(pthread_getcpuclockid(g->loop.thread, &cpu), 0);
    sleep_ms(20);
    int64_t before = clock_ms(cpu);

    sleep_ms(60);
    assert_in_range(clock_ms(cpu) - before, 0, 20);
}

/* The byte at offset i of a text that looks different everywhere, without brackets and controls. */
static inline uint8_t text_at(uint64_t i)
{
    struct rng r = { i };

    return (uint8_t)('a' + rng_below(&r, 26));
}

static inline void text_fill(uint8_t *p, uint64_t from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = text_at(from + i);
}

static inline int rig_group_setup(void **state)
{
    signal(SIGPIPE, SIG_IGN); /* as main does */
    log_init(open("/dev/null", O_WRONLY | O_CLOEXEC), LOG_DEBUG);
    return unit_watchdog(state);
}

#endif
