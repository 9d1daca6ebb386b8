/* What every unit test starts from: cmocka with the headers it wants before it, and random numbers
 * that are the same in every run, so that a failure can be had again. */
#ifndef MAYFLY_TESTS_UNIT_H
#define MAYFLY_TESTS_UNIT_H

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

struct rng {
    uint64_t s;
};

/* splitmix64: any seed will do. */
static inline uint64_t rng_next(struct rng *r)
{
    uint64_t z = r->s += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* Below n, which is not 0. */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
    return rng_next(r) % n;
}

static inline bool rng_chance(struct rng *r, unsigned percent)
{
    return rng_below(r, 100) < percent;
}

static inline void rng_fill(struct rng *r, void *p, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        uint64_t v = rng_next(r);

        memcpy((char *)p + i, &v, n - i < 8 ? n - i : 8);
    }
}

static inline int64_t clock_ms(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static inline int64_t wall_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC);
}

static inline void sleep_ms(int ms)
{
    struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

    nanosleep(&ts, NULL);
}

/* For groups with threads: a test that failed leaves them behind, and they may hang the rest. */
static inline int unit_watchdog(void **state)
{
    (void)state;
    alarm(120);
    return 0;
}

#define UNIT_WAIT 5000 /* ms: a machine under load is no failure */

/* Exactly n bytes from fd, however they come. */
static inline void read_all(int fd, void *buf, size_t n)
{
    for (size_t done = 0; done < n;) {
        struct pollfd p = { .fd = fd, .events = POLLIN };

        if (poll(&p, 1, UNIT_WAIT) != 1)
            fail_msg("%zu of %zu bytes came", done, n);
        ssize_t got = read(fd, (char *)buf + done, n - done);

        if (got <= 0)
            fail_msg("%zu of %zu bytes came, then the end", done, n);
        done += (size_t)got;
    }
}

#endif
