/* Options: the table, the command line that reads it, units, help and man page. */
#include "tests/unit/config_line.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/help.h"
#include "config/units.h"
#include "core/bucket.h"

static void units_read_what_people_write(void **state)
{
    static const struct {
        int (*read)(const char *, uint64_t *);
        const char *text;
        int ret;
        uint64_t v;
    } rows[] = {
        { units_number, "0", 0, 0 },
        { units_number, "18446744073709551615", 0, UINT64_MAX },
        { units_number, "18446744073709551616", -ERANGE, 0 },
        { units_number, "99999999999999999999999999", -ERANGE, 0 },
        { units_number, "", -EINVAL, 0 },
        { units_number, "-1", -EINVAL, 0 },
        { units_number, "+1", -EINVAL, 0 },
        { units_number, " 1", -EINVAL, 0 },
        { units_number, "1 ", -EINVAL, 0 },
        { units_number, "0x10", -EINVAL, 0 },
        { units_size, "128", 0, 128 * MIB },
        { units_size, "4K", 0, 4 * KIB },
        { units_size, "4k", 0, 4 * KIB },
        { units_size, "512MiB", 0, 512 * MIB },
        { units_size, "2G", 0, 2 * GIB },
        { units_size, "1TiB", 0, 1024 * GIB },
        { units_size, "16777215T", 0, 16777215 * (1024 * GIB) },
        { units_size, "16777216T", -ERANGE, 0 },
        { units_size, "17592186044416", -ERANGE, 0 },
        { units_size, "1MB", -EINVAL, 0 },
        { units_size, "1Mi", -EINVAL, 0 },
        { units_size, "1MiBs", -EINVAL, 0 },
        { units_size, "1.5G", -EINVAL, 0 },
        { units_size, "1P", -EINVAL, 0 },
        { units_size, "G", -EINVAL, 0 },
        { units_bytes, "4096", 0, 4096 },
        { units_bytes, "4k", 0, 4 * KIB },
        { units_bytes, "1024T", 0, BUCKET_MAX },
        { units_bytes, "1MB", -EINVAL, 0 },
        { units_bytes, "", -EINVAL, 0 },
        { units_bytes, "16777216T", -ERANGE, 0 },
        { units_duration, "30", 0, 30000 },
        { units_duration, "30s", 0, 30000 },
        { units_duration, "500ms", 0, 500 },
        { units_duration, "5m", 0, 300000 },
        { units_duration, "1h", 0, 3600000 },
        { units_duration, "9223372036854775807ms", 0, INT64_MAX },
        { units_duration, "9223372036854775808ms", -ERANGE, 0 },
        { units_duration, "9223372036854775807h", -ERANGE, 0 },
        { units_duration, "1d", -EINVAL, 0 },
        { units_duration, "1S", -EINVAL, 0 },
        { units_duration, "ms", -EINVAL, 0 },
        { units_duration, "1h30m", -EINVAL, 0 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t v = 77;

        if (rows[i].read(rows[i].text, &v) != rows[i].ret)
            fail_msg("\"%s\" does not give %d", rows[i].text, rows[i].ret);
        assert_int_equal(v, rows[i].ret ? 77 : rows[i].v);
    }
}

static void defaults(void **state)
{
    struct config c;

    (void)state;
    assert_good(&c, "run -k vmlinuz");
    assert_int_equal(c.command, CONFIG_RUN);
    assert_string_equal(c.kernel, "vmlinuz");
    assert_int_equal(c.initrd.n, 0);
    assert_string_equal(c.cmdline, "");
    assert_null(c.cmdline_raw);
    assert_int_equal(c.entry, CONFIG_ENTRY_AUTO);
    assert_false(c.mmio_cmdline || c.hugepages || c.prefault);
    assert_int_equal(c.cpus, 1);
    assert_int_equal(c.memory, 256 * MIB);
    assert_int_equal(c.console.kind, CONFIG_CONSOLE_STDIO);
    assert_null(c.console.path);
    assert_int_equal(c.disks.n, 0);
    assert_int_equal(c.nets.n, 0);
    assert_int_equal(c.timeout_ms, 0);
    assert_int_equal(c.grace_ms, 3000);
    assert_null(c.pidfile);
    assert_int_equal(c.ready_fd, -1);
    assert_int_equal(c.seccomp, CONFIG_SECCOMP_TRAP);
    assert_int_equal(c.log_level, LOG_WARN);
    assert_null(c.log_file);
}

static void every_option_is_read(void **state)
{
    struct config c;

    (void)state;
    assert_good(&c, "run --kernel=a=b -ione --initrd two -a ro --cmdline=x=y~z --entry pvh "
                    "--mmio-cmdline --cpus=1 -m4G --hugepages --prefault --console "
                    "file:/tmp/a:b --timeout 90 --grace 0 --pidfile p --ready-fd 2147483647 "
                    "--log-level debug --log-file l");
    assert_string_equal(c.kernel, "a=b");
    assert_int_equal(c.initrd.n, 2);
    assert_string_equal(c.initrd.path[0], "one");
    assert_string_equal(c.initrd.path[1], "two");
    assert_string_equal(c.cmdline, "ro x=y z");
    assert_int_equal(c.entry, CONFIG_ENTRY_PVH);
    assert_true(c.mmio_cmdline && c.hugepages && c.prefault);
    assert_int_equal(c.memory, 4 * GIB);
    assert_int_equal(c.console.kind, CONFIG_CONSOLE_FILE);
    assert_string_equal(c.console.path, "/tmp/a:b");
    assert_int_equal(c.timeout_ms, 90000);
    assert_int_equal(c.grace_ms, 0);
    assert_string_equal(c.pidfile, "p");
    assert_int_equal(c.ready_fd, INT_MAX);
    assert_int_equal(c.log_level, LOG_DEBUG);
    assert_string_equal(c.log_file, "l");

    assert_good(&c, "run -k k --cmdline-raw console=hvc0~-- --cpus 64 --entry elf --console pty");
    assert_string_equal(c.cmdline_raw, "console=hvc0 --");
    assert_int_equal(c.cpus, 64);
    assert_int_equal(c.entry, CONFIG_ENTRY_ELF);
    assert_int_equal(c.console.kind, CONFIG_CONSOLE_PTY);
    static const char *const modes[] = { "kill", "trap", "log", "off" };

    for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
        char line[40];

        snprintf(line, sizeof line, "run -k k --seccomp %s", modes[i]);
        assert_good(&c, line);
        assert_int_equal(c.seccomp, i);
    }
    assert_good(&c, "run -k - -a --~single --console none --log-level error");
    assert_string_equal(c.kernel, "-");
    assert_string_equal(c.cmdline, "-- single");
    assert_int_equal(c.console.kind, CONFIG_CONSOLE_NONE);
    assert_int_equal(c.log_level, LOG_ERROR);
    assert_good(&c, "run -k k --mmio-cmdline --cmdline-raw virtio-mmio.device=4K@0xd0000000:5");
    assert_good(&c, "run -k k --initrd=--help -m 1028K");
    assert_string_equal(c.initrd.path[0], "--help");
}

