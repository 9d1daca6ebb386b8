/* noise LEN SEED: writes LEN bytes that look random and are the same on every machine, so that
 * the host and the guest can make the same stream, each by itself. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static uint8_t buf[4096];
    uint64_t left = argc > 1 ? strtoull(argv[1], NULL, 0) : 0;
    uint64_t x = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;

    while (left) {
        size_t n = left < sizeof buf ? left : sizeof buf, off = 0;

        for (size_t i = 0; i < sizeof buf; i++) {
            x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            buf[i] = (uint8_t)(x >> 56);
        }
        while (off < n) {
            ssize_t done = write(STDOUT_FILENO, buf + off, n - off);

            if (done < 0) {
                perror("noise");
                return 1;
            }
            off += (size_t)done;
        }
        left -= n;
    }
    return 0;
}
