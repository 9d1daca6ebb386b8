/* Streams: what is opened for each kind of standard input and output, and that nobody else's
 * descriptor is left changed. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/num.h"
#include "host/stream.h"

static bool nonblocking(int fd)
{
    return fcntl(fd, F_GETFL) & O_NONBLOCK;
}

/* Runs stream_stdio with in and out as standard input and output (-1: closed). The test's own come
 * back before anything is asserted, since cmocka writes there. The stream stays open. */
static int stdio_of(struct stream *s, int in, int out, struct err *e)
{
    int keep[2] = { dup(0), dup(1) };
    const int want[2] = { in, out };

    fflush(stdout);
    for (int i = 0; i < 2; i++)
        if (want[i] >= 0)
            dup2(want[i], i);
        else
            close(i);
    int ret = stream_stdio(s, e);

    for (int i = 0; i < 2; i++) {
        dup2(keep[i], i);
        close(keep[i]);
    }
    return ret;
}

/* The same with stream_close while they are standard input and output, as at the monitor's end. */
static void open_and_close(int in, int out)
{
    int keep[2] = { dup(0), dup(1) };
    struct stream s;
    struct err e;
    bool between = false;

    fflush(stdout);
    dup2(in, 0);
    dup2(out, 1);
    int ret = stream_stdio(&s, &e);

    if (ret == 0) {
        between = nonblocking(s.in) && nonblocking(s.out);
        stream_close(&s);
    }
    for (int i = 0; i < 2; i++) {
        dup2(keep[i], i);
        close(keep[i]);
    }
    assert_int_equal(ret, 0);
    assert_true(between);
}

static void pair(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
}

static void close_pair(const int fds[2])
{
    close(fds[0]);
    close(fds[1]);
}

