/* The disk over an engine that does what a bad day brings: calls end later and in any order, move
 * less than they should, fail, are not supported. Data moves in memory, and is compared byte for
 * byte; what counts as stable is modelled as well. The real engines: test_host_disk_real.c. */
#include "tests/unit/disk_rig.h"

#include <stdio.h>

#define SECTORS 512
#define SIZE    ((size_t)SECTORS * IMAGE_SECTOR)
#define BASE_ID 1

/* How often, in percent, a call... */
struct weather {
    unsigned now;    /* ends at once */
    unsigned again;  /* is broken off: EINTR, EAGAIN */
    unsigned shorts; /* moves a part */
    unsigned none;   /* moves nothing, and tells of no error */
    unsigned fail;   /* EIO, ENOSPC, with a part moved perhaps */
    unsigned sync;   /* fdatasync fails */
    bool no_punch, no_zero;
};

/* A call that waits for its end. */
struct call {
    struct disk_io *io;
    uint32_t seen[SECTORS]; /* IO_SYNC: what there was when it began */
};

struct fake {
    struct disk *d;
    struct rig rig;
    struct weather w;
    uint8_t file[DISK_FILES][SIZE], pristine[SIZE];
    bool priv[SECTORS]; /* in the private file, whole */
    /* Of the base: how often it was changed, up to when that is stable, and acknowledged. */
    uint32_t version[SECTORS], stable[SECTORS], lost[SECTORS], acked[SECTORS];
    uint32_t promised[RIG_SLOTS][SECTORS];            /* of a flush: what it has to make stable */
    unsigned sync_failures, failures_then[RIG_SLOTS]; /* now, and when a request came */
    struct call call[RIG_SLOTS];
    unsigned n;
    char log[256]; /* a letter a call: R W S P Z */
    unsigned calls;
};

static struct fake fake;

static struct rig_slot *slot_of(struct disk_io *io)
{
    return CONTAINER_OF(CONTAINER_OF(io, struct disk_req, io), struct rig_slot, req);
}

/* --- what may be called ----------------------------------------------------------------------- */

static void check_op(const struct fake *f, const struct rig_slot *s, const struct disk_io *io)
{
    static const unsigned may[] = {
        [DISK_READ] = 1 << IO_READ,
        [DISK_WRITE] = 1 << IO_WRITE,
        [DISK_FLUSH] = 1 << IO_SYNC,
        [DISK_DISCARD] = 1 << IO_PUNCH,
        [DISK_ZERO] = 1 << IO_PUNCH | 1 << IO_ZERO | 1 << IO_WRITE,
    };
    bool sync = rig_writes(s->op) && s->stable && !f->d->overlaid;

    assert_true((may[s->op] | (unsigned)sync << IO_SYNC) >> io->op & 1);
    if (s->error)
        fail_msg("a call of a request that failed with %d", s->error);
    /* One fdatasync at a time: the kernel tells of a failure only once. */
    for (unsigned i = 0; i < f->n; i++)
        assert_true(io->op != IO_SYNC || f->call[i].io->op != IO_SYNC);
}

static void check_file(const struct fake *f, const struct disk_io *io)
{
    bool mine = f->d->overlaid && io->op != IO_READ;

    assert_true(io->op == IO_READ || !f->d->image.read_only);
    if (io->op == IO_READ && f->d->overlaid)
        mine = f->priv[io->off / IMAGE_SECTOR];
    assert_int_equal(io->file, mine ? DISK_PRIVATE : DISK_BASE);
    if (io->op != IO_READ || !f->d->overlaid)
        return;
    for (uint64_t i = io->off / IMAGE_SECTOR; i < (io->off + io->len) / IMAGE_SECTOR; i++)
        if (f->priv[i] != mine)
            fail_msg("a read of sector %ju in the wrong file", (uintmax_t)i);
}

