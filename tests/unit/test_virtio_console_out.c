/* The console's output: whole while the reader reads, counted where he does not, never in the
 * guest's way; and drivers that want to break it. */
#include "host/outring.h"
#include "tests/unit/console_rig.h"

#include <stdio.h>
#include <sys/stat.h>

#define STORY (4 * MIB)

/* Reads all output of a guest that printed total bytes of the text, until the end of it; the first
 * n bytes are in got already, which has room for STORY. What lies before the notice and behind it
 * is the text but for as many bytes as the notice says. Returns their number; 0: no notice. */
static uint64_t read_story_on(int fd, uint64_t total, uint8_t *got, size_t n)
{
    static const char open_mark[] = "\r\n[", end_mark[] = " bytes dropped]\r\n";
    uint64_t lost = 0, skipped = 0; /* the notice itself */
    const uint8_t *mark = NULL;

    while (n - skipped + lost < total) {
        struct pollfd p = { .fd = fd, .events = POLLIN };

        if (poll(&p, 1, RIG_WAIT) != 1)
            fail_msg("%zu bytes came and a notice of %ju, of %ju", n, (uintmax_t)lost,
                     (uintmax_t)total);
        ssize_t more = read(fd, got + n, STORY - n);

        assert_true(more > 0);
        n += (size_t)more;
        if (!mark && (mark = memmem(got, n, open_mark, 3))) {
            const uint8_t *end = memmem(mark, n - (size_t)(mark - got), end_mark, 17);

            if (!end) { /* not all of it yet */
                mark = NULL;
                continue;
            }
            lost = strtoull((const char *)mark + 3, NULL, 10);
            skipped = (size_t)(end + 17 - mark);
        }
    }
    size_t before = mark ? (size_t)(mark - got) : n;

    assert_int_equal(n - skipped + lost, total);
    for (size_t i = 0; i < before; i++)
        if (got[i] != text_at(i))
            fail_msg("byte %zu", i);
    for (size_t i = before + skipped; i < n; i++)
        if (got[i] != text_at(i - skipped + lost))
            fail_msg("byte %zu, %ju behind the notice", i, (uintmax_t)(i - before - skipped));
    return lost;
}

static uint64_t read_story(int fd, uint64_t total)
{
    uint8_t *got = malloc(STORY);

    assert_non_null(got);
    uint64_t lost = read_story_on(fd, total, got, 0);

    free(got);
    return lost;
}

/* Prints the text from byte at on. */
static void print_text(struct rig *g, uint64_t at, uint64_t n)
{
    uint8_t part[RIG_SLOT];

    for (uint64_t end = at + n; at < end;) {
        uint32_t len = (uint32_t)min_u64(sizeof part, end - at);

        text_fill(part, at, len);
        rig_print(g, part, len);
        at += len;
    }
}

static void nothing_more(struct rig *g)
{
    struct pollfd p = { .fd = g->screen, .events = POLLIN };

    assert_int_equal(poll(&p, 1, 30), 0);
}

/* --- slow readers ------------------------------------------------------------------------- */

static void a_stalled_reader_misses_exactly_what_it_is_told(void **state)
{
    struct rig g;

    (void)state;
    rig_init(&g);
    rig_run(&g);
    rig_up(&g, PLAIN | VIRTIO_F_EVENT_IDX);
    int64_t begin = wall_ms();

    print_text(&g, 0, 5 * MIB); /* each of them completed: rig_print waits */
    assert_in_range(wall_ms() - begin, 0, 3000);
    rig_sleeps(&g);
    uint64_t lost = read_story(g.screen, 5 * MIB);

    assert_in_range(lost, 3 * MIB, 4 * MIB);
    nothing_more(&g);
    rig_sleeps(&g);
    /* And it is told anew the next time. */
    rig_print(&g, "fine", 4);
    char got[4];

    read_all(g.screen, got, 4);
    assert_memory_equal(got, "fine", 4);
    rig_fini(&g);
}

