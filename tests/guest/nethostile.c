/* A driver of a network card that means no good: headers that must not reach the host
 * (what=headers) and rings that break the device until its reset (what=rings, with a mirror at the
 * tap's other end, host/frames.c). Further words are those of lib/netport.h. Judges itself. */
#include "lib/netport.h"

static struct ports all;
static struct net *const card = &all.card[0];
static struct port *const port = &all.port[0];

/* --- hostile headers --- */

enum { PASS, SHORT, LONG, CSUM, GSO, KINDS };
static const char *const kinds[KINDS] = { "passed", "short", "long", "csum", "gso" };

#define C NET_NEEDS_CSUM

/* len: of the frame, 60 where 0. of: what becomes of it, with all features, with CSUM alone, and
 * without any. */
static const struct hostile {
    const char *what;
    struct net_header h;
    int len;
    uint8_t of[3];
} hostiles[] = {
    { "a plain frame", { 0 }, 0, { PASS, PASS, PASS } },
    { "a checksum", { C, 0, 0, 0, 34, 16, 0 }, 0, { PASS, PASS, CSUM } },
    { "a checksum at the very end", { C, 0, 0, 0, 50, 8, 0 }, 0, { PASS, PASS, CSUM } },
    { "a checksum one byte behind it", { C, 0, 0, 0, 51, 8, 0 }, 0, { CSUM, CSUM, CSUM } },
    { "a checksum's offset behind it", { C, 0, 0, 0, 14, 45, 0 }, 0, { CSUM, CSUM, CSUM } },
    { "a checksum that wraps", { C, 0, 0, 0, 0xffff, 0xffff, 0 }, 0, { CSUM, CSUM, CSUM } },
    { "a checksum's offset that wraps", { C, 0, 0, 0, 16, 0xfff0, 0 }, 0, { CSUM, CSUM, CSUM } },
    { "a checksum in the Ethernet header", { C, 0, 0, 0, 13, 2, 0 }, 0, { CSUM, CSUM, CSUM } },
    { "flags to be ignored", { 0xfe, 0, 0, 0, 0, 0, 0 }, 0, { PASS, PASS, PASS } },
    { "fields to be ignored",
      { 0, 0, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff },
      0,
      { PASS, PASS, PASS } },
    { "TCP without a checksum", { 0, 1, 54, 40, 0, 0, 0 }, 0, { GSO, GSO, GSO } },
    { "TCP without a size", { C, 1, 54, 0, 34, 16, 0 }, 0, { GSO, GSO, CSUM } },
    { "TCP, headers longer than it", { C, 1, 61, 40, 34, 16, 0 }, 0, { GSO, GSO, CSUM } },
    { "TCP, the longest headers", { C, 4, 0xffff, 40, 34, 16, 0 }, 0, { GSO, GSO, CSUM } },
    { "a kind of no name", { C, 2, 54, 40, 34, 16, 0 }, 0, { GSO, GSO, CSUM } },
    { "UDP of old", { C, 3, 42, 40, 34, 6, 0 }, 0, { GSO, GSO, CSUM } },
    { "another kind of no name", { C, 6, 54, 40, 34, 16, 0 }, 0, { GSO, GSO, CSUM } },
    { "TCP with ECN", { C, 0x81, 54, 40, 34, 16, 0 }, 0, { GSO, GSO, CSUM } },
    { "ECN alone", { C, 0x80, 54, 40, 34, 16, 0 }, 0, { GSO, GSO, CSUM } },
    { "all kinds", { C, 0xff, 54, 40, 34, 16, 0 }, 0, { GSO, GSO, CSUM } },
    { "a header alone", { 0 }, -14, { SHORT, SHORT, SHORT } },
    { "a byte less", { 0 }, -15, { SHORT, SHORT, SHORT } },
    { "a single byte", { 0 }, -25, { SHORT, SHORT, SHORT } },
    { "a frame of 13 bytes", { 0 }, -1, { SHORT, SHORT, SHORT } },
    { "a frame of 14 bytes", { 0 }, 14, { PASS, PASS, PASS } },
    { "the longest frame", { 0 }, 65557, { PASS, PASS, PASS } },
    { "a byte more", { 0 }, 65558, { LONG, LONG, LONG } },
};

