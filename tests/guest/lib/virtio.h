/* A driver for the console, written from the specification (virtio 1.2: 2.7, 4.2, 5.3) and not from
 * the device. Rings and registers lie open, so that a guest can do with them what it must not. */
#ifndef GUEST_VIRTIO_H
#define GUEST_VIRTIO_H

#include "guest.h"

/* Registers (4.2.2). */
enum {
    MAGIC = 0x000,
    VERSION = 0x004,
    DEVICE_ID = 0x008,
    VENDOR_ID = 0x00c,
    DEVICE_FEATURES = 0x010,
    DEVICE_FEATURES_SEL = 0x014,
    DRIVER_FEATURES = 0x020,
    DRIVER_FEATURES_SEL = 0x024,
    QUEUE_SEL = 0x030,
    QUEUE_NUM_MAX = 0x034,
    QUEUE_NUM = 0x038,
    QUEUE_READY = 0x044,
    QUEUE_NOTIFY = 0x050,
    INTERRUPT_STATUS = 0x060,
    INTERRUPT_ACK = 0x064,
    STATUS = 0x070,
    QUEUE_DESC = 0x080, /* low, then high; so the next two */
    QUEUE_DRIVER = 0x090,
    QUEUE_DEVICE = 0x0a0,
    SHM_LEN_LOW = 0x0b0,
    CONFIG_GENERATION = 0x0fc,
    CONFIG = 0x100,
    CONFIG_EMERGENCY = CONFIG + 8,
};

enum {
    ACKNOWLEDGE = 1,
    DRIVER = 2,
    DRIVER_OK = 4,
    FEATURES_OK = 8,
    NEEDS_RESET = 64,
    FAILED = 128
};
enum { IRQ_QUEUE = 1, IRQ_CONFIG = 2 };

#define F_INDIRECT  (UINT64_C(1) << 28)
#define F_EVENT_IDX (UINT64_C(1) << 29)
#define F_VERSION_1 (UINT64_C(1) << 32)

enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };

#define QUEUE_SIZE 16

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

struct avail {
    volatile uint16_t flags, idx, ring[QUEUE_SIZE], used_event;
};

struct used {
    volatile uint16_t flags, idx;
    volatile struct {
        uint32_t id, len;
    } ring[QUEUE_SIZE];
    volatile uint16_t avail_event;
};

struct vq {
    unsigned index;
    struct desc *desc;
    struct avail *avail;
    struct used *used;
    uint16_t seen; /* used entries taken */
};

enum { RX, TX };
extern struct vq vq[2];
extern bool console_started; /* print() uses the transmit queue; before, the emergency write */
extern bool use_indirect;    /* print() by indirect descriptors; after console_start(F_INDIRECT) */
extern bool sleep_on_tx;     /* print() waits in HLT for its interrupt */

static inline uint32_t reg(unsigned r)
{
    return read32(CONSOLE_BASE + r);
}

static inline void set_reg(unsigned r, uint32_t v)
{
    write32(CONSOLE_BASE + r, v);
}

/* The steps of 3.1.1, one by one. */
void console_reset(void);
bool console_negotiate(uint64_t features); /* up to FEATURES_OK; whether it stuck */
void queue_set(unsigned q, uint32_t size, uint64_t desc, uint64_t avail, uint64_t used);
void queue_set_usual(unsigned q); /* clears the rings, too */
void console_driver_ok(void);

/* All of them. features: beyond VERSION_1. From here print() uses the transmit queue. */
void console_start(uint64_t features);

/* Makes the chain that starts at head available; kick tells the device if it wants to know. */
void queue_offer(struct vq *q, uint16_t head);
void queue_kick(struct vq *q);

/* Whether a used entry is there, and its length; then it is taken. */
bool queue_used(struct vq *q, uint32_t *len);

/* Transmits and waits until it is done. */
void console_write(const void *data, size_t n);

/* Offers one buffer for input and waits for it, by polling or by interrupt. Bytes received. */
uint32_t console_read(void *buf, uint32_t size, bool sleep);

#endif