/* Up to the ring's size and what the pipe holds, nothing is lost. */
static void a_slow_reader_misses_nothing(void **state)
{
    struct rig g;

    (void)state;
    rig_init(&g);
    rig_run(&g);
    rig_up(&g, PLAIN);
    print_text(&g, 0, OUTRING_SIZE);
    sleep_ms(10);
    assert_int_equal(read_story(g.screen, OUTRING_SIZE), 0);
    nothing_more(&g);
    rig_fini(&g);
}

struct reader {
    int fd;
    uint64_t n;
    uint64_t lost;
};

static void *reader_main(void *arg)
{
    struct reader *r = arg;
    uint8_t part[3000];

    for (uint64_t at = 0; at < r->n;) {
        ssize_t got = read(r->fd, part, sizeof part);

        if (got <= 0)
            break;
        for (ssize_t i = 0; i < got; i++)
            r->lost += part[i] != text_at(at + (uint64_t)i);
        at += (uint64_t)got;
    }
    return NULL;
}

/* 4 MiB through a ring of one to a reader that keeps up: it is a ring. The guest waits for it now
 * and then, as a reader slower than the guest would lose some by right. */
static void a_reader_that_keeps_up_gets_all(void **state)
{
    struct rig g;
    pthread_t thread;

    (void)state;
    rig_init(&g);
    rig_run(&g);
    rig_up(&g, PLAIN);
    for (int round = 0; round < 4; round++) {
        struct reader r = { .fd = g.screen, .n = 900 * KIB };

        assert_int_equal(pthread_create(&thread, NULL, reader_main, &r), 0);
        print_text(&g, 0, r.n);
        pthread_join(thread, NULL);
        assert_int_equal(r.lost, 0);
    }
    nothing_more(&g);
    rig_fini(&g);
}

struct taken {
    struct rig *g;
    uint8_t *got;
    size_t n;
};

/* On the loop, so that nothing is written meanwhile: the reader takes what the pipe holds, then the
 * guest kicks. */
static void read_some_then_kick(void *arg)
{
    struct taken *t = arg;
    ssize_t n;

    while ((n = read(t->g->screen, t->got + t->n, STORY - t->n)) > 0)
        t->n += (size_t)n;
    t->g->dev->cls->kick(t->g->dev, TX);
}

/* A transmission larger than the ring, while older output waits: the notice stands where the bytes
 * are missing, not before older ones. */
static void the_notice_stands_where_bytes_are_missing(void **state)
{
    const uint64_t old = 300 * KIB, big = 3 * MIB / 2;

    (void)state;
    for (int drained = 0; drained < 2; drained++) {
        struct rig g;
        struct taken t = { .g = &g, .got = malloc(STORY) };
        uint32_t id, len;

        assert_non_null(t.got);
        rig_init(&g);
        fcntl(g.screen, F_SETFL, O_NONBLOCK);
        rig_run(&g);
        rig_up(&g, PLAIN);
        print_text(&g, 0, old);
        text_fill(ram(&g.mem, RIG_BIG, big), old, big);
        ring_desc(&g.ring[TX], 60, (struct ring_desc){ RIG_BIG, (uint32_t)big, 0, 0 });
        ring_offer(&g.ring[TX], 60);
        if (drained)
            loop_call(&g.loop, read_some_then_kick, &t);
        else
            reg_write(&g.t, R_NOTIFY, TX);
        assert_true(rig_used(&g, TX, RIG_WAIT, &id, &len));
        uint64_t lost = read_story_on(g.screen, old + big, t.got, t.n);

        /* All but the last of it, and what went through the pipe before. */
        assert_in_range(lost, old + big - OUTRING_SIZE - 192 * KIB, old + big - OUTRING_SIZE - 1);
        nothing_more(&g);
        free(t.got);
        rig_fini(&g);
    }
}

/* --- absent readers ----------------------------------------------------------------------- */

static void a_reader_that_goes_away(void **state)
{
    struct rig g;

    (void)state;
    rig_init(&g);
    rig_run(&g);
    rig_up(&g, PLAIN);
    print_text(&g, 0, 300 * KIB);
    rig_close(&g.screen);
    print_text(&g, 0, 2 * MIB);
    assert_int_equal(reg_read(&g.t, R_STATUS), 0xf);
    rig_sleeps(&g);
    /* Input goes on. */
    uint8_t byte;

    assert_int_equal(write(g.keys, "k", 1), 1);
    rig_receive(&g, &byte, 1, 1);
    assert_int_equal(byte, 'k');
    rig_stop(&g);
    int64_t begin = wall_ms();

    console_finish(g.dev, 3000);
    assert_in_range(wall_ms() - begin, 0, 1000);
    rig_fini(&g);
}

