/* vhost-net with rings and a tap of its own in a network namespace: frames both ways, stopping and
 * going on, and what it refuses. It takes a host with /dev/vhost-net, as the lab is:
 * tests/lab/lab -- build/unit/test_host_vhost. */
#include "tests/unit/unit.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "host/tap.h"
#include "host/vhost.h"

#define DEVICE "/dev/vhost-net"
#define NAME   "vtap"
#define SIZE   16
#define FRAME  100
#define TYPE   0x88b5 /* of frames for experiments */
#define BUF    2048

#define F_MRG_RXBUF (UINT64_C(1) << 15)
#define F_VERSION_1 (UINT64_C(1) << 32)
#define F_EVENT_IDX (UINT64_C(1) << 29)
#define F_LOG_ALL   (UINT64_C(1) << 26)
#define F_HEADER    (UINT64_C(1) << 27)

enum { RX, TX };

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

/* In guest memory. */
struct ring {
    struct desc desc[SIZE];
    struct {
        uint16_t flags, idx, ring[SIZE], used_event;
    } avail;
    uint8_t pad[64];
    struct {
        uint16_t flags, idx;
        struct {
            uint32_t id, len;
        } ring[SIZE];
        uint16_t avail_event;
    } used __attribute__((aligned(4)));
    uint8_t buf[SIZE][BUF];
} __attribute__((aligned(4096)));

struct rig {
    struct gmem mem;
    struct ring *ring[VHOST_RINGS];
    struct vhost_ring v[VHOST_RINGS];
    struct vhost vhost;
    struct tap tap;
    int packet; /* a socket on the tap's interface */
    unsigned sent, got;
};

static const char *missing; /* why there is nothing to test */

#define NEEDS_VHOST                                                                                \
    do {                                                                                           \
        if (missing) {                                                                             \
            print_message("skipped: %s\n", missing);                                               \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

/* A network of our own, in which nobody speaks but the tests. */
static int setup(void **state)
{
    if (access(DEVICE, F_OK) < 0)
        missing = "this host has no " DEVICE;
    else if (access(DEVICE, R_OK | W_OK) < 0 || unshare(CLONE_NEWNET) < 0)
        missing = "vhost and network namespaces take root";
    int fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);

    if (fd >= 0 && !missing)
        assert_int_equal(write(fd, "1", 1), 1);
    close(fd);
    return unit_watchdog(state);
}

/* --- rig -------------------------------------------------------------------------------------- */

static uint64_t gpa(const struct rig *r, const void *p)
{
    return (uint64_t)((const uint8_t *)p - r->mem.region[0].host);
}

static void rings_init(struct rig *r)
{
    for (unsigned i = 0; i < VHOST_RINGS; i++) {
        struct ring *g = (struct ring *)(void *)(r->mem.region[0].host + 65536) + i;

        *g = (struct ring){ 0 };
        r->ring[i] = g;
        for (unsigned k = 0; k < SIZE; k++)
            g->desc[k] = (struct desc){ gpa(r, g->buf[k]), BUF, i == RX ? 2 : 0, 0 };
        r->v[i].base = 0;
        r->v[i].desc = g->desc;
        r->v[i].avail = &g->avail;
        r->v[i].used = &g->used;
        r->v[i].size = SIZE;
    }
    r->sent = r->got = 0;
}

static int packet_socket(unsigned ifindex)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(TYPE));
    struct sockaddr_ll at = { .sll_family = AF_PACKET,
                              .sll_protocol = htons(TYPE),
                              .sll_ifindex = (int)ifindex };

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

static void rig_init(struct rig *r)
{
    struct err e = { 0 };
    struct tap_opts o = { .name = NAME, .fd = -1, .queues = 1 };

    *r = (struct rig){ 0 };
    assert_int_equal(gmem_init(&r->mem, 4 * MIB, &(struct gmem_opts){ 0 }, &e), 0);
    rings_init(r);
    for (unsigned i = 0; i < VHOST_RINGS; i++) {
        r->v[i].kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        r->v[i].call = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        r->v[i].broken = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    }
    if (tap_open(&r->tap, &o, &e) != 0)
        fail_msg("%s", e.msg);
    if (vhost_open(&r->vhost, &r->mem, NAME, &e) != 0)
        fail_msg("%s", e.msg);
    r->packet = packet_socket(r->tap.ifindex);
}

