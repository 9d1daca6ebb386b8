/* The cursor against a flat buffer: any split into pieces gives the same bytes. */
#include "tests/unit/unit.h"

#include <stdlib.h>

#include "core/cursor.h"
#include "core/num.h"

#define PIECES 12
#define BYTES  200

/* A flat buffer and the same bytes in pieces, each an allocation of its own and exactly as long as
 * it says, so that the sanitizer sees a byte too many. */
struct split {
    uint8_t flat[BYTES];
    size_t total;
    struct iovec iov[PIECES];
    size_t n;
};

static void split_make(struct split *s, struct rng *r)
{
    s->total = 0;
    s->n = rng_below(r, PIECES + 1);
    rng_fill(r, s->flat, sizeof s->flat);
    for (size_t i = 0; i < s->n; i++) {
        size_t len = rng_chance(r, 30) ? 0 : rng_below(r, BYTES / PIECES + 1);

        s->iov[i] = (struct iovec){ .iov_base = malloc(len), .iov_len = len };
        if (len) /* malloc(0) may be NULL */
            memcpy(s->iov[i].iov_base, s->flat + s->total, len);
        s->total += len;
    }
}

static void split_check(const struct split *s)
{
    size_t at = 0;

    for (size_t i = 0; i < s->n; at += s->iov[i++].iov_len)
        assert_memory_equal(s->iov[i].iov_base, s->flat + at, s->iov[i].iov_len);
}

static void split_free(struct split *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->iov[i].iov_base);
}

/* The iovecs that take handed out are the flat bytes [at, at + n), in order and none empty. */
static void check_taken(const struct split *s, size_t at, size_t n, const struct iovec *iov,
                        int got)
{
    for (int i = 0; i < got; i++) {
        assert_true(iov[i].iov_len > 0 && iov[i].iov_len <= n);
        assert_memory_equal(iov[i].iov_base, s->flat + at, iov[i].iov_len);
        at += iov[i].iov_len;
        n -= iov[i].iov_len;
    }
    assert_int_equal(n, 0);
}

/* How many pieces hold the flat bytes [at, at + n). */
static int pieces_of(const struct split *s, size_t at, size_t n)
{
    size_t start = 0;
    int count = 0;

    for (size_t i = 0; i < s->n; start += s->iov[i++].iov_len)
        count += ranges_overlap(start, s->iov[i].iov_len, at, n);
    return count;
}

static void any_walk_agrees_with_a_flat_buffer(void **state)
{
    struct rng r = { 3 };

    (void)state;
    for (int round = 0; round < 20000; round++) {
        struct split s;
        struct cursor c;
        size_t at = 0;

        split_make(&s, &r);
        cursor_init(&c, s.iov, s.n);
        for (int step = 0; step < 12; step++) {
            /* Now and then more than is left, or all of it to the byte. */
            size_t left = s.total - at, n = rng_below(&r, left + 4);
            bool fits = n <= left;
            uint8_t buf[BYTES + 4];
            struct iovec iov[PIECES];

            assert_int_equal(cursor_left(&c), left);
            switch (rng_below(&r, 4)) {
            case 0:
                memset(buf, 0, sizeof buf);
                assert_int_equal(cursor_get(&c, buf, n), fits ? 0 : -EMSGSIZE);
                if (fits)
                    assert_memory_equal(buf, s.flat + at, n);
                break;
            case 1:
                rng_fill(&r, buf, n);
                assert_int_equal(cursor_put(&c, buf, n), fits ? 0 : -EMSGSIZE);
                if (fits)
                    memcpy(s.flat + at, buf, n);
                break;
            case 2:
                assert_int_equal(cursor_skip(&c, n), fits ? 0 : -EMSGSIZE);
                break;
            default: {
                int need = fits ? pieces_of(&s, at, n) : 0;
                int max = rng_chance(&r, 50) ? need : (int)rng_below(&r, PIECES + 1);
                int got = cursor_take(&c, n, iov, max);

                if (fits && need <= max) {
                    assert_int_equal(got, need);
                    check_taken(&s, at, n, iov, got);
                } else {
                    assert_int_equal(got, fits ? -E2BIG : -EMSGSIZE);
                    fits = false; /* nothing moved */
                }
            }
            }
            if (fits)
                at += n;
        }
        split_check(&s);
        split_free(&s);
    }
}

static void nothing_there(void **state)
{
    struct cursor c;
    struct iovec empty[2] = { { 0 }, { 0 } }, out;
    char byte = 0;

    (void)state;
    for (size_t n = 0; n <= 2; n++) {
        cursor_init(&c, n ? empty : NULL, n);
        assert_int_equal(cursor_left(&c), 0);
        assert_int_equal(cursor_get(&c, NULL, 0), 0);
        assert_int_equal(cursor_put(&c, NULL, 0), 0);
        assert_int_equal(cursor_skip(&c, 0), 0);
        assert_int_equal(cursor_take(&c, 0, NULL, 0), 0);
        assert_int_equal(cursor_get(&c, &byte, 1), -EMSGSIZE);
        assert_int_equal(cursor_put(&c, &byte, 1), -EMSGSIZE);
        assert_int_equal(cursor_skip(&c, 1), -EMSGSIZE);
        assert_int_equal(cursor_skip(&c, SIZE_MAX), -EMSGSIZE);
        assert_int_equal(cursor_take(&c, 1, &out, 1), -EMSGSIZE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_walk_agrees_with_a_flat_buffer),
        cmocka_unit_test(nothing_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
