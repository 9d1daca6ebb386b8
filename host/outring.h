/* Output held for a slow reader: a bounded ring in which the oldest bytes give way.
 *
 * The writer never waits. What the reader did not take in time is counted, and
 * "[N bytes dropped]" takes its place in what the reader sees. The ring starts over at its first
 * byte whenever it runs empty, so that quiet output touches a page or two of it. One thread.
 */
#ifndef MAYFLY_HOST_OUTRING_H
#define MAYFLY_HOST_OUTRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OUTRING_SIZE (UINT64_C(1) << 20)

struct outring {
    uint8_t *data; /* OUTRING_SIZE bytes; held are [start, start + len), wrapping */
    size_t start, len;
    uint64_t dropped; /* since the reader was last told */
    char notice[48];  /* being told */
    size_t notice_off, notice_len;
};

/* 0 or -ENOMEM. */
int outring_init(struct outring *r);
void outring_fini(struct outring *r);

/* Adds n bytes, at most OUTRING_SIZE. */
void outring_put(struct outring *r, const void *data, size_t n);

static inline size_t outring_room(const struct outring *r)
{
    return OUTRING_SIZE - r->len;
}

/* n bytes were left out here; what is held gives way with them, so that the notice stands where
 * they were. */
void outring_leave_out(struct outring *r, uint64_t n);

/* Writes to fd (-1: nowhere) what the reader takes. 0 when all is out, -EAGAIN when it is slow,
 * another -errno when it is gone; then all that was held is forgotten. */
int outring_flush(struct outring *r, int fd);

/* Bytes that no reader has, held or dropped. */
uint64_t outring_owed(const struct outring *r);

#endif
