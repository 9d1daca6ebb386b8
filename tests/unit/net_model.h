/* What a network device must make of what its driver says, read from virtio 1.2 section 5.1 and the
 * decisions below, and apart from virtio/net*.c. For the unit tests and the fuzz target.
 *
 * Ours, where the specification leaves it open: a header that promises what was not negotiated, or
 * what does not fit the frame, drops the frame and no more; so do frames that are none. A segment
 * needs its checksum done, too (5.1.6.2: gso_type needs NEEDS_CSUM), no ECN, never UFO. The
 * checksum lies behind the Ethernet header.
 */
#ifndef MAYFLY_TESTS_NET_MODEL_H
#define MAYFLY_TESTS_NET_MODEL_H

#include <linux/if_tun.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "virtio/netpkt.h"

/* Bits by their number, so that a wrong name in netpkt.h is seen. */
enum {
    N_CSUM = 0,
    N_GUEST_CSUM = 1,
    N_GUEST_OFFLOADS = 2,
    N_MTU = 3,
    N_MAC = 5,
    N_GUEST_TSO4 = 7,
    N_GUEST_TSO6 = 8,
    N_HOST_TSO4 = 11,
    N_HOST_TSO6 = 12,
    N_MRG = 15,
    N_STATUS = 16,
    N_CTRL = 17,
    N_CTRL_RX = 18,
    N_CTRL_RX_EXTRA = 20,
    N_MQ = 22,
    N_CTRL_MAC = 23,
    N_GUEST_USO4 = 54,
    N_GUEST_USO6 = 55,
    N_HOST_USO = 56
};
#define BIT(n) (UINT64_C(1) << (n))

static inline bool model_has(uint64_t features, unsigned bit)
{
    return features >> bit & 1;
}

/* The header as bytes, so that its layout is tested, too. */
static inline uint16_t model_le16(const uint8_t *h, unsigned off)
{
    return (uint16_t)(h[off] | h[off + 1] << 8);
}

/* Whether a driver may ask for this segmentation. */
static inline bool model_gso_known(uint8_t type, uint64_t features)
{
    unsigned bit = type == 1 ? N_HOST_TSO4 : type == 4 ? N_HOST_TSO6 : type == 5 ? N_HOST_USO : 63;

    return bit != 63 && model_has(features, bit) && model_has(features, N_CSUM);
}

/* What may become of a frame of len bytes with these 12 before it: a bit for each enum net_drop
 * that is right. Of several faults any may be told. */
static inline unsigned model_judge(const uint8_t *h, uint64_t len, uint64_t features)
{
    uint32_t start = model_le16(h, 6), offset = model_le16(h, 8);
    bool csum = h[0] & 1, gso = h[1] != 0;
    unsigned faults = 0;

    if (len < 14)
        faults |= 1 << NET_DROP_SHORT;
    if (len > 65557) /* 65535 of IP, 14 of Ethernet, two tags of 4 */
        faults |= 1 << NET_DROP_LONG;
    if (csum && (!model_has(features, N_CSUM) || start < 14 || start + offset + 2 > len))
        faults |= 1 << NET_DROP_CSUM;
    if (gso && (!model_gso_known(h[1], features) || !csum || model_le16(h, 4) == 0 ||
                model_le16(h, 2) > len))
        faults |= 1 << NET_DROP_GSO;
    return faults ? faults : 1 << NET_PASS;
}

/* The same of a frame that the host has for a driver with these features in force, and an MTU if it
 * took one (0: none): what was not negotiated may have been on its way when that changed. */
static inline unsigned model_judge_host(const uint8_t *h, uint64_t len, uint64_t features,
                                        unsigned mtu)
{
    bool uso = model_has(features, N_GUEST_USO4) || model_has(features, N_GUEST_USO6);
    unsigned faults = 0;

    if (len < 14)
        faults |= 1 << NET_DROP_SHORT;
    if (h[0] & 1 && !model_has(features, N_GUEST_CSUM))
        faults |= 1 << NET_DROP_CSUM;
    if (h[1] && !(h[1] == 1 && model_has(features, N_GUEST_TSO4)) &&
        !(h[1] == 4 && model_has(features, N_GUEST_TSO6)) && !(h[1] == 5 && uso))
        faults |= 1 << NET_DROP_GSO;
    if (!h[1] && mtu && len > mtu + 14 + 2 * 4)
        faults |= 1 << NET_DROP_LONG;
    return faults ? faults : 1 << NET_PASS;
}