static void commands(void **state)
{
    static const struct {
        const char *line;
        enum config_command command;
    } rows[] = {
        { "run -k k", CONFIG_RUN },      { "probe", CONFIG_PROBE },
        { "--help", CONFIG_HELP },       { "-h", CONFIG_HELP },
        { "run -h", CONFIG_HELP },       { "run --help --nonsense", CONFIG_HELP },
        { "probe --help", CONFIG_HELP }, { "--version", CONFIG_VERSION },
        { "-V", CONFIG_VERSION },
    };
    struct config c;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_good(&c, rows[i].line);
        assert_int_equal(c.command, rows[i].command);
    }
}

static const struct bad_line bad_lines[] = {
    { "", "command", "none given", "--help" },
    { "rnu", "command rnu", "unknown", "--help" },
    { "rum", "command rum", "unknown", "mayfly run?" },
    { "prob", "command prob", "unknown", "mayfly probe?" },
    { "probe x", "argument \"x\"", "takes none", "leave it out" },
    { "probe -m 4", "option --memory", "not one of this command", "mayfly run" },
    { "-k x", "option --kernel", "no command", "mayfly run --kernel" },
    { "run", "option --kernel", "not given", "-k vmlinuz" },
    { "run vmlinuz", "argument \"vmlinuz\"", "not an option", "--kernel FILE" },
    { "run -", "argument \"-\"", "not an option", "--kernel FILE" },
    { "run -k k -- ls", "argument --", "can't", "leave out" },
    { "run --memry 4", "option --memry", "unknown", "--memory?" },
    { "run --mem 4", "option --mem", "unknown", "--memory?" },
    { "run --cpu=4", "option --cpu", "unknown", "--cpus?" },
    { "run --kenrel k", "option --kenrel", "unknown", "--kernel?" },
    { "run --balloon d", "option --balloon", "unknown", "mayfly --help" },
    { "run --=1", "option --", "unknown", "mayfly --help" },
    { "run -zk", "option -zk", "unknown", "mayfly --help" },
    { "run -k", "option --kernel", "value is missing", "-k vmlinuz" },
    { "run --kernel -m 4", "option --kernel", "value is missing", "-k vmlinuz" },
    { "run -k --memory=4", "option --kernel", "value is missing", "-k vmlinuz" },
    { "run --kernel=", "option --kernel", "empty", "-k vmlinuz" },
    { "run -k a -k b", "option --kernel", "given twice", "leave one out" },
    { "run --initrd=", "option --initrd", "empty", "-i initrd.img" },
    { "run --cmdline-raw=", "option --cmdline-raw", "empty", "--cmdline-raw " },
    { "run -k k -a x --cmdline-raw y", "option --cmdline-raw", "by --cmdline", "one of the" },
    { "run -k k --mmio-cmdline --cmdline-raw y", "option --cmdline-raw",
      "has no virtio_mmio.device=", "use --cmdline" },
    { "run --entry foo", "option --entry", "\"foo\" is not one of auto|elf|pvh", "leave" },
    { "run --seccomp foo", "option --seccomp", "\"foo\" is not one of kill|trap|log|off", "leave" },
    { "run --seccomp=", "option --seccomp", "empty", "leave" },
    { "run --seccomp", "option --seccomp", "value is missing", "leave" },
    { "run --entry auto|elf", "option --entry", "not one of", "leave" },
    { "run --mmio-cmdline=1", "option --mmio-cmdline", "takes no value", "leave out" },
    { "run -k k --mmio-cmdline -c 2", "option --mmio-cmdline", "one vCPU", "leave out --cpus" },
    { "run -c 0", "option --cpus", "0 is not between 1 and 64", "-c 2" },
    { "run -c 1000", "option --cpus", "1000 is not between 1 and 64", "-c 2" },
    { "run -c -1", "option --cpus", "\"-1\" is not a number", "-c 2" },
    { "run -c 2x", "option --cpus", "\"2x\" is not a number", "-c 2" },
    { "run -m 0", "option --memory", "0 is not between 1M and 1T", "-m 512M" },
    { "run -m 1023K", "option --memory", "1023K is not between", "-m 512M" },
    { "run -m 1025G", "option --memory", "1025G is not between", "-m 512M" },
    { "run -m 99999999999999999999T", "option --memory", "T is not between", "-m 512M" },
    { "run -m 1MB", "option --memory", "\"1MB\" is not a size", "-m 512M" },
    { "run -m=1M", "option --memory", "\"=1M\" is not a size", "-m 512M" },
    { "run -k k -m 1025K", "option --memory", "multiple of 4 KiB", "give 1028K" },
    { "run -k k -m 3 --hugepages", "option --memory", "3072K", "give 4096K" },
    { "run --hugepages --hugepages", "option --hugepages", "given twice", "leave one out" },
    { "run --prefault=yes", "option --prefault", "takes no value", "leave out \"yes\"" },
    { "run --console tty", "option --console", "\"tty\" is not one of stdio|", "file:" },
    { "run --console stdio:", "option --console", "not one of", "file:" },
    { "run --console file:", "option --console", "names no file", "file:guest.log" },
    { "run --console file", "option --console", "not one of", "file:guest.log" },
    { "run --timeout 1d", "option --timeout", "\"1d\" is not a duration", "30s" },
    { "run --timeout 8761h", "option --timeout", "between 0 and 8760h", "30s" },
    { "run --grace soon", "option --grace", "not a duration", "10s" },
    { "run --grace 99999999999999999h", "option --grace", "not between", "10s" },
    { "run --pidfile=", "option --pidfile", "empty", "vm.pid" },
    { "run --ready-fd 2", "option --ready-fd", "2 is not between 3", "caller opened" },
    { "run --ready-fd 2147483648", "option --ready-fd", "not between 3", "caller opened" },
    { "run --ready-fd x", "option --ready-fd", "not a number", "caller opened" },
    { "run --log-level loud", "option --log-level", "not one of error|", "--log-level info" },
    { "run --log-file=", "option --log-file", "empty", "vm.log" },
    { "run -hx", "option --help", "takes no value", "leave out" },
    { "--version=2", "option --version", "takes no value", "leave out" },
};

