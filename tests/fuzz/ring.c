/* See ring.h. */
#include "tests/fuzz/ring.h"

static uint8_t *ram_of(uint64_t len)
{
    uint8_t *p = malloc(len);

    FUZZ_CHECK(p, "out of memory");
    return p;
}

struct guest *guest_init(unsigned nq, unsigned qmax)
{
    static struct guest *g;
    static uint8_t *low, *high;

    if (!g) {
        g = malloc(sizeof *g);
        low = ram_of(GUEST_LOW);
        high = ram_of(GUEST_HIGH);
        FUZZ_CHECK(g, "out of memory");
        g->roles = true;
    }
    memset(low, 0, GUEST_LOW);
    memset(high, 0, GUEST_HIGH);
    g->mem = (struct gmem){ .n = 2,
                            .size = GUEST_RAM,
                            .region = {
                                { .base = 0, .len = GUEST_LOW, .host = low },
                                { .base = GMEM_HIGH_BASE, .len = GUEST_HIGH, .host = high } } };
    g->nq = nq;
    g->qmax = qmax;
    g->indirect = g->event_idx = g->bent = g->wrapped = false;
    g->next_buffer = g->first_buffer = 0;
    for (unsigned i = 0; i < nq; i++)
        g->q[i].ring = (struct ring){ .mem = &g->mem };
    return g;
}

int64_t guest_offset(uint64_t gpa, uint64_t len)
{
    if (gpa <= GUEST_LOW && len <= GUEST_LOW - gpa)
        return (int64_t)gpa;
    if (gpa < GMEM_HIGH_BASE || gpa - GMEM_HIGH_BASE > GUEST_HIGH ||
        len > GUEST_HIGH - (gpa - GMEM_HIGH_BASE))
        return -1;
    return (int64_t)(gpa - GMEM_HIGH_BASE + GUEST_LOW);
}

uint8_t *guest_ram(struct guest *g, uint64_t gpa, uint64_t len)
{
    int64_t at = guest_offset(gpa, len);

    if (at < 0)
        return NULL;
    return at < (int64_t)GUEST_LOW ? g->mem.region[0].host + at
                                   : g->mem.region[1].host + (at - (int64_t)GUEST_LOW);
}

/* --- the well-behaved driver -------------------------------------------------------------- */

void guest_rings(struct guest *g, uint16_t size)
{
    uint64_t at = 0;

    for (unsigned i = 0; i < g->nq; i++) {
        struct guest_queue *q = &g->q[i];

        at = ring_init(&q->ring, &g->mem, at, size);
        q->next_desc = 0;
        for (unsigned h = 0; h < size; h++)
            q->offer[h].n = q->offer[h].out = 0;
    }
    FUZZ_CHECK(at < GUEST_LOW / 8 * 7, "rings of %u leave no room for buffers", size);
    g->next_buffer = g->first_buffer = at;
    g->bent = g->wrapped = false;
}

uint64_t guest_buffer(struct guest *g, uint32_t len)
{
    uint64_t at = g->next_buffer;

    /* Out of the low part into the high one, and round. */
    if (at < GMEM_HIGH_BASE && at + len > GUEST_LOW)
        at = GMEM_HIGH_BASE;
    if (at >= GMEM_HIGH_BASE && at + len > GMEM_HIGH_BASE + GUEST_HIGH) {
        at = g->first_buffer;
        g->wrapped = true;
    }
    g->next_buffer = (at + len + 15) / 16 * 16;
    return at;
}

static void fill_table(struct guest *g, uint64_t table, unsigned first, const struct piece *piece,
                       unsigned n, unsigned modulo)
{
    for (unsigned i = 0; i < n; i++)
        desc_set(&g->mem, table, (first + i) % modulo,
                 (struct ring_desc){
                     .addr = piece[i].gpa,
                     .len = piece[i].len,
                     .flags = (uint16_t)((piece[i].write ? D_WRITE : 0) | (i + 1 < n ? D_NEXT : 0)),
                     .next = (uint16_t)((first + i + 1) % modulo) });
}

