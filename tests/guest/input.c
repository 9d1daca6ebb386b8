/* Takes input slowly: one small buffer at a time, with a pause in between, until Ctrl-D. Prints how
 * many bytes came before it and a checksum of them. size=N: of the buffer, 32 unless told.
 * pause=N: its rounds; late=N: as many before there is a driver. show: sends back what came. after:
 * goes on waiting for more when all is told. reset=N: sets the device up anew before every Nth
 * buffer. */
#include "lib/virtio.h"

#define CTRL_D 4

static uint8_t buf[4096];

static void rest(uint64_t rounds)
{
    for (uint64_t i = 0; i < rounds; i++)
        pause();
}

void guest_main(void)
{
    uint32_t size = (uint32_t)option_number("size", 32), sum = 0, count = 0;
    uint64_t rounds = option_number("pause", 50), reset = option_number("reset", 0);
    bool show = option("show", NULL, 0);

    rest(option_number("late", 0));
    console_start(0);
    for (uint64_t turn = 1;; turn++) {
        if (reset && turn % reset == 0)
            console_start(0);
        uint32_t n = console_read(buf, size, false);
        uint32_t end = n && buf[n - 1] == CTRL_D;

        for (uint32_t i = 0; i < n - end; i++) /* the test computes it with awk */
            sum = (sum * 31 + buf[i]) & 0xffffff;
        count += n - end;
        if (show)
            console_write(buf, n);
        if (end)
            break;
        rest(rounds);
    }
    print("\n%u bytes, checksum %06x\n", count, sum);
    if (!option("after", NULL, 0))
        return;
    for (;;) {
        uint32_t n = console_read(buf, size, false);

        print("BAD %u more bytes\n", n);
    }
}
