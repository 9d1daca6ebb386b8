/* What a device must make of a block request, read from virtio 1.2 section 5.2.6 and the decisions
 * below, and apart from virtio/blkreq.c. For the unit tests and the fuzz target.
 *
 * Ours, where the specification leaves it open: no header or no room for a status breaks the
 * device; data in the wrong direction, in no whole sectors or none at all is an I/O error, as are
 * more ranges, or larger ones, than the configuration allows; whatever was offered for data and not
 * filled is zeroed, so that the length given back is that of all of it. A request moves 8 MiB at
 * most; of a refused one with room for more the first 8 MiB are zeroed, and that is its length.
 */
#ifndef MAYFLY_TESTS_BLK_MODEL_H
#define MAYFLY_TESTS_BLK_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { T_IN, T_OUT, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_ZEROES = 13 };
enum { S_OK, S_IOERR, S_UNSUPP };

#define MODEL_RANGES 16
#define MODEL_DATA   (UINT64_C(8) << 20)

/* The disk, as its configuration space has it. */
struct blk_model {
    uint64_t sectors;
    bool read_only;
    uint32_t max_discard, max_zeroes; /* sectors of a range */
};

struct blk_want {
    bool broken;
    unsigned statuses; /* that are right, a bit each; 1 << S_OK alone: the host carries it out */
    uint32_t len;      /* of the used entry */
    uint32_t type;
    uint64_t sector, data; /* IN, OUT, GET_ID: bytes of data */
    unsigned n;
    struct {
        uint64_t sector;
        uint32_t sectors, flags;
    } range[MODEL_RANGES];
};

static inline uint64_t model_le(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;

    while (n--)
        v = v << 8 | p[n];
    return v;
}

/* Whether sectors [first, first + n) are the disk's. */
static inline bool model_inside(const struct blk_model *m, uint64_t first, uint64_t n)
{
    return first <= m->sectors && n <= m->sectors - first;
}

/* The statuses of a table of ranges of n bytes. Of several faults any may be told. */
static inline unsigned model_ranges(const struct blk_model *m, const uint8_t *p, uint64_t n,
                                    struct blk_want *w)
{
    uint32_t flags = w->type == T_ZEROES ? 1 : 0;
    uint32_t most = w->type == T_ZEROES ? m->max_zeroes : m->max_discard;
    unsigned faults = 0;

    if (n == 0 || n % 16 || n / 16 > MODEL_RANGES)
        return 1 << S_IOERR;
    w->n = (unsigned)(n / 16);
    for (unsigned i = 0; i < w->n; i++, p += 16) {
        w->range[i].sector = model_le(p, 8);
        w->range[i].sectors = (uint32_t)model_le(p + 8, 4);
        w->range[i].flags = (uint32_t)model_le(p + 12, 4);
        if (w->range[i].flags & ~flags)
            faults |= 1 << S_UNSUPP;
        if (w->range[i].sectors > most || !model_inside(m, w->range[i].sector, w->range[i].sectors))
            faults |= 1 << S_IOERR;
    }
    return faults ? faults : 1 << S_OK;
}

/* Of the readable part the first bytes are at p, enough for a header and a full table of ranges (or
 * all there are). */
static inline struct blk_want blk_judge(const struct blk_model *m, const uint8_t *p,
                                        uint64_t readable, uint64_t writable)
{
    struct blk_want w = { .broken = readable < 16 || writable < 1 };

    if (w.broken)
        return w;
    uint64_t out = readable - 16, in = writable - 1;

    w.type = (uint32_t)model_le(p, 4);
    w.sector = model_le(p + 8, 8);
    w.len = (uint32_t)(in > MODEL_DATA ? MODEL_DATA : writable);
    w.statuses = 1 << S_IOERR;
    switch (w.type) {
    case T_IN:
    case T_OUT:
        w.data = w.type == T_IN ? in : out;
        if ((w.type == T_IN ? out : in) == 0 && w.data && w.data % 512 == 0 &&
            w.data <= MODEL_DATA && model_inside(m, w.sector, w.data / 512) &&
            !(w.type == T_OUT && m->read_only))
            w.statuses = 1 << S_OK;
        break;
    case T_FLUSH:
        if (!out && !in)
            w.statuses = 1 << S_OK;
        break;
    case T_GET_ID:
        w.data = in;
        if (!out && in == 20)
            w.statuses = 1 << S_OK;
        break;
    case T_DISCARD:
    case T_ZEROES:
        /* Neither is offered by a read-only disk. */
        if (in == 0)
            w.statuses = model_ranges(m, p + 16, out, &w);
        if (m->read_only)
            w.statuses = 1 << S_IOERR | 1 << S_UNSUPP;
        break;
    default:
        w.statuses = 1 << S_UNSUPP;
        break;
    }
    return w;
}

#endif
