/* The block device: its configuration, every request and status, errors of the host, and drivers
 * that break it. */
#include "tests/unit/blk_rig.h"

#include <stdio.h>

/* --- what it says of itself --------------------------------------------------------------- */

static uint64_t config(const struct rig *g, unsigned off, unsigned n)
{
    uint8_t p[8];

    assert_in_range(n, 1, 8);
    virtio_read_config(g->dev, off, p, n);
    return model_le(p, n);
}

static void configuration_space(void **state)
{
    static const struct {
        uint64_t size;
        uint32_t block, physical;
        unsigned exp, min_io; /* 5.2.4: in blocks */
    } images[] = {
        { 512, 512, 512, 0, 1 },
        { 1 * MIB, 512, 4096, 3, 8 },
        { 5 * GIB + 4096, 4096, 4096, 0, 1 },
        { 6000 * GIB, 512, 65536, 7, 128 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(images); i++) {
        struct rig *g = rig_new();

        g->image.size = images[i].size;
        g->image.block = images[i].block;
        g->image.physical = images[i].physical;
        rig_make(g);
        assert_int_equal(reg_read(&g->t, R_DEVICE), 2);
        assert_true(config(g, 0, 8) == images[i].size / 512);
        assert_int_equal(config(g, 8, 4), MODEL_DATA / BLK_QMAX); /* size_max */
        assert_int_equal(config(g, 12, 4), 126); /* seg_max: the queue, but for two */
        assert_int_equal(config(g, 16, 4), 0);   /* no geometry */
        assert_int_equal(config(g, 20, 4), images[i].block);
        assert_int_equal(config(g, 24, 1), images[i].exp);
        assert_int_equal(config(g, 25, 1), 0);
        assert_int_equal(config(g, 26, 2), images[i].min_io);
        assert_int_equal(config(g, 28, 4), 0);
        assert_int_equal(config(g, 34, 2), 1);
        assert_true(config(g, 36, 4) > 0);
        assert_int_equal(config(g, 40, 4), MODEL_RANGES);
        assert_true(config(g, 44, 4) > 0);
        assert_int_equal(config(g, 44, 4) % (images[i].block / 512), 0);
        assert_true(config(g, 48, 4) > 0);
        assert_int_equal(config(g, 52, 4), MODEL_RANGES);
        assert_int_equal(config(g, 56, 1), 1);
        assert_int_equal(config(g, 60, 4), 0); /* the end */
        rig_free(g);
    }
}

static void features(void **state)
{
    const uint64_t all = F_SIZE_MAX | F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY |
                         VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct rig *g = rig_new();

        g->image.read_only = i & 1;
        g->opts.queues = i & 2 ? 3 : 1;
        rig_make(g);
        assert_true(virtio_offered(g->dev) ==
                    (all | (i & 1 ? F_RO : F_DISCARD | F_WRITE_ZEROES) | (i & 2 ? F_MQ : 0)));
        assert_int_equal(config(g, 34, 2), i & 2 ? 3 : 1);
        if (i & 1) {
            assert_int_equal(config(g, 36, 4), 0);
            assert_int_equal(config(g, 48, 4), 0);
        }
        for (unsigned q = 0; q < 4; q++) {
            reg_write(&g->t, R_QUEUE_SEL, q);
            assert_int_equal(reg_read(&g->t, R_QUEUE_NUM_MAX), q < (i & 2 ? 3U : 1U) ? 128 : 0);
        }
        rig_free(g);
    }
}

/* --- requests ----------------------------------------------------------------------------- */

