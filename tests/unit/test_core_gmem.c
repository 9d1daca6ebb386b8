/* Guest memory: every translation against the layout, at each edge of it. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/gmem.h"

#define PART 256 /* bytes of each region of the small memory */

/* Two small regions with a wide hole; host memory of exactly their size, so that the sanitizer sees
 * one byte too many. */
struct small {
    struct gmem m;
    uint8_t *low, *high;
};

static void small_init(struct small *s)
{
    s->low = malloc(PART);
    s->high = malloc(PART);
    assert_non_null(s->low);
    assert_non_null(s->high);
    s->m = (struct gmem){ .n = 2,
                          .size = 2 * PART,
                          .region = {
                              { .base = 0, .len = PART, .host = s->low },
                              { .base = GMEM_HIGH_BASE, .len = PART, .host = s->high },
                          } };
    for (unsigned i = 0; i < PART; i++) {
        s->low[i] = (uint8_t)i;
        s->high[i] = (uint8_t)~i;
    }
}

static void small_fini(struct small *s)
{
    free(s->low);
    free(s->high);
}

static const struct {
    uint64_t gpa, len;
    bool ram;
} spans[] = {
    { 0, 1, true },
    { 0, PART, true },
    { 1, PART - 1, true },
    { PART - 1, 1, true },
    { 0, PART + 1, false },            /* runs into the hole */
    { PART - 1, 2, false },            /* its last byte does */
    { PART, 1, false },                /* begins there */
    { PART, UINT64_MAX, false },       /* and wraps back to 0 */
    { GMEM_HIGH_BASE - 1, 1, false },  /* ends there */
    { GMEM_HIGH_BASE - 1, 2, false },  /* comes out of it */
    { 0, GMEM_HIGH_BASE + 1, false },  /* spans it */
    { GMEM_HIGH_BASE / 2, 16, false }, /* lies in its middle */
    { GMEM_HIGH_BASE, 1, true },
    { GMEM_HIGH_BASE, PART, true },
    { GMEM_HIGH_BASE + PART - 1, 1, true },
    { GMEM_HIGH_BASE, PART + 1, false },
    { GMEM_HIGH_BASE + PART - 1, 2, false },
    { GMEM_HIGH_BASE + PART, 1, false },
    { UINT64_MAX, 1, false },
    { UINT64_MAX, 2, false }, /* wraps */
    { UINT64_MAX, UINT64_MAX, false },
    { UINT64_MAX - 15, 16, false }, /* ends at the very top */
    { UINT64_MAX - 15, 17, false }, /* wraps to address 0 */
    { 1, UINT64_MAX, false },       /* ends where it began, wrapping */
    { 0, UINT64_MAX, false },
    { GMEM_HIGH_BASE, UINT64_MAX - GMEM_HIGH_BASE + 1, false },
};

static void spans_are_ram_or_nothing(void **state)
{
    struct small s;

    (void)state;
    small_init(&s);
    for (size_t i = 0; i < ARRAY_LEN(spans); i++) {
        uint8_t *p = gmem_span(&s.m, (gpa_t){ spans[i].gpa }, spans[i].len);
        uint8_t *want = NULL;

        if (spans[i].ram)
            want = spans[i].gpa < GMEM_HIGH_BASE ? s.low + spans[i].gpa
                                                 : s.high + (spans[i].gpa - GMEM_HIGH_BASE);
        if (p != want)
            fail_msg("span %zu: 0x%jx + 0x%jx gives %p", i, (uintmax_t)spans[i].gpa,
                     (uintmax_t)spans[i].len, (void *)p);
    }
    small_fini(&s);
}

/* Every start and length around both edges, against a plain model. */
static void copies_agree_with_a_model_everywhere(void **state)
{
    static const uint64_t bases[] = { 0, GMEM_HIGH_BASE };
    struct small s;

    (void)state;
    small_init(&s);
    for (size_t b = 0; b < ARRAY_LEN(bases); b++)
        for (int64_t off = b ? -20 : 0; off < PART + 20; off++)
            for (size_t len = 1; len < PART + 20; len += len < 18 || len > PART - 18 ? 1 : 37) {
                gpa_t at = { bases[b] + (uint64_t)off };
                bool ram = off >= 0 && (uint64_t)off + len <= PART;
                uint8_t got[PART + 20];
                struct iovec iov = { 0 };

                memset(got, 0xa5, sizeof got);
                assert_int_equal(gmem_read(&s.m, at, got, len), ram ? 0 : -EFAULT);
                assert_int_equal(gmem_iov(&s.m, at, len, &iov, 1), ram ? 1 : -EFAULT);
                for (size_t i = 0; i < len; i++)
                    if (got[i] != (!ram ? 0xa5 : (uint8_t)(b ? ~(off + i) : off + i)))
                        fail_msg("0x%jx + %zu, byte %zu", (uintmax_t)at.v, len, i);
                if (ram) {
                    assert_ptr_equal(iov.iov_base, (b ? s.high : s.low) + off);
                    assert_int_equal(iov.iov_len, len);
                }
            }
    small_fini(&s);
}

