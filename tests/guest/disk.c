/* A disk, driven: what=NAME says how. Its sectors hold text: every 16 bytes are "SSSSSSSS
 * TTTTTT\n", the sector's number and a tag, both in hex; as the host made it the tag is 0. What the
 * guest writes follows from its words, so the host knows what must be in the image afterwards.
 *
 *   event, indirect, flush, mq   negotiate these, too
 *   sleep                        wait for interrupts, else poll
 *   strict                       buffers at odd addresses may be refused, not damaged (O_DIRECT)
 *
 * Judges itself. */
#include "lib/blk.h"

#define BATCH 64 /* sectors of the buffer */

static struct blk disk;
static uint8_t buf[BATCH * SECTOR] __attribute__((aligned(4096)));
static uint8_t spare[BATCH * SECTOR + 64] __attribute__((aligned(4096)));
static uint8_t each[BLK_SIZE][SECTOR] __attribute__((aligned(4096))); /* a sector for each slot */

/* --- text on the disk --- */

static void hex(char *p, uint32_t v, unsigned digits)
{
    while (digits--) {
        p[digits] = "0123456789abcdef"[v & 15];
        v >>= 4;
    }
}

/* 16 bytes as two words. */
static void unit(uint64_t w[2], uint64_t sector, uint32_t tag)
{
    char text[16];

    hex(text, (uint32_t)sector, 8);
    text[8] = ' ';
    hex(text + 9, tag, 6);
    text[15] = '\n';
    memcpy(w, text, 16);
}

static void fill(void *p, uint64_t sector, unsigned count, uint32_t tag)
{
    uint64_t *to = p, w[2];

    for (; count; count--, sector++) {
        unit(w, sector, tag);
        for (unsigned i = 0; i < SECTOR / 16; i++) {
            *to++ = w[0];
            *to++ = w[1];
        }
    }
}

static bool holds(const void *p, uint64_t sector, unsigned count, uint32_t tag)
{
    const uint64_t *at = p;
    uint64_t w[2], wrong = 0;

    for (; count; count--, sector++) {
        unit(w, sector, tag);
        for (unsigned i = 0; i < SECTOR / 16; i++) {
            wrong |= *at++ ^ w[0];
            wrong |= *at++ ^ w[1];
        }
    }
    return !wrong;
}

static bool zeros(const void *p, unsigned count)
{
    const uint64_t *at = p;
    uint64_t wrong = 0;

    for (unsigned i = 0; i < count * (SECTOR / 8); i++)
        wrong |= *at++;
    return !wrong;
}

static uint64_t features(void)
{
    return (option("event", NULL, 0) ? F_EVENT_IDX : 0) |
           (option("indirect", NULL, 0) ? F_INDIRECT : 0) |
           (option("flush", NULL, 0) ? BLK_F_FLUSH : 0) | (option("mq", NULL, 0) ? BLK_F_MQ : 0);
}

/* --- requests that succeed, and what they leave behind --- */

static void write_text(uint64_t sector, unsigned count, uint32_t tag)
{
    fill(buf, sector, count, tag);
    check("status of a write", blk_do(&disk, BLK_OUT, sector, buf, count * SECTOR), BLK_OK);
    check("length of a write", disk.q[0].len, 1);
}

static void read_buf(uint64_t sector, unsigned count)
{
    memset(buf, 0x5a, 16);
    check("status of a read", blk_do(&disk, BLK_IN, sector, buf, count * SECTOR), BLK_OK);
    check("length of a read", disk.q[0].len, count * SECTOR + 1);
}

static void read_text(uint64_t sector, unsigned count, uint32_t tag)
{
    read_buf(sector, count);
    if (!holds(buf, sector, count, tag))
        check("text of the sector", sector, UINT64_MAX);
}

static void read_zeros(uint64_t sector, unsigned count)
{
    read_buf(sector, count);
    if (!zeros(buf, count))
        check("zeros in the sector", sector, UINT64_MAX);
}

