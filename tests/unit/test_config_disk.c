/* --disk: its keys, its errors, and what they promise of whatever is written. */
#include "tests/unit/config_line.h"

#include "core/bucket.h"

/* One disk with nothing said of it but its path. */
static void assert_plain(const struct config_disk *d, const char *path)
{
    assert_string_equal(d->path, path);
    assert_false(d->ro || d->direct || d->overlay);
    assert_null(d->overlay_dir);
    assert_string_equal(d->id, "");
    assert_int_equal(d->io, CONFIG_IO_AUTO);
    assert_int_equal(d->bw, 0);
    assert_int_equal(d->bw_burst, 0);
    assert_int_equal(d->iops, 0);
    assert_int_equal(d->iops_burst, 0);
    assert_int_equal(d->queues, 1);
}

static void disks_are_read(void **state)
{
    struct config c = { 0 };
    const struct config_disk *d = c.disks.disk;

    (void)state;
    assert_good(&c,
                "run -k k -d root.img --disk=/dev/sdb,ro -c3 -da,direct,id=~!\"#$%&'()*+:;<=>?/ "
                "-d b,overlay,io=uring -d c,overlay=/var/t=m:p,io=sync,queues=3 -d d,io=auto");
    assert_int_equal(c.disks.n, 6);
    assert_plain(&d[0], "root.img");
    assert_string_equal(d[1].path, "/dev/sdb");
    assert_true(d[1].ro && !d[1].direct && !d[1].overlay);
    assert_true(d[2].direct && !d[2].ro);
    assert_string_equal(d[2].id, " !\"#$%&'()*+:;<=>?/");
    assert_true(d[3].overlay);
    assert_null(d[3].overlay_dir);
    assert_int_equal(d[3].io, CONFIG_IO_URING);
    assert_string_equal(d[4].overlay_dir, "/var/t=m:p");
    assert_int_equal(d[4].io, CONFIG_IO_SYNC);
    assert_int_equal(d[4].queues, 3);
    assert_plain(&d[5], "d");
    assert_good(&c, "run -k k -d a,id=12345678901234567890 -d b,ro,direct -d ro -d a -d a=b:c");
    assert_string_equal(d[0].id, "12345678901234567890");
    assert_true(d[1].ro && d[1].direct);
    assert_plain(&d[2], "ro"); /* a path, wherever it is the first word */
    assert_plain(&d[3], "a");  /* the same image again: the file's lock judges that */
    assert_plain(&d[4], "a=b:c");
    assert_good(&c, "run -k k -c 64 -d d,queues=64");
    assert_int_equal(d[0].queues, 64);
}

/* Two commas are one, the first that can be is a pair, and this holds for every word. */
static void commas_in_words_are_doubled(void **state)
{
    struct config c = { 0 };
    const struct config_disk *d = c.disks.disk;

    (void)state;
    assert_good(
        &c, "run -k k -d a,,b -d ,, -d ,,,,ro -d a,,,ro -d a,overlay=/t,,mp,,,id=x,,y -d ,,,,,ro");
    assert_plain(&d[0], "a,b");
    assert_plain(&d[1], ",");
    assert_plain(&d[2], ",,ro");
    assert_string_equal(d[3].path, "a,");
    assert_true(d[3].ro);
    assert_string_equal(d[4].path, "a");
    assert_string_equal(d[4].overlay_dir, "/t,mp,");
    assert_string_equal(d[4].id, "x,y");
    assert_string_equal(d[5].path, ",,");
    assert_true(d[5].ro);
}

