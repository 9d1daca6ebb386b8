/* The numbers and the memory of the hostile guest; see chaos.h. */
#include "chaos.h"

#define PAGE         0x1000
#define RINGS_BEHIND (RINGS_START + RINGS_LEN)
#define EDGE_LEN     PAGE /* of the end of RAM, behind a page of canaries */
#define CANARY       UINT64_C(0x5ca1ab1e0ddba11)
#define HOLE         UINT64_C(0xc0000000)
#define RAM_MAX      UINT64_C(0x40000000) /* lengths of 2 GiB and more lead out of it from anywhere */
#define E820_RAM     1
#define ZERO_E820    0x2d0 /* boot.rst: e820_table, its length at 0x1e8 */

bool alias;
uint64_t ram_end;

void rng_seed(struct rng *r, uint64_t seed)
{
    r->state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    for (unsigned i = 0; i < 8; i++)
        rng_next(r);
}

uint32_t rng_next(struct rng *r)
{
    r->state ^= r->state >> 12;
    r->state ^= r->state << 25;
    r->state ^= r->state >> 27;
    return (uint32_t)(r->state * UINT64_C(0x2545f4914f6cdd1d) >> 32);
}

unsigned rng_below(struct rng *r, unsigned n)
{
    return (rng_next(r) >> 16) * n >> 16;
}

/* --- addresses --- */

uint64_t wild_address(struct rng *r)
{
    switch (rng_below(r, 10)) {
    case 0: /* registers, across a page of them */
        return CONSOLE_BASE + 16 * rng_below(r, 257);
    case 1:
        return APIC_BASE;
    case 2:
        return UINT64_C(0xfec00000); /* the IOAPIC */
    case 3:
        return HOLE + 16 * rng_below(r, 65536);
    case 4: /* behind RAM */
        return ram_end;
    case 5: /* below 4 GiB, and wraps if 32 bits are all that is looked at */
        return UINT64_C(0xfffffff0);
    case 6: /* wraps with any length, with most, or as a ring */
        return UINT64_MAX - 15 - 16 * (uint64_t)rng_below(r, rng_one_in(r, 2) ? 2 : 64);
    case 7:
        return (uint64_t)rng_next(r) << 32 | UINT64_C(0xfffffff0);
    case 8: /* the sign bit */
        return UINT64_C(1) << 63 | HOLE;
    default: /* RAM, if the upper half is not looked at */
        return (uint64_t)(1 + rng_below(r, 65535)) << 32 | FIELD_START;
    }
}

uint64_t field_address(struct rng *r)
{
    unsigned kind = rng_below(r, 32);

    if (kind == 0)
        return wild_address(r);
    if (kind == 1)
        return ram_end - EDGE_LEN + 16 * rng_below(r, EDGE_LEN / 16);
    if (alias && kind < 6) {
        if (kind == 5)
            return rng_next(r);
        return RINGS_START + (rng_below(r, RINGS_LEN) & (rng_one_in(r, 4) ? ~0u : ~15u));
    }
    return FIELD_START + 16 * rng_below(r, FIELD_LEN / 16);
}

uint64_t buffer_address(struct rng *r)
{
    /* A canary, if the upper half is not looked at. */
    if (rng_one_in(r, 48))
        return (uint64_t)(1 + rng_below(r, 65535)) << 32 | RINGS_BEHIND;
    return field_address(r);
}

/* --- apart --- */

/* None of the field's addresses, nor halves of them, nor the edge. */
static uint64_t apart_wild(struct rng *r)
{
    uint64_t a = wild_address(r);

    return (uint32_t)a == FIELD_START ? a - FIELD_START + APART_TABLES : a;
}

uint64_t apart_address(struct rng *r)
{
    if (rng_one_in(r, 24))
        return apart_wild(r);
    return APART_TABLES + 16 * rng_below(r, APART_LEN / 16);
}

uint64_t yard(struct rng *r)
{
    return YARD_START + 16 * rng_below(r, YARD_LEN / 16);
}

uint64_t apart_buffer(struct rng *r)
{
    /* A canary, if the upper half is not looked at. */
    if (rng_one_in(r, 48))
        return (uint64_t)(1 + rng_below(r, 65535)) << 32 | RINGS_BEHIND;
    return rng_one_in(r, 32) ? apart_wild(r) : yard(r);
}

/* Across the end of RAM whatever the size. */
static uint64_t half_out(void)
{
    return ram_end - 4;
}

