/* The disk in the hostile guest: requests of all types, mostly right, with headers and ranges in
 * the yard (chaos.h), where the other vCPU rewrites them. It proves itself by a sector that comes
 * back as it was written, and its name. Without a disk there is nothing to do. */
#include "../lib/blk.h"
#include "chaos.h"

static struct blk disk;

static bool here(void)
{
    return disk.base || blk_find(&disk, 0);
}

static uint64_t some_sector(struct rng *r)
{
    if (rng_one_in(r, 16))
        return (uint64_t)rng_next(r) << (rng_next(r) & 31);
    return rng_below(r, (unsigned)disk.sectors + 8);
}

/* Headers and ranges lie close together, so that the other vCPU finds them. */
static uint64_t corner(struct rng *r)
{
    return YARD_START + 16 * rng_below(r, 24);
}

/* A header; the word that is reserved has something in it. */
static struct desc header(struct rng *r, uint32_t type)
{
    uint64_t a = corner(r);

    write64(a, type | (uint64_t)rng_next(r) << 32);
    write64(a + 8, some_sector(r));
    return (struct desc){ a, rng_one_in(r, 64) ? rng_below(r, 32) : sizeof(struct blk_header), 0,
                          0 };
}

static struct desc status(struct rng *r)
{
    return (struct desc){ rng_one_in(r, 16) ? apart_buffer(r) : yard(r),
                          rng_one_in(r, 64) ? rng_below(r, 4) : 1, DESC_WRITE, 0 };
}

static struct desc ranges(struct rng *r)
{
    uint64_t a = corner(r);
    unsigned n = 1 + rng_below(r, 4);

    for (unsigned i = 0; i < n; i++) {
        write64(a + 16 * i, some_sector(r));
        write32(a + 16 * i + 8, rng_one_in(r, 8) ? rng_next(r) : rng_below(r, 32));
        write32(a + 16 * i + 12, rng_one_in(r, 8) ? rng_next(r) : rng_below(r, 2));
    }
    return (struct desc){ a, 16 * n + (rng_one_in(r, 32) ? 1 : 0), 0, 0 };
}

static unsigned blk_request(struct rng *r, unsigned q, struct desc d[4])
{
    static const uint32_t types[] = { BLK_IN,     BLK_IN,      BLK_IN,           BLK_OUT,   BLK_OUT,
                                      BLK_GET_ID, BLK_DISCARD, BLK_WRITE_ZEROES, BLK_FLUSH, 2 };
    uint32_t type = types[rng_below(r, ARRAY_LEN(types))];
    unsigned n = 1;

    (void)q;
    d[0] = header(r, type);
    if (type == BLK_DISCARD || type == BLK_WRITE_ZEROES) {
        d[n++] = ranges(r);
    } else if (type != BLK_FLUSH) {
        for (unsigned k = 1 + rng_below(r, 2); k; k--)
            d[n++] = (struct desc){ rng_one_in(r, 8) ? apart_buffer(r) : yard(r),
                                    rng_one_in(r, 24) ? buffer_length(r)
                                                      : 512 * (1 + rng_below(r, 8)),
                                    type == BLK_OUT ? 0 : DESC_WRITE, 0 };
        if (type == BLK_GET_ID && n == 2)
            d[1].len = 20;
    }
    d[n++] = status(r);
    return n;
}

/* A name is given at once. */
static unsigned blk_quick(struct rng *r, unsigned q, struct desc d[4])
{
    (void)q;
    d[0] = header(r, BLK_GET_ID);
    d[0].len = sizeof(struct blk_header);
    d[1] = (struct desc){ yard(r), 20, DESC_WRITE, 0 };
    d[2] = (struct desc){ yard(r), 1, DESC_WRITE, 0 };
    return 3;
}

/* Of the disk that was found. */
static const struct chaos_virtio *virtio(void)
{
    static struct chaos_virtio v = {
        .nq = 2,
        .features = BLK_F_FLUSH | BLK_F_DISCARD | BLK_F_WRITE_ZEROES | BLK_F_MQ,
        .cfg_len = BLK_CONFIG_LEN,
        .apart = true,
        .request = blk_request,
        .quick = blk_quick,
    };

    v.base = disk.base;
    return &v;
}

/* With rings that are bent it breaks before it has served much. So every second round is about what
 * requests say, and leaves the rings alone. */
static volatile bool gently;

static void blk_drive(struct rng *r)
{
    gently = rng_one_in(r, 2);
    if (here())
        virtio_drive(virtio(), r);
}

/* A header or range that is another from one moment to the next. */
static void bend_words(struct rng *r)
{
    static const uint32_t types[] = { BLK_IN, BLK_OUT, BLK_GET_ID, BLK_DISCARD, BLK_WRITE_ZEROES };
    uint64_t a = corner(r), sector = some_sector(r), far = UINT64_MAX >> rng_below(r, 12);
    uint32_t type = types[rng_below(r, ARRAY_LEN(types))], count = rng_next(r);
    unsigned what = rng_below(r, 3);

    for (unsigned i = 0; i < 8; i++) {
        if (what == 0)
            write32(a, i % 2 ? type : BLK_IN);
        else if (what == 1)
            write64(a + 8, i % 2 ? sector : far);
        else
            write32(a + 8, i % 2 ? 8 : count); /* a range's length, or half a sector's number */
    }
    write64(a + 8, sector);
}

static void blk_bend(struct rng *r)
{
    if (!here())
        pause();
    else if (gently && !rng_one_in(r, 256))
        bend_words(r);
    else
        virtio_bend(virtio(), r);
}

static bool blk_prove(struct rng *r)
{
    static uint64_t out[SECTOR / 8], in[SECTOR / 8];
    static const uint64_t features[] = { 0, F_INDIRECT, F_EVENT_IDX | BLK_F_FLUSH,
                                         F_INDIRECT | F_EVENT_IDX | BLK_F_MQ };
    uint64_t sector;
    char id[21] = "";

    if (!here())
        return true;
    blk_start(&disk, features[rng_below(r, ARRAY_LEN(features))]);
    sector = rng_below(r, (unsigned)disk.sectors);
    for (size_t i = 0; i < ARRAY_LEN(out); i++)
        out[i] = (uint64_t)rng_next(r) << 32 | sector;
    return blk_do(&disk, BLK_OUT, sector, out, SECTOR) == BLK_OK &&
           blk_do(&disk, BLK_FLUSH, 0, NULL, 0) == BLK_OK &&
           blk_do(&disk, BLK_IN, sector, in, SECTOR) == BLK_OK && memcmp(in, out, SECTOR) == 0 &&
           blk_do(&disk, BLK_GET_ID, 0, id, 20) == BLK_OK && strcmp(id, "chaos") == 0;
}

const struct chaos_device chaos_blk = { "disk", blk_drive, blk_bend, blk_prove };