static void ranges(uint32_t type, const struct blk_range *r, unsigned n)
{
    check("status of ranges", blk_do(&disk, type, 0, r, n * (uint32_t)sizeof *r), BLK_OK);
    check("length of ranges", disk.q[0].len, 1);
}

/* Data in pieces of these sizes, the last as large as it must be, from a byte off an even address,
 * header and status cut up, too. */
static uint8_t scattered(uint32_t type, uint64_t sector, unsigned count, unsigned a, unsigned b)
{
    struct blk_slot *s = &disk.q[0].slot[0];
    uint16_t w = type == BLK_IN ? DESC_WRITE : 0;
    uint64_t data = (uintptr_t)spare + 1;

    s->header = (struct blk_header){ type, 0, sector };
    const struct desc d[] = {
        { (uintptr_t)&s->header, 3, 0, 0 },
        { (uintptr_t)&s->header + 3, 13, 0, 0 },
        { data, a, w, 0 },
        { data + a, b, w, 0 },
        { data + a + b, count * SECTOR - a - b, w, 0 },
        { (uintptr_t)&s->status, 1, DESC_WRITE, 0 },
    };
    return blk_do_pieces(&disk, d, ARRAY_LEN(d));
}

static void odd_pieces(void)
{
    bool strict = option("strict", NULL, 0);
    uint8_t status;

    fill(buf, 1000, 3, 3);
    memcpy(spare + 1, buf, 3 * SECTOR);
    status = scattered(BLK_OUT, 1000, 3, 1, 700);
    if (strict && status == BLK_IOERR)
        print("odd buffers are refused\n");
    else
        check("status of a scattered write", status, BLK_OK);
    if (status != BLK_OK)
        write_text(1000, 3, 3); /* it must not be there in part */
    memset(spare, 0, 3 * SECTOR);
    status = scattered(BLK_IN, 1000, 3, 513, 1);
    if (!strict || status != BLK_IOERR) {
        memcpy(buf, spare + 1, 3 * SECTOR);
        check("status of a scattered read", status, BLK_OK);
        check("text of a scattered read", holds(buf, 1000, 3, 3), true);
    }
}

/* Across the edges of what was written: of an overlay a part is in its base. */
static void mixed(void)
{
    read_buf(5, 10);
    check("text before", holds(buf, 5, 3, 0), true);
    check("text that was written", holds(buf + 3 * SECTOR, 8, 4, 1), true);
    check("text behind", holds(buf + 7 * SECTOR, 12, 3, 0), true);
    memset(spare, 0, 6 * SECTOR);
    if (scattered(BLK_IN, 999, 6, 300, 1) != BLK_OK) /* they may be refused: odd_pieces() */
        return;
    memcpy(buf, spare + 1, 6 * SECTOR);
    check("text before, cut up", holds(buf, 999, 1, 0), true);
    check("text that was written, cut up", holds(buf + SECTOR, 1000, 3, 3), true);
    check("text behind, cut up", holds(buf + 4 * SECTOR, 1003, 2, 0), true);
}

/* The image afterwards: disk.bats, expect_rw. */
static void rw(void)
{
    static const struct blk_range keep[] = { { 300, 16, 0 } }, drop[] = { { 400, 64, 1 } },
                                  both[] = { { 330, 1, 1 }, { 340, 0, 0 }, { 350, 9, 0 } },
                                  discard[] = { { 512, 128, 0 } },
                                  two[] = { { 700, 8, 0 }, { 720, 8, 0 } };
    uint64_t last = disk.sectors - 1;

    blk_start(&disk, features());
    read_text(0, 1, 0);
    read_text(last, 1, 0);
    read_text(100, 8, 0);
    write_text(8, 4, 1);
    write_text(last, 1, 1);
    write_text(200, 64, 2);
    odd_pieces();
    mixed();
    read_text(8, 4, 1);
    read_text(7, 1, 0);
    read_text(12, 1, 0);
    read_text(200, 64, 2);
    read_text(last, 1, 1);
    check("flush", blk_do(&disk, BLK_FLUSH, 0, NULL, 0), BLK_OK);
    check("length of a flush", disk.q[0].len, 1);
    ranges(BLK_WRITE_ZEROES, keep, ARRAY_LEN(keep));
    ranges(BLK_WRITE_ZEROES, drop, ARRAY_LEN(drop));
    ranges(BLK_WRITE_ZEROES, both, ARRAY_LEN(both));
    ranges(BLK_DISCARD, discard, ARRAY_LEN(discard));
    ranges(BLK_DISCARD, two, ARRAY_LEN(two));
    read_zeros(300, 16);
    read_zeros(400, 64);
    read_zeros(330, 1);
    read_zeros(350, 9);
    read_text(340, 1, 0);
    read_text(464, 1, 0);
    check("flush again", blk_do(&disk, BLK_FLUSH, 0, NULL, 0), BLK_OK);
    check("it still runs", blk_reg(&disk, STATUS), 15);
}

