/* How a tap is opened (tap.h); of the kernel, Documentation/networking/tuntap.rst and
 * drivers/net/tun.c.
 *
 * Opening by name: a file of /dev/net/tun for each queue, attached to the interface by TUNSETIFF,
 * which makes it where it is missing. What the kernel answers then is terse (EINVAL may mean three
 * things), so that the rest of the way is finding out what to tell.
 *
 * A file from the parent is what it is: a tap's is attached already and can't be changed, only
 * looked at; a macvtap's takes its flags at any time. It may also belong to an interface of another
 * network namespace, of which nothing is to be heard here: then the link counts as up.
 */
#include "host/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/log.h"
#include "core/num.h"
#include "host/link.h"

#define DEVICE "/dev/net/tun"
#define USO    (TUN_F_USO4 | TUN_F_USO6)
#define TSO    (TUN_F_TSO4 | TUN_F_TSO6)

/* The place of /dev/net/tun in Documentation/admin-guide/devices.txt. */
#define TUN_MAJOR 10
#define TUN_MINOR 200

_Static_assert(sizeof(((struct tap *)0)->name) == IFNAMSIZ, "as the kernel's");

/* What is asked of on the way to an open tap. */
struct opening {
    struct tap *t;
    const struct tap_opts *o;
    struct err *e;
    char who[24];  /* in messages */
    int sock;      /* through which interfaces are asked and changed */
    bool existed;  /* by name: it was there before us */
    bool attached; /* ...and a program had it open */
};

static int tap_control(struct tap *t, unsigned queue, unsigned long request, void *arg)
{
    return ioctl(t->fd[queue], (int)request, arg) < 0 ? -errno : 0;
}

/* ioctl(sock, request, ifr) about the interface by its name. 0 or -errno. */
static int ask_interface(const struct opening *op, unsigned long request, struct ifreq *ifr)
{
    memcpy(ifr->ifr_name, op->t->name, sizeof ifr->ifr_name);
    return ioctl(op->sock, (int)request, ifr) < 0 ? -errno : 0;
}

static int open_failed(const struct opening *op, int code, const char *what, const char *remedy)
{
    return err_set(op->e, code, "net %s: %s: %s: %s", op->who, what, strerror(code),
                   err_remedy(code, remedy));
}

/* --- by name ---------------------------------------------------------------------------------- */

/* As the kernel's dev_valid_name(), to which 0xa0 is a blank; a name with % it would take for a
 * pattern. */
static bool name_valid(const char *name)
{
    size_t n = strlen(name);

    return n > 0 && n < IFNAMSIZ && name[strcspn(name, "/%: \t\n\v\f\r\xa0")] == '\0' &&
           strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static int device_failed(const struct opening *op, int code)
{
    if (code == EACCES || code == EPERM)
        return open_failed(op, code, "can't open " DEVICE,
                           "allow this user to open it (chmod 666 " DEVICE ")");
    return open_failed(op, code, "can't open " DEVICE, "load the module (modprobe tun)");
}

/* The kernel does not let us have a tap of that name. */
static int attach_failed(const struct opening *op, int code)
{
    const char *multi = op->o->queues > 1 ? " multi_queue" : "", *name = op->t->name;
    unsigned user = geteuid();

    switch (code) {
    case EPERM:
        if (!op->existed)
            return err_set(op->e, code,
                           "net %s: no such interface, and this user may not make one: have it "
                           "made: ip tuntap add dev %s mode tap user %u%s",
                           name, name, user, multi);
        return err_set(op->e, code,
                       "net %s: belongs to another user: have it made for this one: ip tuntap add "
                       "dev %s mode tap user %u%s",
                       name, name, user, multi);
    case EBUSY:
        return err_set(op->e, code,
                       "net %s: in use by another program or VM: stop that one, or name another "
                       "tap",
                       name);
    case E2BIG:
        return err_set(op->e, code,
                       "net %s: the host gives it no %u queues: ask for fewer with queues=N", name,
                       op->o->queues);
    default:
        return open_failed(op, code, "can't be opened as a tap", "try another name");
    }
}

/* Joins file q to the interface, or makes it. 0 or -errno. */
static int attach(const struct opening *op, unsigned q, bool multi)
{
    struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };

    memcpy(ifr.ifr_name, op->t->name, sizeof ifr.ifr_name);
    if (multi)
        ifr.ifr_flags |= IFF_MULTI_QUEUE;
    return op->t->control(op->t, q, TUNSETIFF, &ifr);
}