/* The flags that then reach the driver. */
static inline uint8_t model_host_flags(const uint8_t *h, uint64_t features)
{
    return model_has(features, N_GUEST_CSUM) ? h[0] & 3 : 0;
}

/* Whether `out`, which goes to the host, says what the driver's header `in` said, and no more. */
static inline bool model_same(const uint8_t *in, const uint8_t *out)
{
    bool csum = in[0] & 1, gso = in[1] != 0;

    if (out[0] != (in[0] & 1) || out[1] != in[1])
        return false;
    if (csum && memcmp(in + 6, out + 6, 4) != 0)
        return false;
    return !gso || memcmp(in + 2, out + 2, 4) == 0;
}

/* Whether Linux's tun takes it (tun_get_user). */
static inline bool model_host_takes(const uint8_t *h, uint64_t len)
{
    uint32_t end = model_le16(h, 6) + (uint32_t)model_le16(h, 8) + 2;

    return model_le16(h, 2) <= len && (!(h[0] & 1) || end <= len);
}

/* The answer to a command of n bytes (5.1.6.5): 0, or 1 for what was not negotiated or makes no
 * sense. A value of a switch is 0 or 1, an address a host's, a table as long as it says. */
static inline int model_command(const uint8_t *p, uint64_t n, uint64_t features, unsigned pairs)
{
    uint64_t bits = 0, hosts = 0, groups = 0;

    if (n < 2)
        return 1;
    switch (p[0] << 8 | p[1]) {
    case 0x000:
    case 0x001:
        return !(model_has(features, N_CTRL_RX) && n == 3 && p[2] <= 1);
    case 0x002:
    case 0x003:
    case 0x004:
    case 0x005:
        return !(model_has(features, N_CTRL_RX_EXTRA) && n == 3 && p[2] <= 1);
    case 0x100:
        if (n < 6 || !model_has(features, N_CTRL_RX))
            return 1;
        memcpy(&hosts, p + 2, 4);
        if (hosts * 6 + 10 > n)
            return 1;
        memcpy(&groups, p + 6 + hosts * 6, 4);
        return hosts * 6 + groups * 6 + 10 != n;
    case 0x101:
        return !(model_has(features, N_CTRL_MAC) && n == 8 && !(p[2] & 1));
    case 0x400:
        return !(model_has(features, N_MQ) && n == 4 && model_le16(p, 2) >= 1 &&
                 model_le16(p, 2) <= pairs);
    case 0x500:
        if (n != 10 || !model_has(features, N_GUEST_OFFLOADS))
            return 1;
        memcpy(&bits, p + 2, 8);
        return (bits & ~(features & (BIT(N_GUEST_CSUM) | BIT(N_GUEST_TSO4) | BIT(N_GUEST_TSO6) |
                                     BIT(N_GUEST_USO4) | BIT(N_GUEST_USO6)))) != 0;
    default:
        return 1;
    }
}

/* TUN_F_*: segments only with checksums, UDP's only of both IPs (Linux knows nothing else). */
static inline unsigned model_offloads(uint64_t features)
{
    unsigned o = 0;

    if (!model_has(features, N_GUEST_CSUM))
        return 0;
    o |= TUN_F_CSUM;
    if (model_has(features, N_GUEST_TSO4))
        o |= TUN_F_TSO4;
    if (model_has(features, N_GUEST_TSO6))
        o |= TUN_F_TSO6;
    if (model_has(features, N_GUEST_USO4) && model_has(features, N_GUEST_USO6))
        o |= 0x20 | 0x40;
    return o;
}

#endif