/* --- many at once --- */

static unsigned slots(void)
{
    return disk.features & F_INDIRECT ? BLK_SIZE : BLK_SIZE / 3;
}

/* Waits until n requests of queue q came back, each once and well. */
static void collect(unsigned q, unsigned n, uint32_t len_in)
{
    static uint8_t out[BLK_SIZE];

    memset(out, 0, sizeof out);
    for (unsigned i = 0; i < n;) {
        unsigned seen = interrupts;
        int head = blk_take(&disk, q);

        if (head < 0) {
            if (blk_sleep) {
                wait_interrupt_for(seen, 1000);
                blk_set_reg(&disk, INTERRUPT_ACK, blk_reg(&disk, INTERRUPT_STATUS));
            } else {
                pause();
            }
            continue;
        }
        unsigned slot = blk_slot(&disk, head);

        if (slot >= n || out[slot]++)
            check("a head that is not out", (unsigned)head, UINT64_MAX);
        else
            check("status", disk.q[q].slot[slot].status, BLK_OK);
        check("length", disk.q[q].len, disk.q[q].slot[slot].header.type == BLK_IN ? len_in : 1);
        i++;
    }
}

/* Every second one writes, the others read what was written in the round before. From sector 1024
 * on, a sector a slot: the image then holds the last round's tags in the even ones, the one's
 * before in the odd ones. */
static void depth(void)
{
    unsigned rounds = (unsigned)option_number("rounds", 4), n;

    blk_start(&disk, features());
    n = slots();
    for (unsigned round = 1; round <= rounds; round++) {
        for (unsigned i = 0; i < n; i++) {
            bool write = i % 2 == round % 2;

            if (write)
                fill(each[i], 1024 + i, 1, round);
            blk_put(&disk, 0, i, write ? BLK_OUT : BLK_IN, 1024 + i, each[i], SECTOR);
        }
        blk_kick(&disk, 0);
        collect(0, n, SECTOR + 1);
        for (unsigned i = 0; i < n; i++)
            if (i % 2 != round % 2 && !holds(each[i], 1024 + i, 1, round - 1))
                check("text of the slot", i, UINT64_MAX);
    }
    print("%u at once\n", n);
}

/* Two queues, interleaved, one of them stopped half-way through. */
static void queues(void)
{
    check("number of queues", read16(disk.base + CONFIG + BLK_NUM_QUEUES),
          option_number("queues", 2));
    blk_start(&disk, features() | BLK_F_MQ | F_INDIRECT);
    for (unsigned round = 1; round <= 2; round++) {
        for (unsigned i = 0; i < 32; i++) {
            fill(each[i], 1024 + i, 1, round);
            blk_put(&disk, i % 2, i / 2, BLK_OUT, 1024 + i, each[i], SECTOR);
            if (i % 8 > 5)
                blk_kick(&disk, i % 2);
        }
        collect(0, 16, 1);
        collect(1, 16, 1);
    }
    for (unsigned q = 0; q < 2; q++) {
        for (unsigned i = 0; i < 16; i++)
            blk_put(&disk, q, i, BLK_IN, 1024 + 16 * q + i, each[16 * q + i], SECTOR);
        blk_kick(&disk, q);
    }
    collect(1, 16, SECTOR + 1);
    collect(0, 16, SECTOR + 1);
    for (unsigned i = 0; i < 32; i++)
        if (!holds(each[i], 1024 + i, 1, 2))
            check("text of the sector", 1024 + i, UINT64_MAX);
}

