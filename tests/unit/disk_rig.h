/* Random requests on a disk, and a judge of what comes back.
 *
 * What a sector holds is told by a stamp: every write has a number, and fills each of its sectors
 * with bytes made of that number and the sector's own. So one number a sector models the disk to
 * the byte: half a sector, a sector of another place, an old one are all seen. Number 0 is zeros.
 *
 * Requests in flight overlap as a guest's may: reads with anything, and writers (writes, discards,
 * zeros) never with each other. What a read finds where a writer was at work meanwhile is not
 * judged, unless the engine's side knows better (rig.untouched).
 */
#ifndef MAYFLY_TESTS_DISK_RIG_H
#define MAYFLY_TESTS_DISK_RIG_H

#include <stdlib.h>

#include "core/num.h"
#include "host/disk.h"
#include "tests/unit/unit.h"

#define RIG_SECTORS 4096 /* of the largest disk */
#define RIG_SLOTS   32   /* requests in flight */
#define RIG_IOVS    24
#define RIG_ANY     UINT32_MAX /* no stamp: what it holds is not known */

struct rig_slot {
    struct disk_req req;
    bool busy;
    /* What was asked. */
    enum disk_op op;
    bool stable;
    uint32_t first, n; /* sectors */
    uint32_t id;       /* of what a writer writes */
    struct iovec iov[RIG_IOVS], asked[RIG_IOVS];
    unsigned iov_n;
    uint32_t old[RIG_SECTORS]; /* READ: what it should find... */
    bool racy[RIG_SECTORS];    /* ...unless a writer came by */
    /* Of the engine's side. */
    int error;    /* that it made: the request's result, and its end */
    bool excused; /* it made something that may fail the request */
    bool zeroed;  /* DISCARD: the range is zeros now */
};

struct rig {
    struct disk *d;
    struct rng rng;
    uint32_t sectors, next_id;
    unsigned stable; /* percent of requests that ask for it */
    unsigned block;  /* in sectors: ranges, and buffers' lengths and places, are multiples of it */
    uint32_t now[RIG_SECTORS];
    bool writer[RIG_SECTORS];
    unsigned busy, batches;
    unsigned done[DISK_ZERO + 1], failed;
    bool read_only;
    struct rig_slot slot[RIG_SLOTS];
    /* The engine's side, or NULL. */
    void (*submitted)(struct rig *r, struct rig_slot *s);
    void (*judge)(struct rig *r, struct rig_slot *s);  /* instead of "it succeeded" */
    uint32_t (*peek)(struct rig *r, uint32_t sector);  /* after a failure: what is there? */
    bool (*untouched)(struct rig *r, uint32_t sector); /* by writers that are not done, either */
    void *arg;
};

/* --- stamps --------------------------------------------------------------------------------- */

static inline void stamp(uint32_t id, uint32_t sector, uint8_t *out)
{
    struct rng r = { (uint64_t)id << 32 | sector };
    uint32_t head[2] = { id, sector };

    memset(out, 0, IMAGE_SECTOR);
    if (!id)
        return;
    rng_fill(&r, out, IMAGE_SECTOR);
    memcpy(out, head, sizeof head);
}

/* The number of what lies in p, RIG_ANY when it is no stamp of that sector's. */
static inline uint32_t stamp_read(const uint8_t *p, uint32_t sector)
{
    uint8_t want[IMAGE_SECTOR];
    uint32_t id;

    memcpy(&id, p, sizeof id);
    stamp(id, sector, want);
    return memcmp(p, want, IMAGE_SECTOR) == 0 ? id : RIG_ANY;
}

/* --- buffers -------------------------------------------------------------------------------- */

/* A length that cuts a request somewhere, inside a sector too. */
static inline size_t rig_cut(struct rig *r, size_t left)
{
    static const size_t edge[] = { 0, 1, 511, 512, 513, 1024, 4095, 4096, 4097 };
    size_t n = rng_chance(&r->rng, 50) ? edge[rng_below(&r->rng, ARRAY_LEN(edge))]
                                       : rng_below(&r->rng, left + 1);

    if (r->block > 1)
        n = (n / IMAGE_SECTOR / r->block + 1) * r->block * IMAGE_SECTOR;
    return min_size(n, left);
}