static void refused_writes_write_nothing(void **state)
{
    uint8_t low[PART], high[PART], junk[2 * PART];
    struct small s;

    (void)state;
    small_init(&s);
    memcpy(low, s.low, PART);
    memcpy(high, s.high, PART);
    memset(junk, 0x5a, sizeof junk);
    for (size_t i = 0; i < ARRAY_LEN(spans); i++) {
        gpa_t at = { spans[i].gpa };
        struct iovec iov;

        if (spans[i].ram)
            continue;
        /* A read of 2^64 bytes has no buffer; it must be refused before one is needed. */
        assert_int_equal(gmem_read(&s.m, at, junk, spans[i].len), -EFAULT);
        assert_int_equal(gmem_write(&s.m, at, junk, spans[i].len), -EFAULT);
        assert_int_equal(gmem_zero(&s.m, at, spans[i].len), -EFAULT);
        assert_int_equal(gmem_iov(&s.m, at, spans[i].len, &iov, 1), -EFAULT);
    }
    assert_memory_equal(low, s.low, PART);
    assert_memory_equal(high, s.high, PART);
    small_fini(&s);
}

static void writes_land_where_they_should(void **state)
{
    struct small s;
    uint8_t want[PART];
    gpa_t at = { GMEM_HIGH_BASE + PART - 5 };

    (void)state;
    small_init(&s);
    memcpy(want, s.high, PART);
    assert_int_equal(gmem_write(&s.m, at, "abcde", 5), 0);
    memcpy(want + PART - 5, "abcde", 5);
    assert_memory_equal(s.high, want, PART);
    assert_int_equal(gmem_zero(&s.m, (gpa_t){ at.v + 1 }, 3), 0);
    memset(want + PART - 4, 0, 3);
    assert_memory_equal(s.high, want, PART);
    small_fini(&s);
}

/* Nothing is everywhere, but it is no span. */
static void length_zero(void **state)
{
    static const uint64_t at[] = { 0, PART, GMEM_HIGH_BASE - 1, UINT64_MAX };
    struct small s;
    struct iovec iov;

    (void)state;
    small_init(&s);
    for (size_t i = 0; i < ARRAY_LEN(at); i++) {
        gpa_t gpa = { at[i] };

        assert_null(gmem_span(&s.m, gpa, 0));
        assert_int_equal(gmem_read(&s.m, gpa, NULL, 0), 0);
        assert_int_equal(gmem_write(&s.m, gpa, NULL, 0), 0);
        assert_int_equal(gmem_zero(&s.m, gpa, 0), 0);
        assert_int_equal(gmem_iov(&s.m, gpa, 0, &iov, 0), 0);
    }
    assert_int_equal(gmem_iov(&s.m, (gpa_t){ 0 }, 1, &iov, 0), -E2BIG);
    small_fini(&s);
}

static void one_region_of_the_callers(void **state)
{
    struct gmem m;
    uint8_t *host = malloc(4096);

    (void)state;
    assert_non_null(host);
    gmem_init_at(&m, host, 4096);
    assert_int_equal(m.n, 1);
    assert_int_equal(m.size, 4096);
    assert_ptr_equal(gmem_span(&m, (gpa_t){ 0 }, 4096), host);
    assert_null(gmem_span(&m, (gpa_t){ 0 }, 4097));
    assert_null(gmem_span(&m, (gpa_t){ GMEM_HIGH_BASE }, 1));
    gmem_fini(&m); /* frees nothing of the caller's */
    memset(host, 1, 4096);
    free(host);
}

static void layouts_of_real_mappings(void **state)
{
    static const struct {
        uint64_t size, low, high;
    } rows[] = {
        { GMEM_SIZE_MIN, GMEM_SIZE_MIN, 0 },   { 128 * MIB + 4096, 128 * MIB + 4096, 0 },
        { 3 * GIB - 4096, 3 * GIB - 4096, 0 }, { 3 * GIB, 3 * GIB, 0 },
        { 3 * GIB + 4096, 3 * GIB, 4096 },     { 5 * GIB, 3 * GIB, 2 * GIB },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct gmem m;
        struct err e;
        uint8_t byte = 7;

        if (gmem_init(&m, rows[i].size, &(struct gmem_opts){ 0 }, &e))
            fail_msg("%s", e.msg);
        assert_int_equal(m.size, rows[i].size);
        assert_int_equal(m.n, rows[i].high ? 2 : 1);
        assert_int_equal((uintptr_t)m.region[0].host % (2 * MIB), 0);
        assert_non_null(gmem_span(&m, (gpa_t){ 0 }, rows[i].low));
        assert_null(gmem_span(&m, (gpa_t){ 0 }, rows[i].low + 1));
        assert_null(gmem_span(&m, (gpa_t){ rows[i].low - 1 }, 2));
        assert_null(gmem_span(&m, (gpa_t){ GMEM_HIGH_BASE - 1 }, 2));
        assert_int_equal(gmem_write(&m, (gpa_t){ 0 }, &byte, 1), 0);
        assert_int_equal(gmem_write(&m, (gpa_t){ rows[i].low - 1 }, &byte, 1), 0);
        if (rows[i].high) {
            gpa_t last = { GMEM_HIGH_BASE + rows[i].high - 1 };
            uint8_t *p = gmem_span(&m, (gpa_t){ GMEM_HIGH_BASE }, rows[i].high);

            assert_non_null(p);
            assert_int_equal((uintptr_t)p % (2 * MIB), 0);
            assert_int_equal(p[0], 0); /* neither the low region's first byte nor its last */
            assert_int_equal(gmem_write(&m, last, &byte, 1), 0);
            assert_null(gmem_span(&m, last, 2));
        } else {
            assert_null(gmem_span(&m, (gpa_t){ GMEM_HIGH_BASE }, 1));
        }
        gmem_fini(&m);
        assert_null(gmem_span(&m, (gpa_t){ 0 }, 1));
        gmem_fini(&m); /* once more is harmless */
    }
}