/* A call keeps to the request's range, files and buffers. */
static void check_call(const struct fake *f, const struct rig_slot *s, const struct disk_io *io)
{
    uint64_t from = (uint64_t)s->first * IMAGE_SECTOR, len = (uint64_t)s->n * IMAGE_SECTOR, sum = 0;

    assert_true(s->busy);
    check_op(f, s, io);
    for (unsigned i = 0; i < f->n; i++)
        assert_ptr_not_equal(f->call[i].io, io); /* one a request */
    if (io->op == IO_SYNC) {
        assert_false(f->d->overlaid);
        return;
    }
    /* Direct I/O takes whole blocks only; of a private file, which has none, sectors do. */
    uint64_t unit = io->file == DISK_BASE ? f->d->image.block : IMAGE_SECTOR;

    assert_true(io->len > 0);
    if (io->off % unit || io->len % unit)
        fail_msg("a call at %ju + %ju", (uintmax_t)io->off, (uintmax_t)io->len);
    assert_true(io->off >= from && range_within(io->off - from, io->len, len));
    check_file(f, io);
    if (io->op == IO_PUNCH || io->op == IO_ZERO)
        return;
    assert_true(io->iov_n > 0);
    for (unsigned i = 0; i < io->iov_n; i++)
        sum += io->iov[i].iov_len;
    assert_int_equal(sum, io->len);
}

/* --- what a call does ------------------------------------------------------------------------- */

static void move(struct fake *f, const struct disk_io *io, uint64_t n)
{
    uint8_t *at = f->file[io->file] + io->off;

    for (unsigned i = 0; n; i++) {
        size_t k = min_size(n, io->iov[i].iov_len);

        if (io->op == IO_READ)
            memcpy(io->iov[i].iov_base, at, k);
        else
            memcpy(at, io->iov[i].iov_base, k);
        at += k;
        n -= k;
    }
}

/* The first n bytes of the call's range were changed; if `whole`, so that what of it is whole
 * blocks counts. */
static void changed(struct fake *f, const struct disk_io *io, uint64_t n, bool whole)
{
    uint64_t first = io->off / IMAGE_SECTOR, good = align_down_u64(n, f->d->image.block);

    for (uint64_t i = first; i < first + (n + IMAGE_SECTOR - 1) / IMAGE_SECTOR; i++) {
        if (io->file == DISK_PRIVATE) {
            f->priv[i] |= whole && (i + 1 - first) * IMAGE_SECTOR <= good;
            continue;
        }
        f->version[i]++;
    }
}

static int do_data(struct fake *f, struct rig_slot *s, struct disk_io *io)
{
    struct rng *rng = &f->rig.rng;
    uint64_t n = io->len;

    if (rng_chance(rng, f->w.fail)) {
        n = rng_chance(rng, 50) ? 0 : rng_below(rng, n);
        move(f, io, n);
        if (io->op == IO_WRITE)
            changed(f, io, n, false);
        return s->error = rng_chance(rng, 50) ? -EIO : -ENOSPC;
    }
    if (rng_chance(rng, f->w.none)) {
        s->excused = true;
        return 0;
    }
    if (rng_chance(rng, f->w.shorts)) {
        n = 1 + rng_below(rng, n);
        if (rng_chance(rng, 50) && n > IMAGE_SECTOR)
            n = align_down_u64(n, IMAGE_SECTOR);
    }
    move(f, io, n);
    if (io->op == IO_WRITE)
        changed(f, io, n, true);
    return (int)n;
}

static int do_zeros(struct fake *f, struct rig_slot *s, struct disk_io *io)
{
    if (io->op == IO_PUNCH ? f->w.no_punch : f->w.no_zero)
        return rng_chance(&f->rig.rng, 50) ? -EOPNOTSUPP : -ENODEV;
    if (rng_chance(&f->rig.rng, f->w.fail)) {
        changed(f, io, io->len, false);
        return s->error = -EIO;
    }
    memset(f->file[io->file] + io->off, 0, io->len);
    changed(f, io, io->len, true);
    s->zeroed = true;
    return 0;
}

/* As Linux does it: after a failure it counts as written what is not, and is lost. */
static int do_sync(struct fake *f, const struct call *c)
{
    bool ok = !rng_chance(&f->rig.rng, f->w.sync);

    for (unsigned i = 0; i < SECTORS; i++) {
        if (!ok && c->seen[i] > f->stable[i])
            f->lost[i] = c->seen[i];
        if (ok && c->seen[i] > f->lost[i] && c->seen[i] > f->stable[i])
            f->stable[i] = c->seen[i];
    }
    if (ok)
        return 0;
    f->sync_failures++;
    return -EIO;
}

