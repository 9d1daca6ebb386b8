/* virtio-console (virtio 1.2, section 5.3): one port, size, emergency write. */
#ifndef MAYFLY_VIRTIO_CONSOLE_H
#define MAYFLY_VIRTIO_CONSOLE_H

#include "host/stream.h"
#include "virtio/dev.h"

struct console_opts {
    struct stream *stream;     /* the caller's; outlives the console */
    void (*escape)(void *arg); /* Ctrl-] three times; on the console's loop. May be NULL */
    void *escape_arg;
};

/* NULL with *e on failure. Main thread, before the loop runs. Freed by cls->free. */
struct virtio_dev *console_new(struct gmem *mem, struct loop *loop, const struct console_opts *o,
                               struct err *e);

/* The terminal's size changed: asks for it and tells the guest. From the main thread. */
void console_resize(struct virtio_dev *d);

/* Writes out what the guest printed, waiting for the reader as long as it takes something at least
 * every stall_ms. Returns how many bytes it did not take. After the loop's thread ended. */
uint64_t console_finish(struct virtio_dev *d, int stall_ms);

/* Whether the driver of the console ever ran: if not, the guest's last words are in its memory. */
bool console_was_used(const struct virtio_dev *d);

#endif
