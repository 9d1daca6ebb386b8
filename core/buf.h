/* Save and load buffers: how state that changes at run time is written down and read back.
 *
 * A writer appends little-endian numbers and bytes to the caller's storage and remembers when it
 * ran out; a reader never passes the end and remembers that it tried. So a saver or loader is a
 * plain list of fields and checks once, at its end. What a reader returns is as hostile as a file:
 * the loader checks every value.
 */
#ifndef MAYFLY_CORE_BUF_H
#define MAYFLY_CORE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wbuf {
    uint8_t *data;
    size_t len, cap;
    bool overflow; /* sticky; data holds what fitted */
};

struct rbuf {
    const uint8_t *data;
    size_t off, len;
    bool overrun; /* sticky; numbers read from then on are 0 */
};

void wbuf_bytes(struct wbuf *w, const void *data, size_t n);
void wbuf_u16(struct wbuf *w, uint16_t v);
void wbuf_u32(struct wbuf *w, uint32_t v);
void wbuf_u64(struct wbuf *w, uint64_t v);

void rbuf_bytes(struct rbuf *r, void *data, size_t n);
uint16_t rbuf_u16(struct rbuf *r);
uint32_t rbuf_u32(struct rbuf *r);
uint64_t rbuf_u64(struct rbuf *r);

#endif