static int call_do(struct fake *f, struct call *c)
{
    struct rig_slot *s = slot_of(c->io);

    /* Not the disk's before it is there. */
    if (f->d->overlaid)
        for (unsigned i = s->first; i < s->first + s->n; i++) {
            bool mine;

            overlay_run(&f->d->overlay, (uint64_t)i * IMAGE_SECTOR, IMAGE_SECTOR, &mine);
            if (mine != f->priv[i])
                fail_msg("sector %u: the map says %d", i, mine);
        }
    s->excused |= f->w.again == 100; /* patience may end */
    if (rng_chance(&f->rig.rng, f->w.again))
        return rng_chance(&f->rig.rng, 50) ? -EINTR : -EAGAIN;
    if (c->io->op == IO_SYNC)
        return do_sync(f, c);
    if (c->io->op == IO_PUNCH || c->io->op == IO_ZERO)
        return do_zeros(f, s, c->io);
    return do_data(f, s, c->io);
}

static bool fake_start(struct disk *d, struct disk_io *io, int *res)
{
    struct fake *f = d->engine_data;

    check_call(f, slot_of(io), io);
    if (f->calls < sizeof f->log - 1)
        f->log[f->calls] = "RWSPZ"[io->op];
    f->calls++;
    struct call *c = &f->call[f->n];

    c->io = io;
    memcpy(c->seen, f->version, sizeof c->seen);
    if (rng_chance(&f->rig.rng, f->w.now)) {
        *res = call_do(f, c);
        return true;
    }
    f->n++;
    return false;
}

/* Some call ends. */
static void fake_end_one(struct fake *f)
{
    unsigned i = (unsigned)rng_below(&f->rig.rng, f->n);
    int res = call_do(f, &f->call[i]);
    struct disk_io *io = f->call[i].io;

    f->call[i] = f->call[--f->n];
    disk_io_done(f->d, io, res);
}

static void fake_drain(struct disk *d)
{
    struct fake *f = d->engine_data;

    while (f->n)
        fake_end_one(f);
}

static const struct disk_engine fake_engine = {
    .name = "fake",
    .start = fake_start,
    .drain = fake_drain,
};

/* --- the judge -------------------------------------------------------------------------------- */

static void fake_submitted(struct rig *r, struct rig_slot *s)
{
    struct fake *f = r->arg;

    memcpy(f->promised[s - r->slot], f->acked, sizeof f->acked);
    f->failures_then[s - r->slot] = f->sync_failures;
}

/* Whether a request needs an fdatasync, and one failed that it may have needed: any before a flush
 * is done; one since a stable write came. */
static bool sync_lost(const struct fake *f, const struct rig_slot *s)
{
    if (s->op == DISK_FLUSH)
        return f->sync_failures > 0;
    return s->stable && rig_writes(s->op) && (s->op != DISK_DISCARD || s->zeroed) &&
           f->failures_then[s - f->rig.slot] != f->sync_failures;
}

/* What a request may end with. */
static void judge_result(const struct fake *f, const struct rig_slot *s)
{
    int res = s->req.result;
    bool lost = sync_lost(f, s);

    if (s->error && res != s->error)
        fail_msg("request %d: %d, and its call said %d", s->op, res, s->error);
    if (lost && res == 0)
        fail_msg("request %d succeeded, and an fdatasync had failed", s->op);
    if (res == 0 || s->error || s->excused || lost)
        return;
    if (f->d->image.read_only && rig_writes(s->op))
        assert_int_equal(res, -EROFS);
    else
        fail_msg("request %d at %u + %u: %s", s->op, s->first, s->n, strerror(-res));
}

static void judge_stable(struct fake *f, const struct rig_slot *s)
{
    const uint32_t *promised = f->promised[s - f->rig.slot];

    if (s->req.result || f->d->overlaid || f->d->image.read_only)
        return;
    if (s->op == DISK_FLUSH) {
        for (unsigned i = 0; i < SECTORS; i++)
            if (f->stable[i] < promised[i])
                fail_msg("a flush told a lie of sector %u", i);
    } else if (rig_writes(s->op) && !(s->op == DISK_DISCARD && !s->zeroed)) {
        for (unsigned i = s->first; i < s->first + s->n; i++) {
            f->acked[i] = f->version[i];
            if (s->stable && f->stable[i] != f->version[i])
                fail_msg("sector %u: its write is done, and is not stable", i);
        }
    }
}