static void reads_and_writes(void **state)
{
    static const uint64_t combos[] = { 0, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX,
                                       VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | F_FLUSH };
    uint8_t buf[8 * 512], old[8 * 512];
    struct rng r = { 3 };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(combos); i++) {
        struct rig *g = rig_new();

        g->host.blocks = i % 2;
        rig_make(g);
        rig_up(g, combos[i]);
        memcpy(old, g->host.store + 40 * 512, sizeof old);
        assert_int_equal(rig_do(g, T_IN, 40, buf, sizeof buf, sizeof buf + 1), S_OK);
        assert_memory_equal(buf, old, sizeof buf);
        rng_fill(&r, buf, sizeof buf);
        assert_int_equal(rig_do(g, T_OUT, 41, buf, 512, 1), S_OK);
        assert_memory_equal(g->host.store + 41 * 512, buf, 512);
        assert_memory_equal(g->host.store + 40 * 512, old, 512);
        assert_memory_equal(g->host.store + 42 * 512, old + 2 * 512, 512);
        /* The last sectors, and the whole disk. */
        assert_int_equal(rig_do(g, T_OUT, RIG_SECTORS - 8, buf, sizeof buf, 1), S_OK);
        assert_memory_equal(g->host.store + (RIG_SECTORS - 8) * 512, buf, sizeof buf);
        assert_int_equal(rig_do(g, T_IN, 0, NULL, RIG_SECTORS * 512, RIG_SECTORS * 512 + 1), S_OK);
        rig_free(g);
    }
}

static void names(void **state)
{
    static const struct {
        const char *id, want[20];
    } rows[] = { { "", "" },
                 { "root", "root" },
                 { "exactly-20-bytes-abc", "exactly-20-bytes-abc" } };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rig *g = rig_new();
        char got[20];

        g->opts.id = rows[i].id;
        rig_make(g);
        rig_up(g, 0);
        assert_int_equal(rig_do(g, T_GET_ID, 9, got, 20, 21), S_OK);
        assert_memory_equal(got, rows[i].want, 20);
        assert_int_equal(rig_do(g, T_GET_ID, 0, got, 19, 20), S_IOERR);
        assert_int_equal(rig_do(g, T_GET_ID, 0, got, 20, 21), S_OK);
        rig_free(g);
    }
}

struct range {
    uint64_t sector;
    uint32_t sectors, flags;
};

static void zeros_and_discards(void **state)
{
    struct range r[] = { { 8, 4, 1 }, { 30, 0, 0 }, { 100, 1, 0 } };
    struct rig *g = rig_start(F_FLUSH);
    static const uint8_t zeros[4 * 512];
    uint8_t last[512];

    (void)state;
    memcpy(last, g->host.store + 12 * 512, 512);
    assert_int_equal(rig_do(g, T_ZEROES, 0, r, sizeof r, 1), S_OK);
    assert_memory_equal(g->host.store + 8 * 512, zeros, 4 * 512);
    assert_memory_equal(g->host.store + 100 * 512, zeros, 512);
    assert_memory_equal(g->host.store + 12 * 512, last, 512);
    /* What may be unmapped is punched, what may not keeps its room. */
    assert_int_equal(host_count(g, IO_PUNCH), 1);
    assert_int_equal(host_count(g, IO_ZERO), 1);
    assert_int_equal(g->host.log[0].op, IO_PUNCH);
    assert_int_equal(g->host.log[0].off, 8 * 512);
    assert_int_equal(g->host.log[0].len, 4 * 512);
    assert_int_equal(g->host.log[1].off, 100 * 512);
    host_forget(g);
    r[0].flags = 0;
    assert_int_equal(rig_do(g, T_DISCARD, 7, r, sizeof r, 1), S_OK);
    assert_int_equal(host_count(g, IO_PUNCH), 2);
    assert_int_equal(g->host.logged, 2);
    /* Nothing at all to do is done. */
    assert_int_equal(rig_do(g, T_DISCARD, 0, r + 1, sizeof r[1], 1), S_OK);
    rig_free(g);
}

/* As many ranges as there may be, and each of them: the one in the middle is the bad one. */
static void sixteen_ranges(void **state)
{
    struct rig *g = rig_start(F_FLUSH);
    struct range r[MODEL_RANGES + 1];

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(r); i++)
        r[i] = (struct range){ 2 * i, 1, 0 };
    assert_int_equal(rig_do(g, T_DISCARD, 0, r, 16 * MODEL_RANGES, 1), S_OK);
    assert_int_equal(host_count(g, IO_PUNCH), MODEL_RANGES);
    for (unsigned i = 0; i < MODEL_RANGES; i++)
        assert_int_equal(g->host.log[i].off, 1024 * i);
    host_forget(g);
    assert_int_equal(rig_do(g, T_DISCARD, 0, r, 16 * (MODEL_RANGES + 1), 1), S_IOERR);
    r[7].sector = RIG_SECTORS;
    assert_int_equal(rig_do(g, T_DISCARD, 0, r, 16 * MODEL_RANGES, 1), S_IOERR);
    r[7] = (struct range){ 0, 1, 1 };
    assert_int_equal(rig_do(g, T_DISCARD, 0, r, 16 * MODEL_RANGES, 1), S_UNSUPP);
    /* What can be seen to be wrong is found before anything is done. */
    assert_int_equal(g->host.logged, 0);
    rig_free(g);
}

