/* Finding a kernel's log in memory that says nothing of where it is. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "boot/klog.h"
#include "core/num.h"
#include "tests/unit/unit.h"

#define RAM_LEN  (1 * MIB)
#define RING_LEN 1024
#define FIRST_ID UINT64_C(0xfffff000)

static uint8_t ram[RAM_LEN] __attribute__((aligned(4096)));

/* Linux's text ring, written as its printk does. */
struct ring {
    uint8_t *p;
    size_t len, at; /* at grows without end */
    uint64_t id;
};

static void ring_put(struct ring *r, const char *text)
{
    char store[300];
    size_t used = strlen(text);

    /* Prefix and newline written, the text moved down over the prefix. */
    int n = snprintf(store, sizeof store,
                     "\001"
                     "6%s\n",
                     text);
    size_t block = (8 + (size_t)n + 1 + 7) & ~(size_t)7;

    memmove(store, store + 2, used);
    if (r->at % r->len + block > r->len) {
        memcpy(r->p + r->at % r->len, &r->id, 8);
        r->at += r->len - r->at % r->len;
    }
    uint8_t *to = r->p + r->at % r->len;

    memcpy(to, &r->id, 8);
    memcpy(to + 8, store, (size_t)n + 1);
    r->id++;
    r->at += block;
}

static struct ring ring_at(size_t off, size_t len)
{
    return (struct ring){ .p = ram + off, .len = len, .id = FIRST_ID };
}

static size_t find(char *out, size_t max)
{
    struct gmem m;

    gmem_init_at(&m, ram, sizeof ram);
    size_t n = klog_find(&m, out, max);

    assert_true(n <= max);
    for (size_t i = 0; i < n; i++)
        assert_true(out[i] == '\n' || (out[i] >= ' ' && out[i] < 0x7f));
    return n;
}

static void test_plain(void **state)
{
    (void)state;
    char out[512];
    struct ring r = ring_at(0x54328, RING_LEN);

    memset(ram, 0, sizeof ram);
    assert_int_equal(find(out, sizeof out), 0);
    snprintf((char *)ram + 0x2000, 64, "Linux version 6.1 (the banner, elsewhere)");
    ring_put(&r, "Linux version 6.1 (gcc)");
    ring_put(&r, "Command line: quiet");
    r.id++; /* an empty record has no block */
    ring_put(&r, "exactly");
    ring_put(&r, "two\nlines\twide");
    ring_put(&r, "evil \033[2J and \xc2\x9b");
    ring_put(&r, "Kernel panic - not syncing: no");
    static const char want[] = "Linux version 6.1 (gcc)\nCommand line: quiet\nexactly\n"
                               "two\nlines wide\nevil ?[2J and ??\n"
                               "Kernel panic - not syncing: no\n";
    size_t n = find(out, sizeof out);

    assert_int_equal(n, sizeof want - 1);
    assert_memory_equal(out, want, n);
    /* The last whole lines. */
    n = find(out, 58);
    assert_int_equal(n, 48);
    assert_memory_equal(out, want + sizeof want - 1 - n, n);
    n = find(out, 48);
    assert_int_equal(n, 48);
    /* Less than a line is still something. */
    n = find(out, 9);
    assert_memory_equal(out, "cing: no\n", 9);
    assert_int_equal(n, 9);
    assert_int_equal(find(out, 1), 1);
    assert_int_equal(find(out, 0), 0);
}

/* However often the ring wrapped, what comes out is an end of what went in. */
static void test_wrap(void **state)
{
    (void)state;
    static char all[200000], out[4 * RING_LEN];

    for (unsigned count = 4; count < 400; count += 3) {
        struct ring r = ring_at(0x10008, RING_LEN);
        size_t len = 0;

        memset(ram, 0, sizeof ram);
        for (unsigned i = 0; i < count; i++) {
            char text[64];
            int n = snprintf(text, sizeof text, "record %u %.*s", i, (int)(i * 7 % 30),
                             "abcdefghijklmnopqrstuvwxyz0123456789");

            ring_put(&r, text);
            memcpy(all + len, text, (size_t)n);
            all[len + (size_t)n] = '\n';
            len += (size_t)n + 1;
        }
        size_t n = find(out, sizeof out);

        /* Most of what the ring can hold. */
        assert_true(n >= min_size(len, RING_LEN / 3));
        assert_memory_equal(out, all + len - n, n);
    }
}