uint16_t guest_chain(struct guest *g, unsigned q, const struct piece *piece, unsigned n,
                     unsigned table)
{
    struct guest_queue *gq = &g->q[q];
    struct ring *r = &gq->ring;
    uint16_t head = gq->next_desc;
    unsigned direct = table < n ? table : n, used = direct + (table < n);

    fill_table(g, r->desc, head, piece, direct, r->size);
    if (direct < n) {
        uint64_t at = guest_buffer(g, 16 * (n - direct));

        fill_table(g, at, 0, piece + direct, n - direct, n - direct);
        ring_desc(r, (head + direct) % r->size,
                  (struct ring_desc){ at, 16 * (n - direct), D_INDIRECT, 0 });
        if (direct) { /* the last direct one leads to it */
            uint8_t *last = guest_ram(g, r->desc + 16 * ((head + direct - 1U) % r->size), 16);

            last[12] |= D_NEXT;
        }
    }
    /* The driver's memory of it: a head that is out already, or a queue's worth of descriptors in
     * use, means that older chains are overwritten. */
    if (gq->offer[head].out || used > r->size || n > r->size ||
        (uint16_t)(r->offered - r->seen) >= r->size)
        g->bent = true;
    for (unsigned i = 1; i < used && i < r->size; i++)
        g->bent |= gq->offer[(head + i) % r->size].out;
    gq->offer[head].n = n;
    memcpy(gq->offer[head].piece, piece, n * sizeof *piece);
    gq->offer[head].out = true;
    gq->next_desc = (uint16_t)((head + used) % r->size);
    ring_put(r, head);
    return head;
}

void guest_chain_any(struct guest *g, unsigned q, struct input *in)
{
    static const uint16_t lens[] = {
        0, 1, 2, 4, 8, 12, 16, 24, 64, 100, 256, 512, 1000, 2048, 4096
    };
    struct piece piece[GUEST_PIECES];
    uint8_t shape = in_u8(in), more = in_u8(in);
    unsigned n = shape >= 0xf8 ? more % GUEST_PIECES + 1 : shape % 8 + 1; /* long: the limits */
    unsigned readable = more % (n + 1), table = n;

    if (!g->q[q].ring.size)
        return;
    if (shape & 0x40)
        readable = q % 2 ? n : 0; /* of one kind */
    if (g->indirect && shape & 0x20)
        table = shape & 0x10 ? 0 : n / 2;
    for (unsigned i = 0; i < n; i++) {
        uint8_t len = shape & 0x80 ? 3 : in_u8(in);

        piece[i].len = len < 0x80 ? len : lens[len % ARRAY_LEN(lens)];
        piece[i].gpa = guest_buffer(g, piece[i].len);
        piece[i].write = i >= readable;
        uint8_t *p = guest_ram(g, piece[i].gpa, piece[i].len);

        for (uint32_t at = 0; !piece[i].write && at < piece[i].len; at++)
            p[at] = (uint8_t)(at * 7 + shape + i);
    }
    guest_chain(g, q, piece, n, table);
}

/* --- the other one ------------------------------------------------------------------------ */

/* An address for len bytes where they do not belong: at the edges of RAM, over the rings, anywhere.
 */
static uint64_t some_address(const struct guest *g, uint64_t len, struct input *in)
{
    const struct ring *r = &g->q[in_below(in, g->nq)].ring;

    switch (in_below(in, 8)) {
    case 0:
        return r->desc + in_u8(in);
    case 1:
        return r->avail + in_u8(in);
    case 2:
        return r->used + in_u8(in);
    case 3: /* the last byte is the last of memory, or one off */
        return GUEST_LOW - len + in_u8(in) % 4 - 1;
    case 4:
        return GMEM_HIGH_BASE + in_u8(in) % 4 - 1;
    case 5:
        return GMEM_HIGH_BASE + GUEST_HIGH - len + in_u8(in) % 4 - 1;
    case 6:
        return in_u16(in);
    default:
        return in_value(in);
    }
}

