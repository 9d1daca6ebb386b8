/* Random requests against the model of blk_model.h, which reads the specification apart from the
 * device: the parser alone on what no driver would send, and the whole device against a model of
 * the disk. */
#include "tests/unit/blk_rig.h"
#include "virtio/blkreq.h"

/* --- the parser --------------------------------------------------------------------------- */

#define BYTES (16 + 16 * (MODEL_RANGES + 4))

/* Sectors around the edges of a disk of n. */
static uint64_t some_sector(struct rng *r, uint64_t n)
{
    static const uint64_t edges[] = { 0,         UINT64_MAX,          UINT64_MAX / 512,
                                      INT64_MAX, UINT64_C(1) << 55,   UINT32_MAX,
                                      1UL << 32, UINT64_MAX / 512 + 1 };

    switch (rng_below(r, 8)) {
    case 0:
        return edges[rng_below(r, ARRAY_LEN(edges))];
    case 1:
        return rng_next(r);
    case 2:
    case 3:
        return n - rng_below(r, 20) + rng_below(r, 4);
    default:
        return rng_below(r, n);
    }
}

static uint32_t some_type(struct rng *r)
{
    static const uint32_t types[] = { T_IN, T_OUT, T_FLUSH, T_GET_ID, T_DISCARD, T_ZEROES };

    return rng_chance(r, 90)   ? types[rng_below(r, ARRAY_LEN(types))]
           : rng_chance(r, 80) ? (uint32_t)rng_below(r, 20)
                               : (uint32_t)rng_next(r);
}

/* Bytes of data for the type: right, mostly. */
static uint64_t some_length(struct rng *r, uint32_t type)
{
    if (rng_chance(r, 8))
        return rng_below(r, 70);
    switch (type) {
    case T_FLUSH:
        return 0;
    case T_GET_ID:
        return 20;
    case T_DISCARD:
    case T_ZEROES:
        return 16 * rng_below(r, rng_chance(r, 90) ? 5 : MODEL_RANGES + 4);
    default:
        return 512 * rng_below(r, 20) + (rng_chance(r, 3) ? 1 : 0);
    }
}

static uint32_t some_sectors(struct rng *r, uint32_t most)
{
    switch (rng_below(r, 12)) {
    case 0:
        return most + 1 - (uint32_t)rng_below(r, 3);
    case 1:
        return (uint32_t)rng_next(r);
    case 2:
        return 0;
    default:
        return 1 + (uint32_t)rng_below(r, 10);
    }
}

static void put_range(struct rng *r, uint8_t *p, const struct blk_model *m, uint32_t type)
{
    uint64_t sector = some_sector(r, m->sectors);
    uint32_t n = some_sectors(r, type == T_ZEROES ? m->max_zeroes : m->max_discard);
    uint32_t flags = type == T_ZEROES && rng_chance(r, 50);

    if (rng_chance(r, 6))
        flags = rng_chance(r, 50) ? (uint32_t)rng_below(r, 4) : (uint32_t)rng_next(r);

    if (rng_chance(r, 90) && m->sectors > 40) {
        sector = rng_below(r, m->sectors - 20);
        n = 1 + (uint32_t)rng_below(r, 20);
    }
    memcpy(p, &sector, 8);
    memcpy(p + 8, &n, 4);
    memcpy(p + 12, &flags, 4);
}

/* Cuts [p, p + n) into iovecs, none of them empty; how many. */
static unsigned cut_up(struct rng *r, uint8_t *p, uint64_t n, struct iovec *iov)
{
    unsigned k = 0;

    while (n) {
        uint64_t piece = rng_chance(r, 50) ? n : 1 + rng_below(r, n);

        iov[k++] = (struct iovec){ p, piece };
        p += piece;
        n -= piece;
    }
    return k;
}

