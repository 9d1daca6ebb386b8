/* What every virtio device has: its class, its queues, its configuration, its interrupt.
 *
 * A device lives on its I/O loop; a queue of it may live on another one. vCPUs reach it through the
 * transport alone, which crosses over by loop_call; the few fields both sides touch are atomic or
 * under cfg_lock, a leaf lock.
 */
#ifndef MAYFLY_VIRTIO_DEV_H
#define MAYFLY_VIRTIO_DEV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/gmem.h"
#include "core/log.h"
#include "core/loop.h"
#include "virtio/queue.h"

#define VIRTIO_CFG_MAX    64 /* bytes of configuration space */
#define VIRTIO_QUEUES_MAX 64 /* of a device: one a vCPU */

/* Feature bits of the transport's making (virtio 1.2, section 6). */
#define VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX     (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1     (UINT64_C(1) << 32)

/* Bits of InterruptStatus (4.2.2). */
enum { VIRTIO_IRQ_QUEUE = 1, VIRTIO_IRQ_CONFIG = 2 };

struct virtio_dev;

/* One const record per device kind. All functions run on the device's loop, but kick on the
 * queue's. */
struct virtio_class {
    const char *name;
    uint32_t id;                /* section 5 */
    uint64_t features;          /* beyond the transport's three */
    uint16_t nq, qmax, cfg_len; /* nq: at most */
    bool last_words; /* what the driver offered last is served when its guest has ended */
    /* On the loop's thread, before it is confined to its role. 0 or -errno. May be NULL. */
    int (*enter)(struct virtio_dev *);
    /* The driver is ready, the queues run. 0, or -errno: the device needs a reset. May be NULL. */
    int (*activate)(struct virtio_dev *);
    /* The driver notified queue q. Does a bounded amount of work; virtio_again() asks for more. */
    void (*kick)(struct virtio_dev *, unsigned q);
    /* Returns with nothing in flight. The queues stop next, or are saved. May be NULL. */
    void (*quiesce)(struct virtio_dev *);
    /* The driver began anew: the queues stopped, and what it asked for is void. May be NULL. */
    void (*reset)(struct virtio_dev *);
    /* The driver wrote to configuration space; off + n is inside it. May be NULL: read-only. */
    void (*cfg_write)(struct virtio_dev *, unsigned off, const void *, unsigned n);
    /* State beyond the base's. May be NULL. load: 0 or -errno. */
    void (*save)(const struct virtio_dev *, struct wbuf *);
    int (*load)(struct virtio_dev *, struct rbuf *);
    void (*free)(struct virtio_dev *);
};

struct virtio_queue {
    struct virtq vq;
    struct loop *loop; /* that serves it: the device's, unless virtio_place gave it another */
    struct watch kick; /* its fd is the eventfd that KVM or the transport signals */
    struct virtio_dev *dev;
};

struct virtio_dev {
    const struct virtio_class *cls;
    struct gmem *mem;
    struct loop *loop;
    char name[16];
    int irqfd;                  /* an eventfd that KVM turns into the device's interrupt */
    struct virtio_queue *queue; /* nq of them */
    uint16_t nq;
    uint64_t offers; /* features beyond the transport's three: the class's, or fewer */
    /* Signals the irqfd, in place of a write; the loop's. NULL: a write. */
    void (*signal)(struct virtio_dev *);
    /* Raises the interrupt without the irqfd, from any thread. NULL: the irqfd does. */
    void (*pulse)(void *);
    void *pulse_arg;
    /* The loop's. */
    uint64_t features; /* negotiated, from activate to reset */
    struct log_limit limit;
    /* Shared with vCPUs. */
    _Atomic bool active;
    _Atomic uint32_t isr;
    _Atomic uint32_t
        isr_always;      /* bits that read as set: who signals the irqfd sets none himself */
    _Atomic bool broken; /* needs a reset */
    pthread_mutex_t cfg_lock;
    uint32_t cfg_gen;
    uint8_t cfg[VIRTIO_CFG_MAX];
};

/* Makes the base with nq queues, cls->nq at most: eventfds, and watches on the loop. 0 or -errno
 * with *e. Main thread, before the loop runs. fini: after the loop's thread ended. */
int virtio_init(struct virtio_dev *d, const struct virtio_class *cls, const char *name, unsigned nq,
                struct gmem *mem, struct loop *loop, struct err *e);
void virtio_fini(struct virtio_dev *d);

/* Has another loop serve queue q. What concerns the device as a whole stays with its own loop,
 * which crosses to the other and never the other way round. 0 or -errno. Before any of them runs.
 */
int virtio_place(struct virtio_dev *d, unsigned q, struct loop *loop);

uint64_t virtio_offered(const struct virtio_dev *d);

/* For the device, on any of its loops. */
void virtio_interrupt(struct virtio_dev *d, uint32_t why);

/* Breaks the device until the driver resets it: DEVICE_NEEDS_RESET (2.1), a config interrupt, a
 * rate-limited log line; the VM lives on. The guest's fault, never ours. */
__attribute__((format(printf, 2, 3))) void virtio_fail(struct virtio_dev *d, const char *fmt, ...);

/* Has kick(q) called again in the next round: work was capped so that nobody starves. */
void virtio_again(struct virtio_dev *d, unsigned q);

/* For a device that reads its kicks itself, not by the loop: ends the loop's watch of queue q and
 * returns the eventfd, which blocks from now on. Before the loop runs. Then virtio_kicked, on the
 * loop, serves a queue whose eventfd was read. */
int virtio_take_kick(struct virtio_dev *d, unsigned q);
void virtio_kicked(struct virtio_dev *d, unsigned q);

/* Changes n bytes of configuration space and tells the driver. Nothing when they are equal. */
void virtio_set_config(struct virtio_dev *d, unsigned off, const void *data, unsigned n);

/* For the transport, from a vCPU (each crosses to the loop where it must). */
void virtio_activate(struct virtio_dev *d, uint64_t features, const struct virtq_setup *setup);
void virtio_reset(struct virtio_dev *d);
uint32_t virtio_config_generation(struct virtio_dev *d);
void virtio_read_config(struct virtio_dev *d, unsigned off, void *data, unsigned n);
void virtio_write_config(struct virtio_dev *d, unsigned off, const void *data, unsigned n);
void virtio_notify(struct virtio_dev *d, unsigned q);

/* At the end, with the vCPUs stopped: waits for what is in flight, and, of a class with last words,
 * serves first what the driver made available and a kick may not have told yet, so that they are
 * not lost when the guest powers off right behind them. */
void virtio_settle(struct virtio_dev *d);

/* The device's part of a snapshot: everything beyond the transport's registers. With the vCPUs
 * stopped. virtio_load: into a fresh device, with the transport's setup, active where its
 * status has DRIVER_OK; 0, or -errno when the bytes are not a state this device can have. */
void virtio_save(struct virtio_dev *d, struct wbuf *w);
int virtio_load(struct virtio_dev *d, bool active, uint64_t features,
                const struct virtq_setup *setup, struct rbuf *r);

#endif
