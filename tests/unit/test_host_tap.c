/* Taps: real ones in a network namespace of the test's own (which takes root), opened by name and
 * as files, as they should be and as they should not; what the link reports; and over a kernel that
 * only writes down, what it is asked for. Messages of rtnetlink at random: test_host_link.c. */
#include "tests/unit/unit.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "core/log.h"
#include "core/num.h"
#include "host/tap.h"

#define DEVICE "/dev/net/tun"
#define TSO    (TUN_F_TSO4 | TUN_F_TSO6)
#define USO    (TUN_F_USO4 | TUN_F_USO6)
#define ALL    (TUN_F_CSUM | TSO | USO)
#define SOME   1000 /* a user without privileges */

static const char *missing; /* why there is no namespace */

#define NEEDS_NETWORK                                                                              \
    do {                                                                                           \
        if (missing) {                                                                             \
            print_message("skipped: %s\n", missing);                                               \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

/* In a chroot, say, / is no mount, and what is mounted can't be kept from others. */
#define NEEDS_MOUNTS                                                                               \
    do {                                                                                           \
        if (!own_mounts()) {                                                                       \
            print_message("skipped: no mounts of its own\n");                                      \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

static bool own_mounts(void)
{
    pid_t pid = fork();
    int status = 1;

    if (pid == 0)
        _exit(unshare(CLONE_NEWNS) || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) ? 1 : 0);
    waitpid(pid, &status, 0);
    return status == 0;
}

static void quiet(const char *path)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd >= 0)
        assert_int_equal(write(fd, "1", 1), 1);
    close(fd);
}

/* A network of our own, in which nobody speaks but the tests. */
static int setup(void **state)
{
    log_init(open("/dev/null", O_WRONLY | O_CLOEXEC), LOG_DEBUG);
    if (access(DEVICE, R_OK | W_OK) < 0)
        missing = "no " DEVICE " that may be opened";
    else if (unshare(CLONE_NEWNET) < 0)
        missing = "a network namespace takes root";
    else
        quiet("/proc/sys/net/ipv6/conf/default/disable_ipv6");
    return unit_watchdog(state);
}

/* Runs a command; true if it succeeded. */
__attribute__((format(printf, 1, 2))) static bool try(const char *fmt, ...)
{
    char line[256];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    assert_true(n > 0 && (size_t)n < sizeof line);
    return system(line) == 0; /* NOLINT(cert-env33-c): lines of this file's own */
}

#define sh(...)                                                                                    \
    do {                                                                                           \
        if (!try(__VA_ARGS__))                                                                     \
            fail_msg("failed: %s", #__VA_ARGS__);                                                  \
    } while (0)

/* --- opening ---------------------------------------------------------------------------------- */

static void check_open(const struct tap *t, unsigned n)
{
    assert_int_equal(t->n, n);
    assert_int_equal(t->multi, n > 1);
    for (unsigned q = 0; q < TAP_QUEUES_MAX; q++) {
        assert_int_equal(t->fd[q] >= 0, q < n);
        if (q >= n)
            continue;
        int flags = fcntl(t->fd[q], F_GETFL), len = 0, little = 0;

        assert_int_equal(flags & (O_NONBLOCK | O_ACCMODE), O_NONBLOCK | O_RDWR);
        assert_int_equal(fcntl(t->fd[q], F_GETFD), FD_CLOEXEC);
        assert_int_equal(ioctl(t->fd[q], TUNGETVNETHDRSZ, &len), 0);
        assert_int_equal(len, TAP_HDR_LEN);
        assert_int_equal(ioctl(t->fd[q], TUNGETVNETLE, &little), 0);
        assert_int_equal(little, 1);
    }
    assert_int_equal(t->offloads & ~(unsigned)ALL, 0);
    assert_true(t->link.mtu >= TAP_MTU_MIN);
    assert_false(t->link.gone);
}

static void taken_with(struct tap *t, const struct tap_opts *o)
{
    struct err e = { 0 };

    if (tap_open(t, o, &e) != 0)
        fail_msg("%s", e.msg);
    check_open(t, o->queues);
}

static void taken(struct tap *t, const char *name, unsigned queues, unsigned mtu)
{
    taken_with(t, &(struct tap_opts){ .name = name, .fd = -1, .queues = queues, .mtu = mtu });
    assert_string_equal(t->name, name);
    assert_int_equal(t->ifindex, if_nametoindex(name));
    assert_true(t->netlink >= 0);
    assert_true(t->filters);
}

static unsigned descriptors(void)
{
    unsigned n = 0;

    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* It is refused with this code, names itself, says all of the words, and leaves nothing open. */
static void refused_with(const struct tap_opts *o, int code, const char *const words[4])
{
    struct tap t;
    struct err e = { 0 };
    char head[80];
    bool fd_open = !o->name && fcntl(o->fd, F_GETFD) == 0;
    unsigned before = descriptors();
    int ret = tap_open(&t, o, &e);

    if (o->name)
        snprintf(head, sizeof head, "net %s: ", o->name);
    else
        snprintf(head, sizeof head, "net fd=%d: ", o->fd);
    if (ret != -code || e.code != code)
        fail_msg("%s%d, not %d: %s", head, ret, -code, e.msg);
    if (strncmp(e.msg, head, strlen(head)) != 0)
        fail_msg("%sit says %s", head, e.msg);
    if (!strstr(e.msg + strlen(head), ": "))
        fail_msg("no remedy in: %s", e.msg);
    for (int i = 0; i < 4 && words[i]; i++)
        if (!strstr(e.msg + strlen(head), words[i]))
            fail_msg("\"%s\" is not in: %s", words[i], e.msg);
    assert_int_equal(descriptors(), before - fd_open);
    assert_int_equal(t.n, 0);
    assert_int_equal(t.netlink, -1);
    tap_close(&t); /* is no harm */
    assert_int_equal(descriptors(), before - fd_open);
}
#define REFUSED(name_, queues_, mtu_, code, ...)                                                   \
    refused_with(&(struct tap_opts){ .name = name_, .fd = -1, .queues = queues_, .mtu = mtu_ },    \
                 code, (const char *const[4]){ __VA_ARGS__ })
#define REFUSED_FD(fd_, mtu_, code, ...)                                                           \
    refused_with(&(struct tap_opts){ .fd = fd_, .queues = 1, .mtu = mtu_ }, code,                  \
                 (const char *const[4]){ __VA_ARGS__ })

/* A file as the parent would leave it: attached with these flags, and not closed on exec. */
static int file_of(const char *name, int flags)
{
    int fd = open(DEVICE, O_RDWR);
    struct ifreq ifr = { .ifr_flags = (short)flags };

    assert_true(fd >= 0);
    snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", name);
    assert_int_equal(ioctl(fd, TUNSETIFF, &ifr), 0);
    return fd;
}

#define AS_TAP (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

static int interface(const char *name, unsigned long request, struct ifreq *ifr)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    snprintf(ifr->ifr_name, sizeof ifr->ifr_name, "%s", name);
    int ret = ioctl(fd, request, ifr) < 0 ? -errno : 0;

    close(fd);
    return ret;
}

static bool is_up(const char *name)
{
    struct ifreq ifr = { 0 };

    assert_int_equal(interface(name, SIOCGIFFLAGS, &ifr), 0);
    return ifr.ifr_flags & IFF_UP;
}

static int mtu_of(const char *name)
{
    struct ifreq ifr = { 0 };

    assert_int_equal(interface(name, SIOCGIFMTU, &ifr), 0);
    return ifr.ifr_mtu;
}

/* --- frames ----------------------------------------------------------------------------------- */

static int packet_socket(const char *name)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
    struct sockaddr_ll at = { .sll_family = AF_PACKET,
                              .sll_protocol = htons(ETH_P_ALL),
                              .sll_ifindex = (int)if_nametoindex(name) };

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

#define FRAME 60

/* UDP over IPv4, its ports told by n, so that each n is a flow of its own. */
static void make_frame(uint8_t f[FRAME], const uint8_t to[6], unsigned n)
{
    static const uint8_t ip[] = {
        0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2
    };

    memset(f, 0, FRAME);
    memcpy(f, to, 6);
    f[6] = 2;
    f[12] = 8;
    memcpy(f + 14, ip, sizeof ip);
    f[34] = (uint8_t)(n >> 8);
    f[35] = (uint8_t)n;
    f[36] = 7;
    f[39] = 26;
}

static const uint8_t to_all[6] = { 255, 255, 255, 255, 255, 255 };

/* How many frames queue q has. */
static unsigned frames_in(const struct tap *t, unsigned q)
{
    uint8_t buf[TAP_HDR_LEN + 2048];
    unsigned n = 0;

    while (read(t->fd[q], buf, sizeof buf) > 0)
        n++;
    assert_true(errno == EAGAIN);
    return n;
}

/* --- by name ---------------------------------------------------------------------------------- */

static void a_missing_one_is_made(void **state)
{
    struct tap t;

    (void)state;
    NEEDS_NETWORK;
    taken(&t, "new", 1, 0);
    assert_true(t.link.up && is_up("new"));
    assert_int_equal(t.link.mtu, 1500);
    tap_close(&t);
    assert_int_equal(if_nametoindex("new"), 0); /* and goes with us */
    taken(&t, "fifteen-letters", 4, 9000);
    assert_true(t.link.up);
    assert_int_equal(t.link.mtu, 9000);
    assert_int_equal(mtu_of("fifteen-letters"), 9000);
    tap_close(&t);
    taken(&t, "small", TAP_QUEUES_MAX, TAP_MTU_MIN);
    assert_int_equal(t.link.mtu, TAP_MTU_MIN);
    tap_close(&t);
    assert_int_equal(t.n, 0);
    REFUSED("big", 1, TAP_MTU_MAX, EINVAL, "MTU of 65535", "smaller");
    assert_int_equal(if_nametoindex("big"), 0);
}

static void one_that_exists_is_left_as_it_is(void **state)
{
    struct tap t;

    (void)state;
    NEEDS_NETWORK;
    sh("ip tuntap add dev there mode tap && ip link set there mtu 2000");
    taken(&t, "there", 1, 0);
    assert_false(t.link.up || is_up("there"));
    assert_int_equal(t.link.mtu, 2000);
    tap_close(&t);
    taken(&t, "there", 1, 1400); /* the guest's is the smaller one */
    assert_int_equal(t.link.mtu, 2000);
    assert_int_equal(mtu_of("there"), 2000);
    tap_close(&t);
    REFUSED("there", 1, 2001, EINVAL, "MTU is 2000", "ip link set there mtu 2001");
    sh("ip link set there up");
    taken(&t, "there", 1, 2000);
    assert_true(t.link.up);
    tap_close(&t);
    assert_true(is_up("there")); /* persistent */
    sh("ip link del there");
}

static void names_that_no_interface_has(void **state)
{
    static const char *const names[] = {
        "", "sixteen-letters-", "a/b", ".", "..", "a b", "a\tb", "t%d", "a:1", "%", "a\n"
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        struct tap t;
        struct err e = { 0 };
        struct tap_opts o = { .name = names[i], .fd = -1, .queues = 1 };

        assert_int_equal(tap_open(&t, &o, &e), -EINVAL);
        assert_non_null(strstr(e.msg, "no interface can have this name: give one of 1 to 15"));
    }
}

static void numbers_that_can_not_be(void **state)
{
    (void)state;
    REFUSED("t", 0, 0, EINVAL, "0 queues", "1 to 16");
    REFUSED("t", TAP_QUEUES_MAX + 1, 0, EINVAL, "17 queues");
    REFUSED("t", 1, TAP_MTU_MIN - 1, EINVAL, "MTU of 67", "68 to 65535");
    REFUSED("t", 1, TAP_MTU_MAX + 1, EINVAL, "MTU of 65536");
}

static void other_kinds(void **state)
{
    (void)state;
    NEEDS_NETWORK;
    sh("ip tuntap add dev tun9 mode tun");
    for (unsigned queues = 1; queues < 3; queues++) {
        REFUSED("lo", queues, 0, EINVAL, "another kind", "macvtap", "fd=N");
        REFUSED("tun9", queues, 0, EINVAL, "another kind");
    }
    sh("ip link del tun9");
}

static void in_use(void **state)
{
    struct tap t;

    (void)state;
    NEEDS_NETWORK;
    sh("ip tuntap add dev busy1 mode tap");
    sh("ip tuntap add dev busy2 mode tap multi_queue");
    /* Down or up, with one queue or several, by one of us or another. */
    for (unsigned up = 0; up < 2; up++) {
        taken(&t, "busy1", 1, 0);
        REFUSED("busy1", 1, 0, EBUSY, "in use by another program or VM", "stop that one");
        tap_close(&t);
        taken(&t, "busy2", 2, 0);
        REFUSED("busy2", 2, 0, EBUSY, "in use");
        REFUSED("busy2", 1, 0, EBUSY, "in use");
        tap_close(&t);
        taken(&t, "busy2", 1, 0);
        REFUSED("busy2", 2, 0, EBUSY, "in use");
        tap_close(&t);
        sh("ip link set busy1 up; ip link set busy2 up");
    }
    sh("ip link del busy1; ip link del busy2");
}

/* --- queues ----------------------------------------------------------------------------------- */

static void queues_and_kinds(void **state)
{
    struct tap t;

    (void)state;
    NEEDS_NETWORK;
    sh("ip tuntap add dev sole mode tap; ip tuntap add dev many mode tap multi_queue");
    REFUSED("sole", 2, 0, EINVAL, "one queue", "ip tuntap add dev sole mode tap", "multi_queue");
    taken(&t, "many", 1, 0);                          /* fewer than it could have */
    assert_int_equal(tap_set_queue(&t, 0, false), 0); /* which there is none to switch */
    assert_int_equal(tap_set_queue(&t, 0, true), 0);
    tap_close(&t);
    taken(&t, "many", TAP_QUEUES_MAX, 0);
    tap_close(&t);
    taken(&t, "sole", 1, 0);
    tap_close(&t);
    sh("ip link del sole; ip link del many");
}

/* Frames of many flows come by the queues that are on, and by no others. */
static void frames_come_by_queues_that_are_on(void **state)
{
    struct tap t;

    (void)state;
    NEEDS_NETWORK;
    taken(&t, "multi", 4, 0);
    int fd = packet_socket("multi");
    static const unsigned on[] = { 0x1, 0x3, 0x3, 0xf, 0x9, 0x1, 0x5, 0x1 };

    for (unsigned i = 0; i < ARRAY_LEN(on); i++) {
        unsigned sum = 0;

        for (unsigned q = 1; q < 4; q++) /* also to what it is already */
            assert_int_equal(tap_set_queue(&t, q, on[i] >> q & 1), 0);
        for (unsigned n = 0; n < 200; n++) {
            uint8_t f[FRAME];

            make_frame(f, to_all, n);
            assert_int_equal(write(fd, f, sizeof f), sizeof f);
        }
        for (unsigned q = 0; q < 4; q++) {
            unsigned n = frames_in(&t, q);

            assert_int_equal(n > 0, on[i] >> q & 1);
            sum += n;
        }
        assert_int_equal(sum, 200);
    }
    close(fd);
    tap_close(&t);
}

/* A queue that was just opened is off, but for the first. */
static void only_the_first_queue_is_on(void **state)
{
    struct tap t;

    (void)state;
    NEEDS_NETWORK;
    taken(&t, "multi", 3, 0);
    int fd = packet_socket("multi");

    for (unsigned n = 0; n < 100; n++) {
        uint8_t f[FRAME];

        make_frame(f, to_all, n);
        assert_int_equal(write(fd, f, sizeof f), sizeof f);
    }
    assert_int_equal(frames_in(&t, 0), 100);
    assert_int_equal(frames_in(&t, 1) + frames_in(&t, 2), 0);
    close(fd);
    tap_close(&t);
}

/* Twelve bytes of header, then the frame, both ways. */
static void a_frame_has_its_header(void **state)
{
    struct tap t;
    uint8_t f[TAP_HDR_LEN + FRAME], got[256];

    (void)state;
    NEEDS_NETWORK;
    taken(&t, "hdr", 1, 0);
    int fd = packet_socket("hdr");

    memset(f, 0, sizeof f);
    make_frame(f + TAP_HDR_LEN, to_all, 3);
    assert_int_equal(write(t.fd[0], f, sizeof f), sizeof f);
    read_all(fd, got, FRAME);
    assert_memory_equal(got, f + TAP_HDR_LEN, FRAME);
    assert_int_equal(write(fd, f + TAP_HDR_LEN, FRAME), FRAME);
    assert_int_equal(read(t.fd[0], got, sizeof got), TAP_HDR_LEN + FRAME);
    assert_memory_equal(got + TAP_HDR_LEN, f + TAP_HDR_LEN, FRAME);
    close(fd);
    tap_close(&t);
}

/* --- another user's, another host's ----------------------------------------------------------- */

/* Runs fn in a child with namespaces of its own, where /dev/net/tun has this mode (0: there is
 * none). What fails there fails here. */
static void elsewhere(mode_t mode, bool with_module, void (*fn)(void))
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        bool ok = unshare(CLONE_NEWNS) == 0 &&
                  mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                  mount("none", "/dev/net", "tmpfs", 0, NULL) == 0;

        umask(0);
        if (ok && mode)
            ok = mknod(DEVICE, S_IFCHR | mode, makedev(10, with_module ? 200 : 254)) == 0;
        if (!ok)
            fail_msg("no /dev/net of our own: %s", strerror(errno));
        fn();
        _exit(0);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("the child failed: %#x", (unsigned)status);
}

static void become_some(void)
{
    assert_int_equal(setresgid(SOME, SOME, SOME), 0);
    assert_int_equal(setresuid(SOME, SOME, SOME), 0);
}

static void some_opens(void)
{
    struct tap t;

    become_some();
    taken(&t, "mine", 1, 0);
    tap_close(&t);
    taken(&t, "mine2", 2, 0);
    assert_int_equal(tap_set_queue(&t, 1, true), 0);
    tap_close(&t);
    REFUSED("theirs", 1, 0, EPERM, "belongs to another user", "ip tuntap add dev theirs mode tap",
            "user 1000");
    REFUSED("theirs2", 2, 0, EPERM, "belongs to another user", "user 1000 multi_queue");
    REFUSED("none", 1, 0, EPERM, "no such interface", "ip tuntap add dev none mode tap user 1000");
    REFUSED("none", 2, 0, EPERM, "user 1000 multi_queue");
    REFUSED("lo", 1, 0, EINVAL, "another kind");
}

static void some_may_not(void)
{
    become_some();
    REFUSED("mine", 1, 0, EACCES, "can't open " DEVICE, "chmod");
}

static void nobody_can(void)
{
    struct tap t;
    struct err e = { 0 };
    struct tap_opts o = { .name = "mine", .fd = -1, .queues = 1 };
    int ret = tap_open(&t, &o, &e);

    assert_true(ret == -ENOENT || ret == -ENODEV || ret == -ENXIO);
    assert_non_null(strstr(e.msg, "net mine: can't open " DEVICE));
    assert_non_null(strstr(e.msg, "modprobe tun"));
}

static void users_and_permissions(void **state)
{
    (void)state;
    NEEDS_NETWORK;
    if (geteuid() != 0) {
        print_message("skipped: other users take root\n");
        skip();
    }
    NEEDS_MOUNTS;
    sh("ip tuntap add dev mine mode tap user %d", SOME);
    sh("ip tuntap add dev mine2 mode tap user %d multi_queue", SOME);
    sh("ip tuntap add dev theirs mode tap user %d", SOME + 1);
    sh("ip tuntap add dev theirs2 mode tap user %d multi_queue", SOME + 1);
    elsewhere(0666, true, some_opens);
    elsewhere(0600, true, some_may_not);
    elsewhere(0666, false, nobody_can);
    elsewhere(0, false, nobody_can);
    sh("for i in mine mine2 theirs theirs2; do ip link del $i; done");
}

/* Runs fn on a thread where calls of nr fail with `code` if argument i has one of these bits. */
struct kernel {
    unsigned nr, arg;
    uint32_t request; /* ioctl's; 0: any */
    uint32_t bits;
    int code;
    void (*fn)(void);
    bool ready;
};

static void *kernel_thread(void *arg)
{
    struct kernel *k = arg;
    uint32_t second = offsetof(struct seccomp_data, args) + 8,
             at = (uint32_t)(offsetof(struct seccomp_data, args) + 8 * k->arg);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k->nr, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, second),
        BPF_JUMP(BPF_JMP | (k->request ? BPF_JEQ : BPF_JGE) | BPF_K, k->request, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, k->bits, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)k->code),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = { ARRAY_LEN(code), code };

    k->ready = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
               prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0;
    if (k->ready)
        k->fn();
    return NULL;
}

