/* virtio-net (virtio 1.2, section 5.1): a network card in front of a tap. */
#ifndef MAYFLY_VIRTIO_NET_H
#define MAYFLY_VIRTIO_NET_H

#include "host/tap.h"
#include "host/vhost.h"
#include "virtio/dev.h"
#include "virtio/netpkt.h"
#include "virtio/netstats.h"

#define NET_QMAX      256 /* entries of a queue */
#define NET_PAIRS_MAX TAP_QUEUES_MAX

struct net_opts {
    const char *name;    /* of device and thread */
    struct tap *tap;     /* the device's from then on, closed with it and when net_new fails */
    struct vhost *vhost; /* one for each queue of the tap, the device's, too; NULL: none */
    uint8_t mac[6];
    uint16_t mtu; /* what the guest is told; 0: the interface's, as it changes */
    /* Bytes and frames a second, from the host and to it; 0: no limit. */
    uint64_t rx_bw, rx_bw_burst, rx_pps, rx_pps_burst;
    uint64_t tx_bw, tx_bw_burst, tx_pps, tx_pps_burst;
};

/* NULL with *e on failure. loop[i] serves pair i of the tap's queues, and loop[0] the device; with
 * vhost there is just that one. Main thread, before the loops run. Freed by cls->free. */
struct virtio_dev *net_new(struct gmem *mem, struct loop *loop, const struct net_opts *o,
                           struct err *e);

/* From any thread but the device's own: crosses to each of its loops. */
void net_stats(struct virtio_dev *d, struct net_stats *s);

#endif
