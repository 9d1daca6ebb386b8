/*
 * relay.c: the lab's end on the host.
 *
 *   relay -B BUILD -L LOG [-t SECONDS] [-b MS] -q N QEMU-ARGUMENTS... COMMAND...
 *
 * Theory of operation.  Starts QEMU (the N arguments after -q) with one end of
 * a socket pair as descriptor 3, which the arguments attach to the
 * virtio-serial port "lab".  Tells the agent behind it to run COMMAND and
 * copies stdin, stdout and stderr both ways (see proto.h).  When stdin and
 * stdout are a terminal the command gets a pty: the terminal here is raw from
 * READY to the end, so Ctrl-C is a byte that the pty inside turns into a
 * signal.
 *
 * Every MS milliseconds the agent is asked for a sign of life. QEMU's SVM drops
 * interrupts: code of the processor's thread changes a word of pending ones that
 * the thread of timers and devices changes too, without a lock between them.
 * What was dropped arrives with the next interrupt, whatever that is: with a
 * timer lost on an idle machine that could be never, and now it is our question.
 *
 * Ends with the command's status; 124 when -t SECONDS ran out; 125 when QEMU
 * or the lab's kernel died, or fell silent, with the end of its serial log
 * (LOG.serial; QEMU's own words are in LOG.qemu); or by the signal that asked
 * it to stop. However it ends, QEMU ends too: killed here, or by the kernel
 * (PR_SET_PDEATHSIG) when we are killed.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

#include "proto.h"

enum {
    EXIT_TIMEOUT = 124,
    EXIT_LAB = 125,
    PING_S = 30,    /* after so much silence ask; it disturbs icount runs least */
    SILENT_S = 150, /* the slowest boot seen took a tenth of this */
    TAIL = 4000     /* bytes of a log shown */
};

/* What of the environment the command sees. A trailing * is any ending. */
static const char *const env_keep[] = {
    "PATH",         "HOME",          "TERM",    "LANG",     "LANGUAGE",  "LC_*",
    "USER",         "PWD",           "LOGNAME", "SHELL",    "TZ",        "TMPDIR",
    "CI",           "COLUMNS",       "LINES",   "MAYFLY_*", "BATS_*",    "TEST_*",
    "ASAN_OPTIONS", "UBSAN_OPTIONS", "V",       "DEBUG",    "COLORTERM",
};

