/* The real network device over a tap whose files are sockets, with the host's network at their
 * other ends, and a driver in plain memory. The device's loops have no threads unless a test starts
 * them: they go round, one after another, when a test says so. */
#ifndef MAYFLY_TESTS_NET_RIG_H
#define MAYFLY_TESTS_NET_RIG_H

#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/log.h"
#include "core/num.h"
#include "tests/unit/driver.h"
#include "tests/unit/net_model.h"
#include "virtio/net.h"

#define RIG_RAM     (4 * MIB)
#define RIG_PAIRS   4
#define RIG_QUEUES  (2 * RIG_PAIRS + 1)
#define RIG_DATA    (256 * KIB) /* the first address for buffers */
#define RIG_IFINDEX 7
#define RIG_CALLS   256
#define FRAME_MAX   65557 /* as the model has it */
#define HDR         12

#define PLAIN VIRTIO_F_VERSION_1
/* As Linux's driver. */
#define USUAL                                                                                      \
    (BIT(N_CSUM) | BIT(N_GUEST_CSUM) | BIT(N_MAC) | BIT(N_MTU) | BIT(N_STATUS) | BIT(N_MRG) |      \
     BIT(N_CTRL) | BIT(N_CTRL_RX) | BIT(N_CTRL_MAC))
#define SEGMENTS                                                                                   \
    (BIT(N_GUEST_TSO4) | BIT(N_GUEST_TSO6) | BIT(N_HOST_TSO4) | BIT(N_HOST_TSO6) |                 \
     BIT(N_HOST_USO) | BIT(N_GUEST_USO4) | BIT(N_GUEST_USO6) | BIT(N_GUEST_OFFLOADS))

static const uint8_t rig_mac[6] = { 0x02, 0x11, 0x22, 0x33, 0x44, 0x55 };

/* struct tun_filter, with room. */
struct rig_filter {
    uint16_t flags, count;
    uint8_t address[TAP_FILTER_MAX][6];
};

struct rig {
    struct gmem mem;
    struct loop loop[RIG_PAIRS];
    struct watch stopper[RIG_PAIRS]; /* always ready: ends loop_run after some rounds */
    unsigned rounds[RIG_PAIRS];
    struct tap tap;
    int wire[RIG_PAIRS]; /* the other ends of its files: the network; -1: closed */
    int report;          /* the other end of its netlink */
    struct net_opts opts;
    struct virtio_dev *dev;
    struct virtio_mmio t;
    struct ring ring[RIG_QUEUES];
    unsigned nq;   /* that the driver set up */
    uint64_t next; /* address for a buffer */
    bool indirect, event_idx;
    bool threads; /* the loops have them */
    /* What the interface was told. */
    unsigned offload, attached, calls;
    struct rig_filter filter;
    int fail[3]; /* what it answers: offload, queue, filter */
};

/* --- the host's interface --- */

/* TUNSETOFFLOAD, as Linux has it. */
static inline int rig_set_offload(struct rig *g, unsigned long bits)
{
    unsigned long left = bits & ~(unsigned long)(TUN_F_CSUM | TUN_F_UFO);
    const unsigned uso = TUN_F_USO4 | TUN_F_USO6;

    if (bits & TUN_F_CSUM) {
        left &= ~(unsigned long)(TUN_F_TSO4 | TUN_F_TSO6);
        if ((left & uso) == uso)
            left &= ~(unsigned long)uso;
    }
    if (left || bits & ~(unsigned long)g->tap.offloads)
        return -EINVAL;
    if (!g->fail[0])
        g->offload = (unsigned)bits;
    return g->fail[0];
}

static inline int rig_set_queue(struct rig *g, unsigned q, const struct ifreq *ifr)
{
    bool on = ifr->ifr_flags & IFF_ATTACH_QUEUE, off = ifr->ifr_flags & IFF_DETACH_QUEUE;

    assert_true(on != off);
    if (g->fail[1])
        return g->fail[1];
    if (on == (g->attached >> q & 1))
        return -EINVAL;
    g->attached ^= 1U << q;
    return 0;
}

