/* The I/O loop: one thread waiting on descriptors, with a door for other threads.
 *
 * Each device has a loop of its own, and so has the main thread. A watch is storage of its owner's
 * that ties a descriptor to a function; everything a loop calls runs on its thread. Other threads
 * enter by loop_call(), which runs a function on the loop and waits for it: that is how activate,
 * reset, resize and save cross over, and why a device needs no lock.
 */
#ifndef MAYFLY_CORE_LOOP_H
#define MAYFLY_CORE_LOOP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "core/num.h"

struct loop;

struct watch {
    int fd;
    uint32_t events; /* EPOLLIN, EPOLLOUT, or 0: not even a hang-up is reported */
    void (*fn)(struct watch *w, uint32_t revents);
    void *arg;
    /* The loop's own. */
    struct watch *next; /* in the list of those always ready */
    bool always;        /* a regular file or /dev/null: epoll refuses it, it is never busy */
    bool added;
};

struct loop {
    int epfd, wakefd;
    struct watch wake;
    struct watch *always;
    bool stop;
    pthread_t thread;
    char name[16]; /* of the thread */
    void (*on_start)(void *);
    void *start_arg;
    bool (*wait)(void *, bool sleep); /* NULL: epoll_wait */
    void *wait_arg;
    bool has_thread;
    /* The door: one call at a time, under lock. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void (*call_fn)(void *); /* NULL: nobody at the door */
    void *call_arg;
    uint64_t asked, answered; /* tickets */
    bool gone;                /* no thread runs it */
};

/* 0 or -errno with *e. The descriptors close in loop_fini, after the loop's thread has ended. */
int loop_init(struct loop *l, struct err *e);
void loop_fini(struct loop *l);

/* Start, change and end watching. Before the loop runs, or on its thread. w stays the caller's and
 * must live until loop_del. loop_add: 0 or -errno. Within the loop's own thread a watch may delete
 * itself, but not free a watch whose event may be pending in this round. */
int loop_add(struct loop *l, struct watch *w);
void loop_mod(struct loop *l, struct watch *w, uint32_t events);
void loop_del(struct loop *l, struct watch *w);

/* Has the loop wait in wait(arg, sleep) and no longer in epoll: for a device whose host side has
 * a way of its own to wait, that of io_uring, and can watch the loop's epfd there. It returns, with
 * sleep after something happened, whether epfd has events. Before the loop runs. */
void loop_wait_by(struct loop *l, bool (*wait)(void *arg, bool sleep), void *arg);

/* Runs until loop_stop(). The calling thread becomes the loop's. */
void loop_run(struct loop *l);

/* Makes loop_run return after this round. On the loop's thread (cross over by loop_call). */
void loop_stop(struct loop *l);

/* Runs fn(arg) on the loop's thread and returns when it has returned. From any other thread; one
 * that holds no lock the loop takes. Before loop_start and after loop_join fn runs here. */
void loop_call(struct loop *l, void (*fn)(void *), void *arg);

/* A thread that runs the loop, signals blocked, stack of LOOP_STACK. name: at most 15 bytes.
 * on_start(arg), unless NULL, runs on it before the loop does. 0 or -errno with *e. loop_join stops
 * it and waits for it. */
#define LOOP_STACK (32 * KIB)
int loop_start(struct loop *l, const char *name, void (*on_start)(void *), void *arg,
               struct err *e);
void loop_join(struct loop *l);

#endif
