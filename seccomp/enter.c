/* Filters; see enter.h.
 *
 * policy.c has written them into the generated filters.h: a classic BPF program a role, which looks
 * at the number and the arguments of each system call. A program ends in one of two returns, allow
 * or trap, and the second is exchanged here for what the user asked for.
 */
#include "seccomp/enter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "core/num.h"
#include "core/thread.h"
#include "seccomp/filters.h"

#ifndef SYS_SECCOMP /* of musl's siginfo; linux/signal.h has it and does not go with signal.h */
#define SYS_SECCOMP 1
#endif

/* The role of this thread, for the report. */
static __thread enum seccomp_role own_role;

static const uint32_t action_of[] = {
    [SECCOMP_KILL] = SECCOMP_RET_KILL_PROCESS,
    [SECCOMP_TRAP] = SECCOMP_RET_TRAP,
    [SECCOMP_LOG] = SECCOMP_RET_LOG,
};

int seccomp_prepare(enum seccomp_deny deny, struct err *e)
{
    if (deny == SECCOMP_OFF)
        return 0;
    if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action_of[deny]) < 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_set(
            e, errno,
            "seccomp: the host's kernel can't filter system calls: %s: use Linux 4.14 or "
            "later with CONFIG_SECCOMP_FILTER, or do without by --seccomp=off",
            strerror(errno));
    return 0;
}

int seccomp_enter(enum seccomp_role role, enum seccomp_deny deny)
{
    struct sock_filter code[SECCOMP_FILTER_MAX];
    size_t n = seccomp_filters[role].n;
    struct sock_fprog prog = { .len = (unsigned short)n, .filter = code };

    own_role = role;
    if (deny == SECCOMP_OFF || THREAD_SANITIZED)
        return 0;
    memcpy(code, seccomp_filters[role].code, n * sizeof *code);
    for (size_t i = 0; i < n; i++) {
        if (code[i].code == (BPF_RET | BPF_K) && code[i].k == SECCOMP_RET_TRAP)
            code[i].k = action_of[deny];
        else if (BPF_CLASS(code[i].code) == BPF_JMP && code[i].k == SECCOMP_OWN_PID)
            code[i].k = (uint32_t)getpid();
        else if (BPF_CLASS(code[i].code) == BPF_JMP && code[i].k == SECCOMP_OWN_TID)
            code[i].k = (uint32_t)syscall(SYS_gettid);
    }
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0 ? -errno : 0;
}

/* --- the line about it: a handler's code, so no stdio, no locks, no allocation --------------- */

struct line {
    char *text;
    size_t len;
};

static void put_text(struct line *l, const char *s)
{
    while (*s && l->len < SECCOMP_LINE)
        l->text[l->len++] = *s++;
}

static void put_number(struct line *l, uint64_t v, unsigned base)
{
    char digits[21] = "", *first = digits + sizeof digits - 1;

    do
        *--first = "0123456789abcdef"[v % base];
    while (v /= base);
    put_text(l, first);
}

/* The names stand one behind the other; a call's number counts them. */
static void put_call(struct line *l, unsigned nr)
{
    const char *name = seccomp_call_names;
    const char *end = name + sizeof seccomp_call_names - 1;

    for (unsigned i = 0; i < nr && name < end; i++)
        name += strlen(name) + 1;
    if (name < end && *name) {
        put_text(l, name);
    } else {
        put_text(l, "system call ");
        put_number(l, nr, 10);
    }
}

size_t seccomp_describe(const siginfo_t *si, const void *ucontext, char text[SECCOMP_LINE])
{
    const greg_t *r = ((const ucontext_t *)ucontext)->uc_mcontext.gregs;
    const greg_t args[] = { r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8], r[REG_R9] };
    enum seccomp_role role = own_role < SECCOMP_ROLES ? own_role : SECCOMP_MAIN;
    struct line l = { .text = text };

    if (si->si_signo != SIGSYS || si->si_code != SYS_SECCOMP)
        return 0;
    put_text(&l, "mayfly: seccomp: role ");
    put_text(&l, seccomp_filters[role].name);
    put_text(&l, ": ");
    if (si->si_arch == AUDIT_ARCH_X86_64)
        put_call(&l, (unsigned)si->si_syscall);
    else
        put_text(&l, "a system call of another architecture");
    for (size_t i = 0; i < ARRAY_LEN(args); i++) {
        put_text(&l, i ? ", 0x" : "(0x");
        put_number(&l, (uint64_t)args[i], 16);
    }
    put_text(&l, ") is not allowed; Mayfly ends\n");
    return l.len;
}