static void no_output_at_all(void **state)
{
    struct rig g;

    (void)state;
    rig_init_fds(&g, -1, -1);
    rig_run(&g);
    rig_up(&g, PLAIN);
    print_text(&g, 0, 3 * MIB);
    rig_stop(&g);
    assert_int_equal(console_finish(g.dev, 1000), 0);
    rig_fini(&g);
}

static void output_to_a_file(void **state)
{
    char path[] = "/tmp/mayfly-unit-XXXXXX";
    struct rig g;
    struct stat st;
    int fd = mkstemp(path);

    (void)state;
    rig_init_fds(&g, -1, dup(fd));
    unlink(path);
    rig_run(&g);
    rig_up(&g, PLAIN);
    print_text(&g, 0, 2 * MIB);
    rig_sleeps(&g);
    rig_stop(&g);
    assert_int_equal(console_finish(g.dev, 1000), 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 2 * MIB);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    struct reader r = { .fd = fd, .n = 2 * MIB };

    reader_main(&r);
    assert_int_equal(r.lost, 0);
    close(fd);
    rig_fini(&g);
}

/* One kick for more than the ring holds: whoever takes it all misses nothing. */
static void a_burst_larger_than_the_ring(void **state)
{
    const uint32_t each = 64 * KIB;
    char path[] = "/tmp/mayfly-unit-XXXXXX";
    struct rig g;
    int fd = mkstemp(path);
    uint32_t id, len;

    (void)state;
    rig_init_fds(&g, -1, dup(fd));
    unlink(path);
    rig_run(&g);
    rig_up(&g, PLAIN);
    for (unsigned i = 0; i < RIG_SLOTS; i++) {
        text_fill(ram(&g.mem, RIG_BIG + i * each, each), i * each, each);
        ring_desc(&g.ring[TX], i, (struct ring_desc){ RIG_BIG + i * each, each, 0, 0 });
        ring_put(&g.ring[TX], (uint16_t)i);
    }
    rig_kick(&g, TX, (uint16_t)(g.ring[TX].offered - RIG_SLOTS));
    for (unsigned i = 0; i < RIG_SLOTS; i++)
        assert_true(rig_used(&g, TX, RIG_WAIT, &id, &len));
    rig_stop(&g);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    struct reader r = { .fd = fd, .n = RIG_SLOTS * each };

    reader_main(&r);
    assert_int_equal(r.lost, 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), RIG_SLOTS * each);
    close(fd);
    rig_fini(&g);
}

/* --- the end ------------------------------------------------------------------------------ */

static void *slow_reader_main(void *arg)
{
    sleep_ms(50);
    return reader_main(arg);
}

static void the_last_words_go_out(void **state)
{
    struct rig g;
    pthread_t thread;

    (void)state;
    rig_init(&g);
    rig_run(&g);
    rig_up(&g, PLAIN);
    print_text(&g, 0, OUTRING_SIZE);
    rig_stop(&g);
    struct reader r = { .fd = g.screen, .n = OUTRING_SIZE };

    assert_int_equal(pthread_create(&thread, NULL, slow_reader_main, &r), 0);
    assert_int_equal(console_finish(g.dev, RIG_WAIT), 0);
    pthread_join(thread, NULL);
    assert_int_equal(r.lost, 0);
    rig_fini(&g);
}

/* Told once how much the reader did not take: in the ring, and dropped before. */
static void words_nobody_took_are_counted(void **state)
{
    static const uint64_t totals[] = { 10, OUTRING_SIZE, 2 * MIB + 77 };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(totals); i++) {
        struct rig g;
        uint64_t in_pipe = 0;
        uint8_t part[4096];

        rig_init(&g);
        rig_run(&g);
        rig_up(&g, PLAIN);
        print_text(&g, 0, totals[i]);
        rig_stop(&g);
        int64_t begin = wall_ms();
        uint64_t left = console_finish(g.dev, 50);

        assert_in_range(wall_ms() - begin, i ? 50 : 0, 1000);
        fcntl(g.screen, F_SETFL, O_NONBLOCK);
        for (ssize_t n; (n = read(g.screen, part, sizeof part)) > 0;)
            in_pipe += (uint64_t)n;
        assert_int_equal(in_pipe + left, totals[i]);
        rig_fini(&g);
    }
}

