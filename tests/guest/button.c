/* Powers off when the power button is pressed: gsi=N, 4 unless told. */
#include "lib/virtio.h"

void guest_main(void)
{
    intr_start();
    console_start(0);
    vq[TX].avail->flags = 1; /* the console raises none */
    intr_route((uint32_t)option_number("gsi", 4), VECTOR_OTHER);
    print("ready\n");
    wait_interrupt(interrupts);
    print("pressed\n");
}