static inline int rig_set_filter(struct rig *g, const struct rig_filter *f)
{
    assert_in_range(f->count, 0, TAP_FILTER_MAX);
    if (g->fail[2])
        return g->fail[2];
    g->filter = (struct rig_filter){ .flags = f->flags, .count = f->count };
    memcpy(g->filter.address, f->address, f->count * sizeof f->address[0]);
    return 0;
}

static inline int rig_control(struct tap *t, unsigned queue, unsigned long request, void *arg)
{
    struct rig *g = CONTAINER_OF(t, struct rig, tap);

    assert_in_range(queue, 0, t->n - 1);
    g->calls++;
    switch (request) {
    case TUNSETOFFLOAD:
        return rig_set_offload(g, (unsigned long)(uintptr_t)arg);
    case TUNSETQUEUE:
        return rig_set_queue(g, queue, arg);
    case TUNSETTXFILTER:
        return rig_set_filter(g, arg);
    default:
        fail_msg("ioctl 0x%lx", request);
        return -ENOTTY;
    }
}

/* Whether the interface as it was told lets a frame to this address pass (tun.c, run_filter); 2:
 * it may, where the kernel compares hashes. */
static inline int rig_passes(const struct rig *g, const uint8_t *address)
{
    const struct rig_filter *f = &g->filter;
    int hashed = 0;

    if (!f->count)
        return 1;
    for (unsigned i = 0; i < f->count; i++) {
        bool group = f->address[i][0] & 1;

        if (i >= 8 && !group)
            return 1; /* no filter at all */
        if (i >= 8)
            hashed = address[0] & 1 ? 2 : hashed;
        if (memcmp(f->address[i], address, 6) == 0)
            return 1;
    }
    return address[0] & 1 && f->flags & TUN_FLT_ALLMULTI ? 1 : hashed;
}

static inline void rig_pipe(int *ours, int *theirs)
{
    int fd[2], big = 16 << 20;

    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
    for (unsigned i = 0; i < 2; i++)
        if (setsockopt(fd[i], SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof big) < 0)
            setsockopt(fd[i], SOL_SOCKET, SO_SNDBUF, &big, sizeof big);
    *ours = fd[0];
    *theirs = fd[1];
}

/* A tap of n queues that can everything; its first queue is attached. */
static inline void rig_tap(struct rig *g, unsigned n)
{
    g->tap = (struct tap){ .name = "fake0",
                           .n = n,
                           .offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_USO4 |
                                       TUN_F_USO6,
                           .multi = n > 1,
                           .filters = true,
                           .link = { .up = true, .mtu = 1500 },
                           .ifindex = RIG_IFINDEX,
                           .control = rig_control };
    for (unsigned i = 0; i < TAP_QUEUES_MAX; i++)
        g->tap.fd[i] = -1;
    for (unsigned i = 0; i < n; i++)
        rig_pipe(&g->wire[i], &g->tap.fd[i]);
    rig_pipe(&g->report, &g->tap.netlink);
    g->attached = 1;
}

/* A frame on its way to the guest, with this header before it. */
static inline bool wire_send(struct rig *g, unsigned i, const uint8_t *hdr, const void *frame,
                             size_t len)
{
    uint8_t zero[HDR] = { 0 };
    struct iovec v[] = { { (void *)(hdr ? (uintptr_t)hdr : (uintptr_t)zero), HDR },
                         { (void *)(uintptr_t)frame, len } };
    struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };

    return sendmsg(g->wire[i], &m, MSG_NOSIGNAL) == (ssize_t)(len + HDR);
}

/* One that the guest sent, header and all: its length, or -1 when there is none. */
static inline ssize_t wire_recv(struct rig *g, unsigned i, void *buf, size_t max)
{
    return recv(g->wire[i], buf, max, MSG_TRUNC);
}