static void pipes_are_opened_anew(void **state)
{
    int in[2], out[2];
    struct stream s;
    struct err e;
    char got[5];

    (void)state;
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    assert_int_equal(stdio_of(&s, in[0], out[1], &e), 0);
    assert_true(nonblocking(s.in) && nonblocking(s.out));
    assert_false(nonblocking(in[0]) || nonblocking(out[1])); /* the shell's stay as they were */
    assert_true(fcntl(s.in, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(s.out, F_GETFD) & FD_CLOEXEC);
    assert_false(s.in_tty);
    assert_int_equal(read(s.in, got, 1), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(write(in[1], "there", 5), 5);
    assert_int_equal(read(s.in, got, 5), 5);
    assert_memory_equal(got, "there", 5);
    assert_int_equal(write(s.out, "here!", 5), 5);
    assert_int_equal(read(out[0], got, 5), 5);
    assert_memory_equal(got, "here!", 5);
    stream_close(&s);
    assert_int_equal(s.in, -1);
    assert_int_equal(s.out, -1);
    stream_close(&s); /* once more is harmless */
    close_pair(in);
    close_pair(out);
}

/* A socket can't be opened anew: its flag is set for the while. Standard input and output may be
 * one socket or two. */
static void sockets_get_their_flags_back(void **state)
{
    int a[2], b[2];

    (void)state;
    pair(a);
    pair(b);
    open_and_close(a[0], a[0]);
    assert_false(nonblocking(a[0]));
    open_and_close(a[0], b[0]);
    assert_false(nonblocking(a[0]));
    assert_false(nonblocking(b[0]));
    /* One that did not block before is not ours to change. */
    fcntl(a[0], F_SETFL, O_NONBLOCK);
    open_and_close(a[0], b[0]);
    assert_true(nonblocking(a[0]));
    assert_false(nonblocking(b[0]));
    close_pair(a);
    close_pair(b);
}

/* Their offset and O_APPEND are the caller's. */
static void files_are_shared(void **state)
{
    char path[] = "/tmp/mayfly-unit-XXXXXX", got[16];
    int fd = mkstemp(path), in;
    struct stream s;
    struct err e;

    (void)state;
    assert_int_equal(write(fd, "0123456789", 10), 10);
    in = open(path, O_RDONLY);
    assert_int_equal(lseek(in, 4, SEEK_SET), 4);
    int out = open(path, O_WRONLY | O_APPEND);

    unlink(path);
    assert_int_equal(stdio_of(&s, in, out, &e), 0);
    assert_int_equal(read(s.in, got, 2), 2);
    assert_memory_equal(got, "45", 2);
    assert_int_equal(lseek(in, 0, SEEK_CUR), 6);
    assert_int_equal(write(s.out, "ab", 2), 2);
    assert_int_equal(pread(fd, got, 16, 0), 12);
    assert_memory_equal(got, "0123456789ab", 12);
    stream_close(&s);
    assert_false(nonblocking(in) || nonblocking(out));
    close(fd);
    close(in);
    close(out);
}

static void a_terminal(void **state)
{
    int main_fd, side_fd;
    struct winsize ws = { .ws_col = 90, .ws_row = 30 };
    struct stream s;
    struct err e;
    uint16_t cols, rows;

    (void)state;
    assert_int_equal(openpty(&main_fd, &side_fd, NULL, NULL, &ws), 0);
    assert_int_equal(stdio_of(&s, side_fd, side_fd, &e), 0);
    assert_true(s.in_tty);
    assert_false(s.is_pty);
    assert_true(nonblocking(s.in) && nonblocking(s.out));
    assert_false(nonblocking(side_fd));
    assert_true(stream_size(&s, &cols, &rows));
    assert_int_equal(cols, 90);
    assert_int_equal(rows, 30);
    stream_close(&s);
    /* Only the input is one: still its size. */
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    assert_int_equal(stdio_of(&s, side_fd, fds[1], &e), 0);
    assert_true(stream_size(&s, &cols, &rows));
    assert_int_equal(cols, 90);
    stream_close(&s);
    /* A size of nothing is none. */
    ws = (struct winsize){ 0 };
    ioctl(main_fd, TIOCSWINSZ, &ws);
    assert_int_equal(stdio_of(&s, side_fd, side_fd, &e), 0);
    assert_false(stream_size(&s, &cols, &rows));
    assert_int_equal(cols, 0);
    stream_close(&s);
    close_pair(fds);
    close(main_fd);
    close(side_fd);
}

/* Closed, or open the other way only, which is how main holds the place of a closed one. */
static void absent_ones_mean_nothing(void **state)
{
    int null[2] = { open("/dev/null", O_WRONLY), open("/dev/null", O_RDONLY) }, fds[2];
    struct stream s;
    struct err e;
    uint16_t cols = 1, rows = 1;

    (void)state;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(stdio_of(&s, null[0], fds[1], &e), 0);
    assert_int_equal(s.in, -1);
    assert_true(s.out >= 0);
    stream_close(&s);
    assert_int_equal(stdio_of(&s, fds[0], null[1], &e), 0);
    assert_true(s.in >= 0);
    assert_int_equal(s.out, -1);
    stream_close(&s);
    for (int closed = 0; closed < 2; closed++) {
        assert_int_equal(stdio_of(&s, closed ? -1 : null[0], closed ? -1 : null[1], &e), 0);
        assert_int_equal(s.in, -1);
        assert_int_equal(s.out, -1);
        assert_false(stream_size(&s, &cols, &rows));
        assert_int_equal(cols, 0);
        assert_int_equal(rows, 0);
        stream_close(&s);
    }
    close_pair(fds);
    close_pair(null);
}

/* Output into a pipe that nobody reads any more: opening it anew fails, and is no reason to. */
static void a_pipe_without_a_reader(void **state)
{
    int in[2], out[2];
    struct stream s;
    struct err e;

    (void)state;
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    close(out[0]);
    assert_int_equal(stdio_of(&s, in[0], out[1], &e), 0);
    assert_true(s.out >= 0 && nonblocking(s.out));
    stream_close(&s);
    close_pair(in);
    close(out[1]);
}

/* --- files and ptys ----------------------------------------------------------------------- */

static void a_file_is_made_or_emptied(void **state)
{
    char dir[] = "/tmp/mayfly-unit-XXXXXX", path[64];
    struct stream s;
    struct err e;
    struct stat st;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/out", dir);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(stream_file(&s, path, &e), 0);
        assert_int_equal(s.made, round == 0);
        assert_int_equal(s.in, -1);
        /* Emptied when the guest begins, not before. */
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, round);
        stream_start(&s);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, 0);
        assert_int_equal(write(s.out, "x", 1), 1);
        assert_true(fcntl(s.out, F_GETFD) & FD_CLOEXEC);
        stream_close(&s);
    }
    unlink(path);
    rmdir(dir);
}

