/* The parser of block requests; see blkreq.h.
 *
 *   readable  | type, reserved, sector | data of OUT, segments of DISCARD and WRITE_ZEROES |
 *   writable  | data of IN and GET_ID | status |
 *
 * The driver may cut both parts into buffers as it likes (2.7.4): the cursor hides that.
 */
#include "virtio/blkreq.h"

#include <errno.h>

#include "core/num.h"

struct blk_header { /* 5.2.6 */
    uint32_t type, reserved;
    uint64_t sector;
};

struct blk_range { /* of a discard or write-zeroes request */
    uint64_t sector;
    uint32_t sectors, flags;
};

#define RANGE_UNMAP 1u

/* count bytes from a sector on, if whole sectors of the disk. */
static bool blk_range_ok(uint64_t size, uint64_t sector, uint64_t count)
{
    return count % BLK_SECTOR == 0 && sector <= size / BLK_SECTOR &&
           range_within(sector * BLK_SECTOR, count, size);
}

static int parse_data(uint64_t size, uint64_t sector, uint64_t len, struct blk_ask *a)
{
    if (len == 0 || len > BLK_DATA_MAX || !blk_range_ok(size, sector, len))
        return BLK_S_IOERR;
    a->off = sector * BLK_SECTOR;
    a->len = len;
    return BLK_S_OK;
}

static int parse_segments(uint64_t size, struct chain *c, struct blk_ask *a)
{
    bool discard = a->type == BLK_T_DISCARD;
    uint32_t most = discard ? BLK_DISCARD_MAX : BLK_ZEROES_MAX;
    size_t len = cursor_left(&c->r);
    struct blk_range range;

    if (len == 0 || len % sizeof range || len / sizeof range > BLK_SEGMENTS_MAX)
        return BLK_S_IOERR;
    a->n_segments = (unsigned)(len / sizeof range);
    for (unsigned i = 0; i < a->n_segments; i++) {
        cursor_get(&c->r, &range, sizeof range);
        /* A discard unmaps by itself: there the flag is reserved, too (5.2.6.2). */
        if (range.flags & ~(discard ? 0 : RANGE_UNMAP))
            return BLK_S_UNSUPP;
        uint64_t bytes = (uint64_t)range.sectors * BLK_SECTOR;

        if (range.sectors > most || !blk_range_ok(size, range.sector, bytes))
            return BLK_S_IOERR;
        a->segment[i] = (struct blk_segment){ .off = range.sector * BLK_SECTOR,
                                              .len = bytes,
                                              .unmap = range.flags & RANGE_UNMAP };
        a->len += bytes;
    }
    return BLK_S_OK;
}

int blk_parse(uint64_t size, bool read_only, struct chain *c, struct blk_ask *a, const char **why)
{
    struct blk_header h;

    if (cursor_get(&c->r, &h, sizeof h)) {
        *why = "a request is too short for its header";
        return -EPROTO;
    }
    if (cursor_left(&c->w) == 0) {
        *why = "a request has no room for its status";
        return -EPROTO;
    }
    size_t out = cursor_left(&c->r), in = cursor_left(&c->w) - 1;
    bool changes = false;

    *a = (struct blk_ask){ .type = (enum blk_type)h.type };
    switch (a->type) {
    case BLK_T_IN:
        return out ? BLK_S_IOERR : parse_data(size, h.sector, in, a);
    case BLK_T_FLUSH:
        return out || in ? BLK_S_IOERR : BLK_S_OK;
    case BLK_T_GET_ID:
        return out || in != BLK_ID_LEN ? BLK_S_IOERR : BLK_S_OK;
    case BLK_T_OUT:
    case BLK_T_DISCARD:
    case BLK_T_WRITE_ZEROES:
        changes = true;
        break;
    }
    if (!changes)
        return BLK_S_UNSUPP;
    if (in || read_only)
        return BLK_S_IOERR;
    return a->type == BLK_T_OUT ? parse_data(size, h.sector, out, a) : parse_segments(size, c, a);
}