/* Resets with all of them in flight. What was acknowledged is there, of the rest each sector is old
 * or new, and behind the reset the device touches nothing. */
static void reset(void)
{
    unsigned rounds = (unsigned)option_number("rounds", 6), n = 0, done = 0;

    for (unsigned round = 1; round <= rounds; round++) {
        static uint8_t status[BLK_SIZE];

        blk_start(&disk, features());
        n = slots();
        for (unsigned i = 0; i < n; i++) {
            fill(each[i], 1024 + i, 1, round);
            blk_put(&disk, 0, i, BLK_OUT, 1024 + i, each[i], SECTOR);
        }
        blk_kick(&disk, 0);
        for (unsigned i = 0; i < 40 * (round - 1); i++)
            pause();
        blk_reset(&disk);
        uint32_t used = disk.q[0].used[0];

        for (unsigned i = 0; i < n; i++)
            status[i] = disk.q[0].slot[i].status;
        for (unsigned i = 0; i < 500; i++)
            pause();
        check("used index behind a reset", disk.q[0].used[0], used);
        for (unsigned i = 0; i < n; i++) {
            check("status behind a reset", disk.q[0].slot[i].status, status[i]);
            done += status[i] == BLK_OK;
        }
        blk_start(&disk, features());
        for (unsigned i = 0; i < n; i++)
            blk_put(&disk, 0, i, BLK_IN, 1024 + i, each[i], SECTOR);
        blk_kick(&disk, 0);
        collect(0, n, SECTOR + 1);
        for (unsigned i = 0; i < n; i++)
            if (!holds(each[i], 1024 + i, 1, round) &&
                (status[i] == BLK_OK || !holds(each[i], 1024 + i, 1, round - 1)))
                check("a sector that was lost or torn", 1024 + i, UINT64_MAX);
        /* The next round starts from one text. */
        for (unsigned i = 0; i < n; i++) {
            fill(each[i], 1024 + i, 1, round);
            blk_put(&disk, 0, i, BLK_OUT, 1024 + i, each[i], SECTOR);
        }
        blk_kick(&disk, 0);
        collect(0, n, 1);
    }
    print("%u of %u were done\n", done, rounds * n);
}

/* --- requests that must fail --- */

enum { R = 0, W = DESC_WRITE };
#define ANY 0xff /* of a length: not looked at */

/* A header of this type and sector, then pieces of these lengths, a last one of one byte for the
 * status, and what must come of it. */