static struct tap made; /* by such a thread */
static struct err made_err;
static int made_ret;

static void make(void)
{
    struct tap_opts o = { .name = "other", .fd = -1, .queues = 2 };

    made_err = (struct err){ 0 };
    made_ret = tap_open(&made, &o, &made_err);
}

static void on_kernel(struct kernel k)
{
    pthread_t t;

    k.fn = make;
    assert_int_equal(pthread_create(&t, NULL, kernel_thread, &k), 0);
    pthread_join(t, NULL);
    assert_true(k.ready);
}

static void offloads_of_older_kernels(void **state)
{
    static const struct {
        unsigned not, are;
    } kernels[] = { { USO, TUN_F_CSUM | TSO }, { USO | TSO, TUN_F_CSUM }, { ALL, 0 } };
    struct tap t;

    (void)state;
    NEEDS_NETWORK;
    taken(&t, "other", 1, 0);
    assert_int_equal(t.offloads & (TUN_F_CSUM | TSO), TUN_F_CSUM | TSO);
    tap_close(&t);
    for (unsigned i = 0; i < ARRAY_LEN(kernels); i++) {
        on_kernel((struct kernel){ .nr = SYS_ioctl,
                                   .arg = 2,
                                   .request = TUNSETOFFLOAD,
                                   .bits = kernels[i].not,
                                   .code = EINVAL });
        assert_int_equal(made_ret, 0);
        check_open(&made, 2);
        assert_int_equal(made.offloads, kernels[i].are);
        tap_close(&made);
    }
}

