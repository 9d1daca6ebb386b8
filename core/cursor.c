/* See cursor.h. One walk serves them all: step() yields the next contiguous piece. */
#include "core/cursor.h"

#include <errno.h>
#include <string.h>

#include "core/num.h"

void cursor_init(struct cursor *c, const struct iovec *iov, size_t n)
{
    *c = (struct cursor){ .iov = iov };
    for (size_t i = 0; i < n; i++)
        c->left += iov[i].iov_len;
}

/* The next piece of at most n bytes, consumed. The caller knows that n <= left, n > 0. */
static struct iovec cursor_step(struct cursor *c, size_t n)
{
    while (c->off == c->iov->iov_len) {
        c->iov++;
        c->off = 0;
    }
    struct iovec piece = { .iov_base = (char *)c->iov->iov_base + c->off,
                           .iov_len = min_size(n, c->iov->iov_len - c->off) };

    c->off += piece.iov_len;
    c->left -= piece.iov_len;
    return piece;
}

int cursor_get(struct cursor *c, void *buf, size_t n)
{
    if (n > c->left)
        return -EMSGSIZE;
    for (size_t done = 0; done < n;) {
        struct iovec piece = cursor_step(c, n - done);

        memcpy((char *)buf + done, piece.iov_base, piece.iov_len);
        done += piece.iov_len;
    }
    return 0;
}

int cursor_put(struct cursor *c, const void *buf, size_t n)
{
    if (n > c->left)
        return -EMSGSIZE;
    for (size_t done = 0; done < n;) {
        struct iovec piece = cursor_step(c, n - done);

        memcpy(piece.iov_base, (const char *)buf + done, piece.iov_len);
        done += piece.iov_len;
    }
    return 0;
}

int cursor_skip(struct cursor *c, size_t n)
{
    if (n > c->left)
        return -EMSGSIZE;
    while (n)
        n -= cursor_step(c, n).iov_len;
    return 0;
}

int cursor_take(struct cursor *c, size_t n, struct iovec *iov, int max)
{
    struct cursor at = *c;
    int used = 0;

    if (n > at.left)
        return -EMSGSIZE;
    while (n) {
        if (used == max)
            return -E2BIG;
        iov[used] = cursor_step(&at, n);
        n -= iov[used++].iov_len;
    }
    *c = at;
    return used;
}