/* A TCP packet of IPv4 that only its negotiation makes right or wrong. */
static void tcp(uint8_t *f, struct net_header *h)
{
    put_be16(f + 12, TYPE_IP4);
    f[14] = 0x45;
    put_be16(f + 16, 46 + 40);
    f[23] = 6;
    f[46] = 5 << 4;
    *h = (struct net_header){ C, NET_GSO_TCP4, 54, 20, 34, 16, 0 };
}

/* A frame, and behind it room that is none of its business. */
static void room_behind(struct net *n)
{
    static uint8_t packet[NET_HEADER + 60], room[16];
    const struct desc d[] = { { (uintptr_t)packet, sizeof packet, 0, 0 },
                              { (uintptr_t)room, sizeof room, DESC_WRITE, 0 } };

    ethernet(packet + NET_HEADER, n, TYPE_ECHO);
    net_offer(n, 1, net_chain(n, 1, 0, 2, d, 2));
    net_kick(n, 1);
    net_wait(n, 1);
    check("bytes written to the room", n->q[1].len, 0);
    check("the room", *(volatile uint8_t *)room, 0);
}

/* What passes goes as TYPE_ECHO, what must not as TYPE_COUNT. Behind the header and 14 bytes of
 * Ethernet lies the row's number. */
static void headers(void)
{
    static uint8_t packet[NET_HEADER + 70000];
    struct net *n = card;
    struct net_header *h = at((uintptr_t)packet);
    unsigned tallies[KINDS] = { 0 }, which, kind;

    ports_start(&all, 1);
    which = n->features & NET_F_HOST_TSO4 ? 0 : n->features & NET_F_CSUM ? 1 : 2;
    for (size_t i = 0; i < ARRAY_LEN(hostiles); i++) {
        const struct hostile *r = &hostiles[i];
        int len = r->len < 0 ? ETH_LEN + r->len : r->len ? r->len : 60;

        kind = r->of[which];
        tallies[kind]++;
        *h = r->h;
        ethernet(packet + NET_HEADER, n, kind == PASS ? TYPE_ECHO : TYPE_COUNT);
        packet[NET_HEADER + ETH_LEN] = (uint8_t)i;
        if (!port_send_own(port, packet, (unsigned)(NET_HEADER + len)))
            check(r->what, net_reg(n, STATUS), 15);
    }
    tallies[PASS]++;
    room_behind(n);
    memset(packet, 0, sizeof packet);
    ethernet(packet + NET_HEADER, n, 0);
    tcp(packet + NET_HEADER, h);
    kind = (unsigned[]){ PASS, GSO, CSUM }[which];
    tallies[kind]++;
    port_send_own(port, packet, NET_HEADER + 100);
    check("it still runs", net_reg(n, STATUS), 15);
    for (unsigned i = 0; i < KINDS; i++)
        print("%s %u\n", kinds[i], tallies[i]);
}

/* --- what breaks it --- */

/* A frame to the mirror, and back. */
static bool proven(struct port *p)
{
    struct frame f;

    if (!port_beacon(p, TYPE_ECHO))
        return false;
    while (!port_receive(p, &f)) {
        if (net_reg(p->net, STATUS) & NEEDS_RESET)
            return false;
        pause();
    }
    port_give_back(p, &f);
    net_kick(p->net, p->rx);
    return true;
}

enum { RXQ, TXQ, CTL };

/* What is made available there; head, and how far the index goes on, where they are not 0. */
static const struct breaking {
    const char *what;
    unsigned queue;
    struct {
        uint32_t len;
        uint16_t flags;
    } part[3];
    uint16_t head, index;
    bool wild; /* the address */
} breakings[] = {
    { "room for less than a header", RXQ, { { 11, DESC_WRITE } }, 0, 0, false },
    { "room with something to read", RXQ, { { 20, 0 }, { 2000, DESC_WRITE } }, 0, 0, false },
    { "no room, but something to read", RXQ, { { 2000, 0 } }, 0, 0, false },
    { "room that is not there", RXQ, { { 2000, DESC_WRITE } }, 0, 0, true },
    { "more room than the ring has", RXQ, { { 2000, DESC_WRITE } }, 0, 0x7000, false },
    { "a head that is none", RXQ, { { 2000, DESC_WRITE } }, 0x8000, 0, false },
    { "a frame that is not there", TXQ, { { 100, 0 } }, 0, 0, true },
    { "a frame without an end", TXQ, { { 100, 0 }, { 10, 0 }, { 10, DESC_NEXT } }, 0, 0, false },
    { "more frames than the ring has", TXQ, { { 100, 0 } }, 0, 0x7000, false },
    { "a head of no frame", TXQ, { { 100, 0 } }, 0xffff, 0, false },
    { "something to read behind room", TXQ, { { 100, DESC_WRITE }, { 10, 0 } }, 0, 0, false },
    { "a command without an ack", CTL, { { 3, 0 } }, 0, 0, false },
    { "a command that is none", CTL, { { 0, 0 } }, 0, 0, true },
};