static void rig_fini(struct rig *r)
{
    vhost_close(&r->vhost);
    vhost_close(&r->vhost); /* once is enough */
    tap_close(&r->tap);
    close(r->packet);
    for (unsigned i = 0; i < VHOST_RINGS; i++) {
        close(r->v[i].kick);
        close(r->v[i].call);
        close(r->v[i].broken);
    }
    gmem_fini(&r->mem);
}

static void fill(uint8_t *frame, unsigned n)
{
    memset(frame, (int)n, FRAME);
    memset(frame, 0xff, 6);
    frame[6] = 2;
    frame[12] = TYPE >> 8;
    frame[13] = TYPE & 0xff;
}

static bool signalled(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    uint64_t n;

    return poll(&p, 1, UNIT_WAIT) == 1 && read(fd, &n, sizeof n) == sizeof n;
}

static void offer(struct rig *r, unsigned q, unsigned n)
{
    struct ring *g = r->ring[q];

    for (unsigned i = 0; i < n; i++) {
        uint16_t idx = (uint16_t)(g->avail.idx + i);

        g->avail.ring[idx % SIZE] = idx % SIZE;
    }
    __atomic_store_n(&g->avail.idx, (uint16_t)(g->avail.idx + n), __ATOMIC_RELEASE);
    assert_int_equal(write(r->v[q].kick, &(uint64_t){ 1 }, 8), 8);
}

/* The guest sends one frame, and the interface gets it. */
static void sends(struct rig *r)
{
    struct ring *g = r->ring[TX];
    unsigned k = g->avail.idx % SIZE;
    uint8_t want[FRAME], have[BUF];
    uint16_t used = g->used.idx;

    fill(want, r->sent++);
    memset(g->buf[k], 0, TAP_HDR_LEN);
    memcpy(g->buf[k] + TAP_HDR_LEN, want, FRAME);
    g->desc[k].len = TAP_HDR_LEN + FRAME;
    offer(r, TX, 1);
    read_all(r->packet, have, FRAME);
    assert_memory_equal(have, want, FRAME);
    assert_true(signalled(r->v[TX].call));
    assert_int_equal((uint16_t)(__atomic_load_n(&g->used.idx, __ATOMIC_ACQUIRE) - used), 1);
    assert_int_equal(g->used.ring[used % SIZE].id, k);
}

/* The interface sends one, and the guest gets it. */
static void receives(struct rig *r)
{
    struct ring *g = r->ring[RX];
    uint16_t used = g->used.idx;
    uint8_t want[FRAME];

    fill(want, 0x80 + r->got++);
    assert_int_equal(write(r->packet, want, FRAME), FRAME);
    assert_true(signalled(r->v[RX].call));
    assert_int_equal((uint16_t)(__atomic_load_n(&g->used.idx, __ATOMIC_ACQUIRE) - used), 1);
    unsigned k = g->used.ring[used % SIZE].id;

    assert_in_range(k, 0, SIZE - 1);
    assert_int_equal(g->used.ring[used % SIZE].len, TAP_HDR_LEN + FRAME);
    assert_memory_equal(g->buf[k] + TAP_HDR_LEN, want, FRAME);
    assert_int_equal(g->buf[k][10], 1); /* num_buffers */
}

#define FEATURES (F_VERSION_1 | F_MRG_RXBUF)

static void starts(struct rig *r, uint64_t features)
{
    int ret = vhost_start(&r->vhost, features, r->v, r->tap.fd[0]);

    if (ret)
        fail_msg("vhost_start: %s", strerror(-ret));
}

/* --- tests ------------------------------------------------------------------------------------ */

