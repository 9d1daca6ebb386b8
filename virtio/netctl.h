/* The control queue of a network card (virtio 1.2, section 5.1.6.5): what a driver asks for,
 * checked and kept. Nothing is done here; the device does what changed. */
#ifndef MAYFLY_VIRTIO_NETCTL_H
#define MAYFLY_VIRTIO_NETCTL_H

#include "core/buf.h"
#include "host/tap.h"
#include "virtio/queue.h"

/* What came of a command, for the device to do. */
enum net_ctl_change {
    NET_CTL_FILTER = 1,
    NET_CTL_MAC = 2,
    NET_CTL_PAIRS = 4,
    NET_CTL_OFFLOADS = 8
};

struct net_ctl {
    bool promisc, all_multi, all_uni, no_multi, no_uni, no_broadcast;
    bool uni_overflow, multi_overflow; /* more addresses than we keep */
    uint8_t mac[6];
    unsigned n_uni, n_multi;
    uint8_t uni[TAP_FILTER_MAX][6], multi[TAP_FILTER_MAX][6];
    uint16_t pairs; /* in use, 1 to max_pairs */
    uint16_t max_pairs;
    uint64_t features; /* negotiated */
    uint64_t offloads; /* of the guest's, those it wants now: feature bits */
};

/* As after a reset: everything is received, by one pair. */
void net_ctl_init(struct net_ctl *n, uint64_t features, uint16_t max_pairs, const uint8_t mac[6]);

/* Reads the command of the chain and puts it into effect in *n. Its changes (net_ctl_change), or
 * -EINVAL for a command that is unknown, malformed or not negotiated: then nothing changed. */
int net_ctl_command(struct net_ctl *n, struct cursor *r);

/* The filter that the driver's wishes come to, and whether two are one. */
void net_ctl_filter(const struct net_ctl *n, struct tap_filter *f);
bool net_ctl_same_filter(const struct tap_filter *a, const struct tap_filter *b);

/* For a snapshot. load: 0 or -EPROTO. */
void net_ctl_save(const struct net_ctl *n, struct wbuf *w);
int net_ctl_load(struct net_ctl *n, struct rbuf *r);

#endif
