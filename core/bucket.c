/* See bucket.h.
 *
 * The level is counted in billionths of a token: at `rate` tokens a second, `rate` billionths come
 * in with every nanosecond. So no division is made where tokens come or go, nothing is rounded, and
 * nothing drifts. 128 bits hold it: the longest time, 2^64 ns, at the highest rate makes 2^114.
 */
#include "core/bucket.h"

#include <assert.h>
#include <errno.h>

#define PARTS 1000000000 /* of a token; and ns of a second */

/* What the level is between; without a limit it is always 0. */
static __int128 level_max(const struct bucket *b)
{
    return b->rate ? (__int128)b->burst * PARTS : 0;
}

static __int128 level_min(const struct bucket *b)
{
    return b->rate ? -(__int128)BUCKET_MAX * PARTS : 0;
}

static void refill(struct bucket *b, uint64_t now)
{
    if (now <= b->at)
        return;
    b->level += (__int128)b->rate * (now - b->at);
    if (b->level > level_max(b))
        b->level = level_max(b);
    b->at = now;
}

void bucket_init(struct bucket *b, uint64_t rate, uint64_t burst, uint64_t now)
{
    assert(rate <= BUCKET_MAX && burst <= BUCKET_MAX && (burst || !rate));
    *b = (struct bucket){ .rate = rate, .burst = burst, .at = now };
    b->level = level_max(b);
}

bool bucket_ready(struct bucket *b, uint64_t now)
{
    refill(b, now);
    return b->level >= 0;
}

void bucket_take(struct bucket *b, uint64_t n, uint64_t now)
{
    assert(n <= BUCKET_MAX);
    refill(b, now);
    b->level -= (__int128)n * PARTS;
    if (b->level < level_min(b))
        b->level = level_min(b);
}

uint64_t bucket_wait(struct bucket *b, uint64_t now)
{
    if (bucket_ready(b, now))
        return 0;
    unsigned __int128 debt = (unsigned __int128)-b->level;
    unsigned __int128 ns = (debt + b->rate - 1) / b->rate;

    return ns < UINT64_MAX ? (uint64_t)ns : UINT64_MAX;
}

void bucket_save(struct bucket *b, uint64_t now, struct wbuf *w)
{
    refill(b, now);
    wbuf_u64(w, (uint64_t)b->level);
    wbuf_u64(w, (uint64_t)((unsigned __int128)b->level >> 64));
}

int bucket_load(struct bucket *b, uint64_t now, struct rbuf *r)
{
    unsigned __int128 low = rbuf_u64(r), high = rbuf_u64(r);
    __int128 level = (__int128)(high << 64 | low);

    if (r->overrun || level < level_min(b) || level > level_max(b))
        return -EPROTO;
    b->level = level;
    b->at = now;
    return 0;
}
