/* A virtio device driven and bent at the same time; see chaos.h.
 *
 * The driver's own notion of sizes and indices lies outside of the rings, as the device's does:
 * what is done to the rings confuses neither about where it stands. Registers are shared by both
 * vCPUs: QueueSel, say, may change between two accesses of one of them. That is the game.
 */
#include "chaos.h"

#define STATUS_READY (ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
#define WINDOW       0x1000

/* Of the last setup, whoever made it. */
static volatile struct {
    uint16_t size, next;
} ring[CHAOS_QUEUES] = { [0 ... CHAOS_QUEUES - 1] = { .size = CHAOS_SIZE } };
static volatile bool use_tables;                /* INDIRECT was asked for */
static volatile struct desc *volatile besieged; /* see siege() */

static uint32_t get(const struct chaos_virtio *v, unsigned r)
{
    return read32(v->base + r);
}

static void set(const struct chaos_virtio *v, unsigned r, uint32_t value)
{
    write32(v->base + r, value);
}

static void set_address(const struct chaos_virtio *v, unsigned r, uint64_t value)
{
    set(v, r, (uint32_t)value);
    set(v, r + 4, (uint32_t)(value >> 32));
}

static struct desc *desc_table(const struct chaos_virtio *v, unsigned q)
{
    return at((v->apart ? APART_TABLES : FIELD_TABLES) + UINT64_C(1024) * q);
}

static struct desc *indirect_table(const struct chaos_virtio *v, unsigned i)
{
    return at((v->apart ? APART_INDIRECT : FIELD_INDIRECT) + UINT64_C(1024) * i);
}

static uint64_t some_table(const struct chaos_virtio *v, struct rng *r)
{
    return v->apart ? apart_address(r) : field_address(r);
}

static uint64_t some_buffer(const struct chaos_virtio *v, struct rng *r)
{
    return v->apart ? apart_buffer(r) : buffer_address(r);
}

static uint64_t avail_ring(unsigned q)
{
    return RINGS_START + UINT64_C(1024) * q;
}

static uint64_t used_ring(unsigned q)
{
    return avail_ring(q) + 256;
}

static void write_any(struct rng *r, uint64_t addr, uint64_t value)
{
    switch (rng_below(r, 6)) {
    case 0:
        write8(addr, (uint8_t)value);
        return;
    case 1:
        write16(addr, (uint16_t)value);
        return;
    case 2:
        write64(addr, value);
        return;
    default:
        write32(addr, (uint32_t)value);
        return;
    }
}

static void read_any(struct rng *r, uint64_t addr)
{
    switch (rng_below(r, 6)) {
    case 0:
        read8(addr);
        return;
    case 1:
        read16(addr);
        return;
    case 2:
        read64(addr);
        return;
    default:
        read32(addr);
        return;
    }
}

/* Queues there are, just not, and not at all. */
static uint32_t queue_number(const struct chaos_virtio *v, struct rng *r)
{
    static const uint32_t far[] = { 0x7f, 0xff, 0xffff, 0x10000, 0x10001, 0x80000000, UINT32_MAX };

    if (!rng_one_in(r, 6))
        return rng_below(r, v->nq);
    return rng_one_in(r, 2) ? v->nq : far[rng_below(r, ARRAY_LEN(far))];
}

static uint32_t queue_size(struct rng *r)
{
    static const uint32_t odd[] = { 0, 1, 2, 3, 128, 1024, 0x8000, 0x10010, UINT32_MAX };

    if (rng_one_in(r, 24))
        return odd[rng_below(r, ARRAY_LEN(odd))];
    return UINT32_C(4) << rng_below(r, 5); /* to CHAOS_SIZE */
}

/* --- the driver --- */

/* Among the rings, or nowhere in RAM. */
static bool used_may_lie(uint64_t u)
{
    return u >= ram_end - 4 || (u >= RINGS_START && u <= used_ring(CHAOS_QUEUES - 1));
}