uint64_t avail_address(struct rng *r)
{
    switch (rng_below(r, 16)) {
    case 0:
        return half_out();
    case 1:
        return field_address(r) + (alias ? rng_below(r, 16) : 0);
    default:
        return RINGS_START + 2 * rng_below(r, (RINGS_LEN - PAGE / 2) / 2) + rng_one_in(r, 16);
    }
}

uint64_t used_address(struct rng *r)
{
    switch (rng_below(r, 16)) {
    case 0:
        return half_out();
    case 1: /* without its lower half, still no place in RAM, or one among the rings */
        return rng_one_in(r, 2) ? ram_end : (uint64_t)(1 + rng_below(r, 65535)) << 32 | RINGS_START;
    default:
        return RINGS_START + 2 * rng_below(r, (RINGS_LEN - PAGE / 2) / 2);
    }
}

uint32_t buffer_length(struct rng *r)
{
    switch (rng_below(r, 24)) {
    case 0:
        return 0;
    case 1:
        return UINT32_MAX;
    case 2: /* two of them wrap to nothing */
        return UINT32_C(0x80000000);
    case 3:
        return UINT32_C(0xfffffff0);
    case 4:
    case 5:
        return rng_below(r, FIELD_REACH);
    case 6:
        return FIELD_REACH;
    case 7: /* lengths of tables */
        return 16 * rng_below(r, CHAOS_SIZE + 2);
    default:
        return rng_below(r, 80);
    }
}

/* --- canaries --- */

/* Pages right before and right behind each of the places. */
static uint64_t canary_page(unsigned i)
{
    const uint64_t pages[] = {
        FIELD_START - PAGE,
        FIELD_START + FIELD_LEN + FIELD_REACH - 16, /* the last address, the longest buffer */
        RINGS_START - PAGE,
        RINGS_BEHIND,
        ram_end - EDGE_LEN - PAGE,
        APART_TABLES - PAGE,
        APART_TABLES + APART_LEN + PAGE, /* behind the last table */
        YARD_START - PAGE,
        YARD_START + YARD_LEN + FIELD_REACH - 16,
    };

    return i < ARRAY_LEN(pages) ? pages[i] : 0;
}

static uint64_t ram_find_end(void)
{
    uint64_t end = 0;

    for (unsigned i = 0; i < zero_page[0x1e8]; i++) {
        uint64_t e = (uintptr_t)zero_page + ZERO_E820 + UINT64_C(20) * i;

        if (read32(e + 16) == E820_RAM && read64(e) + read64(e + 8) > end)
            end = read64(e) + read64(e + 8);
    }
    return end;
}

static void fill(struct rng *r, uint64_t start, uint64_t len)
{
    for (uint64_t a = start; a < start + len; a += 16) {
        write64(a, FIELD_START + (rng_next(r) & (FIELD_LEN - 16)));
        write64(a + 8, rng_next(r) & 0xff);
    }
}

static void fill_apart(struct rng *r, uint64_t start, uint64_t len)
{
    for (uint64_t a = start; a < start + len; a += 16) {
        write64(a, apart_indirect(a) ? apart_address(r) : yard(r));
        write64(a + 8,
                (rng_next(r) & 0xff) | (apart_indirect(a) ? (uint64_t)DESC_INDIRECT << 32 : 0));
    }
}

bool memory_init(void)
{
    struct rng r;

    ram_end = ram_find_end();
    if (ram_end > RAM_MAX)
        return false;
    rng_seed(&r, 1);
    /* Tables reach a KiB behind the last address. */
    fill(&r, FIELD_START, FIELD_LEN + 16 * CHAOS_SIZE);
    fill(&r, ram_end - EDGE_LEN, EDGE_LEN);
    /* The largest queue of those apart is twice as long. */
    fill_apart(&r, APART_TABLES, APART_LEN + 32 * CHAOS_SIZE);
    for (unsigned i = 0; canary_page(i); i++)
        for (uint64_t a = canary_page(i); a < canary_page(i) + PAGE; a += 8)
            write64(a, CANARY ^ a);
    return true;
}

unsigned memory_damage(uint64_t *where)
{
    unsigned n = 0;

    for (unsigned i = 0; canary_page(i); i++)
        for (uint64_t a = canary_page(i); a < canary_page(i) + PAGE; a += 8)
            if (read64(a) != (CANARY ^ a) && n++ == 0)
                *where = a;
    return n;
}
