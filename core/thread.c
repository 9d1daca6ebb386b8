/* See thread.h. musl gives a thread 140 KiB unless told; ours say what they need, since a monitor
 * is meant to cost less than a megabyte. */
#include "core/thread.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

#include "core/num.h"

/* Sanitizers put redzones around every local. */
#define STACK_FACTOR (THREAD_SANITIZED ? 16 : 1)

int thread_start(pthread_t *t, const char *what, size_t stack, void *(*fn)(void *), void *arg,
                 struct err *e)
{
    pthread_attr_t attr;
    /* Blocked, these would kill without the handler that puts the terminal back. */
    static const int faults[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP };
    sigset_t set, before;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, stack * STACK_FACTOR);
    sigfillset(&set);
    for (size_t i = 0; i < ARRAY_LEN(faults); i++)
        sigdelset(&set, faults[i]);
    /* A thread inherits the mask: blocked here, no signal can slip in before it runs. */
    pthread_sigmask(SIG_SETMASK, &set, &before);
    int code = pthread_create(t, &attr, fn, arg);

    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (code)
        return err_set(e, code, "thread %s: %s: raise the limit of processes (ulimit -u, pids.max)",
                       what, strerror(code));
    return 0;
}

void thread_name(const char *name)
{
    prctl(PR_SET_NAME, name);
}
