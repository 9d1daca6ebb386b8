/* One pair of a network card's queues, and its file of the tap: what moves the frames.
 *
 * A pair lives on the loop of its queues. Another thread comes to it by loop_call alone; what pairs
 * share is atomic or has a lock.
 */
#ifndef MAYFLY_VIRTIO_NETIO_H
#define MAYFLY_VIRTIO_NETIO_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/bucket.h"
#include "virtio/net.h"

#define NET_RX_IOVS 1024 /* of one read: UIO_MAXIOV */

/* How much may go one way, over all pairs. */
struct net_limit {
    bool on;
    pthread_mutex_t lock;
    struct bucket bytes, frames;
};

/* A chain for receiving that was taken and is not filled yet. */
struct net_held {
    uint16_t head, iov_n;
    uint32_t room;
};

struct net_pair {
    struct virtio_dev *dev;
    unsigned rxq, txq; /* their numbers */
    struct loop *loop;
    int file; /* the tap's */
    struct net_limit *rx_limit, *tx_limit;
    const _Atomic uint64_t *features; /* of the driver's, those in force */
    const _Atomic uint16_t *mtu;      /* what the driver was told */
    struct watch host, timer;
    bool on;                        /* between net_pair_start and net_pair_stop */
    bool lost;                      /* for good: the owner's word, before net_pair_start */
    bool gone;                      /* the tap is */
    uint64_t rx_at, tx_at, lean_at; /* when the timer is to wake us for what, ns; 0: not */
    bool rx_resting, tx_resting;    /* until then: over the limit */
    /* Receiving. Those held are held[first .. first + n), their buffers iov[iov_first ..]. */
    bool starved;    /* the driver has to give more buffers first */
    bool lean;       /* it did not until lean_at: what it gave must do */
    unsigned errors; /* reads that failed, one after another */
    unsigned burst;  /* how many frames the next round reads */
    unsigned first, n, iov_first, iov_n;
    size_t room;    /* of all */
    size_t expect;  /* bytes that the next frame may well have */
    uint8_t *spill; /* for what of it does not fit into the buffers that were given to the read */
    struct net_held held[NET_QMAX];
    struct iovec iov[NET_RX_IOVS];
    /* Sending: a chain's buffers, and what is written of them. */
    struct iovec popped[NET_QMAX], out[1 + NET_QMAX];
    struct net_stats stats;
};

/* The pair of the tap's file: its watches are made, and it rests. 0 or -errno. Main thread. */
int net_pair_init(struct net_pair *p);
void net_pair_fini(struct net_pair *p);

/* On the pair's loop, from here on: frames move, or nothing is in flight. */
void net_pair_start(struct net_pair *p);
void net_pair_stop(struct net_pair *p);

/* The driver's kicks. */
void net_pair_rx(struct net_pair *p);
void net_pair_tx(struct net_pair *p);

#endif