static void bad_sizes_are_refused(void **state)
{
    static const uint64_t sizes[] = { 0,
                                      1,
                                      4096,
                                      MIB - 4096,
                                      MIB + 1,
                                      MIB + 2048,
                                      GMEM_SIZE_MAX + 4096,
                                      UINT64_MAX,
                                      UINT64_MAX - 4095 };
    struct gmem m;
    struct err e;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        assert_int_equal(gmem_init(&m, sizes[i], &(struct gmem_opts){ 0 }, &e), -EINVAL);
        assert_int_equal(e.code, EINVAL);
        gmem_fini(&m);
    }
    assert_int_equal(gmem_init(&m, 3 * MIB, &(struct gmem_opts){ .hugepages = true }, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "--hugepages"));
}

/* An overrun of ours faults: the page behind the end is there and takes no access. */
static void a_guard_lies_behind_the_end(void **state)
{
    struct gmem m;
    struct err e;
    int fds[2];

    (void)state;
    assert_int_equal(gmem_init(&m, MIB, &(struct gmem_opts){ 0 }, &e), 0);
    assert_int_equal(pipe(fds), 0);
    /* The kernel says EFAULT where an access of ours would be a signal. */
    assert_int_equal(write(fds[1], m.region[0].host + MIB - 1, 1), 1);
    assert_int_equal(write(fds[1], m.region[0].host + MIB, 1), -1);
    assert_int_equal(errno, EFAULT);
    /* cppcheck-suppress leakReturnValNotUsed ; it fails */
    assert_int_equal(mmap(m.region[0].host + MIB, 4096, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED,
                     1);
    close(fds[0]);
    close(fds[1]);
    gmem_fini(&m);
}

static void prefault_makes_it_present(void **state)
{
    struct gmem m;
    struct err e;
    uint8_t there[4 * MIB / 4096] = { 0 };

    (void)state;
    assert_int_equal(gmem_init(&m, 4 * MIB, &(struct gmem_opts){ .prefault = true }, &e), 0);
    assert_int_equal(mincore(m.region[0].host, 4 * MIB, there), 0);
    for (size_t i = 0; i < sizeof there; i++)
        assert_true(there[i] & 1);
    gmem_fini(&m);
}

static void no_address_space_left(void **state)
{
    struct gmem m;
    struct err e;
    struct rlimit before, none = { 0 };

    (void)state;
    getrlimit(RLIMIT_AS, &before);
    none.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
    int ret = gmem_init(&m, 64 * GIB, &(struct gmem_opts){ 0 }, &e);

    setrlimit(RLIMIT_AS, &before);
    assert_int_equal(ret, -ENOMEM);
    assert_non_null(strstr(e.msg, "ulimit -v"));
    gmem_fini(&m);
}

/* Most machines reserve none: then the message says how. */
static void hugepages_come_or_say_why(void **state)
{
    struct gmem m;
    struct err e;
    struct gmem_opts o = { .hugepages = true };

    (void)state;
    if (gmem_init(&m, 64 * GIB, &o, &e) == 0) {
        gmem_fini(&m);
        skip();
    }
    assert_non_null(strstr(e.msg, "vm.nr_hugepages"));
    assert_null(m.map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans_are_ram_or_nothing),
        cmocka_unit_test(copies_agree_with_a_model_everywhere),
        cmocka_unit_test(refused_writes_write_nothing),
        cmocka_unit_test(writes_land_where_they_should),
        cmocka_unit_test(length_zero),
        cmocka_unit_test(one_region_of_the_callers),
        cmocka_unit_test(layouts_of_real_mappings),
        cmocka_unit_test(bad_sizes_are_refused),
        cmocka_unit_test(a_guard_lies_behind_the_end),
        cmocka_unit_test(prefault_makes_it_present),
        cmocka_unit_test(no_address_space_left),
        cmocka_unit_test(hugepages_come_or_say_why),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
