/* See buf.h. */
#include "core/buf.h"

#include <string.h>

#include "core/num.h"

void wbuf_bytes(struct wbuf *w, const void *data, size_t n)
{
    if (w->overflow || n > w->cap - w->len) {
        w->overflow = true;
        return;
    }
    memcpy(w->data + w->len, data, n);
    w->len += n;
}

void wbuf_u16(struct wbuf *w, uint16_t v)
{
    wbuf_bytes(w, &v, sizeof v);
}

void wbuf_u32(struct wbuf *w, uint32_t v)
{
    wbuf_bytes(w, &v, sizeof v);
}

void wbuf_u64(struct wbuf *w, uint64_t v)
{
    wbuf_bytes(w, &v, sizeof v);
}

void rbuf_bytes(struct rbuf *r, void *data, size_t n)
{
    if (r->overrun || n > r->len - r->off) {
        r->overrun = true;
        memset(data, 0, n);
        return;
    }
    memcpy(data, r->data + r->off, n);
    r->off += n;
}

uint16_t rbuf_u16(struct rbuf *r)
{
    uint16_t v;

    rbuf_bytes(r, &v, sizeof v);
    return v;
}

uint32_t rbuf_u32(struct rbuf *r)
{
    uint32_t v;

    rbuf_bytes(r, &v, sizeof v);
    return v;
}

uint64_t rbuf_u64(struct rbuf *r)
{
    uint64_t v;

    rbuf_bytes(r, &v, sizeof v);
    return v;
}
