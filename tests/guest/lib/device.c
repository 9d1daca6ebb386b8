/* See device.h. */
#include "device.h"

#define DEVICES 19 /* docs/mayfly.1: a page each, GSIs from the console's on */

uint64_t device_find(uint32_t id, unsigned n, uint32_t *gsi)
{
    for (unsigned i = 0; i < DEVICES; i++) {
        uint64_t base = CONSOLE_BASE + UINT64_C(0x1000) * i;

        if (read32(base + MAGIC) != 0x74726976 || read32(base + DEVICE_ID) != id)
            continue;
        if (n--)
            continue;
        *gsi = CONSOLE_GSI + i;
        return base;
    }
    return 0;
}

uint64_t device_offered(uint64_t base)
{
    uint64_t f = 0;

    for (uint32_t half = 0; half < 2; half++) {
        write32(base + DEVICE_FEATURES_SEL, half);
        f |= (uint64_t)read32(base + DEVICE_FEATURES) << 32 * half;
    }
    return f;
}

void device_reset(uint64_t base)
{
    write32(base + STATUS, 0);
    while (read32(base + STATUS) != 0)
        pause();
}

bool device_negotiate(uint64_t base, uint64_t features)
{
    write32(base + STATUS, ACKNOWLEDGE);
    write32(base + STATUS, ACKNOWLEDGE | DRIVER);
    for (uint32_t half = 0; half < 2; half++) {
        write32(base + DRIVER_FEATURES_SEL, half);
        write32(base + DRIVER_FEATURES, (uint32_t)(features >> 32 * half));
    }
    write32(base + STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    return read32(base + STATUS) & FEATURES_OK;
}

static void set_address(uint64_t at, uint64_t v)
{
    write32(at, (uint32_t)v);
    write32(at + 4, (uint32_t)(v >> 32));
}

void device_set_queue(uint64_t base, unsigned q, uint32_t size, uint64_t desc, uint64_t avail,
                      uint64_t used)
{
    write32(base + QUEUE_SEL, q);
    write32(base + QUEUE_NUM, size);
    set_address(base + QUEUE_DESC, desc);
    set_address(base + QUEUE_DRIVER, avail);
    set_address(base + QUEUE_DEVICE, used);
    write32(base + QUEUE_READY, 1);
}

void device_ready(uint64_t base)
{
    write32(base + STATUS, read32(base + STATUS) | DRIVER_OK);
}
