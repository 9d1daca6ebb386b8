/* See netstats.h. */
#include "virtio/netstats.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "core/log.h"

void net_stats_add(struct net_stats *to, const struct net_stats *s)
{
    to->rx_packets += s->rx_packets;
    to->rx_bytes += s->rx_bytes;
    to->tx_packets += s->tx_packets;
    to->tx_bytes += s->tx_bytes;
    to->kicks += s->kicks;
    to->interrupts += s->interrupts;
    for (unsigned i = 0; i < NET_DROPS; i++) {
        to->rx_drop[i] += s->rx_drop[i];
        to->tx_drop[i] += s->tx_drop[i];
    }
}

void net_stats_log(const struct net_stats *s, const char *name, bool vhost)
{
    static const char *const why[NET_DROPS] = {
        [NET_DROP_SHORT] = "short",     [NET_DROP_LONG] = "long",
        [NET_DROP_CSUM] = "checksum",   [NET_DROP_GSO] = "segmentation",
        [NET_DROP_REFUSED] = "refused", [NET_DROP_DOWN] = "down",
        [NET_DROP_NO_ROOM] = "no room",
    };
    char drops[384] = "";
    size_t used = 0;

    for (unsigned i = NET_PASS + 1; i < NET_DROPS; i++) {
        if (s->tx_drop[i] + s->rx_drop[i])
            used += (size_t)snprintf(drops + used, sizeof drops - used, ", dropped (%s) %" PRIu64,
                                     why[i], s->tx_drop[i] + s->rx_drop[i]);
        assert(used < sizeof drops);
    }
    log_debug("%s: received %" PRIu64 " frames of %" PRIu64 " bytes, sent %" PRIu64 " of %" PRIu64
              "%s; kicks %" PRIu64 ", interrupts %" PRIu64 "%s",
              name, s->rx_packets, s->rx_bytes, s->tx_packets, s->tx_bytes, drops, s->kicks,
              s->interrupts, vhost ? "; frames by vhost: see the tap's" : "");
}