static void judge(struct rng *r, const struct blk_model *m, unsigned *seen)
{
    static uint8_t buf[1 << 16];
    struct iovec in[256], out[256];
    uint32_t type = some_type(r);
    uint64_t sector = some_sector(r, m->sectors), len = some_length(r, type);
    bool reads = type == T_IN || type == T_GET_ID;
    uint64_t readable = 16 + (reads ? 0 : len), writable = 1 + (reads ? len : 0);

    rng_fill(r, buf, BYTES);
    memcpy(buf, &type, 4);
    memcpy(buf + 8, &sector, 8);
    for (unsigned i = 0; type >= T_DISCARD && i < MODEL_RANGES + 4; i++)
        put_range(r, buf + 16 + 16UL * i, m, type);
    if (rng_chance(r, 3)) /* too short, or of the wrong kind */
        readable = rng_below(r, 40);
    if (rng_chance(r, 3))
        writable = rng_below(r, 3);
    struct blk_want w = blk_judge(m, buf, readable, writable);
    struct chain c = { .writable = (uint32_t)writable };
    struct blk_ask a;
    const char *why = NULL;

    cursor_init(&c.r, out, cut_up(r, buf, readable, out));
    cursor_init(&c.w, in, cut_up(r, buf + sizeof buf / 2, writable, in));
    int got = blk_parse(m->sectors * 512, m->read_only, &c, &a, &why);

    if (w.broken) {
        assert_int_equal(got, -EPROTO);
        assert_non_null(why);
        seen[3]++;
        return;
    }
    if (got < 0 || got > S_UNSUPP || !(w.statuses >> got & 1))
        fail_msg("type %u sector 0x%jx, %ju readable, %ju writable: %d, not of 0x%x", type,
                 (uintmax_t)sector, (uintmax_t)readable, (uintmax_t)writable, got, w.statuses);
    seen[got]++;
    if (got)
        return;
    assert_int_equal(a.type, type);
    if (type == T_IN || type == T_OUT) {
        assert_true(a.off == sector * 512 && a.len == w.data && a.n_segments == 0);
        assert_int_equal(cursor_left(type == T_IN ? &c.w : &c.r), w.data + (type == T_IN));
    }
    if (type >= T_DISCARD)
        assert_int_equal(a.n_segments, w.n);
    for (unsigned i = 0; i < w.n; i++) {
        assert_true(a.segment[i].off == w.range[i].sector * 512);
        assert_true(a.segment[i].len == w.range[i].sectors * UINT64_C(512));
        assert_int_equal(a.segment[i].unmap, w.range[i].flags & 1);
    }
}

static void the_parser_agrees_with_the_model(void **state)
{
    unsigned seen[4] = { 0 };

    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct rng r = { seed };
        struct rig *g = rig_new();

        rig_make(g);
        struct blk_model m = rig_model(g);

        rig_free(g);
        m.read_only = seed % 5 == 0;
        m.sectors = seed % 3 == 0   ? 1 + rng_below(&r, 100)
                    : seed % 3 == 1 ? 4096
                                    : rng_next(&r) >> 10;
        for (unsigned i = 0; i < 4000; i++)
            judge(&r, &m, seen);
    }
    /* The randomness is of the useful kind. */
    print_message("# %u ok, %u errors, %u unsupported, %u broken\n", seen[0], seen[1], seen[2],
                  seen[3]);
    for (unsigned i = 0; i < 4; i++)
        assert_true(seen[i] > 2000);
}

/* --- the device --------------------------------------------------------------------------- */

/* What was offered: the model's judgement, and where the guest put it. */
struct offer {
    struct blk_want want;
    uint64_t gpa[2]; /* of the readable and the writable part, each of a piece */
    uint64_t len[2];
    bool out;
};

struct play {
    struct rng rng;
    struct rig *g;
    struct blk_model m;
    uint8_t *model; /* the disk as it must be */
    struct offer offer[BLK_QMAX];
    unsigned held, answered[3];
    bool in_order; /* the host ends calls at once */
};

/* Descriptors of one part, cut up at random; some of them empty. */
static unsigned cut_part(struct rng *r, struct part *p, unsigned room, uint64_t gpa, uint64_t len,
                         bool write)
{
    unsigned n = 0;

    while (len && n + 1 < room) {
        uint64_t piece = rng_chance(r, 40) ? len : rng_below(r, len + 1);

        p[n++] = (struct part){ gpa, (uint32_t)piece, write };
        gpa += piece;
        len -= piece;
    }
    if (len)
        p[n++] = (struct part){ gpa, (uint32_t)len, write };
    return n;
}