static void fake_judge(struct rig *r, struct rig_slot *s)
{
    struct fake *f = r->arg;

    for (unsigned i = 0; i < f->n; i++)
        assert_ptr_not_equal(f->call[i].io, &s->req.io); /* nothing of it goes on */
    judge_result(f, s);
    judge_stable(f, s);
}

static uint32_t fake_peek(struct rig *r, uint32_t i)
{
    struct fake *f = r->arg;

    return stamp_read(f->file[f->priv[i] ? DISK_PRIVATE : DISK_BASE] + (size_t)i * IMAGE_SECTOR, i);
}

/* Until the private file has it, a read finds the base whatever writers are at. */
static bool fake_untouched(struct rig *r, uint32_t i)
{
    struct fake *f = r->arg;

    return f->d->overlaid && !f->priv[i];
}

static void fake_open(struct fake *f, bool overlay, uint64_t seed, struct weather w)
{
    struct image im = { .fd = -1, .path = "fake", .size = SIZE, .block = 512, .physical = 512 };
    struct err e;

    memset(f, 0, sizeof *f);
    f->w = w;
    f->d = calloc(1, sizeof *f->d);
    assert_non_null(f->d);
    disk_init(f->d, &im, &fake_engine, f);
    if (overlay) {
        assert_int_equal(overlay_init(&f->d->overlay, SIZE, &e), 0);
        f->d->overlaid = true;
    }
    for (uint32_t i = 0; i < SECTORS; i++)
        stamp(BASE_ID, i, f->pristine + (size_t)i * IMAGE_SECTOR);
    memcpy(f->file[DISK_BASE], f->pristine, SIZE);
    /* Not zeros, as it would really be: what is read there without a right is seen. */
    memset(f->file[DISK_PRIVATE], 0xee, SIZE);
    rig_init(&f->rig, f->d, SECTORS, BASE_ID, seed);
    f->rig.submitted = fake_submitted;
    f->rig.judge = fake_judge;
    f->rig.peek = fake_peek;
    f->rig.untouched = fake_untouched;
    f->rig.arg = f;
}

/* Reads it all, in good weather, and looks at what lies beneath. */
static void fake_close(struct fake *f)
{
    disk_drain(f->d);
    unsigned done = f->rig.done[DISK_READ], failed = f->rig.failed;

    assert_int_equal(f->rig.busy, 0);
    f->w = (struct weather){ .now = 50 };
    for (uint32_t i = 0; i < SECTORS; i += 32)
        assert_non_null(rig_submit(&f->rig, DISK_READ, i, 32, false, false));
    disk_drain(f->d);
    assert_int_equal(f->rig.done[DISK_READ], done + SECTORS / 32);
    assert_int_equal(f->rig.failed, failed);
    for (uint32_t i = 0; f->d->overlaid && i < SECTORS; i++) {
        bool mine;

        overlay_run(&f->d->overlay, (uint64_t)i * IMAGE_SECTOR, IMAGE_SECTOR, &mine);
        assert_int_equal(mine, f->priv[i]);
    }
    if (f->d->overlaid)
        assert_memory_equal(f->file[DISK_BASE], f->pristine, SIZE);
    disk_free(f->d);
}

/* --- any requests, any weather -------------------------------------------------------------- */

static unsigned failures; /* in all runs */

static void any_run(bool overlay, unsigned block, uint64_t seed, struct weather w, unsigned steps)
{
    struct fake *f = &fake;

    fake_open(f, overlay, seed, w);
    f->rig.block = block;
    f->d->image.block = f->d->image.physical = block * IMAGE_SECTOR;
    f->d->image.direct = block > 1;
    for (unsigned i = 0; i < steps; i++) {
        if (rng_chance(&f->rig.rng, 1))
            disk_drain(f->d);
        else if (f->n == 0 || (f->rig.busy < RIG_SLOTS && rng_chance(&f->rig.rng, 55)))
            rig_submit_any(&f->rig);
        else
            fake_end_one(f);
        assert_int_equal(f->d->in_flight, f->rig.busy);
        assert_true(f->n <= f->rig.busy && (f->n > 0 || f->rig.busy == 0));
    }
    for (enum disk_op op = DISK_READ; op <= DISK_ZERO; op++)
        assert_true(f->rig.done[op] > 0);
    bool may_fail = w.fail || w.none || w.sync;

    failures += f->rig.failed;
    assert_true(may_fail || f->rig.failed == 0);
    fake_close(f);
}