static void errors_name_thing_reason_and_remedy(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_lines); i++)
        assert_bad(&bad_lines[i]);
}

static void repeatables_are_bounded(void **state)
{
    char line[2 * CONFIG_CMDLINE_SIZE], full[CONFIG_CMDLINE_SIZE];
    struct config c;
    struct err e;

    (void)state;
    assert_good(&c, "run -k k -i1 -i2 -i3 -i4 -i5 -i6 -i7 -i8 -i9 -i10 -i11 -i12 -i13 -i14 -i15 "
                    "-i16");
    assert_int_equal(c.initrd.n, CONFIG_INITRD_MAX);
    assert_string_equal(c.initrd.path[15], "16");
    assert_int_equal(parse(&c,
                           "run -k k -i1 -i2 -i3 -i4 -i5 -i6 -i7 -i8 -i9 -i10 -i11 -i12 -i13 "
                           "-i14 -i15 -i16 -i17",
                           &e),
                     -EINVAL);
    assert_non_null(strstr(e.msg, "option --initrd: more than 16 given: "));

    memset(full, 'x', sizeof full - 1);
    full[sizeof full - 1] = '\0';
    snprintf(line, sizeof line, "run -k k -a %s -a y", full + 2); /* 2045, a blank, one */
    assert_good(&c, line);
    assert_int_equal(strlen(c.cmdline), CONFIG_CMDLINE_SIZE - 1);
    snprintf(line, sizeof line, "run -k k -a %s -a y", full + 1);
    assert_int_equal(parse(&c, line, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "option --cmdline: more than 2047 bytes in all: "));

    snprintf(line, sizeof line, "run -k k --cmdline-raw %s", full);
    assert_good(&c, line);
    snprintf(line, sizeof line, "run -k k --cmdline-raw %sx", full);
    assert_int_equal(parse(&c, line, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "option --cmdline-raw: 2048 bytes long, more than 2047: "));
}

