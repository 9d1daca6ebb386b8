/* The ring of output: whatever the writer and the reader do, what the reader sees is the text in
 * order but for as many bytes as the notices say, where they say it. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>

#include "core/num.h"
#include "host/outring.h"

/* The byte at offset i of a text without brackets. */
static uint8_t text_at(uint64_t i)
{
    struct rng r = { i };

    return (uint8_t)('a' + rng_below(&r, 26));
}

/* A reader that judges what it reads. */
struct reader {
    int fd;
    uint64_t pos;  /* in the text: read or told to be missing */
    char mark[64]; /* a notice in the making */
    size_t n_mark;
    unsigned notices;
};

static void reader_byte(struct reader *r, char byte)
{
    if (r->n_mark == 0 && byte != '\r') {
        if ((uint8_t)byte != text_at(r->pos))
            fail_msg("byte %ju of the text", (uintmax_t)r->pos);
        r->pos++;
        return;
    }
    assert_true(r->n_mark + 1 < sizeof r->mark);
    r->mark[r->n_mark++] = byte;
    if (byte != '\n' || r->n_mark == 2)
        return;
    char *end;
    uint64_t missing = strtoull(r->mark + 3, &end, 10);

    assert_memory_equal(r->mark, "\r\n[", 3);
    assert_memory_equal(end, " bytes dropped]\r\n", r->n_mark - (size_t)(end - r->mark));
    assert_true(missing > 0);
    r->pos += missing;
    r->n_mark = 0;
    r->notices++;
}

/* Reads up to n bytes. false: there was nothing. */
static bool reader_read(struct reader *r, size_t n)
{
    char buf[65536];
    ssize_t got = read(r->fd, buf, min_size(n, sizeof buf));

    for (ssize_t i = 0; i < got; i++)
        reader_byte(r, buf[i]);
    return got > 0;
}

static void put_text(struct outring *o, uint64_t at, size_t n)
{
    static uint8_t text[OUTRING_SIZE];

    for (size_t i = 0; i < n; i++)
        text[i] = text_at(at + i);
    outring_put(o, text, n);
}

static void a_pipe(int fds[2])
{
    assert_int_equal(pipe(fds), 0);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
}

/* A terminal takes any part of a write: notices too go out in pieces. */
static void a_terminal(int fds[2])
{
    struct termios raw;

    assert_int_equal(openpty(&fds[1], &fds[0], NULL, NULL, NULL), 0);
    tcgetattr(fds[0], &raw);
    cfmakeraw(&raw);
    tcsetattr(fds[0], TCSANOW, &raw);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
}

static void any_reader_gets_a_true_story(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct rng rng = { seed };
        struct outring o;
        int fds[2] = { -1, -1 };
        uint64_t total = 0;

        (seed % 2 ? a_pipe : a_terminal)(fds);
        struct reader r = { .fd = fds[0] };

        assert_int_equal(outring_init(&o), 0);
        for (int step = 0; step < 400; step++) {
            size_t n = rng_below(&rng, rng_chance(&rng, 10) ? OUTRING_SIZE + 1 : 20000);

            switch (rng_below(&rng, 8)) {
            case 0:
            case 1:
            case 2:
                put_text(&o, total, n);
                total += n;
                break;
            case 3:
                if (!rng_chance(&rng, 20))
                    break;
                outring_leave_out(&o, n);
                total += n;
                break;
            case 4:
            case 5: {
                int ret = outring_flush(&o, fds[1]);

                assert_int_equal(ret, outring_owed(&o) || o.notice_len ? -EAGAIN : 0);
                break;
            }
            default:
                reader_read(&r, rng_below(&rng, 1 + (UINT64_C(1) << rng_below(&rng, 17))));
            }
            assert_int_equal(outring_room(&o), OUTRING_SIZE - o.len);
            assert_true(r.pos + outring_owed(&o) <= total);
        }
        for (int64_t end = wall_ms() + UNIT_WAIT; r.pos < total && wall_ms() < end;)
            if (!reader_read(&r, SIZE_MAX))
                outring_flush(&o, fds[1]);
        assert_int_equal(r.pos, total);
        assert_int_equal(r.n_mark, 0);
        assert_true(r.notices > 0);
        assert_int_equal(outring_owed(&o), 0);
        assert_int_equal(outring_flush(&o, fds[1]), 0);
        outring_fini(&o);
        outring_fini(&o); /* once more is harmless */
        close(fds[0]);
        close(fds[1]);
    }
}

