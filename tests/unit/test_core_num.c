/* Checked arithmetic: at the edges, and against 128-bit arithmetic. */
#include "tests/unit/unit.h"

#include "core/num.h"

typedef unsigned __int128 u128;

/* Numbers at which 64-bit arithmetic goes wrong. */
static uint64_t edgy(struct rng *r)
{
    static const uint64_t edges[] = { 0, 1, 2, 4095, 4096, 0x7fffffff, UINT32_MAX, GIB };
    uint64_t v = edges[rng_below(r, ARRAY_LEN(edges))];

    switch (rng_below(r, 4)) {
    case 0:
        return v;
    case 1:
        return UINT64_MAX - v;
    case 2:
        return (UINT64_C(1) << rng_below(r, 64)) - (rng_next(r) & 1);
    default:
        return rng_next(r) >> rng_below(r, 64);
    }
}

static void ranges_agree_with_wide_arithmetic(void **state)
{
    struct rng r = { 1 };

    (void)state;
    for (int i = 0; i < 300000; i++) {
        uint64_t a = edgy(&r), b = edgy(&r), c = edgy(&r), d = edgy(&r), out;

        assert_int_equal(range_within(a, b, c), (u128)a + b <= c);
        assert_int_equal(add_u64(a, b, &out), (u128)a + b <= UINT64_MAX);
        if (add_u64(a, b, &out))
            assert_true(out == a + b);
        /* Its ranges do not wrap, by contract. */
        if ((u128)a + b <= UINT64_MAX && (u128)c + d <= UINT64_MAX)
            assert_int_equal(ranges_overlap(a, b, c, d),
                             (a > c ? a : c) < (a + b < c + d ? a + b : c + d));
        assert_true(min_u64(a, b) == (a < b ? a : b));
    }
}

static void alignment_agrees_with_division(void **state)
{
    struct rng r = { 2 };

    (void)state;
    for (int i = 0; i < 300000; i++) {
        uint64_t v = edgy(&r), align = UINT64_C(1) << rng_below(&r, 64), out;
        u128 up = ((u128)v + align - 1) / align * align;

        assert_int_equal(align_up_u64(v, align, &out), up <= UINT64_MAX);
        if (up <= UINT64_MAX)
            assert_true(out == (uint64_t)up);
        assert_true(align_down_u64(v, align) == v / align * align);
    }
}

static void powers_of_two(void **state)
{
    (void)state;
    assert_false(is_pow2(0));
    for (uint64_t v = 1; v < 70000; v++)
        assert_int_equal(is_pow2(v), __builtin_popcountll(v) == 1);
    for (int bit = 0; bit < 64; bit++) {
        assert_true(is_pow2(UINT64_C(1) << bit));
        assert_int_equal(is_pow2((UINT64_C(1) << bit) - 1), bit == 1);
    }
}

static void edges_of_a_range(void **state)
{
    (void)state;
    assert_true(range_within(0, 0, 0));
    assert_true(range_within(8, 0, 8));
    assert_false(range_within(9, 0, 8));
    assert_true(range_within(0, 8, 8));
    assert_false(range_within(1, 8, 8));
    assert_false(range_within(1, UINT64_MAX, UINT64_MAX));
    assert_false(ranges_overlap(0, 8, 8, 8));
    assert_true(ranges_overlap(0, 9, 8, 8));
    assert_false(ranges_overlap(4, 0, 0, 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_agree_with_wide_arithmetic),
        cmocka_unit_test(alignment_agrees_with_division),
        cmocka_unit_test(powers_of_two),
        cmocka_unit_test(edges_of_a_range),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
