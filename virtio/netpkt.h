/* The header before each frame (virtio 1.2, section 5.1.6): what a driver may say in it. Touches
 * nothing but a copy of the header. */
#ifndef MAYFLY_VIRTIO_NETPKT_H
#define MAYFLY_VIRTIO_NETPKT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_HDR_LEN   12
#define NET_FRAME_MIN 14                   /* an Ethernet header */
#define NET_FRAME_MAX (65535 + 14 + 2 * 4) /* the longest IP packet, behind two VLAN tags */

/* Feature bits (5.1.3); the USO ones are of virtio 1.3. */
#define NET_F_CSUM                (UINT64_C(1) << 0)
#define NET_F_GUEST_CSUM          (UINT64_C(1) << 1)
#define NET_F_CTRL_GUEST_OFFLOADS (UINT64_C(1) << 2)
#define NET_F_MTU                 (UINT64_C(1) << 3)
#define NET_F_MAC                 (UINT64_C(1) << 5)
#define NET_F_GUEST_TSO4          (UINT64_C(1) << 7)
#define NET_F_GUEST_TSO6          (UINT64_C(1) << 8)
#define NET_F_HOST_TSO4           (UINT64_C(1) << 11)
#define NET_F_HOST_TSO6           (UINT64_C(1) << 12)
#define NET_F_MRG_RXBUF           (UINT64_C(1) << 15)
#define NET_F_STATUS              (UINT64_C(1) << 16)
#define NET_F_CTRL_VQ             (UINT64_C(1) << 17)
#define NET_F_CTRL_RX             (UINT64_C(1) << 18)
#define NET_F_CTRL_RX_EXTRA       (UINT64_C(1) << 20)
#define NET_F_MQ                  (UINT64_C(1) << 22)
#define NET_F_CTRL_MAC_ADDR       (UINT64_C(1) << 23)
#define NET_F_GUEST_USO4          (UINT64_C(1) << 54)
#define NET_F_GUEST_USO6          (UINT64_C(1) << 55)
#define NET_F_HOST_USO            (UINT64_C(1) << 56)

/* What a driver lets the host leave to it, and may switch. */
#define NET_GUEST_OFFLOADS                                                                         \
    (NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | NET_F_GUEST_USO4 | NET_F_GUEST_USO6)

enum { NET_HDR_NEEDS_CSUM = 1, NET_HDR_DATA_VALID = 2 };
enum {
    NET_GSO_NONE = 0,
    NET_GSO_TCPV4 = 1,
    NET_GSO_UDP = 3,
    NET_GSO_TCPV6 = 4,
    NET_GSO_UDP_L4 = 5
};

struct net_hdr {
    uint8_t flags, gso_type;
    uint16_t hdr_len, gso_size, csum_start, csum_offset;
    uint16_t num_buffers;
};
_Static_assert(sizeof(struct net_hdr) == NET_HDR_LEN, "as in the spec");

/* Why a frame was not passed on. */
enum net_drop {
    NET_PASS,
    NET_DROP_SHORT,   /* no whole header, or no whole Ethernet header behind it */
    NET_DROP_LONG,    /* longer than any frame; receiving: than the MTU */
    NET_DROP_CSUM,    /* a checksum that was not negotiated, or outside the frame */
    NET_DROP_GSO,     /* a segmentation that was not negotiated, or without what it needs */
    NET_DROP_REFUSED, /* the host's interface refused it */
    NET_DROP_DOWN,    /* the host's interface is down or gone */
    NET_DROP_NO_ROOM, /* receiving: larger than the driver's buffers */
    NET_DROPS,
};

/* Judges the header of a frame of len bytes that the driver sends, with the features it negotiated.
 * NET_PASS: it may go to the host as it now stands, with what the spec has us ignore removed. */
enum net_drop net_check_hdr(struct net_hdr *h, size_t len, uint64_t features);

/* The same of a frame that the host has for a driver with these features: one that they rule out
 * may have been on its way when they changed. */
enum net_drop net_check_host_hdr(struct net_hdr *h, size_t len, uint64_t features);

/* TUN_F_* for what a driver with these features takes (of them CSUM, TSO and USO). */
unsigned net_offloads(uint64_t features);

#endif
