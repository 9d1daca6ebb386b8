/* records DIR COUNT [PAUSE | step]: writes records 1 to COUNT in DIR (tests/system/record.h) and
 * says "ack N" when N is on stable storage. PAUSE: microseconds between two. With step it goes on
 * when a line has come on its standard input: nothing is flushed between the two, but a child
 * writes all the time, to a file of its own and around the page cache, so that there is always
 * something that no flush has reached. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/system/record.h"

enum { NOISE_BLOCKS = 256, NOISE_PAUSE = 10000 };

static void need(int n, const char *what, bool good)
{
    if (good)
        return;
    printf("failed %d: %s: %s\n", n, what, strerror(errno));
    fflush(stdout);
    _exit(1);
}

static void write_all(int n, int fd, const uint8_t *p, size_t len, off_t off)
{
    ssize_t done = off < 0 ? write(fd, p, len) : pwrite(fd, p, len, off);

    need(n, "write", done == (ssize_t)len);
}

static void write_append(int n, const uint8_t *p)
{
    int fd = open("append", O_WRONLY | O_APPEND | O_CREAT, 0644);

    need(n, "append", fd >= 0);
    write_all(n, fd, p, APPEND_LEN, -1);
    need(n, "fsync", fsync(fd) == 0);
    close(fd);
}

static void write_slot(int n, const uint8_t *p, bool dsync)
{
    int fd = open("slots", O_WRONLY | (dsync ? O_DSYNC : 0));

    need(n, "slots", fd >= 0);
    write_all(n, fd, p, SLOT_LEN, (off_t)n * SLOT_LEN);
    need(n, "fdatasync", dsync || fdatasync(fd) == 0);
    close(fd);
}

static void write_file(int n, const uint8_t *p)
{
    char name[32];
    int fd = open("files/new", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    int dir = open("files", O_RDONLY | O_DIRECTORY);

    need(n, "files/new", fd >= 0 && dir >= 0);
    write_all(n, fd, p, FILE_LEN, 0);
    need(n, "fsync", fsync(fd) == 0);
    snprintf(name, sizeof name, "files/%d", n);
    need(n, "rename", rename("files/new", name) == 0);
    need(n, "fsync of the directory", fsync(dir) == 0);
    close(fd);
    close(dir);
}

static void make_noise(void)
{
    static uint8_t buf[4096] __attribute__((aligned(4096)));
    unsigned x = 1;
    int fd = open("noise", O_WRONLY | O_CREAT | O_DIRECT, 0644);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        x = x * 1103515245 + 12345;
        memset(buf, (int)(x >> 24), sizeof buf);
        need(0, "noise",
             pwrite(fd, buf, sizeof buf, x / 65536 % NOISE_BLOCKS * 4096) == sizeof buf);
        usleep(NOISE_PAUSE);
    }
}

int main(int argc, char **argv)
{
    static uint8_t record[RECORD_LEN];
    bool step = argc > 3 && strcmp(argv[3], "step") == 0;
    int count = argc > 2 ? atoi(argv[2]) : 0;

    need(0, "usage: records DIR COUNT [PAUSE | step]", count > 0 && count <= RECORD_MAX);
    need(0, argv[1], chdir(argv[1]) == 0);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (step && fork() == 0)
        make_noise();
    for (int n = 1; n <= count; n++) {
        record_fill(record, n);
        switch (n % 4) {
        case 0:
            write_append(n, record);
            break;
        case 1:
            write_slot(n, record, false);
            break;
        case 2:
            write_slot(n, record, true);
            break;
        case 3:
            write_file(n, record);
            break;
        }
        printf("ack %d\n", n);
        if (step) {
            for (int c = getchar(); c != '\n' && c != EOF;)
                c = getchar();
        } else if (argc > 3) {
            usleep((useconds_t)atoi(argv[3]));
        }
    }
    return 0;
}
