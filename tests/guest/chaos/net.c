/* The network card in the hostile guest: frames out, mostly right, with headers in the yard
 * (chaos.h) where the other vCPU rewrites them; room for those that come in, which a host sends
 * without end; and commands. It proves itself by a frame that the mirror at the tap's other end
 * sends back (host/frames.c). Without a card there is nothing to do. */
#include "../lib/net.h"
#include "chaos.h"

#define TYPE_ECHO 0x88b5
#define BUFFER    2048 /* of the proof's */
#define BUFFERS   16

static struct net card;

static bool here(void)
{
    return card.base || net_find(&card, 0);
}

/* What the round negotiates. */
static volatile uint64_t features;

static bool is_control(unsigned q)
{
    return q == (features & NET_F_MQ ? 4 : 2);
}

/* --- requests --- */

/* Headers and commands lie close together, so that the other vCPU finds them. */
static uint64_t corner(struct rng *r)
{
    return YARD_START + 16 * rng_below(r, 24);
}

static uint16_t some_offset(struct rng *r)
{
    return (uint16_t)(rng_one_in(r, 8) ? rng_next(r) : rng_below(r, 80));
}

static void some_header(struct rng *r, uint64_t a)
{
    static const uint8_t kinds[] = { 0, 0, 0, 0, 1, 4, 5, 1, 4, 5, 3, 0x81, 2 };
    uint8_t kind = kinds[rng_below(r, sizeof kinds)];

    write8(a, (uint8_t)(rng_one_in(r, 16) ? rng_next(r) : kind || rng_one_in(r, 3)));
    write8(a + 1, kind);
    write16(a + 2, some_offset(r));
    write16(a + 4, rng_one_in(r, 8) ? some_offset(r) : (uint16_t)(500 + rng_below(r, 1000)));
    write16(a + 6, rng_one_in(r, 3) ? some_offset(r) : 34);
    write16(a + 8, rng_one_in(r, 3) ? some_offset(r) : 16);
    write16(a + 10, (uint16_t)rng_next(r));
}

static uint32_t some_length(struct rng *r, unsigned usual)
{
    return rng_one_in(r, 24) ? buffer_length(r) : 1 + rng_below(r, usual);
}

/* An Ethernet frame, now and then of IP, as far as it is one. */
static void some_frame(struct rng *r, uint64_t a)
{
    static const uint32_t starts[] = { 0x00450008, 0x0060dd86, 0xb588, 0x0608 };

    write32(a, 0xffffffff);
    write32(a + 12, starts[rng_below(r, ARRAY_LEN(starts))]);
    write32(a + 20, rng_below(r, 2) ? 0x0600 << 16 : 0x1100 << 16);
}

static unsigned transmit_request(struct rng *r, struct desc d[4])
{
    uint64_t a = corner(r), data = yard(r);
    unsigned n = 1;

    some_header(r, a);
    d[0] = (struct desc){ a, rng_one_in(r, 32) ? rng_below(r, 16) : NET_HEADER, 0, 0 };
    if (rng_one_in(r, 2))
        some_frame(r, data);
    for (unsigned k = 1 + rng_below(r, 2); k;
         k--, data = rng_one_in(r, 8) ? apart_buffer(r) : yard(r))
        d[n++] = (struct desc){ data, some_length(r, rng_one_in(r, 4) ? 9000 : 1514), 0, 0 };
    if (rng_one_in(r, 64))
        d[n - 1].flags = DESC_WRITE;
    return n;
}

static unsigned receive_request(struct rng *r, struct desc d[4])
{
    unsigned n = 1 + rng_below(r, 2);

    for (unsigned i = 0; i < n; i++)
        d[i] = (struct desc){ rng_one_in(r, 16) ? apart_buffer(r) : yard(r),
                              i == 0 && !rng_one_in(r, 64) ? 12 + rng_below(r, 4096)
                                                           : some_length(r, 4096),
                              rng_one_in(r, 128) ? 0 : DESC_WRITE, 0 };
    return n;
}

/* Data of the right length for the command, or not. */
static unsigned control_request(struct rng *r, struct desc d[4])
{
    static const struct {
        uint16_t command;
        uint8_t len;
    } commands[] = {
        { NET_RX_PROMISC, 1 }, { NET_RX_ALLMULTI, 1 }, { NET_RX_NOBCAST, 1 }, { NET_MAC_TABLE, 8 },
        { NET_MAC_TABLE, 20 }, { NET_MAC_ADDR, 6 },    { NET_VQ_PAIRS, 2 },   { NET_OFFLOADS, 8 },
    };
    unsigned which = rng_below(r, ARRAY_LEN(commands));
    uint64_t a = corner(r), data = corner(r);

    write8(a, (uint8_t)(commands[which].command >> 8));
    write8(a + 1, (uint8_t)commands[which].command);
    write64(data, rng_one_in(r, 4) ? rng_next(r) : rng_below(r, 3));
    d[0] = (struct desc){ a, rng_one_in(r, 32) ? 1 : 2, 0, 0 };
    d[1] = (struct desc){ data, rng_one_in(r, 16) ? rng_below(r, 512) : commands[which].len, 0, 0 };
    d[2] = (struct desc){ yard(r), 1, rng_one_in(r, 64) ? 0 : DESC_WRITE, 0 };
    return 3;
}

