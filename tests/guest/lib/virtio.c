/* The console's driver; see virtio.h. */
#include "virtio.h"

static struct desc desc[2][QUEUE_SIZE] __attribute__((aligned(16)));
static struct avail avail[2] __attribute__((aligned(2)));
static struct used used[2] __attribute__((aligned(4)));
static uint64_t negotiated;

struct vq vq[2];
bool use_indirect, sleep_on_tx;

void console_reset(void)
{
    console_started = false;
    device_reset(CONSOLE_BASE);
}

bool console_negotiate(uint64_t features)
{
    negotiated = features;
    return device_negotiate(CONSOLE_BASE, features);
}

void queue_set(unsigned q, uint32_t size, uint64_t d, uint64_t a, uint64_t u)
{
    device_set_queue(CONSOLE_BASE, q, size, d, a, u);
}

void queue_set_usual(unsigned q)
{
    vq[q] = (struct vq){ .index = q, .desc = desc[q], .avail = &avail[q], .used = &used[q] };
    memset(&avail[q], 0, sizeof avail[q]);
    memset(&used[q], 0, sizeof used[q]);
    queue_set(q, QUEUE_SIZE, (uintptr_t)desc[q], (uintptr_t)&avail[q], (uintptr_t)&used[q]);
}

void console_driver_ok(void)
{
    device_ready(CONSOLE_BASE);
}

void console_start(uint64_t features)
{
    console_reset();
    if (!console_negotiate(features | F_VERSION_1)) {
        print("BAD features 0x%lx are refused\n", features);
        power_off();
    }
    queue_set_usual(RX);
    queue_set_usual(TX);
    console_driver_ok();
    console_started = true;
}

void queue_offer(struct vq *q, uint16_t head)
{
    uint16_t idx = q->avail->idx;

    q->avail->ring[idx % QUEUE_SIZE] = head;
    fence(); /* the entry before the index */
    q->avail->idx = (uint16_t)(idx + 1);
}

void queue_kick(struct vq *q)
{
    uint16_t idx = q->avail->idx;

    fence(); /* the index before the device's wish */
    if (negotiated & F_EVENT_IDX) {
        if (q->used->avail_event != (uint16_t)(idx - 1)) /* one was added */
            return;
    } else if (q->used->flags & 1) {
        return;
    }
    set_reg(QUEUE_NOTIFY, q->index);
}

bool queue_used(struct vq *q, uint32_t *len)
{
    if (q->used->idx == q->seen)
        return false;
    fence();
    *len = q->used->ring[q->seen % QUEUE_SIZE].len;
    q->seen++;
    q->avail->used_event = q->seen; /* the next one interrupts */
    return true;
}

/* Offers the chain at descriptor 0 and waits for its use; the length written. Asleep it looks only
 * after an interrupt, so that one that does not come is noticed. */
static uint32_t queue_do(struct vq *q, bool sleep)
{
    unsigned before = interrupts;
    uint32_t len;

    queue_offer(q, 0);
    queue_kick(q);
    for (;;) {
        if (sleep) {
            wait_interrupt(before);
            before = interrupts;
            set_reg(INTERRUPT_ACK, reg(INTERRUPT_STATUS));
        }
        if (queue_used(q, &len))
            return len;
        pause();
    }
}

void console_write(const void *data, size_t n)
{
    static struct desc table[2];
    struct vq *q = &vq[TX];

    q->desc[0] = (struct desc){ .addr = (uintptr_t)data, .len = (uint32_t)n };
    if (use_indirect) { /* in two halves */
        table[0] = (struct desc){ (uintptr_t)data, (uint32_t)(n / 2), DESC_NEXT, 1 };
        table[1] = (struct desc){ (uintptr_t)data + n / 2, (uint32_t)(n - n / 2), 0, 0 };
        q->desc[0] = (struct desc){ (uintptr_t)table, sizeof table, DESC_INDIRECT, 0 };
    }
    queue_do(q, sleep_on_tx);
}

uint32_t console_read(void *buf, uint32_t size, bool sleep)
{
    struct vq *q = &vq[RX];

    q->desc[0] = (struct desc){ .addr = (uintptr_t)buf, .len = size, .flags = DESC_WRITE };
    return queue_do(q, sleep);
}
