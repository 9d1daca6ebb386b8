/* A network card, driven: what=NAME says how, further words what is negotiated and how frames lie
 * (lib/netport.h). What has to come back from the host is the business of host/frames.c at the
 * tap's other end. Judges itself. */
#include "lib/netport.h"

static struct ports all;
static struct net *const card = &all.card[0];

/* --- what a host wants to know of us --- */

static const uint8_t our_ip[4] = { 10, 9, 0, 2 };

/* A request for our address becomes its answer. */
static bool arp(const struct net *n, uint8_t *f)
{
    if (be16(f + 20) != 1 || memcmp(f + 38, our_ip, 4) != 0)
        return false;
    f[21] = 2;
    memcpy(f + 32, f + 22, 10); /* to whom it came from */
    memcpy(f + 22, n->mac, 6);
    memcpy(f + 28, our_ip, 4);
    return true;
}

/* An echo request, too: both sums stay right but for the type, 8 of which become 0. */
static bool ping(uint8_t *f)
{
    uint8_t from[4];
    uint32_t sum;

    if (f[34] != 8 || memcmp(f + 30, our_ip, 4) != 0)
        return false;
    memcpy(from, f + 26, 4);
    memcpy(f + 26, our_ip, 4);
    memcpy(f + 30, from, 4);
    f[34] = 0;
    sum = be16(f + 36) + UINT32_C(0x0800);
    put_be16(f + 36, (uint16_t)(sum + (sum >> 16)));
    return true;
}

/* Turns the frame into its answer; false: there is none. */
static bool answer(struct port *p, const struct frame *f)
{
    struct net_header *h = at((uintptr_t)port_slot(p, f->part[0].slot));
    uint8_t *b = (uint8_t *)h + NET_HEADER;
    bool reply;

    switch (be16(b + 12)) {
    case TYPE_ARP:
        reply = arp(p->net, b);
        break;
    case TYPE_IP4:
        reply = b[23] != 1 || ping(b);
        break;
    case TYPE_IP6:
    case TYPE_ECHO:
        reply = true;
        break;
    default:
        reply = false;
    }
    if (!reply)
        return false;
    if (h->flags & NET_NEEDS_CSUM && p->net->features & NET_F_CSUM)
        h->flags = NET_NEEDS_CSUM;
    else
        memset(h, 0, sizeof *h);
    h->num_buffers = 0;
    memcpy(b, b + 6, 6);
    memcpy(b + 6, p->net->mac, 6);
    return true;
}

/* Answers what came. Whether something did. */
static bool port_serve(struct port *p)
{
    struct frame f;
    bool any = false;

    for (unsigned i = 0; i < p->slots && port_receive(p, &f); i++) {
        any = true;
        if (answer(p, &f))
            port_send(p, &f);
        else
            port_give_back(p, &f);
    }
    net_kick(p->net, p->tx);
    port_reclaim(p);
    net_kick(p->net, p->rx);
    return any;
}

/* --- serve: answers, and does as the console says --- */

static void tell_link(const struct net *n)
{
    print("link %s, mtu %u\n", net_up(n) ? "up" : "down", net_mtu(n));
}

static void tally(void)
{
    for (unsigned i = 0; i < all.n; i++) {
        print("port %u: %u frames, %lu bytes, %u to be cut up\n", i, all.port[i].frames,
              all.port[i].bytes, all.port[i].cut_up);
        all.port[i].frames = all.port[i].cut_up = 0;
        all.port[i].bytes = 0;
    }
}

/* An acknowledged command for the first card, one byte long. */
static void switched(const char *what, unsigned command, uint8_t value)
{
    print("%s %u: %u\n", what, value, net_control(card, command, &value, 1));
}

/* Two tables: 02:00:00:00:00:05, and the group 03:00:00:00:00:07. */
static void filter(void)
{
    static const uint8_t tables[] = { 1, 0, 0, 0, 2, 0, 0, 0, 0, 5, 1, 0, 0, 0, 3, 0, 0, 0, 0, 7 };

    print("tables: %u\n", net_control(card, NET_MAC_TABLE, tables, sizeof tables));
}