static void ranges_of_the_largest_size(void **state)
{
    struct rig *g = rig_new();
    struct range r = { 8, 0, 0 };

    (void)state;
    g->image.size = 1024 * GIB;
    g->host.size = g->image.size;
    g->host.later = true; /* nothing is carried out */
    rig_make(g);
    rig_up(g, F_FLUSH);
    struct blk_model m = rig_model(g);

    assert_true(m.max_discard < UINT32_MAX && m.max_zeroes < UINT32_MAX);
    r.sectors = m.max_discard + 1;
    assert_int_equal(rig_do(g, T_DISCARD, 0, &r, sizeof r, 1), S_IOERR);
    r.sectors = m.max_zeroes + 1;
    assert_int_equal(rig_do(g, T_ZEROES, 0, &r, sizeof r, 1), S_IOERR);
    assert_int_equal(g->host.logged, 0);
    r.sectors = m.max_discard;
    rig_put(g, 0, 0, T_DISCARD, 0, &r, sizeof r);
    rig_kick(g, 0);
    assert_int_equal(g->host.n, 1);
    assert_true(g->host.call[0]->len == m.max_discard * UINT64_C(512));
    g->host.fail[IO_PUNCH] = -EIO;
    host_end(g, 0);
    host_batch(g);
    rig_used(g, 0, 0, 1);
    rig_free(g);
}

/* 8 MiB go, a sector more does not: on a disk that is large enough. */
static void the_largest_request(void **state)
{
    struct rig *g = rig_new();
    struct part p[12];
    uint64_t data, header, status;

    (void)state;
    g->image.size = g->host.size = 1 * GIB;
    g->host.later = true;
    rig_make(g);
    rig_up(g, VIRTIO_F_INDIRECT_DESC);
    data = rig_room(g, 1 * MIB);
    header = rig_room(g, 16);
    status = rig_room(g, 1);
    memset(ram(&g->mem, header, 16), 0, 16);
    p[0] = (struct part){ header, 16, false };
    for (unsigned i = 1; i <= 8; i++) /* the same room, over and over */
        p[i] = (struct part){ data, 1 * MIB, true };
    p[9] = (struct part){ status, 1, true };
    rig_chain(g, 0, 0, p, 10);
    rig_kick(g, 0);
    assert_int_equal(g->host.n, 1);
    assert_true(g->host.call[0]->len == MODEL_DATA);
    g->host.fail[IO_READ] = -EIO;
    host_end(g, 0);
    host_batch(g);
    rig_used(g, 0, 0, MODEL_DATA + 1);
    p[10] = p[9];
    p[9] = (struct part){ data, 512, true };
    memset(ram(&g->mem, data, 1 * MIB), 0x55, 1 * MIB);
    rig_chain(g, 0, 0, p, 11);
    rig_kick(g, 0);
    assert_int_equal(g->host.n, 0);
    rig_used(g, 0, 0, MODEL_DATA);
    assert_int_equal(*(uint8_t *)ram(&g->mem, status, 1), S_IOERR);
    assert_int_equal(*(uint8_t *)ram(&g->mem, data + 1 * MIB - 1, 1), 0);
    rig_free(g);
}

/* --- stable storage ----------------------------------------------------------------------- */

/* The last call was a sync, and there was something before it. */
static void ends_in_a_sync(struct rig *g)
{
    assert_int_equal(host_count(g, IO_SYNC), 1);
    assert_true(g->host.logged > 1);
    assert_int_equal(g->host.log[g->host.logged - 1].op, IO_SYNC);
    host_forget(g);
}

