/* The virtio-mmio transport, version 2 (virtio 1.2, section 4.2).
 *
 * A page of registers per device. vCPU threads come in through the bus, any number at once, and
 * take the transport's lock; the device's loop never takes it.
 */
#ifndef MAYFLY_VIRTIO_MMIO_H
#define MAYFLY_VIRTIO_MMIO_H

#include <pthread.h>

#include "core/buf.h"
#include "core/bus.h"
#include "virtio/dev.h"

#define VIRTIO_MMIO_LEN          0x1000
#define VIRTIO_MMIO_QUEUE_NOTIFY 0x050

/* Device status (2.1). */
enum {
    VIRTIO_ACKNOWLEDGE = 1,
    VIRTIO_DRIVER = 2,
    VIRTIO_DRIVER_OK = 4,
    VIRTIO_FEATURES_OK = 8,
    VIRTIO_NEEDS_RESET = 0x40,
    VIRTIO_FAILED = 0x80,
};

struct virtio_mmio_queue {
    struct virtq_setup setup;
    bool ready;
};

struct virtio_mmio {
    struct virtio_dev *dev;
    pthread_mutex_t lock; /* all below */
    uint8_t status;
    uint32_t device_features_sel, driver_features_sel, queue_sel;
    uint64_t driver_features;
    bool foreign_features; /* the driver asked for bits above 63 */
    struct virtio_mmio_queue *queue;
    struct log_limit limit;
};

/* 0 or -errno with *e. The device stays the caller's and outlives the transport. */
int virtio_mmio_init(struct virtio_mmio *t, struct virtio_dev *dev, struct err *e);
void virtio_mmio_fini(struct virtio_mmio *t);

/* For bus_add; ctx is the struct virtio_mmio. */
extern const struct bus_ops virtio_mmio_ops;

/* Registers and, through the device's loop, the whole device. With the vCPUs stopped. load: into a
 * fresh transport; 0, or -EPROTO with *e. */
void virtio_mmio_save(struct virtio_mmio *t, struct wbuf *w);
int virtio_mmio_load(struct virtio_mmio *t, struct rbuf *r, struct err *e);

#endif
