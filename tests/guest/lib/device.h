/* What every driver here does alike: finding a device, and the steps to its running
 * (virtio 1.2: 3.1.1, 4.2). */
#ifndef GUEST_DEVICE_H
#define GUEST_DEVICE_H

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

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

/* The base of the n-th device with this id in their order, from 0, and its interrupt; 0: there is
 * none. */
uint64_t device_find(uint32_t id, unsigned n, uint32_t *gsi);

uint64_t device_offered(uint64_t base);

/* The steps of 3.1.1, one by one. */
void device_reset(uint64_t base);
bool device_negotiate(uint64_t base, uint64_t features); /* up to FEATURES_OK; whether it stuck */
void device_set_queue(uint64_t base, unsigned q, uint32_t size, uint64_t desc, uint64_t avail,
                      uint64_t used);
void device_ready(uint64_t base);

#endif
