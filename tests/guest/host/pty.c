/* Runs a command on a pseudoterminal and plays its user: pty STEP... -- CMD ARG...
 *
 *   expect:TEXT        waits until TEXT was printed, 10 s at most
 *   send:TEXT          types it; \xHH is a byte
 *   raw, cooked        the terminal has to be in that mode by now
 *   sane               makes it cooked, as a shell does while a job is stopped
 *   size:COLSxROWS     changes the window
 *   signal:NAME        to the command: TERM, INT, STOP, CONT, SEGV, ABRT...
 *   thread:COMM:NAME   to the thread of that name alone
 *   sleep:MS
 *
 * All that was printed goes to standard output. Exits as the command did, 128 + n for a signal; 97
 * when an expected text did not come, 98 when a mode was not as said, and 99 when the terminal was
 * not left as it had been found.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "tests/guest/host/thread.h"

enum { PATIENCE_MS = 10000, EXIT_TEXT = 97, EXIT_MODE = 98, EXIT_LEFT = 99, EXIT_USAGE = 2 };

struct user {
    int master, slave;
    pid_t child;
    int status; /* of waitpid */
    bool gone;
    char seen[1 << 16]; /* printed and not matched yet */
    size_t n;
};

static long long now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static void fail(struct user *u, int status, const char *step)
{
    fprintf(stderr, "pty: step %s failed\n", step);
    if (u->child > 0 && !u->gone)
        kill(u->child, SIGKILL);
    exit(status);
}

/* Passes on what is printed within ms; whether anything was. */
static bool listen_ms(struct user *u, int ms)
{
    struct pollfd p = { .fd = u->master, .events = POLLIN };
    char buf[4096];

    if (poll(&p, 1, ms) <= 0)
        return false;
    ssize_t n = read(u->master, buf, sizeof buf);

    if (n <= 0)
        return false;
    if (write(STDOUT_FILENO, buf, (size_t)n) != n)
        exit(EXIT_USAGE);
    if (u->n + (size_t)n > sizeof u->seen)
        u->n = 0;
    memcpy(u->seen + u->n, buf, (size_t)n);
    u->n += (size_t)n;
    return true;
}

/* text with \xHH turned into bytes, in place of it. */
static size_t unescape(char *text)
{
    char *to = text;

    for (char *s = text; *s;) {
        char hex[3] = { 0 };

        if (s[0] == '\\' && s[1] == 'x' && s[2] && s[3]) {
            memcpy(hex, s + 2, 2);
            *to++ = (char)strtoul(hex, NULL, 16);
            s += 4;
        } else {
            *to++ = *s++;
        }
    }
    return (size_t)(to - text);
}

static void step_expect(struct user *u, const char *step, const char *text, size_t len)
{
    long long end = now_ms() + PATIENCE_MS;

    for (;;) {
        char *hit = memmem(u->seen, u->n, text, len);

        if (hit) {
            u->n -= (size_t)(hit + len - u->seen);
            memmove(u->seen, hit + len, u->n);
            return;
        }
        if (!listen_ms(u, 50) && now_ms() > end)
            fail(u, EXIT_TEXT, step);
    }
}

static void step_mode(struct user *u, const char *step, bool raw)
{
    long long end = now_ms() + 2000;
    struct termios t;

    do {
        listen_ms(u, 20);
        tcgetattr(u->slave, &t);
        if (!(t.c_lflag & (ICANON | ECHO | ISIG)) == raw)
            return;
    } while (now_ms() < end);
    fail(u, EXIT_MODE, step);
}

static int signal_number(const char *name)
{
    for (int i = 1; i < NSIG; i++)
        if (sigabbrev_np(i) && strcmp(sigabbrev_np(i), name) == 0)
            return i;
    return -1;
}

