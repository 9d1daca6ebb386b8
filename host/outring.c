/* See outring.h. */
#include "host/outring.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "core/num.h"

int outring_init(struct outring *r)
{
    *r = (struct outring){ 0 };
    /* Mapped, not allocated: pages that no output ever reaches cost nothing. */
    void *p = mmap(NULL, OUTRING_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return -ENOMEM;
    r->data = p;
    return 0;
}

void outring_fini(struct outring *r)
{
    if (r->data)
        munmap(r->data, OUTRING_SIZE);
    r->data = NULL;
}

void outring_put(struct outring *r, const void *data, size_t n)
{
    size_t excess = n > outring_room(r) ? n - outring_room(r) : 0;

    r->start = (r->start + excess) % OUTRING_SIZE;
    r->len -= excess;
    r->dropped += excess;
    size_t at = (r->start + r->len) % OUTRING_SIZE, first = min_size(n, OUTRING_SIZE - at);

    memcpy(r->data + at, data, first);
    memcpy(r->data, (const uint8_t *)data + first, n - first);
    r->len += n;
}

void outring_leave_out(struct outring *r, uint64_t n)
{
    r->dropped += r->len + n;
    r->start = r->len = 0;
}

/* What goes out next: a notice, or what is held. How many pieces. */
static int outring_pieces(struct outring *r, struct iovec iov[2])
{
    /* The count goes up until the reader takes the first byte of the notice. */
    if (r->dropped && r->notice_off == 0)
        r->notice_len = (size_t)snprintf(r->notice, sizeof r->notice,
                                         "\r\n[%" PRIu64 " bytes dropped]\r\n", r->dropped);
    if (r->notice_len) {
        iov[0] = (struct iovec){ .iov_base = r->notice + r->notice_off,
                                 .iov_len = r->notice_len - r->notice_off };
        return 1;
    }
    size_t first = min_size(r->len, OUTRING_SIZE - r->start);

    iov[0] = (struct iovec){ .iov_base = r->data + r->start, .iov_len = first };
    iov[1] = (struct iovec){ .iov_base = r->data, .iov_len = r->len - first };
    return r->len > first ? 2 : 1;
}

static void outring_consume(struct outring *r, size_t n)
{
    if (r->notice_len) {
        if (r->notice_off == 0 && n)
            r->dropped = 0;
        r->notice_off += n;
        if (r->notice_off == r->notice_len)
            r->notice_len = r->notice_off = 0;
        return;
    }
    r->start = (r->start + n) % OUTRING_SIZE;
    r->len -= n;
    if (r->len == 0)
        r->start = 0;
}

static void outring_forget(struct outring *r)
{
    r->start = r->len = r->notice_len = r->notice_off = 0;
    r->dropped = 0;
}

int outring_flush(struct outring *r, int fd)
{
    struct iovec iov[2];

    if (fd < 0)
        outring_forget(r);
    while (r->len || r->notice_len || r->dropped) {
        int n = outring_pieces(r, iov);
        ssize_t done = writev(fd, iov, n);

        if (done >= 0) {
            outring_consume(r, (size_t)done);
        } else if (errno != EINTR) {
            int code = errno;

            if (code != EAGAIN)
                outring_forget(r);
            return -code;
        }
    }
    return 0;
}

uint64_t outring_owed(const struct outring *r)
{
    return r->len + r->dropped;
}