static bool command(char c)
{
    const uint8_t pairs[] = { (uint8_t)(c - '0'), 0 };

    switch (c) {
    case 'b':
        for (unsigned i = 0; i < all.n; i++)
            print("beacon %u: %u\n", i, port_beacon(&all.port[i], TYPE_COUNT));
        break;
    case 'f':
        filter();
        break;
    case 'p':
    case 'P':
        switched("promisc", NET_RX_PROMISC, c == 'P');
        break;
    case 'a':
    case 'A':
        switched("allmulti", NET_RX_ALLMULTI, c == 'A');
        break;
    case '1':
    case '2':
        print("pairs: %u\n", net_control(card, NET_VQ_PAIRS, pairs, 2));
        break;
    case 'r':
        ports_start(&all, 1);
        print("started again\n");
        break;
    case 't':
        tally();
        print("told\n");
        break;
    case 'q':
        return false;
    default:
        break;
    }
    return true;
}

/* A byte of the console's, or 0. */
static char console_byte(void)
{
    static uint8_t byte;
    static bool offered;
    uint32_t len;

    if (!offered) {
        vq[RX].desc[0] = (struct desc){ (uintptr_t)&byte, 1, DESC_WRITE, 0 };
        queue_offer(&vq[RX], 0);
        queue_kick(&vq[RX]);
        offered = true;
    }
    if (!queue_used(&vq[RX], &len))
        return 0;
    offered = false;
    return (char)*(volatile uint8_t *)&byte;
}

/* Acknowledges interrupts; the link's changes are told. */
static void look(struct net *n)
{
    uint32_t why = net_reg(n, INTERRUPT_STATUS);

    if (!why)
        return;
    net_set_reg(n, INTERRUPT_ACK, why);
    if (why & IRQ_CONFIG)
        tell_link(n);
}

/* Until the console says q, or count=N frames came. */
static void serve(void)
{
    unsigned count = (unsigned)option_number("count", 0);
    bool sleeps = option("sleep", NULL, 0);

    console_start(0);
    ports_start(&all, 1);
    tell_link(card);
    print("ready\n");
    for (bool more = true; more;) {
        unsigned seen = interrupts, frames = 0;
        bool any = false;
        char c;

        look(card);
        for (unsigned i = 0; i < all.n; i++) {
            any |= port_serve(&all.port[i]);
            frames += all.port[i].frames;
        }
        if ((c = console_byte()) != 0)
            more = command(c);
        else if (count && frames >= count)
            more = false;
        else if (!any && sleeps)
            wait_interrupt(seen);
        else if (!any)
            pause();
    }
    check("it needs no reset", net_reg(card, STATUS), 15);
    tally();
    ports_check(&all);
}

/* --- what it is --- */

static void mac(const struct net *n, uint8_t m[6])
{
    for (unsigned i = 0; i < 6; i++)
        m[i] = read8(n->base + CONFIG + NET_MAC + i);
}

static void facts(void)
{
    struct net *n = card;
    unsigned i = 0;

    for (; net_find(n, i); i++) {
        const uint8_t *m = n->mac;

        print("card %u: %02x:%02x:%02x:%02x:%02x:%02x, link %s, mtu %u, %u pairs\n", i, m[0], m[1],
              m[2], m[3], m[4], m[5], net_up(n) ? "up" : "down", net_mtu(n),
              net_offered(n) & NET_F_MQ ? read16(n->base + CONFIG + NET_MAX_PAIRS) : 1);
    }
    check("there is one", i > 0, true);
}

static void configuration(void)
{
    struct net *n = card;
    uint64_t must = NET_F_MAC | NET_F_STATUS | NET_F_MTU | NET_F_CSUM | NET_F_GUEST_CSUM |
                    NET_F_HOST_TSO4 | NET_F_HOST_TSO6 | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 |
                    NET_F_MRG_RXBUF | NET_F_CTRL_VQ | NET_F_CTRL_RX | NET_F_CTRL_MAC |
                    NET_F_OFFLOADS | F_INDIRECT | F_EVENT_IDX | F_VERSION_1;
    uint64_t may = NET_F_CTRL_EXTRA | NET_F_HOST_USO | NET_F_GUEST_USO4 | NET_F_GUEST_USO6;
    uint8_t m[6];

    net_find(n, 0);
    check("features that must be", net_offered(n) & must, must);
    check("features that must not", net_offered(n) & ~(must | may), 0);
    write8(n->base + CONFIG + NET_MAC + 5, (uint8_t)(n->mac[5] + 1));
    write16(n->base + CONFIG + NET_MTU, 77);
    mac(n, m);
    check("the address is read-only", m[5], n->mac[5]);
    check("the rest, too", net_mtu(n), option_number("mtu", 1500));
    check("behind its end", read32(n->base + CONFIG + NET_CONFIG_LEN), 0);
    for (unsigned q = 0; q < 4; q++) {
        net_set_reg(n, QUEUE_SEL, q);
        check("a queue's size", net_reg(n, QUEUE_NUM_MAX), q < 3 ? 256 : 0);
    }
}