static void the_ring_holds_its_size_to_the_byte(void **state)
{
    struct outring o;

    (void)state;
    assert_int_equal(outring_init(&o), 0);
    put_text(&o, 0, OUTRING_SIZE);
    assert_int_equal(outring_room(&o), 0);
    assert_int_equal(o.dropped, 0);
    put_text(&o, OUTRING_SIZE, 1);
    assert_int_equal(o.dropped, 1);
    assert_int_equal(outring_owed(&o), OUTRING_SIZE + 1);
    put_text(&o, OUTRING_SIZE + 1, OUTRING_SIZE);
    assert_int_equal(outring_owed(&o), 2 * OUTRING_SIZE + 1);
    assert_int_equal(o.len, OUTRING_SIZE);
    outring_fini(&o);
}

/* A notice that went out in part stays as it is; what is dropped meanwhile is told by the next. No
 * descriptor here can be made to take five bytes of a notice, so the ring is told that one did. */
static void a_notice_in_two_pieces(void **state)
{
    struct outring o;
    int fds[2] = { -1, -1 };

    (void)state;
    a_pipe(fds);
    struct reader r = { .fd = fds[0] };

    assert_int_equal(outring_init(&o), 0);
    put_text(&o, 0, OUTRING_SIZE);
    assert_int_equal(outring_flush(&o, fds[1]), -EAGAIN);
    put_text(&o, OUTRING_SIZE, OUTRING_SIZE / 2);
    assert_int_equal(outring_flush(&o, fds[1]), -EAGAIN); /* a notice is next */
    while (reader_read(&r, SIZE_MAX))
        ;
    assert_true(o.notice_len > 5 && o.notice_off == 0);
    for (; o.notice_off < 5; o.notice_off++)
        reader_byte(&r, o.notice[o.notice_off]);
    o.dropped = 0;
    put_text(&o, 3 * OUTRING_SIZE / 2, 1000);
    assert_int_equal(o.dropped, 1000);
    while (outring_flush(&o, fds[1]) == -EAGAIN)
        assert_true(reader_read(&r, SIZE_MAX));
    while (reader_read(&r, SIZE_MAX))
        ;
    assert_int_equal(r.pos, 3 * OUTRING_SIZE / 2 + 1000);
    assert_int_equal(r.notices, 2);
    close(fds[0]);
    close(fds[1]);
    outring_fini(&o);
}

static void nowhere_and_gone(void **state)
{
    struct outring o;
    int fds[2];

    (void)state;
    assert_int_equal(outring_init(&o), 0);
    put_text(&o, 0, 100);
    outring_leave_out(&o, 7);
    assert_int_equal(outring_flush(&o, -1), 0);
    assert_int_equal(outring_owed(&o), 0);
    a_pipe(fds);
    close(fds[0]);
    put_text(&o, 0, 100);
    outring_leave_out(&o, 7);
    assert_int_equal(outring_flush(&o, fds[1]), -EPIPE);
    assert_int_equal(outring_owed(&o), 0);
    assert_int_equal(outring_flush(&o, fds[1]), 0); /* nothing to write: nothing to fail */
    close(fds[1]);
    outring_fini(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_reader_gets_a_true_story),
        cmocka_unit_test(the_ring_holds_its_size_to_the_byte),
        cmocka_unit_test(a_notice_in_two_pieces),
        cmocka_unit_test(nowhere_and_gone),
    };

    signal(SIGPIPE, SIG_IGN); /* as main does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