/* After the ids passed 2^32. */
static void test_late(void **state)
{
    (void)state;
    char out[256];
    struct ring r = ring_at(0x8000, RING_LEN);

    memset(ram, 0, sizeof ram);
    r.id = (UINT64_C(1) << 32) - 2;
    for (int i = 0; i < 5; i++)
        ring_put(&r, "a message");
    assert_int_equal(find(out, sizeof out), 50);
    r = ring_at(0x8000, RING_LEN);
    memset(ram, 0, sizeof ram);
    r.id = (UINT64_C(1) << 32) + 5000;
    for (int i = 0; i < 5; i++)
        ring_put(&r, "a message");
    assert_int_equal(find(out, sizeof out), 50);
}

/* A kernel with many CPUs moves to a larger ring; the old one stays behind. */
static void test_moved(void **state)
{
    (void)state;
    char out[256];
    struct ring old = ring_at(0x90000, RING_LEN), now = ring_at(0x20000, RING_LEN);

    memset(ram, 0, sizeof ram);
    for (int i = 0; i < 6; i++)
        ring_put(&old, "old ring");
    for (int i = 0; i < 8; i++)
        ring_put(&now, "new ring");
    assert_int_equal(find(out, sizeof out), 8 * 9);
    assert_memory_equal(out, "new ring\n", 9);
}

/* Rings made to hurt: at the very end of memory, endless, everywhere. */
static void test_hostile(void **state)
{
    (void)state;
    static char out[4096];
    struct ring r = ring_at(RAM_LEN - 64, 64);
    static const uint8_t junk[2][8] = { "text\1\n", "\033]0;xy\a" };
    uint64_t seed = 88172645463325252;

    memset(ram, 0, sizeof ram);
    for (size_t i = 0; i < 4; i++) { /* ids up to the last word */
        memcpy(r.p + i * 16, &r.id, 8);
        memcpy(r.p + i * 16 + 8, "textual.", 8);
        r.id++;
    }
    assert_int_equal(find(out, sizeof out), 4 * 9);
    memset(ram, 'A', sizeof ram);
    assert_int_equal(find(out, sizeof out), 0);
    /* The whole of memory one run. */
    for (size_t i = 0; i < RAM_LEN; i += 16) {
        uint64_t id = FIRST_ID + i / 16;

        memcpy(ram + i, &id, 8);
        memset(ram + i + 8, 'x', 8);
    }
    assert_true(find(out, sizeof out) > 4000);
    /* All the same id, descending ids, ids at random. */
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < RAM_LEN; i += 8) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            uint64_t id = round == 0   ? FIRST_ID
                          : round == 1 ? FIRST_ID - i
                                       : FIRST_ID + (seed >> 40) % (1u << round);

            if (seed & 1)
                memcpy(ram + i, &id, 8);
            else
                memcpy(ram + i, junk[seed >> 1 & 1], 8);
        }
        find(out, sizeof out);
    }
}

/* Memory that nobody touched stays so, and is passed over. */
static void test_untouched(void **state)
{
    (void)state;
    struct gmem m;
    struct err e;
    char out[256];
    unsigned char present;

    assert_int_equal(gmem_init(&m, 5 * GIB, &(struct gmem_opts){ 0 }, &e), 0);
    madvise(m.region[0].host, m.region[0].len, MADV_NOHUGEPAGE);
    assert_int_equal(klog_find(&m, out, sizeof out), 0);
    uint8_t *page = m.region[1].host + 1 * GIB;

    assert_int_equal(mincore(page, 4096, &present), 0);
    assert_int_equal(present & 1, 0);
    struct ring r = { .p = page + 64, .len = RING_LEN, .id = FIRST_ID };

    for (int i = 0; i < 5; i++)
        ring_put(&r, "high up");
    assert_int_equal(klog_find(&m, out, sizeof out), 40);
    assert_int_equal(mincore(m.region[0].host + 1 * GIB, 4096, &present), 0);
    assert_int_equal(present & 1, 0);
    gmem_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),   cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_late),    cmocka_unit_test(test_moved),
        cmocka_unit_test(test_hostile), cmocka_unit_test(test_untouched),
    };

    return cmocka_run_group_tests_name("boot_klog", tests, NULL, NULL);
}