/* A driver that knows no flush: what is answered is on stable storage. */
static void write_through(void **state)
{
    struct range r = { 8, 4, 1 };
    struct rig *g = rig_start(0);
    uint8_t buf[1024] = { 1 };

    (void)state;
    assert_int_equal(rig_do(g, T_OUT, 5, buf, sizeof buf, 1), S_OK);
    ends_in_a_sync(g);
    for (unsigned i = 0; i < 3; i++) {
        r.flags = i == 0;
        assert_int_equal(rig_do(g, i < 2 ? T_ZEROES : T_DISCARD, 0, &r, sizeof r, 1), S_OK);
        ends_in_a_sync(g);
    }
    assert_int_equal(rig_do(g, T_IN, 5, buf, sizeof buf, sizeof buf + 1), S_OK);
    assert_int_equal(host_count(g, IO_SYNC), 0);
    /* And a flush, which it should not send, is one. */
    assert_int_equal(rig_do(g, T_FLUSH, 0, NULL, 0, 1), S_OK);
    assert_int_equal(host_count(g, IO_SYNC), 1);
    host_forget(g);
    /* With the flush negotiated none of that. */
    rig_up(g, F_FLUSH);
    assert_int_equal(rig_do(g, T_OUT, 5, buf, sizeof buf, 1), S_OK);
    assert_int_equal(rig_do(g, T_ZEROES, 0, &r, sizeof r, 1), S_OK);
    assert_int_equal(rig_do(g, T_DISCARD, 0, (r.flags = 0, &r), sizeof r, 1), S_OK);
    assert_int_equal(host_count(g, IO_SYNC), 0);
    rig_free(g);
}

/* Neither a flush nor a write-through request is answered before the host's sync has ended, one
 * that began behind it. */
static void syncs_are_waited_for(void **state)
{
    static const uint32_t types[] = { T_OUT, T_ZEROES, T_DISCARD };
    struct rig *g = rig_start(F_FLUSH);
    struct range r = { 8, 4, 0 };

    (void)state;
    g->host.later = true;
    rig_put(g, 0, 0, T_FLUSH, 0, NULL, 0);
    rig_kick(g, 0);
    assert_int_equal(g->host.n, 1);
    assert_int_equal(g->host.log[0].op, IO_SYNC);
    rig_nothing_used(g, 0);
    rig_put(g, 0, 10, T_FLUSH, 0, NULL, 0); /* while the first one's sync is under way */
    rig_kick(g, 0);
    host_end(g, 0);
    host_batch(g);
    rig_used(g, 0, 0, 1);
    rig_nothing_used(g, 0);
    assert_int_equal(g->host.n, 1);
    host_end(g, 0);
    host_batch(g);
    rig_used(g, 0, 10, 1);
    assert_int_equal(host_count(g, IO_SYNC), 2);
    rig_up(g, 0);
    for (unsigned i = 0; i < ARRAY_LEN(types); i++) {
        rig_put(g, 0, 0, types[i], 0, types[i] == T_OUT ? NULL : &r, types[i] == T_OUT ? 512 : 16);
        rig_kick(g, 0);
        host_end(g, 0);
        host_batch(g);
        rig_nothing_used(g, 0); /* it is there, but not yet stable */
        assert_int_equal(g->host.n, 1);
        assert_int_equal(g->host.call[0]->op, IO_SYNC);
        host_end(g, 0);
        host_batch(g);
        rig_used(g, 0, 0, 1);
    }
    rig_free(g);
}

/* Once a flush has failed nothing is promised any more, whatever the host says. */
static void a_failed_flush_is_not_forgotten(void **state)
{
    struct rig *g = rig_start(F_FLUSH);
    uint8_t buf[512] = { 0 };

    (void)state;
    g->host.fail[IO_SYNC] = -EIO;
    assert_int_equal(rig_do(g, T_FLUSH, 0, NULL, 0, 1), S_IOERR);
    g->host.fail[IO_SYNC] = 0;
    assert_int_equal(rig_do(g, T_FLUSH, 0, NULL, 0, 1), S_IOERR);
    rig_up(g, F_FLUSH); /* a reset mends nothing */
    assert_int_equal(rig_do(g, T_FLUSH, 0, NULL, 0, 1), S_IOERR);
    assert_int_equal(rig_do(g, T_OUT, 0, buf, 512, 1), S_OK);
    assert_int_equal(rig_do(g, T_IN, 0, buf, 512, 513), S_OK);
    rig_free(g);
}

