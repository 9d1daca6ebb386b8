/* Command lines for the tests of options. */
#ifndef MAYFLY_TESTS_UNIT_CONFIG_LINE_H
#define MAYFLY_TESTS_UNIT_CONFIG_LINE_H

#include "tests/unit/unit.h"

#include <stdio.h>

#include "config/args.h"
#include "config/config.h"
#include "config/options.h"
#include "core/num.h"

#define WORDS_MAX 48

/* Parses line, its words parted by single blanks, as what follows "mayfly"; '~' in a word stands
 * for a blank. The words live in buf until the next call. */
static inline int parse(struct config *c, const char *line, struct err *e)
{
    static char buf[32768];
    char *argv[WORDS_MAX + 1] = { (char *)"mayfly" };
    int argc = 1;

    *e = (struct err){ 0 };
    assert_true(snprintf(buf, sizeof buf, "%s", line) < (int)sizeof buf);
    for (char *rest, *p = strtok_r(buf, " ", &rest); p; p = strtok_r(NULL, " ", &rest)) {
        assert_true(argc < WORDS_MAX);
        argv[argc++] = p;
        for (; *p; p++)
            if (*p == '~')
                *p = ' ';
    }
    return config_from_args(c, argc, argv, e);
}

static inline void assert_good(struct config *c, const char *line)
{
    struct err e;

    if (parse(c, line, &e) != 0)
        fail_msg("mayfly %s: %s", line, e.msg);
}

/* What is wrong, and the three parts of what is said of it. */
struct bad_line {
    const char *line, *thing, *reason, *remedy;
};

static inline void assert_bad(const struct bad_line *bad)
{
    size_t n = strlen(bad->thing);
    struct config c;
    struct err e;

    if (parse(&c, bad->line, &e) != -EINVAL || e.code != EINVAL)
        fail_msg("mayfly %s: accepted", bad->line);
    const char *reason = strstr(e.msg + min_size(n, strlen(e.msg)), bad->reason);

    if (strncmp(e.msg, bad->thing, n) != 0 || strncmp(e.msg + n, ": ", 2) != 0 || !reason ||
        !strstr(reason, bad->remedy))
        fail_msg("mayfly %s: %s", bad->line, e.msg);
}

/* The same words always, so that a failure can be had again. */
static inline uint32_t roll(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33);
}

/* Texts for an option with sub-options: good ones, and bytes that replace some of theirs. */
struct mangling {
    const char *const *good;
    size_t n;
    const char *bytes;
    const char *begins; /* what each error begins with */
};

/* Sets the lettered option twice in *c, from good texts with bytes changed and cut, and counts what
 * was accepted and what refused with a proper error. The texts live in buf as long as *c. */
static inline void set_mangled(struct config *c, char letter, const struct mangling *m,
                               char buf[2][64], uint64_t *seed, unsigned count[2])
{
    const struct config_option *o = config_option_lettered(letter);

    config_init(c);
    for (unsigned i = 0; i < 2; i++) {
        struct err e = { 0 };
        char *text = buf[i];

        snprintf(text, sizeof buf[i], "%s", m->good[roll(seed) % m->n]);
        for (unsigned n = roll(seed) % 4; n; n--)
            text[roll(seed) % strlen(text)] = m->bytes[roll(seed) % strlen(m->bytes)];
        if (roll(seed) % 4 == 0)
            text[1 + roll(seed) % strlen(text)] = '\0';
        int ret = config_set(c, o, text, &e);

        if (ret) {
            assert_int_equal(ret, -EINVAL);
            assert_int_equal(strncmp(e.msg, m->begins, strlen(m->begins)), 0);
            assert_true(strlen(e.msg) < sizeof e.msg - 1);
            assert_null(strchr(e.msg, '\x01'));
        }
        count[ret != 0]++;
    }
}

#endif
