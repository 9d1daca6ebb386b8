/* The loop: its door, its watches, and what it must not do while nothing is to be done.
 *
 * What a handler sees it writes down; the test's thread judges it when the loop is joined, since
 * cmocka's assertions must not fail on another thread. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/loop.h"
#include "core/num.h"

static void start(struct loop *l)
{
    struct err e;

    assert_int_equal(loop_start(l, "test-loop", NULL, NULL, &e), 0);
}

static void init(struct loop *l)
{
    struct err e;

    assert_int_equal(loop_init(l, &e), 0);
}

/* --- the door ----------------------------------------------------------------------------- */

struct ran {
    pthread_t on;
    int times;
};

static void note_thread(void *arg)
{
    struct ran *r = arg;

    r->on = pthread_self();
    r->times++;
}

static void start_slowly(void *arg)
{
    usleep(50000);
    atomic_store((_Atomic bool *)arg, true);
}

/* A call that comes before the thread has reached its loop waits for it: its role's filter is on by
 * then, and not the caller's. */
static void calls_wait_for_a_thread_that_starts(void **state)
{
    struct loop l;
    struct ran r = { 0 };
    struct err e;
    _Atomic bool started = false;

    (void)state;
    init(&l);
    assert_int_equal(loop_start(&l, "slow", start_slowly, &started, &e), 0);
    pthread_t thread = l.thread;

    loop_call(&l, note_thread, &r);
    assert_true(atomic_load(&started));
    assert_true(pthread_equal(r.on, thread));
    loop_join(&l);
    loop_fini(&l);
}

static void calls_run_here_while_no_thread_runs_the_loop(void **state)
{
    struct loop l;
    struct ran r = { 0 };

    (void)state;
    init(&l);
    loop_call(&l, note_thread, &r);
    assert_true(pthread_equal(r.on, pthread_self()));
    start(&l);
    pthread_t thread = l.thread;

    /* The thread may not have got round to running it: then it is still ours to run. */
    while (loop_call(&l, note_thread, &r), pthread_equal(r.on, pthread_self()))
        sleep_ms(1);
    assert_true(pthread_equal(r.on, thread));
    loop_join(&l);
    r.times = 0;
    loop_call(&l, note_thread, &r);
    assert_true(pthread_equal(r.on, pthread_self()));
    assert_int_equal(r.times, 1);
    loop_join(&l); /* once more is harmless */
    loop_fini(&l);
}

#define CALLERS 8

struct caller {
    struct loop *l;
    const bool *end; /* NULL: a fixed number of calls */
    uint64_t calls, done;
    uint64_t *shared; /* without a lock of its own: the door is one */
    pthread_t thread;
};

static void count_up(void *arg)
{
    struct caller *c = arg;

    c->done++;
    (*c->shared)++;
}

static void *caller_main(void *arg)
{
    struct caller *c = arg;

    while (c->end ? !__atomic_load_n(c->end, __ATOMIC_ACQUIRE) : c->calls < 2000) {
        uint64_t before = c->done;

        c->calls++;
        loop_call(c->l, count_up, c);
        if (c->done != before + 1) /* it had returned */
            abort();
    }
    return NULL;
}

static void callers_start(struct caller *c, struct loop *l, const bool *end, uint64_t *shared)
{
    for (int i = 0; i < CALLERS; i++) {
        c[i] = (struct caller){ .l = l, .end = end, .shared = shared };
        assert_int_equal(pthread_create(&c[i].thread, NULL, caller_main, &c[i]), 0);
    }
}

static void callers_check(struct caller *c, const uint64_t *shared)
{
    uint64_t calls = 0;

    for (int i = 0; i < CALLERS; i++) {
        pthread_join(c[i].thread, NULL);
        assert_int_equal(c[i].done, c[i].calls);
        calls += c[i].calls;
    }
    assert_int_equal(*shared, calls);
}

static void many_threads_at_the_door(void **state)
{
    struct loop l;
    struct caller c[CALLERS];
    uint64_t shared = 0;

    (void)state;
    init(&l);
    start(&l);
    callers_start(c, &l, NULL, &shared);
    callers_check(c, &shared);
    loop_join(&l);
    loop_fini(&l);
}

