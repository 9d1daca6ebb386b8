/* The ACPI tables, read back the way a guest reads them. */
#include <stdlib.h>

#include "boot/acpi.h"
#include "boot/aml.h"
#include "boot/layout.h"
#include "core/num.h"
#include "tests/unit/unit.h"

static uint64_t le(const uint8_t *p, size_t n)
{
    uint64_t v = 0;

    memcpy(&v, p, n);
    return v;
}

static void assert_sum_zero(const uint8_t *p, size_t n)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < n; i++)
        sum = (uint8_t)(sum + p[i]);
    assert_int_equal(sum, 0);
}

/* The table at gpa, inside the area and with a right checksum. */
static const uint8_t *table_at(struct gmem *m, uint64_t gpa, const char *signature)
{
    assert_true(gpa >= LAYOUT_ACPI && gpa % 4 == 0);
    const uint8_t *p = gmem_span(m, (gpa_t){ gpa }, 36);

    assert_non_null(p);
    uint64_t len = le(p + 4, 4);

    assert_true(gpa + len <= LAYOUT_ACPI + LAYOUT_ACPI_LEN);
    assert_memory_equal(p, signature, 4);
    assert_sum_zero(p, len);
    return p;
}

struct tables {
    struct gmem m;
    const uint8_t *fadt, *madt, *dsdt;
};

static void tables_build(struct tables *t, unsigned cpus, int devices)
{
    struct boot_device d[BOOT_DEVICES_MAX];
    struct boot_config c = { .cpus = cpus, .devices = d, .n_devices = devices };
    struct err e;

    for (int i = 0; i < devices; i++)
        assert_int_equal(boot_device_slot((unsigned)i, false, &d[i], &e), 0);
    assert_int_equal(gmem_init(&t->m, 2 * MIB, &(struct gmem_opts){ 0 }, &e), 0);
    assert_int_equal(acpi_build(&t->m, &c, &e), 0);

    const uint8_t *rsdp = gmem_span(&t->m, (gpa_t){ LAYOUT_ACPI }, 36);

    assert_memory_equal(rsdp, "RSD PTR ", 8);
    assert_int_equal(rsdp[15], 2);
    assert_sum_zero(rsdp, 20);
    assert_sum_zero(rsdp, 36);
    const uint8_t *xsdt = table_at(&t->m, le(rsdp + 24, 8), "XSDT");

    assert_int_equal(le(xsdt + 4, 4), 36 + 2 * 8);
    t->fadt = table_at(&t->m, le(xsdt + 36, 8), "FACP");
    t->madt = table_at(&t->m, le(xsdt + 44, 8), "APIC");
    t->dsdt = table_at(&t->m, le(t->fadt + 140, 8), "DSDT");
    assert_int_equal(le(t->fadt + 40, 4), le(t->fadt + 140, 8));
}

static void test_fadt(void **state)
{
    (void)state;
    struct tables t;

    tables_build(&t, 1, 1);
    assert_int_equal(le(t.fadt + 4, 4), 276);
    assert_int_equal(t.fadt[8], 6);
    assert_int_equal(le(t.fadt + 109, 2), 1 << 2 | 1 << 5); /* no 8042, no VGA, no CMOS clock */
    uint64_t flags = le(t.fadt + 112, 4);

    assert_true(flags & 1 << 20); /* hardware-reduced */
    assert_true(flags & 1 << 10); /* the reset register counts */
    static const struct {
        size_t off;
        uint64_t port;
    } gas[] = { { 116, 0x602 }, { 244, 0x600 }, { 256, 0x601 } };

    for (size_t i = 0; i < ARRAY_LEN(gas); i++) {
        assert_int_equal(t.fadt[gas[i].off], 1);     /* system I/O */
        assert_int_equal(t.fadt[gas[i].off + 1], 8); /* bits */
        assert_int_equal(t.fadt[gas[i].off + 3], 1); /* byte access */
        assert_int_equal(le(t.fadt + gas[i].off + 4, 8), gas[i].port);
    }
    assert_int_equal(t.fadt[128], 1);
    gmem_fini(&t.m);
}

static void test_madt(void **state)
{
    (void)state;
    static const unsigned cpus[] = { 1, 2, 64 };

    for (size_t i = 0; i < ARRAY_LEN(cpus); i++) {
        struct tables t;
        unsigned n = 0, ioapics = 0;

        tables_build(&t, cpus[i], 0);
        assert_int_equal(le(t.madt + 36, 4), 0xfee00000);
        assert_int_equal(le(t.madt + 40, 4), 0); /* no 8259 */
        size_t len = le(t.madt + 4, 4), at = 44;

        for (; at < len; at += t.madt[at + 1]) {
            if (t.madt[at] == 0) {
                assert_int_equal(t.madt[at + 1], 8);
                assert_int_equal(t.madt[at + 2], n);
                assert_int_equal(t.madt[at + 3], n);
                assert_int_equal(le(t.madt + at + 4, 4), 1);
                n++;
            } else {
                assert_int_equal(t.madt[at], 1);
                assert_int_equal(t.madt[at + 1], 12);
                assert_int_equal(le(t.madt + at + 4, 4), 0xfec00000);
                assert_int_equal(le(t.madt + at + 8, 4), 0);
                ioapics++;
            }
        }
        assert_int_equal(at, len);
        assert_int_equal(n, cpus[i]);
        assert_int_equal(ioapics, 1);
        gmem_fini(&t.m);
    }
}