/* The interface has gone away: reading fails, and so does writing. */
static inline void wire_cut(struct rig *g, unsigned i)
{
    struct sockaddr none = { .sa_family = AF_UNSPEC };

    /* Who leaves with something unread behind him makes his peer's next call fail. */
    assert_int_equal(write(g->tap.fd[i], "", 1), 1);
    assert_int_equal(connect(g->wire[i], &none, sizeof none), 0);
    close(g->wire[i]);
    g->wire[i] = -1;
}

/* The interface is down: writing fails with EIO, as to a terminal that was hung up. */
static inline void wire_down(struct rig *g, unsigned i)
{
    int host = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), fd;

    assert_true(host >= 0 && grantpt(host) == 0 && unlockpt(host) == 0);
    fd = open(ptsname(host), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(fd >= 0);
    close(host);
    assert_int_equal(dup2(fd, g->tap.fd[i]), g->tap.fd[i]);
    close(fd);
}

/* What the kernel says of interface ifindex; mtu 0: not a word. */
static inline void link_say(struct rig *g, uint16_t type, int ifindex, bool up, uint32_t mtu)
{
    struct {
        struct nlmsghdr h;
        struct ifinfomsg info;
        struct rtattr name;
        char text[8];
        struct rtattr attr;
        uint32_t mtu;
    } m = {
        .h = { .nlmsg_len = sizeof m, .nlmsg_type = type },
        .info = { .ifi_family = AF_UNSPEC,
                  .ifi_index = ifindex,
                  .ifi_flags = up ? IFF_UP | IFF_RUNNING | 0x10000 : IFF_BROADCAST },
        .name = { .rta_len = sizeof m.name + 6, .rta_type = IFLA_IFNAME },
        .text = "fake0",
        .attr = { .rta_len = sizeof m.attr + 4, .rta_type = IFLA_MTU },
        .mtu = mtu,
    };

    if (!mtu)
        m.h.nlmsg_len = offsetof(__typeof__(m), attr);
    assert_int_equal(write(g->report, &m, m.h.nlmsg_len), m.h.nlmsg_len);
}

/* --- the device --- */

static inline void rig_stop(struct watch *w, uint32_t revents)
{
    struct loop *l = w->arg;
    unsigned *rounds = (void *)l->wait_arg;

    (void)revents;
    if (--*rounds == 0)
        loop_stop(l);
}

/* Lets the loops go round, one after another. */
static inline void rig_pump(struct rig *g)
{
    if (g->threads) {
        sleep_ms(1);
        return;
    }
    /* Twice, since one may have something for another. */
    for (unsigned k = 0; k < 2 * g->tap.n; k++) {
        unsigned i = k % g->tap.n;

        g->rounds[i] = 3;
        g->loop[i].stop = false;
        loop_mod(&g->loop[i], &g->stopper[i], EPOLLIN);
        loop_run(&g->loop[i]);
        loop_mod(&g->loop[i], &g->stopper[i], 0);
    }
}

static inline void rig_make(struct rig *g)
{
    struct err e;

    for (unsigned i = 0; i < g->tap.n; i++) {
        assert_int_equal(loop_init(&g->loop[i], &e), 0);
        g->loop[i].wait_arg = &g->rounds[i]; /* no loop waits by it here */
        g->stopper[i] = (struct watch){ .fd = eventfd(1, EFD_CLOEXEC),
                                        .fn = rig_stop,
                                        .arg = &g->loop[i] };
        assert_int_equal(loop_add(&g->loop[i], &g->stopper[i]), 0);
    }
    g->opts.tap = &g->tap;
    g->dev = net_new(&g->mem, g->loop, &g->opts, &e);
    if (!g->dev)
        fail_msg("%s", e.msg);
    assert_int_equal(virtio_mmio_init(&g->t, g->dev, &e), 0);
}

