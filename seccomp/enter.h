/* The system calls each kind of thread may make, and the moment from which it may make no other.
 *
 * A thread of Mayfly has a role, and policy.c says which calls a role needs. What a policy forbids
 * does not happen: the call is not made and the process ends. The policy is compiled when Mayfly is
 * built; here a thread puts its filter on, for good.
 */
#ifndef MAYFLY_SECCOMP_ENTER_H
#define MAYFLY_SECCOMP_ENTER_H

#include <signal.h>
#include <stddef.h>

#include "core/err.h"

/* A device's thread has the device's role; a disk without io_uring, or a network card with vhost,
 * makes other calls. policy.c names them in this order. */
enum seccomp_role {
    SECCOMP_MAIN,
    SECCOMP_VCPU,
    SECCOMP_CONSOLE,
    SECCOMP_BLK,
    SECCOMP_BLK_SYNC,
    SECCOMP_NET,
    SECCOMP_VHOST,
    SECCOMP_ROLES,
};

/* What a forbidden call gets. */
enum seccomp_deny {
    SECCOMP_KILL, /* the kernel ends the process at once, by SIGSYS */
    SECCOMP_TRAP, /* our handler of SIGSYS tells what was tried and ends it (seccomp_describe) */
    SECCOMP_LOG,  /* it is made, and noted in the host's audit log */
    SECCOMP_OFF,  /* there are no filters */
};

/* The filters carry these where the caller's own process and thread id belong: seccomp_enter puts
 * them in. Neither is one that Linux gives (it stops at 2^22). */
#define SECCOMP_OWN_PID 0x7ffffff1u
#define SECCOMP_OWN_TID 0x7ffffff2u

/* Makes the process ready for filters: no new privileges from here on. On the main thread, before
 * any other is started. 0, or -errno with *e where the host's kernel can't filter. */
int seccomp_prepare(enum seccomp_deny deny, struct err *e);

/* Puts the filter of a role on the calling thread; it can't be taken off. 0 or -errno. In a build
 * with a sanitizer, whose runtime makes calls of its own, it does nothing. */
int seccomp_enter(enum seccomp_role role, enum seccomp_deny deny);

/* For a handler of SIGSYS: if si tells of a call that a filter trapped, puts a line about it into
 * text (role, call, arguments; at most SECCOMP_LINE bytes, newline and no NUL) and returns its
 * length; else 0. Async-signal-safe. */
#define SECCOMP_LINE 256
size_t seccomp_describe(const siginfo_t *si, const void *ucontext, char text[SECCOMP_LINE]);

#endif