static void setup_queue(const struct chaos_virtio *v, struct rng *r, unsigned q, bool stock)
{
    uint64_t d = (uintptr_t)desc_table(v, q), a = avail_ring(q), u = used_ring(q);
    uint32_t size = stock ? CHAOS_SIZE : queue_size(r);

    if (rng_one_in(r, 24))
        d = some_table(v, r);
    if (rng_one_in(r, 24))
        a = rng_one_in(r, 3) ? d : avail_address(r);
    if (rng_one_in(r, 24))
        u = rng_one_in(r, 3) ? (a & ~UINT64_C(3)) : used_address(r);
    if (!used_may_lie(u) || !used_may_lie((uint32_t)u))
        u = used_ring(q);
    if (alias && !v->apart && rng_one_in(r, 8))
        d = a = u = used_ring(q);
    set(v, QUEUE_SEL, q);
    set(v, QUEUE_NUM, size);
    set_address(v, QUEUE_DESC, d);
    set_address(v, QUEUE_DRIVER, a);
    set_address(v, QUEUE_DEVICE, u);
    set(v, QUEUE_READY, 1);
    /* As one would after a reset; the other vCPU may see to it that they are something else. */
    write32(avail_ring(q), 0);
    write32(used_ring(q), 0);
    ring[q].size = (uint16_t)(size >= 1 && size <= CHAOS_SIZE ? size : 1);
    ring[q].next = 0;
}

static uint64_t some_features(const struct chaos_virtio *v, struct rng *r, bool stock)
{
    uint64_t f = F_VERSION_1 | v->features;

    if (stock || !rng_one_in(r, 6))
        f |= F_INDIRECT;
    if (stock || rng_one_in(r, 2))
        f |= F_EVENT_IDX;
    if (rng_one_in(r, 32))
        f ^= UINT64_C(1) << rng_below(r, 64);
    return f;
}

/* Reset to DRIVER_OK. Now and then a step is left out, or done twice, or half. stock: of sizes and
 * features takes what there is, as Linux does. */
