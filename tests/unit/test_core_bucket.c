/* Token buckets: against a bucket that is filled one nanosecond at a time, over hours, at the ends
 * of the numbers, and from snapshots that may say anything. */
#include "tests/unit/unit.h"

#include "core/bucket.h"
#include "core/num.h"

#define SECOND UINT64_C(1000000000)

/* The same promise as plainly as it can be kept: whole billionths, a loop over nanoseconds. */
struct model {
    int64_t rate, burst, level;
    uint64_t at;
};

static void model_refill(struct model *m, uint64_t now)
{
    for (; m->at < now; m->at++) {
        m->level += m->rate;
        if (m->level > m->burst * (int64_t)SECOND)
            m->level = m->burst * (int64_t)SECOND;
    }
}

static void random_takes_are_as_the_model_has_them(void **state)
{
    static const uint64_t rates[] = { 1, 7, 999999999, SECOND, SECOND + 1, 123456789012345 };
    struct rng r = { 1 };

    (void)state;
    for (unsigned round = 0; round < 3000; round++) {
        uint64_t rate = rates[round % ARRAY_LEN(rates)], burst = 1 + rng_below(&r, 1000);
        uint64_t now = rng_next(&r) >> 1;
        struct bucket b;
        struct model m = { (int64_t)rate, (int64_t)burst, (int64_t)(burst * SECOND), now };

        bucket_init(&b, rate, burst, now);
        for (int i = 0; i < 40; i++) {
            uint64_t n = rng_below(&r, 2 * burst);

            now += rng_chance(&r, 30) ? 0 : rng_below(&r, rng_chance(&r, 90) ? 50 : 3000);
            model_refill(&m, now);
            assert_int_equal(bucket_ready(&b, now), m.level >= 0);
            uint64_t wait = bucket_wait(&b, now);

            assert_int_equal(wait, m.level >= 0 ? 0 : ((uint64_t)-m.level + rate - 1) / rate);
            if (m.level >= 0 || rng_chance(&r, 10)) {
                bucket_take(&b, n, now);
                m.level -= (int64_t)(n * SECOND);
            }
            assert_true(b.level == m.level);
        }
    }
}

/* One who takes n whenever he may, and comes when he was told to. What he got is what came in, but
 * for the debt of his last request. The bucket holds what comes in a nanosecond, so none is lost.
 */
static void greedy(uint64_t rate, uint64_t burst, uint64_t n, uint64_t seconds)
{
    uint64_t start = 123456789, end = start + seconds * SECOND, now = start, taken = 0;
    struct bucket b;

    bucket_init(&b, rate, burst, now);
    for (;;) {
        uint64_t wait = bucket_wait(&b, now);

        if (wait) {
            assert_false(bucket_ready(&b, now + wait - 1)); /* not a nanosecond too late */
            assert_int_equal(bucket_wait(&b, now + wait - 1), 1);
            now += wait;
            assert_true(bucket_ready(&b, now)); /* nor too early */
        }
        if (now > end)
            break;
        bucket_take(&b, n, now);
        taken += n;
    }
    uint64_t came = burst + rate * seconds; /* whole seconds: exact */

    assert_true(b.level == (__int128)rate * (now - start) +
                               ((__int128)burst - (__int128)taken) * (int64_t)SECOND);

    if (taken < came || taken - came > n)
        fail_msg("rate %ju, burst %ju: %ju of %ju by %ju", (uintmax_t)rate, (uintmax_t)burst,
                 (uintmax_t)taken, (uintmax_t)came, (uintmax_t)n);
}

static void the_rate_is_exact_over_hours(void **state)
{
    (void)state;
    greedy(1, 1, 1, 24 * 3600);
    greedy(333, 33, 1, 3 * 3600);
    greedy(999, 1, 1, 3600);
    greedy(1000003, 100000, 4096, 3 * 3600);
    greedy(7 * MIB, 64 * KIB, 1 * MIB, 24 * 3600); /* each request larger than the bucket */
    greedy(3 * SECOND + 1, 4, 1000000007, 24 * 3600);
    greedy(BUCKET_MAX, BUCKET_MAX, BUCKET_MAX, 3600);
    greedy(BUCKET_MAX, BUCKET_MAX / SECOND + 1, BUCKET_MAX / 3, 3600);
}

/* Looking often changes nothing: each look adds what came since the last, and a tenth of a token
 * that was rounded away would be missed. */