/* Of whatever length the user's words are, the remedy is not cut off and no control byte leaves. */
static void long_and_odd_words_leave_errors_whole(void **state)
{
    static const char *const heads[] = {
        "",
        "run ",
        "run --",
        "run -",
        "run --entry ",
        "run --console ",
        "run --cpus ",
        "run -d ,",
        "run -dx,",
        "run -dx,ro=",
        "run -dx,id=",
        "run -dx,io=",
        "run -dx,bw=",
        "run -dx,bw=1:",
        "run -dx,queues=",
        "run -n ",
        "run -ntap=",
        "run -nfd=",
        "run -ntap=x,",
    };
    char line[6000], odd[5000];
    struct config c;
    struct err e;

    (void)state;
    memset(odd, '\x01', sizeof odd - 1);
    odd[sizeof odd - 1] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        snprintf(line, sizeof line, "%s%s", heads[i], odd);
        assert_int_equal(parse(&c, line, &e), -EINVAL);
        assert_true(strlen(e.msg) < sizeof e.msg - 1);
        assert_null(strchr(e.msg, '\x01'));
    }
}

/* The rows of an option's keys. */
static void assert_keys(const struct config_option *o)
{
    assert_true(o->keys_n <= 64); /* a bit for each */
    for (size_t i = 0; i < o->keys_n; i++) {
        const struct config_option *k = &o->keys[i];

        assert_true(k->flags & OPTION_KEY);
        assert_non_null(k->set);
        assert_true(strcspn(k->name, ",=") == strlen(k->name));
        if (k->metavar)
            assert_non_null(k->hint);
        assert_int_equal(!k->min, !k->max); /* which errors name together */
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(k->name, o->keys[j].name);
    }
}

