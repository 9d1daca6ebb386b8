/* Frames; see netport.h. */
#include "netport.h"

#define GAP     64 /* bytes of canaries behind each buffer */
#define CANARY  UINT64_C(0x5ca1ab1e0ddba11)
#define LARGEST 65562 /* of header and frame, where TSO is negotiated (5.1.6.3.1) */

/* --- frames --- */

uint16_t be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

void put_be16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

void ethernet(uint8_t *f, const struct net *n, unsigned type)
{
    memset(f, 0xff, 6);
    memcpy(f + 6, n->mac, 6);
    put_be16(f + 12, type);
}

uint64_t port_features(void)
{
    static const struct {
        const char *word;
        uint64_t bits;
    } rows[] = {
        { "mrg", NET_F_MRG_RXBUF },
        { "event", F_EVENT_IDX },
        { "indirect", F_INDIRECT },
        { "csum", NET_F_CSUM | NET_F_GUEST_CSUM },
        { "tso", NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_HOST_TSO4 | NET_F_HOST_TSO6 |
                     NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 },
        { "uso", NET_F_HOST_USO | NET_F_GUEST_USO4 | NET_F_GUEST_USO6 },
        { "ctlq", NET_F_CTRL_VQ },
        { "mq", NET_F_MQ | NET_F_CTRL_VQ },
        { "ctrl", NET_F_CTRL_VQ | NET_F_CTRL_RX | NET_F_CTRL_EXTRA | NET_F_CTRL_MAC },
        { "offloads", NET_F_CTRL_VQ | NET_F_OFFLOADS },
    };
    uint64_t f = NET_F_MAC | NET_F_STATUS | NET_F_MTU;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (option(rows[i].word, NULL, 0))
            f |= rows[i].bits;
    return f;
}

bool net_up(const struct net *n)
{
    return read16(n->base + CONFIG + NET_STATUS) & NET_LINK_UP;
}

unsigned net_mtu(const struct net *n)
{
    return read16(n->base + CONFIG + NET_MTU);
}

/* --- ports --- */

uint8_t *port_slot(struct port *p, unsigned slot)
{
    return p->memory + slot * p->stride;
}

static void rx_offer(struct port *p, unsigned slot)
{
    uint64_t a = (uintptr_t)port_slot(p, slot);
    const struct desc whole = { a, p->buf, DESC_WRITE, 0 };
    const struct desc three[] = { { a, 14, DESC_WRITE, 0 },
                                  { a + 14, p->buf / 2, DESC_WRITE, 0 },
                                  { a + 14 + p->buf / 2, p->buf - 14 - p->buf / 2, DESC_WRITE,
                                    0 } };

    net_offer(p->net, p->rx,
              net_chain(p->net, p->rx, slot, p->rx_descs, p->cut ? three : &whole, p->cut ? 3 : 1));
}

/* The gap behind a buffer: filled, or whether it is whole. */
static bool gap(struct port *p, unsigned slot, bool fill)
{
    uint64_t *a = at((uintptr_t)port_slot(p, slot) + p->buf), wrong = 0;

    for (unsigned i = 0; i < GAP / 8; i++) {
        if (fill)
            a[i] = CANARY;
        wrong |= a[i] ^ CANARY;
    }
    return !wrong;
}

/* How many chains there are place for, of so many descriptors. */
static unsigned places(const struct net *n, unsigned descs)
{
    return n->size / (n->features & F_INDIRECT ? 1 : descs);
}