static void step_thread(struct user *u, const char *step, const char *text)
{
    size_t len = strcspn(text, ":");
    pid_t tid = find_thread(u->child, text, len);
    int sig = text[len] ? signal_number(text + len + 1) : -1;

    if (tid < 0 || sig < 0 || syscall(SYS_tgkill, u->child, tid, sig) < 0)
        fail(u, EXIT_USAGE, step);
}

static void step(struct user *u, char *s, const struct termios *before)
{
    char *colon = strchr(s, ':');
    size_t len = colon ? (size_t)(colon - s) : strlen(s);
    char *text = s + len + (colon != NULL);
    struct winsize ws = { 0 };

    if (strncmp(s, "expect:", 7) == 0) {
        char *copy = strdup(text);

        step_expect(u, s, copy, unescape(copy));
        free(copy);
    } else if (strncmp(s, "send:", 5) == 0) {
        size_t n = unescape(text);

        if (write(u->master, text, n) != (ssize_t)n)
            fail(u, EXIT_USAGE, s);
    } else if (strcmp(s, "raw") == 0 || strcmp(s, "cooked") == 0) {
        step_mode(u, s, *s == 'r');
    } else if (strcmp(s, "sane") == 0) {
        tcsetattr(u->slave, TCSANOW, before);
    } else if (strncmp(s, "size:", 5) == 0 && strchr(text, 'x')) {
        ws.ws_col = (unsigned short)strtoul(text, NULL, 10);
        ws.ws_row = (unsigned short)strtoul(strchr(text, 'x') + 1, NULL, 10);
        ioctl(u->master, TIOCSWINSZ, &ws);
    } else if (strncmp(s, "signal:", 7) == 0 && signal_number(text) > 0) {
        kill(u->child, signal_number(text));
    } else if (strncmp(s, "thread:", 7) == 0) {
        step_thread(u, s, text);
    } else if (strncmp(s, "sleep:", 6) == 0) {
        for (long long end = now_ms() + strtol(text, NULL, 10); now_ms() < end;)
            listen_ms(u, 10);
    } else {
        fail(u, EXIT_USAGE, s);
    }
}

static void spawn(struct user *u, char **argv)
{
    u->child = fork();
    if (u->child)
        return;
    setsid();
    ioctl(u->slave, TIOCSCTTY, 0);
    for (int fd = 0; fd < 3; fd++)
        dup2(u->slave, fd);
    close(u->master);
    close(u->slave);
    execvp(argv[0], argv);
    _exit(127);
}

static bool same_modes(const struct termios *a, const struct termios *b)
{
    return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_cflag == b->c_cflag &&
           a->c_lflag == b->c_lflag && memcmp(a->c_cc, b->c_cc, sizeof a->c_cc) == 0;
}

int main(int argc, char **argv)
{
    static struct user u;
    struct winsize ws = { .ws_col = 80, .ws_row = 24 };
    struct termios before, after;
    int cmd = 1;

    while (cmd < argc && strcmp(argv[cmd], "--") != 0)
        cmd++;
    if (cmd + 1 >= argc || openpty(&u.master, &u.slave, NULL, NULL, &ws) < 0)
        return EXIT_USAGE;
    fcntl(u.master, F_SETFD, FD_CLOEXEC);
    tcgetattr(u.slave, &before);
    spawn(&u, argv + cmd + 1);
    if (u.child < 0)
        return EXIT_USAGE;
    for (int i = 1; i < cmd; i++)
        step(&u, argv[i], &before);
    while (!u.gone) {
        listen_ms(&u, 20);
        u.gone = waitpid(u.child, &u.status, WNOHANG) == u.child;
    }
    while (listen_ms(&u, 0))
        ;
    tcgetattr(u.slave, &after);
    if (!same_modes(&before, &after)) {
        fprintf(stderr, "pty: the terminal was not left as it had been\n");
        return EXIT_LEFT;
    }
    return WIFSIGNALED(u.status) ? 128 + WTERMSIG(u.status) : WEXITSTATUS(u.status);
}