/* A request from slot `head`. Where calls end in any order, it keeps to two sectors of its own. */
static void offer(struct play *z, unsigned head)
{
    struct rng *r = &z->rng;
    struct offer *o = &z->offer[head];
    struct part p[12];
    uint32_t type = some_type(r);
    uint64_t sector = some_sector(r, z->m.sectors), len = some_length(r, type);
    bool reads = type == T_IN || type == T_GET_ID;

    if (!z->in_order) {
        sector = 2 * head;
        len = type <= T_OUT ? 512 * (1 + rng_below(r, 2)) : type >= T_DISCARD ? 16 : len;
    }
    if (len > 8192)
        len = 8192;
    o->len[0] = 16 + (reads ? 0 : len);
    o->len[1] = 1 + (reads ? len : 0);
    if (rng_chance(r, 3)) /* in the wrong direction, too */
        o->len[1] += rng_below(r, 600);
    o->gpa[0] = rig_room(z->g, o->len[0]);
    o->gpa[1] = rig_room(z->g, o->len[1]);
    uint8_t *h = ram(&z->g->mem, o->gpa[0], o->len[0]);

    rng_fill(r, h, o->len[0]);
    memcpy(h, &type, 4);
    memcpy(h + 8, &sector, 8);
    for (uint64_t i = 16; type >= T_DISCARD && i + 16 <= o->len[0]; i += 16) {
        put_range(r, h + i, &z->m, type);
        if (!z->in_order)
            memcpy(h + i, &sector, 8), memcpy(h + i + 8, "\2\0\0\0", 4);
    }
    memset(ram(&z->g->mem, o->gpa[1], o->len[1]), 0xd7, o->len[1]);
    o->want = blk_judge(&z->m, h, o->len[0], o->len[1]);
    assert_false(o->want.broken);
    unsigned n = cut_part(r, p, 6, o->gpa[0], o->len[0], false);

    n += cut_part(r, p + n, 6, o->gpa[1], o->len[1], true);
    rig_chain(z->g, 0, head, p, n);
    o->out = true;
    z->held++;
}

