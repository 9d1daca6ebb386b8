/* Tells the size of the terminal whenever a configuration interrupt says that it changed, read as
 * 2.5.1 wants it, between two equal generations. Ends at the first byte of input. */
#include "lib/virtio.h"

static void tell(void)
{
    static uint32_t told;
    uint32_t generation, size;

    do {
        generation = reg(CONFIG_GENERATION);
        size = reg(CONFIG);
    } while (reg(CONFIG_GENERATION) != generation);
    if (size != told)
        print("size %u x %u\n", size & 0xffff, size >> 16);
    told = size;
}

void guest_main(void)
{
    static uint8_t byte;
    uint32_t len;

    intr_start();
    console_start(UINT64_C(1) << 0); /* F_SIZE */
    vq[RX].desc[0] = (struct desc){ (uintptr_t)&byte, 1, DESC_WRITE, 0 };
    queue_offer(&vq[RX], 0);
    queue_kick(&vq[RX]);
    print("ready\n");
    for (;;) {
        unsigned seen = interrupts;
        uint32_t why = reg(INTERRUPT_STATUS);

        set_reg(INTERRUPT_ACK, why);
        if (why & IRQ_CONFIG)
            tell();
        if (queue_used(&vq[RX], &len))
            break;
        wait_interrupt(seen);
    }
}
