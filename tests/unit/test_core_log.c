/* The log: what a line looks like whatever it is made of, and how many of them a guest can make. */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <pty.h>
#include <stdio.h>
#include <unistd.h>

#include "core/log.h"
#include "core/num.h"

/* A pipe behind the log. */
static int log_open(int fds[2], enum log_level max)
{
    assert_int_equal(pipe(fds), 0);
    log_init(fds[1], max);
    return fds[0];
}

static void log_close(const int fds[2])
{
    close(fds[0]);
    close(fds[1]);
    log_init(2, LOG_WARN);
    log_set_raw(false);
}

/* Everything written so far. */
static size_t log_read(int fd, char *text, size_t size)
{
    ssize_t n = read(fd, text, size - 1);

    assert_true(n >= 0);
    text[n] = 0;
    return (size_t)n;
}

static void levels_have_names_and_a_limit(void **state)
{
    int fds[2];
    char text[1024];
    int fd = log_open(fds, LOG_INFO);

    (void)state;
    log_error("a %d", 1);
    log_warn("b");
    log_info("c");
    log_debug("d");
    log_read(fd, text, sizeof text);
    assert_string_equal(text, "mayfly: a 1\nmayfly: warning: b\nmayfly: info: c\n");
    assert_true(log_enabled(LOG_INFO));
    assert_false(log_enabled(LOG_DEBUG));
    log_close(fds);
}

static void control_bytes_do_not_pass(void **state)
{
    int fds[2];
    char text[2048], all[256];
    int fd = log_open(fds, LOG_WARN);

    (void)state;
    for (int i = 1; i < 256; i++)
        all[i - 1] = (char)i;
    all[255] = 0;
    log_error("%s", all);
    size_t n = log_read(fd, text, sizeof text);

    assert_int_equal(n, strlen("mayfly: ") + 255 + 1);
    for (size_t i = 0; i + 1 < n; i++)
        assert_true((unsigned char)text[i] >= ' ' && text[i] != 0x7f);
    assert_int_equal(text[n - 1], '\n');
    assert_memory_equal(&text[strlen("mayfly: ") + 0x1f], &all[0x1f], 0x7f - 0x20);
    log_close(fds);
}

/* Every length around the size of the buffer: one line, nothing beyond it. */
static void long_lines_are_cut(void **state)
{
    int fds[2];
    char text[4096], longer[1200];
    int fd = log_open(fds, LOG_DEBUG);

    (void)state;
    for (size_t len = 980; len < sizeof longer; len++) {
        memset(longer, 'x', len);
        longer[len] = 0;
        log_debug("%s", longer);
        size_t n = log_read(fd, text, sizeof text);

        assert_true(n <= 1024);
        assert_true(n >= 1022 || n == strlen("mayfly: debug: ") + len + 1);
        assert_ptr_equal(strchr(text, '\n'), text + n - 1);
    }
    log_close(fds);
}

static void a_raw_terminal_gets_carriage_returns(void **state)
{
    int fds[2], main_fd, side_fd;
    char text[256];
    int fd = log_open(fds, LOG_WARN);

    (void)state;
    log_set_raw(true);
    log_warn("no terminal");
    log_read(fd, text, sizeof text);
    assert_string_equal(text, "mayfly: warning: no terminal\n");
    assert_int_equal(openpty(&main_fd, &side_fd, NULL, NULL, NULL), 0);
    struct termios raw;

    tcgetattr(side_fd, &raw);
    cfmakeraw(&raw);
    tcsetattr(side_fd, TCSANOW, &raw);
    log_init(side_fd, LOG_WARN);
    log_warn("x");
    log_set_raw(false);
    log_warn("y");
    read_all(main_fd, text, 39); /* a pty hands it on when it likes */
    assert_memory_equal(text, "mayfly: warning: x\r\nmayfly: warning: y\n", 39);
    close(main_fd);
    close(side_fd);
    log_close(fds);
}

static void errno_survives(void **state)
{
    (void)state;
    log_init(-1, LOG_WARN); /* nowhere to write to */
    errno = EXDEV;
    log_error("lost");
    assert_int_equal(errno, EXDEV);
    errno = EXDEV;
    log_debug("not even tried");
    assert_int_equal(errno, EXDEV);
    log_init(2, LOG_WARN);
}

static void a_burst_then_silence_then_the_count(void **state)
{
    struct log_limit l = { 0 };
    uint32_t dropped;

    (void)state;
    for (int i = 0; i < LOG_LIMIT_BURST; i++) {
        assert_true(log_allow(&l, &dropped));
        assert_int_equal(dropped, 0);
    }
    for (int i = 0; i < 1000; i++) {
        assert_false(log_allow(&l, &dropped));
        assert_int_equal(dropped, 0);
    }
    /* As if the window had begun long ago. */
    l.window -= LOG_LIMIT_MS;
    assert_true(log_allow(&l, &dropped));
    assert_int_equal(dropped, 1000);
    assert_true(log_allow(&l, &dropped));
    assert_int_equal(dropped, 0); /* told once */
    /* Just inside the window the budget still counts. */
    for (int i = 2; i < LOG_LIMIT_BURST; i++)
        assert_true(log_allow(&l, &dropped));
    l.window -= LOG_LIMIT_MS - 2000;
    assert_false(log_allow(&l, &dropped));
}

#define THREADS 4
#define CALLS   2000

struct racer {
    struct log_limit *l;
    uint32_t allowed, told;
};

static void *race(void *arg)
{
    struct racer *r = arg;
    uint32_t dropped;

    for (int i = 0; i < CALLS; i++)
        if (log_allow(r->l, &dropped)) {
            r->allowed++;
            r->told += dropped;
        }
    return NULL;
}

static void threads_share_a_budget(void **state)
{
    struct log_limit l = { 0 };
    struct racer r[THREADS] = { 0 };
    pthread_t t[THREADS];
    uint32_t allowed = 0, told = 0;

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        r[i].l = &l;
        assert_int_equal(pthread_create(&t[i], NULL, race, &r[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(t[i], NULL);
        allowed += r[i].allowed;
        told += r[i].told;
    }
    /* Threads that open the window at once may each begin a budget, says log.c. */
    assert_in_range(allowed, LOG_LIMIT_BURST, LOG_LIMIT_BURST * THREADS);
    assert_int_equal(allowed + told + l.dropped, THREADS * CALLS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_have_names_and_a_limit),
        cmocka_unit_test(control_bytes_do_not_pass),
        cmocka_unit_test(long_lines_are_cut),
        cmocka_unit_test(a_raw_terminal_gets_carriage_returns),
        cmocka_unit_test(errno_survives),
        cmocka_unit_test(a_burst_then_silence_then_the_count),
        cmocka_unit_test(threads_share_a_budget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
