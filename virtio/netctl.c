/* See netctl.h.
 *
 * A command is class, number, data; its answer is one byte, which the device writes. What a driver
 * wants to receive is best effort by the spec: frames it did not ask for may still come, and come
 * where the host's filter is coarser than the wish.
 */
#include "virtio/netctl.h"

#include <errno.h>
#include <string.h>

#include "core/num.h"
#include "virtio/netpkt.h"

enum { CLASS_RX = 0, CLASS_MAC = 1, CLASS_MQ = 4, CLASS_OFFLOADS = 5 };
enum { MAC_TABLE_SET = 0, MAC_ADDR_SET = 1 };

void net_ctl_init(struct net_ctl *n, uint64_t features, uint16_t max_pairs, const uint8_t mac[6])
{
    *n = (struct net_ctl){ .promisc = true,
                           .pairs = 1,
                           .max_pairs = max_pairs,
                           .features = features,
                           .offloads = features & NET_GUEST_OFFLOADS };
    memcpy(n->mac, mac, sizeof n->mac);
}

/* The whole of what is left is n bytes. */
static bool take_all(struct cursor *r, void *data, size_t n)
{
    return cursor_left(r) == n && cursor_get(r, data, n) == 0;
}

static int command_rx(struct net_ctl *n, uint8_t number, struct cursor *r)
{
    bool *const mode[] = { &n->promisc,  &n->all_multi, &n->all_uni,
                           &n->no_multi, &n->no_uni,    &n->no_broadcast };
    uint64_t feature = number < 2 ? NET_F_CTRL_RX : NET_F_CTRL_RX_EXTRA;
    uint8_t on;

    if (number >= ARRAY_LEN(mode) || !(n->features & feature) || !take_all(r, &on, 1) || on > 1)
        return -EINVAL;
    *mode[number] = on;
    return NET_CTL_FILTER;
}

/* One of the two tables: a count, and as many addresses. Those we have no place for are passed
 * over, and that is remembered. */
static int read_table(struct cursor *r, uint8_t to[TAP_FILTER_MAX][6], unsigned *n, bool *overflow)
{
    uint32_t count;

    if (cursor_get(r, &count, sizeof count) || count > cursor_left(r) / 6)
        return -EINVAL;
    *n = (unsigned)min_u64(count, TAP_FILTER_MAX);
    *overflow = count > TAP_FILTER_MAX;
    cursor_get(r, to, *n * sizeof to[0]);
    return cursor_skip(r, (count - *n) * sizeof to[0]);
}

static int command_mac(struct net_ctl *n, uint8_t number, struct cursor *r)
{
    struct net_ctl new = *n;

    if (number == MAC_ADDR_SET) {
        if (!(n->features & NET_F_CTRL_MAC_ADDR) || !take_all(r, new.mac, sizeof new.mac))
            return -EINVAL;
        if (new.mac[0] & 1) /* a group is nobody's address */
            return -EINVAL;
        *n = new;
        return NET_CTL_MAC | NET_CTL_FILTER;
    }
    if (number != MAC_TABLE_SET || !(n->features & NET_F_CTRL_RX) ||
        read_table(r, new.uni, &new.n_uni, &new.uni_overflow) ||
        read_table(r, new.multi, &new.n_multi, &new.multi_overflow) || cursor_left(r))
        return -EINVAL;
    *n = new;
    return NET_CTL_FILTER;
}

static int command_pairs(struct net_ctl *n, uint8_t number, struct cursor *r)
{
    uint16_t pairs;

    if (number != 0 || !(n->features & NET_F_MQ) || !take_all(r, &pairs, sizeof pairs) ||
        pairs < 1 || pairs > n->max_pairs)
        return -EINVAL;
    n->pairs = pairs;
    return NET_CTL_PAIRS;
}

static int command_offloads(struct net_ctl *n, uint8_t number, struct cursor *r)
{
    uint64_t offloads;

    if (number != 0 || !(n->features & NET_F_CTRL_GUEST_OFFLOADS) ||
        !take_all(r, &offloads, sizeof offloads) || offloads & ~(n->features & NET_GUEST_OFFLOADS))
        return -EINVAL;
    n->offloads = offloads;
    return NET_CTL_OFFLOADS;
}