static void a_write_through_that_fails(void **state)
{
    static const uint32_t types[] = { T_OUT, T_ZEROES, T_DISCARD };
    struct rig *g = rig_start(0);
    struct range r = { 8, 4, 0 };

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(types); i++) {
        uint32_t n = types[i] == T_OUT ? 512 : sizeof r;

        g->host.fail[IO_SYNC] = -EIO;
        assert_int_equal(rig_do(g, types[i], 0, types[i] == T_OUT ? NULL : &r, n, 1), S_IOERR);
        g->host.fail[IO_SYNC] = 0;
        assert_int_equal(rig_do(g, types[i], 0, types[i] == T_OUT ? NULL : &r, n, 1), S_OK);
    }
    rig_free(g);
}

/* --- the host's errors -------------------------------------------------------------------- */

/* Lines of the log since log_to(). */
static FILE *lines;

static void log_to(FILE *f)
{
    lines = f;
    log_init(fileno(f), LOG_DEBUG);
}

static unsigned log_lines(const char *text)
{
    char line[600];
    unsigned n = 0;

    rewind(lines);
    while (fgets(line, sizeof line, lines))
        n += strstr(line, text) != NULL;
    return n;
}

static void log_end(void)
{
    log_init(open("/dev/null", O_WRONLY | O_CLOEXEC), LOG_DEBUG);
    fclose(lines);
}

static void errors_of_the_host(void **state)
{
    static const int codes[] = { -EIO, -ENOSPC, -EBADF, -EINVAL, -ENXIO };
    static const uint8_t zeros[1024];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        struct rig *g = rig_start(F_FLUSH);
        struct range r = { 8, 4, 1 };
        uint8_t buf[1024];

        log_to(tmpfile());
        memset(buf, 0x66, sizeof buf);
        for (unsigned op = 0; op <= IO_ZERO; op++)
            g->host.fail[op] = codes[i];
        assert_int_equal(rig_do(g, T_IN, 5, buf, sizeof buf, sizeof buf + 1), S_IOERR);
        /* Not what was in the buffer before: the length says that it was written. */
        assert_memory_equal(buf, zeros, sizeof buf);
        assert_int_equal(rig_do(g, T_OUT, 5, buf, sizeof buf, 1), S_IOERR);
        assert_int_equal(rig_do(g, T_DISCARD, 0, (r.flags = 0, &r), sizeof r, 1), S_IOERR);
        assert_int_equal(rig_do(g, T_ZEROES, 0, &r, sizeof r, 1), S_IOERR);
        assert_int_equal(rig_do(g, T_FLUSH, 0, NULL, 0, 1), S_IOERR);
        assert_int_equal(log_lines("disk fake: read at byte 2560"), 1);
        assert_int_equal(log_lines("disk fake: write at byte 2560"), 1);
        assert_int_equal(log_lines(strerror(-codes[i])), 5);
        /* They are told of, not poured out. */
        for (unsigned k = 0; k < 200; k++)
            assert_int_equal(rig_do(g, T_OUT, 5, buf, sizeof buf, 1), S_IOERR);
        assert_in_range(log_lines("disk fake"), 5, 12);
        log_end();
        /* It goes on. */
        memset(g->host.fail, 0, sizeof g->host.fail);
        assert_int_equal(rig_do(g, T_IN, 5, buf, sizeof buf, sizeof buf + 1), S_OK);
        assert_int_equal(reg_read(&g->t, R_STATUS), 0xf);
        rig_free(g);
    }
}

