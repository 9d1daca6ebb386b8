/* launch [-n N] [-t SECONDS] -- CMD...: runs N copies of CMD at once and tells when what happened.
 *
 * Small and static, so that what is measured is CMD and not a shell's fork. Lines on stdout, times
 * in nanoseconds of CLOCK_MONOTONIC, which is also the clock of the bench's traces:
 *
 *   pid PID     of the first copy; at once, for who wants to look at it
 *   byte NS     the first byte that CMD printed (N = 1)
 *   start NS    just before the first execve
 *   end NS      the last copy was reaped, its memory given back
 *   status S    the first exit status that is not 0, 128+n for a signal, 124 for the time limit
 *
 * The copies wait on a pipe until all of them exist. CMD reads /dev/null, its stdout is swallowed,
 * its stderr is ours. Who kills us kills the copies (PR_SET_PDEATHSIG), and so does our parent's
 * end.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COPIES_MAX 1000

struct run {
    char **cmd;
    int n, left, status;
    pid_t pid[COPIES_MAX];
    int out, children;
    int64_t *started; /* shared with the copies: the earliest of them */
    int64_t byte, end;
};

static int64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(125);
}

static void copy_main(const struct run *r, pid_t parent, int gate, int out)
{
    sigset_t none;
    int64_t unset = 0;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    char c;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(125);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    dup2(null, STDIN_FILENO);
    dup2(r->n == 1 ? out : null, STDOUT_FILENO);
    if (read(gate, &c, 1) < 0)
        _exit(125);
    __atomic_compare_exchange_n(r->started, &unset, now(), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    execv(r->cmd[0], r->cmd);
    dprintf(STDERR_FILENO, "launch: %s: can't be run\n", r->cmd[0]);
    _exit(127);
}

static void start(struct run *r)
{
    pid_t self = getpid();
    int gate[2], out[2];

    if (pipe2(gate, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
        die("pipe");
    for (r->left = 0; r->left < r->n; r->left++) {
        pid_t pid = fork();

        if (pid < 0)
            die("fork");
        if (pid == 0) {
            close(gate[1]);
            copy_main(r, self, gate[0], out[1]);
        }
        r->pid[r->left] = pid;
    }
    r->out = out[0];
    close(out[1]);
    close(gate[0]);
    printf("pid %d\n", r->pid[0]);
    fflush(stdout);
    close(gate[1]); /* and they go */
}

static void reap(struct run *r)
{
    struct signalfd_siginfo si;
    int st;

    if (read(r->children, &si, sizeof si) < 0)
        return;
    for (pid_t pid; (pid = waitpid(-1, &st, WNOHANG)) > 0; r->left--) {
        r->end = now();
        for (int i = 0; i < r->n; i++)
            if (r->pid[i] == pid)
                r->pid[i] = 0;
        if (r->status == 0)
            r->status = WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
    }
}

static void take_output(struct run *r)
{
    char buf[4096];
    ssize_t n = read(r->out, buf, sizeof buf);

    if (n > 0 && r->byte == 0) {
        r->byte = now();
        printf("byte %lld\n", (long long)r->byte);
        fflush(stdout);
    }
    if (n <= 0) {
        close(r->out);
        r->out = -1;
    }
}

static void watch(struct run *r, int64_t limit)
{
    while (r->left > 0) {
        struct pollfd p[2] = { { .fd = r->children, .events = POLLIN },
                               { .fd = r->out, .events = POLLIN } };
        int64_t rest = limit - now();

        if (rest <= 0) {
            r->status = 124;
            for (int i = 0; i < r->n; i++)
                if (r->pid[i])
                    kill(r->pid[i], SIGKILL);
            limit = INT64_MAX;
            continue;
        }
        poll(p, 2, (int)(rest / 1000000 > 60000 ? 60000 : rest / 1000000 + 1));
        if (p[1].revents)
            take_output(r);
        if (p[0].revents)
            reap(r);
    }
}

int main(int argc, char **argv)
{
    static struct run r = { .n = 1 };
    int64_t seconds = 60;
    sigset_t set;
    int c;

    while ((c = getopt(argc, argv, "+n:t:")) != -1)
        if (c == 'n')
            r.n = (int)strtol(optarg, NULL, 10);
        else if (c == 't')
            seconds = strtol(optarg, NULL, 10);
        else
            return 125;
    r.cmd = argv + optind;
    if (optind == argc || r.n < 1 || r.n > COPIES_MAX)
        return 125;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    r.children = signalfd(-1, &set, SFD_CLOEXEC);
    int64_t *started = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (r.children < 0 || started == MAP_FAILED)
        die("launch");
    r.started = started;
    start(&r);
    watch(&r, now() + seconds * 1000000000);
    printf("start %lld\nend %lld\nstatus %d\n", (long long)*started, (long long)r.end, r.status);
    return 0;
}