/* What a request that was carried out leaves on the disk and in its buffers. */
static void check_done(struct play *z, const struct offer *o)
{
    static const uint8_t zeros[512];
    const struct blk_want *w = &o->want;
    const uint8_t *in = ram(&z->g->mem, o->gpa[1], o->len[1]);
    const uint8_t *out = ram(&z->g->mem, o->gpa[0], o->len[0]);
    uint8_t *at = z->model + (w->type <= T_OUT ? w->sector * 512 : 0);

    if (w->type == T_IN)
        assert_memory_equal(in, at, w->data);
    if (w->type == T_OUT)
        memcpy(at, out + 16, w->data);
    if (w->type == T_GET_ID)
        assert_memory_equal(in, "fake\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
    for (unsigned i = 0; w->type >= T_DISCARD && i < w->n; i++)
        for (uint32_t k = 0; k < w->range[i].sectors; k++)
            memcpy(z->model + (w->range[i].sector + k) * 512, zeros, 512);
}

/* One answer. */
static void check_answer(struct play *z, uint32_t id, uint32_t len, bool failed)
{
    struct offer *o = &z->offer[id];

    assert_in_range(id, 0, BLK_QMAX - 1);
    assert_true(o->out);
    o->out = false;
    z->held--;
    const uint8_t *in = ram(&z->g->mem, o->gpa[1], o->len[1]);
    uint8_t status = in[o->len[1] - 1];

    if (failed) {
        assert_int_equal(o->want.statuses, 1 << S_OK); /* it went to the host */
        assert_int_equal(status, S_IOERR);
    } else if (status > S_UNSUPP || !(o->want.statuses >> status & 1)) {
        fail_msg("type %u sector %ju: status %u", o->want.type, (uintmax_t)o->want.sector, status);
    }
    assert_int_equal(len, o->want.len);
    z->answered[status]++;
    if (status == S_OK)
        check_done(z, o);
    /* Nothing that was there before: zeros, or what the host had read until it failed. */
    for (uint64_t i = 0; status != S_OK && i + 1 < o->len[1]; i++)
        if (in[i] && (!failed || in[i] != z->model[o->want.sector * 512 + i]))
            fail_msg("byte %ju of %ju is 0x%02x", (uintmax_t)i, (uintmax_t)o->len[1], in[i]);
}

/* One at a time on the host, as many as may be in the ring; order is kept, so the model is exact.
 */
static void play_in_order(struct play *z, unsigned rounds)
{
    for (unsigned round = 0; round < rounds; round++) {
        unsigned n = 1 + (unsigned)rng_below(&z->rng, 9), stride = z->g->indirect ? 1 : 12;
        uint32_t id, len;

        for (unsigned i = 0; i < n; i++)
            offer(z, i * stride);
        rig_kick(z->g, 0);
        for (unsigned i = 0; i < n; i++) {
            assert_true(ring_take(&z->g->ring[0], &id, &len));
            assert_int_equal(id, i * stride);
            check_answer(z, id, len, false);
        }
        rig_nothing_used(z->g, 0);
        assert_memory_equal(z->model, z->g->host.store, z->g->host.size);
    }
    assert_int_equal(reg_read(&z->g->t, R_STATUS), 0xf);
}

static void play_init(struct play *z, uint64_t seed, uint64_t features, bool in_order)
{
    *z = (struct play){ .rng = { seed }, .g = rig_new(), .in_order = in_order };
    z->g->image.read_only = seed % 8 == 7;
    z->g->host.blocks = z->in_order && seed & 1;
    rig_make(z->g);
    rig_up(z->g, features);
    z->m = rig_model(z->g);
    z->model = malloc(z->g->host.size);
    assert_non_null(z->model);
    memcpy(z->model, z->g->host.store, z->g->host.size);
}

static void play_fini(struct play *z)
{
    free(z->model);
    rig_free(z->g);
}

static void requests_in_order_agree_with_the_model(void **state)
{
    static struct play z;
    unsigned all[3] = { 0 };

    (void)state;
    for (uint64_t seed = 0; seed < 16; seed++) {
        play_init(&z, seed,
                  (seed & 1 ? VIRTIO_F_INDIRECT_DESC : 0) | (seed & 2 ? VIRTIO_F_EVENT_IDX : 0) |
                      (seed & 4 ? F_FLUSH : 0),
                  true);
        z.g->host.most = seed % 3 == 2 ? 700 : 0;
        play_in_order(&z, 150);
        for (unsigned i = 0; i < 3; i++)
            all[i] += z.answered[i];
        play_fini(&z);
    }
    print_message("# %u ok, %u errors, %u unsupported\n", all[0], all[1], all[2]);
    assert_true(all[0] > 2000 && all[1] > 500 && all[2] > 200);
}

/* The guest's chain of a call under way: the one whose sectors it touches. */
static uint32_t head_of(const struct disk_io *io)
{
    return (uint32_t)(io->off / 1024);
}

/* Ends one call, as it should or with an error; the request of one that failed is named. */
static void end_some_call(struct play *z, bool *failed)
{
    struct host *h = &z->g->host;
    unsigned i = (unsigned)rng_below(&z->rng, h->n);
    const struct disk_io *io = h->call[i];

    /* A failed sync would end all flushes for good: another test. */
    if (rng_chance(&z->rng, 10) && io->op != IO_SYNC) {
        h->fail[io->op] = -EIO;
        failed[head_of(io)] = true;
    }
    h->most = rng_chance(&z->rng, 10) ? 512 : 0;
    host_end(z->g, i);
    memset(h->fail, 0, sizeof h->fail);
}

/* Calls end in any order, some fail or fall short; requests come in between. Each keeps to its
 * sectors, so the model is exact again. */
static void requests_out_of_order_agree_with_the_model(void **state)
{
    static struct play z;
    unsigned errors = 0, most = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        bool failed[BLK_QMAX] = { false };
        uint32_t id, len;

        play_init(&z, seed,
                  VIRTIO_F_INDIRECT_DESC | (seed & 2 ? VIRTIO_F_EVENT_IDX : 0) |
                      (seed % 3 ? F_FLUSH : 0),
                  false);
        z.g->host.later = true;
        for (unsigned step = 0; step < 3000; step++) {
            unsigned head = (unsigned)rng_below(&z.rng, BLK_QMAX);

            if (!z.offer[head].out) {
                offer(&z, head);
                ring_publish(&z.g->ring[0]);
            }
            if (rng_chance(&z.rng, 30))
                rig_kick(z.g, 0);
            while (z.g->host.n && rng_chance(&z.rng, step / 300 % 2 ? 60 : 30))
                end_some_call(&z, failed);
            if (rng_chance(&z.rng, 50))
                host_batch(z.g);
            most = z.g->host.n > most ? z.g->host.n : most;
            while (ring_take(&z.g->ring[0], &id, &len)) {
                errors += failed[id];
                check_answer(&z, id, len, failed[id]);
                if (failed[id]) /* in part, perhaps: the model takes over what is there */
                    memcpy(z.model + 1024UL * id, z.g->host.store + 1024UL * id, 1024);
                failed[id] = false;
            }
            z.g->host.logged = 0;
        }
        rig_kick(z.g, 0);
        while (z.g->host.n)
            host_end(z.g, 0);
        host_batch(z.g);
        while (ring_take(&z.g->ring[0], &id, &len)) {
            check_answer(&z, id, len, failed[id]);
            if (failed[id])
                memcpy(z.model + 1024UL * id, z.g->host.store + 1024UL * id, 1024);
        }
        assert_int_equal(z.held, 0);
        assert_memory_equal(z.model, z.g->host.store, z.g->host.size);
        play_fini(&z);
    }
    print_message("# %u failed on the host, %u in flight at most\n", errors, most);
    assert_true(errors > 100 && most > 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_parser_agrees_with_the_model),
        cmocka_unit_test(requests_in_order_agree_with_the_model),
        cmocka_unit_test(requests_out_of_order_agree_with_the_model),
    };

    return cmocka_run_group_tests(tests, rig_group_setup, NULL);
}