static void without_the_device_it_says_so(void **state)
{
    struct vhost v;
    struct gmem m;
    struct err e = { 0 };
    static uint8_t ram[4096];

    (void)state;
    if (access(DEVICE, F_OK) == 0) {
        print_message("skipped: this host has " DEVICE "\n");
        skip();
    }
    gmem_init_at(&m, ram, sizeof ram);
    int ret = vhost_open(&v, &m, "tap7", &e);

    assert_true(ret == -ENOENT || ret == -ENODEV);
    assert_int_equal(e.code, -ret);
    assert_int_equal(v.fd, -1);
    assert_ptr_equal(strstr(e.msg, "net tap7: can't open " DEVICE ": "), e.msg);
    assert_non_null(strstr(e.msg, "modprobe vhost_net"));
    assert_non_null(strstr(e.msg, "leave out vhost"));
    vhost_close(&v);
}

static void frames_go_both_ways(void **state)
{
    struct rig r;

    (void)state;
    NEEDS_VHOST;
    rig_init(&r);
    assert_true((r.vhost.features & FEATURES) == FEATURES);
    assert_true(fcntl(r.vhost.fd, F_GETFD) & FD_CLOEXEC);
    starts(&r, FEATURES);
    offer(&r, RX, SIZE);
    for (unsigned i = 0; i < 3 * SIZE; i++) {
        sends(&r);
        receives(&r);
        offer(&r, RX, 1);
    }
    uint16_t base[VHOST_RINGS] = { 0 };

    vhost_stop(&r.vhost, base);
    assert_int_equal(base[RX], 3 * SIZE);
    assert_int_equal(base[TX], 3 * SIZE);
    rig_fini(&r);
}

/* Stopped it moves nothing, and from where it stood it goes on, without a loss. */
static void stops_and_goes_on(void **state)
{
    struct rig r;
    uint16_t base[VHOST_RINGS];

    (void)state;
    NEEDS_VHOST;
    rig_init(&r);
    offer(&r, RX, SIZE); /* before it starts */
    for (unsigned round = 0; round < 5; round++) {
        starts(&r, FEATURES | (round & 1 ? F_EVENT_IDX : 0));
        for (unsigned i = 0; i <= round; i++) {
            r.ring[TX]->avail.used_event = r.ring[TX]->used.idx;
            r.ring[RX]->avail.used_event = r.ring[RX]->used.idx;
            sends(&r);
            receives(&r);
            offer(&r, RX, 1);
        }
        vhost_stop(&r.vhost, base);
        assert_int_equal(base[TX], r.sent);
        assert_int_equal(base[RX], r.got);
        uint16_t used = r.ring[RX]->used.idx;
        uint8_t frame[FRAME];

        fill(frame, 0x80 + r.got);
        assert_int_equal(write(r.packet, frame, FRAME), FRAME);
        assert_int_equal(write(r.v[RX].kick, &(uint64_t){ 1 }, 8), 8);
        sleep_ms(20);
        assert_int_equal(r.ring[RX]->used.idx, used);
        assert_int_equal(read(r.tap.fd[0], frame, sizeof frame), FRAME); /* cut by its header */
        for (unsigned i = 0; i < VHOST_RINGS; i++)
            r.v[i].base = base[i];
    }
    rig_fini(&r);
}