/* The loop comes and goes while they call: each call still runs exactly once. */
static void calls_survive_start_and_end_of_the_loop(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct loop l;
        struct caller c[CALLERS];
        uint64_t shared = 0;
        bool end = false;

        init(&l);
        callers_start(c, &l, &end, &shared);
        sleep_ms(round % 3);
        start(&l);
        sleep_ms(round % 4);
        loop_join(&l);
        sleep_ms(1);
        __atomic_store_n(&end, true, __ATOMIC_RELEASE);
        callers_check(c, &shared);
        loop_fini(&l);
    }
}

static void joined_before_it_ran(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        struct loop l;

        init(&l);
        start(&l);
        loop_join(&l);
        loop_fini(&l);
    }
}

/* --- watches ------------------------------------------------------------------------------ */

/* A watch that counts, and does what it is told when it is called. */
struct tally {
    struct watch w;
    struct loop *l;
    int called;
    uint32_t seen;      /* all the events it was called with */
    int take;           /* bytes to read a call */
    int stop_at;        /* stops the loop at this call */
    struct tally *kill; /* deletes this watch at its first call */
    uint32_t then;      /* what it wants from its first call on; UINT32_MAX: no change */
};

static void tally_fn(struct watch *w, uint32_t revents)
{
    struct tally *t = w->arg;
    char buf[4096];

    __atomic_fetch_add(&t->called, 1, __ATOMIC_RELAXED);
    t->seen |= revents;
    if (t->take && read(w->fd, buf, (size_t)t->take) < 0)
        abort();
    if (t->kill)
        loop_del(t->l, &t->kill->w);
    if (t->called == 1 && t->then != UINT32_MAX)
        loop_mod(t->l, w, t->then);
    if (t->called == t->stop_at)
        loop_stop(t->l);
}

static void tally_init(struct tally *t, struct loop *l, int fd, uint32_t events)
{
    *t = (struct tally){ .l = l, .then = UINT32_MAX };
    t->w = (struct watch){ .fd = fd, .events = events, .fn = tally_fn, .arg = t };
}

static int ready_fd(void)
{
    int fd = eventfd(1, EFD_NONBLOCK);

    assert_true(fd >= 0);
    return fd;
}

static void what_is_left_is_reported_again(void **state)
{
    struct loop l;
    struct tally t;
    int fds[2];

    (void)state;
    init(&l);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "0123456789", 10), 10);
    tally_init(&t, &l, fds[0], EPOLLIN);
    t.take = 3;
    t.stop_at = 4;
    assert_int_equal(loop_add(&l, &t.w), 0);
    loop_run(&l);
    assert_int_equal(t.called, 4);
    assert_int_equal(t.seen, EPOLLIN);
    loop_del(&l, &t.w);
    loop_fini(&l);
    close(fds[0]);
    close(fds[1]);
}

static void descriptors_that_cannot_be_watched(void **state)
{
    struct loop l;
    struct tally t;

    (void)state;
    init(&l);
    tally_init(&t, &l, -1, EPOLLIN);
    assert_int_equal(loop_add(&l, &t.w), -EBADF);
    loop_mod(&l, &t.w, EPOLLIN); /* not added: nothing happens */
    loop_del(&l, &t.w);
    loop_fini(&l);
}

/* Regular files and /dev/null are ready by definition, for as long as they are asked. */
static void always_ready_ones(void **state)
{
    static const char *const paths[] = { "/dev/null", "/proc/self/exe" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct loop l;
        struct tally t, other;
        int fd = open(paths[i], O_RDONLY);

        init(&l);
        tally_init(&t, &l, fd, EPOLLIN);
        t.then = EPOLLOUT;
        t.stop_at = 5;
        assert_int_equal(loop_add(&l, &t.w), 0);
        /* They starve nobody. */
        tally_init(&other, &l, ready_fd(), EPOLLIN);
        assert_int_equal(loop_add(&l, &other.w), 0);
        loop_run(&l);
        assert_int_equal(t.called, 5);
        assert_int_equal(t.seen, EPOLLIN | EPOLLOUT);
        assert_true(other.called >= 4);
        loop_del(&l, &t.w);
        loop_del(&l, &other.w);
        loop_fini(&l);
        close(other.w.fd);
        close(fd);
    }
}

/* A hang-up, an always-ready file, a readable pipe: none of them wakes a loop whose watches ask for
 * nothing, so it sleeps. */