static void port_start(struct port *p, struct net *n, unsigned pair)
{
    bool mrg = n->features & NET_F_MRG_RXBUF;
    unsigned largest = net_mtu(n) + ETH_LEN + NET_HEADER, parts, slots;

    if (n->features & NET_F_GUEST_TSO4)
        largest = LARGEST;
    p->net = n;
    p->rx = 2 * pair;
    p->tx = 2 * pair + 1;
    p->mtu = net_mtu(n);
    p->cut = option("cut", NULL, 0);
    p->by_vhost = option("vhost", NULL, 0);
    p->buf = (unsigned)option_number("buf", mrg ? 1536 : largest);
    p->stride = (p->buf + GAP + 15) & ~15u;
    parts = mrg ? (largest + p->buf - 1) / p->buf : 1;
    p->rx_descs = p->cut ? 3 : 1;
    p->tx_descs = parts + (p->cut ? 2 : 0);
    p->slots = (unsigned)option_number("slots", NET_SIZE);
    slots = places(n, p->rx_descs);
    if (p->slots > slots)
        p->slots = slots;
    if (p->slots > PORT_MEMORY / p->stride)
        p->slots = PORT_MEMORY / p->stride;
    p->tx_slots = places(n, p->tx_descs);
    p->tx_out = 0;
    memset(p->busy, 0, sizeof p->busy);
    if (parts + 2 > NET_PIECES || !p->tx_slots) {
        print("BAD options: a frame takes %u buffers\n", parts);
        power_off();
    }
    for (unsigned i = 0; i < p->slots; i++) {
        gap(p, i, true);
        rx_offer(p, i);
    }
    net_kick(n, p->rx);
}

void ports_start(struct ports *s, unsigned n)
{
    s->n = 0;
    for (unsigned i = 0; i < n; i++) {
        struct net *card = &s->card[i];

        if (!card->base && !net_find(card, i)) {
            print("BAD there is no card %u\n", i);
            power_off();
        }
        card->size = (unsigned)option_number("size", NET_SIZE);
        if (option("sleep", NULL, 0))
            intr_route(card->gsi, VECTOR_OTHER);
        net_start(card, port_features());
        for (unsigned pair = 0; pair < card->pairs; pair++)
            port_start(&s->port[s->n++], card, pair);
    }
}

void ports_check(struct ports *s)
{
    for (unsigned i = 0; i < s->n; i++)
        for (unsigned k = 0; k < s->port[i].slots; k++)
            if (!gap(&s->port[i], k, false))
                check("bytes behind the buffer of slot", k, UINT64_MAX);
}

/* --- receiving --- */

static unsigned slot_of(const struct port *p, int head)
{
    return (unsigned)head / (p->net->features & F_INDIRECT ? 1 : p->rx_descs);
}

/* Whether the header is one that was negotiated. */
static void judge_header(struct port *p, const struct net_header *h, unsigned len)
{
    uint64_t f = p->net->features;
    uint64_t need = h->gso_type == NET_GSO_TCP4     ? NET_F_GUEST_TSO4
                    : h->gso_type == NET_GSO_TCP6   ? NET_F_GUEST_TSO6
                    : h->gso_type == NET_GSO_UDP_L4 ? NET_F_GUEST_USO4 | NET_F_GUEST_USO6
                                                    : 0;

    if (h->gso_type && !(f & need))
        check("the kind of a packet that was not to come", h->gso_type, 0);
    if (h->flags && !(f & NET_F_GUEST_CSUM))
        check("flags that were not negotiated", h->flags, 0);
    if (h->flags & NET_NEEDS_CSUM &&
        (unsigned)(h->csum_start + h->csum_offset + 2 + NET_HEADER) > len)
        check("where the checksum is", h->csum_start, 0);
    if (h->gso_type || len <= p->mtu + ETH_LEN + NET_HEADER)
        return;
    p->mtu = net_mtu(p->net); /* it may have grown */
    if (len > p->mtu + ETH_LEN + NET_HEADER)
        check("the length of a frame", len, p->mtu);
}