/* --- hostile drivers ---------------------------------------------------------------------- */

static void wait_broken(struct rig *g)
{
    for (int i = 0; i < RIG_WAIT && !(reg_read(&g->t, R_STATUS) & S_RESET); i++)
        sleep_ms(1);
    assert_int_equal(reg_read(&g->t, R_STATUS), 0xf | S_RESET);
    assert_int_equal(reg_read(&g->t, R_ISR) & 2, 2);
}

static void bad_chains_break_the_console_until_reset(void **state)
{
    static const struct ring_desc bad[] = {
        { RIG_RAM, 4, 0, 0 },      { RIG_RAM - 1, 2, 0, 0 },  { UINT64_MAX, 2, 0, 0 },
        { RIG_TX, 4, D_NEXT, 0 },  { RIG_TX, 4, D_NEXT, 64 }, { RIG_TX, 16, D_INDIRECT, 0 },
        { RIG_RX, 0, D_WRITE, 0 }, /* no room, for input alone a fault */
    };
    struct rig g;
    char got[8];

    (void)state;
    rig_init(&g);
    rig_run(&g);
    for (unsigned q = RX; q <= TX; q++)
        for (size_t i = 0; i + q < ARRAY_LEN(bad); i++) {
            rig_up(&g, PLAIN);
            /* A good one before it is served. */
            if (q == TX) {
                rig_print(&g, "good", 4);
                read_all(g.screen, got, 4);
            } else {
                assert_int_equal(write(g.keys, "abcd", 4), 4);
                rig_receive(&g, (uint8_t *)got, 2, 2);
                assert_memory_equal(got, "ab", 2);
            }
            struct ring_desc d = bad[i];

            d.flags |= q == RX && !(d.flags & D_INDIRECT) ? D_WRITE : 0;
            ring_desc(&g.ring[q], 9, d);
            if (bad[i].next == 0 && (bad[i].flags & D_NEXT))
                ring_desc(&g.ring[q], 0, d); /* a loop */
            ring_offer(&g.ring[q], 9);
            reg_write(&g.t, R_NOTIFY, q);
            wait_broken(&g);
            rig_sleeps(&g);
            rig_up(&g, PLAIN);
            if (q == RX) { /* what the guest had not been given it gets now */
                rig_receive(&g, (uint8_t *)got, 2, 8);
                assert_memory_equal(got, "cd", 2);
            }
            rig_print(&g, "whole", 5);
            read_all(g.screen, got, 5);
            assert_memory_equal(got, "whole", 5);
        }
    rig_fini(&g);
}

/* 64 chains, each 1 GiB of the same 16 MiB over and over, by tables that overlap too: a second or
 * so, and the count is right. */
