/* Sends back what it receives, until Ctrl-D. `irq`: sleeps in HLT between interrupts, else it
 * polls; `event` and `indirect` negotiate that. */
#include "lib/virtio.h"

#define CTRL_D 4

void guest_main(void)
{
    static uint8_t buf[64];
    bool irq = option("irq", NULL, 0), event = option("event", NULL, 0);
    uint32_t n;

    use_indirect = option("indirect", NULL, 0);
    if (irq)
        intr_start();
    console_start((event ? F_EVENT_IDX : 0) | (use_indirect ? F_INDIRECT : 0));
    sleep_on_tx = irq;
    print("ready\n");
    do {
        n = console_read(buf, sizeof buf, irq);
        console_write(buf, n);
    } while (!n || buf[n - 1] != CTRL_D);
    print("\n%s\n", irq ? "interrupted" : "polled"); /* without interrupts it still sleeps */
}
