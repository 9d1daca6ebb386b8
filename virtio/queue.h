/* The split virtqueue, device side (virtio 1.2, section 2.7).
 *
 * One user at a time: the device's I/O thread, from virtq_start to reset. The guest writes to the
 * rings and tables whenever it likes, so nothing in them is read twice or believed: what pop hands
 * out was copied first and judged in the copy, and the indices that steer us are ours.
 */
#ifndef MAYFLY_VIRTIO_QUEUE_H
#define MAYFLY_VIRTIO_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/cursor.h"
#include "core/err.h"
#include "core/gmem.h"

#define VIRTQ_SIZE_MAX 1024

/* What the driver told the transport about a queue. */
struct virtq_setup {
    uint16_t size; /* entries */
    gpa_t desc, avail, used;
    bool indirect, event_idx; /* negotiated */
};

/* A request on its way through the device: the buffers of one descriptor chain. */
struct chain {
    struct cursor r, w; /* readable part first, then the writable one (2.7.4.2) */
    uint16_t head;
    uint32_t writable; /* bytes offered for writing */
    struct iovec *iov; /* storage of the device's, made once */
    unsigned iov_max;
};

struct virtq {
    struct gmem *mem;
    struct virtq_setup setup;
    const uint8_t *desc; /* in guest memory, as are the next two, checked by virtq_start */
    uint16_t *avail;     /* flags, idx, ring[], used_event */
    uint16_t *used;      /* flags, idx, ring[] of {u32 id, u32 len}, avail_event */
    uint16_t avail_next; /* the next entry of the avail ring to take */
    uint16_t used_next;  /* the next entry of the used ring to fill */
    uint16_t published;  /* used.idx as the guest knows it */
    bool running;
    const char *fault;                       /* why it broke; NULL while it is whole */
    uint64_t in_flight[VIRTQ_SIZE_MAX / 64]; /* by head */
};

/* Checks sizes, alignment and addresses and takes the queue over with both indices 0. 0, or
 * -EPROTO with *e when the driver's setup is not usable. max: the size the device offered. */
int virtq_start(struct virtq *q, struct gmem *mem, const struct virtq_setup *s, uint16_t max,
                struct err *e);
void virtq_stop(struct virtq *q);

static inline bool virtq_running(const struct virtq *q)
{
    return q->running;
}

/* Takes the next chain. 1 and *c, 0 when there is none, -EPROTO when the guest broke the rules
 * (q->fault says how); from then on always -EPROTO. c->iov and c->iov_max are set by the caller,
 * iov_max at least the queue's size. */
int virtq_pop(struct virtq *q, struct chain *c);

/* Takes the pop of the chain with this head back, which of those popped and not pushed must be the
 * last: the next pop finds it again. */
void virtq_unpop(struct virtq *q, uint16_t head);

/* Gives a chain back with the number of bytes written to it, at most c->writable. The guest sees
 * it after virtq_publish. */
void virtq_push(struct virtq *q, const struct chain *c, uint32_t written);

/* Makes all pushed chains visible. true: the guest wants an interrupt for them. */
bool virtq_publish(struct virtq *q);

/* While a device works through a queue it needs no kicks... */
void virtq_disarm(struct virtq *q);

/* ...and before it waits for one it asks for them again. true: more came meanwhile, loop. */
bool virtq_rearm(struct virtq *q);

/* How many chains wait to be taken, by the guest's word: to compare, not to count on. */
uint16_t virtq_waiting(const struct virtq *q);

/* With EVENT_IDX: whether the driver has looked at all that was published, by its own word. */
bool virtq_caught_up(const struct virtq *q);

/* Asks for a kick once more than n chains wait, n below the queue's size. (Without EVENT_IDX, with
 * every chain.) */
void virtq_watch(struct virtq *q, uint16_t n);

/* Whether no chain is held by the device. */
bool virtq_idle(const struct virtq *q);

/* Somebody else serves a running, idle queue from here on, beginning with the entry of the avail
 * ring that is returned; *desc, *avail and *used are our addresses of its parts. Nothing of the
 * above may be called until he stopped and told which entry is next. What he took and, by the used
 * ring, did not give back, is taken again. */
uint16_t virtq_lend(const struct virtq *q, void **desc, void **avail, void **used);
void virtq_take_back(struct virtq *q, uint16_t next);

/* The indices of a running, idle queue. Load: after virtq_start; 0 or -EPROTO. */
void virtq_save(const struct virtq *q, struct wbuf *w);
int virtq_load(struct virtq *q, struct rbuf *r);

#endif
