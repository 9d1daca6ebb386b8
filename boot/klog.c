/* Finding a kernel's log; see klog.h. Linux 5.10 on, kernel/printk/printk_ringbuffer.c.
 *
 * The ring is an array of bytes that holds one block a record, each at a multiple of 8:
 *
 *   | id (8 bytes) | text, then padding to 8 | id + 1 | text ... | id + 2 | ...
 *
 * Lengths are kept elsewhere, so the end of a block is where the next id stands; an empty record
 * has no block and its id is left out. The first id is 2^32 less the number of records that the
 * kernel has room for, so ids are near 2^32 for as long as anybody would need us, and a word like
 * that before text is rare. A run of such blocks with rising ids is the log, wherever the kernel
 * put it and whatever was overwritten.
 *
 * A ring that wrapped is two runs: the newest records at its start and, behind them, what is left
 * of the older ones. The record that did not fit at the end left its id there, and stands whole at
 * the start: that joins the runs. A kernel that moves to a larger ring (many CPUs, log_buf_len=)
 * copies the records and leaves the old ring behind: the longest run wins. Ids don't tell, as those
 * of a larger ring begin lower.
 *
 * All of it is the guest's: every step moves forward, work is linear in the bytes looked at, and a
 * guest that forges a log sees it printed, as printable ASCII, at most max bytes of it.
 */
#include "boot/klog.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "core/num.h"

#define ID_MIN    ((UINT64_C(1) << 32) - (UINT64_C(1) << 24))
#define ID_RANGE  (UINT64_C(2) << 24)
#define ID_SPAN   (UINT64_C(1) << 20) /* more records than any ring holds */
#define ID_SKIP   16                  /* empty records in a row that we put up with */
#define TEXT_MIN  4                   /* a shorter record is taken for an empty one */
#define BLOCK_MIN 16                  /* an id and a word of text */
#define BLOCK_MAX 2048                /* a record's text is at most 1 KiB */
#define RUN_MIN   4                   /* fewer records in a row are chance */
#define RUNS_MAX  32
#define WORD      8
#define PAGE      UINT64_C(4096)
#define STEP      4096 /* pages asked for at once */

/* A run of blocks, one behind the other. */
struct run {
    const uint8_t *first, *last; /* blocks */
    const uint8_t *limit;        /* nothing behind is read */
    uint64_t first_id, last_id;
    size_t count;
};

static bool is_text(uint8_t c)
{
    return (c >= ' ' && c < 0x7f) || c == '\n' || c == '\t';
}