static void a_host_without_rtnetlink(void **state)
{
    (void)state;
    NEEDS_NETWORK;
    sh("ip tuntap add dev other mode tap multi_queue; ip link set other mtu 1400");
    on_kernel(
        (struct kernel){ .nr = SYS_socket, .arg = 0, .bits = AF_NETLINK, .code = EAFNOSUPPORT });
    if (made_ret)
        fail_msg("%s", made_err.msg);
    check_open(&made, 2);
    assert_int_equal(made.netlink, -1);
    assert_true(made.link.up);
    assert_int_equal(made.link.mtu, 1400); /* asked by other means */
    assert_false(tap_read_link(&made));
    tap_close(&made);
    sh("ip link del other");
}

static void steps_that_fail_are_told(void **state)
{
    static const struct {
        uint32_t request;
        const char *word;
    } steps[] = { { TUNSETVNETHDRSZ, "can't be set up" },
                  { TUNSETVNETLE, "can't be set up" },
                  { TUNSETQUEUE, "can't be set up" },
                  { SIOCSIFFLAGS, "can't be brought up" },
                  { TUNSETIFF, "can't be opened" } };

    (void)state;
    NEEDS_NETWORK;
    for (unsigned i = 0; i < ARRAY_LEN(steps); i++) {
        unsigned before = descriptors();

        on_kernel((struct kernel){ .nr = SYS_ioctl,
                                   .arg = 1,
                                   .request = steps[i].request,
                                   .bits = UINT32_MAX,
                                   .code = EIO });
        assert_int_equal(made_ret, -EIO);
        assert_non_null(strstr(made_err.msg, "net other: "));
        assert_non_null(strstr(made_err.msg, steps[i].word));
        assert_int_equal(descriptors(), before);
        assert_int_equal(if_nametoindex("other"), 0);
    }
    on_kernel((struct kernel){
        .nr = SYS_ioctl, .arg = 1, .request = TUNSETIFF, .bits = UINT32_MAX, .code = E2BIG });
    assert_non_null(strstr(made_err.msg, "gives it no 2 queues: ask for fewer"));
    /* A host without filters is none the worse for it. */
    on_kernel((struct kernel){
        .nr = SYS_ioctl, .arg = 1, .request = TUNSETTXFILTER, .bits = UINT32_MAX, .code = EINVAL });
    assert_int_equal(made_ret, 0);
    assert_false(made.filters);
    assert_int_equal(tap_set_filter(&made, &(struct tap_filter){ .n = 1 }), 0);
    tap_close(&made);
}