static void gigabytes_from_overlapping_buffers(void **state)
{
    struct rig g;
    uint32_t id, len;
    const uint64_t total = RIG_SLOTS * GIB;

    (void)state;
    rig_init(&g);
    rig_run(&g);
    rig_up(&g, PLAIN | VIRTIO_F_INDIRECT_DESC);
    for (unsigned i = 0; i < 64; i++)
        desc_set(&g.mem, RIG_TABLE, i,
                 (struct ring_desc){ RIG_BIG, 16 * MIB, i < 63 ? D_NEXT : 0, (uint16_t)(i + 1) });
    for (unsigned i = 0; i < RIG_SLOTS; i++) {
        ring_desc(&g.ring[TX], i, (struct ring_desc){ RIG_TABLE, 64 * 16, D_INDIRECT, 0 });
        ring_put(&g.ring[TX], (uint16_t)i);
    }
    int64_t begin = wall_ms();

    rig_kick(&g, TX, (uint16_t)(g.ring[TX].offered - RIG_SLOTS));
    for (unsigned i = 0; i < RIG_SLOTS; i++)
        assert_true(rig_used(&g, TX, RIG_WAIT, &id, &len));
    assert_in_range(wall_ms() - begin, 0, 4000);
    rig_stop(&g);
    uint64_t left = console_finish(g.dev, 0), told = 0, notices = 0;
    static char got[MIB];

    /* The pipe took the first notices along with zeros of the guest's. */
    fcntl(g.screen, F_SETFL, O_NONBLOCK);
    ssize_t n = read(g.screen, got, sizeof got);

    assert_true(n > 0);
    for (char *at = got, *end; (at = memmem(at, (size_t)(got + n - at), "\r\n[", 3)); at = end) {
        told += strtoull(at + 3, NULL, 10);
        end = memmem(at, (size_t)(got + n - at), "]\r\n", 3);
        assert_non_null(end);
        notices += (uint64_t)(end + 3 - at);
    }
    assert_int_equal((uint64_t)n - notices + told + left, total);
    rig_fini(&g);
}

/* Random memory as rings, and kicks: the console breaks or not, and a reset mends it. */
static void noise(void **state)
{
    struct rng r = { 21 };
    struct rig g;
    char got[5];
    unsigned broken = 0;

    (void)state;
    rig_init(&g);
    rig_run(&g);
    for (int round = 0; round < 300; round++) {
        rig_up(&g, PLAIN | VIRTIO_F_INDIRECT_DESC);
        for (unsigned q = RX; q <= TX; q++) {
            for (unsigned i = 0; i < RIG_SLOTS; i++)
                ring_desc(
                    &g.ring[q], i,
                    (struct ring_desc){
                        rng_below(&r, RIG_BIG + 1000), (uint32_t)rng_below(&r, 2000) & ~15U,
                        (uint16_t)((q == RX ? 2 : 0) ^ (rng_chance(&r, 3) ? rng_below(&r, 8) : 0)),
                        (uint16_t)rng_below(&r, 64) });
            for (uint64_t n = 1 + rng_below(&r, 8); n; n--)
                ring_put(&g.ring[q], (uint16_t)rng_below(&r, 65));
            ring_publish(&g.ring[q]);
            reg_write(&g.t, R_NOTIFY, q);
        }
        assert_int_equal(write(g.keys, "0123456789", 10), 10);
        virtio_settle(g.dev);
        broken += (reg_read(&g.t, R_STATUS) & S_RESET) != 0;
        reg_write(&g.t, R_STATUS, 0);
        /* What it printed is of no interest. */
        struct pollfd p = { .fd = g.screen, .events = POLLIN };
        char junk[65536];

        while (poll(&p, 1, 0) == 1)
            assert_true(read(g.screen, junk, sizeof junk) > 0);
    }
    assert_in_range(broken, 30, 299);
    sleep_ms(20);
    for (struct pollfd p = { .fd = g.screen, .events = POLLIN }; poll(&p, 1, 50) == 1;) {
        char junk[65536];

        assert_true(read(g.screen, junk, sizeof junk) > 0);
    }
    rig_up(&g, PLAIN);
    rig_print(&g, "whole", 5);
    read_all(g.screen, got, 5);
    assert_memory_equal(got, "whole", 5);
    rig_fini(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stalled_reader_misses_exactly_what_it_is_told),
        cmocka_unit_test(a_slow_reader_misses_nothing),
        cmocka_unit_test(a_reader_that_keeps_up_gets_all),
        cmocka_unit_test(the_notice_stands_where_bytes_are_missing),
        cmocka_unit_test(a_reader_that_goes_away),
        cmocka_unit_test(no_output_at_all),
        cmocka_unit_test(output_to_a_file),
        cmocka_unit_test(a_burst_larger_than_the_ring),
        cmocka_unit_test(the_last_words_go_out),
        cmocka_unit_test(words_nobody_took_are_counted),
        cmocka_unit_test(bad_chains_break_the_console_until_reset),
        cmocka_unit_test(gigabytes_from_overlapping_buffers),
        cmocka_unit_test(noise),
    };

    return cmocka_run_group_tests(tests, rig_group_setup, NULL);
}