static const struct bad {
    const char *what;
    uint32_t type;
    int64_t sector; /* negative: from the end of the disk */
    struct {
        uint32_t len;
        uint16_t flags;
    } data[3];
    uint8_t status;
    bool breaks;
} bads[] = {
    { "an unknown type", 2, 0, { { 512, W } }, BLK_UNSUPP, false },
    { "another unknown type", 0x80000000, 0, { { 0, 0 } }, BLK_UNSUPP, false },
    { "a barrier of old", 5, 0, { { 512, R } }, BLK_UNSUPP, false },
    { "secure erase", 14, 0, { { 16, R } }, BLK_UNSUPP, false },
    { "the lifetime", 10, 0, { { 24, W } }, BLK_UNSUPP, false },
    { "a read behind the end", BLK_IN, 0, { { 512, W } }, BLK_IOERR, false },
    { "a read across the end", BLK_IN, -1, { { 1024, W } }, BLK_IOERR, false },
    { "a read far behind the end", BLK_IN, INT64_MAX, { { 512, W } }, BLK_IOERR, false },
    { "a write behind the end", BLK_OUT, 0, { { 512, R } }, BLK_IOERR, false },
    { "a write across the end", BLK_OUT, -1, { { 512, R }, { 512, R } }, BLK_IOERR, false },
    { "a write whose end wraps", BLK_OUT, INT64_MIN, { { 512, R } }, BLK_IOERR, false },
    { "a read of no sector's size", BLK_IN, 1, { { 511, W } }, BLK_IOERR, false },
    { "a write of a byte too many", BLK_OUT, 1, { { 512, R }, { 1, R } }, BLK_IOERR, false },
    { "a read of nothing", BLK_IN, 1, { { 0, 0 } }, BLK_IOERR, false },
    { "a write of nothing", BLK_OUT, 1, { { 0, 0 } }, BLK_IOERR, false },
    { "a read into what it may read", BLK_IN, 1, { { 512, R } }, BLK_IOERR, false },
    { "a write of what it may write", BLK_OUT, 1, { { 512, W } }, BLK_IOERR, false },
    { "a read with something to read", BLK_IN, 1, { { 512, R }, { 512, W } }, BLK_IOERR, false },
    { "a write with room for more", BLK_OUT, 1, { { 512, R }, { 512, W } }, BLK_IOERR, false },
    { "a flush of something", BLK_FLUSH, 1, { { 512, R } }, BLK_IOERR, false },
    { "a flush into something", BLK_FLUSH, 1, { { 512, W } }, BLK_IOERR, false },
    { "a name with something to read", BLK_GET_ID, 1, { { 1, R }, { 20, W } }, BLK_IOERR, false },
    { "a discard with room for more", BLK_DISCARD, 1, { { 16, R }, { 1, W } }, BLK_IOERR, false },
    { "a name in too little", BLK_GET_ID, 1, { { 19, W } }, BLK_IOERR, false },
    { "a name in too much", BLK_GET_ID, 1, { { 21, W } }, BLK_IOERR, false },
    { "a name in nothing", BLK_GET_ID, 1, { { 0, 0 } }, BLK_IOERR, false },
    { "a discard of half a range", BLK_DISCARD, 0, { { 8, R } }, BLK_IOERR, false },
    { "a discard of one and a half", BLK_DISCARD, 0, { { 24, R } }, BLK_IOERR, false },
    { "a discard of no range", BLK_DISCARD, 0, { { 0, 0 } }, BLK_IOERR, false },
    { "zeros of half a range", BLK_WRITE_ZEROES, 0, { { 16, R }, { 7, R } }, BLK_IOERR, false },
    { "no room for a status", BLK_IN, 0, { { 512, R } }, BLK_NO_STATUS, true },
    { "half a header", BLK_IN, 0, { { 0, 0 } }, BLK_NO_STATUS, true },
};

/* What came of a chain: a status, or the end of the device until its reset. */
static void judge_chain(const char *what, const struct desc *d, unsigned n, uint8_t want,
                        bool breaks)
{
    struct blk_slot *s = &disk.q[0].slot[0];
    int head = -1;

    s->status = BLK_NO_STATUS;
    blk_offer(&disk, 0, blk_chain(&disk, 0, 0, d, n));
    blk_kick(&disk, 0);
    do {
        pause();
        head = blk_take(&disk, 0);
    } while (head < 0 && !(blk_reg(&disk, STATUS) & NEEDS_RESET));
    check(what, s->status, want);
    check(what, !!(blk_reg(&disk, STATUS) & NEEDS_RESET), breaks);
    check(what, head >= 0, !breaks);
    if (breaks)
        blk_start(&disk, features());
}

static void judge_bad(const struct bad *b)
{
    struct blk_slot *s = &disk.q[0].slot[0];
    uint64_t at = (uintptr_t)spare;
    struct desc d[5];
    unsigned n = 0;
    bool cut = b->breaks && b->data[0].len == 0, dumb = b->breaks && !cut;

    s->header = (struct blk_header){ b->type, 0, (uint64_t)b->sector };
    if (b->status == BLK_IOERR && b->sector <= 0)
        s->header.sector = disk.sectors + (uint64_t)b->sector;
    if (b->sector == INT64_MAX || b->sector == INT64_MIN)
        s->header.sector = (UINT64_MAX >> 9) + (b->sector < 0);
    d[n++] = (struct desc){ (uintptr_t)&s->header, cut ? 15 : sizeof s->header, 0, 0 };
    for (unsigned i = 0; i < 3 && b->data[i].len; i++) {
        d[n++] = (struct desc){ at, b->data[i].len, b->data[i].flags, 0 };
        at += b->data[i].len;
    }
    if (!dumb)
        d[n++] = (struct desc){ (uintptr_t)&s->status, 1, DESC_WRITE, 0 };
    judge_chain(b->what, d, n, b->status, b->breaks);
}