/* --- files of the parent's -------------------------------------------------------------------- */

static void a_file_of_the_parents(void **state)
{
    struct tap t;
    int fd;

    (void)state;
    NEEDS_NETWORK;
    fd = file_of("theirs%d", AS_TAP);
    taken_with(&t, &(struct tap_opts){ .fd = fd, .queues = 1 });
    assert_int_equal(t.fd[0], fd);
    assert_string_equal(t.name, "theirs0");
    assert_int_equal(t.ifindex, if_nametoindex("theirs0"));
    assert_true(t.netlink >= 0 && t.filters);
    assert_false(t.link.up); /* whoever made it brings it up */
    sh("ip link set theirs0 up mtu 1280");
    assert_true(tap_read_link(&t));
    assert_true(t.link.up);
    assert_int_equal(t.link.mtu, 1280);
    tap_close(&t);
    assert_int_equal(fcntl(fd, F_GETFD), -1);

    fd = file_of("theirs", AS_TAP | IFF_MULTI_QUEUE); /* one queue of it */
    taken_with(&t, &(struct tap_opts){ .fd = fd, .queues = 1, .mtu = 1500 });
    tap_close(&t);
    fd = file_of("theirs", AS_TAP);
    REFUSED_FD(fd, 1501, EINVAL, "MTU is 1500", "ip link set theirs mtu 1501");
}