/* --- the control queue --- */

#define ONE(v) { v }, 1

/* What is acknowledged, and what refused, where all was negotiated but MQ. */
static const struct {
    const char *what;
    unsigned command;
    uint8_t data[32], len;
    uint8_t ack;
} asks[] = {
    { "promiscuous", NET_RX_PROMISC, ONE(1), NET_OK },
    { "not promiscuous", NET_RX_PROMISC, ONE(0), NET_OK },
    { "half promiscuous", NET_RX_PROMISC, ONE(2), NET_ERR },
    { "promiscuous or not", NET_RX_PROMISC, { 0 }, 0, NET_ERR },
    { "promiscuous at length", NET_RX_PROMISC, { 1 }, 2, NET_ERR },
    { "all groups", NET_RX_ALLMULTI, ONE(1), NET_OK },
    { "all hosts", NET_RX_ALLUNI, ONE(1), NET_OK },
    { "no groups", NET_RX_NOMULTI, ONE(0), NET_OK },
    { "no hosts", NET_RX_NOUNI, ONE(0), NET_OK },
    { "no broadcasts", NET_RX_NOBCAST, ONE(0), NET_OK },
    { "a mode of no name", 0x006, ONE(1), NET_ERR },
    { "an address", NET_MAC_ADDR, { 2, 0, 0, 0, 0, 9 }, 6, NET_OK },
    { "a group's address", NET_MAC_ADDR, { 3, 0, 0, 0, 0, 9 }, 6, NET_ERR },
    { "a short address", NET_MAC_ADDR, { 2, 0, 0, 0, 0 }, 5, NET_ERR },
    { "a long address", NET_MAC_ADDR, { 2, 0, 0, 0, 0, 1, 0 }, 7, NET_ERR },
    { "tables",
      NET_MAC_TABLE,
      { 1, 0, 0, 0, 2, 0, 0, 0, 0, 5, 1, 0, 0, 0, 3, 0, 0, 0, 0, 7 },
      20,
      NET_OK },
    { "empty tables", NET_MAC_TABLE, { 0 }, 8, NET_OK },
    { "one table", NET_MAC_TABLE, { 0 }, 4, NET_ERR },
    { "no table", NET_MAC_TABLE, { 0 }, 0, NET_ERR },
    { "a table cut short", NET_MAC_TABLE, { 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 0 }, 13, NET_ERR },
    { "a table of all there are",
      NET_MAC_TABLE,
      { 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0 },
      8,
      NET_ERR },
    { "a table that wraps",
      NET_MAC_TABLE,
      { 0xab, 0xaa, 0xaa, 0x2a, 0, 0, 0, 0, 0, 0, 0, 0 },
      12,
      NET_ERR },
    { "tables and more", NET_MAC_TABLE, { 0 }, 9, NET_ERR },
    { "a command for addresses of no name", 0x102, { 0 }, 8, NET_ERR },
    { "a VLAN", 0x200, { 5, 0 }, 2, NET_ERR },
    { "an announcement", 0x300, { 0 }, 0, NET_ERR },
    { "pairs", NET_VQ_PAIRS, { 1, 0 }, 2, NET_ERR },
    { "no offloads", NET_OFFLOADS, { 0 }, 8, NET_OK },
    { "checksums alone", NET_OFFLOADS, { 2 }, 8, NET_OK },
    { "an offload for the host", NET_OFFLOADS, { 1 }, 8, NET_ERR },
    { "one that was not negotiated", NET_OFFLOADS, { 0, 0, 0, 0, 0, 0, 0x40 }, 8, NET_ERR },
    { "offloads, cut short", NET_OFFLOADS, { 2 }, 7, NET_ERR },
    { "a class of no name", 0xff00, { 0 }, 1, NET_ERR },
};