static void rows_are_well_formed(void **state)
{
    size_t n;
    const struct config_option *o = config_options(&n);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        struct config c;
        struct err e;

        assert_non_null(o[i].section);
        assert_non_null(o[i].help);
        assert_non_null(o[i].set);
        assert_true(o[i].offset < sizeof(struct config));
        assert_ptr_equal(config_option_named(o[i].name, strlen(o[i].name)), &o[i]);
        if (o[i].letter)
            assert_ptr_equal(config_option_lettered(o[i].letter), &o[i]);
        config_init(&c); /* asserts that presets can be read */
        if (o[i].metavar)
            assert_non_null(o[i].hint);
        assert_keys(&o[i]);
        if (o[i].min) { /* the bounds are values of their option themselves */
            assert_int_equal(config_set(&c, &o[i], o[i].min, &e), 0);
            config_init(&c);
            assert_int_equal(config_set(&c, &o[i], o[i].max, &e), 0);
        }
    }
    assert_null(config_option_named("", 0));
    assert_null(config_option_lettered('\0'));
}

/* Lines of random words, and a good line, both with bytes changed, words cut and pure noise. */
static void anything_goes_in_and_nothing_breaks(void **state)
{
    static const char *const random[] = {
        "run",    "probe",     "-k",       "vmlinuz", "--initrd",  "-i", "i",          "-a",
        "ro",     "--cmdline", "-m",       "512M",    "--console", "--", "file:x",     "--timeout",
        "30s",    "--grace=1", "-c4",      "--entry", "elf",       "-",  "--ready-fd", "9",
        "--cpus", "--help",    "--memory", "1G",      "--=",       "",   "--prefault", "-V",
    };
    static const char *const good[] = { "run",       "--kernel=k", "-i",          "i",
                                        "-m",        "512M",       "--console",   "file:x",
                                        "--timeout", "500ms",      "--hugepages", "-aro" };
    uint64_t seed = 20240607;
    unsigned accepted = 0;

    (void)state;
    for (int round = 0; round < 100000; round++) {
        char words[ARRAY_LEN(good)][16] = { 0 }, *argv[ARRAY_LEN(good) + 1] = { (char *)"mayfly" };
        int argc = (int)(roll(&seed) % (ARRAY_LEN(argv) + 1));
        struct config c;
        struct err e = { 0 };

        for (int i = 1; i < argc; i++) {
            char *w = words[i - 1];

            snprintf(w, sizeof words[0], "%s",
                     round % 2 ? good[i - 1] : random[roll(&seed) % ARRAY_LEN(random)]);
            if (roll(&seed) % 8 == 0)
                w[roll(&seed) % (strlen(w) + 1)] = (char)roll(&seed);
            for (size_t j = roll(&seed) % 32 ? 15 : 0; j < 15; j++)
                w[j] = (char)roll(&seed);
            w[15] = '\0';
            argv[i] = w;
        }
        int ret = config_from_args(&c, argc, argv, &e);

        if (ret == 0) {
            accepted++;
            assert_true(c.command != CONFIG_NONE);
            assert_true(c.command != CONFIG_RUN || c.kernel);
        } else {
            assert_int_equal(ret, -EINVAL);
            assert_true(strlen(e.msg) > 0);
        }
    }
    assert_true(accepted > 1000); /* the words are not mere noise */
}