static void files_that_are_no_taps(void **state)
{
    struct tap t;
    int p[2];

    (void)state;
    NEEDS_NETWORK;
    REFUSED_FD(file_of("f", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR), 0, EINVAL, "a tun", "IFF_TAP");
    REFUSED_FD(file_of("f", IFF_TAP | IFF_VNET_HDR), 0, EINVAL, "IFF_NO_PI");
    REFUSED_FD(file_of("f", IFF_TAP | IFF_NO_PI), 0, EINVAL, "without a vnet header",
               "IFF_VNET_HDR");
    REFUSED_FD(open(DEVICE, O_RDWR), 0, EBADFD, "a tap without an interface", "TUNSETIFF");
    REFUSED_FD(open(DEVICE, O_RDONLY), 0, EINVAL, "open for reading and writing");
    REFUSED_FD(open("/dev/null", O_RDWR), 0, ENOTTY, "not a tap");
    REFUSED_FD(open("/dev", O_RDONLY), 0, EINVAL, "not a tap");
    assert_int_equal(pipe(p), 0);
    REFUSED_FD(p[0], 0, EINVAL, "not a tap");
    close(p[1]);
    REFUSED_FD(1000, 0, EBADF, "not a descriptor that the parent left open");
    REFUSED_FD(-1, 0, EBADF, "not a descriptor");

    /* One of ours, and one given twice. */
    int fd = file_of("f", AS_TAP);
    struct err e = { 0 };
    struct tap_opts o = { .fd = fd, .queues = 1 };
    struct tap twice;

    taken_with(&t, &o);
    assert_int_equal(tap_open(&twice, &o, &e), -EBADF);
    assert_non_null(strstr(e.msg, "given twice"));
    assert_true(fcntl(fd, F_GETFD) >= 0); /* still the first one's */
    tap_close(&t);
}

/* Its interface is where we are not; here there may be one of that name, or none. */
static void a_file_from_another_namespace(void **state)
{
    int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    struct tap t;

    (void)state;
    NEEDS_NETWORK;
    assert_true(here >= 0);
    for (int same = 0; same < 2; same++) {
        assert_int_equal(unshare(CLONE_NEWNET), 0);
        int fd = file_of("far", AS_TAP);

        assert_int_equal(setns(here, CLONE_NEWNET), 0);
        if (same)
            sh("ip tuntap add dev far mode tap; ip link set far mtu 1400");
        taken_with(&t, &(struct tap_opts){ .fd = fd, .queues = 1, .mtu = same ? 9000 : 0 });
        assert_string_equal(t.name, "far");
        assert_int_equal(t.netlink, -1);
        assert_int_equal(t.ifindex, 0);
        assert_true(t.link.up);
        assert_int_equal(t.link.mtu, same ? 9000 : TAP_MTU_DEFAULT);
        assert_false(tap_read_link(&t));
        tap_close(&t);
    }
    sh("ip link del far");
    close(here);
}

static void a_macvtap(void **state)
{
    struct tap t;
    char path[64];
    unsigned major, minor;

    (void)state;
    NEEDS_NETWORK;
    NEEDS_MOUNTS;
    if (!try("ip link add low type veth peer name low1 2>/dev/null") ||
        !try("ip link add link low name mvt type macvtap 2>/dev/null")) {
        print_message("skipped: this host has no macvtap\n");
        skip();
    }
    sh("ip link set low up; ip link set low1 up; ip link set mvt up");
    REFUSED("mvt", 1, 0, EINVAL, "another kind", "macvtap", "fd=N");
    /* /sys is of the namespace we came from: the number is asked of a mount of our own. */
    snprintf(path, sizeof path, "/tmp/mayfly-macvtap-%d", getpid());
    sh("unshare -m sh -c 'mount -t sysfs sysfs /sys && cat /sys/class/net/mvt/tap%u/dev' >%s",
       if_nametoindex("mvt"), path);
    FILE *f = fopen(path, "re");

    assert_int_equal(fscanf(f, "%u:%u", &major, &minor), 2);
    fclose(f);
    unlink(path);
    assert_int_equal(mknod(path, S_IFCHR | 0600, makedev(major, minor)), 0);
    int fd = open(path, O_RDWR);
    struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };

    assert_true(fd >= 0);
    assert_int_equal(ioctl(fd, TUNSETIFF, &ifr), 0); /* its flags are set anew */
    taken_with(&t, &(struct tap_opts){ .fd = fd, .queues = 1 });
    assert_string_equal(t.name, "mvt");
    assert_int_equal(ioctl(fd, TUNGETIFF, &ifr), 0);
    assert_true(ifr.ifr_flags & IFF_VNET_HDR);
    assert_false(t.filters);
    assert_true(t.netlink >= 0 && t.link.up);
    assert_int_equal(tap_set_offload(&t, TUN_F_CSUM | TSO), 0);
    assert_int_equal(tap_set_filter(&t, &(struct tap_filter){ .n = 0 }), 0);
    sh("ip link set mvt down");
    assert_true(tap_read_link(&t));
    assert_false(t.link.up);
    sh("ip link del mvt");
    assert_true(tap_read_link(&t));
    assert_true(t.link.gone);
    tap_close(&t);
    unlink(path);
    sh("ip link del low");
}

/* --- the link --------------------------------------------------------------------------------- */