/* Ranges that are not: flags, places, sizes. */
static void bad_ranges(void)
{
    uint64_t n = disk.sectors;
    uint32_t most = read32(disk.base + CONFIG + BLK_MAX_DISCARD);
    const struct {
        uint32_t type;
        struct blk_range r;
        uint8_t want;
    } rows[] = {
        { BLK_DISCARD, { 0, 8, 1 }, BLK_UNSUPP },
        { BLK_DISCARD, { 0, 8, 2 }, BLK_UNSUPP },
        { BLK_WRITE_ZEROES, { 0, 8, 2 }, BLK_UNSUPP },
        { BLK_WRITE_ZEROES, { 0, 8, 0x80000001 }, BLK_UNSUPP },
        { BLK_DISCARD, { n, 1, 0 }, BLK_IOERR },
        { BLK_DISCARD, { n - 1, 2, 0 }, BLK_IOERR },
        { BLK_WRITE_ZEROES, { n - 1, 2, 1 }, BLK_IOERR },
        { BLK_WRITE_ZEROES, { n - 1, UINT32_MAX, 0 }, BLK_IOERR },
        { BLK_WRITE_ZEROES, { UINT64_MAX, 2, 0 }, BLK_IOERR },
        { BLK_DISCARD, { UINT64_C(1) << 55, 8, 0 }, BLK_IOERR },
        { BLK_DISCARD, { 0, UINT32_MAX, 0 }, BLK_IOERR },
        { BLK_DISCARD, { 0, most + 1, 0 }, BLK_IOERR },
        { BLK_DISCARD, { n, 0, 0 }, BLK_OK },
        { BLK_WRITE_ZEROES, { 5, 0, 1 }, BLK_OK },
    };
    static struct blk_range many[32];
    unsigned seg = read32(disk.base + CONFIG + BLK_MAX_DISCARD_SEG);

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        /* Behind a good one, which may or may not be carried out. */
        many[0] = (struct blk_range){ 64, 0, 0 };
        many[1] = rows[i].r;
        check("a bad range", blk_do(&disk, rows[i].type, 0, many, 32), rows[i].want);
    }
    if (!seg || seg + 1 > ARRAY_LEN(many)) {
        check("ranges in a request", seg, 16);
        return;
    }
    for (unsigned i = 0; i <= seg; i++)
        many[i] = (struct blk_range){ 3000 + i, 1, 0 };
    check("as many ranges as it takes",
          blk_do(&disk, BLK_DISCARD, 0, many, seg * (uint32_t)sizeof many[0]), BLK_OK);
    for (unsigned i = 0; i <= seg; i++)
        many[i] = (struct blk_range){ 3100 + i, 1, 0 };
    check("one more", blk_do(&disk, BLK_DISCARD, 0, many, (seg + 1) * (uint32_t)sizeof many[0]),
          BLK_IOERR);
}

/* All of it leaves the image as it is, but for the 16 sectors from 3000 on. */
static void malformed(void)
{
    blk_start(&disk, features());
    for (size_t i = 0; i < ARRAY_LEN(bads); i++)
        judge_bad(&bads[i]);
    bad_ranges();
    /* A read that fails has no old bytes in the place of data. */
    memset(spare, 0x77, SECTOR);
    blk_do(&disk, BLK_IN, disk.sectors, spare, SECTOR);
    if (disk.q[0].len == SECTOR + 1)
        check("zeros of a failed read", zeros(spare, 1), true);
    else
        check("length of a failed read", disk.q[0].len <= 1, true);
    read_text(1, 1, 0);
    check("it still runs", blk_reg(&disk, STATUS), 15);
}

