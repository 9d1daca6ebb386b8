/* vhost-net: the host's kernel moves the frames of one pair of queues itself, between guest memory
 * and a tap, and we are not asked any more.
 *
 * It does not tell us what it did: the used ring and the interrupt go straight to the guest. When
 * it stops it says how far it got.
 */
#ifndef MAYFLY_HOST_VHOST_H
#define MAYFLY_HOST_VHOST_H

#include <stdint.h>

#include "core/err.h"
#include "core/gmem.h"

#define VHOST_RINGS 2 /* receive, transmit */

struct vhost {
    int fd;
    uint64_t features; /* that it knows: of those that concern rings (EVENT_IDX, INDIRECT_DESC,
                          MRG_RXBUF) a device offers no others. Offloads are the tap's. */
};

/* A queue as the driver set it up. */
struct vhost_ring {
    uint16_t size, base;       /* base: the next entry of the avail ring to take */
    void *desc, *avail, *used; /* in our address space */
    int kick, call, broken;    /* eventfds: from the driver, to it, and that it broke the rules */
};

/* Opens /dev/vhost-net and tells it of guest memory. 0, or -errno with *e. Main thread, as closing;
 * the handle serves the process that opened it. */
int vhost_open(struct vhost *v, const struct gmem *mem, const char *name, struct err *e);
void vhost_close(struct vhost *v);

/* Has both rings served with these features (those it does not know are left out), what waits in
 * them included: no kick is needed. 0 or -errno; then neither is. Device thread, as vhost_stop.
 * tap: a queue's file, whose frames have headers of 12 bytes (VERSION_1). */
int vhost_start(struct vhost *v, uint64_t features, const struct vhost_ring ring[VHOST_RINGS],
                int tap);

/* Ends that and returns with nothing in flight. base: where each ring stands. */
void vhost_stop(struct vhost *v, uint16_t base[VHOST_RINGS]);

#endif