static void bend_desc(struct guest *g, const struct ring *r, struct input *in)
{
    uint64_t table = r->desc;
    unsigned i = in_below(in, r->size), what = in_below(in, 10);
    struct ring_desc d;

    memcpy(&d, guest_ram(g, table + 16 * (uint64_t)i, 16), 16);
    if (what >= 5 && d.flags & D_INDIRECT && guest_offset(d.addr, 16 * 4) >= 0) {
        table = d.addr; /* inside the table it names */
        i = in_below(in, 4);
        memcpy(&d, guest_ram(g, table + 16 * (uint64_t)i, 16), 16);
    }
    switch (what % 5) {
    case 0:
        d.addr = some_address(g, d.len, in);
        break;
    case 1:
        d.len = (uint32_t)in_value(in);
        break;
    case 2:
        d.flags ^= (uint16_t)(1U << in_below(in, 3));
        break;
    case 3: /* at the end of its table, or just behind, or anywhere */
        what = in_u8(in);
        d.flags |= what & 1 ? D_NEXT : 0;
        d.next = (uint16_t)(what < 0x60   ? r->size + what / 2 % 3 - 1
                            : what < 0xc0 ? what / 2 % 8
                                          : in_value(in));
        break;
    default:
        d.flags = D_NEXT;
        d.next = (uint16_t)in_below(in, r->size);
        break;
    }
    desc_set(&g->mem, table, i, d);
}

static void bend_ring(const struct ring *r, struct input *in)
{
    uint16_t v = (uint16_t)in_value(in);
    uint16_t *idx = ring_avail(r, 1), *p;

    switch (in_below(in, 7)) {
    case 0:
        p = idx;
        break;
    case 1:
        p = idx;
        v = (uint16_t)(*idx + v);
        break;
    case 2:
        p = ring_avail(r, 2U + in_below(in, r->size)); /* a head */
        break;
    case 3:
        p = ring_avail(r, 0);
        break;
    case 4:
        p = ring_used(r, in_below(in, 2)); /* the device's own words: never believed */
        break;
    case 5:
        p = ring_used(r, 2U + in_below(in, 4U * r->size));
        break;
    default:
        p = ring_avail_event(r);
        break;
    }
    __atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static void bend_bytes(struct guest *g, struct input *in)
{
    uint8_t bytes[16];
    uint64_t at = in_u16(in);
    size_t n = 1 + in_below(in, sizeof bytes);
    uint8_t *p = guest_ram(g, at % 2 ? at : GMEM_HIGH_BASE + at, n);

    in_bytes(in, bytes, n);
    if (p)
        memcpy(p, bytes, n);
}

/* Takes back what the device has used, as far as it is ours. */
static void take_used(struct guest *g, struct guest_queue *q)
{
    uint32_t id, len;

    for (unsigned i = 0; i < q->ring.size && ring_take(&q->ring, &id, &len); i++)
        if (id < q->ring.size)
            q->offer[id].out = false;
        else
            FUZZ_CHECK(g->bent || g->wrapped, "used: head %u of %u", id, q->ring.size);
}

void guest_op(struct guest *g, struct input *in)
{
    unsigned op = in_below(in, 16), n = in_below(in, g->nq);
    struct guest_queue *q = &g->q[n];

    if (!q->ring.size)
        return;
    g->bent |= op >= 11;
    switch (op) {
    case 0:
    case 1:
    case 2:
    case 3:
        guest_chain_any(g, n, in);
        if (op < 3)
            ring_publish(&q->ring);
        break;
    case 4:
        ring_publish(&q->ring);
        break;
    case 5:
    case 6:
        take_used(g, q);
        break;
    case 7: /* how it wants to be told: now, later, never */
        *ring_used_event(&q->ring) = (uint16_t)(q->ring.seen + in_u8(in));
        break;
    case 8:
        *ring_avail(&q->ring, 0) = in_u8(in) & 1;
        break;
    case 9: /* as many as there is room for */
        for (unsigned i = 0; i < q->ring.size; i++) {
            struct piece one = { guest_buffer(g, 64), 64, !(n % 2) };

            if ((uint16_t)(q->ring.offered - q->ring.seen) < q->ring.size)
                guest_chain(g, n, &one, 1, 1);
        }
        ring_publish(&q->ring);
        break;
    case 10:
        *ring_used_event(&q->ring) = (uint16_t)in_value(in);
        break;
    case 11:
    case 12:
        bend_desc(g, &q->ring, in);
        break;
    case 13:
        bend_ring(&q->ring, in);
        break;
    case 14:
        ring_offer(&q->ring, (uint16_t)in_below(in, q->ring.size)); /* out already, perhaps */
        break;
    default:
        bend_bytes(g, in);
        break;
    }
}