static void never_a_wrong_byte(void **state)
{
    static const struct weather all[] = {
        { .now = 0 },
        { .now = 100 },
        { .now = 30, .again = 20 },
        { .now = 30, .again = 5, .shorts = 60 },
        { .now = 10, .shorts = 30, .none = 5 },
        { .now = 30, .again = 10, .fail = 15 },
        { .now = 30, .again = 5, .shorts = 40, .none = 3, .fail = 5 },
        { .now = 30, .again = 5, .no_punch = true },
        { .now = 30, .again = 5, .no_zero = true },
        { .now = 30, .again = 5, .no_punch = true, .no_zero = true },
        { .now = 30, .shorts = 40, .fail = 5, .no_punch = true, .no_zero = true },
    };

    (void)state;
    failures = 0;
    for (unsigned i = 0; i < ARRAY_LEN(all); i++)
        for (uint64_t seed = 0; seed < 8; seed++)
            any_run(seed & 1, seed & 2 ? 8 : 1, 100 * i + seed, all[i], 2000);
    assert_true(failures > 100);
}

/* A flush that failed: from then on none succeeds, and nothing is promised that is not kept. */
static void no_flush_lies(void **state)
{
    (void)state;
    failures = 0;
    for (uint64_t seed = 1; seed <= 40; seed++)
        any_run(false, 1, seed, (struct weather){ .now = 20, .again = 5, .shorts = 20, .sync = 4 },
                1500);
    assert_true(failures > 100);
}

/* --- one thing at a time ---------------------------------------------------------------------- */

/* Carries out one request; its result, and the calls that it took, in *log. */
static int one(struct fake *f, enum disk_op op, uint32_t first, uint32_t n, bool stable, bool unmap,
               const char *log)
{
    f->calls = 0;
    memset(f->log, 0, sizeof f->log);
    struct rig_slot *s = rig_submit(&f->rig, op, first, n, stable, unmap);

    assert_non_null(s);
    disk_drain(f->d);
    assert_false(s->busy);
    if (log)
        assert_string_equal(f->log, log);
    return s->req.result;
}

static void zeros_find_a_way(void **state)
{
    struct fake *f = &fake;

    (void)state;
    for (int overlay = 0; overlay < 2; overlay++) {
        /* All ways are open. A hole does for an overlay, whose file is nobody's room. */
        fake_open(f, overlay, 1, (struct weather){ 0 });
        assert_int_equal(one(f, DISK_ZERO, 0, 8, false, false, overlay ? "P" : "Z"), 0);
        assert_int_equal(one(f, DISK_ZERO, 8, 8, false, true, "P"), 0);
        assert_int_equal(one(f, DISK_ZERO, 8, 8, true, true, overlay ? "P" : "PS"), 0);
        assert_int_equal(one(f, DISK_ZERO, 8, 8, true, false, overlay ? "P" : "ZS"), 0);
        assert_int_equal(one(f, DISK_DISCARD, 16, 8, true, false, overlay ? "P" : "PS"), 0);
        fake_close(f);
        /* None is, which is learnt once. 300 sectors are three pieces. */
        fake_open(f, overlay, 2, (struct weather){ .no_punch = true, .no_zero = true });
        assert_int_equal(one(f, DISK_ZERO, 0, 300, true, true, overlay ? "PZWWW" : "PZWWWS"), 0);
        assert_int_equal(one(f, DISK_ZERO, 5, 1, false, true, "W"), 0);
        assert_int_equal(one(f, DISK_ZERO, 5, 1, true, false, overlay ? "W" : "WS"), 0);
        assert_int_equal(one(f, DISK_DISCARD, 300, 99, false, false, ""), 0);
        assert_int_equal(f->rig.now[300], BASE_ID);
        fake_close(f);
        /* No holes, but ranges of zeros: and a discard does nothing. */
        fake_open(f, overlay, 3, (struct weather){ .no_punch = true });
        assert_int_equal(one(f, DISK_DISCARD, 300, 99, true, false, "P"), 0);
        assert_int_equal(f->rig.now[300], BASE_ID);
        assert_int_equal(one(f, DISK_ZERO, 0, 300, true, true, overlay ? "Z" : "ZS"), 0);
        assert_int_equal(one(f, DISK_ZERO, 0, 300, false, false, "Z"), 0);
        fake_close(f);
        fake_open(f, overlay, 4, (struct weather){ .no_zero = true });
        assert_int_equal(one(f, DISK_ZERO, 0, 3, false, false, overlay ? "P" : "ZW"), 0);
        assert_int_equal(one(f, DISK_ZERO, 0, 3, false, true, "P"), 0);
        fake_close(f);
    }
}

