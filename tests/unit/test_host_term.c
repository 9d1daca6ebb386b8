/* The terminal: raw and back again, and the escape sequence in time. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <pty.h>
#include <unistd.h>

#include "core/num.h"
#include "host/term.h"

static bool is_raw(int fd)
{
    struct termios t;

    assert_int_equal(tcgetattr(fd, &t), 0);
    return !(t.c_lflag & (ICANON | ECHO | ISIG)) && !(t.c_iflag & (ICRNL | IXON)) &&
           !(t.c_oflag & OPOST);
}

static void same_as(int fd, const struct termios *want)
{
    struct termios now;

    assert_int_equal(tcgetattr(fd, &now), 0);
    assert_int_equal(now.c_iflag, want->c_iflag);
    assert_int_equal(now.c_oflag, want->c_oflag);
    assert_int_equal(now.c_cflag, want->c_cflag);
    assert_int_equal(now.c_lflag, want->c_lflag);
    assert_memory_equal(now.c_cc, want->c_cc, sizeof now.c_cc);
}

static void raw_and_back(void **state)
{
    struct term t = { 0 };
    struct termios before;
    int main_fd, side_fd;

    (void)state;
    assert_int_equal(openpty(&main_fd, &side_fd, NULL, NULL, NULL), 0);
    tcgetattr(side_fd, &before);
    before.c_cc[VINTR] = 7; /* not just the defaults come back */
    tcsetattr(side_fd, TCSANOW, &before);
    term_restore(&t); /* nothing to put back yet */
    same_as(side_fd, &before);
    for (int round = 0; round < 2; round++) {
        assert_true(term_raw(&t, side_fd));
        assert_true(t.raw);
        assert_true(is_raw(side_fd));
        /* The shell reset it while the job was stopped: raw again, and what was first comes back.
         */
        tcsetattr(side_fd, TCSANOW, &before);
        assert_true(term_raw(&t, side_fd));
        assert_true(is_raw(side_fd));
        struct termios odd = before;

        odd.c_lflag ^= ECHO;
        tcsetattr(side_fd, TCSANOW, &odd);
        assert_true(term_raw(&t, side_fd));
        errno = EXDEV;
        term_restore(&t);
        assert_int_equal(errno, EXDEV);
        assert_false(t.raw);
        same_as(side_fd, &before);
        term_restore(&t);
        same_as(side_fd, &before);
    }
    close(main_fd);
    close(side_fd);
}

static void what_is_no_terminal_stays_alone(void **state)
{
    struct term t = { 0 };
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    assert_false(term_raw(&t, fds[0]));
    assert_false(t.raw);
    assert_false(term_raw(&t, -1));
    term_restore(&t);
    close(fds[0]);
    close(fds[1]);
}

/* A terminal that went away meanwhile. */
static void a_terminal_that_is_gone(void **state)
{
    struct term t = { 0 };
    int main_fd, side_fd;

    (void)state;
    assert_int_equal(openpty(&main_fd, &side_fd, NULL, NULL, NULL), 0);
    assert_true(term_raw(&t, side_fd));
    close(main_fd);
    close(side_fd);
    errno = 0;
    term_restore(&t);
    assert_int_equal(errno, 0);
    assert_false(t.raw);
}

/* --- the escape sequence ------------------------------------------------------------------ */

#define E "\x1d"

struct typed {
    int64_t at;
    const char *text;
    bool fires;
};

static void type(const struct typed *t, size_t n)
{
    struct escape e = { 0 };

    for (size_t i = 0; i < n; i++)
        if (escape_feed(&e, t[i].text, strlen(t[i].text), t[i].at) != t[i].fires)
            fail_msg("piece %zu at %jd", i, (intmax_t)t[i].at);
}
#define TYPE(...)                                                                                  \
    type((const struct typed[]){ __VA_ARGS__ }, ARRAY_LEN(((const struct typed[]){ __VA_ARGS__ })))

static void three_in_a_row_within_a_second(void **state)
{
    (void)state;
    TYPE({ 5, E E E, true });
    TYPE({ 5, "abc" E E E "def", true });
    TYPE({ 0, E, false }, { 500, E, false }, { 1000, E, true });
    TYPE({ 0, E, false }, { 500, E, false }, { 1001, E, false });
    TYPE({ 0, E E, false }, { 1000, E, true });
    TYPE({ 0, E E, false }, { 1001, E, false });
    TYPE({ 0, E E, false }, { 0, "", false }, { 0, E, true });
}

static void anything_between_starts_over(void **state)
{
    (void)state;
    TYPE({ 0, E E "x" E, false }, { 1, E, false }, { 2, E, true });
    TYPE({ 0, E E "x", false }, { 1, E E, false }, { 2, "x" E, false });
    TYPE({ 0, E "x" E "x" E "x" E, false });
}

/* After it fired, or ran out, the next three count from nothing. */
static void it_starts_over_after_it_fired(void **state)
{
    (void)state;
    TYPE({ 0, E E E, true }, { 1, E, false }, { 2, E, false }, { 3, E, true });
    TYPE({ 0, E E E, true }, { 1, E E, false }, { 2, "x", false }, { 3, E, false });
}

/* Any three within a second count, whatever was typed before. */
static void an_early_one_does_not_spoil_it(void **state)
{
    (void)state;
    TYPE({ 0, E, false }, { 900, E, false }, { 1100, E, false }, { 1200, E, true });
    TYPE({ 0, E, false }, { 5000, E, false }, { 5100, E, false }, { 5200, E, true });
    TYPE({ 0, E E, false }, { 1500, E, false }, { 1600, E, false }, { 1700, E, true });
}

/* The clock begins anywhere. */
static void any_clock_will_do(void **state)
{
    (void)state;
    TYPE({ -500, E, false }, { 0, E, false }, { 500, E, true });
    TYPE({ 0, E E, false }, { INT64_C(1) << 60, E, false });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(raw_and_back),
        cmocka_unit_test(what_is_no_terminal_stays_alone),
        cmocka_unit_test(a_terminal_that_is_gone),
        cmocka_unit_test(three_in_a_row_within_a_second),
        cmocka_unit_test(anything_between_starts_over),
        cmocka_unit_test(it_starts_over_after_it_fired),
        cmocka_unit_test(an_early_one_does_not_spoil_it),
        cmocka_unit_test(any_clock_will_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