static void limits_of_disks_have_bursts(void **state)
{
    static const struct {
        const char *line;
        uint64_t bw, bw_burst, iops, iops_burst;
    } rows[] = {
        { "run -k k -d d,bw=100M", 100 * MIB, 10 * MIB, 0, 0 },
        { "run -k k -d d,bw=100M:1G", 100 * MIB, GIB, 0, 0 },
        { "run -k k -d d,bw=1000000", 1000000, 100000, 0, 0 },
        { "run -k k -d d,bw=10", 10, 1, 0, 0 },
        { "run -k k -d d,bw=640K", 640 * KIB, 64 * KIB, 0, 0 },
        { "run -k k -d d,bw=655370", 655370, 65537, 0, 0 },
        { "run -k k -d d,bw=10:1", 10, 1, 0, 0 },
        { "run -k k -d d,bw=1024T:1024T", BUCKET_MAX, BUCKET_MAX, 0, 0 },
        { "run -k k -d d,bw=1125899906842624", BUCKET_MAX, BUCKET_MAX / 10, 0, 0 },
        { "run -k k -d d,iops=500", 0, 0, 500, 50 },
        { "run -k k -d d,iops=500:5000", 0, 0, 500, 5000 },
        { "run -k k -d d,iops=1", 0, 0, 1, 1 },
        { "run -k k -d d,iops=19", 0, 0, 19, 1 },
        { "run -k k -d d,iops=1125899906842624:1125899906842624", 0, 0, BUCKET_MAX, BUCKET_MAX },
        { "run -k k -d d,iops=20,bw=2M", 2 * MIB, 2 * MIB / 10, 20, 2 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct config c = { 0 };
        const struct config_disk *d = c.disks.disk;

        assert_good(&c, rows[i].line);
        if (d->bw != rows[i].bw || d->bw_burst != rows[i].bw_burst || d->iops != rows[i].iops ||
            d->iops_burst != rows[i].iops_burst)
            fail_msg("%s: bw %ju:%ju, iops %ju:%ju", rows[i].line, (uintmax_t)d->bw,
                     (uintmax_t)d->bw_burst, (uintmax_t)d->iops, (uintmax_t)d->iops_burst);
    }
}

static void disks_are_bounded(void **state)
{
    char line[2 * CONFIG_TEXTS_SIZE + 64], path[CONFIG_TEXTS_SIZE];
    struct config c;
    struct err e;

    (void)state;
    assert_good(&c, "run -k k -d1 -d2 -d3 -d4 -d5 -d6 -d7 -d8 -d9 -d10 -d11 -d12 -d13 -d14 -d15 "
                    "-d16");
    assert_int_equal(c.disks.n, CONFIG_DISK_MAX);
    assert_plain(&c.disks.disk[0], "1");
    assert_plain(&c.disks.disk[15], "16");
    assert_int_equal(parse(&c,
                           "run -k k -d1 -d2 -d3 -d4 -d5 -d6 -d7 -d8 -d9 -d10 -d11 -d12 -d13 "
                           "-d14 -d15 -d16 -d17",
                           &e),
                     -EINVAL);
    assert_non_null(strstr(e.msg, "option --disk: more than 16 given: "));

    memset(path, 'x', sizeof path - 1); /* to the last byte, in one and in two */
    path[sizeof path - 1] = '\0';
    snprintf(line, sizeof line, "run -k k -d %s", path);
    assert_good(&c, line);
    assert_plain(&c.disks.disk[0], path);
    snprintf(line, sizeof line, "run -k k -d %s -d y", path + 2);
    assert_good(&c, line);
    assert_plain(&c.disks.disk[0], path + 2);
    assert_plain(&c.disks.disk[1], "y");
    assert_int_equal(c.disks.texts.used, sizeof c.disks.texts.bytes);
    snprintf(line, sizeof line, "run -k k -d %sx", path);
    assert_int_equal(parse(&c, line, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "xxx: too long: all of them together take at most 8191 bytes: "));
    snprintf(line, sizeof line, "run -k k -d %s -d y", path + 1);
    assert_int_equal(parse(&c, line, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "option --disk: y: too long: all"));
    snprintf(line, sizeof line, "run -k k -d %s -d ,,", path);
    assert_int_equal(parse(&c, line, &e), -EINVAL);
}

static const struct bad_line bad_lines[] = {
    { "run -d", "option --disk", "value is missing", "-d root.img" },
    { "run -d --cpus 2", "option --disk", "value is missing", "-d root.img" },
    { "run --disk=", "option --disk", "empty", "-d root.img" },
    { "run --dik d", "option --dik", "unknown", "--disk?" },
    { "run -d ,ro", "option --disk", "\",ro\" begins with no path", "-d root.img,ro" },
    { "run -d ,", "option --disk", "begins with no path", "-d root.img" },
    { "run -d d,", "option --disk: d", "no key behind a comma", "write two" },
    { "run -d d,ro,", "option --disk: d", "no key behind a comma", "leave the comma out" },
    { "run -d d,=x", "option --disk: d", "no key behind a comma", "leave the comma out" },
    { "run -d d,rw", "option --disk: d", "unknown key \"rw\"", "did you mean ro?" },
    { "run -d d,iop=1", "option --disk: d", "unknown key \"iop\"", "did you mean iops?" },
    { "run -d d,over=/tmp", "option --disk: d", "unknown key \"over\"", "did you mean overlay?" },
    { "run -d d,que=1", "option --disk: d", "unknown key \"que\"", "did you mean queues?" },
    { "run -d a,b.img", "option --disk: a", "unknown key \"b.img\"",
      "give ro, id, direct, io, overlay, bw, iops, queues, and two commas" },
    { "run -d a,,b,x.img", "option --disk: a,b", "unknown key \"x.img\"", "two commas" },
    { "run -d d,ro=on", "option --disk: d", "ro: takes no value", "leave out \"=on\"" },
    { "run -d d,direct=", "option --disk: d", "direct: takes no value", "leave out \"=\"" },
    { "run -d d,ro,ro", "option --disk: d", "ro: given twice", "leave one out" },
    { "run -d d,id=a,ro,id=a", "option --disk: d", "id: given twice", "leave one out" },
    { "run -d d,overlay,overlay=x", "option --disk: d", "overlay: given twice", "leave one out" },
    { "run -d d,queues=1,queues=1", "option --disk: d", "queues: given twice", "leave one out" },
    { "run -d d,id", "option --disk: d", "id: its value is missing", "id=data" },
    { "run -d d,id=", "option --disk: d", "id: empty", "id=data" },
    { "run -d d,id=a\x7f", "option --disk: d", "id: \"a?\" is not all printable", "id=data" },
    { "run -d d,id=\xc3\xa4", "option --disk: d", "is not all printable ASCII", "id=data" },
    { "run -d d,id=123456789012345678901", "option --disk: d", "longer than 20 bytes", "id=data" },
    { "run -k k -d a,id=x -d b,id=y -d c,id=x", "option --disk: c", "\"x\" is that of a",
      "one of its own" },
    { "run -d d,io=aio", "option --disk: d", "io: \"aio\" is not one of auto|uring|sync", "leave" },
    { "run -d d,io", "option --disk: d", "io: its value is missing", "leave" },
    { "run -d d,overlay=", "option --disk: d", "overlay: empty", "or give overlay alone" },
    { "run -d d,overlay,ro", "option --disk: d", "overlay and ro: ", "leave one out" },
    { "run -d d,ro,overlay=/x", "option --disk: d", "base of an overlay is never written",
      "leave one out" },
    { "run -d d,direct,overlay", "option --disk: d", "overlay and direct: the page cache",
      "leave one out" },
    { "run -d d,bw", "option --disk: d", "bw: its value is missing", "bw=100M" },
    { "run -d d,bw=", "option --disk: d", "bw: empty", "bw=100M" },
    { "run -d d,bw=0", "option --disk: d", "bw: 0 is not between 1 and 1024T", "no limit" },
    { "run -d d,bw=1025T", "option --disk: d", "1025T is not between 1 and 1024T", "bw=100M" },
    { "run -d d,bw=99999999999999999999", "option --disk: d", "9 is not between", "bw=100M" },
    { "run -d d,bw=1MB", "option --disk: d", "bw: \"1MB\" is not a rate", "bw=100M" },
    { "run -d d,bw=-1", "option --disk: d", "bw: \"-1\" is not a rate", "bw=100M" },
    { "run -d d,bw=:1M", "option --disk: d", "bw: \"\" is not a rate", "bw=100M:1G" },
    { "run -d d,bw=1M:", "option --disk: d", "bw: \"\" is not a burst", "bw=100M:1G" },
    { "run -d d,bw=1M:1M:1M", "option --disk: d", "bw: \"1M:1M\" is not a burst", "bw=100M:1G" },
    { "run -d d,bw=1M:0", "option --disk: d", "bw: 0 is not between", "bw=100M:1G" },
    { "run -d d,bw=1M:1025T", "option --disk: d", "bw: 1025T is not between", "bw=100M:1G" },
    { "run -d d,iops=0", "option --disk: d", "iops: 0 is not between", "no limit" },
    { "run -d d,iops=1K", "option --disk: d", "iops: \"1K\" is not a rate", "iops=500" },
    { "run -d d,iops=1125899906842625", "option --disk: d", "iops: 1125899906842625 is not",
      "iops=500" },
    { "run -d d,iops=5:x", "option --disk: d", "iops: \"x\" is not a burst", "iops=500:5000" },
    { "run -d d,queues=0", "option --disk: d", "queues: 0 is not between 1 and 64", "queues=2" },
    { "run -c64 -d d,queues=65", "option --disk: d", "65 is not between 1 and 64", "queues=2" },
    { "run -d d,queues=two", "option --disk: d", "queues: \"two\" is not a number", "queues=2" },
    { "run -k k -d d,queues=2", "option --disk: d", "queues: 2 is more than the 1", "queues=1" },
    { "run -k k -d d,queues=4 -c3", "option --disk: d", "queues: 4 is more", "at most queues=3" },
};

static void errors_name_disk_reason_and_remedy(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_lines); i++)
        assert_bad(&bad_lines[i]);
}

