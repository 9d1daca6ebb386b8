/* The bus: who answers which address. */
#include "tests/unit/unit.h"

#include "core/bus.h"
#include "core/num.h"

/* What a handler was asked last. */
struct probe {
    int reads, writes;
    uint64_t off;
    unsigned len;
    uint8_t data[8];
};

static void probe_read(void *ctx, uint64_t off, void *data, unsigned len)
{
    struct probe *p = ctx;

    p->reads++;
    p->off = off;
    p->len = len;
    memset(data, 0x5a, len);
}

static void probe_write(void *ctx, uint64_t off, const void *data, unsigned len)
{
    struct probe *p = ctx;

    p->writes++;
    p->off = off;
    p->len = len;
    memcpy(p->data, data, len);
}

static const struct bus_ops probe_ops = { .read = probe_read, .write = probe_write };

static void order_of_adding_does_not_matter(void **state)
{
    static const unsigned order[] = { 3, 0, 4, 1, 2 };
    struct bus b = { 0 };
    struct probe p[5] = { 0 };

    (void)state;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(bus_add(&b, 0x1000 * (order[i] + 1), 0x10, &probe_ops, &p[order[i]]), 0);
    assert_int_equal(b.n, 5);
    for (unsigned i = 0; i < 5; i++) {
        uint32_t v = 0;

        assert_int_equal(b.range[i].base, 0x1000 * (i + 1));
        bus_read(&b, 0x1000 * (i + 1) + 4, &v, 4);
        assert_int_equal(v, 0x5a5a5a5a);
        assert_int_equal(p[i].reads, 1);
        assert_int_equal(p[i].off, 4);
        assert_int_equal(p[i].len, 4);
        bus_write(&b, 0x1000 * (i + 1) + 8, "wxyz", 4);
        assert_int_equal(p[i].writes, 1);
        assert_int_equal(p[i].off, 8);
        assert_memory_equal(p[i].data, "wxyz", 4);
    }
}

/* Two neighbours without a gap at [16, 32) and [32, 48): every address and width. */
static void accesses_lie_inside_one_range_or_nowhere(void **state)
{
    static const unsigned lens[] = { 1, 2, 4, 8 };
    struct bus b = { 0 };
    struct probe p[2] = { 0 };

    (void)state;
    assert_int_equal(bus_add(&b, 32, 16, &probe_ops, &p[1]), 0);
    assert_int_equal(bus_add(&b, 16, 16, &probe_ops, &p[0]), 0);
    for (uint64_t at = 0; at < 64; at++)
        for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
            uint8_t data[8] = { 0 }, want[8] = { 0 };
            struct probe before[2] = { p[0], p[1] };
            int who = range_within(at - 16, lens[i], 16) && at >= 16   ? 0
                      : range_within(at - 32, lens[i], 16) && at >= 32 ? 1
                                                                       : -1;

            memset(want, who < 0 ? 0xff : 0x5a, lens[i]);
            bus_read(&b, at, data, lens[i]);
            assert_memory_equal(data, want, sizeof want); /* and not a byte beyond len */
            bus_write(&b, at, data, lens[i]);
            for (int k = 0; k < 2; k++) {
                assert_int_equal(p[k].reads, before[k].reads + (k == who));
                assert_int_equal(p[k].writes, before[k].writes + (k == who));
                if (k == who)
                    assert_int_equal(p[k].off, at - (k ? 32 : 16));
            }
        }
}

static void top_of_the_address_space(void **state)
{
    struct bus b = { 0 };
    struct probe p = { 0 };
    uint64_t v;

    (void)state;
    assert_int_equal(bus_add(&b, UINT64_MAX - 15, 15, &probe_ops, &p), 0);
    bus_read(&b, UINT64_MAX - 15, &v, 8);
    assert_int_equal(p.reads, 1);
    bus_read(&b, UINT64_MAX - 7, &v, 8); /* its last byte is outside */
    assert_int_equal(p.reads, 1);
    assert_true(v == UINT64_MAX);
    bus_read(&b, UINT64_MAX - 3, &v, 8); /* wraps */
    assert_int_equal(p.reads, 1);
}

static void overlaps_are_refused(void **state)
{
    struct bus b = { 0 };
    struct probe p = { 0 };

    (void)state;
    assert_int_equal(bus_add(&b, 0x1000, 0x100, &probe_ops, &p), 0);
    assert_int_equal(bus_add(&b, 0x1000, 0x100, &probe_ops, &p), -EEXIST);
    assert_int_equal(bus_add(&b, 0x0f01, 0x100, &probe_ops, &p), -EEXIST);
    assert_int_equal(bus_add(&b, 0x10ff, 1, &probe_ops, &p), -EEXIST);
    assert_int_equal(bus_add(&b, 0x0, 0x10000, &probe_ops, &p), -EEXIST);
    assert_int_equal(b.n, 1);
    assert_int_equal(bus_add(&b, 0x0f00, 0x100, &probe_ops, &p), 0);
    assert_int_equal(bus_add(&b, 0x1100, 1, &probe_ops, &p), 0);
}

static void a_full_bus_takes_no_more(void **state)
{
    struct bus b = { 0 };
    struct probe p = { 0 };

    (void)state;
    for (unsigned i = 0; i < BUS_MAX; i++)
        assert_int_equal(bus_add(&b, (uint64_t)(BUS_MAX - i) * 16, 16, &probe_ops, &p), 0);
    assert_int_equal(bus_add(&b, 0x10000, 16, &probe_ops, &p), -ENOSPC);
    for (uint64_t at = 0; at < (BUS_MAX + 2) * 16; at += 16) {
        uint8_t byte;
        int before = p.reads;

        bus_read(&b, at, &byte, 1);
        assert_int_equal(p.reads - before, at >= 16 && at < (BUS_MAX + 1) * 16);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_of_adding_does_not_matter),
        cmocka_unit_test(accesses_lie_inside_one_range_or_nowhere),
        cmocka_unit_test(top_of_the_address_space),
        cmocka_unit_test(overlaps_are_refused),
        cmocka_unit_test(a_full_bus_takes_no_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