/* Without buffers to receive into, so that its own is the next. */
static void break_it(const struct breaking *b)
{
    static uint8_t memory[4096];
    struct net *n = card;
    unsigned q = b->queue == CTL ? n->ctl : b->queue, count = 0, polls = 0;
    struct desc d[3];

    net_start(n, port_features() | NET_F_CTRL_VQ);
    for (; count < 3 && (b->part[count].len || (b->wild && !count)); count++)
        d[count] = (struct desc){ b->wild ? UINT64_C(0xc0000000) : (uintptr_t)memory,
                                  b->part[count].len, b->part[count].flags, 0 };
    uint16_t head = net_chain(n, q, 0, 3, d, count);

    if (count == 3 && d[2].flags & DESC_NEXT) /* round and round */
        (n->features & F_INDIRECT ? n->q[q].table[0] : n->q[q].desc)[2].next = 0;
    net_offer(n, q, b->head ? b->head : head);
    n->q[q].offered = (uint16_t)(n->q[q].offered + b->index);
    net_kick(n, q);
    if (q == 0) { /* something that would go there */
        static uint8_t packet[NET_HEADER + 60];

        ethernet(packet + NET_HEADER, n, TYPE_ECHO);
        port_send_own(port, packet, sizeof packet);
    }
    while (!(net_reg(n, STATUS) & NEEDS_RESET) && polls < 100000)
        polls++;
    check(b->what, net_reg(n, STATUS), 15 | NEEDS_RESET);
    check("an interrupt tells of it", net_reg(n, INTERRUPT_STATUS) & IRQ_CONFIG, IRQ_CONFIG);
    ports_start(&all, 1);
    check("a reset mends it", proven(port), true);
}

static void rings(void)
{
    ports_start(&all, 1);
    check("it works", proven(port), true);
    for (size_t i = 0; i < ARRAY_LEN(breakings); i++)
        break_it(&breakings[i]);
    ports_check(&all);
}

/* --- what is not the device's any more --- */

#define MARK UINT64_C(0x6d656d6f7279)

/* The first bytes of each buffer, where a frame would begin: marked, or whether the marks are
 * whole.
 */
static bool marks(bool set)
{
    uint64_t wrong = 0;

    for (unsigned i = 0; i < port->slots; i++) {
        volatile uint64_t *a = at((uintptr_t)port_slot(port, i));

        for (unsigned k = 0; k < 4; k++) {
            if (set)
                a[k] = MARK;
            wrong |= a[k] ^ MARK;
        }
    }
    return !wrong;
}

static void resets(void)
{
    for (unsigned round = 0; round < 5; round++) {
        struct frame f;

        ports_start(&all, 1);
        while (port->frames < round + 1) /* the next ones find buffers held ready */
            if (port_receive(port, &f)) {
                port_give_back(port, &f);
                net_kick(card, 0);
            }
        port->frames = 0;
        net_reset(card);
        uint32_t used = card->q[0].used[0];

        marks(true);
        for (unsigned i = 0; i < 1000; i++) /* of some frames' time */
            net_reg(card, STATUS);
        check("buffers behind a reset", marks(false), true);
        check("used index behind a reset", card->q[0].used[0], used);
    }
    ports_check(&all);
}

/* --- */

void guest_main(void)
{
    char what[16] = "headers";

    option("what", what, sizeof what);
    if (strcmp(what, "headers") == 0)
        headers();
    else if (strcmp(what, "rings") == 0)
        rings();
    else
        resets();
    print("%u checked, %u bad\n", checked, bad);
}