/* Of whatever length the path is, the remedy is not cut off and no control byte leaves. */
static void long_and_odd_paths_leave_errors_whole(void **state)
{
    static const char *const tails[] = { ",x", ",", ",ro,overlay", ",queues=2", ",bw=x", ",id=z" };
    char line[6000], odd[5000];
    struct config c;
    struct err e;

    (void)state;
    memset(odd, '\x01', sizeof odd - 1);
    odd[sizeof odd - 1] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
        snprintf(line, sizeof line, "run -k k -d y,id=z -d %s%s", odd, tails[i]);
        assert_int_equal(parse(&c, line, &e), -EINVAL);
        assert_true(strlen(e.msg) < sizeof e.msg - 1);
        assert_null(strchr(e.msg, '\x01'));
    }
}

/* Appends text to a disk's value, its commas doubled. */
static void spell(char *value, const char *text)
{
    char *p = value + strlen(value);

    for (; *text; text++) {
        if (*text == ',')
            *p++ = ',';
        *p++ = *text;
    }
    *p = '\0';
}

static const char *some_path(uint64_t *seed, char buf[12])
{
    size_t n = 1 + roll(seed) % 10;

    for (size_t i = 0; i < n; i++)
        buf[i] = ",,,,=:/.ro\n\xff"[roll(seed) % 13];
    buf[n] = '\0';
    if (!*buf)
        buf[0] = 'd'; /* a NUL was rolled */
    return buf;
}