struct relay {
    struct link link;
    struct source in;
    struct sink out[2];
    const char *build, *log;
    pid_t qemu;
    int sigfd;
    bool tty, raw;
    struct termios saved;
    time_t start, heard, asked;
    int timeout, beat; /* s, ms; 0: none */
    int64_t beaten;    /* ms */
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static time_t now_s(void)
{
    return now_ms() / 1000;
}

static void tty_restore(struct relay *r)
{
    if (r->raw)
        tcsetattr(0, TCSADRAIN, &r->saved);
    r->raw = false;
}

/* Not TCSAFLUSH: what was typed while the lab booted is the command's. */
static void tty_raw(struct relay *r)
{
    if (!r->tty || tcgetattr(0, &r->saved))
        return;
    struct termios t = r->saved;
    cfmakeraw(&t);
    r->raw = !tcsetattr(0, TCSADRAIN, &t);
}

static struct winsz tty_size(void)
{
    struct winsize w = { .ws_row = 24, .ws_col = 80 };
    ioctl(0, TIOCGWINSZ, &w);
    return (struct winsz){ w.ws_row, w.ws_col };
}

static void log_path(const struct relay *r, const char *kind, char out[4096])
{
    snprintf(out, 4096, "%s.%s", r->log, kind);
}

/* Ends QEMU; the logs go when they are of no use any more. */
static void qemu_end(struct relay *r, bool keep)
{
    char path[4096];
    if (r->qemu > 0) {
        kill(r->qemu, SIGKILL);
        waitpid(r->qemu, NULL, 0);
    }
    r->qemu = 0;
    if (keep || getenv("MAYFLY_LAB_KEEP"))
        return;
    log_path(r, "serial", path);
    unlink(path);
    log_path(r, "qemu", path);
    unlink(path);
}

static void log_show(const struct relay *r, const char *kind)
{
    char path[4096], text[TAIL + 1];
    log_path(r, kind, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (lseek(fd, -TAIL, SEEK_END) < 0)
        lseek(fd, 0, SEEK_SET);
    ssize_t n = read(fd, text, TAIL);
    close(fd);
    if (n <= 0)
        return;
    text[n] = 0;
    fprintf(stderr, "lab: the end of %s:\n", path);
    for (char *s = text, *nl; *s; s = nl + 1) {
        nl = strchr(s, '\n');
        fprintf(stderr, "  | %.*s\n", (int)strcspn(s, "\r\n"), s);
        if (!nl)
            break;
    }
}

__attribute__((noreturn)) static void fail(struct relay *r, int status, const char *why)
{
    tty_restore(r);
    fprintf(stderr, "lab: %s\n", why);
    qemu_end(r, status == EXIT_LAB);
    if (status == EXIT_LAB) {
        log_show(r, "qemu");
        log_show(r, "serial");
    }
    exit(status);
}

/* Dies of the signal, as a program without a handler does. */
__attribute__((noreturn)) static void die_of(struct relay *r, int sig)
{
    sigset_t all;
    tty_restore(r);
    qemu_end(r, false);
    signal(sig, SIG_DFL);
    sigfillset(&all);
    sigprocmask(SIG_UNBLOCK, &all, NULL);
    raise(sig);
    _exit(128 + sig);
}

static void qemu_start(struct relay *r, char **argv, int port)
{
    char path[4096];
    pid_t parent = getpid();
    log_path(r, "qemu", path);
    r->qemu = fork();
    if (r->qemu < 0)
        fail(r, EXIT_LAB, strerror(errno));
    if (r->qemu)
        return;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    setsid(); /* the terminal's signals are for us */
    int null = open("/dev/null", O_RDONLY);
    int log = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    dup2(null, 0);
    dup2(log < 0 ? null : log, 1);
    dup2(1, 2);
    if (port == 3)
        fcntl(port, F_SETFD, 0);
    else
        dup2(port, 3);
    execvp(argv[0], argv);
    dprintf(2, "%s: %s: install qemu-system-x86\n", argv[0], strerror(errno));
    _exit(127);
}

static bool env_kept(const char *e)
{
    for (size_t i = 0; i < sizeof env_keep / sizeof *env_keep; i++) {
        size_t n = strlen(env_keep[i]);
        bool any = env_keep[i][n - 1] == '*';
        if (!strncmp(e, env_keep[i], n - any) && (any || e[n] == '='))
            return true;
    }
    return false;
}

static void send_start(struct relay *r, int argc, char **argv)
{
    struct timespec t;
    struct start st = { .argc = (uint32_t)argc, .winsz = tty_size() };
    struct fifo f = { 0 };
    char cwd[4096];
    clock_gettime(CLOCK_REALTIME, &t);
    st.sec = t.tv_sec;
    st.nsec = (uint32_t)t.tv_nsec;
    if (r->tty)
        st.tty = isatty(2) ? 7 : 3;
    if (!getcwd(cwd, sizeof cwd))
        fail(r, EXIT_LAB, "the working directory is gone");
    fifo_put(&f, &st, sizeof st);
    fifo_put(&f, cwd, strlen(cwd) + 1);
    fifo_put(&f, r->build, strlen(r->build) + 1);
    for (int i = 0; i < argc; i++)
        fifo_put(&f, argv[i], strlen(argv[i]) + 1);
    for (char **e = environ; *e; e++)
        if (env_kept(*e)) {
            fifo_put(&f, *e, strlen(*e) + 1);
            st.envc++;
        }
    fifo_put(&f, "MAYFLY_LAB=1", sizeof "MAYFLY_LAB=1");
    st.envc++;
    memcpy(f.p + f.head, &st, sizeof st);
    link_send(&r->link, F_START, 0, f.p + f.head, f.len);
    free(f.p);
}

/* The far command ended: write what is left, whoever is slow. */
__attribute__((noreturn)) static void finish(struct relay *r, uint32_t status)
{
    qemu_end(r, false);
    for (int i = 0; i < 2; i++)
        while (sink_wants(&r->out[i])) {
            struct pollfd f[2] = { { .fd = r->out[i].fd, .events = POLLOUT },
                                   { .fd = r->sigfd, .events = POLLIN } };
            struct signalfd_siginfo si;
            poll(f, 2, -1);
            if (f[1].revents && read(r->sigfd, &si, sizeof si) > 0 && si.ssi_signo != SIGCHLD &&
                si.ssi_signo != SIGWINCH)
                die_of(r, (int)si.ssi_signo);
            if (f[0].revents)
                sink_pump(&r->out[i], &r->link);
        }
    tty_restore(r);
    exit((int)status);
}

static void on_frame(struct relay *r, const struct frame *h, const uint8_t *p)
{
    uint32_t n = 0;
    struct sink *s = h->stream ? &r->out[h->stream - 1] : NULL;
    if (h->len >= sizeof n)
        memcpy(&n, p, sizeof n);
    if (h->type == F_READY)
        tty_raw(r);
    else if (h->type == F_DATA && s) {
        if (sink_take(s, &r->link, p, h->len))
            fail(r, EXIT_LAB, "the agent exceeds a stream's window");
    } else if (h->type == F_EOF && s)
        s->eof = true;
    else if (h->type == F_ACK)
        r->in.unacked -= n < r->in.unacked ? n : r->in.unacked;
    else if (h->type == F_SHUT)
        r->in.fd = -1;
    else if (h->type == F_EXIT)
        finish(r, n & 255);
    else if (h->type != F_PONG)
        fail(r, EXIT_LAB, "the agent sent a frame of unknown type");
}

/* Reads the port. Its end, before EXIT, is the lab's. */
static void on_port(struct relay *r)
{
    struct frame h;
    const uint8_t *p;
    int got = link_fill(&r->link), more;
    while ((more = link_next(&r->link, &h, &p)) > 0)
        on_frame(r, &h, p);
    if (more < 0)
        fail(r, EXIT_LAB, "noise on the port");
    if (got < 0)
        fail(r, EXIT_LAB, "the lab's machine died");
    r->heard = now_s();
}

static void on_signal(struct relay *r)
{
    struct signalfd_siginfo si;
    if (read(r->sigfd, &si, sizeof si) != sizeof si)
        return;
    if (si.ssi_signo == SIGWINCH) {
        struct winsz z = tty_size();
        if (r->tty)
            link_send(&r->link, F_WINCH, 0, &z, sizeof z);
    } else if (si.ssi_signo != SIGCHLD) /* QEMU's end shows on the port */
        die_of(r, (int)si.ssi_signo);
}

static void on_time(struct relay *r)
{
    time_t t = now_s();
    if (r->timeout && t - r->start >= r->timeout) {
        char why[64];
        snprintf(why, sizeof why, "timeout after %d s", r->timeout);
        fail(r, EXIT_TIMEOUT, why);
    }
    if (t - r->heard >= SILENT_S)
        fail(r, EXIT_LAB, "the lab's machine fell silent");
    bool beat = r->beat && now_ms() - r->beaten >= r->beat;
    if (beat || (t - r->heard >= PING_S && t - r->asked >= PING_S)) {
        link_send(&r->link, F_PING, 0, NULL, 0);
        r->asked = t;
        r->beaten = now_ms();
    }
}

/* The command closed its stdout or stderr: so do we. */
static void sinks_close(struct relay *r)
{
    for (int i = 0; i < 2; i++) {
        struct sink *s = &r->out[i];
        if (s->eof && !s->q.len && s->fd >= 0) {
            if (!r->tty)
                close(s->fd);
            s->fd = -1;
        }
    }
}

__attribute__((noreturn)) static void relay(struct relay *r)
{
    for (;;) {
        struct pollfd f[5] = {
            { .fd = r->link.fd, .events = POLLIN },
            { .fd = r->sigfd, .events = POLLIN },
            { .fd = source_wants(&r->in, &r->link) ? r->in.fd : -1, .events = POLLIN },
            { .fd = sink_wants(&r->out[0]) ? r->out[0].fd : -1, .events = POLLOUT },
            { .fd = sink_wants(&r->out[1]) ? r->out[1].fd : -1, .events = POLLOUT },
        };
        if (r->link.out.len)
            f[0].events |= POLLOUT;
        poll(f, 5, r->beat ? r->beat : r->timeout ? 1000 : PING_S * 1000);
        if (f[1].revents)
            on_signal(r);
        if (f[0].revents & (POLLIN | POLLHUP | POLLERR))
            on_port(r);
        if (f[2].revents && source_wants(&r->in, &r->link))
            source_pump(&r->in, &r->link);
        for (int i = 0; i < 2; i++)
            if (f[3 + i].revents && sink_wants(&r->out[i]))
                sink_pump(&r->out[i], &r->link);
        sinks_close(r);
        on_time(r);
        link_flush(&r->link); /* a broken port shows when it is read */
    }
}

static int signals(void)
{
    static const int sigs[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGCHLD };
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof sigs / sizeof *sigs; i++)
        sigaddset(&set, sigs[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int main(int argc, char **argv)
{
    static struct relay r;
    int c, nq = 0, sv[2];
    while ((c = getopt(argc, argv, "+B:L:t:b:q:")) != -1)
        switch (c) {
        case 'B':
            r.build = optarg;
            break;
        case 'L':
            r.log = optarg;
            break;
        case 't':
            r.timeout = atoi(optarg);
            break;
        case 'b':
            r.beat = atoi(optarg);
            break;
        case 'q':
            nq = atoi(optarg);
            break;
        default:
            return 2;
        }
    if (!r.build || !r.log || nq < 1 || optind + nq >= argc) {
        fprintf(stderr, "relay: bad arguments; it is run by tests/lab/lab\n");
        return EXIT_LAB;
    }
    char **qemu = calloc((size_t)nq + 1, sizeof *qemu);
    memcpy(qemu, argv + optind, (size_t)nq * sizeof *qemu);

    r.sigfd = signals();
    r.tty = isatty(0) && isatty(1);
    r.start = r.heard = now_s();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
        fail(&r, EXIT_LAB, strerror(errno));
    qemu_start(&r, qemu, sv[1]);
    close(sv[1]);
    r.link.fd = sv[0];
    fcntl(sv[0], F_SETFL, O_NONBLOCK);
    r.in = (struct source){ .fd = 0 };
    r.out[0] = (struct sink){ .fd = 1, .stream = 1, .most = 4096 };
    r.out[1] = (struct sink){ .fd = 2, .stream = 2, .most = 4096 };
    send_start(&r, argc - optind - nq, argv + optind + nq);
    relay(&r);
}