static unsigned net_request(struct rng *r, unsigned q, struct desc d[4])
{
    if (is_control(q))
        return control_request(r, d);
    return q % 2 ? transmit_request(r, d) : receive_request(r, d);
}

/* A short frame is gone at once; of what is received that is up to the host. */
static unsigned net_quick(struct rng *r, unsigned q, struct desc d[4])
{
    if (is_control(q) || q % 2 == 0)
        return net_request(r, q, d);
    d[0] = (struct desc){ corner(r), NET_HEADER, 0, 0 };
    d[1] = (struct desc){ yard(r), 60, 0, 0 };
    return 2;
}

/* --- driving and bending --- */

/* Of the card that was found. */
static const struct chaos_virtio *virtio(void)
{
    static struct chaos_virtio v = {
        .cfg_len = NET_CONFIG_LEN,
        .apart = true,
        .request = net_request,
        .quick = net_quick,
    };

    v.base = card.base;
    v.nq = 5;
    v.features = features;
    return &v;
}

#define CHECKSUMS (NET_F_CSUM | NET_F_GUEST_CSUM)
#define TSO       (NET_F_HOST_TSO4 | NET_F_HOST_TSO6 | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6)
#define CONTROL   (NET_F_CTRL_VQ | NET_F_CTRL_RX | NET_F_CTRL_EXTRA | NET_F_CTRL_MAC)

/* As of disks (blk.c): every second round leaves the rings alone. */
static volatile bool gently;

static void net_drive(struct rng *r)
{
    static const uint64_t sets[] = { 0,
                                     NET_F_MRG_RXBUF,
                                     NET_F_MRG_RXBUF | CHECKSUMS | TSO | CONTROL,
                                     CHECKSUMS | CONTROL | NET_F_OFFLOADS,
                                     NET_F_MRG_RXBUF | CHECKSUMS | CONTROL | NET_F_MQ,
                                     CHECKSUMS | TSO | CONTROL | NET_F_OFFLOADS | NET_F_MQ };

    gently = rng_one_in(r, 2);
    if (!here())
        return;
    features = sets[rng_below(r, ARRAY_LEN(sets))] & net_offered(&card);
    virtio_drive(virtio(), r);
}

/* A header or a command that is another from one moment to the next. */
static void bend_words(struct rng *r)
{
    uint64_t a = corner(r);
    uint32_t first = read32(a), other = rng_next(r);
    unsigned what = rng_below(r, 4);

    for (unsigned i = 0; i < 8; i++) {
        if (what == 0) /* flags, kind and headers' length; class and command */
            write32(a, i % 2 ? first : other);
        else if (what == 1)
            write16(a, i % 2 ? 0x0101 : 0);
        else if (what == 2) /* where a checksum is */
            write32(a + 6, i % 2 ? 0x00100022 : other);
        else
            write16(a + 4, i % 2 ? 1448 : 0);
    }
    some_header(r, a);
}

static void net_bend(struct rng *r)
{
    if (!here())
        pause();
    else if (gently && !rng_one_in(r, 256))
        bend_words(r);
    else
        virtio_bend(virtio(), r);
}

/* --- proof --- */

static uint8_t in[BUFFERS][BUFFER], out[NET_HEADER + 64];

static void offer(unsigned slot)
{
    const struct desc d = { (uintptr_t)in[slot], BUFFER, DESC_WRITE, 0 };

    net_offer(&card, 0, net_chain(&card, 0, slot, 1, &d, 1));
}

/* Sends it, and again where it or its answer was lost among the others. */
static void send(void)
{
    const struct desc d = { (uintptr_t)out, sizeof out, 0, 0 };

    net_offer(&card, 1, net_chain(&card, 1, 0, 1, &d, 1));
    net_kick(&card, 1);
    net_wait(&card, 1);
}

static bool net_prove(struct rng *r)
{
    static const uint64_t sets[] = { 0, F_INDIRECT, F_EVENT_IDX | NET_F_MRG_RXBUF,
                                     F_INDIRECT | F_EVENT_IDX | NET_F_CTRL_VQ | NET_F_CTRL_RX };
    uint32_t tag = rng_next(r);
    uint8_t *f = out + NET_HEADER;

    if (!here())
        return true;
    net_start(&card, sets[rng_below(r, ARRAY_LEN(sets))]);
    for (unsigned i = 0; i < BUFFERS; i++)
        offer(i);
    net_kick(&card, 0);
    memset(out, 0, sizeof out);
    memset(f, 0xff, 6);
    memcpy(f + 6, card.mac, 6);
    f[12] = TYPE_ECHO >> 8;
    f[13] = TYPE_ECHO & 0xff;
    memcpy(f + 14, &tag, 4);
    for (unsigned idle = 0;; idle++) {
        if (idle % 1024 == 0)
            send();
        if (net_reg(&card, STATUS) & NEEDS_RESET)
            return false;
        int slot = net_take(&card, 0);

        if (slot < 0)
            continue;
        const uint8_t *came = in[slot] + NET_HEADER;
        bool mine = card.q[0].len == sizeof out && memcmp(came + 12, f + 12, 52) == 0;
        bool back = memcmp(came, card.mac, 6) == 0;

        offer((unsigned)slot);
        net_kick(&card, 0);
        if (mine)
            return back;
    }
}

const struct chaos_device chaos_net = { "net", net_drive, net_bend, net_prove };
