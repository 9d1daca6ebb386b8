/* Makes a thread of a running monitor make a system call, as code that an attacker has brought into
 * it would: inject PID COMM CALL ARG... (numbers, 0x too). The thread is stopped where it waits in
 * a system call, and that call's own instruction is run with other registers.
 *
 *   CALL   a number; i386:N makes it by int 0x80
 *
 * Prints "returned N", or "SIGSYS" when the thread has got that instead and been let go with it.
 * Where the call returned the thread goes on as before. By ptrace, so 3 where that is not allowed.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "tests/guest/host/thread.h"

enum { FAILED = 2, NOT_ALLOWED = 3, SYSCALL_INSN = 0x050f, INT80_INSN = 0x80cd };

/* Both instructions have two bytes; rip stands behind. */
static int set_insn(pid_t tid, unsigned long long at, unsigned insn)
{
    errno = 0;
    long word = ptrace(PTRACE_PEEKTEXT, tid, (void *)at, 0);

    if (errno)
        return -1;
    return (int)ptrace(PTRACE_POKETEXT, tid, (void *)at, (word & ~0xffffL) | insn);
}

static unsigned insn_at(pid_t tid, unsigned long long at)
{
    return (unsigned)ptrace(PTRACE_PEEKTEXT, tid, (void *)at, 0) & 0xffff;
}

/* A trapped call comes to its end, which is none, and the signal waits behind that. */
static bool sigsys_waits(pid_t tid)
{
    char path[64], line[128];
    unsigned long long set = 0;

    snprintf(path, sizeof path, "/proc/%d/status", tid);
    FILE *f = fopen(path, "re");

    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "SigPnd:", 7) == 0)
            set = strtoull(line + 7, NULL, 16);
    if (f)
        fclose(f);
    return set & 1ull << (SIGSYS - 1);
}

static int call(pid_t tid, bool i386, unsigned long long nr, const unsigned long long *a)
{
    struct user_regs_struct before, r;
    int status;

    if (ptrace(PTRACE_GETREGS, tid, 0, &before) < 0)
        return FAILED;
    if (insn_at(tid, before.rip - 2) != SYSCALL_INSN)
        return FAILED; /* it waits elsewhere */
    r = before;
    r.rip -= 2;
    r.rax = nr;
    r.orig_rax = ~0ull; /* the call that was broken off is not to be restarted in this one */
    r.rdi = a[0], r.rsi = a[1], r.rdx = a[2], r.r10 = a[3], r.r8 = a[4], r.r9 = a[5];
    if (i386) {
        r.rbx = a[0], r.rcx = a[1];
        if (set_insn(tid, r.rip, INT80_INSN) < 0)
            return FAILED;
    }
    if (ptrace(PTRACE_SETREGS, tid, 0, &r) < 0)
        return FAILED;
    /* Its entry and its exit. */
    for (int stops = 0; stops < 2; stops++) {
        if (ptrace(PTRACE_SYSCALL, tid, 0, 0) < 0 || waitpid(tid, &status, __WALL) != tid)
            return FAILED;
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != (SIGTRAP | 0x80))
            return FAILED;
    }
    /* musl makes many calls by this one instruction, this thread's next among them. */
    if (i386 && set_insn(tid, before.rip - 2, SYSCALL_INSN) < 0)
        return FAILED;
    if (sigsys_waits(tid)) {
        puts("SIGSYS");
        return ptrace(PTRACE_DETACH, tid, 0, 0) < 0 ? FAILED : 0;
    }
    if (ptrace(PTRACE_GETREGS, tid, 0, &r) < 0)
        return FAILED;
    printf("returned %lld\n", (long long)r.rax);
    /* Back into the call it was in, from its start. */
    before.rip -= 2;
    before.rax = before.orig_rax;
    before.orig_rax = ~0ull;
    if (ptrace(PTRACE_SETREGS, tid, 0, &before) < 0)
        return FAILED;
    return ptrace(PTRACE_DETACH, tid, 0, 0) < 0 ? FAILED : 0;
}

int main(int argc, char **argv)
{
    unsigned long long arg[6] = { 0 };
    int status;

    if (argc < 4 || argc > 10)
        return FAILED;
    bool i386 = strncmp(argv[3], "i386:", 5) == 0;
    unsigned long long nr = strtoull(argv[3] + (i386 ? 5 : 0), NULL, 0);

    for (int i = 4; i < argc; i++)
        arg[i - 4] = strtoull(argv[i], NULL, 0);
    pid_t tid = find_thread((pid_t)strtol(argv[1], NULL, 10), argv[2], strlen(argv[2]));

    if (tid < 0)
        return FAILED;
    if (ptrace(PTRACE_SEIZE, tid, 0, PTRACE_O_TRACESYSGOOD) < 0 ||
        ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0)
        return errno == EPERM || errno == EACCES ? NOT_ALLOWED : FAILED;
    if (waitpid(tid, &status, __WALL) != tid || !WIFSTOPPED(status))
        return FAILED;
    return call(tid, i386, nr, arg);
}