/* One of several ranges fails: so does the request. */
static void an_error_in_the_middle(void **state)
{
    struct rig *g = rig_start(F_FLUSH);
    struct range r[3] = { { 8, 1, 0 }, { 10, 1, 0 }, { 12, 1, 0 } };
    struct ask a;

    (void)state;
    g->host.later = true;
    a = rig_put(g, 0, 0, T_DISCARD, 0, r, sizeof r);
    rig_kick(g, 0);
    for (unsigned i = 0; i < 3 && g->host.n; i++) {
        g->host.fail[IO_PUNCH] = i == 1 ? -EIO : 0;
        host_end(g, 0);
    }
    host_batch(g);
    rig_used(g, 0, 0, 1);
    assert_int_equal(rig_status(g, &a), S_IOERR);
    rig_free(g);
}

/* Calls that move less than they were asked to: the rest follows, every byte in its place. */
static void short_calls(void **state)
{
    static const uint64_t most[] = { 512, 700, 1536, 4095 };
    uint8_t buf[16 * 512], got[16 * 512];
    struct rng r = { 9 };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(most); i++) {
        struct rig *g = rig_start(0);

        g->host.most = most[i];
        rng_fill(&r, buf, sizeof buf);
        assert_int_equal(rig_do(g, T_OUT, 33, buf, sizeof buf, 1), S_OK);
        assert_memory_equal(g->host.store + 33 * 512, buf, sizeof buf);
        assert_int_equal(rig_do(g, T_IN, 33, got, sizeof got, sizeof got + 1), S_OK);
        assert_memory_equal(got, buf, sizeof buf);
        rig_free(g);
    }
}

/* The file ends before the disk does: an error, and no byte that was not read. */
static void a_file_cut_short(void **state)
{
    struct rig *g = rig_start(0);
    static const uint8_t zeros[512];
    uint8_t buf[1024];
    struct ask a;

    (void)state;
    g->host.later = true;
    a = rig_put(g, 0, 0, T_IN, 3, NULL, sizeof buf);
    rig_kick(g, 0);
    struct disk_io *io = g->host.call[0];

    /* Half of it, then nothing. */
    g->host.n = 0;
    memcpy(io->iov[0].iov_base, g->host.store + 3 * 512, 512);
    disk_io_done(g->disk, io, 512);
    assert_int_equal(g->host.n, 1);
    g->host.n = 0;
    disk_io_done(g->disk, io, 0);
    host_batch(g);
    rig_used(g, 0, 0, sizeof buf + 1);
    assert_int_equal(rig_status(g, &a), S_IOERR);
    memcpy(buf, ram(&g->mem, a.data, sizeof buf), sizeof buf);
    assert_memory_equal(buf + 512, zeros, 512);
    rig_free(g);
}

/* --- a disk that may not be written ------------------------------------------------------- */

static void read_only(void **state)
{
    struct rig *g = rig_new();
    struct range r = { 8, 4, 0 };
    uint8_t buf[512];

    (void)state;
    g->image.read_only = true;
    rig_make(g);
    rig_up(g, F_FLUSH | F_RO);
    assert_int_equal(rig_do(g, T_IN, 7, buf, 512, 513), S_OK);
    assert_memory_equal(buf, g->host.store + 7 * 512, 512);
    assert_int_equal(rig_do(g, T_OUT, 7, buf, 512, 1), S_IOERR);
    assert_int_not_equal(rig_do(g, T_DISCARD, 0, &r, sizeof r, 1), S_OK);
    assert_int_not_equal(rig_do(g, T_ZEROES, 0, &r, sizeof r, 1), S_OK);
    assert_int_equal(rig_do(g, T_FLUSH, 0, NULL, 0, 1), S_OK);
    assert_int_equal(host_count(g, IO_READ), g->host.logged);
    rig_free(g);
}

/* --- drivers that break it ---------------------------------------------------------------- */

static void broken_until_reset(struct rig *g)
{
    uint8_t buf[512];

    assert_int_equal(reg_read(&g->t, R_STATUS), 0xf | S_RESET);
    rig_nothing_used(g, 0);
    rig_put(g, 0, 5, T_IN, 0, NULL, 512);
    rig_kick(g, 0);
    rig_nothing_used(g, 0);
    rig_up(g, 0);
    assert_int_equal(rig_do(g, T_IN, 0, buf, 512, 513), S_OK);
}

