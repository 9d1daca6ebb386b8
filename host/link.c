/* See link.h.
 *
 * Once it is open the socket is used by read and write alone, which is all that the filter of a
 * device's thread lets through. With these nobody learns who sent a message, and it need not be
 * known: the socket is connected to the kernel, so what another process addresses to it is refused,
 * and what one sends to the group it belongs to the kernel takes only from a process with
 * CAP_NET_ADMIN in this network namespace, which could change the interface as well.
 *
 * A message longer than the buffer is cut off, and is not ours: those of a tap are some 1,500
 * bytes.
 */
#include "host/link.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/num.h"

#define MESSAGE_MAX 8192
#define READS_MAX   1024 /* some times what the socket holds */

/* Not in musl's <net/if.h>, and linux/if.h can't be had beside that. */
#define LINK_LOWER_UP 0x10000

/* Of UAPI headers newer than those we build with. */
#define ATTR_NEW_NETNSID       45
#define ASK_WITHOUT_STATISTICS (1 << 3) /* RTEXT_FILTER_SKIP_STATS */

/* Attributes that follow the fixed part of a message. */
struct attrs {
    const uint8_t *at;
    size_t len;
};

/* The next attribute's type, its value into *value and *len; -1 at the end, or where the lengths
 * make no sense. */
static int attr_next(struct attrs *a, const uint8_t **value, size_t *len)
{
    struct rtattr h;

    if (a->len < sizeof h)
        return -1;
    memcpy(&h, a->at, sizeof h);
    if (h.rta_len < sizeof h || h.rta_len > a->len)
        return -1;
    size_t step = min_size(RTA_ALIGN((size_t)h.rta_len), a->len);

    *value = a->at + sizeof h;
    *len = h.rta_len - sizeof h;
    a->at += step;
    a->len -= step;
    return h.rta_type;
}

uint16_t link_mtu(uint32_t mtu)
{
    return (uint16_t)(mtu < TAP_MTU_MIN ? TAP_MTU_MIN : mtu > TAP_MTU_MAX ? TAP_MTU_MAX : mtu);
}

static void parse_new(struct link_report *r, const struct ifinfomsg *info, struct attrs a)
{
    const uint8_t *value;
    size_t len;

    r->link.up = info->ifi_flags & IFF_UP && info->ifi_flags & LINK_LOWER_UP;
    for (int type; (type = attr_next(&a, &value, &len)) >= 0;) {
        uint32_t mtu;

        if (type == IFLA_MTU && len >= sizeof mtu) {
            memcpy(&mtu, value, sizeof mtu);
            r->link.mtu = link_mtu(mtu);
        } else if (type == IFLA_CARRIER && len >= 1) {
            r->carrier = *value;
        }
    }
}

/* It was deleted, or moved to another network namespace: then it lives on, and so does a tap's
 * file. */
static void parse_del(struct link_report *r, struct attrs a)
{
    const uint8_t *value;
    size_t len;

    for (int type; (type = attr_next(&a, &value, &len)) >= 0;)
        r->moved |= type == ATTR_NEW_NETNSID;
    r->ifindex = 0;
    r->link.gone = !r->moved;
    r->link.up = r->moved; /* it was taken down on its way, and we will not see it come up */
}

/* A message about some interface. The bridge, too, tells of its ports in such messages, with a
 * family of its own: there a deleted link is a port that left. */
static void parse_link(struct link_report *r, bool del, const uint8_t *body, size_t len)
{
    struct ifinfomsg info;
    size_t fixed = NLMSG_ALIGN(sizeof info);

    if (len < fixed)
        return;
    memcpy(&info, body, sizeof info);
    if (info.ifi_family != AF_UNSPEC || r->ifindex == 0 || info.ifi_index != (int)r->ifindex)
        return;
    struct attrs a = { body + fixed, len - fixed };

    r->seen = true;
    if (del)
        parse_del(r, a);
    else
        parse_new(r, &info, a);
}

/* The answer to a question that could not be answered. */
static void parse_error(struct link_report *r, const uint8_t *body, size_t len)
{
    int32_t code;

    if (len < sizeof code || r->ifindex == 0)
        return;
    memcpy(&code, body, sizeof code);
    if (code != -ENODEV)
        return;
    r->seen = true;
    r->ifindex = 0;
    r->link.gone = true;
    r->link.up = false;
}

void link_parse(struct link_report *r, const void *buf, size_t len)
{
    const uint8_t *at = buf;
    struct nlmsghdr h;

    while (len >= sizeof h) {
        memcpy(&h, at, sizeof h);
        if (h.nlmsg_len < sizeof h || h.nlmsg_len > len)
            return;
        const uint8_t *body = at + sizeof h;
        size_t body_len = h.nlmsg_len - sizeof h;
        size_t step = min_size(NLMSG_ALIGN((size_t)h.nlmsg_len), len);

        if (h.nlmsg_type == RTM_NEWLINK || h.nlmsg_type == RTM_DELLINK)
            parse_link(r, h.nlmsg_type == RTM_DELLINK, body, body_len);
        else if (h.nlmsg_type == NLMSG_ERROR)
            parse_error(r, body, body_len);
        at += step;
        len -= step;
    }
}

int link_open(void)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    struct sockaddr_nl us = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
    struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };

    if (fd < 0)
        return -errno;
    if (bind(fd, (const struct sockaddr *)&us, sizeof us) < 0 ||
        connect(fd, (const struct sockaddr *)&kernel, sizeof kernel) < 0) {
        int code = errno;

        close(fd);
        return -code;
    }
    return fd;
}

int link_ask(int fd, unsigned ifindex)
{
    struct {
        struct nlmsghdr h;
        struct ifinfomsg info;
        struct rtattr mask;
        uint32_t mask_value;
    } ask = {
        .h = { .nlmsg_len = sizeof ask, .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST },
        .info = { .ifi_family = AF_UNSPEC, .ifi_index = (int)ifindex },
        .mask = { .rta_len = sizeof ask.mask + sizeof ask.mask_value, .rta_type = IFLA_EXT_MASK },
        .mask_value = ASK_WITHOUT_STATISTICS,
    };

    return write(fd, &ask, sizeof ask) < 0 ? -errno : 0;
}

void link_read(int fd, struct link_report *r)
{
    uint8_t buf[MESSAGE_MAX] __attribute__((aligned(8)));
    bool lost = false;

    for (unsigned i = 0; i < READS_MAX; i++) {
        ssize_t n = read(fd, buf, sizeof buf);

        if (n > 0) {
            link_parse(r, buf, (size_t)n);
        } else if (n < 0 && errno == ENOBUFS) {
            lost = true;
        } else if (n < 0 && errno != EINTR) {
            /* Reports were lost: how do things stand? An answer finds room when all is read, and
             * not before. */
            if (!lost || !r->ifindex || link_ask(fd, r->ifindex) < 0)
                return;
            lost = false;
        }
    }
}
