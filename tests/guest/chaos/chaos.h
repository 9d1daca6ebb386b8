/* The hostile guest with two vCPUs; see chaos.c. What each kind of device brings to it,
 * and what they share: a generator of numbers, and the memory that is fought over.
 *
 * A new device brings one file with a struct chaos_device and its row in chaos.c's table. One with
 * virtqueues leaves drive and bend to virtio.c: it names its queues and makes its requests.
 */
#ifndef GUEST_CHAOS_H
#define GUEST_CHAOS_H

#include "../lib/virtio.h"

/* --- numbers: xorshift64*, so that a seed can be run again --- */

struct rng {
    uint64_t state;
};

void rng_seed(struct rng *r, uint64_t seed);
uint32_t rng_next(struct rng *r);
unsigned rng_below(struct rng *r, unsigned n); /* n up to 65536 */

static inline bool rng_one_in(struct rng *r, unsigned n)
{
    return rng_below(r, n) == 0;
}

/* --- devices --- */

/* A phase has one victim. All of it runs from the seed, but what the two vCPUs do meanwhile to each
 * other is left to chance. */
struct chaos_device {
    const char *name;
    /* On vCPU 0: a round of a driver's life, more or less by the rules, up to a reset in mid-flight
     * or not. The other vCPU interferes, so no wait may be without a bound. */
    void (*drive)(struct rng *r);
    /* On vCPU 1, meanwhile and over and over: one small piece of sabotage, at most some 30 register
     * accesses long. */
    void (*bend)(struct rng *r);
    /* On vCPU 0, with nobody at this device, others may be under attack: from reset to work done,
     * in memory of its own, not the field's. Whether it works. What it waits for it waits for
     * without a bound: a device that never answers is found by --timeout. */
    bool (*prove)(struct rng *r);
};

extern const struct chaos_device chaos_console, chaos_power, chaos_blk, chaos_net;

/* --- memory ---
 *
 * Everything that drive and bend offer a device lies in three places with canaries around them: the
 * field (descriptor tables, indirect tables, buffers), the rings (avail and used), and the edge,
 * the end of RAM. A device may rightly write to any buffer in the field and over the tables there,
 * and what it then finds there as a descriptor must not lead out of the three: hence
 *
 *   - every 16 bytes of the field hold a descriptor whose address is one of buffer_address(), and
 *     stay so: addresses are stored whole, buffers start at multiples of 16, and what the host
 *     feeds to devices is all 0xff bytes, an address behind all RAM however it is cut;
 *   - used rings, which a device fills with small numbers, lie outside of the field.
 *
 * With `alias` on the command line that is off: descriptors may lie on used rings, at any address
 * of RAM. It is for runs in which no device writes to buffers (the console without input).
 *
 * A disk writes statuses, a name, zeros and what was written to it, a network card what the host
 * sends: over tables that would make descriptors which lead anywhere. So a device of this kind is
 * set apart: it has tables of its own, its buffers lie in the yard, and no table is ever in the
 * yard, no buffer among the tables. That holds at every moment of the fight, since each place for a
 * descriptor has its kind by its address: the last four of sixteen hold addresses of tables and the
 * flag INDIRECT, the others hold neither.
 */
#define FIELD_TABLES   UINT64_C(0x2000000) /* desc tables, a KiB for each of 8 queues */
#define FIELD_INDIRECT (FIELD_TABLES + 0x2000)
#define FIELD_BUFFERS  (FIELD_TABLES + 0x3000)
#define FIELD_START    FIELD_TABLES
#define FIELD_LEN      0x4000              /* addresses lie in it, buffers reach up to ... */
#define FIELD_REACH    0x8000              /* ... so far behind an address */
#define RINGS_START    UINT64_C(0x2100000) /* a KiB for each of 8 queues: avail, and used at 256 */
#define RINGS_LEN      0x2000
#define APART_TABLES   UINT64_C(0x2200000) /* laid out as the field's */
#define APART_INDIRECT (APART_TABLES + 0x2000)
#define APART_LEN      0x3000
#define YARD_START     UINT64_C(0x2300000)
#define YARD_LEN       0x4000 /* and FIELD_REACH behind it */
#define CHAOS_QUEUES   8
#define CHAOS_SIZE     64 /* entries at most */

extern bool alias;
extern uint64_t ram_end;

/* Finds the end of RAM and fills these places and the canaries. False with more than 1 GiB:
 * bent addresses and lengths would be wrong about what is RAM. */
bool memory_init(void);

/* How many words of the canaries changed; of the first address in *where. */
unsigned memory_damage(uint64_t *where);

/* Addresses of the kind named, most of them good; the others lie on devices, in the hole, across or
 * behind the end of RAM, at the top of the address space. Any of their lower halves is as harmless
 * as the whole, since the two vCPUs write halves into one register. */
uint64_t wild_address(struct rng *r);  /* none of them good */
uint64_t field_address(struct rng *r); /* of a descriptor table */
uint64_t avail_address(struct rng *r);
uint64_t used_address(struct rng *r);

/* For descriptors, where addresses are stored whole. */
uint64_t buffer_address(struct rng *r);
uint32_t buffer_length(struct rng *r);

/* Of a device that is set apart: of a table, and of a buffer. yard: always a good one. */
uint64_t apart_address(struct rng *r);
uint64_t apart_buffer(struct rng *r);
uint64_t yard(struct rng *r);

/* Whether a descriptor there leads to a table; the same of a number in a queue's own table. */
static inline bool apart_indirect(uint64_t addr)
{
    return (addr >> 4 & 15) >= 12;
}

/* --- virtqueues (virtio.c) --- */

struct chaos_virtio {
    uint64_t base;     /* of its registers */
    unsigned nq;       /* queues, up to CHAOS_QUEUES */
    uint64_t features; /* offered beyond the transport's */
    unsigned cfg_len;
    bool apart; /* see above */
    /* Makes a request for queue q: 1 to 4 descriptors, linked by the caller, of addresses in the
     * field, or in the yard. How many. */
    unsigned (*request)(struct rng *r, unsigned q, struct desc d[4]);
    /* One that is complete at once, so that it can be offered over and over, as siege() does. */
    unsigned (*quick)(struct rng *r, unsigned q, struct desc d[4]);
};

void virtio_drive(const struct chaos_virtio *v, struct rng *r);
void virtio_bend(const struct chaos_virtio *v, struct rng *r);

#endif
