/* Threads with small explicit stacks and no signals: all belong to the main thread, but for those
 * that a thread's own fault raises. */
#ifndef MAYFLY_CORE_THREAD_H
#define MAYFLY_CORE_THREAD_H

#include <pthread.h>
#include <stddef.h>

#include "core/err.h"

/* Starts fn(arg) on a thread with stack bytes of stack and every signal blocked but SIGSEGV and
 * its like. what names it in an error. 0, or -errno with *e. Joinable. */
int thread_start(pthread_t *t, const char *what, size_t stack, void *(*fn)(void *), void *arg,
                 struct err *e);

/* Names the calling thread (at most 15 bytes), for ps, gdb and trace events. */
void thread_name(const char *name);

#endif