static void no_events_no_work(void **state)
{
    struct loop l;
    struct tally t[3];
    int hung[2], full[2], file = open("/proc/self/exe", O_RDONLY);
    clockid_t cpu;

    (void)state;
    init(&l);
    assert_int_equal(pipe(hung), 0);
    assert_int_equal(pipe(full), 0);
    close(hung[1]);
    assert_int_equal(write(full[1], "x", 1), 1);
    tally_init(&t[0], &l, hung[0], EPOLLIN);
    tally_init(&t[1], &l, full[0], 0);
    tally_init(&t[2], &l, file, EPOLLIN);
    t[0].then = t[2].then = 0;
    for (int i = 0; i < 3; i++)
        assert_int_equal(loop_add(&l, &t[i].w), 0);
    start(&l);
    sleep_ms(20);
    assert_int_equal(pthread_getcpuclockid(l.thread, &cpu), 0);
    int64_t before = clock_ms(cpu);

    sleep_ms(100);
    int64_t spent = clock_ms(cpu) - before;

    loop_join(&l);
    assert_true(spent < 30);
    assert_int_equal(t[0].called, 1);
    assert_int_equal(t[1].called, 0);
    assert_int_equal(t[2].called, 1);
    for (int i = 0; i < 3; i++)
        loop_del(&l, &t[i].w);
    loop_fini(&l);
    close(hung[0]);
    close(full[0]);
    close(full[1]);
    close(file);
}

static void asked_again_it_works_again(void **state)
{
    struct loop l;
    struct tally t;

    (void)state;
    init(&l);
    tally_init(&t, &l, ready_fd(), 0);
    t.stop_at = 1;
    assert_int_equal(loop_add(&l, &t.w), 0);
    for (int i = 0; i < 3; i++) {
        loop_mod(&l, &t.w, EPOLLIN);
        loop_mod(&l, &t.w, EPOLLIN);
        l.stop = false;
        t.called = 0;
        loop_run(&l);
        assert_int_equal(t.called, 1);
        loop_mod(&l, &t.w, 0);
        loop_mod(&l, &t.w, 0);
    }
    loop_del(&l, &t.w);
    assert_int_equal(loop_add(&l, &t.w), 0); /* and added anew */
    loop_del(&l, &t.w);
    loop_fini(&l);
    close(t.w.fd);
}

/* Both are ready in the same round; whoever is first deletes the other, which must stay silent. */
static void a_deleted_watch_stays_silent(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        struct loop l;
        struct tally t[2], last;
        int file[2] = { open("/dev/null", O_RDONLY), open("/dev/null", O_RDONLY) };

        init(&l);
        for (int i = 0; i < 2; i++) {
            tally_init(&t[i], &l, kind ? file[i] : ready_fd(), EPOLLIN);
            t[i].kill = &t[1 - i];
            t[i].stop_at = 3;
            assert_int_equal(loop_add(&l, &t[i].w), 0);
        }
        /* Another one behind them in the list of the always ready. */
        tally_init(&last, &l, open("/proc/self/exe", O_RDONLY), kind ? EPOLLIN : 0);
        assert_int_equal(loop_add(&l, &last.w), 0);
        loop_run(&l);
        assert_int_equal(t[0].called + t[1].called, 3);
        assert_true(t[0].called == 0 || t[1].called == 0);
        if (kind)
            assert_true(last.called >= 2);
        for (int i = 0; i < 2; i++) {
            loop_del(&l, &t[i].w);
            close(t[i].w.fd);
            if (!kind)
                close(file[i]);
        }
        loop_del(&l, &last.w);
        close(last.w.fd);
        loop_fini(&l);
    }
}

static void a_watch_may_delete_itself(void **state)
{
    struct loop l;
    struct tally self[2], stop;

    (void)state;
    init(&l);
    tally_init(&self[0], &l, ready_fd(), EPOLLIN);
    tally_init(&self[1], &l, open("/dev/null", O_RDONLY), EPOLLIN);
    tally_init(&stop, &l, ready_fd(), EPOLLIN);
    stop.stop_at = 5;
    for (int i = 0; i < 2; i++) {
        self[i].kill = &self[i];
        assert_int_equal(loop_add(&l, &self[i].w), 0);
    }
    assert_int_equal(loop_add(&l, &stop.w), 0);
    loop_run(&l);
    assert_int_equal(stop.called, 5);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(self[i].called, 1);
        close(self[i].w.fd);
    }
    loop_del(&l, &stop.w);
    close(stop.w.fd);
    loop_fini(&l);
}