/* Buffers and frames from before the start, of which no kick tells. */
static void what_waits_is_taken(void **state)
{
    struct rig r;
    uint8_t frame[FRAME], got[FRAME];
    uint16_t base[VHOST_RINGS];

    (void)state;
    NEEDS_VHOST;
    rig_init(&r);
    for (unsigned i = 0; i < VHOST_RINGS; i++)
        for (unsigned k = 0; k < 3; k++) {
            r.ring[i]->avail.ring[k] = (uint16_t)k;
            r.ring[i]->avail.idx++;
            r.ring[TX]->desc[k].len = TAP_HDR_LEN + FRAME;
        }
    fill(frame, 1);
    for (unsigned k = 0; k < 3; k++) {
        memcpy(r.ring[TX]->buf[k] + TAP_HDR_LEN, frame, FRAME);
        assert_int_equal(write(r.packet, frame, FRAME), FRAME);
    }
    starts(&r, FEATURES);
    for (unsigned k = 0; k < 3; k++)
        read_all(r.packet, got, FRAME);
    assert_memory_equal(got, frame, FRAME);
    for (unsigned i = 0; i < VHOST_RINGS; i++)
        while (__atomic_load_n(&r.ring[i]->used.idx, __ATOMIC_ACQUIRE) != 3)
            assert_true(signalled(r.v[i].call));
    vhost_stop(&r.vhost, base);
    assert_int_equal(base[RX], 3);
    assert_int_equal(base[TX], 3);
    rig_fini(&r);
}

/* What it does not know or must never do is left out, not refused. */
static void features_are_cut(void **state)
{
    struct rig r;
    uint16_t base[VHOST_RINGS];

    (void)state;
    NEEDS_VHOST;
    rig_init(&r);
    assert_int_equal(r.vhost.features & (F_LOG_ALL | F_HEADER), 0);
    starts(&r, FEATURES | F_LOG_ALL | F_HEADER | 1 | UINT64_C(1) << 63);
    offer(&r, RX, 4);
    sends(&r);
    receives(&r); /* one header, of ours and not two */
    vhost_stop(&r.vhost, base);
    rig_fini(&r);
}

/* Where a start fails nothing runs, and the next one may succeed. */
static void a_failed_start_leaves_nothing(void **state)
{
    struct rig r;

    (void)state;
    NEEDS_VHOST;
    rig_init(&r);
    for (unsigned i = 0; i < VHOST_RINGS; i++) {
        struct vhost_ring was = r.v[i];

        r.v[i].size = 3;
        assert_int_equal(vhost_start(&r.vhost, FEATURES, r.v, r.tap.fd[0]), -EINVAL);
        r.v[i] = was;
        r.v[i].avail = (uint8_t *)was.avail + 1;
        assert_int_equal(vhost_start(&r.vhost, FEATURES, r.v, r.tap.fd[0]), -EINVAL);
        r.v[i] = was;
        r.v[i].used = (void *)(uintptr_t)4096; /* no memory of the guest's */
        assert_true(vhost_start(&r.vhost, FEATURES, r.v, r.tap.fd[0]) < 0);
        r.v[i] = was;
        r.v[i].kick = r.tap.fd[0]; /* no eventfd */
        assert_true(vhost_start(&r.vhost, FEATURES, r.v, r.tap.fd[0]) < 0);
        r.v[i] = was;
    }
    assert_true(vhost_start(&r.vhost, FEATURES, r.v, r.v[0].kick) < 0); /* no tap */
    offer(&r, RX, SIZE);
    starts(&r, FEATURES);
    sends(&r);
    receives(&r);
    rig_fini(&r);
}

static void a_broken_ring_is_told_of(void **state)
{
    struct rig r;
    uint16_t base[VHOST_RINGS];

    (void)state;
    NEEDS_VHOST;
    rig_init(&r);
    starts(&r, FEATURES);
    r.ring[TX]->desc[0].addr = UINT64_C(1) << 40;
    offer(&r, TX, 1);
    assert_true(signalled(r.v[TX].broken));
    vhost_stop(&r.vhost, base);
    rings_init(&r);
    starts(&r, FEATURES);
    offer(&r, RX, SIZE);
    sends(&r);
    receives(&r);
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_the_device_it_says_so),
        cmocka_unit_test(frames_go_both_ways),
        cmocka_unit_test(stops_and_goes_on),
        cmocka_unit_test(what_waits_is_taken),
        cmocka_unit_test(features_are_cut),
        cmocka_unit_test(a_failed_start_leaves_nothing),
        cmocka_unit_test(a_broken_ring_is_told_of),
    };

    return cmocka_run_group_tests_name("host/vhost", tests, setup, NULL);
}