/* Each buffer is an allocation of its own, so that the sanitizer sees what goes beyond. */
static inline void rig_buffers(struct rig *r, struct rig_slot *s, size_t left)
{
    unsigned max = 1 + (unsigned)rng_below(&r->rng, RIG_IOVS);

    for (s->iov_n = 0; left; s->iov_n++) {
        size_t n = s->iov_n + 1 == max ? left : rig_cut(r, left);
        void *p = NULL;

        if (r->block > 1 || rng_chance(&r->rng, 50))
            assert_int_equal(posix_memalign(&p, 4096, n), 0);
        else
            p = malloc(n);
        assert_non_null(p);
        s->iov[s->iov_n] = s->asked[s->iov_n] = (struct iovec){ p, n };
        left -= n;
    }
}

/* Buffers to one piece of memory or back. */
static inline void rig_copy(const struct rig_slot *s, uint8_t *flat, bool to_flat)
{
    for (unsigned i = 0; i < s->iov_n; i++) {
        const struct iovec *v = &s->asked[i];

        if (to_flat)
            memcpy(flat, v->iov_base, v->iov_len);
        else
            memcpy(v->iov_base, flat, v->iov_len);
        flat += v->iov_len;
    }
}

/* --- requests ------------------------------------------------------------------------------- */

static inline bool rig_writes(enum disk_op op)
{
    return op == DISK_WRITE || op == DISK_DISCARD || op == DISK_ZERO;
}

static inline void rig_judge_read(struct rig *r, const struct rig_slot *s)
{
    uint8_t *flat = malloc((size_t)s->n * IMAGE_SECTOR);

    assert_non_null(flat);
    rig_copy(s, flat, true);
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t sector = s->first + i, got = stamp_read(flat + (size_t)i * IMAGE_SECTOR, sector);

        if (s->old[i] == RIG_ANY || (s->racy[i] && !(r->untouched && r->untouched(r, sector))))
            continue;
        if (got != s->old[i])
            fail_msg("sector %u, %u of a read of %u: it holds %#x, not %#x", sector, i, s->n, got,
                     s->old[i]);
    }
    free(flat);
}

static inline void rig_judge_writer(struct rig *r, const struct rig_slot *s)
{
    bool nothing = s->op == DISK_DISCARD && !(r->judge ? s->zeroed : !r->d->no_punch);

    for (uint32_t i = s->first; i < s->first + s->n; i++) {
        r->writer[i] = false;
        if (s->req.result)
            r->now[i] = r->peek ? r->peek(r, i) : RIG_ANY;
        else if (!nothing)
            r->now[i] = s->id;
    }
}

static inline void rig_done(void *arg, struct disk_req *req)
{
    struct rig *r = arg;
    struct rig_slot *s = CONTAINER_OF(req, struct rig_slot, req);

    assert_true(s->busy); /* once, and only what was asked for */
    assert_true(req->result <= 0);
    if (r->judge)
        r->judge(r, s);
    else if (req->result)
        fail_msg("request %d at %u + %u: %s", s->op, s->first, s->n, strerror(-req->result));
    if (s->op == DISK_READ && !req->result)
        rig_judge_read(r, s);
    if (rig_writes(s->op))
        rig_judge_writer(r, s);
    for (unsigned i = 0; i < s->iov_n; i++)
        free(s->asked[i].iov_base);
    r->done[s->op]++;
    r->failed += req->result != 0;
    s->busy = false;
    r->busy--;
}

static inline void rig_batch(void *arg)
{
    ((struct rig *)arg)->batches++;
}

static inline void rig_prepare_data(struct rig *r, struct rig_slot *s)
{
    size_t len = (size_t)s->n * IMAGE_SECTOR;

    rig_buffers(r, s, len);
    if (s->op == DISK_READ) {
        for (uint32_t i = 0; i < s->n; i++) {
            s->old[i] = r->now[s->first + i];
            s->racy[i] = r->writer[s->first + i];
        }
        for (unsigned i = 0; i < s->iov_n; i++)
            memset(s->asked[i].iov_base, 0xa5, s->asked[i].iov_len);
        return;
    }
    uint8_t *flat = malloc(len);

    assert_non_null(flat);
    for (uint32_t i = 0; i < s->n; i++)
        stamp(s->id, s->first + i, flat + (size_t)i * IMAGE_SECTOR);
    rig_copy(s, flat, false);
    free(flat);
}

