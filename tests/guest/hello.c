/* Says hello through the transmit queue and powers off. */
#include "lib/virtio.h"

void guest_main(void)
{
    console_start(0);
    print("hello\n");
}