/* One round of the first loop. */
static inline void rig_round(struct rig *g)
{
    g->rounds[0] = 1;
    g->loop[0].stop = false;
    loop_mod(&g->loop[0], &g->stopper[0], EPOLLIN);
    loop_run(&g->loop[0]);
    loop_mod(&g->loop[0], &g->stopper[0], 0);
}

/* Whether the loops would sleep now: none has anything to do, also not for ever the same. */
static inline bool rig_sleeps(struct rig *g)
{
    for (unsigned tries = 0; tries < 8; tries++) {
        bool busy = false;

        for (unsigned i = 0; i < g->tap.n; i++) {
            struct pollfd p = { .fd = g->loop[i].epfd, .events = POLLIN };

            busy |= poll(&p, 1, 0) != 0;
        }
        if (!busy)
            return true;
        rig_pump(g); /* a timer, perhaps */
    }
    return false;
}

/* From here on the loops have threads; and no more. */
static inline void rig_threads(struct rig *g, bool on)
{
    static const char *const names[RIG_PAIRS] = { "net0", "net0q1", "net0q2", "net0q3" };
    struct err e;

    for (unsigned i = 0; i < g->tap.n; i++) {
        if (!on) {
            loop_join(&g->loop[i]);
            continue;
        }
        g->loop[i].stop = false;
        assert_int_equal(loop_start(&g->loop[i], names[i], NULL, NULL, &e), 0);
    }
    g->threads = on;
}

/* The device goes, and its tap with it. */
static inline void rig_drop(struct rig *g)
{
    unsigned n = g->tap.n;

    virtio_mmio_fini(&g->t);
    g->dev->cls->free(g->dev);
    for (unsigned i = 0; i < n; i++) {
        loop_del(&g->loop[i], &g->stopper[i]);
        close(g->stopper[i].fd);
        loop_fini(&g->loop[i]);
        if (g->wire[i] >= 0)
            close(g->wire[i]);
    }
    close(g->report);
}

/* For a device of n pairs, without limits; nothing is made yet. */
static inline struct rig *rig_new(unsigned n)
{
    struct rig *g = calloc(1, sizeof *g);
    void *host = calloc(1, RIG_RAM);

    assert_non_null(g);
    assert_non_null(host);
    gmem_init_at(&g->mem, host, RIG_RAM);
    g->opts = (struct net_opts){ .name = "net0" };
    memcpy(g->opts.mac, rig_mac, sizeof rig_mac);
    rig_tap(g, n);
    return g;
}

static inline void rig_free(struct rig *g)
{
    rig_drop(g);
    free(g->mem.region[0].host);
    free(g);
}

/* --- the driver --- */

/* From reset to DRIVER_OK with rings of this size, up to the control queue. */
static inline void rig_up_sized(struct rig *g, uint64_t features, uint16_t size)
{
    uint64_t at = 0;

    reg_write(&g->t, R_STATUS, 0);
    g->nq = features & BIT(N_MQ) ? 2 * g->tap.n + 1 : features & BIT(N_CTRL) ? 3 : 2;
    for (unsigned q = 0; q < g->nq; q++)
        at = ring_init(&g->ring[q], &g->mem, at, size);
    assert_in_range(at, 1, RIG_DATA);
    g->next = RIG_DATA;
    g->indirect = features & VIRTIO_F_INDIRECT_DESC;
    g->event_idx = features & VIRTIO_F_EVENT_IDX;
    assert_int_equal(drive_up(&g->t, features | PLAIN, g->ring, g->nq), 0xf);
    rig_pump(g);
}

static inline void rig_up(struct rig *g, uint64_t features)
{
    rig_up_sized(g, features, NET_QMAX);
}