static uint64_t word_at(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

static bool id_follows(uint64_t prev, uint64_t id)
{
    return id > prev && id - prev <= ID_SKIP;
}

/* Whether p points to a plausible id and the beginning of a text, 16 bytes in all. */
static bool block_is(const uint8_t *p)
{
    if (word_at(p) - ID_MIN >= ID_RANGE)
        return false;
    for (int i = 0; i < TEXT_MIN; i++)
        if (!is_text(p[WORD + i]))
            return false;
    return true;
}

/* Keeps the RUNS_MAX longest. */
static void runs_add(struct run runs[RUNS_MAX], const struct run *r)
{
    struct run *least = &runs[0];

    for (size_t i = 1; i < RUNS_MAX; i++)
        if (runs[i].count < least->count)
            least = &runs[i];
    if (r->count > least->count)
        *least = *r;
}

/* Collects the runs in [p, end), both multiples of 8. */
static void runs_scan(struct run runs[RUNS_MAX], const uint8_t *p, const uint8_t *end)
{
    struct run r = { 0 };

    for (; end - p >= BLOCK_MIN; p += WORD) {
        if (!block_is(p))
            continue;
        uint64_t id = word_at(p);

        if (r.count && p - r.last < BLOCK_MAX && id_follows(r.last_id, id)) {
            r.last = p;
            r.last_id = id;
            r.count++;
        } else {
            runs_add(runs, &r);
            r = (struct run){
                .first = p, .last = p, .limit = end, .first_id = id, .last_id = id, .count = 1
            };
        }
    }
    runs_add(runs, &r);
}

/* Scans what is present of one region: reading a page that was never touched would make it so. */
static void region_scan(struct run runs[RUNS_MAX], const struct gmem_region *g, uint64_t *budget)
{
    unsigned char present[STEP];
    uint64_t pages = g->len / PAGE;
    const uint8_t *from = NULL; /* first page of a row of present ones */

    for (uint64_t i = 0; i < pages; i++) {
        const uint8_t *page = g->host + i * PAGE;

        /* It fails for memory that is not a mapping of its own, as a test's. */
        if (i % STEP == 0 && mincore((void *)page, min_u64(STEP, pages - i) * PAGE, present) < 0)
            memset(present, 1, sizeof present);
        if ((present[i % STEP] & 1) && *budget >= PAGE) {
            *budget -= PAGE;
            from = from ? from : page;
        } else if (from) {
            runs_scan(runs, from, page);
            from = NULL;
        }
    }
    if (from)
        runs_scan(runs, from, g->host + pages * PAGE);
}

/* The length of a record's text that lies in [p, p + max).
 *
 * Since Linux 5.12 the text is written with a prefix (1, level) and perhaps a newline, and then
 * moved down over the prefix: its last two bytes, or the next part's prefix, and the newline still
 * stand behind it. */
static size_t text_len(const uint8_t *p, size_t max)
{
    size_t n = 0;

    while (n < max && p[n] > 1)
        n++;
    if (n && p[n - 1] == '\n')
        n--;
    return n >= 4 && memcmp(p + n - 2, p + n - 4, 2) == 0 ? n - 2 : n;
}

/* Where the text goes: the last max bytes of all. */
struct tail {
    char *out;
    size_t max, len;
    uint64_t skip; /* bytes yet to drop */
    uint64_t total;
    char dropped; /* the last one */
};

static void tail_put(struct tail *t, uint8_t c)
{
    char ch = c == '\t' ? ' ' : is_text(c) ? (char)c : '?';

    t->total++;
    if (t->skip) {
        t->skip--;
        t->dropped = ch;
    } else if (t->len < t->max) {
        t->out[t->len++] = ch;
    }
}

/* Whether a block with id ends that of prev: the next does, and behind the last one what is left of
 * an older one. */
static bool id_ends(uint64_t prev, uint64_t id, bool last)
{
    return last ? prev - id < ID_SPAN : id_follows(prev, id);
}

/* Puts the text of a run, block by block as runs_scan() found them; without the last one if it is
 * only an id. */
static void run_put(const struct run *r, bool whole, struct tail *t)
{
    const uint8_t *p = r->first;
    uint64_t id = r->first_id;

    for (size_t left = r->count; left; left--) {
        const uint8_t *next = p + WORD;
        const uint8_t *end = r->limit - p > BLOCK_MAX ? p + BLOCK_MAX : r->limit;
        bool last = left == 1;

        if (last && !whole)
            return;
        while (end - next >= BLOCK_MIN && !(block_is(next) && id_ends(id, word_at(next), last)))
            next += WORD;
        if (end - next < BLOCK_MIN)
            next = end;
        size_t n = text_len(p + WORD, (size_t)(next - p - WORD));

        for (size_t i = 0; i < n; i++)
            tail_put(t, p[WORD + i]);
        tail_put(t, '\n');
        if (next == end)
            return; /* it was the last one */
        id = word_at(next);
        p = next;
    }
}

/* Whether b goes on where a ended: with the record whose id a has last, or the next. */
static bool run_continues(const struct run *a, const struct run *b)
{
    return a != b && a->count && b->count &&
           (a->last_id == b->first_id || id_follows(a->last_id, b->first_id));
}

/* The longest run that is no chance, and what continues it or what it continues, if the ring
 * wrapped: *older may be NULL. NULL when there is no log. */
static const struct run *runs_newest(const struct run runs[RUNS_MAX], const struct run **older)
{
    const struct run *best = NULL;

    *older = NULL;
    for (size_t i = 0; i < RUNS_MAX; i++)
        if (runs[i].count >= RUN_MIN &&
            (!best || runs[i].count > best->count ||
             (runs[i].count == best->count && runs[i].last_id > best->last_id)))
            best = &runs[i];
    for (size_t i = 0; best && i < RUNS_MAX; i++) {
        if (run_continues(best, &runs[i])) {
            *older = best;
            return &runs[i];
        }
        if (run_continues(&runs[i], best))
            *older = &runs[i];
    }
    return best;
}

static void log_put(const struct run *newest, const struct run *older, struct tail *t)
{
    if (older)
        run_put(older, older->last_id != newest->first_id, t);
    run_put(newest, true, t);
}

size_t klog_find(const struct gmem *m, char *out, size_t max)
{
    struct run runs[RUNS_MAX] = { 0 };
    const struct run *older;
    uint64_t budget = KLOG_SCAN_MAX;

    for (int i = 0; i < m->n; i++)
        region_scan(runs, &m->region[i], &budget);
    const struct run *newest = runs_newest(runs, &older);

    if (!newest)
        return 0;
    struct tail count = { 0 };

    log_put(newest, older, &count);
    struct tail t = {
        .out = out, .max = max, .skip = count.total > max ? count.total - max : 0, .dropped = '\n'
    };

    log_put(newest, older, &t);
    /* Begin with a whole line, if there is one. */
    const char *nl = t.dropped == '\n' || !t.len ? NULL : memchr(out, '\n', t.len - 1);

    if (nl) {
        t.len -= (size_t)(nl + 1 - out);
        memmove(out, nl + 1, t.len);
    }
    return t.len;
}