#define EXPECT_LINK(t, changes, up_, gone_, mtu_)                                                  \
    do {                                                                                           \
        assert_int_equal(tap_read_link(t), changes);                                               \
        assert_int_equal((t)->link.up, up_);                                                       \
        assert_int_equal((t)->link.gone, gone_);                                                   \
        assert_int_equal((t)->link.mtu, mtu_);                                                     \
        assert_false(tap_read_link(t));                                                            \
    } while (0)

/* Which the kernel reports when it comes to it, within a second. */
static void set_carrier(const struct tap *t, int on)
{
    struct pollfd p = { .fd = t->netlink, .events = POLLIN };

    assert_int_equal(ioctl(t->fd[0], TUNSETCARRIER, &on), 0);
    assert_int_equal(poll(&p, 1, UNIT_WAIT), 1);
}

static void the_link_is_followed(void **state)
{
    struct tap t;

    (void)state;
    NEEDS_NETWORK;
    sh("ip tuntap add dev lnk mode tap; ip link add brx type bridge");
    taken(&t, "lnk", 1, 0);
    EXPECT_LINK(&t, false, false, false, 1500);
    sh("ip link set lnk up");
    EXPECT_LINK(&t, true, true, false, 1500);
    sh("ip link set lnk mtu 9000");
    EXPECT_LINK(&t, true, true, false, 9000);
    sh("ip link set lnk mtu 68");
    EXPECT_LINK(&t, true, true, false, 68);
    sh("ip link set lnk mtu 1500; ip link set lnk down; ip link set lnk up");
    EXPECT_LINK(&t, true, true, false, 1500);
    sh("ip link set lnk down; ip link set lnk up"); /* a flap that nobody need know of */
    EXPECT_LINK(&t, false, true, false, 1500);
    sh("ip link set lnk alias blue; ip link set lo up; ip link set lo down");
    EXPECT_LINK(&t, false, true, false, 1500);
    sh("ip link set lnk master brx");
    EXPECT_LINK(&t, false, true, false, 1500);
    sh("ip link set lnk nomaster"); /* is told of as a deleted link, of the bridge's */
    EXPECT_LINK(&t, false, true, false, 1500);
    sh("ip link set lnk down; ip link set lnk name lnk2; ip link set lnk2 up mtu 1300");
    EXPECT_LINK(&t, true, true, false, 1300);
    set_carrier(&t, 0);
    EXPECT_LINK(&t, true, false, false, 1300);
    set_carrier(&t, 1);
    EXPECT_LINK(&t, true, true, false, 1300);
    sh("ip link del lnk2");
    EXPECT_LINK(&t, true, false, true, 1300);
    sh("ip link add lnk index %u type bridge; ip link set lnk up", 60);
    EXPECT_LINK(&t, false, false, true, 1300);
    sh("ip link del lnk; ip link del brx");
    /* What is left of it: calls fail, and do no harm. */
    assert_true(tap_set_offload(&t, ALL) < 0);
    assert_true(tap_set_filter(&t, &(struct tap_filter){ .all = true }) < 0);
    tap_close(&t);
}

/* Deleted behind a new one of the same number. */
static void a_number_used_again(void **state)
{
    struct tap t;

    (void)state;
    NEEDS_NETWORK;
    sh("ip tuntap add dev again mode tap");
    taken(&t, "again", 1, 0);
    unsigned index = t.ifindex;

    sh("ip link del again; ip link add br9 index %u type bridge; ip link set br9 up mtu 1280",
       index);
    EXPECT_LINK(&t, true, false, true, 1500);
    sh("ip link del br9");
    EXPECT_LINK(&t, false, false, true, 1500);
    tap_close(&t);
}

