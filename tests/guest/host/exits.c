/* Counts how often KVM_RUN returns in a thread of a running monitor: exits PID COMM. Prints
 * "counting" when it has begun, and the number when SIGTERM ends it. By ptrace, so 3 where that is
 * not allowed. */
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/guest/host/thread.h"

enum { NOT_ALLOWED = 3, FAILED = 2 };

static volatile sig_atomic_t done;

static void on_term(int sig)
{
    (void)sig;
    done = 1;
}

/* Whether the stop is the end of an ioctl. */
static int is_ioctl_exit(pid_t tid, int status)
{
    struct __ptrace_syscall_info info;
    static int in_ioctl;

    if (WSTOPSIG(status) != (SIGTRAP | 0x80))
        return 0;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) < 0)
        return 0;
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
        in_ioctl = info.entry.nr == SYS_ioctl;
    return info.op == PTRACE_SYSCALL_INFO_EXIT && in_ioctl && !info.exit.is_error;
}

int main(int argc, char **argv)
{
    struct sigaction sa = { .sa_handler = on_term };
    unsigned long count = 0;
    int status;

    if (argc != 3)
        return FAILED;
    pid_t tid = find_thread((pid_t)strtol(argv[1], NULL, 10), argv[2], strlen(argv[2]));

    if (tid < 0)
        return FAILED;
    sigaction(SIGTERM, &sa, NULL); /* no SA_RESTART: it ends waitpid */
    if (ptrace(PTRACE_SEIZE, tid, 0, PTRACE_O_TRACESYSGOOD) < 0 ||
        ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0)
        return NOT_ALLOWED;
    if (waitpid(tid, &status, __WALL) != tid)
        return FAILED;
    puts("counting");
    fflush(stdout);
    for (;;) {
        if (ptrace(PTRACE_SYSCALL, tid, 0, 0) < 0)
            return FAILED;
        if (waitpid(tid, &status, __WALL) != tid || !WIFSTOPPED(status))
            break;
        count += (unsigned long)is_ioctl_exit(tid, status);
        if (done)
            break;
    }
    printf("%lu\n", count);
    return 0;
}
