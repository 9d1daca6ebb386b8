/* See netpkt.h.
 *
 * The host's kernel checks a header, too, but against what it can do and not against what was
 * negotiated, and it has to find the end of a frame in what it was given. What is dropped here it
 * never sees.
 */
#include "virtio/netpkt.h"

#include <linux/if_tun.h>

#include "host/tap.h"

#define GSO_HDR_MIN NET_FRAME_MIN /* before a checksum's start stands at least this */

static bool csum_ok(const struct net_hdr *h, size_t len, uint64_t features)
{
    return features & NET_F_CSUM && h->csum_start >= GSO_HDR_MIN &&
           (size_t)h->csum_start + h->csum_offset + 2 <= len;
}

static uint64_t gso_feature(uint8_t type)
{
    switch (type) {
    case NET_GSO_TCPV4:
        return NET_F_HOST_TSO4;
    case NET_GSO_TCPV6:
        return NET_F_HOST_TSO6;
    case NET_GSO_UDP_L4:
        return NET_F_HOST_USO;
    default: /* NET_GSO_UDP, the ECN bit: not offered */
        return 0;
    }
}

enum net_drop net_check_hdr(struct net_hdr *h, size_t len, uint64_t features)
{
    if (len < NET_FRAME_MIN)
        return NET_DROP_SHORT;
    if (len > NET_FRAME_MAX)
        return NET_DROP_LONG;
    h->flags &= NET_HDR_NEEDS_CSUM; /* 5.1.6.2.2: others are ignored */
    h->num_buffers = 0;
    if (h->flags && !csum_ok(h, len, features))
        return NET_DROP_CSUM;
    if (!h->flags)
        h->csum_start = h->csum_offset = 0;
    if (h->gso_type == NET_GSO_NONE) {
        h->hdr_len = h->gso_size = 0; /* mean nothing then */
        return NET_PASS;
    }
    if (!h->flags || !h->gso_size || h->hdr_len > len || !(features & gso_feature(h->gso_type)))
        return NET_DROP_GSO;
    return NET_PASS;
}

static uint64_t guest_gso_feature(uint8_t type)
{
    switch (type) {
    case NET_GSO_TCPV4:
        return NET_F_GUEST_TSO4;
    case NET_GSO_TCPV6:
        return NET_F_GUEST_TSO6;
    case NET_GSO_UDP_L4:
        return NET_F_GUEST_USO4 | NET_F_GUEST_USO6;
    default:
        return 0;
    }
}

enum net_drop net_check_host_hdr(struct net_hdr *h, size_t len, uint64_t features)
{
    if (len < NET_FRAME_MIN)
        return NET_DROP_SHORT;
    if (h->flags & NET_HDR_NEEDS_CSUM && !(features & NET_F_GUEST_CSUM))
        return NET_DROP_CSUM;
    if (h->gso_type != NET_GSO_NONE && !(features & guest_gso_feature(h->gso_type)))
        return NET_DROP_GSO;
    /* Without GUEST_CSUM not even that a checksum is right may be told (5.1.6.4.1). */
    h->flags &= features & NET_F_GUEST_CSUM ? NET_HDR_NEEDS_CSUM | NET_HDR_DATA_VALID : 0;
    return NET_PASS;
}

unsigned net_offloads(uint64_t features)
{
    unsigned all = TUN_F_CSUM;

    if (!(features & NET_F_GUEST_CSUM))
        return 0;
    all |= features & NET_F_GUEST_TSO4 ? TUN_F_TSO4 : 0;
    all |= features & NET_F_GUEST_TSO6 ? TUN_F_TSO6 : 0;
    /* The kernel knows them together alone. */
    if (features & NET_F_GUEST_USO4 && features & NET_F_GUEST_USO6)
        all |= TUN_F_USO4 | TUN_F_USO6;
    return all;
}
