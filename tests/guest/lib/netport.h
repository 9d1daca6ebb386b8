/* Frames in and out of a card's pair of queues, on top of net.h. A port has receive buffers in
 * slots with canaries behind each; a frame that came can be sent out of the very buffers it lies
 * in.
 *
 * The command line says how, in words: mrg, event, indirect, csum, tso, uso, mq, ctrl, ctlq and
 * offloads are negotiated, too (tso: both ways, and csum; ctlq: a control queue and nothing for
 * it); buf=N, slots=N, size=N are a receive buffer's bytes, how many there are, and a queue's
 * entries; cut: frames lie in three buffers and more; sleep: interrupts are waited for.
 *
 * What the device must not do is counted and printed by check(). */
#ifndef GUEST_NETPORT_H
#define GUEST_NETPORT_H

#include "net.h"

#define PORT_MEMORY (2 * 1024 * 1024) /* for receive buffers */
#define ETH_LEN     14
#define TYPE_ECHO   0x88b5 /* what is at the other end sends it back, and so do we */
#define TYPE_COUNT  0x88b6 /* nobody does */
#define TYPE_ARP    0x0806
#define TYPE_IP4    0x0800
#define TYPE_IP6    0x86dd

struct frame {
    unsigned slots, len; /* header and all */
    struct {
        unsigned slot, len;
    } part[NET_PIECES];
};

struct port {
    struct net *net;
    unsigned rx, tx;
    unsigned buf, stride, slots, rx_descs; /* of receive buffers: bytes, with gap, how many */
    unsigned tx_descs, tx_slots, tx_out;
    unsigned mtu; /* the largest that was told */
    bool cut, by_vhost;
    struct frame out[NET_SIZE];
    bool busy[NET_SIZE];
    unsigned frames, cut_up; /* received; of them those that are to be cut up */
    uint64_t bytes;
    uint8_t memory[PORT_MEMORY] __attribute__((aligned(4096)));
};

struct ports {
    struct net card[2];
    struct port port[2]; /* those of the first card, or the first of each */
    unsigned n;
};

uint16_t be16(const uint8_t *p);
void put_be16(uint8_t *p, unsigned v);

/* An Ethernet header of a frame from this card to all. */
void ethernet(uint8_t *f, const struct net *n, unsigned type);

/* What the command line wants negotiated. */
uint64_t port_features(void);

/* Of the configuration. */
bool net_up(const struct net *n);
unsigned net_mtu(const struct net *n);

/* Starts the first n cards and their ports; with sleep their interrupts come by VECTOR_OTHER, once
 * there was intr_start. */
void ports_start(struct ports *s, unsigned n);

/* That nothing was written behind the receive buffers. */
void ports_check(struct ports *s);

uint8_t *port_slot(struct port *p, unsigned slot);

/* One frame, if there is one: its buffers in the order of their use. */
bool port_receive(struct port *p, struct frame *f);

/* Offers the buffers again; told of by net_kick, as what is sent is. */
void port_give_back(struct port *p, const struct frame *f);

/* Sends a frame out of the buffers it came in. They are given back when it is gone. */
void port_send(struct port *p, const struct frame *f);
void port_reclaim(struct port *p);

/* Sends len bytes, header and all, and waits. False: the device broke. */
bool port_send_own(struct port *p, const void *packet, unsigned len);

/* A frame of 64 bytes, to all. */
bool port_beacon(struct port *p, unsigned type);

#endif
