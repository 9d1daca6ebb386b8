/* The counters of a network card. */
#ifndef MAYFLY_VIRTIO_NETSTATS_H
#define MAYFLY_VIRTIO_NETSTATS_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/netpkt.h"

/* What a device did, in the guest's terms: rx is what the guest received. Bytes of frames, headers
 * left out. With vhost only the control queue's kicks are counted. */
struct net_stats {
    uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes;
    uint64_t kicks, interrupts;
    uint64_t rx_drop[NET_DROPS], tx_drop[NET_DROPS];
};

void net_stats_add(struct net_stats *to, const struct net_stats *s);

/* One line of debug log. vhost: the frames were not ours to count. */
void net_stats_log(const struct net_stats *s, const char *name, bool vhost);

#endif