/* The first file. An interface that exists has one queue or many, and has to be opened as what it
 * is; with many, one is as good. EINVAL tells that it is the other kind, or no tap. */
static int attach_first(const struct opening *op)
{
    const char *name = op->t->name;
    bool multi = op->o->queues > 1;
    int ret = attach(op, 0, multi);

    if (ret == -EINVAL && op->existed) {
        int other = attach(op, 0, !multi);

        if (other == -EINVAL)
            return err_set(op->e, EINVAL,
                           "net %s: an interface of another kind: name a tap, or open a macvtap "
                           "and give it with fd=N",
                           name);
        if (multi)
            return err_set(
                op->e, EINVAL,
                "net %s: a tap with one queue: make it anew with ip tuntap add dev %s mode "
                "tap user %u multi_queue, or leave out queues",
                name, name, (unsigned)geteuid());
        multi = true;
        ret = other;
    }
    /* One queue the kernel itself gives to one program only. */
    if (ret == 0 && multi && op->attached)
        ret = -EBUSY;
    return ret ? attach_failed(op, -ret) : 0;
}

static int open_queues(const struct opening *op)
{
    struct tap *t = op->t;

    for (unsigned q = 0; q < op->o->queues; q++) {
        t->fd[q] = open(DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (t->fd[q] < 0)
            return device_failed(op, errno);
        t->n = q + 1;
        int ret = q == 0 ? attach_first(op) : attach(op, q, true);

        if (ret)
            return q == 0 ? ret : attach_failed(op, -ret);
    }
    t->multi = t->n > 1;
    return 0;
}

/* An interface that we made is ours to set up. */
static int bring_up(const struct opening *op)
{
    struct ifreq ifr;

    if (op->o->mtu) {
        ifr.ifr_mtu = (int)op->o->mtu;
        int ret = ask_interface(op, SIOCSIFMTU, &ifr);

        if (ret)
            return err_set(op->e, -ret, "net %s: can't have an MTU of %u: %s: give a smaller mtu",
                           op->who, op->o->mtu, strerror(-ret));
    }
    int ret = ask_interface(op, SIOCGIFFLAGS, &ifr);

    ifr.ifr_flags |= IFF_UP;
    if (ret == 0)
        ret = ask_interface(op, SIOCSIFFLAGS, &ifr);
    return ret ? open_failed(op, -ret, "was made, but can't be brought up", "report this") : 0;
}

/* Whether it is there, and in whose hands. */
static void look_before(struct opening *op)
{
    struct ifreq ifr;

    op->existed = ask_interface(op, SIOCGIFINDEX, &ifr) == 0;
    if (!op->existed || op->t->netlink < 0)
        return;
    struct link_report r = { .ifindex = (unsigned)ifr.ifr_ifindex };

    if (link_ask(op->t->netlink, r.ifindex) == 0)
        link_read(op->t->netlink, &r);
    op->attached = r.carrier;
}

static int open_name(struct opening *op)
{
    const struct tap_opts *o = op->o;

    if (!name_valid(o->name))
        return err_set(op->e, EINVAL,
                       "net %s: no interface can have this name: give one of 1 to %d bytes, "
                       "without blanks and any of / %% :",
                       o->name, IFNAMSIZ - 1);
    if (o->queues < 1 || o->queues > TAP_QUEUES_MAX)
        return err_set(op->e, EINVAL, "net %s: %u queues: give 1 to %d", o->name, o->queues,
                       TAP_QUEUES_MAX);
    memcpy(op->t->name, op->who, sizeof op->t->name);
    look_before(op);
    int ret = open_queues(op);

    return ret || op->existed ? ret : bring_up(op);
}

/* --- a file of the parent's ------------------------------------------------------------------- */

/* Ours to use, and made as we want it. Descriptors that we opened ourselves are closed on exec, and
 * those of the parent's that we have taken: so a number given twice, or a wrong one that happens to
 * be in use, is told from one that came by exec. */
static int take_fd(const struct opening *op, struct stat *st)
{
    int fd = op->o->fd, flags = fcntl(fd, F_GETFD);

    if (flags < 0 || flags & FD_CLOEXEC)
        return err_set(op->e, EBADF,
                       "net %s: not a descriptor that the parent left open, or given twice: open a "
                       "tap or macvtap as that number, without O_CLOEXEC",
                       op->who);
    op->t->fd[0] = fd;
    op->t->n = 1;
    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, st) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
        fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return open_failed(op, errno, "can't be used", "give an open tap or macvtap");
    if ((flags & O_ACCMODE) != O_RDWR)
        return err_set(
            op->e, EINVAL,
            "net %s: not a tap that is open for reading and writing: give an open tap or "
            "macvtap",
            op->who);
    return 0;
}

