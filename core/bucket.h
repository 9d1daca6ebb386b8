/* A token bucket: how fast something may go on the average, and how much of it at once.
 *
 * Tokens (bytes, operations, packets) come in at `rate` a second and wait in a bucket that holds
 * `burst` of them. Who takes pays at once, however much he takes, as long as the bucket is not in
 * debt; then it is, and who comes next waits until the debt is paid. So one request larger than the
 * bucket passes, and over time the rate holds exactly.
 *
 * No clock and no timer here: the caller says what time it is, and asks when to come again. One
 * thread.
 */
#ifndef MAYFLY_CORE_BUCKET_H
#define MAYFLY_CORE_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"

/* The largest rate and burst, and the largest debt: 2^50 bytes are a pebibyte. */
#define BUCKET_MAX (UINT64_C(1) << 50)

struct bucket {
    uint64_t rate;  /* tokens a second; 0: no limit, everything passes */
    uint64_t burst; /* tokens that wait at most */
    __int128 level; /* what there is, in 1e-9 tokens; negative: a debt */
    uint64_t at;    /* ns: when level was true */
};

/* Full. rate, burst <= BUCKET_MAX, burst at least 1 where rate is not 0. now, here and below: ns of
 * a clock that never goes back. */
void bucket_init(struct bucket *b, uint64_t rate, uint64_t burst, uint64_t now);

/* Whether tokens may be taken now, that is whether there is no debt; does not take them. */
bool bucket_ready(struct bucket *b, uint64_t now);

/* Takes n <= BUCKET_MAX tokens, in debt if need be, whether ready or not. Who takes when it is not
 * ready is forgiven what goes beyond a debt of BUCKET_MAX. */
void bucket_take(struct bucket *b, uint64_t n, uint64_t now);

/* How long until bucket_ready, in ns, rounded up; 0: now. UINT64_MAX where it would be longer. */
uint64_t bucket_wait(struct bucket *b, uint64_t now);

/* The level, for a snapshot; time stands still in between. Load: into one that bucket_init made
 * with the same limits, 0 or -EPROTO and nothing changed. */
void bucket_save(struct bucket *b, uint64_t now, struct wbuf *w);
int bucket_load(struct bucket *b, uint64_t now, struct rbuf *r);

#endif