/* Adds one of six keys, whatever its value, to want and to its spelling. */
static void some_key(unsigned which, struct config_disk *want, char *value, uint64_t *seed)
{
    static char dir[12];
    char id[12], number[64] = "";

    switch (which) {
    case 0:
        want->overlay = true;
        want->overlay_dir = some_path(seed, dir);
        spell(strcat(value, ",overlay="), dir);
        break;
    case 1:
        snprintf(want->id, sizeof want->id, "%s", some_path(seed, id));
        for (char *p = want->id; *p; p++)
            *p = *p < ' ' || *p > '~' ? ',' : *p;
        spell(strcat(value, ",id="), want->id);
        break;
    case 2:
        want->io = roll(seed) & 1 ? CONFIG_IO_SYNC : CONFIG_IO_URING;
        strcat(value, want->io == CONFIG_IO_SYNC ? ",io=sync" : ",io=uring");
        break;
    case 3:
        want->bw = 1 + roll(seed);
        want->bw_burst = 1 + roll(seed);
        snprintf(number, sizeof number, ",bw=%ju:%ju", (uintmax_t)want->bw,
                 (uintmax_t)want->bw_burst);
        break;
    case 4:
        want->iops = 1 + roll(seed);
        want->iops_burst = 1 + roll(seed);
        snprintf(number, sizeof number, ",iops=%ju:%ju", (uintmax_t)want->iops,
                 (uintmax_t)want->iops_burst);
        break;
    default:
        want->queues = 1 + (int)(roll(seed) % 64);
        snprintf(number, sizeof number, ",queues=%d", want->queues);
        break;
    }
    strcat(value, number);
}

