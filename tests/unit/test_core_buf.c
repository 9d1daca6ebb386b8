/* Save and load buffers, and errors for people. */
#include "tests/unit/unit.h"

#include "core/buf.h"
#include "core/err.h"

/* Writes one item of each kind, chosen by kind, and the same bytes to flat. Bytes written. */
static size_t put(struct wbuf *w, uint8_t *flat, unsigned kind, struct rng *r)
{
    uint64_t v = rng_next(r);
    uint8_t bytes[40];
    size_t n = rng_below(r, sizeof bytes + 1);

    switch (kind) {
    case 0:
        wbuf_u16(w, (uint16_t)v);
        memcpy(flat, &v, 2);
        return 2;
    case 1:
        wbuf_u32(w, (uint32_t)v);
        memcpy(flat, &v, 4);
        return 4;
    case 2:
        wbuf_u64(w, v);
        memcpy(flat, &v, 8);
        return 8;
    default:
        rng_fill(r, bytes, n);
        wbuf_bytes(w, bytes, n);
        memcpy(flat, bytes, n);
        return n;
    }
}

static void writers_write_what_fits(void **state)
{
    struct rng r = { 4 };

    (void)state;
    for (int round = 0; round < 20000; round++) {
        uint8_t data[128 + 16], flat[256];
        struct wbuf w = { .data = data, .cap = rng_below(&r, 129) };
        size_t len = 0;
        bool full = false;

        memset(data, 0xee, sizeof data);
        for (int i = 0; i < 6; i++) {
            size_t n = put(&w, flat + len, (unsigned)rng_below(&r, 4), &r);

            full = full || len + n > w.cap;
            if (!full)
                len += n;
            assert_int_equal(w.overflow, full); /* sticky */
            assert_int_equal(w.len, len);
        }
        assert_memory_equal(data, flat, len);
        for (size_t i = len; i < sizeof data; i++)
            assert_int_equal(data[i], 0xee);
    }
}

static void readers_never_pass_the_end(void **state)
{
    struct rng r = { 5 };
    uint8_t data[64];

    (void)state;
    for (int round = 0; round < 20000; round++) {
        struct rbuf b = { .data = data, .len = rng_below(&r, sizeof data + 1) };
        size_t at = 0;
        bool over = false;

        rng_fill(&r, data, sizeof data);
        for (int i = 0; i < 16; i++) {
            uint64_t want = 0, got = 0;
            uint8_t bytes[40], zeros[40] = { 0 };
            size_t n = (size_t[]){ 2, 4, 8, rng_below(&r, sizeof bytes) }[i % 4];

            over = over || n > b.len - at;
            if (!over && i % 4 < 3)
                memcpy(&want, data + at, n);
            switch (i % 4) {
            case 0:
                got = rbuf_u16(&b);
                break;
            case 1:
                got = rbuf_u32(&b);
                break;
            case 2:
                got = rbuf_u64(&b);
                break;
            default:
                memset(bytes, 0xcc, sizeof bytes);
                rbuf_bytes(&b, bytes, n);
                assert_memory_equal(bytes, over ? zeros : data + at, n);
            }
            assert_true(got == want);
            if (!over)
                at += n;
            assert_int_equal(b.overrun, over);
            assert_int_equal(b.off, at);
        }
    }
}

static void numbers_are_little_endian(void **state)
{
    uint8_t data[14];
    struct wbuf w = { .data = data, .cap = sizeof data };

    (void)state;
    wbuf_u16(&w, 0x0102);
    wbuf_u32(&w, 0x03040506);
    wbuf_u64(&w, 0x0708090a0b0c0d0e);
    assert_memory_equal(data, "\x02\x01\x06\x05\x04\x03\x0e\x0d\x0c\x0b\x0a\x09\x08\x07", 14);
    assert_false(w.overflow);
}

static void errors_are_one_line(void **state)
{
    struct err e;
    char longer[2000];

    (void)state;
    assert_int_equal(err_set(&e, ENOENT, "disk %s: %d", "a\nb\x1b[2J\x7f", 7), -ENOENT);
    assert_int_equal(e.code, ENOENT);
    assert_string_equal(e.msg, "disk a?b?[2J?: 7");
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    assert_int_equal(err_set(&e, EINVAL, "%s", longer), -EINVAL);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    err_set(&e, EINVAL, "\xc3\xa9%s", ""); /* other scripts stay */
    assert_string_equal(e.msg, "\xc3\xa9");
}

static void shortages_have_their_own_remedy(void **state)
{
    static const struct {
        int code;
        const char *says; /* NULL: what the caller thinks */
    } rows[] = { { EMFILE, "ulimit -n" },
                 { ENFILE, "fs.file-max" },
                 { ENOMEM, "memory" },
                 { ENOSPC, "space" },
                 { EDQUOT, "space" },
                 { ENOENT, NULL },
                 { 0, NULL } };
    const char *otherwise = "look again";

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].says)
            assert_non_null(strstr(err_remedy(rows[i].code, otherwise), rows[i].says));
        else
            assert_ptr_equal(err_remedy(rows[i].code, otherwise), otherwise);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writers_write_what_fits),
        cmocka_unit_test(readers_never_pass_the_end),
        cmocka_unit_test(numbers_are_little_endian),
        cmocka_unit_test(errors_are_one_line),
        cmocka_unit_test(shortages_have_their_own_remedy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