bool port_receive(struct port *p, struct frame *f)
{
    bool mrg = p->net->features & NET_F_MRG_RXBUF;
    int head = net_take(p->net, p->rx);
    const struct net_header *h;

    if (head < 0)
        return false;
    unsigned slot = slot_of(p, head), want = 1;

    h = at((uintptr_t)port_slot(p, slot));
    if (mrg)
        want = h->num_buffers;
    else if (h->num_buffers != 1 && !p->by_vhost)
        check("how many buffers, not mergeable", h->num_buffers, 1);
    if (want < 1 || want > NET_PIECES) {
        check("how many buffers", want, 1);
        want = 1;
    }
    for (f->slots = f->len = 0; f->slots < want; f->slots++) {
        if (f->slots) {
            head = net_take(p->net, p->rx);
            if (head < 0) {
                check("buffers of a frame at once", f->slots, want);
                break;
            }
        }
        unsigned len = p->net->q[p->rx].len;

        f->part[f->slots].slot = slot_of(p, head);
        f->part[f->slots].len = len;
        f->len += len;
        if (len > p->buf || (f->slots + 1 < want && len != p->buf))
            check("bytes in a buffer", len, p->buf);
    }
    if (f->len < NET_HEADER + ETH_LEN)
        check("bytes of a frame", f->len, NET_HEADER + ETH_LEN);
    judge_header(p, h, f->len);
    p->frames++;
    p->bytes += f->len - NET_HEADER;
    p->cut_up += h->gso_type != 0;
    return true;
}

void port_give_back(struct port *p, const struct frame *f)
{
    for (unsigned i = 0; i < f->slots; i++)
        rx_offer(p, f->part[i].slot);
}

/* --- transmitting --- */

void port_reclaim(struct port *p)
{
    int head;

    while ((head = net_take(p->net, p->tx)) >= 0) {
        unsigned slot = (unsigned)head / (p->net->features & F_INDIRECT ? 1 : p->tx_descs);

        if (slot >= p->tx_slots || !p->busy[slot]) {
            check("a head that is not out", slot, UINT64_MAX);
            continue;
        }
        if (p->net->q[p->tx].len)
            check("bytes written to what was sent", p->net->q[p->tx].len, 0);
        port_give_back(p, &p->out[slot]);
        p->busy[slot] = false;
        p->tx_out--;
    }
}

static unsigned free_slot(struct port *p)
{
    unsigned slot = 0;

    for (port_reclaim(p); p->tx_out == p->tx_slots; port_reclaim(p)) {
        net_kick(p->net, p->tx);
        pause();
    }
    while (p->busy[slot])
        slot++;
    return slot;
}

void port_send(struct port *p, const struct frame *f)
{
    unsigned slot = free_slot(p), n = 0;
    struct desc d[NET_PIECES];

    for (unsigned i = 0; i < f->slots; i++) {
        uint64_t a = (uintptr_t)port_slot(p, f->part[i].slot);
        unsigned len = f->part[i].len;

        if (i == 0 && p->cut) { /* the header in two, and apart from the frame */
            d[n++] = (struct desc){ a, 5, 0, 0 };
            d[n++] = (struct desc){ a + 5, NET_HEADER - 5, 0, 0 };
            a += NET_HEADER;
            len -= NET_HEADER;
        }
        d[n++] = (struct desc){ a, len, 0, 0 };
    }
    p->out[slot] = *f;
    p->busy[slot] = true;
    p->tx_out++;
    net_offer(p->net, p->tx, net_chain(p->net, p->tx, slot, p->tx_descs, d, n));
}

bool port_send_own(struct port *p, const void *packet, unsigned len)
{
    const struct desc d = { (uintptr_t)packet, len, 0, 0 };

    while (p->tx_out)
        port_reclaim(p);
    net_offer(p->net, p->tx, net_chain(p->net, p->tx, 0, 1, &d, 1));
    net_kick(p->net, p->tx);
    if (net_wait(p->net, p->tx) < 0)
        return false;
    check("bytes written to what was sent", p->net->q[p->tx].len, 0);
    return true;
}

bool port_beacon(struct port *p, unsigned type)
{
    static uint8_t packet[NET_HEADER + 64];

    memset(packet, 0, sizeof packet);
    ethernet(packet + NET_HEADER, p->net, type);
    return port_send_own(p, packet, sizeof packet);
}