static void no_header_and_no_status(void **state)
{
    static const struct {
        struct part p[3];
        unsigned n;
    } rows[] = {
        { { { RIG_DATA, 15, false }, { RIG_DATA + 64, 513, true } }, 2 },
        { { { RIG_DATA, 8, false }, { RIG_DATA + 8, 7, false }, { RIG_DATA + 64, 1, true } }, 3 },
        { { { RIG_DATA, 513, true } }, 1 },
        { { { RIG_DATA, 16, false } }, 1 },
        { { { RIG_DATA, 16, false }, { RIG_DATA + 64, 512, false } }, 2 },
        { { { RIG_DATA, 16, false }, { RIG_DATA + 64, 0, true } }, 2 },
        { { { RIG_DATA, 0, false } }, 1 },
    };
    struct rig *g = rig_start(0);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (unsigned indirect = 0; indirect < 2; indirect++) {
            rig_up(g, indirect ? VIRTIO_F_INDIRECT_DESC : 0);
            rig_chain(g, 0, 0, rows[i].p, rows[i].n);
            rig_kick(g, 0);
            broken_until_reset(g);
        }
    rig_free(g);
}

static void rules_of_the_ring(void **state)
{
    struct rig *g = rig_start(0);
    struct ask a;

    (void)state;
    ring_put(&g->ring[0], BLK_QMAX); /* no such head */
    rig_kick(g, 0);
    broken_until_reset(g);
    rig_up(g, 0);
    g->host.later = true;
    a = rig_put(g, 0, 0, T_IN, 0, NULL, 512);
    rig_kick(g, 0);
    ring_put(&g->ring[0], 0); /* in flight already */
    rig_kick(g, 0);
    assert_int_equal(g->host.n, 1);
    assert_int_equal(reg_read(&g->t, R_STATUS), 0xf | S_RESET);
    /* The host ends what it began; nobody is told. */
    host_end(g, 0);
    host_batch(g);
    rig_nothing_used(g, 0);
    assert_int_equal(rig_status(g, &a), 0xee);
    g->host.later = false;
    broken_until_reset(g);
    rig_free(g);
}

/* Good requests before the bad one are carried out; of those behind it nothing is. */
static void good_ones_around_a_bad_one(void **state)
{
    struct rig *g = rig_start(F_FLUSH);
    uint8_t buf[512] = "before", late[512] = "behind";
    struct part none = { RIG_DATA, 4, false };

    (void)state;
    rig_put(g, 0, 0, T_OUT, 1, buf, 512);
    rig_chain(g, 0, 10, &none, 1);
    rig_put(g, 0, 20, T_OUT, 2, late, 512);
    rig_kick(g, 0);
    assert_int_equal(reg_read(&g->t, R_STATUS), 0xf | S_RESET);
    assert_memory_equal(g->host.store + 512, buf, 512);
    assert_memory_not_equal(g->host.store + 1024, late, 512);
    rig_up(g, 0);
    assert_int_equal(rig_do(g, T_IN, 1, late, 512, 513), S_OK);
    assert_string_equal((char *)late, "before");
    rig_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configuration_space),
        cmocka_unit_test(features),
        cmocka_unit_test(reads_and_writes),
        cmocka_unit_test(names),
        cmocka_unit_test(zeros_and_discards),
        cmocka_unit_test(sixteen_ranges),
        cmocka_unit_test(ranges_of_the_largest_size),
        cmocka_unit_test(the_largest_request),
        cmocka_unit_test(write_through),
        cmocka_unit_test(syncs_are_waited_for),
        cmocka_unit_test(a_failed_flush_is_not_forgotten),
        cmocka_unit_test(a_write_through_that_fails),
        cmocka_unit_test(errors_of_the_host),
        cmocka_unit_test(an_error_in_the_middle),
        cmocka_unit_test(short_calls),
        cmocka_unit_test(a_file_cut_short),
        cmocka_unit_test(read_only),
        cmocka_unit_test(no_header_and_no_status),
        cmocka_unit_test(rules_of_the_ring),
        cmocka_unit_test(good_ones_around_a_bad_one),
    };

    return cmocka_run_group_tests(tests, rig_group_setup, NULL);
}
