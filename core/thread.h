/* Threads with small explicit stacks and no signals: all belong to the main thread, but for those
 * that a thread's own fault raises. */
#ifndef MAYFLY_CORE_THREAD_H
#define MAYFLY_CORE_THREAD_H

#include <pthread.h>
#include <stddef.h>

#include "core/err.h"

/* Built with a sanitizer: its runtime wants larger stacks and makes system calls of its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define THREAD_SANITIZED 1
#endif
#endif
#ifndef THREAD_SANITIZED
#define THREAD_SANITIZED 0
#endif

/* The signal that brings a vCPU out of the guest. A number and not SIGRTMIN, which another libc
 * counts from elsewhere: the policy of system calls is compiled with another one. */
#define THREAD_KICK_SIGNAL 40

/* Starts fn(arg) on a thread with stack bytes of stack and every signal blocked but SIGSEGV and
 * its like. what names it in an error. 0, or -errno with *e. Joinable. */
int thread_start(pthread_t *t, const char *what, size_t stack, void *(*fn)(void *), void *arg,
                 struct err *e);

/* Names the calling thread (at most 15 bytes), for ps, gdb and trace events. */
void thread_name(const char *name);

#endif
