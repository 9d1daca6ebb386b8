/* A driver for the console, written from the specification (virtio 1.2: 2.7, 4.2, 5.3) and not from
 * the device. Rings and registers lie open, so that a guest can do with them what it must not. */
#ifndef GUEST_VIRTIO_H
#define GUEST_VIRTIO_H

#include "device.h"

#define CONFIG_EMERGENCY (CONFIG + 8)
#define QUEUE_SIZE       16

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
