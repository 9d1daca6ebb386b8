/* See stream.h.
 *
 * O_NONBLOCK belongs to the open file description, and standard input and output are shared with
 * the shell that started us: setting it there breaks the shell. So terminals and pipes are opened
 * a second time through /proc/self/fd, which gives a description of our own. Where that can't be
 * done (a socket, a terminal of another user after su, no /proc) the flag is set on the shared one
 * and taken away at the end. Regular files need neither.
 */
#include "host/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"

#define DRAIN_STEP_MS 10

#define STREAM_EMPTY                                                                               \
    {                                                                                              \
        .in = -1, .out = -1, .hold = -1                                                            \
    }

void stream_none(struct stream *s)
{
    *s = (struct stream)STREAM_EMPTY;
}

/* A non-blocking descriptor for what fd, standard input or output, names. Its number or -errno. */
static int stream_own(struct stream *s, int fd, int mode)
{
    struct stat st;
    char path[32];

    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) {
        /* Its offset and O_APPEND are the caller's: a second opening would lose them. */
        int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);

        return own < 0 ? -errno : own;
    }
    if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        int own = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

        if (own >= 0)
            return own;
    }
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 3), flags = fcntl(fd, F_GETFL);

    if (own < 0 || flags < 0)
        return -errno;
    if (!(flags & O_NONBLOCK)) {
        if (fcntl(own, F_SETFL, flags | O_NONBLOCK) < 0) {
            int code = errno;

            close(own);
            return -code;
        }
        s->restore[fd] = true;
    }
    return own;
}

/* A closed descriptor is a way to say "nothing": no input, output discarded. So is one that is open
 * the other way only, such as main holds the place of a closed one with. */
static bool stream_usable(int fd, int wrong_way)
{
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && (flags & O_ACCMODE) != wrong_way;
}

int stream_stdio(struct stream *s, struct err *e)
{
    stream_none(s);
    if (stream_usable(STDIN_FILENO, O_WRONLY)) {
        s->in = stream_own(s, STDIN_FILENO, O_RDONLY);
        if (s->in < 0)
            return err_set(e, -s->in, "console: standard input: %s: %s", strerror(-s->in),
                           err_remedy(-s->in, "use --console none or file:PATH"));
        s->in_tty = isatty(s->in);
    }
    if (stream_usable(STDOUT_FILENO, O_RDONLY)) {
        s->out = stream_own(s, STDOUT_FILENO, O_WRONLY);
        if (s->out < 0) {
            int code = -s->out;

            stream_close(s);
            return err_set(e, code, "console: standard output: %s: %s", strerror(code),
                           err_remedy(code, "use --console none or file:PATH"));
        }
    }
    return 0;
}

int stream_file(struct stream *s, const char *path, struct err *e)
{
    const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

    stream_none(s);
    s->out = open(path, flags | O_EXCL, 0644);
    s->is_file = true;
    s->made = s->out >= 0;
    if (s->out < 0 && errno == EEXIST)
        s->out = open(path, flags, 0644);
    if (s->out < 0)
        return err_set(e, errno, "console file %s: %s: %s", path, strerror(errno),
                       errno == ENXIO ? "it is a FIFO that nobody reads, start the reader first"
                                      : err_remedy(errno, "give a path that can be written"));
    return 0;
}

int stream_pty(struct stream *s, struct err *e)
{
    struct termios tio;

    stream_none(s);
    s->in = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (s->in < 0 || grantpt(s->in) < 0 || unlockpt(s->in) < 0 ||
        ptsname_r(s->in, s->path, sizeof s->path))
        goto fail;
    /* The guest's own terminal layer echoes and edits: ours does nothing. Held open, it spares us
     * the hang-up that a pty without a user reports without end. */
    s->hold = open(s->path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (s->hold < 0 || tcgetattr(s->hold, &tio) < 0)
        goto fail;
    cfmakeraw(&tio);
    if (tcsetattr(s->hold, TCSANOW, &tio) < 0)
        goto fail;
    s->out = fcntl(s->in, F_DUPFD_CLOEXEC, 3);
    if (s->out < 0)
        goto fail;
    s->is_pty = true;
    return 0;
fail:;
    int code = errno;

    stream_close(s);
    return err_set(e, code, "console: no pty: %s: %s", strerror(code),
                   err_remedy(code, "is /dev/pts mounted?"));
}

void stream_start(struct stream *s)
{
    struct stat st;

    /* Not when it was opened: a VM that does not come up leaves the file as it was. */
    if (s->is_file && fstat(s->out, &st) == 0 && S_ISREG(st.st_mode) && ftruncate(s->out, 0) < 0)
        log_warn("console file: it can't be emptied: %s", strerror(errno));
}

size_t stream_drain(const struct stream *s, int stall_ms)
{
    const struct timespec pause = { .tv_nsec = DRAIN_STEP_MS * 1000000L };
    int left = 0, before = 0;

    /* Seen empty once is not enough: what was written passes through a kernel thread. */
    for (int waited = 0, empty = 0; s->is_pty && empty < 5 && waited <= stall_ms;
         waited += DRAIN_STEP_MS) {
        nanosleep(&pause, NULL);
        if (ioctl(s->hold, FIONREAD, &left) < 0)
            return 0;
        empty = left ? 0 : empty + 1;
        if (left != before)
            waited = 0;
        before = left;
    }
    return (size_t)left;
}

void stream_restore(const struct stream *s)
{
    int saved = errno;

    for (int fd = STDIN_FILENO; fd <= STDOUT_FILENO; fd++) {
        int flags = s->restore[fd] ? fcntl(fd, F_GETFL) : -1;

        if (flags >= 0)
            fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    }
    errno = saved;
}

void stream_close(struct stream *s)
{
    stream_restore(s);
    if (s->in >= 0)
        close(s->in);
    if (s->out >= 0)
        close(s->out);
    if (s->hold >= 0)
        close(s->hold);
    stream_none(s);
}

bool stream_size(const struct stream *s, uint16_t *cols, uint16_t *rows)
{
    struct winsize ws;

    *cols = *rows = 0;
    if ((s->out < 0 || ioctl(s->out, TIOCGWINSZ, &ws) < 0) &&
        (s->in < 0 || ioctl(s->in, TIOCGWINSZ, &ws) < 0))
        return false;
    if (ws.ws_col == 0 || ws.ws_row == 0)
        return false;
    *cols = ws.ws_col;
    *rows = ws.ws_row;
    return true;
}