/* A command and its answer in other pieces: one to read, a larger one to write. */
static void odd_pieces(void)
{
    static uint8_t out[3] = { 0, 0, 1 }, in[8];
    struct desc d[] = { { (uintptr_t)out, 3, 0, 0 }, { (uintptr_t)in, 8, DESC_WRITE, 0 } };

    for (unsigned cut_off = 0; cut_off < 4; cut_off++) {
        memset(in, NET_NO_ACK, sizeof in);
        d[0].len = 3 - cut_off;
        if (cut_off == 3) /* an answer without a question */
            d[0] = d[1];
        net_offer(card, card->ctl, net_chain(card, card->ctl, 0, 3, d, cut_off == 3 ? 1 : 2));
        net_kick(card, card->ctl);
        net_wait(card, card->ctl);
        check("an ack with room around it", *(volatile uint8_t *)in, cut_off ? NET_ERR : NET_OK);
        check("the room", in[1], NET_NO_ACK);
        check("its length", card->q[card->ctl].len, 1);
    }
}

static void control(void)
{
    bool any = option("ctrl", NULL, 0);
    uint8_t m[6];

    ports_start(&all, 1);
    for (size_t i = 0; i < ARRAY_LEN(asks); i++)
        check(asks[i].what, net_control(card, asks[i].command, asks[i].data, asks[i].len),
              any ? asks[i].ack : NET_ERR);
    if (!any)
        return;
    mac(card, m);
    check("the address that was given", m[5], 9);
    odd_pieces();
    check("it needs no reset", net_reg(card, STATUS), 15);
    ports_start(&all, 1);
    mac(card, m);
    check("the address of the start", memcmp(m, card->mac, 6), 0);
}

/* Two pairs, in use or not. */
static void pairs(void)
{
    static const struct {
        uint16_t n;
        uint8_t ack;
    } rows[] = { { 2, NET_OK },       { 0, NET_ERR },      { 3, NET_ERR },
                 { 0x8000, NET_ERR }, { 0xffff, NET_ERR }, { 1, NET_OK } };

    ports_start(&all, 1);
    check("pairs", card->pairs, 2);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check("so many pairs", net_control(card, NET_VQ_PAIRS, &rows[i].n, 2), rows[i].ack);
}

/* --- limits --- */

/* count=N frames of len=N bytes, 16 at a time, against a limit. */
static void limit(void)
{
    static uint8_t packet[NET_HEADER + 65536];
    unsigned len = (unsigned)option_number("len", 60), out = 0, done = 0;
    unsigned count = (unsigned)option_number("count", 64);
    struct net *n = card;
    const struct desc d = { (uintptr_t)packet, NET_HEADER + len, 0, 0 };

    ports_start(&all, 1);
    ethernet(packet + NET_HEADER, n, TYPE_COUNT);
    for (; done < count; done++, out--) {
        for (; out < 16 && done + out < count; out++)
            net_offer(n, 1, net_chain(n, 1, (done + out) % 16, 1, &d, 1));
        net_kick(n, 1);
        if (net_wait(n, 1) < 0)
            break;
    }
    check("frames that were sent", done, count);
}

/* --- two cards, each of which hears the other by a bridge --- */

static void two(void)
{
    struct frame f;

    ports_start(&all, 2);
    for (unsigned round = 0; round < 10; round++)
        for (unsigned i = 0; i < 2; i++) {
            struct port *to = &all.port[1 - i];

            check("a frame is sent", port_beacon(&all.port[i], TYPE_COUNT), true);
            while (!port_receive(to, &f))
                pause();
            const uint8_t *b = port_slot(to, f.part[0].slot) + NET_HEADER;

            check("its length", f.len, NET_HEADER + 64);
            check("its type", be16(b + 12), TYPE_COUNT);
            check("whom it is from", memcmp(b + 6, all.card[i].mac, 6), 0);
            check("nothing went to its sender", net_take(&all.card[i], 0) < 0, true);
            port_give_back(to, &f);
            net_kick(to->net, to->rx);
        }
    ports_check(&all);
}

/* --- */

static const struct {
    const char *name;
    void (*run)(void);
} ways[] = {
    { "serve", serve },     { "facts", facts }, { "config", configuration },
    { "control", control }, { "pairs", pairs }, { "limit", limit },
    { "two", two },
};

void guest_main(void)
{
    char what[16] = "serve";

    option("what", what, sizeof what);
    if (option("sleep", NULL, 0))
        intr_start();
    for (size_t i = 0; i < ARRAY_LEN(ways); i++)
        if (strcmp(what, ways[i].name) == 0)
            ways[i].run();
    print("%u checked, %u bad\n", checked, bad);
}