/* To where we hear nothing of it; its file is as good as before. */
static void one_that_is_moved_away(void **state)
{
    struct tap t;
    int p[2];
    char there;

    (void)state;
    NEEDS_NETWORK;
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    taken(&t, "nomad", 1, 0);
    pid_t pid = fork();

    if (pid == 0) {
        if (unshare(CLONE_NEWNET) == 0 && write(p[1], "", 1) == 1)
            pause();
        _exit(1);
    }
    close(p[1]);
    bool made_one = read(p[0], &there, 1) == 1;
    bool away = made_one && try("ip link set nomad netns %d", pid) && !if_nametoindex("nomad");

    EXPECT_LINK(&t, false, true, false, 1500);
    assert_int_equal(t.ifindex, 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(p[0]);
    assert_true(away);
    tap_close(&t);
}

/* More reports than the socket holds: some are lost, the last word is not. */
static void reports_that_are_lost(void **state)
{
    struct tap t;
    int small = 1;
    socklen_t len = sizeof small;
    char flood[160];

    (void)state;
    NEEDS_NETWORK;
    for (int end = 0; end < 3; end++) {
        sh("ip tuntap add dev flood mode tap; ip link set flood up");
        taken(&t, "flood", 1, 0);
        assert_int_equal(setsockopt(t.netlink, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
        assert_int_equal(getsockopt(t.netlink, SOL_SOCKET, SO_RCVBUF, &small, &len), 0);
        for (int i = 0; i < 40; i++) {
            struct ifreq ifr = { .ifr_mtu = 1000 + i };

            assert_int_equal(interface("flood", SIOCSIFMTU, &ifr), 0);
        }
        snprintf(flood, sizeof flood, "ip link %s flood %s", end == 2 ? "del" : "set",
                 end == 0   ? "down"
                 : end == 1 ? "mtu 1234"
                            : "");
        sh("%s", flood);
        assert_true(tap_read_link(&t));
        assert_int_equal(t.link.gone, end == 2);
        assert_int_equal(t.link.up, end == 1);
        if (end < 2)
            assert_int_equal(t.link.mtu, end == 1 ? 1234 : 1039);
        assert_false(tap_read_link(&t));
        tap_close(&t);
        if (end < 2)
            sh("ip link del flood");
    }
}

/* What another process sends to the socket is not heard. */
static void nobody_else_is_heard(void **state)
{
    struct tap t;
    struct sockaddr_nl { /* linux/netlink.h's */
        uint16_t family, pad;
        uint32_t pid, groups;
    } at;
    socklen_t len = sizeof at;

    (void)state;
    NEEDS_NETWORK;
    taken(&t, "heard", 1, 0);
    assert_int_equal(getsockname(t.netlink, (struct sockaddr *)&at, &len), 0);
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0);

    at.groups = 0;
    assert_int_equal(sendto(fd, "hello, I am the kernel", 22, 0, (struct sockaddr *)&at, len), -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(fd);
    tap_close(&t);
}

/* --- filters and offloads --------------------------------------------------------------------- */

/* Whether the host may leave segmentation to who reads from there. */
static bool does_tso(const char *name)
{
    struct ethtool_value tso = { .cmd = ETHTOOL_GTSO };
    struct ifreq ifr = { .ifr_data = (char *)&tso };

    assert_int_equal(interface(name, SIOCETHTOOL, &ifr), 0);
    return tso.data;
}

/* What a persistent tap was left with by its last user does not reach us. */
static void what_the_last_user_left(void **state)
{
    struct {
        uint16_t flags, count;
        uint8_t address[6];
    } none = { .count = 1 };
    struct tap t;
    uint8_t f[FRAME];
    int ten = 10, fd;

    (void)state;
    NEEDS_NETWORK;
    sh("ip tuntap add dev left mode tap; ip link set left up");
    fd = file_of("left", AS_TAP);
    assert_int_equal(ioctl(fd, TUNSETTXFILTER, &none) >= 0, 1);
    assert_int_equal(ioctl(fd, TUNSETVNETHDRSZ, &ten), 0);
    assert_int_equal(ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TSO), 0);
    close(fd);
    assert_true(does_tso("left"));
    taken(&t, "left", 1, 0);
    assert_false(does_tso("left"));
    assert_int_equal(tap_set_offload(&t, TUN_F_CSUM | TUN_F_TSO4), 0);
    assert_true(does_tso("left"));
    assert_int_equal(tap_set_offload(&t, TUN_F_CSUM), 0);
    assert_false(does_tso("left"));
    fd = packet_socket("left");
    make_frame(f, to_all, 1);
    assert_int_equal(write(fd, f, sizeof f), sizeof f);
    assert_int_equal(frames_in(&t, 0), 1);
    close(fd);
    tap_close(&t);
    sh("ip link del left");
}

static bool passes(const struct tap *t, int fd, const uint8_t to[6])
{
    uint8_t f[FRAME];

    make_frame(f, to, 1);
    assert_int_equal(write(fd, f, sizeof f), sizeof f);
    return frames_in(t, 0) == 1;
}

static void the_kernel_filters(void **state)
{
    static const uint8_t host[6] = { 2, 0, 0, 0, 0, 1 }, other[6] = { 2, 0, 0, 0, 0, 2 },
                         group[6] = { 1, 0, 0x5e, 0, 0, 1 }, far[6] = { 0x33, 0x33, 0, 0, 7, 9 };
    struct tap_filter f = { .n = 1 };
    struct tap t;

    (void)state;
    NEEDS_NETWORK;
    taken(&t, "filt", 1, 0);
    int fd = packet_socket("filt");

    assert_true(passes(&t, fd, other) && passes(&t, fd, far));
    memcpy(f.address[0], host, 6);
    assert_int_equal(tap_set_filter(&t, &f), 0);
    assert_true(passes(&t, fd, host));
    assert_false(passes(&t, fd, other) || passes(&t, fd, group) || passes(&t, fd, to_all));
    f.all_multi = true;
    assert_int_equal(tap_set_filter(&t, &f), 0);
    assert_true(passes(&t, fd, host) && passes(&t, fd, group) && passes(&t, fd, far) &&
                passes(&t, fd, to_all));
    assert_false(passes(&t, fd, other));
    f.n = 0;
    assert_int_equal(tap_set_filter(&t, &f), 0);
    assert_true(passes(&t, fd, group));
    assert_false(passes(&t, fd, host));
    f.all_multi = false; /* nothing at all */
    assert_int_equal(tap_set_filter(&t, &f), 0);
    assert_false(passes(&t, fd, host) || passes(&t, fd, group) || passes(&t, fd, to_all));
    /* Many groups, and the host's own address behind them. */
    f.n = 20;
    for (unsigned i = 0; i < f.n; i++)
        memcpy(f.address[i], (uint8_t[]){ 1, 0, 0x5e, 1, 1, (uint8_t)i }, 6);
    memcpy(f.address[f.n++], host, 6);
    assert_int_equal(tap_set_filter(&t, &f), 0);
    for (unsigned i = 0; i < f.n; i++)
        assert_true(passes(&t, fd, f.address[i]));
    assert_false(passes(&t, fd, other));
    f.all = true;
    assert_int_equal(tap_set_filter(&t, &f), 0);
    assert_true(passes(&t, fd, other));
    close(fd);
    tap_close(&t);
}

/* A kernel that writes down. */
static struct {
    unsigned queue, calls, offloads;
    unsigned long request;
    int answer;
    struct {
        uint16_t flags, count;
        uint8_t address[TAP_FILTER_MAX][6];
    } filter;
    short flags;
} asked;

static int fake_control(struct tap *t, unsigned queue, unsigned long request, void *arg)
{
    (void)t;
    asked.calls++;
    asked.queue = queue;
    asked.request = request;
    switch (request) {
    case TUNSETOFFLOAD:
        asked.offloads = (unsigned)(uintptr_t)arg;
        break;
    case TUNSETTXFILTER:
        memcpy(&asked.filter, arg, 4);
        assert_true(asked.filter.count <= TAP_FILTER_MAX);
        memcpy(asked.filter.address, (uint8_t *)arg + 4, asked.filter.count * 6u);
        break;
    case TUNSETQUEUE:
        asked.flags = ((struct ifreq *)arg)->ifr_flags;
        break;
    default:
        fail_msg("request %#lx", request);
    }
    return asked.answer;
}

static struct tap fake_tap(unsigned offloads)
{
    memset(&asked, 0, sizeof asked);
    return (struct tap){ .n = 4,
                         .offloads = offloads,
                         .multi = true,
                         .filters = true,
                         .netlink = -1,
                         .control = fake_control };
}

/* Whatever is asked for, the kernel sees a subset of it that it takes. */
static void offloads_the_kernel_takes(void **state)
{
    (void)state;
    for (unsigned can = 0; can < 128; can++)
        for (unsigned want = 0; want < 256; want++) {
            struct tap t = fake_tap(can);

            assert_int_equal(tap_set_offload(&t, want), 0);
            assert_int_equal(asked.calls, 1);
            unsigned got = asked.offloads, both = can & want;

            assert_int_equal(got & ~both, 0);
            assert_true(got & TUN_F_CSUM || got == 0);
            assert_true((got & USO) == USO || (got & USO) == 0);
            /* and no less than that: */
            if (both & TUN_F_CSUM) {
                assert_int_equal(got & TSO, both & TSO);
                assert_int_equal((got & USO) == USO, (both & USO) == USO);
            }
        }
    struct tap t = fake_tap(ALL);

    asked.answer = -EBADFD;
    assert_int_equal(tap_set_offload(&t, 0), -EBADFD);
}

static void queues_are_switched(void **state)
{
    struct tap t = fake_tap(0);

    (void)state;
    assert_int_equal(tap_set_queue(&t, 3, true), 0);
    assert_int_equal(asked.queue, 3);
    assert_int_equal(asked.flags, IFF_ATTACH_QUEUE);
    assert_int_equal(tap_set_queue(&t, 2, false), 0);
    assert_int_equal(asked.queue, 2);
    assert_int_equal(asked.flags, IFF_DETACH_QUEUE);
    asked.answer = -EINVAL; /* the kernel's for one that is as it should be */
    assert_int_equal(tap_set_queue(&t, 2, false), 0);
    asked.answer = -EPERM;
    assert_int_equal(tap_set_queue(&t, 2, false), -EPERM);
    t.multi = false;
    asked.calls = 0;
    assert_int_equal(tap_set_queue(&t, 0, false), 0);
    assert_int_equal(asked.calls, 0);
}

/* The filter of drivers/net/tun.c: eight addresses exactly, the groups behind them by their hash
 * (which may let more through), and a host among those turns it off. */
static bool model_passes(const uint8_t to[6])
{
    bool group = to[0] & 1;

    if (asked.filter.count == 0)
        return true;
    for (unsigned i = 8; i < asked.filter.count; i++)
        if (!(asked.filter.address[i][0] & 1))
            return true;
    for (unsigned i = 0; i < asked.filter.count; i++)
        if (memcmp(asked.filter.address[i], to, 6) == 0)
            return true;
    return group && asked.filter.flags & TUN_FLT_ALLMULTI;
}

static void an_address(struct rng *g, uint8_t a[6])
{
    rng_fill(g, a, 6);
    a[0] = (uint8_t)(rng_chance(g, 50) ? a[0] | 1 : a[0] & ~1);
}

static void filters_let_through_what_they_should(void **state)
{
    struct rng g = { 11 };

    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        struct tap t = fake_tap(0);
        struct tap_filter f = { .all = rng_chance(&g, 10), .all_multi = rng_chance(&g, 30) };
        bool all = f.all;
        unsigned hosts = 0;

        f.n = (unsigned)rng_below(&g, rng_chance(&g, 50) ? 12 : TAP_FILTER_MAX + 1);
        for (unsigned i = 0; i < f.n; i++) {
            an_address(&g, f.address[i]);
            hosts += !(f.address[i][0] & 1);
        }
        if (rng_chance(&g, 1)) {
            f.n = TAP_FILTER_MAX + 1 + (unsigned)rng_below(&g, 100); /* more than there can be */
            all = true;
        }
        assert_int_equal(tap_set_filter(&t, &f), 0);
        assert_int_equal(asked.calls, 1);
        for (unsigned i = 0; i < f.n && i < TAP_FILTER_MAX; i++)
            assert_true(model_passes(f.address[i]));
        for (unsigned i = 0; i < 4; i++) {
            uint8_t to[6];

            an_address(&g, to);
            bool group = to[0] & 1, must = all || (group && f.all_multi);

            assert_true(model_passes(to) || !must);
            assert_true(!model_passes(to) || must || hosts > 8);
        }
    }
    struct tap t = fake_tap(0);

    t.filters = false;
    assert_int_equal(tap_set_filter(&t, &(struct tap_filter){ 0 }), 0);
    assert_int_equal(asked.calls, 0);
}

/* --- addresses -------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    return memcmp(a, b, 6);
}

static void addresses_are_local_and_stable(void **state)
{
    enum { N = 20000 };
    static uint8_t mac[N][6];
    char name[16];

    (void)state;
    for (unsigned i = 0; i < N; i++) {
        uint8_t again[6];

        snprintf(name, sizeof name, "%s%u", i % 2 ? "tap" : "vmtap-", i / 2);
        tap_mac(name, mac[i]);
        tap_mac(name, again);
        assert_memory_equal(mac[i], again, 6);
        assert_int_equal(mac[i][0] & 3, 2);
    }
    qsort(mac, N, 6, by_value);
    for (unsigned i = 1; i < N; i++)
        assert_memory_not_equal(mac[i - 1], mac[i], 6);
}

/* --- all -------------------------------------------------------------------------------------- */

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_one_is_made),
        cmocka_unit_test(one_that_exists_is_left_as_it_is),
        cmocka_unit_test(names_that_no_interface_has),
        cmocka_unit_test(numbers_that_can_not_be),
        cmocka_unit_test(other_kinds),
        cmocka_unit_test(in_use),
        cmocka_unit_test(queues_and_kinds),
        cmocka_unit_test(frames_come_by_queues_that_are_on),
        cmocka_unit_test(only_the_first_queue_is_on),
        cmocka_unit_test(a_frame_has_its_header),
        cmocka_unit_test(users_and_permissions),
        cmocka_unit_test(offloads_of_older_kernels),
        cmocka_unit_test(a_host_without_rtnetlink),
        cmocka_unit_test(steps_that_fail_are_told),
        cmocka_unit_test(a_file_of_the_parents),
        cmocka_unit_test(files_that_are_no_taps),
        cmocka_unit_test(a_file_from_another_namespace),
        cmocka_unit_test(a_macvtap),
        cmocka_unit_test(the_link_is_followed),
        cmocka_unit_test(a_number_used_again),
        cmocka_unit_test(one_that_is_moved_away),
        cmocka_unit_test(reports_that_are_lost),
        cmocka_unit_test(nobody_else_is_heard),
        cmocka_unit_test(what_the_last_user_left),
        cmocka_unit_test(the_kernel_filters),
        cmocka_unit_test(offloads_the_kernel_takes),
        cmocka_unit_test(queues_are_switched),
        cmocka_unit_test(filters_let_through_what_they_should),
        cmocka_unit_test(addresses_are_local_and_stable),
    };

    return cmocka_run_group_tests_name("host/tap", tests, setup, NULL);
}