static void setup(const struct chaos_virtio *v, struct rng *r, bool stock)
{
    uint64_t f = some_features(v, r, stock);
    unsigned flaw = rng_below(r, 64); /* the first few are flaws */

    use_tables = f & F_INDIRECT;
    set(v, STATUS, 0);
    for (unsigned i = 0; i < 20 && get(v, STATUS); i++)
        pause();
    if (flaw != 0)
        set(v, STATUS, ACKNOWLEDGE);
    set(v, STATUS, ACKNOWLEDGE | DRIVER);
    for (uint32_t half = 0; half < 2; half++) {
        set(v, DRIVER_FEATURES_SEL, half);
        set(v, DRIVER_FEATURES, (uint32_t)(f >> 32 * half));
        if (flaw == 1) /* half negotiated */
            break;
    }
    if (flaw != 2)
        set(v, STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    for (unsigned q = 0; q < v->nq; q++)
        if (!rng_one_in(r, 24))
            setup_queue(v, r, q, stock);
    if (flaw == 3)
        set(v, STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | FAILED);
    if (flaw != 4)
        set(v, STATUS, STATUS_READY);
}

/* The chain at head becomes the next entry of the avail ring, the index still has to follow. */
static void offer_head(unsigned q, unsigned head)
{
    write16(avail_ring(q) + 4 + UINT64_C(2) * (ring[q].next % ring[q].size), (uint16_t)head);
    ring[q].next++;
}

/* A request at head, linked in the queue's table, or in an indirect one. Its head: those apart have
 * some for each (chaos.h), and get another one of the right kind. */
static unsigned make(const struct chaos_virtio *v, struct rng *r, unsigned q, unsigned head)
{
    unsigned size = ring[q].size;

    if (v->apart && size >= 16)
        head = !apart_indirect(UINT64_C(16) * head) ? head & ~3u
               : use_tables                         ? head | 3
                                                    : head & ~15u;
    bool indirect = v->apart ? apart_indirect(UINT64_C(16) * head) : use_tables && rng_one_in(r, 2);
    struct desc d[4], *table = indirect ? indirect_table(v, rng_below(r, 4)) : desc_table(v, q);
    unsigned first = indirect ? 0 : head, parts = v->request(r, q, d);

    for (unsigned i = 0; i < parts; i++) {
        if (i + 1 < parts)
            d[i].flags |= DESC_NEXT;
        d[i].next = (uint16_t)(indirect ? i + 1 : (first + i + 1) % size);
        table[indirect ? i : (first + i) % size] = d[i];
    }
    if (indirect)
        desc_table(v, q)[head] = (struct desc){ (uintptr_t)table, (uint32_t)(16 * parts),
                                                DESC_INDIRECT, 0 };
    return head;
}

/* As long as a chain may be, each buffer as large as they come. */
static void make_long(const struct chaos_virtio *v, struct rng *r, unsigned q)
{
    unsigned size = ring[q].size;
    struct desc d[4];
    unsigned parts = v->request(r, q, d), step;

    for (unsigned i = 0; i < size; i += step) {
        const struct desc *one = &d[i < parts ? i : parts - 1];

        step = v->apart && apart_indirect(UINT64_C(16) * (i + 1)) ? 5 : 1;
        desc_table(v, q)[i] = (struct desc){
            one->addr, FIELD_REACH, (uint16_t)(one->flags | (i + step < size ? DESC_NEXT : 0)),
            (uint16_t)(i + step)
        };
    }
    offer_head(q, 0);
}

/* A device that takes its time is left some to give back what it has, before heads come round. */
static void make_way(unsigned q)
{
    for (unsigned i = 0; i < 300; i++) {
        unsigned out = (uint16_t)(ring[q].next - read16(used_ring(q) + 2));

        if (4 * out + 16 <= ring[q].size || out == 0)
            return;
        pause();
    }
}

/* Requests, made available, told or not. */
static void offer(const struct chaos_virtio *v, struct rng *r)
{
    unsigned q = rng_below(r, v->nq);

    if (v->apart && !rng_one_in(r, 8))
        make_way(q);

    if (rng_one_in(r, 128)) {
        make_long(v, r, q);
    } else {
        for (unsigned n = 1 + rng_below(r, 4); n; n--) {
            unsigned head = ring[q].next * 4u % ring[q].size;

            offer_head(q, make(v, r, q, head));
        }
    }
    fence();
    write16(avail_ring(q) + 2, ring[q].next);
    if (!rng_one_in(r, 8))
        set(v, QUEUE_NOTIFY, q);
}

/* All that the ring holds, as Linux does where it waits for input. */
static void fill(const struct chaos_virtio *v, struct rng *r, unsigned q)
{
    for (unsigned i = 0; i < ring[q].size; i += v->apart ? 4 : 1)
        offer_head(q, make(v, r, q, i));
    fence();
    write16(avail_ring(q) + 2, ring[q].next);
    set(v, QUEUE_NOTIFY, q);
}

/* The ring full of one chain, again and again, of which the other vCPU meanwhile turns one
 * descriptor good and bad as fast as it can: fetched twice, it is judged good and used bad. */
static void siege(const struct chaos_virtio *v, struct rng *r)
{
    unsigned q = rng_below(r, v->nq);
    bool indirect = use_tables && rng_one_in(r, 3);
    struct desc d[4], *table = indirect ? indirect_table(v, 0) : desc_table(v, q);
    unsigned head = indirect && v->apart ? 12 : 0;

    setup(v, r, true);
    unsigned parts = v->quick(r, q, d);

    for (unsigned i = 0; i < parts; i++)
        table[i] = (struct desc){ d[i].addr, d[i].len,
                                  (uint16_t)(d[i].flags | (i + 1 < parts ? DESC_NEXT : 0)),
                                  (uint16_t)(i + 1) };
    if (indirect)
        desc_table(v, q)[head] = (struct desc){ (uintptr_t)table, 16 * parts, DESC_INDIRECT, 0 };
    for (unsigned i = 0; i < CHAOS_SIZE; i++)
        write16(avail_ring(q) + 4 + UINT64_C(2) * i, (uint16_t)head);
    fence();
    besieged = &table[rng_below(r, parts)];
    for (unsigned i = 0; i < 4 && !(get(v, STATUS) & NEEDS_RESET); i++) {
        unsigned seen = interrupts;

        ring[q].next += CHAOS_SIZE;
        write16(avail_ring(q) + 2, ring[q].next);
        set(v, QUEUE_NOTIFY, q);
        /* Asleep: the device's thread and the other vCPU's need a processor of the host's each. */
        if (read16(used_ring(q) + 2) != ring[q].next)
            wait_interrupt_for(seen, 1000);
    }
    besieged = NULL;
}

/* What an interrupt handler does. */
static void look(const struct chaos_virtio *v, struct rng *r)
{
    unsigned q = rng_below(r, v->nq);

    set(v, INTERRUPT_ACK, get(v, INTERRUPT_STATUS));
    /* used_event: the next one interrupts. */
    write16(avail_ring(q) + 4 + UINT64_C(2) * ring[q].size, read16(used_ring(q) + 2));
    __asm__ volatile("sti; nop; cli" : : : "memory");
}

void virtio_drive(const struct chaos_virtio *v, struct rng *r)
{
    bool stock = rng_one_in(r, 6);

    if (rng_one_in(r, 4)) {
        siege(v, r);
        return;
    }
    setup(v, r, stock);
    if (stock)
        fill(v, r, rng_below(r, v->nq));
    for (unsigned n = 2 + rng_below(r, 10); n; n--) {
        offer(v, r);
        if (rng_one_in(r, 2))
            look(v, r);
        if (rng_one_in(r, 12))
            write_any(r, v->base + QUEUE_NOTIFY, queue_number(v, r));
    }
    if (rng_one_in(r, 2)) { /* in mid-flight */
        for (unsigned q = 0; q < v->nq; q++)
            set(v, QUEUE_NOTIFY, q);
        set(v, STATUS, 0);
    }
}

/* --- the other one --- */

/* Bad for a moment: the device has to come along just then, once for every moment, since it breaks
 * when it sees the bad one first. */
static void bend_besieged(volatile struct desc *d, struct rng *r)
{
    uint64_t good = d->addr, bad_addr = wild_address(r);
    uint32_t len = d->len;
    unsigned field = rng_below(r, 4), pauses = rng_below(r, 12);

    for (unsigned i = 0; i < 50 && besieged == d; i++) {
        for (unsigned n = pauses; n; n--)
            pause();
        if (field == 0) {
            d->len = UINT32_MAX;
            d->len = len;
        } else {
            d->addr = bad_addr;
            d->addr = good;
        }
    }
}

/* A field of a descriptor. Many times in a row back and forth, so that one that is fetched twice is
 * judged in one state and used in the other. */
static void bend_desc(const struct chaos_virtio *v, struct rng *r)
{
    struct desc *table = rng_one_in(r, 3) ? indirect_table(v, rng_below(r, 4))
                                          : desc_table(v, rng_below(r, v->nq));
    volatile struct desc *d = &table[rng_below(r, rng_one_in(r, 4) ? CHAOS_SIZE : 8)];
    unsigned times = rng_one_in(r, 4) ? 8 : 1;
    bool leads = v->apart && apart_indirect((uintptr_t)d); /* to a table, whatever comes */
    uint16_t flags = (uint16_t)rng_below(r, v->apart ? 4 : 8);
    const struct desc bent[2] = {
        { leads ? apart_address(r) : some_buffer(v, r), buffer_length(r),
          (uint16_t)(flags | (leads ? DESC_INDIRECT : 0)), (uint16_t)rng_below(r, CHAOS_SIZE + 1) },
        { times == 1 ? d->addr
          : leads    ? apart_address(r)
                     : some_buffer(v, r),
          d->len, d->flags, d->next },
    };
    unsigned field = rng_below(r, v->apart && !leads ? 5 : 6);

    for (unsigned i = 0; i < times; i++) {
        const struct desc *b = &bent[i % 2];

        if (field == 0 || field == 4)
            d->addr = b->addr;
        if (field == 1 || field == 4)
            d->len = b->len;
        if (field == 2 || field == 4)
            d->flags = b->flags;
        if (field == 3 || field == 4)
            d->next = b->next;
        if (field == 5) { /* a table somewhere */
            d->addr = b->addr;
            d->flags = DESC_INDIRECT;
            d->len = 16 * (1 + b->next);
        }
    }
}

static uint16_t some_index(struct rng *r, uint16_t now)
{
    switch (rng_below(r, 4)) {
    case 0:
        return (uint16_t)rng_next(r);
    case 1:
        return (uint16_t)(now - 1);
    default:
        return (uint16_t)(now + rng_below(r, 6));
    }
}

static void bend_rings(const struct chaos_virtio *v, struct rng *r)
{
    unsigned q = rng_below(r, v->nq);
    uint64_t a = avail_ring(q), u = used_ring(q);

    switch (rng_below(r, 6)) {
    case 0: /* avail.idx */
        write16(a + 2, some_index(r, read16(a + 2)));
        break;
    case 1: /* heads */
        write16(a + 4 + 2 * rng_below(r, CHAOS_SIZE),
                (uint16_t)(rng_one_in(r, 6) ? rng_next(r) : rng_below(r, CHAOS_SIZE)));
        break;
    case 2: /* avail.flags, used_event of the usual sizes */
        write16(a, (uint16_t)rng_next(r));
        write16(a + 4 + 2 * ring[q].size, some_index(r, read16(u + 2)));
        break;
    case 3: /* used.flags, used.idx */
        write32(u, rng_next(r));
        break;
    case 4: /* used entries */
        write64(u + 4 + 8 * rng_below(r, CHAOS_SIZE), (uint64_t)rng_next(r) << 32 | rng_next(r));
        break;
    default: /* avail_event */
        write16(u + 4 + 8 * ring[q].size, some_index(r, read16(a + 2)));
        break;
    }
}

/* Buffers hold addresses, as descriptors do: they may be read as such. Those in the yard may not,
 * and hold small numbers, as headers do. */
static void bend_buffer(const struct chaos_virtio *v, struct rng *r)
{
    for (unsigned i = 0; v->apart && i < 4; i++) {
        uint64_t a = yard(r);

        write32(a, rng_below(r, 16));
        write64(a + 8, rng_one_in(r, 8) ? rng_next(r) : rng_below(r, 4096));
    }
    for (unsigned i = 0; !v->apart && i < 4; i++) {
        uint64_t a = FIELD_BUFFERS + 16 * rng_below(r, (FIELD_LEN - 0x3000) / 16);

        write64(a, buffer_address(r));
        write32(a + 8, buffer_length(r));
        write32(a + 12, rng_next(r));
    }
}

static void bend_queue_registers(const struct chaos_virtio *v, struct rng *r)
{
    uint64_t address[] = { some_table(v, r), avail_address(r), used_address(r) };
    unsigned which = rng_below(r, 3), half = rng_below(r, 2);

    set(v, QUEUE_SEL, queue_number(v, r));
    switch (rng_below(r, 4)) {
    case 0:
        set(v, QUEUE_NUM, queue_size(r));
        break;
    case 1:
        set(v, QUEUE_READY, rng_below(r, 3));
        break;
    default:
        set(v, QUEUE_DESC + 16 * which + 4 * half, (uint32_t)(address[which] >> 32 * half));
        break;
    }
}

static void bend_configuration(const struct chaos_virtio *v, struct rng *r)
{
    unsigned off = rng_below(r, rng_one_in(r, 3) ? WINDOW - 8 - CONFIG : v->cfg_len + 8);

    if (rng_one_in(r, 3))
        write_any(r, v->base + CONFIG + off, (uint64_t)rng_next(r) << 32 | rng_next(r));
    else
        read_any(r, v->base + CONFIG + off);
}

static void bend_status(const struct chaos_virtio *v, struct rng *r)
{
    static const uint32_t odd[] = { 1, 2, 3, 4, 7, 8, 11, 15, 64, 79, 128, 256, 271, UINT32_MAX };

    if (rng_one_in(r, 6))
        set(v, STATUS, 0);
    else if (rng_one_in(r, 6)) /* a whole life of its own */
        setup(v, r, rng_one_in(r, 2));
    else
        set(v, STATUS, odd[rng_below(r, ARRAY_LEN(odd))]);
}

void virtio_bend(const struct chaos_virtio *v, struct rng *r)
{
    volatile struct desc *d = besieged;

    if (d) {
        bend_besieged(d, r);
        return;
    }
    switch (rng_below(r, 40)) {
    case 0:
        bend_status(v, r);
        break;
    case 1:
        bend_queue_registers(v, r);
        break;
    case 2:
        bend_configuration(v, r);
        break;
    case 3:
        write_any(r, v->base + QUEUE_NOTIFY, queue_number(v, r));
        break;
    case 4:
        set(v, QUEUE_NOTIFY, rng_below(r, v->nq));
        break;
    case 5:
        set(v, rng_one_in(r, 2) ? DEVICE_FEATURES_SEL : DRIVER_FEATURES_SEL, rng_below(r, 4));
        set(v, DRIVER_FEATURES, rng_next(r));
        break;
    case 6:
        set(v, INTERRUPT_ACK, rng_next(r));
        break;
    case 7:
        read_any(r, v->base + rng_below(r, CONFIG));
        break;
    case 8:
        bend_buffer(v, r);
        break;
    default:
        if (rng_one_in(r, 2))
            bend_rings(v, r);
        else
            bend_desc(v, r);
        break;
    }
}
