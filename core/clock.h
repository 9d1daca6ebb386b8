/* What time it is, for limits and deadlines. */
#ifndef MAYFLY_CORE_CLOCK_H
#define MAYFLY_CORE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_S UINT64_C(1000000000)

/* Nanoseconds of the monotonic clock. Any thread. */
static inline uint64_t clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

#endif