/* The readers in flight, and the map, hear of a writer. */
static inline void rig_prepare_writer(struct rig *r, const struct rig_slot *w)
{
    for (uint32_t at = w->first; at < w->first + w->n; at++) {
        r->writer[at] = true;
        for (unsigned i = 0; i < RIG_SLOTS; i++) {
            struct rig_slot *s = &r->slot[i];

            if (s->busy && s->op == DISK_READ && at >= s->first && at - s->first < s->n)
                s->racy[at - s->first] = true;
        }
    }
}

/* Whether a writer may be let loose on these sectors. */
static inline bool rig_free(const struct rig *r, uint32_t first, uint32_t n)
{
    for (uint32_t i = first; i < first + n; i++)
        if (r->writer[i])
            return false;
    return true;
}

/* Submits one request; NULL: no slot is free, or the sectors aren't. The slot it had may be free
 * again when this returns. */
static inline struct rig_slot *rig_submit(struct rig *r, enum disk_op op, uint32_t first,
                                          uint32_t n, bool stable, bool unmap)
{
    struct rig_slot *s = NULL;

    for (unsigned i = 0; i < RIG_SLOTS && !s; i++)
        if (!r->slot[i].busy)
            s = &r->slot[i];
    if (!s || (rig_writes(op) && !rig_free(r, first, n)))
        return NULL;
    s->op = op;
    s->first = first;
    s->n = n;
    s->stable = stable;
    s->id = op == DISK_WRITE ? r->next_id++ : 0;
    s->iov_n = 0;
    s->error = 0;
    s->excused = s->zeroed = false;
    if (op == DISK_READ || op == DISK_WRITE)
        rig_prepare_data(r, s);
    if (rig_writes(op))
        rig_prepare_writer(r, s);
    memset(&s->req, 0x5a, sizeof s->req); /* the disk's own part is the disk's to set */
    s->req.op = op;
    s->req.stable = stable;
    s->req.unmap = unmap;
    s->req.off = (uint64_t)first * IMAGE_SECTOR;
    s->req.len = (uint64_t)n * IMAGE_SECTOR;
    s->req.iov = s->iov;
    s->req.iov_n = s->iov_n;
    s->busy = true;
    r->busy++;
    if (r->submitted)
        r->submitted(r, s);
    disk_submit(r->d, &s->req);
    return s;
}

static inline enum disk_op rig_pick_op(struct rig *r)
{
    static const enum disk_op ops[] = { DISK_READ,  DISK_READ,  DISK_READ,  DISK_READ,
                                        DISK_READ,  DISK_WRITE, DISK_WRITE, DISK_WRITE,
                                        DISK_WRITE, DISK_WRITE, DISK_FLUSH, DISK_DISCARD,
                                        DISK_ZERO };

    return ops[rng_below(&r->rng, ARRAY_LEN(ops))];
}

/* Any request; false when there was no place for this one. */
static inline bool rig_submit_any(struct rig *r)
{
    enum disk_op op = rig_pick_op(r);
    uint32_t blocks = r->sectors / r->block;
    uint32_t max = rng_chance(&r->rng, 4) ? blocks : 40, first = 0, n = 0;

    if (op != DISK_FLUSH) {
        first = (uint32_t)rng_below(&r->rng, blocks);
        n = 1 + (uint32_t)rng_below(&r->rng, min_u64(max, blocks - first));
    }
    return rig_submit(r, op, first * r->block, n * r->block, rng_chance(&r->rng, r->stable),
                      rng_chance(&r->rng, 50)) != NULL;
}

/* For a disk of that many sectors that hold the stamps of id. */
static inline void rig_init(struct rig *r, struct disk *d, uint32_t sectors, uint32_t id,
                            uint64_t seed)
{
    memset(r, 0, sizeof *r);
    r->d = d;
    r->rng.s = seed;
    r->sectors = sectors;
    r->next_id = id + 1;
    r->stable = 20;
    r->block = 1;
    for (uint32_t i = 0; i < sectors; i++)
        r->now[i] = id;
    d->done = rig_done;
    d->batch = rig_batch;
    d->arg = r;
}

#endif