static inline struct rig *rig_start(unsigned pairs, uint64_t features)
{
    struct rig *g = rig_new(pairs);

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

/* A part of a chain: bytes, and its direction. */
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
        table = (rig_room(g, 16UL * n + 15) + 15) / 16 * 16;
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

/* As drivers do: published, and told of where the device wants to be. */
static inline void rig_tell(struct rig *g, unsigned q, uint16_t from)
{
    ring_publish(&g->ring[q]);
    if (ring_must_kick(&g->ring[q], from, g->event_idx))
        reg_write(&g->t, R_NOTIFY, q);
}

static inline void rig_kick(struct rig *g, unsigned q)
{
    ring_publish(&g->ring[q]);
    reg_write(&g->t, R_NOTIFY, q);
    rig_pump(g);
}

/* A buffer for receiving, of one piece, full of 0xd7; not published. Its address. */
static inline uint64_t rig_offer(struct rig *g, unsigned q, unsigned head, uint32_t len)
{
    struct part p = { rig_room(g, len), len, true };

    memset(ram(&g->mem, p.gpa, len), 0xd7, len);
    rig_chain(g, q, head, &p, 1);
    return p.gpa;
}

/* A frame for the host, header and frame in a buffer each; not published. */
static inline void rig_put(struct rig *g, unsigned q, unsigned head, const uint8_t *hdr,
                           const void *frame, uint32_t len)
{
    struct part p[] = { { rig_room(g, HDR), HDR, false }, { rig_room(g, len), len, false } };

    memset(ram(&g->mem, p[0].gpa, HDR), 0, HDR);
    if (hdr)
        memcpy(ram(&g->mem, p[0].gpa, HDR), hdr, HDR);
    if (len)
        memcpy(ram(&g->mem, p[1].gpa, len), frame, len);
    rig_chain(g, q, head, p, 2);
}

/* Takes the next used entry of queue q, which is this one with this length. */
static inline void rig_used(struct rig *g, unsigned q, uint32_t head, uint32_t len)
{
    uint32_t id, n;

    if (!ring_take(&g->ring[q], &id, &n))
        fail_msg("queue %u: chain %u was not given back", q, head);
    assert_int_equal(id, head);
    assert_int_equal(n, len);
}

static inline void rig_nothing_used(struct rig *g, unsigned q)
{
    uint32_t id, n;

    assert_false(ring_take(&g->ring[q], &id, &n));
}

/* Interrupts since the last time. */
static inline uint32_t rig_irqs(struct rig *g)
{
    uint64_t n = 0;

    if (read(g->dev->irqfd, &n, sizeof n) < 0)
        assert_int_equal(errno, EAGAIN);
    return (uint32_t)n;
}

static inline bool rig_broken(struct rig *g)
{
    return reg_read(&g->t, R_STATUS) == (0xf | S_RESET);
}

static inline struct net_stats rig_stats(struct rig *g)
{
    struct net_stats s;

    net_stats(g->dev, &s);
    return s;
}

static inline uint64_t rig_config(struct rig *g, unsigned off, unsigned n)
{
    uint8_t p[8] = { 0 };

    virtio_read_config(g->dev, off, p, n);
    return p[0] | (uint64_t)p[1] << 8;
}

/* Goes round until n chains of queue q were used since the driver looked, for UNIT_WAIT at most. */
static inline bool rig_wait_used(struct rig *g, unsigned q, uint16_t n)
{
    int64_t end = wall_ms() + UNIT_WAIT;

    for (;;) {
        rig_pump(g);
        uint16_t idx = __atomic_load_n(ring_used(&g->ring[q], 1), __ATOMIC_ACQUIRE);

        if ((uint16_t)(idx - g->ring[q].seen) >= n)
            return true;
        if (wall_ms() > end || rig_broken(g))
            return false;
        sleep_ms(1);
    }
}

/* Nobody shall see the lines that broken drivers make; but they are made. */
static inline int rig_group_setup(void **state)
{
    log_init(open("/dev/null", O_WRONLY | O_CLOEXEC), LOG_DEBUG);
    signal(SIGPIPE, SIG_IGN); /* as main does */
    return unit_watchdog(state);
}

#endif