static void stable_writes_are_called_so(void **state)
{
    struct fake *f = &fake;

    (void)state;
    fake_open(f, false, 1, (struct weather){ 0 });
    assert_int_equal(one(f, DISK_WRITE, 0, 8, true, false, "WS"), 0);
    assert_int_equal(one(f, DISK_WRITE, 0, 8, false, false, "W"), 0);
    assert_int_equal(one(f, DISK_FLUSH, 0, 0, false, false, "S"), 0);
    fake_close(f);
    /* What is gone with the machine need not be flushed. */
    fake_open(f, true, 1, (struct weather){ 0 });
    assert_int_equal(one(f, DISK_WRITE, 0, 8, true, false, "W"), 0);
    assert_int_equal(one(f, DISK_FLUSH, 0, 0, false, false, ""), 0);
    fake_close(f);
}

static void a_failed_flush_is_not_forgotten(void **state)
{
    struct fake *f = &fake;

    (void)state;
    fake_open(f, false, 1, (struct weather){ 0 });
    one(f, DISK_WRITE, 0, 8, false, false, "W");
    f->w.sync = 100;
    assert_int_equal(one(f, DISK_FLUSH, 0, 0, false, false, "S"), -EIO);
    f->w.sync = 0;
    for (int i = 0; i < 3; i++)
        assert_true(one(f, DISK_FLUSH, 0, 0, false, false, NULL) < 0);
    /* The rest goes on, and a write that brings an fdatasync of its own. */
    assert_int_equal(one(f, DISK_WRITE, 0, 8, true, false, "WS"), 0);
    assert_int_equal(one(f, DISK_WRITE, 8, 8, false, false, "W"), 0);
    assert_int_equal(one(f, DISK_READ, 8, 8, false, false, "R"), 0);
    fake_close(f);
    /* It need not be a flush that finds it out. */
    for (int zero = 0; zero < 2; zero++) {
        fake_open(f, false, 1, (struct weather){ .sync = 100 });
        one(f, DISK_WRITE, 0, 8, false, false, "W");
        assert_int_equal(one(f, zero ? DISK_ZERO : DISK_WRITE, 8, 8, true, true, NULL), -EIO);
        f->w.sync = 0;
        assert_true(one(f, DISK_FLUSH, 0, 0, false, false, NULL) < 0);
        fake_close(f);
    }
}

/* Two flushes at once: the kernel tells of a failure once, and not whom one would think. */
static void a_failed_flush_fails_those_beside_it(void **state)
{
    struct fake *f = &fake;
    struct rig_slot *s[2];

    (void)state;
    fake_open(f, false, 1, (struct weather){ 0 });
    one(f, DISK_WRITE, 0, 8, false, false, "W");
    for (int i = 0; i < 2; i++)
        s[i] = rig_submit(&f->rig, DISK_FLUSH, 0, 0, false, false);
    f->w.sync = 100;
    fake_end_one(f);
    f->w.sync = 0;
    disk_drain(f->d);
    for (int i = 0; i < 2; i++)
        assert_true(s[i]->req.result < 0);
    fake_close(f);
}

