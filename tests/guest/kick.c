/* Notifies in two ways, 200 times each, and waits for a byte of input before each and at the end:
 * a watcher of the host counts the exits of each way. */
#include "lib/virtio.h"

static void wait(const char *what)
{
    static uint8_t byte;

    print("%s\n", what);
    console_read(&byte, 1, true);
}

static void notify(uint32_t value)
{
    for (unsigned i = 0; i < 200; i++)
        set_reg(QUEUE_NOTIFY, value);
}

void guest_main(void)
{
    intr_start();
    console_start(0);
    wait("matched");
    notify(TX);
    wait("unmatched");
    notify(7);
    wait("done");
}
