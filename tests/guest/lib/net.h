/* A driver for network cards, written from the specification (virtio 1.2: 2.7, 4.2, 5.1) and not
 * from the device. Queues are numbered as the device numbers them: 2i receives and 2i + 1 transmits
 * for pair i, then comes the control queue. A chain has a slot: a place in the queue's table, or a
 * table of its own. Everything lies open, so that a guest can do with it what it must not. */
#ifndef GUEST_NET_H
#define GUEST_NET_H

#include "virtio.h"

#define NET_SIZE   128 /* of a queue, and slots of it */
#define NET_PAIRS  2   /* that are driven */
#define NET_QUEUES (2 * NET_PAIRS + 1)
#define NET_PIECES 20 /* descriptors of a slot */
#define NET_HEADER 12

/* Feature bits (5.1.3; the last three are of virtio 1.3). */
#define NET_F_CSUM       (UINT64_C(1) << 0)
#define NET_F_GUEST_CSUM (UINT64_C(1) << 1)
#define NET_F_OFFLOADS   (UINT64_C(1) << 2)
#define NET_F_MTU        (UINT64_C(1) << 3)
#define NET_F_MAC        (UINT64_C(1) << 5)
#define NET_F_GUEST_TSO4 (UINT64_C(1) << 7)
#define NET_F_GUEST_TSO6 (UINT64_C(1) << 8)
#define NET_F_HOST_TSO4  (UINT64_C(1) << 11)
#define NET_F_HOST_TSO6  (UINT64_C(1) << 12)
#define NET_F_MRG_RXBUF  (UINT64_C(1) << 15)
#define NET_F_STATUS     (UINT64_C(1) << 16)
#define NET_F_CTRL_VQ    (UINT64_C(1) << 17)
#define NET_F_CTRL_RX    (UINT64_C(1) << 18)
#define NET_F_CTRL_EXTRA (UINT64_C(1) << 20)
#define NET_F_MQ         (UINT64_C(1) << 22)
#define NET_F_CTRL_MAC   (UINT64_C(1) << 23)
#define NET_F_GUEST_USO4 (UINT64_C(1) << 54)
#define NET_F_GUEST_USO6 (UINT64_C(1) << 55)
#define NET_F_HOST_USO   (UINT64_C(1) << 56)

/* Where the configuration has what (5.1.4). */
enum { NET_MAC = 0, NET_STATUS = 6, NET_MAX_PAIRS = 8, NET_MTU = 10, NET_CONFIG_LEN = 12 };
enum { NET_LINK_UP = 1 };

/* The header before a frame (5.1.6). */
enum { NET_NEEDS_CSUM = 1, NET_DATA_VALID = 2 };
enum { NET_GSO_NONE, NET_GSO_TCP4, NET_GSO_UDP = 3, NET_GSO_TCP6, NET_GSO_UDP_L4 };
enum { NET_GSO_ECN = 0x80 };

struct net_header {
    uint8_t flags, gso_type;
    uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

/* Commands (5.1.6.5): class << 8 | command. */
enum {
    NET_RX_PROMISC = 0x000,
    NET_RX_ALLMULTI,
    NET_RX_ALLUNI,
    NET_RX_NOMULTI,
    NET_RX_NOUNI,
    NET_RX_NOBCAST,
    NET_MAC_TABLE = 0x100,
    NET_MAC_ADDR,
    NET_VQ_PAIRS = 0x400,
    NET_OFFLOADS = 0x500
};
enum { NET_OK, NET_ERR, NET_NO_ACK = 0xee /* what we put there before */ };

struct net_queue {
    unsigned index, size;
    struct desc desc[NET_SIZE] __attribute__((aligned(16)));
    volatile uint16_t avail[3 + NET_SIZE];    /* flags, idx, ring, used_event */
    volatile uint32_t used[2 + 2 * NET_SIZE]; /* flags and idx, ring, avail_event */
    uint16_t offered, told, seen;
    uint32_t len; /* of the entry taken last */
    struct desc table[NET_SIZE][NET_PIECES];
};

struct net {
    uint64_t base;
    uint32_t gsi;
    uint64_t features;         /* negotiated */
    unsigned size, pairs, ctl; /* of queues; that are driven; the control queue's index */
    uint8_t mac[6];
    struct net_queue q[NET_QUEUES];
};

static inline uint32_t net_reg(const struct net *n, unsigned r)
{
    return read32(n->base + r);
}

static inline void net_set_reg(const struct net *n, unsigned r, uint32_t v)
{
    write32(n->base + r, v);
}

/* The i-th card in the order of devices, from 0. False: there is none. */
bool net_find(struct net *n, unsigned i);

uint64_t net_offered(const struct net *n);

/* The steps of 3.1.1. */
void net_reset(struct net *n);
bool net_negotiate(struct net *n, uint64_t features); /* up to FEATURES_OK; whether it stuck */
void net_set_queue(struct net *n, unsigned q, unsigned size);
void net_ready(struct net *n);

/* All of them, with queues of n->size: one pair, or with NET_F_MQ as many as there are, and with
 * NET_F_CTRL_VQ the control queue. features: beyond VERSION_1. */
void net_start(struct net *n, uint64_t features);

/* A chain, at this slot, from pieces: linked in the queue's table from descriptor `slot * stride`
 * on, or in the slot's own with INDIRECT_DESC. Its head, not yet offered. */
uint16_t net_chain(struct net *n, unsigned q, unsigned slot, unsigned stride,
                   const struct desc *piece, unsigned count);
void net_offer(struct net *n, unsigned q, uint16_t head);

/* Makes what was offered available, and notifies if the device wants to know. */
void net_kick(struct net *n, unsigned q);

/* The next used entry's head, or -1: none yet. */
int net_take(struct net *n, unsigned q);

/* Waits for one, polling: its head, or -1 when the device needs a reset. */
int net_wait(struct net *n, unsigned q);

/* A command, waited for: its ack, NET_NO_ACK when the device broke. */
uint8_t net_control(struct net *n, unsigned command, const void *data, uint32_t len);

#endif
