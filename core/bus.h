/* The address bus: which handler answers an access of the guest, by address.
 *
 * One bus for memory-mapped addresses, one for I/O ports. Built before the vCPUs run and constant
 * from then on, so that lookups need no lock. Handlers run on the vCPU's thread, several at once.
 */
#ifndef MAYFLY_CORE_BUS_H
#define MAYFLY_CORE_BUS_H

#include <stdint.h>

#include "core/err.h"

#define BUS_MAX 32

/* off: from the start of the range. len: 1, 2, 4 or 8, and the access lies inside the range. */
struct bus_ops {
    void (*read)(void *ctx, uint64_t off, void *data, unsigned len);
    void (*write)(void *ctx, uint64_t off, const void *data, unsigned len);
};

struct bus_range {
    uint64_t base, len;
    const struct bus_ops *ops;
    void *ctx;
};

struct bus {
    struct bus_range range[BUS_MAX]; /* ascending, disjoint */
    unsigned n;
};

/* 0, -EEXIST when it overlaps another, -ENOSPC when the bus is full. Before the vCPUs run. */
int bus_add(struct bus *b, uint64_t base, uint64_t len, const struct bus_ops *ops, void *ctx);

/* Serve an access. Nobody there, or half out of a range: reads give all ones as on a PC, writes
 * vanish. Any thread. */
void bus_read(const struct bus *b, uint64_t addr, void *data, unsigned len);
void bus_write(const struct bus *b, uint64_t addr, const void *data, unsigned len);

#endif