static void looking_costs_nothing(void **state)
{
    uint64_t now = 0;
    struct bucket b;

    (void)state;
    bucket_init(&b, 3, 1000, now);
    bucket_take(&b, 1000, now);
    for (int i = 0; i < 3000000; i++)
        (void)bucket_ready(&b, now += 111);
    bucket_take(&b, 0, now = 1000 * SECOND); /* 3000 came, 1000 stay */
    assert_true(b.level == (__int128)1000 * SECOND);
    bucket_init(&b, 3, 1000, now = 0);
    bucket_take(&b, 1000, now);
    while (now < 10 * SECOND)
        (void)bucket_wait(&b, now += 12345);
    assert_true(b.level == (__int128)3 * now);
}

static void a_burst_waits_and_no_more(void **state)
{
    struct bucket b;

    (void)state;
    bucket_init(&b, 10, 100, 5);
    for (int i = 0; i < 100; i++) {
        assert_true(bucket_ready(&b, 5));
        bucket_take(&b, 1, 5);
    }
    assert_true(bucket_ready(&b, 5)); /* empty is no debt: a request of any size passes */
    bucket_take(&b, 31, 5);
    assert_int_equal(bucket_wait(&b, 5), 3100000000);
    assert_int_equal(bucket_wait(&b, 5 + SECOND), 2100000000);
    bucket_take(&b, 10, 5 + SECOND); /* in debt all the same, as one who must not wait does */
    assert_int_equal(bucket_wait(&b, 5 + SECOND), 3100000000);
    assert_false(bucket_ready(&b, 5 + 4 * SECOND + SECOND / 10 - 1));
    assert_true(bucket_ready(&b, 5 + 4 * SECOND + SECOND / 10));
    bucket_take(&b, 0, 5 + 4 * SECOND + SECOND / 10); /* nothing costs nothing */
    assert_true(bucket_ready(&b, 5 + 4 * SECOND + SECOND / 10));
    assert_true(bucket_ready(&b, 3600 * SECOND)); /* full since long, and not fuller than that */
    bucket_take(&b, 101, 3600 * SECOND);
    assert_int_equal(bucket_wait(&b, 3600 * SECOND), SECOND / 10);
}

static void without_a_rate_everything_passes(void **state)
{
    struct bucket b;

    (void)state;
    bucket_init(&b, 0, 0, 7);
    for (int i = 0; i < 20000; i++) {
        assert_true(bucket_ready(&b, 7));
        assert_int_equal(bucket_wait(&b, 7), 0);
        bucket_take(&b, BUCKET_MAX, 7);
    }
    bucket_init(&b, 0, BUCKET_MAX, 7);
    bucket_take(&b, BUCKET_MAX, UINT64_MAX);
    assert_true(bucket_ready(&b, UINT64_MAX));
}

static void the_ends_of_the_numbers_hold(void **state)
{
    struct bucket b;

    (void)state;
    /* Idle from the beginning of time to its end, at the highest rate. */
    bucket_init(&b, BUCKET_MAX, BUCKET_MAX, 0);
    bucket_take(&b, BUCKET_MAX, 0);
    assert_true(bucket_ready(&b, UINT64_MAX));
    assert_true(b.level == (__int128)BUCKET_MAX * SECOND);
    bucket_take(&b, BUCKET_MAX, UINT64_MAX);
    assert_true(b.level == 0);
    bucket_take(&b, 1, UINT64_MAX);
    assert_int_equal(bucket_wait(&b, UINT64_MAX), 1);

    /* The largest debt at the lowest rate is longer than the clock. */
    bucket_init(&b, 1, 1, 0);
    bucket_take(&b, BUCKET_MAX, 0);
    assert_int_equal(bucket_wait(&b, 0), UINT64_MAX);
    assert_int_equal(bucket_wait(&b, UINT64_MAX), UINT64_MAX);

    /* Who never waits does not wrap around. */
    bucket_init(&b, 1024, 1, 0);
    for (int i = 0; i < 100000; i++)
        bucket_take(&b, BUCKET_MAX, 0);
    assert_false(bucket_ready(&b, UINT64_MAX / 2));
    bucket_init(&b, BUCKET_MAX, 1, 0);
    for (int i = 0; i < 100000; i++)
        bucket_take(&b, BUCKET_MAX, 0);
    assert_int_equal(bucket_wait(&b, 0), SECOND); /* a debt of BUCKET_MAX, and no more */

    /* A year idle is no year's worth of tokens. */
    bucket_init(&b, 100, 10, 0);
    bucket_take(&b, 11, UINT64_C(365) * 86400 * SECOND);
    assert_int_equal(bucket_wait(&b, UINT64_C(365) * 86400 * SECOND), SECOND / 100);
}