/* --- what it is --- */

static void facts(void)
{
    for (unsigned n = 0; blk_find(&disk, n); n++) {
        char id[21] = "";

        blk_start(&disk, 0);
        check("status of a name", blk_do(&disk, BLK_GET_ID, 0, id, 20), BLK_OK);
        check("length of a name", disk.q[0].len, 21);
        print("disk %u: %lu sectors, id %s, %s, %u queues\n", n, disk.sectors, id,
              blk_offered(&disk) & BLK_F_RO ? "ro" : "rw",
              blk_offered(&disk) & BLK_F_MQ ? read16(disk.base + CONFIG + BLK_NUM_QUEUES) : 1);
        blk_reset(&disk);
    }
}

static void configuration(void)
{
    uint64_t c = disk.base + CONFIG, f = blk_offered(&disk);
    uint64_t want = BLK_F_SIZE_MAX | BLK_F_SEG_MAX | BLK_F_BLK_SIZE | BLK_F_TOPOLOGY | BLK_F_FLUSH |
                    BLK_F_DISCARD | BLK_F_WRITE_ZEROES | F_INDIRECT | F_EVENT_IDX | F_VERSION_1;

    check("features", f, want);
    check("longest buffer", read32(c + BLK_SIZE_MAX), 65536);
    check("longest chain", read32(c + BLK_SEG_MAX), BLK_SIZE - 2);
    check("block size", read32(c + BLK_BLK_SIZE), option_number("block", 512));
    check("alignment", read8(c + BLK_ALIGNMENT), 0);
    check("ranges of a discard", read32(c + BLK_MAX_DISCARD_SEG), 16);
    check("ranges of zeros", read32(c + BLK_MAX_ZEROES_SEG), 16);
    check("zeros may unmap", read8(c + BLK_MAY_UNMAP), 1);
    check("a discard has a size", read32(c + BLK_MAX_DISCARD) > 0, true);
    check("zeros have a size", read32(c + BLK_MAX_ZEROES) > 0, true);
    check("behind its end", read32(c + BLK_CONFIG_LEN), 0);
    write32(c, 1);
    write8(c + 0x20, 1); /* writeback, which is not negotiable here */
    check("it is read-only", read32(c), (uint32_t)disk.sectors);
    blk_set_reg(&disk, QUEUE_SEL, 0);
    check("queue size", blk_reg(&disk, QUEUE_NUM_MAX), BLK_SIZE);
    blk_set_reg(&disk, QUEUE_SEL, 1);
    check("a second queue", blk_reg(&disk, QUEUE_NUM_MAX), 0);
}

static void read_only(void)
{
    static const struct blk_range r[] = { { 8, 8, 0 } };

    check("it says so", blk_offered(&disk) & BLK_F_RO, BLK_F_RO);
    blk_start(&disk, BLK_F_RO | features());
    read_text(0, 8, 0);
    fill(buf, 8, 1, 1);
    check("a write", blk_do(&disk, BLK_OUT, 8, buf, SECTOR), BLK_IOERR);
    check("zeros", blk_do(&disk, BLK_WRITE_ZEROES, 0, r, sizeof r) != BLK_OK, true);
    check("a discard", blk_do(&disk, BLK_DISCARD, 0, r, sizeof r) != BLK_OK, true);
    read_text(8, 8, 0);
    check("flush", blk_do(&disk, BLK_FLUSH, 0, NULL, 0), BLK_OK);
}

/* --- for what the host does meanwhile --- */

/* With a word that another run left there: tag=N, expected or written to sectors 0 to 7. */
static void tagged(void)
{
    uint32_t tag = (uint32_t)option_number("tag", 0);

    blk_start(&disk, features());
    if (option("write", NULL, 0))
        write_text(0, 8, tag);
    read_text(0, 8, tag);
}

/* Every sector of the disk in pieces of BATCH, read or written: how many requests came to what.
 * With `wait` not before a byte came by the console. */
