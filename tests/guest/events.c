/* Who notifies whom, and when: the flags without EVENT_IDX, the events with it (2.7.7, 2.7.10), and
 * the registers of the interrupt. Judges itself. */
#include "lib/virtio.h"

#define WHILE    3000    /* rounds, some 10 ms: nothing came */
#define PATIENCE 1000000 /* for what has to come, however busy the host is */

static void send(unsigned n)
{
    static const char dot = '.';

    for (unsigned i = 0; i < n; i++) {
        vq[TX].desc[i] = (struct desc){ .addr = (uintptr_t)&dot, .len = 1 };
        queue_offer(&vq[TX], (uint16_t)i);
    }
    set_reg(QUEUE_NOTIFY, TX);
}

/* Waits until the device has used n more, by looking alone. */
static void wait_used(unsigned n)
{
    uint16_t want = (uint16_t)(vq[TX].seen + n);

    while (vq[TX].used->idx != want)
        pause();
    vq[TX].seen = want;
}

/* How many interrupts come: those that have to, however long they take, and more within a while. */
static unsigned count_interrupts(unsigned due)
{
    unsigned before = interrupts;

    __asm__ volatile("sti");
    for (unsigned i = 0; i < PATIENCE && interrupts - before < due; i++)
        pause();
    for (unsigned i = 0; i < WHILE; i++)
        pause();
    __asm__ volatile("cli");
    return interrupts - before;
}

/* Whether v comes to hold want. */
static bool becomes(const volatile uint16_t *v, uint16_t want)
{
    for (unsigned i = 0; i < PATIENCE && *v != want; i++)
        pause();
    return *v == want;
}

static void without_event_idx(void)
{
    console_start(0);
    send(1);
    wait_used(1);
    check("a use interrupts", count_interrupts(1), 1);
    check("its status", reg(INTERRUPT_STATUS), IRQ_QUEUE);
    set_reg(INTERRUPT_ACK, IRQ_CONFIG);
    check("another bit acknowledged", reg(INTERRUPT_STATUS), IRQ_QUEUE);
    set_reg(INTERRUPT_ACK, IRQ_QUEUE);
    check("it acknowledged", reg(INTERRUPT_STATUS), 0);
    check("an idle device wants kicks", becomes(&vq[TX].used->flags, 0), true);

    vq[TX].avail->flags = 1;
    fence();
    send(3);
    wait_used(3);
    check("NO_INTERRUPT", count_interrupts(0), 0);
    check("no status either", reg(INTERRUPT_STATUS), 0);
    vq[TX].avail->flags = 0;
}

static void with_event_idx(void)
{
    console_start(F_EVENT_IDX);
    check("the device waits for the first", becomes(&vq[TX].used->avail_event, 0), true);
    vq[TX].avail->used_event = 2; /* the third one */
    fence();
    send(1);
    wait_used(1);
    send(1);
    wait_used(1);
    check("not yet", count_interrupts(0), 0);
    send(1);
    wait_used(1);
    check("the third interrupts", count_interrupts(1), 1);
    check("the device waits for the fourth", becomes(&vq[TX].used->avail_event, 3), true);
    send(1);
    wait_used(1);
    check("none after the event", count_interrupts(0), 0);
    vq[TX].avail->used_event = 5; /* within the next four */
    fence();
    send(4);
    wait_used(4);
    check("one for a batch over the event", count_interrupts(1), 1);
    check("the flags play no part", vq[TX].used->flags, 0);
    set_reg(INTERRUPT_ACK, reg(INTERRUPT_STATUS));
}

/* The indices are 16 bits wide and go round. */
static void wrap(void)
{
    console_start(F_EVENT_IDX);
    vq[TX].avail->used_event = 0x8000;
    for (unsigned i = 0; i < 0x10000 / QUEUE_SIZE + 1; i++) {
        static const char none;

        for (unsigned j = 0; j < QUEUE_SIZE; j++) {
            vq[TX].desc[j] = (struct desc){ .addr = (uintptr_t)&none, .len = 0 };
            queue_offer(&vq[TX], (uint16_t)j);
        }
        set_reg(QUEUE_NOTIFY, TX);
        wait_used(QUEUE_SIZE);
    }
    check("index after the wrap", vq[TX].used->idx, QUEUE_SIZE);
}

void guest_main(void)
{
    intr_start();
    without_event_idx();
    with_event_idx();
    if (option("wrap", NULL, 0))
        wrap();
    console_start(0);
    print("\n%u checked, %u bad\n", checked, bad);
}
