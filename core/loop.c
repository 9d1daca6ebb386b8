/* See loop.h.
 *
 * epoll, level-triggered: a handler does a bounded piece of work and returns, and what is left
 * over is reported again, so that no descriptor starves the others. epoll refuses regular files
 * and /dev/null with EPERM; those are always ready by definition, so they stand in a list of their
 * own that is served in every round, and while one of them wants events the wait does not sleep.
 */
#include "core/loop.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/log.h"
#include "core/thread.h"

static void loop_wake(struct loop *l)
{
    uint64_t one = 1;
    ssize_t n = write(l->wakefd, &one, sizeof one);

    (void)n; /* EAGAIN: it is awake already */
}

/* Answers who stands at the door. Under the lock. */
static void loop_answer(struct loop *l)
{
    if (!l->call_fn)
        return;
    l->call_fn(l->call_arg);
    l->call_fn = NULL;
    l->answered++;
    pthread_cond_broadcast(&l->changed);
}

static void loop_on_wake(struct watch *w, uint32_t revents)
{
    struct loop *l = w->arg;
    uint64_t count;

    (void)revents;
    if (read(l->wakefd, &count, sizeof count) < 0)
        return;
    pthread_mutex_lock(&l->lock);
    loop_answer(l);
    pthread_mutex_unlock(&l->lock);
}

int loop_init(struct loop *l, struct err *e)
{
    *l = (struct loop){ .gone = true };
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    l->epfd = epoll_create1(EPOLL_CLOEXEC);
    l->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->epfd < 0 || l->wakefd < 0) {
        int code = errno;

        loop_fini(l);
        return err_set(e, code, "event loop: %s: %s", strerror(code),
                       err_remedy(code, "report this"));
    }
    l->wake = (struct watch){ .fd = l->wakefd, .events = EPOLLIN, .fn = loop_on_wake, .arg = l };
    int ret = loop_add(l, &l->wake);

    if (ret) {
        loop_fini(l);
        return err_set(e, -ret, "event loop: %s: %s", strerror(-ret),
                       err_remedy(-ret, "report this"));
    }
    return 0;
}

void loop_fini(struct loop *l)
{
    if (l->epfd >= 0)
        close(l->epfd);
    if (l->wakefd >= 0)
        close(l->wakefd);
    l->epfd = l->wakefd = -1;
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
}

/* Ties w to epoll or unties it. epoll reports errors and hang-ups even to who asked for no event,
 * round after round, so a watch without events is no part of it. 0 or -errno. */
static int loop_arm(struct loop *l, struct watch *w, uint32_t events)
{
    struct epoll_event ev = { .events = events, .data.ptr = w };
    int op = !events ? EPOLL_CTL_DEL : w->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

    if (epoll_ctl(l->epfd, op, w->fd, &ev) < 0)
        return -errno;
    w->events = events;
    return 0;
}

int loop_add(struct loop *l, struct watch *w)
{
    uint32_t events = w->events;

    /* Asked for something in any case, to learn whether epoll takes it at all. */
    w->events = 0;
    w->always = false;
    int ret = loop_arm(l, w, EPOLLIN);

    if (ret == -EPERM) {
        w->always = true;
        w->next = l->always;
        l->always = w;
    } else if (ret) {
        return ret;
    }
    w->added = true;
    loop_mod(l, w, events);
    return 0;
}

void loop_mod(struct loop *l, struct watch *w, uint32_t events)
{
    if (!w->added || w->events == events)
        return;
    int ret = 0;

    if (w->always)
        w->events = events;
    else
        ret = loop_arm(l, w, events);
    if (ret)
        log_error("event loop: descriptor %d can't be watched: %s", w->fd, strerror(-ret));
}

void loop_del(struct loop *l, struct watch *w)
{
    if (!w->added)
        return;
    loop_mod(l, w, 0);
    w->added = false;
    for (struct watch **p = &l->always; w->always && *p; p = &(*p)->next)
        if (*p == w) {
            *p = w->next;
            return;
        }
}

/* Serves the always-ready ones; whether there were any. */
static bool loop_serve_always(struct loop *l)
{
    bool any = false;

    for (struct watch *w = l->always, *next; w; w = next) {
        next = w->next;
        if (w->events) {
            any = true;
            w->fn(w, w->events);
        }
    }
    return any;
}

void loop_run(struct loop *l)
{
    struct epoll_event ev[16];

    pthread_mutex_lock(&l->lock);
    l->gone = false;
    pthread_mutex_unlock(&l->lock);
    while (!l->stop) {
        bool sleep = !loop_serve_always(l);
        int n = 0;

        if (!l->wait)
            n = epoll_wait(l->epfd, ev, ARRAY_LEN(ev), sleep ? -1 : 0);
        else if (l->wait(l->wait_arg, sleep))
            n = epoll_wait(l->epfd, ev, ARRAY_LEN(ev), 0);
        for (int i = 0; i < n; i++) {
            struct watch *w = ev[i].data.ptr;

            if (w->added && w->events)
                w->fn(w, ev[i].events);
        }
    }
    pthread_mutex_lock(&l->lock);
    l->gone = true;
    loop_answer(l);
    pthread_mutex_unlock(&l->lock);
}

void loop_wait_by(struct loop *l, bool (*wait)(void *arg, bool sleep), void *arg)
{
    l->wait = wait;
    l->wait_arg = arg;
}

void loop_stop(struct loop *l)
{
    l->stop = true;
}

void loop_call(struct loop *l, void (*fn)(void *), void *arg)
{
    pthread_mutex_lock(&l->lock);
    while (l->call_fn)
        pthread_cond_wait(&l->changed, &l->lock);
    if (l->gone) {
        fn(arg);
    } else {
        uint64_t ticket = ++l->asked;

        l->call_fn = fn;
        l->call_arg = arg;
        loop_wake(l);
        while (l->answered < ticket)
            pthread_cond_wait(&l->changed, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
}

static void *loop_main(void *arg)
{
    struct loop *l = arg;

    thread_name(l->name);
    if (l->on_start)
        l->on_start(l->start_arg);
    loop_run(l);
    return NULL;
}

int loop_start(struct loop *l, const char *name, void (*on_start)(void *), void *arg, struct err *e)
{
    snprintf(l->name, sizeof l->name, "%s", name);
    l->on_start = on_start;
    l->start_arg = arg;
    pthread_mutex_lock(&l->lock);
    l->gone = false; /* who calls from here on waits for the thread */
    pthread_mutex_unlock(&l->lock);
    int ret = thread_start(&l->thread, name, LOOP_STACK, loop_main, l, e);

    l->has_thread = ret == 0;
    if (ret) {
        pthread_mutex_lock(&l->lock);
        l->gone = true;
        loop_answer(l); /* who came in between */
        pthread_mutex_unlock(&l->lock);
    }
    return ret;
}

static void loop_call_stop(void *arg)
{
    loop_stop(arg);
}

void loop_join(struct loop *l)
{
    if (!l->has_thread)
        return;
    loop_call(l, loop_call_stop, l);
    pthread_join(l->thread, NULL);
    l->has_thread = false;
}