/* More watches ready at once than one wait reports. */
static void many_watches(void **state)
{
    struct loop l;
    struct tally t[50];

    (void)state;
    init(&l);
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        tally_init(&t[i], &l, ready_fd(), EPOLLIN);
        t[i].take = 8;
        assert_int_equal(loop_add(&l, &t[i].w), 0);
    }
    start(&l);
    for (int tries = 0; tries < 2000; tries++) {
        struct ran r = { 0 };
        size_t served = 0;

        loop_call(&l, note_thread, &r); /* orders what follows behind the handlers */
        for (size_t i = 0; i < ARRAY_LEN(t); i++)
            served += __atomic_load_n(&t[i].called, __ATOMIC_RELAXED) == 1;
        if (served == ARRAY_LEN(t))
            break;
        sleep_ms(1);
    }
    loop_join(&l);
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        assert_int_equal(t[i].called, 1);
        loop_del(&l, &t[i].w);
        close(t[i].w.fd);
    }
    loop_fini(&l);
}

static void note_mask(void *arg)
{
    pthread_sigmask(SIG_SETMASK, NULL, arg);
}

static void the_loops_thread_takes_no_signals(void **state)
{
    static const int theirs[] = { SIGHUP,  SIGINT,  SIGQUIT,  SIGTERM, SIGPIPE, SIGALRM,
                                  SIGCHLD, SIGUSR1, SIGWINCH, SIGTTIN, SIGTTOU, SIGCONT };
    struct loop l;
    sigset_t before, mine, its;
    struct ran r = { 0 };

    (void)state;
    init(&l);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    start(&l);
    pthread_sigmask(SIG_SETMASK, NULL, &mine);
    while (loop_call(&l, note_thread, &r), pthread_equal(r.on, pthread_self()))
        sleep_ms(1);
    loop_call(&l, note_mask, &its);
    loop_join(&l);
    loop_fini(&l);
    /* Faults (SIGSEGV and its like) stay open: their handler puts the terminal back. */
    for (size_t i = 0; i < ARRAY_LEN(theirs); i++)
        if (sigismember(&its, theirs[i]) != 1)
            fail_msg("signal %d reaches the loop", theirs[i]);
    for (int sig = 1; sig <= SIGRTMAX; sig++)
        assert_int_equal(sigismember(&mine, sig), sigismember(&before, sig));
    assert_int_equal(sigismember(&mine, SIGTERM), 0);
    assert_int_equal(sigismember(&its, SIGSEGV), 0);
}

static void no_descriptors_left(void **state)
{
    struct loop l;
    struct err e = { 0 };
    int fds[64], n = 0;
    struct rlimit few, before;

    (void)state;
    getrlimit(RLIMIT_NOFILE, &before);
    few = (struct rlimit){ .rlim_cur = ARRAY_LEN(fds) - 1, .rlim_max = before.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    while ((fds[n] = dup(0)) >= 0)
        n++;
    int none = loop_init(&l, &e);

    close(fds[--n]);
    int half = loop_init(&l, &e); /* now it is the eventfd that fails */

    assert_int_equal(dup(0), fds[n]); /* and nothing of it is left open */
    for (n++; n > 0;)
        close(fds[--n]);
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(none, -EMFILE);
    assert_int_equal(half, -EMFILE);
    assert_non_null(strstr(e.msg, "ulimit -n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_wait_for_a_thread_that_starts),
        cmocka_unit_test(calls_run_here_while_no_thread_runs_the_loop),
        cmocka_unit_test(many_threads_at_the_door),
        cmocka_unit_test(calls_survive_start_and_end_of_the_loop),
        cmocka_unit_test(joined_before_it_ran),
        cmocka_unit_test(what_is_left_is_reported_again),
        cmocka_unit_test(descriptors_that_cannot_be_watched),
        cmocka_unit_test(always_ready_ones),
        cmocka_unit_test(no_events_no_work),
        cmocka_unit_test(asked_again_it_works_again),
        cmocka_unit_test(a_deleted_watch_stays_silent),
        cmocka_unit_test(a_watch_may_delete_itself),
        cmocka_unit_test(many_watches),
        cmocka_unit_test(the_loops_thread_takes_no_signals),
        cmocka_unit_test(no_descriptors_left),
    };

    return cmocka_run_group_tests(tests, unit_watchdog, NULL);
}
