/* A driver that means harm: rings in guest memory that are mostly right and then bent, a second
 * reading of what is in them, and a watch over every byte that a device must not touch. For all
 * targets behind a virtqueue.
 *
 *   guest_init                 memory: two parts with a hole, as a guest above 3 GiB has
 *   guest_ring, guest_chain    a queue, a chain in it: the well-behaved part
 *   guest_op                   one operation read from the input, the well-behaved and the others
 *   guest_view                 what a chain says, read from the specification (virtio 1.2, 2.7)
 *                              and apart from virtio/queue.c; targets compare
 *   guest_enter, guest_leave   around everything that lets the device work: between the two only
 *                              what was declared with guest_may may change. All memory is a canary.
 *
 * The memory is the test's own, two allocations with ASan's red zones around them. One thread,
 * except where a target says otherwise.
 */
#ifndef MAYFLY_TESTS_FUZZ_RING_H
#define MAYFLY_TESTS_FUZZ_RING_H

#include "tests/fuzz/fuzz.h"
#include "tests/unit/driver.h"

#define GUEST_LOW    (32 * KIB)
#define GUEST_HIGH   (8 * KIB) /* from GMEM_HIGH_BASE */
#define GUEST_RAM    (GUEST_LOW + GUEST_HIGH)
#define GUEST_QUEUES 4
#define GUEST_PIECES 64 /* buffers of a chain that guest_chain makes */

/* A buffer of a chain. */
struct piece {
    uint64_t gpa;
    uint32_t len;
    bool write;
};

/* Roles of a byte between guest_enter and guest_leave. */
enum {
    ROLE_MAY = 1,
    /* it may change */ ROLE_STEERS = 2 /* the device reads it to find its way */
};

/* What the driver offers, of one queue. */
struct guest_queue {
    struct ring ring;   /* ring.size 0: not set up */
    uint16_t next_desc; /* where the next chain's descriptors go */
    /* The chains offered, by head. */
    struct offer {
        unsigned n;
        struct piece piece[GUEST_PIECES];
        bool out; /* offered and not taken back */
    } offer[VIRTQ_SIZE_MAX];
};

struct guest {
    struct gmem mem;
    struct guest_queue q[GUEST_QUEUES];
    unsigned nq, qmax;
    bool indirect, event_idx; /* of the driver at hand */
    uint64_t first_buffer, next_buffer;
    /* Since the rings were made: bent, the guest broke a rule or might have; wrapped, buffers share
     * bytes. What the device makes of its requests is then nobody's business. */
    bool bent, wrapped;
    /* Memory as it was at guest_enter, and for each byte what it is to the device: */
    bool roles; /* any */
    uint8_t before[GUEST_RAM], role[GUEST_RAM];
};

/* Zeroed memory and no rings, of nq queues of at most qmax entries. The same storage in every run.
 */
struct guest *guest_init(unsigned nq, unsigned qmax);

/* Bytes of RAM at gpa as an offset into guest.before, or -1 when [gpa, gpa + len) is not RAM. */
int64_t guest_offset(uint64_t gpa, uint64_t len);
/* The same in memory itself; NULL. */
uint8_t *guest_ram(struct guest *g, uint64_t gpa, uint64_t len);

/* Lays out fresh rings for all queues, each with size entries, and forgets what was bent. */
void guest_rings(struct guest *g, uint16_t size);

/* The next len bytes of the area for buffers (at most half of it). */
uint64_t guest_buffer(struct guest *g, uint32_t len);

/* Makes a chain of n buffers and puts it into the avail ring, unpublished. table: by an indirect
 * table, from its buffer number `table` on (n or more: none). Its head. Buffers without room in
 * the descriptor table overwrite older ones, as a driver would that lost count. */
uint16_t guest_chain(struct guest *g, unsigned q, const struct piece *piece, unsigned n,
                     unsigned table);

/* A well-formed chain of the input's making: readable buffers with some bytes in them, then
 * writable ones. */
void guest_chain_any(struct guest *g, unsigned q, struct input *in);

/* One operation of the driver's. */
void guest_op(struct guest *g, struct input *in);

/* --- the second reading --- */

enum verdict { CHAIN_NONE, CHAIN_GOOD, CHAIN_BROKEN };

struct view {
    uint16_t head;
    unsigned n;
    struct piece piece[VIRTQ_SIZE_MAX];
    uint64_t readable, writable; /* bytes */
    struct piece table;          /* the indirect one; len 0: none */
};

/* Reads `len` bytes for the second reading. It may change them afterwards, as a second vCPU
 * would: a device that reads twice sees something else. */
typedef bool guest_reader(void *arg, uint64_t gpa, void *buf, size_t len);

/* The chain that the avail entry `at` names. taken: heads in flight, a bit each. */
enum verdict guest_view(const struct virtq_setup *s, uint16_t at, const uint64_t *taken,
                        guest_reader *read, void *arg, struct view *v);

/* A reader of guest.before. */
bool guest_read_before(void *arg, uint64_t gpa, void *buf, size_t len);

/* --- canaries --- */

void guest_enter(struct guest *g);
void guest_may(struct guest *g, uint64_t gpa, uint64_t len);
/* The used ring, and what is writable in the chains that the avail ring offers from entry `from`
 * on: all that serving this queue can change. */
void guest_may_serve(struct guest *g, const struct virtq_setup *s, uint16_t from);
/* Whether a byte there may change. */
bool guest_changes(const struct guest *g, uint64_t gpa, uint64_t len);
/* Checks. Where a byte that may change also steers (a buffer over a ring, say) nobody can tell what
 * the device does next, and nothing is checked. Whether it was. */
bool guest_leave(struct guest *g);

#endif
