/* Prints a lot. what=bytes: every value of a byte, four times. what=flood: kib=N (2048 unless told)
 * in transmissions of 16 KiB, each a line of its number, dots and a newline. */
#include "lib/virtio.h"

#define BLOCK 16384

static char block[BLOCK];

static void bytes(void)
{
    for (unsigned i = 0; i < 1024; i++)
        block[i] = (char)i;
    console_write(block, 1024);
}

static void flood(unsigned blocks)
{
    memset(block, '.', sizeof block);
    block[BLOCK - 1] = '\n';
    for (unsigned i = 0; i < blocks; i++) {
        for (unsigned digit = 0, v = i; digit < 6; digit++, v /= 10)
            block[5 - digit] = (char)('0' + v % 10);
        console_write(block, sizeof block);
    }
}

void guest_main(void)
{
    char what[8];

    console_start(0);
    option("what", what, sizeof what);
    if (strcmp(what, "bytes") == 0)
        bytes();
    else
        flood((unsigned)option_number("kib", 2048) / (BLOCK / 1024));
}