/* Who comes while an fdatasync is under way shares the next. */
static void one_fdatasync_does_for_many(void **state)
{
    struct fake *f = &fake;

    (void)state;
    fake_open(f, false, 1, (struct weather){ 0 });
    for (int i = 0; i < 5; i++)
        assert_non_null(rig_submit(&f->rig, DISK_FLUSH, 0, 0, false, false));
    assert_string_equal(f->log, "S");
    for (int i = 0; i < 5; i++)
        rig_submit(&f->rig, DISK_WRITE, (uint32_t)i * 8, 8, true, false);
    disk_drain(f->d);
    assert_int_equal(f->rig.done[DISK_FLUSH] + f->rig.done[DISK_WRITE], 10);
    assert_in_range(f->calls, 5 + 2, 5 + 7);
    /* One that is broken off is made again for all of them. */
    f->w.again = 50;
    for (int i = 0; i < 5; i++)
        rig_submit(&f->rig, DISK_FLUSH, 0, 0, false, false);
    disk_drain(f->d);
    assert_int_equal(f->rig.done[DISK_FLUSH], 10);
    assert_int_equal(f->rig.failed, 0);
    fake_close(f);
}

/* A call that the kernel breaks off for ever ends all the same. */
static void patience_ends(void **state)
{
    struct fake *f = &fake;

    (void)state;
    for (enum disk_op op = DISK_READ; op <= DISK_ZERO; op++) {
        fake_open(f, false, op + 1, (struct weather){ .now = op % 2 ? 100 : 0, .again = 100 });
        alarm(20);
        struct rig_slot *s = rig_submit(&f->rig, op, 0, op == DISK_FLUSH ? 0 : 8, false, false);

        assert_non_null(s);
        disk_drain(f->d);
        alarm(0);
        assert_true(s->req.result < 0);
        fake_close(f);
    }
}

static void a_read_only_disk_is_only_read(void **state)
{
    struct fake *f = &fake;

    (void)state;
    fake_open(f, false, 1, (struct weather){ 0 });
    f->d->image.read_only = true;
    for (int unmap = 0; unmap < 2; unmap++) {
        assert_int_equal(one(f, DISK_WRITE, 0, 8, unmap, false, ""), -EROFS);
        assert_int_equal(one(f, DISK_ZERO, 0, 8, unmap, unmap, ""), -EROFS);
        assert_int_equal(one(f, DISK_DISCARD, 0, 8, unmap, unmap, ""), -EROFS);
        assert_int_equal(one(f, DISK_FLUSH, 0, 0, unmap, false, ""), 0);
        assert_int_equal(one(f, DISK_READ, 0, SECTORS, unmap, false, "R"), 0);
    }
    fake_close(f);
}

static void nothing_takes_no_call(void **state)
{
    struct fake *f = &fake;

    (void)state;
    for (int overlay = 0; overlay < 2; overlay++) {
        fake_open(f, overlay, 1, (struct weather){ 0 });
        for (enum disk_op op = DISK_READ; op <= DISK_ZERO; op++)
            if (op != DISK_FLUSH) {
                assert_int_equal(one(f, op, 0, 0, false, false, ""), 0);
                assert_int_equal(one(f, op, SECTORS, 0, true, true, ""), 0);
            }
        fake_close(f);
    }
}

/* A read of an overlay is as many calls as there are runs, in order. */
static void reads_follow_the_map(void **state)
{
    struct fake *f = &fake;

    (void)state;
    fake_open(f, true, 1, (struct weather){ 0 });
    assert_int_equal(one(f, DISK_READ, 0, SECTORS, false, false, "R"), 0);
    one(f, DISK_WRITE, 10, 1, false, false, "W");
    one(f, DISK_DISCARD, 11, 9, false, false, "P");
    one(f, DISK_WRITE, 100, 64, false, false, "W");
    assert_int_equal(one(f, DISK_READ, 0, SECTORS, false, false, "RRRRR"), 0);
    assert_int_equal(one(f, DISK_READ, 10, 10, false, false, "R"), 0);
    assert_int_equal(one(f, DISK_READ, 9, 2, false, false, "RR"), 0);
    assert_int_equal(one(f, DISK_READ, 100, 64, false, false, "R"), 0);
    fake_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_a_wrong_byte),
        cmocka_unit_test(no_flush_lies),
        cmocka_unit_test(zeros_find_a_way),
        cmocka_unit_test(stable_writes_are_called_so),
        cmocka_unit_test(a_failed_flush_is_not_forgotten),
        cmocka_unit_test(a_failed_flush_fails_those_beside_it),
        cmocka_unit_test(one_fdatasync_does_for_many),
        cmocka_unit_test(patience_ends),
        cmocka_unit_test(a_read_only_disk_is_only_read),
        cmocka_unit_test(nothing_takes_no_call),
        cmocka_unit_test(reads_follow_the_map),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
