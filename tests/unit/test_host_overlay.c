/* The overlay's map: whatever is set, it tells of every sector what a byte for each would. */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "core/num.h"
#include "host/image.h"
#include "host/overlay.h"

/* A map and what it should say. */
struct pair {
    struct overlay o;
    uint8_t *mine;
    uint64_t n;
};

static void pair_init(struct pair *p, uint64_t sectors)
{
    struct err e = { 0 };

    p->n = sectors;
    p->mine = calloc(sectors, 1);
    assert_non_null(p->mine);
    assert_int_equal(overlay_init(&p->o, sectors * IMAGE_SECTOR, &e), 0);
    assert_int_equal(p->o.sectors, sectors);
}

static void pair_fini(struct pair *p)
{
    overlay_fini(&p->o);
    overlay_fini(&p->o); /* once more is harmless */
    free(p->mine);
}

static void pair_set(struct pair *p, uint64_t first, uint64_t n)
{
    overlay_set(&p->o, first * IMAGE_SECTOR, n * IMAGE_SECTOR);
    memset(p->mine + first, 1, n);
}

static void check_run(const struct pair *p, uint64_t first, uint64_t n)
{
    uint64_t want = 1;
    bool mine = !p->mine[first];

    while (want < n && p->mine[first + want] == p->mine[first])
        want++;
    uint64_t got = overlay_run(&p->o, first * IMAGE_SECTOR, n * IMAGE_SECTOR, &mine);

    if (got != want * IMAGE_SECTOR || mine != p->mine[first])
        fail_msg("disk of %ju, sectors %ju + %ju: %ju bytes, %d; should be %ju, %d",
                 (uintmax_t)p->n, (uintmax_t)first, (uintmax_t)n, (uintmax_t)got, mine,
                 (uintmax_t)(want * IMAGE_SECTOR), p->mine[first]);
}

/* Reads the disk from end to end as a device would, and nothing lies behind it. */
static void check_all(const struct pair *p)
{
    for (uint64_t at = 0; at < p->n;) {
        bool mine;

        check_run(p, at, p->n - at);
        at += overlay_run(&p->o, at * IMAGE_SECTOR, (p->n - at) * IMAGE_SECTOR, &mine) /
              IMAGE_SECTOR;
    }
    for (uint64_t at = p->n; at < p->o.map_len * 8; at++)
        assert_false(p->o.bits[at / 64] >> at % 64 & 1);
}

/* Lengths that a word at a time gets wrong. */
static uint64_t a_length(struct rng *r, uint64_t max)
{
    static const uint64_t edge[] = { 1, 2, 63, 64, 65, 127, 128, 129, 191, 192, 193 };
    uint64_t n = rng_chance(r, 50) ? edge[rng_below(r, ARRAY_LEN(edge))] : 1 + rng_below(r, max);

    return min_u64(n, max);
}

/* Likewise places: a word's first and last sectors half of the time. */
static uint64_t a_place(struct rng *r, uint64_t n)
{
    uint64_t at = rng_below(r, n);

    if (rng_chance(r, 50))
        at = align_down_u64(at, 64) + (rng_chance(r, 50) ? 0 : 63);
    return min_u64(at, n - 1);
}

static void any_ops_tell_what_the_model_tells(void **state)
{
    static const uint64_t sizes[] = { 1,   2,   63,  64,   65,   100,   127,   128,
                                      129, 191, 192, 1000, 4095, 32767, 32768, 32769 };

    (void)state;
    for (unsigned i = 0; i < 2 * ARRAY_LEN(sizes); i++) {
        struct rng rng = { i + 1 };
        struct pair p;

        pair_init(&p, sizes[i % ARRAY_LEN(sizes)]);
        check_all(&p);
        /* In the second round small sets only, so that both kinds last. */
        for (int step = 0; step < 300; step++) {
            uint64_t at = a_place(&rng, p.n), max = p.n - at;

            if (i >= ARRAY_LEN(sizes))
                max = min_u64(max, 1 + p.n / 200);
            pair_set(&p, at, a_length(&rng, max));
            for (int k = 0; k < 5; k++) {
                at = a_place(&rng, p.n);
                check_run(&p, at, a_length(&rng, p.n - at));
            }
        }
        check_all(&p);
        pair_fini(&p);
    }
}

/* All ranges of three words and a bit, set in an empty map. */
static void every_range_of_a_small_disk(void **state)
{
    enum { N = 200 };

    (void)state;
    for (uint64_t first = 0; first < N; first++) {
        for (uint64_t n = 1; first + n <= N; n += n < 4 ? 1 : 3) {
            struct pair p;

            pair_init(&p, N);
            pair_set(&p, first, n);
            check_all(&p);
            pair_fini(&p);
        }
    }
}

static void no_bytes_are_no_change(void **state)
{
    struct pair p;

    (void)state;
    pair_init(&p, 128);
    overlay_set(&p.o, 0, 0);
    overlay_set(&p.o, UINT64_C(64) * IMAGE_SECTOR, 0);
    overlay_set(&p.o, UINT64_C(128) * IMAGE_SECTOR, 0);
    check_all(&p);
    pair_fini(&p);
}

static size_t pages_there(const struct overlay *o)
{
    size_t pages = o->map_len / 4096, there = 0;
    unsigned char *vec = malloc(pages);

    assert_non_null(vec);
    assert_int_equal(mincore(o->bits, o->map_len, vec), 0);
    for (size_t i = 0; i < pages; i++)
        there += vec[i] & 1;
    free(vec);
    return there;
}

static void a_large_disk_costs_what_is_used(void **state)
{
    const uint64_t size = 1024 * GIB, last = size - IMAGE_SECTOR;
    struct overlay o;
    struct err e = { 0 };
    bool mine;

    (void)state;
    assert_int_equal(overlay_init(&o, size, &e), 0);
    assert_int_equal(pages_there(&o), 0);
    overlay_set(&o, 0, IMAGE_SECTOR);
    overlay_set(&o, last, IMAGE_SECTOR);
    overlay_set(&o, size / 2, 128 * MIB); /* eight pages of the map */
    assert_int_equal(overlay_run(&o, 0, GIB, &mine), IMAGE_SECTOR);
    assert_true(mine);
    assert_int_equal(overlay_run(&o, last - IMAGE_SECTOR, 2 * IMAGE_SECTOR, &mine), IMAGE_SECTOR);
    assert_false(mine);
    assert_int_equal(overlay_run(&o, last, IMAGE_SECTOR, &mine), IMAGE_SECTOR);
    assert_true(mine);
    assert_int_equal(overlay_run(&o, size / 2, GIB, &mine), 128 * MIB);
    assert_true(mine);
    assert_in_range(pages_there(&o), 10, 12 + GIB / IMAGE_SECTOR / 8 / 4096);
    overlay_fini(&o);
}

static void a_disk_too_large_is_an_error(void **state)
{
    struct overlay o;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(overlay_init(&o, INT64_MAX / IMAGE_SECTOR * IMAGE_SECTOR, &e), -ENOMEM);
    assert_non_null(strstr(e.msg, "overlay: a map of "));
    overlay_fini(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_ops_tell_what_the_model_tells),
        cmocka_unit_test(every_range_of_a_small_disk),
        cmocka_unit_test(no_bytes_are_no_change),
        cmocka_unit_test(a_large_disk_costs_what_is_used),
        cmocka_unit_test(a_disk_too_large_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