static void sweep(void)
{
    bool write = option("write", NULL, 0);
    unsigned ok = 0, failed = 0, other = 0;
    uint8_t byte;

    console_start(0);
    blk_start(&disk, features());
    print("ready\n");
    if (option("wait", NULL, 0))
        console_read(&byte, 1, false);
    if (write)
        memset(buf, 'x', sizeof buf);
    for (uint64_t s = 0; s + BATCH <= disk.sectors; s += BATCH) {
        uint8_t status = blk_do(&disk, write ? BLK_OUT : BLK_IN, s, buf, sizeof buf);

        if (status == BLK_IOERR && !write && !zeros(buf, BATCH)) /* no older bytes */
            check("zeros of a failed read", s, UINT64_MAX);
        ok += status == BLK_OK;
        failed += status == BLK_IOERR;
        other += status > BLK_IOERR;
    }
    check("other statuses", other, 0);
    check("the device needs no reset", blk_reg(&disk, STATUS), 15);
    print("%u done, %u failed\n", ok, failed);
}

/* count=N requests of kib=N each, 8 at a time, against a limit. */
static void limit(void)
{
    uint32_t type = option("write", NULL, 0) ? BLK_OUT : BLK_IN;
    uint32_t len = (uint32_t)option_number("kib", 4) * 1024;
    unsigned count = (unsigned)option_number("count", 64), out = 0, done = 0;

    blk_start(&disk, features() | F_INDIRECT);
    while (done < count) {
        for (; out < 8 && done + out < count; out++)
            blk_put(&disk, 0, (done + out) % 8, type, (done + out) * (len / SECTOR), buf, len);
        blk_kick(&disk, 0);
        int head;

        while ((head = blk_take(&disk, 0)) < 0)
            pause();
        check("status", disk.q[0].slot[blk_slot(&disk, head)].status, BLK_OK);
        done++;
        out--;
        /* They are done in order under a limit: the slot is free for the next. */
    }
}

/* A write beyond the burst, then at once another, a flush and a name: these two pass. */
static void pass(void)
{
    static const unsigned order[] = { 0, 2, 3, 1 };
    char id[20];

    blk_start(&disk, features() | F_INDIRECT | BLK_F_FLUSH);
    blk_put(&disk, 0, 0, BLK_OUT, 0, buf, sizeof buf);
    blk_put(&disk, 0, 1, BLK_OUT, BATCH, buf, SECTOR);
    blk_put(&disk, 0, 2, BLK_FLUSH, 0, NULL, 0);
    blk_put(&disk, 0, 3, BLK_GET_ID, 0, id, sizeof id);
    blk_kick(&disk, 0);
    bool came[4] = { false };

    for (unsigned i = 0; i < 4; i++) {
        int head;

        while ((head = blk_take(&disk, 0)) < 0)
            pause();
        came[head & 3] = true;
        check("status", disk.q[0].slot[head & 3].status, BLK_OK);
        if (i == ARRAY_LEN(order) - 1)
            check("last comes what waited", (unsigned)head, order[i]);
    }
    for (unsigned i = 0; i < 4; i++)
        check("all came", came[i], true);
}

/* --- */

static const struct {
    const char *name;
    void (*run)(void);
} ways[] = {
    { "rw", rw },
    { "depth", depth },
    { "queues", queues },
    { "reset", reset },
    { "malformed", malformed },
    { "facts", facts },
    { "config", configuration },
    { "ro", read_only },
    { "tagged", tagged },
    { "sweep", sweep },
    { "limit", limit },
    { "pass", pass },
};

void guest_main(void)
{
    char what[16] = "rw";

    option("what", what, sizeof what);
    blk_sleep = option("sleep", NULL, 0);
    if (!blk_find(&disk, 0)) {
        print("BAD there is no disk\n");
        return;
    }
    if (blk_sleep) {
        intr_start();
        intr_route(disk.gsi, VECTOR_OTHER);
    }
    for (size_t i = 0; i < ARRAY_LEN(ways); i++)
        if (strcmp(what, ways[i].name) == 0)
            ways[i].run();
    print("%u checked, %u bad\n", checked, bad);
}
