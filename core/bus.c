/* See bus.h: a sorted array and a binary search. */
#include "core/bus.h"

#include <errno.h>
#include <string.h>

#include "core/num.h"

int bus_add(struct bus *b, uint64_t base, uint64_t len, const struct bus_ops *ops, void *ctx)
{
    unsigned i = b->n;

    if (b->n == BUS_MAX)
        return -ENOSPC;
    for (unsigned j = 0; j < b->n; j++)
        if (ranges_overlap(base, len, b->range[j].base, b->range[j].len))
            return -EEXIST;
    for (; i > 0 && b->range[i - 1].base > base; i--)
        b->range[i] = b->range[i - 1];
    b->range[i] = (struct bus_range){ .base = base, .len = len, .ops = ops, .ctx = ctx };
    b->n++;
    return 0;
}

static const struct bus_range *bus_find(const struct bus *b, uint64_t addr, unsigned len)
{
    unsigned lo = 0, hi = b->n;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        const struct bus_range *r = &b->range[mid];

        if (addr < r->base)
            hi = mid;
        else if (addr - r->base >= r->len)
            lo = mid + 1;
        else
            return range_within(addr - r->base, len, r->len) ? r : NULL;
    }
    return NULL;
}

void bus_read(const struct bus *b, uint64_t addr, void *data, unsigned len)
{
    const struct bus_range *r = bus_find(b, addr, len);

    if (r)
        r->ops->read(r->ctx, addr - r->base, data, len);
    else
        memset(data, 0xff, len);
}

void bus_write(const struct bus *b, uint64_t addr, const void *data, unsigned len)
{
    const struct bus_range *r = bus_find(b, addr, len);

    if (r)
        r->ops->write(r->ctx, addr - r->base, data, len);
}