/* A clock that goes back breaks its promise; then time stands still, and nothing wraps. */
static void a_clock_that_goes_back_gives_nothing(void **state)
{
    struct bucket b;

    (void)state;
    bucket_init(&b, 1, 1, 10 * SECOND);
    bucket_take(&b, 6, 10 * SECOND);
    assert_int_equal(bucket_wait(&b, 9 * SECOND), 5 * SECOND);
    assert_int_equal(bucket_wait(&b, 0), 5 * SECOND);
    assert_int_equal(bucket_wait(&b, 11 * SECOND), 4 * SECOND);
}

static void a_snapshot_keeps_the_level(void **state)
{
    struct rng r = { 3 };

    (void)state;
    for (int round = 0; round < 20000; round++) {
        uint64_t rate = 1 + (rng_next(&r) >> 14), burst = 1 + (rng_next(&r) >> 14);
        uint64_t n = rng_next(&r) >> (14 + rng_below(&r, 50)), then = rng_next(&r), wait;
        uint8_t data[64];
        struct wbuf w = { .data = data, .cap = sizeof data };
        struct bucket a, b;

        rate >>= rng_below(&r, 50);
        rate += !rate;
        bucket_init(&a, rate, burst, 1000);
        bucket_take(&a, n, 1000);
        bucket_take(&a, burst, 1000);
        bucket_save(&a, 1000 + round, &w);
        assert_false(w.overflow);
        wait = bucket_wait(&a, 1000 + round);

        struct rbuf in = { .data = data, .len = w.len };

        bucket_init(&b, rate, burst, then >> 1);
        assert_int_equal(bucket_load(&b, then, &in), 0);
        assert_int_equal(in.off, w.len);
        assert_int_equal(bucket_wait(&b, then), wait);
        assert_true(a.level == b.level);

        in = (struct rbuf){ .data = data, .len = w.len - 1 - rng_below(&r, w.len) };
        bucket_init(&b, rate, burst, then);
        assert_int_equal(bucket_load(&b, then, &in), -EPROTO);
        assert_true(b.level == (__int128)burst * SECOND);
    }
}

/* What is loaded lies within the bucket or is refused, and a bucket that took it works on. */
static void hostile_snapshots_are_refused(void **state)
{
    struct rng r = { 4 };
    unsigned taken = 0, refused = 0;

    (void)state;
    for (int round = 0; round < 200000; round++) {
        uint64_t rate = rng_chance(&r, 10) ? 0 : 1 + rng_below(&r, BUCKET_MAX);
        uint64_t burst = 1 + rng_below(&r, BUCKET_MAX);
        __int128 edges[] = { 0, (__int128)burst * SECOND, -(__int128)BUCKET_MAX * SECOND };
        __int128 level = edges[rng_below(&r, 3)] + (__int128)rng_below(&r, 5) - 2;
        uint8_t data[16];
        struct rbuf in = { .data = data, .len = sizeof data };
        struct bucket b;

        if (rng_chance(&r, 30))
            rng_fill(&r, &level, sizeof level);
        memcpy(data, &level, sizeof data);
        bucket_init(&b, rate, burst, 0);
        bool good = rate ? level <= edges[1] && level >= edges[2] : level == 0;

        assert_int_equal(bucket_load(&b, 0, &in), good ? 0 : -EPROTO);
        assert_true(b.level == (good ? level : rate ? edges[1] : 0));
        *(good ? &taken : &refused) += 1;
        bucket_take(&b, BUCKET_MAX, 1);
        (void)bucket_wait(&b, UINT64_MAX);
    }
    assert_true(taken > 10000 && refused > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_takes_are_as_the_model_has_them),
        cmocka_unit_test(the_rate_is_exact_over_hours),
        cmocka_unit_test(looking_costs_nothing),
        cmocka_unit_test(a_burst_waits_and_no_more),
        cmocka_unit_test(without_a_rate_everything_passes),
        cmocka_unit_test(the_ends_of_the_numbers_hold),
        cmocka_unit_test(a_clock_that_goes_back_gives_nothing),
        cmocka_unit_test(a_snapshot_keeps_the_level),
        cmocka_unit_test(hostile_snapshots_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
