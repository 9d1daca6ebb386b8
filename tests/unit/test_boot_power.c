/* The sleep and reset ports, and the mark of a panic. */
#include "boot/power.h"
#include "core/num.h"
#include "tests/unit/unit.h"

static uint8_t in(const struct power *p, uint16_t port)
{
    uint8_t v = 0x55;

    power_io_read(p, port, &v, 1);
    return v;
}

static enum power_event out(struct power *p, uint16_t port, uint8_t v)
{
    return power_io_write(p, port, &v, 1);
}

static void test_sleep(void **state)
{
    (void)state;
    struct power p = { 0 };

    assert_int_equal(in(&p, 0x601), 0);
    assert_int_equal(out(&p, 0x601, 0x80), POWER_NONE);   /* Linux clears WAK before */
    assert_int_equal(out(&p, 0x600, 5 << 2), POWER_NONE); /* no SLP_EN yet */
    assert_int_equal(in(&p, 0x601), 0);
    assert_int_equal(out(&p, 0x600, 5 << 2 | 0x20), POWER_OFF);
    assert_int_equal(in(&p, 0x601), 0x80);
    out(&p, 0x601, 0x80);
    assert_int_equal(in(&p, 0x601), 0);
    /* Another sleep state is none of ours, but who asked reads that it woke. */
    assert_int_equal(out(&p, 0x600, 1 << 2 | 0x20), POWER_NONE);
    assert_int_equal(in(&p, 0x601), 0x80);
}

static void test_reset(void **state)
{
    (void)state;
    struct power p = { 0 };

    assert_int_equal(out(&p, 0x602, 1), POWER_RESET);
    assert_int_equal(out(&p, 0x602, 0), POWER_NONE);
    assert_int_equal(in(&p, 0x64), 0);
    assert_int_equal(out(&p, 0x64, 0xfe), POWER_RESET);
    assert_int_equal(out(&p, 0x64, 0xff), POWER_NONE);
    assert_int_equal(out(&p, 0x60, 0xfe), POWER_NONE);
}

/* Wider accesses, and ports at the end of the space. */
static void test_wide(void **state)
{
    (void)state;
    struct power p = { 0 };
    uint8_t v[4];

    assert_int_equal(power_io_write(&p, 0x5ff, (uint8_t[]){ 0, 0x34, 0, 0 }, 4), POWER_OFF);
    power_io_read(&p, 0x5ff, v, 4);
    assert_memory_equal(v, "\xff\x00\x80\x00", 4);
    assert_int_equal(power_io_write(&p, 0x63, (uint8_t[]){ 0, 0xfe }, 2), POWER_RESET);
    assert_int_equal(power_io_write(&p, 0xffff, (uint8_t[]){ 0xfe, 0xfe, 0xfe, 0xfe }, 4),
                     POWER_NONE);
    power_io_read(&p, 0xffff, v, 4);
    assert_memory_equal(v, "\xff\xff\xff\xff", 4);
}

static void test_panicked(void **state)
{
    (void)state;
    static uint8_t ram[MIB];
    struct gmem m;

    gmem_init_at(&m, ram, sizeof ram);
    assert_false(boot_panicked(&m));
    ram[0x472] = 0x34;
    assert_false(boot_panicked(&m));
    ram[0x473] = 0x12;
    assert_true(boot_panicked(&m));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sleep),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_wide),
        cmocka_unit_test(test_panicked),
    };

    return cmocka_run_group_tests_name("boot_power", tests, NULL, NULL);
}