static void files_that_cannot_be_written(void **state)
{
    char dir[] = "/tmp/mayfly-unit-XXXXXX", fifo[64];
    struct stream s;
    struct err e;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(fifo, sizeof fifo, "%s/fifo", dir);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    const struct {
        const char *path;
        int code;
        const char *says;
    } rows[] = {
        { "/nonexistent/x", ENOENT, "can be written" },
        { dir, EISDIR, "can be written" },
        { "", ENOENT, "can be written" },
        { fifo, ENXIO, "reader first" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        e = (struct err){ 0 };
        assert_int_equal(stream_file(&s, rows[i].path, &e), -rows[i].code);
        assert_int_equal(e.code, rows[i].code);
        assert_non_null(strstr(e.msg, rows[i].path));
        assert_non_null(strstr(e.msg, strerror(rows[i].code)));
        if (!strstr(e.msg, rows[i].says))
            fail_msg("%s", e.msg);
        stream_close(&s); /* nothing is open */
    }
    /* With a reader it is as good as a pipe. */
    int reader = open(fifo, O_RDONLY | O_NONBLOCK);

    assert_int_equal(stream_file(&s, fifo, &e), 0);
    assert_int_equal(write(s.out, "x", 1), 1);
    stream_close(&s);
    close(reader);
    unlink(fifo);
    rmdir(dir);
}

static void a_pty_for_others(void **state)
{
    struct stream s;
    struct err e;
    char got[16];
    uint16_t cols, rows;
    struct winsize ws = { .ws_col = 100, .ws_row = 20 };

    (void)state;
    if (stream_pty(&s, &e))
        fail_msg("%s", e.msg);
    assert_true(s.is_pty);
    assert_false(s.in_tty); /* Ctrl-] is the other's business */
    assert_true(nonblocking(s.in) && nonblocking(s.out));
    assert_int_not_equal(s.in, s.out); /* each is watched by itself */
    assert_false(stream_size(&s, &cols, &rows));
    for (int round = 0; round < 2; round++) { /* whoever comes may go and come again */
        int user = open(s.path, O_RDWR | O_NOCTTY);

        assert_true(user >= 0);
        /* Raw: nothing is echoed, edited or turned into signals. */
        assert_int_equal(write(user, "a\x7f\x03\rb", 5), 5);
        read_all(s.in, got, 5);
        assert_memory_equal(got, "a\x7f\x03\rb", 5);
        assert_int_equal(read(s.in, got, sizeof got), -1);
        assert_int_equal(errno, EAGAIN);
        assert_int_equal(write(s.out, "x\ny", 3), 3);
        read_all(user, got, 3);
        assert_memory_equal(got, "x\ny", 3);
        ioctl(user, TIOCSWINSZ, &ws);
        close(user);
        assert_int_equal(read(s.in, got, sizeof got), -1);
        assert_int_equal(errno, EAGAIN); /* no hang-up */
    }
    assert_true(stream_size(&s, &cols, &rows));
    assert_int_equal(cols, 100);
    stream_close(&s);
}

static void *read_late(void *arg)
{
    char buf[100];

    for (int i = 0; i < 10; i++) {
        sleep_ms(15);
        if (read(*(int *)arg, buf, sizeof buf) <= 0)
            break;
    }
    return NULL;
}

/* Closing our end of a pty throws away what the other has not read: so we wait for him, while he
 * reads. */
static void a_pty_is_drained(void **state)
{
    struct stream s;
    struct err e;
    char text[1000];
    pthread_t thread;

    (void)state;
    memset(text, 'x', sizeof text);
    assert_int_equal(stream_pty(&s, &e), 0);
    int user = open(s.path, O_RDWR | O_NOCTTY);

    assert_int_equal(stream_drain(&s, 1000), 0);
    assert_int_equal(write(s.out, text, sizeof text), sizeof text);
    assert_int_equal(pthread_create(&thread, NULL, read_late, &user), 0);
    assert_int_equal(stream_drain(&s, 1000), 0);
    pthread_join(thread, NULL);
    assert_int_equal(write(s.out, text, 7), 7);
    int64_t begin = wall_ms();

    assert_int_equal(stream_drain(&s, 50), 7);
    assert_in_range(wall_ms() - begin, 40, 1000);
    close(user);
    stream_close(&s);
    stream_none(&s);
    assert_int_equal(stream_drain(&s, 1000), 0);
}

static unsigned count_open(void)
{
    unsigned n = 0;

    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void nothing_stays_open(void **state)
{
    struct stream s;
    struct err e;
    int fds[2];
    unsigned before = count_open();

    (void)state;
    pair(fds);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(stream_pty(&s, &e), 0);
        stream_close(&s);
        assert_int_equal(stream_file(&s, "/dev/null", &e), 0);
        stream_close(&s);
        open_and_close(fds[0], fds[1]);
    }
    close_pair(fds);
    assert_int_equal(count_open(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pipes_are_opened_anew),     cmocka_unit_test(sockets_get_their_flags_back),
        cmocka_unit_test(files_are_shared),          cmocka_unit_test(a_terminal),
        cmocka_unit_test(absent_ones_mean_nothing),  cmocka_unit_test(a_pipe_without_a_reader),
        cmocka_unit_test(a_file_is_made_or_emptied), cmocka_unit_test(files_that_cannot_be_written),
        cmocka_unit_test(a_pty_for_others),          cmocka_unit_test(a_pty_is_drained),
        cmocka_unit_test(nothing_stays_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
