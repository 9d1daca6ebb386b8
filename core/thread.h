/* Threads with small explicit stacks and no signals: all signals belong to the main thread. */
#ifndef MAYFLY_CORE_THREAD_H
#define MAYFLY_CORE_THREAD_H

#include <pthread.h>
#include <stddef.h>

#include "core/err.h"

/* Starts fn(arg) on a thread called name (at most 15 bytes) with stack bytes of stack and every
 * signal blocked. 0, or -errno with *e. Joinable. */
int thread_start(pthread_t *t, const char *name, size_t stack, void *(*fn)(void *), void *arg,
                 struct err *e);

#endif