/* Reads a whole stream into a string of the caller's to free. */
static char *slurp(FILE *f)
{
    assert_non_null(f);
    char *text = calloc(1, 1 << 20);

    assert_non_null(text);
    assert_true(fread(text, 1, (1 << 20) - 1, f) > 0);
    fclose(f);
    return text;
}

static void help_fits_a_screen_and_lists_all(void **state)
{
    FILE *f = tmpfile();
    size_t n, lines = 0;
    const struct config_option *o = config_options(&n);

    (void)state;
    assert_non_null(f);
    config_help(f);
    rewind(f);
    char *text = slurp(f);

    for (size_t i = 0; i < n; i++) {
        char want[64];
        int head = o[i].letter ? snprintf(want, sizeof want, "\n  -%c, ", o[i].letter)
                               : snprintf(want, sizeof want, "\n      ");

        snprintf(want + head, sizeof want - (size_t)head, "--%s ", o[i].name);
        if (!strstr(text, want))
            fail_msg("--%s is not in the help", o[i].name);
        for (size_t j = 0; j < o[i].keys_n; j++) {
            const struct config_option *k = &o[i].keys[j];
            const char *value = k->words ? k->words : k->metavar;
            bool optional = k->flags & OPTION_OPTIONAL;

            snprintf(want, sizeof want, " %s%s%s%s%s%s", k->name, optional ? "[" : "",
                     value ? "=" : "", value ? value : "", optional ? "]" : "",
                     j == o[i].keys_n - 1 ? "\n" : ",");
            if (!strstr(text, want))
                fail_msg("%s is not in the help", want);
        }
    }
    for (char *rest, *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        if (lines++, strlen(line) > 80)
            fail_msg("wider than 80 columns: %s", line);
    assert_true(lines + 6 <= 50); /* strtok skips the empty lines */
    free(text);
}

static void man_page_has_every_option(void **state)
{
    char *text = slurp(fopen("docs/mayfly.1", "r"));
    size_t n;
    const struct config_option *o = config_options(&n);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        char want[64];

        if (o[i].letter)
            snprintf(want, sizeof want, "\n.It Fl %c , Fl -%s", o[i].letter, o[i].name);
        else
            snprintf(want, sizeof want, "\n.It Fl -%s", o[i].name);
        if (o[i].metavar)
            snprintf(want + strlen(want), sizeof want - strlen(want), " Ar %s", o[i].metavar);
        const char *hit = strstr(text, want);

        if (!hit || hit[strlen(want)] != '\n')
            fail_msg("docs/mayfly.1 has no line %s", want + 1);
        for (size_t j = 0; j < o[i].keys_n; j++) {
            const struct config_option *k = &o[i].keys[j];
            bool optional = k->flags & OPTION_OPTIONAL;

            snprintf(want, sizeof want, "\n.It Cm %s%s%s\n", k->name,
                     !k->metavar ? ""
                     : optional  ? " Ns Op = Ns Ar "
                                 : " Ns = Ns Ar ",
                     k->metavar ? k->metavar : "");
            if (!strstr(hit, want))
                fail_msg("docs/mayfly.1 has no line %s", want + 1);
        }
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_read_what_people_write),
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_option_is_read),
        cmocka_unit_test(commands),
        cmocka_unit_test(errors_name_thing_reason_and_remedy),
        cmocka_unit_test(repeatables_are_bounded),
        cmocka_unit_test(long_and_odd_words_leave_errors_whole),
        cmocka_unit_test(rows_are_well_formed),
        cmocka_unit_test(anything_goes_in_and_nothing_breaks),
        cmocka_unit_test(help_fits_a_screen_and_lists_all),
        cmocka_unit_test(man_page_has_every_option),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
