/* dio read|write DEV BLOCK FIRST COUNT: that many blocks of BLOCK bytes, a call for each, around
 * the page cache: to standard output, or from standard input. dio flush DEV: fsync. Busybox's dd
 * gives O_DIRECT up without a word when the kernel doesn't like its buffer. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint8_t buf[1 << 20] __attribute__((aligned(4096)));

static int fail(const char *what, uint64_t off)
{
    fprintf(stderr, "%s at %llu: %s\n", what, (unsigned long long)off, strerror(errno));
    return 1;
}

int main(int argc, char **argv)
{
    uint64_t arg[3] = { 0 };
    int fd = argc < 3 ? -1 : open(argv[2], (argv[1][0] == 'r' ? O_RDONLY : O_RDWR) | O_DIRECT);

    if (fd < 0)
        return fail("open", 0);
    if (argv[1][0] == 'f')
        return fsync(fd) < 0 ? fail("flush", 0) : 0;
    for (int i = 3; i < argc && i < 6; i++)
        arg[i - 3] = strtoull(argv[i], NULL, 0);
    size_t block = (size_t)arg[0];

    if (argc != 6 || block == 0 || block > sizeof buf)
        return 2;
    for (uint64_t i = arg[1]; i < arg[1] + arg[2]; i++) {
        if (argv[1][0] == 'r') {
            if (pread(fd, buf, block, (off_t)(i * block)) != (ssize_t)block)
                return fail("read", i * block);
            if (fwrite(buf, block, 1, stdout) != 1)
                return 2;
        } else {
            if (fread(buf, block, 1, stdin) != 1)
                return 2;
            if (pwrite(fd, buf, block, (off_t)(i * block)) != (ssize_t)block)
                return fail("write", i * block);
        }
    }
    return fflush(stdout) ? 2 : 0;
}
