/* A network interface of the host's: a tap or a macvtap, with a file for each queue.
 *
 * A read of such a file gives one frame, a write takes one, each with a vnet header of TAP_HDR_LEN
 * bytes before it (struct virtio_net_hdr_v1, whose num_buffers is the reader's business). The files
 * do not block. Reads and writes are the device's own; here is the rest: opening, what the guest
 * negotiated, and what becomes of the interface.
 */
#ifndef MAYFLY_HOST_TAP_H
#define MAYFLY_HOST_TAP_H

#include <linux/if_tun.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

#define TAP_QUEUES_MAX  16
#define TAP_HDR_LEN     12
#define TAP_MTU_MIN     68
#define TAP_MTU_MAX     65535
#define TAP_MTU_DEFAULT 1500
#define TAP_FILTER_MAX  64

/* Of UAPI headers newer than those we build with. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

struct tap_opts {
    const char *name; /* of an interface; NULL: fd */
    int fd;           /* an open tap or macvtap that came by exec: the tap's from then on, also when
                         opening fails, unless it is closed on exec, and so another's */
    unsigned queues;  /* 1 to TAP_QUEUES_MAX; 1 with fd */
    unsigned mtu;     /* what the guest is told; 0: the interface's */
};

/* Of one in another network namespace, where we hear nothing, it is up and not gone. */
struct tap_link {
    bool up;      /* running, with a carrier */
    bool gone;    /* deleted: it does not come back */
    uint16_t mtu; /* the interface's, TAP_MTU_MIN at least */
};

struct tap {
    char name[16];
    int fd[TAP_QUEUES_MAX];
    unsigned n;        /* queues, each with its file */
    unsigned offloads; /* TUN_F_* of those the host can do: CSUM, TSO4, TSO6, USO4, USO6 */
    bool multi;        /* queues can be switched */
    bool filters;      /* receiving can be filtered */
    struct tap_link link;
    unsigned ifindex;
    int netlink; /* reports of the link's changes; -1: none come, and link stays as it is */
    /* ioctl(fd[queue], request, arg): 0 or -errno. A test's tap has its own. */
    int (*control)(struct tap *t, unsigned queue, unsigned long request, void *arg);
};

/* What a tap lets through to the guest: all, or frames for one of n addresses, and with all_multi
 * those for any group. (TUNSETTXFILTER: past its eighth entry all hosts' addresses pass, groups by
 * a hash.) */
struct tap_filter {
    bool all, all_multi;
    unsigned n; /* at most TAP_FILTER_MAX */
    uint8_t address[TAP_FILTER_MAX][6];
};

/* Opens it: makes a missing one where that is allowed, and brings up what it made. 0, or -errno
 * with *e, "net NAME: REASON: REMEDY". All queues but the first are detached, nothing is filtered,
 * and nothing left to the guest (tap_set_offload). Main thread. (tapopen.c) */
int tap_open(struct tap *t, const struct tap_opts *o, struct err *e);
/* What tap_open returned with, an error included; once is enough. Any thread. */
void tap_close(struct tap *t);

/* A locally administered unicast address, the same at each start, for an interface of this name on
 * this host. Main thread: it opens a file. */
void tap_mac(const char *name, uint8_t mac[6]);

/* What frames to the guest may leave to it: TUN_F_*, of which those are asked for that are in
 * t->offloads and that the kernel takes together (the others with CSUM alone, USO4 and USO6 only
 * both). 0 or -errno, as the next two; device thread or main, any one at a time. */
int tap_set_offload(struct tap *t, unsigned offloads);
/* Whether frames come and go by queue q, which may be so already; nothing where there is one
 * queue. */
int tap_set_queue(struct tap *t, unsigned q, bool on);
/* Nothing where the host can't. */
int tap_set_filter(struct tap *t, const struct tap_filter *f);

/* Whether the interface was deleted, by a write that changes nothing where it was not. */
bool tap_gone(const struct tap *t);

/* Reads what t->netlink has, without blocking, into t->link. Whether that changed. Any one thread,
 * by read and write alone. */
bool tap_read_link(struct tap *t);

#endif