/* Whether frames have a packet information header as well. TUNGETIFF does not tell: the kernel
 * gives IFF_NO_PI's bit a second meaning there. But a write of four bytes at an address where there
 * is nothing gets as far as that header, or it is too short for what else must come. */
static bool has_packet_info(const struct opening *op)
{
    return syscall(SYS_write, op->o->fd, (const void *)1, 4) < 0 && errno == EFAULT;
}

static int check_kind(const struct opening *op, unsigned flags)
{
    if (!(flags & IFF_TAP))
        return err_set(op->e, EINVAL,
                       "net %s: a tun, which has no Ethernet frames: open it with IFF_TAP",
                       op->who);
    if (has_packet_info(op))
        return err_set(op->e, EINVAL,
                       "net %s: frames come with a packet information header: open it with "
                       "IFF_NO_PI",
                       op->who);
    if (!(flags & IFF_VNET_HDR))
        return err_set(op->e, EINVAL,
                       "net %s: frames come without a vnet header: open it with IFF_VNET_HDR",
                       op->who);
    return 0;
}

static int open_fd(const struct opening *op)
{
    struct tap *t = op->t;
    struct stat st = { 0 };
    struct ifreq ifr = { 0 };

    int ret = take_fd(op, &st);

    if (ret)
        return ret;
    ret = t->control(t, 0, TUNGETIFF, &ifr);
    if (ret)
        return err_set(
            op->e, -ret, "net %s: %s: give an open tap (after TUNSETIFF) or macvtap", op->who,
            ret == -EBADFD || ret == -ENOLINK ? "a tap without an interface" : "not a tap");
    memcpy(t->name, ifr.ifr_name, sizeof t->name);
    t->name[sizeof t->name - 1] = '\0';
    unsigned flags = (uint16_t)ifr.ifr_flags;

    if (st.st_rdev != makedev(TUN_MAJOR, TUN_MINOR)) { /* a macvtap */
        flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (flags & IFF_MULTI_QUEUE);
        ifr.ifr_flags = (short)flags;
        ret = t->control(t, 0, TUNSETIFF, &ifr);
        if (ret)
            return open_failed(op, -ret, "a macvtap that takes no vnet headers", "report this");
    }
    return check_kind(op, flags);
}

/* --- either ----------------------------------------------------------------------------------- */

/* Headers of our length, all frames to the first queue, and no more trust in the guest than it will
 * ask for: a persistent interface comes as its last user left it. */
static int set_up(const struct opening *op)
{
    static const unsigned tries[] = { TUN_F_CSUM | TSO | USO, TUN_F_CSUM | TSO, TUN_F_CSUM, 0 };
    struct tap *t = op->t;
    int len = TAP_HDR_LEN, little = 1, room = INT_MAX, ret = 0;

    for (unsigned i = 0; i < ARRAY_LEN(tries); i++) {
        t->offloads = tries[i];
        ret = tap_set_offload(t, t->offloads);
        if (ret != -EINVAL)
            break; /* Linux before 6.2 knows no USO */
    }
    if (ret == 0)
        ret = tap_set_offload(t, 0);
    if (ret == 0)
        ret = t->control(t, 0, TUNSETVNETHDRSZ, &len);
    if (ret == 0)
        ret = t->control(t, 0, TUNSETVNETLE, &little);
    t->filters = true;
    t->filters = tap_set_filter(t, &(struct tap_filter){ .all = true }) == 0;
    for (unsigned q = 1; ret == 0 && q < t->n; q++)
        ret = tap_set_queue(t, q, false);
    /* A tap's has no bound, a macvtap's has: what goes beyond it would be lost. */
    (void)t->control(t, 0, TUNSETSNDBUF, &room);
    return ret ? open_failed(op, -ret, "can't be set up", "use a newer kernel") : 0;
}