int net_ctl_command(struct net_ctl *n, struct cursor *r)
{
    struct {
        uint8_t class, number;
    } c;

    if (cursor_get(r, &c, sizeof c))
        return -EINVAL;
    switch (c.class) {
    case CLASS_RX:
        return command_rx(n, c.number, r);
    case CLASS_MAC:
        return command_mac(n, c.number, r);
    case CLASS_MQ:
        return command_pairs(n, c.number, r);
    case CLASS_OFFLOADS:
        return command_offloads(n, c.number, r);
    default:
        return -EINVAL;
    }
}

static void filter_add(struct tap_filter *f, const uint8_t address[6])
{
    memcpy(f->address[f->n++], address, sizeof f->address[0]);
}

void net_ctl_filter(const struct net_ctl *n, struct tap_filter *f)
{
    static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    unsigned groups = n->no_multi ? 0 : n->n_multi, hosts = n->no_uni ? 0 : n->n_uni;

    *f = (struct tap_filter){ .all = n->promisc || n->all_uni || n->uni_overflow,
                              .all_multi = (n->all_multi || n->multi_overflow) && !n->no_multi };
    if (2 + hosts + groups > TAP_FILTER_MAX && groups) { /* too many of both: all groups */
        f->all_multi = true;
        groups = 0;
    }
    if (2 + hosts > TAP_FILTER_MAX)
        f->all = true;
    if (f->all)
        return;
    if (!n->no_uni)
        filter_add(f, n->mac);
    if (!n->no_broadcast)
        filter_add(f, broadcast);
    for (unsigned i = 0; i < hosts; i++)
        filter_add(f, n->uni[i]);
    for (unsigned i = 0; i < groups; i++)
        filter_add(f, n->multi[i]);
}

bool net_ctl_same_filter(const struct tap_filter *a, const struct tap_filter *b)
{
    return a->all == b->all && a->all_multi == b->all_multi && a->n == b->n &&
           memcmp(a->address, b->address, a->n * sizeof a->address[0]) == 0;
}

void net_ctl_save(const struct net_ctl *n, struct wbuf *w)
{
    const bool mode[] = { n->promisc, n->all_multi,    n->all_uni,      n->no_multi,
                          n->no_uni,  n->no_broadcast, n->uni_overflow, n->multi_overflow };
    uint32_t modes = 0;

    for (unsigned i = 0; i < ARRAY_LEN(mode); i++)
        modes |= (uint32_t)mode[i] << i;
    wbuf_u32(w, modes);
    wbuf_bytes(w, n->mac, sizeof n->mac);
    wbuf_u32(w, n->n_uni);
    wbuf_bytes(w, n->uni, n->n_uni * sizeof n->uni[0]);
    wbuf_u32(w, n->n_multi);
    wbuf_bytes(w, n->multi, n->n_multi * sizeof n->multi[0]);
    wbuf_u16(w, n->pairs);
    wbuf_u64(w, n->offloads);
}

static int load_table(struct rbuf *r, uint8_t to[TAP_FILTER_MAX][6], unsigned *n)
{
    *n = rbuf_u32(r);
    if (*n > TAP_FILTER_MAX)
        return -EPROTO;
    rbuf_bytes(r, to, *n * sizeof to[0]);
    return 0;
}

int net_ctl_load(struct net_ctl *n, struct rbuf *r)
{
    bool *const mode[] = { &n->promisc, &n->all_multi,    &n->all_uni,      &n->no_multi,
                           &n->no_uni,  &n->no_broadcast, &n->uni_overflow, &n->multi_overflow };
    uint32_t modes = rbuf_u32(r);

    for (unsigned i = 0; i < ARRAY_LEN(mode); i++)
        *mode[i] = modes >> i & 1;
    rbuf_bytes(r, n->mac, sizeof n->mac);
    if (load_table(r, n->uni, &n->n_uni) || load_table(r, n->multi, &n->n_multi))
        return -EPROTO;
    n->pairs = rbuf_u16(r);
    n->offloads = rbuf_u64(r);
    bool known = modes >> ARRAY_LEN(mode) == 0 && n->pairs >= 1 && n->pairs <= n->max_pairs &&
                 !(n->offloads & ~(n->features & NET_GUEST_OFFLOADS)) && !(n->mac[0] & 1) &&
                 (n->pairs == 1 || n->features & NET_F_MQ);

    return known && !r->overrun ? 0 : -EPROTO;
}