/* Disks made up, spelled with some of their keys in any order, and read back. */
static void what_is_spelled_is_read(void **state)
{
    const struct config_option *o = config_option_lettered('d');
    uint64_t seed = 5;

    (void)state;
    for (int round = 0; round < 50000; round++) {
        char value[256] = "", path[12];
        struct config_disk want = { .path = some_path(&seed, path), .queues = 1 };
        unsigned given = roll(&seed), first = roll(&seed);
        struct config c;
        struct err e;

        spell(value, path);
        for (unsigned i = 0; i < 6; i++)
            if (given >> i & 1)
                some_key((first + i) % 6, &want, value, &seed);
        config_init(&c);
        if (config_set(&c, o, value, &e))
            fail_msg("%s: %s", value, e.msg);
        const struct config_disk *d = c.disks.disk;

        assert_string_equal(d->path, want.path);
        assert_string_equal(d->id, want.id);
        assert_int_equal(d->overlay, want.overlay);
        if (want.overlay_dir)
            assert_string_equal(d->overlay_dir, want.overlay_dir);
        assert_true(d->io == want.io && d->queues == want.queues && !d->ro && !d->direct);
        assert_true(d->bw == want.bw && d->bw_burst == want.bw_burst);
        assert_true(d->iops == want.iops && d->iops_burst == want.iops_burst);
    }
}

/* What struct config promises of a disk, whatever was read. */
static void assert_promised(const struct config *c, const struct config_disk *d)
{
    const struct config_texts *t = &c->disks.texts;

    assert_true(d->path >= t->bytes && d->path < t->bytes + t->used && *d->path);
    assert_true(!d->overlay_dir ||
                (d->overlay && d->overlay_dir > d->path && d->overlay_dir < t->bytes + t->used));
    assert_non_null(memchr(d->id, '\0', sizeof d->id));
    for (const char *p = d->id; *p; p++)
        assert_true(*p >= ' ' && *p <= '~');
    assert_false(d->overlay && (d->ro || d->direct));
    assert_true(d->io <= CONFIG_IO_SYNC);
    assert_true(d->queues >= 1 && d->queues <= 64);
    assert_true(d->bw <= BUCKET_MAX && d->bw_burst <= BUCKET_MAX && !d->bw == !d->bw_burst);
    assert_true(d->iops <= BUCKET_MAX && d->iops_burst <= BUCKET_MAX && !d->iops == !d->iops_burst);
}

/* Good values with bytes changed, swapped, cut and doubled. */
static void mutated_disks_are_judged(void **state)
{
    static const char *const good[] = {
        "root.img",
        "/dev/sdb,ro,id=data,direct,io=uring,queues=4",
        "a,,b,overlay=/var/tmp,bw=100M:1G,iops=500:5000",
        "c,io=sync,overlay,bw=1T,iops=1,id=x",
    };
    static const char bytes[] = ",,,,==::0019KMGT \x01\xffroid";
    const struct mangling m = { good, ARRAY_LEN(good), bytes, "option --disk: " };
    uint64_t seed = 99;
    unsigned count[2] = { 0 }; /* accepted, refused */

    (void)state;
    for (int round = 0; round < 100000; round++) {
        char text[2][64];
        struct config c;

        set_mangled(&c, 'd', &m, text, &seed, count);
        for (unsigned i = 0; i < c.disks.n; i++)
            assert_promised(&c, &c.disks.disk[i]);
    }
    assert_true(count[0] > 30000 && count[1] > 30000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(disks_are_read),
        cmocka_unit_test(commas_in_words_are_doubled),
        cmocka_unit_test(limits_of_disks_have_bursts),
        cmocka_unit_test(disks_are_bounded),
        cmocka_unit_test(errors_name_disk_reason_and_remedy),
        cmocka_unit_test(long_and_odd_paths_leave_errors_whole),
        cmocka_unit_test(what_is_spelled_is_read),
        cmocka_unit_test(mutated_disks_are_judged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
