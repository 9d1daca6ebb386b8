/* A bounded cursor over scattered bytes: how a device reads a request and writes its answer.
 *
 * The buffers of a chain are guest memory, already checked; the cursor bounds every access by what
 * the driver offered, so that a device can neither run past a request nor keep a raw pointer into
 * one. Bytes are copied out once and judged in the copy.
 */
#ifndef MAYFLY_CORE_CURSOR_H
#define MAYFLY_CORE_CURSOR_H

#include <stddef.h>
#include <sys/uio.h>

struct cursor {
    const struct iovec *iov; /* the piece at hand; the array is the owner's and outlives us */
    size_t off;              /* into it */
    size_t left;             /* bytes from here to the end of the last piece */
};

/* Starts at the first byte of iov[0..n). */
void cursor_init(struct cursor *c, const struct iovec *iov, size_t n);

static inline size_t cursor_left(const struct cursor *c)
{
    return c->left;
}

/* Copy n bytes out of / into the buffers and move on. 0, or -EMSGSIZE when fewer are left; then
 * nothing moved. */
int cursor_get(struct cursor *c, void *buf, size_t n);
int cursor_put(struct cursor *c, const void *buf, size_t n);

/* Moves on by n bytes. 0 or -EMSGSIZE as above. */
int cursor_skip(struct cursor *c, size_t n);

/* The next n bytes as at most max iovecs for a system call, and move on. Their number, or
 * -EMSGSIZE (fewer are left) or -E2BIG (max too small); then nothing moved. n 0 gives 0. */
int cursor_take(struct cursor *c, size_t n, struct iovec *iov, int max);

#endif