/* Reads a PkgLength; *end is where its object ends. How many bytes it takes. */
static size_t pkg_length(const uint8_t *p, const uint8_t **end)
{
    size_t n = (size_t)(p[0] >> 6) + 1, len = n == 1 ? p[0] & 0x3f : p[0] & 0xf;

    for (size_t i = 1; i < n; i++)
        len |= (size_t)p[i] << (4 + 8 * (i - 1));
    *end = p + len;
    return n;
}

static void test_dsdt(void **state)
{
    (void)state;
    static const int counts[] = { 0, 1, 4, 19 };

    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        struct tables t;
        const uint8_t *end, *scope_end, *p;
        int n = 0;

        tables_build(&t, 1, counts[i]);
        p = t.dsdt + 36;
        end = t.dsdt + le(t.dsdt + 4, 4);
        assert_int_equal(*p++, 0x10); /* Scope (\_SB) */
        p += pkg_length(p, &scope_end);
        assert_memory_equal(p, "\\_SB_", 5);
        for (p += 5; n < counts[i]; n++) {
            const uint8_t *dev_end, *crs, *crs_end;

            assert_memory_equal(p, "\x5b\x82", 2); /* Device */
            p += 2 + pkg_length(p + 2, &dev_end);
            assert_int_equal(p[0], 'V');
            assert_memory_equal(p + 4, "\x08_HID\x0dLNRO0005", 15);
            assert_memory_equal(p + 19, "\x08_UID", 5);
            crs = p + (n < 2 ? 25 : 26);
            assert_memory_equal(crs, "\x08_CRS\x11", 6);
            crs += 6 + pkg_length(crs + 6, &crs_end);
            assert_memory_equal(crs, "\x0a\x17", 2); /* 23 bytes */
            crs += 2;
            assert_int_equal(le(crs + 4, 4), 0xd0000000 + (unsigned)n * 4096);
            assert_int_equal(le(crs + 8, 4), 4096);
            /* Extended interrupt: consumer, edge, active high, exclusive. */
            assert_memory_equal(crs + 12, "\x89\x06\x00\x03\x01", 5);
            assert_int_equal(le(crs + 17, 4), 5 + n);
            assert_memory_equal(crs + 21, "\x79\x00", 2);
            assert_ptr_equal(crs + 23, crs_end);
            assert_ptr_equal(crs_end, dev_end);
            p = dev_end;
        }
        /* The power button, and the event device that reports it. */
        assert_memory_equal(p, "\x5b\x82\x13PWRB\x08_HID\x0dPNP0C0C", 21);
        p += 21;
        assert_memory_equal(p, "\x5b\x82", 2);
        assert_memory_equal(p + 3,
                            "GED0\x08_HID\x0d"
                            "ACPI0013\0\x08_CRS\x11\x0e\x0a\x0b",
                            28);
        assert_memory_equal(p + 31, "\x89\x06\x00\x03\x01\x04\0\0\0\x79\x00", 11);
        assert_memory_equal(p + 42, "\x14\x0d_EVT\x01\x86PWRB\x0a\x80", 14);
        p += 56;
        assert_ptr_equal(p, scope_end);
        assert_memory_equal(p, "\x08_S5_\x12\x07\x04\x0a\x05\x00\x00\x00", 13);
        assert_ptr_equal(p + 13, end);
        gmem_fini(&t.m);
    }
}

static void test_aml_lengths(void **state)
{
    (void)state;
    /* Inner bytes and how many the PkgLength takes: it counts itself. */
    static const struct {
        size_t inner, n;
    } rows[] = {
        { 1, 1 },    { 62, 1 },   { 63, 2 },      { 4093, 2 },
        { 4094, 3 }, { 9999, 3 }, { 1048572, 3 }, { 1048573, 4 },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t cap = rows[i].inner + rows[i].n + 1;
        struct wbuf a = { .data = malloc(cap), .cap = cap };
        uint8_t *fill = malloc(rows[i].inner);
        const uint8_t *end;

        memset(fill, 0x5a, rows[i].inner);
        size_t mark = aml_package(&a, 0); /* one byte inside */

        wbuf_bytes(&a, fill, rows[i].inner - 1);
        aml_close(&a, mark);
        assert_false(a.overflow);
        assert_int_equal(a.len, cap);
        assert_int_equal(pkg_length(a.data + 1, &end), rows[i].n);
        assert_ptr_equal(end, a.data + cap);
        assert_int_equal(a.data[cap - 1], rows[i].inner > 1 ? 0x5a : 0);

        /* A byte less is too little, and said. */
        a = (struct wbuf){ .data = a.data, .cap = cap - 1 };
        mark = aml_package(&a, 0);
        wbuf_bytes(&a, fill, rows[i].inner - 1);
        aml_close(&a, mark);
        assert_true(a.overflow);
        free(fill);
        free(a.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fadt),
        cmocka_unit_test(test_madt),
        cmocka_unit_test(test_dsdt),
        cmocka_unit_test(test_aml_lengths),
    };

    return cmocka_run_group_tests_name("boot_acpi", tests, NULL, NULL);
}