/* Whether the interface of the file is the one that has its name here: in another namespace there
 * may be one of the same name, with another address. */
static bool interface_here(const struct opening *op)
{
    struct ifreq file = { 0 }, here = { 0 };

    memcpy(file.ifr_name, op->t->name, sizeof file.ifr_name);
    return op->t->control(op->t, 0, SIOCGIFHWADDR, &file) == 0 &&
           ask_interface(op, SIOCGIFHWADDR, &here) == 0 &&
           memcmp(file.ifr_hwaddr.sa_data, here.ifr_hwaddr.sa_data, 6) == 0;
}

/* No reports come: the link stays as it is. */
static void leave_link(struct tap *t)
{
    if (t->netlink >= 0)
        close(t->netlink);
    t->netlink = -1;
}

/* What the interface is like, where it is ours to ask. */
static int look_at_link(const struct opening *op)
{
    struct tap *t = op->t;
    unsigned mtu = op->o->mtu;
    struct ifreq ifr;

    t->link = (struct tap_link){ .up = true, .mtu = (uint16_t)(mtu ? mtu : TAP_MTU_DEFAULT) };
    if (!interface_here(op)) {
        log_info("net %s: its interface is in another network namespace: the guest sees the link "
                 "as up, whatever becomes of it",
                 op->who);
        leave_link(t);
        return 0;
    }
    if (ask_interface(op, SIOCGIFMTU, &ifr) == 0) {
        if (mtu > (unsigned)ifr.ifr_mtu)
            return err_set(op->e, EINVAL,
                           "net %s: its MTU is %d, and mtu=%u exceeds it: ip link set %s mtu %u",
                           op->who, ifr.ifr_mtu, mtu, t->name, mtu);
        t->link.mtu = link_mtu((uint32_t)ifr.ifr_mtu);
    }
    if (ask_interface(op, SIOCGIFINDEX, &ifr) == 0)
        t->ifindex = (unsigned)ifr.ifr_ifindex;
    int ret = t->netlink < 0 ? t->netlink : link_ask(t->netlink, t->ifindex);

    if (ret) {
        log_warn("net %s: the guest sees the link as up, whatever becomes of it: no rtnetlink: %s",
                 op->who, strerror(-ret));
        leave_link(t);
    } else {
        tap_read_link(t);
    }
    return 0;
}

static int open_either(struct opening *op)
{
    const struct tap_opts *o = op->o;

    if (o->mtu && (o->mtu < TAP_MTU_MIN || o->mtu > TAP_MTU_MAX))
        return err_set(op->e, EINVAL, "net %s: an MTU of %u: give %d to %d", op->who, o->mtu,
                       TAP_MTU_MIN, TAP_MTU_MAX);
    op->sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (op->sock < 0)
        return open_failed(op, errno, "no socket to ask of interfaces", "report this");
    op->t->netlink = link_open();
    int ret = o->name ? open_name(op) : open_fd(op);

    if (ret == 0)
        ret = set_up(op);
    if (ret == 0)
        ret = look_at_link(op);
    close(op->sock);
    return ret;
}

int tap_open(struct tap *t, const struct tap_opts *o, struct err *e)
{
    struct opening op = { .t = t, .o = o, .e = e };

    *t = (struct tap){ .netlink = -1, .control = tap_control };
    for (unsigned q = 0; q < TAP_QUEUES_MAX; q++)
        t->fd[q] = -1;
    if (o->name)
        snprintf(op.who, sizeof op.who, "%s", o->name);
    else
        snprintf(op.who, sizeof op.who, "fd=%d", o->fd);
    int ret = open_either(&op);

    if (ret)
        tap_close(t);
    return ret;
}
