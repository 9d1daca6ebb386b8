/* The bench's load on a disk: as init it runs the patterns that the kernel's command line names,
 * one after the other, and asks for a reboot. A pattern is a word
 *
 *   KIND,BYTES,DEPTH,REQUESTS     KIND: randread, randwrite, read, write
 *
 * and does to /dev/vda what fio does with direct=1 ioengine=libaio iodepth=DEPTH: DEPTH requests of
 * BYTES are kept in flight; one completion is taken, and one request is submitted in its place,
 * each by a system call. It is not fio itself: that is 85 MB of libraries in the initramfs of a
 * guest of 128 MiB, all of them bound before it begins. Offsets are of a fixed seed, aligned to
 * BYTES. A tenth of the requests go before, to warm up; then all in flight are waited for, and the
 * rest lies between two marks (mark.h): what the guest did before and after is no part of it.
 *
 * A request that fails ends it all: the kernel panics, and the monitor's status tells.
 */
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench/mark.h"

#define DEPTH_MAX 128
#define WORK      (256ULL << 20) /* of the disk, at most */

struct load {
    char kind[16];
    size_t bytes;
    unsigned depth;
    unsigned long requests;
    int fd;
    uint64_t blocks, next, seed;
    aio_context_t aio;
    struct iocb iocb[DEPTH_MAX];
    uint8_t *buffer;
};

__attribute__((noreturn)) static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* xorshift64* */
static uint64_t random_next(uint64_t *s)
{
    *s ^= *s >> 12;
    *s ^= *s << 25;
    *s ^= *s >> 27;
    return *s * UINT64_C(0x2545f4914f6cdd1d);
}

static void submit(struct load *l, unsigned slot)
{
    struct iocb *cb = &l->iocb[slot], *list[] = { cb };
    bool write = strstr(l->kind, "write") != NULL, rand = strncmp(l->kind, "rand", 4) == 0;
    uint64_t block = (rand ? random_next(&l->seed) >> 16 : l->next++) % l->blocks;

    *cb = (struct iocb){ .aio_data = slot,
                         .aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
                         .aio_fildes = (uint32_t)l->fd,
                         .aio_buf = (uint64_t)(uintptr_t)(l->buffer + slot * l->bytes),
                         .aio_nbytes = l->bytes,
                         .aio_offset = (int64_t)(block * l->bytes) };
    if (syscall(SYS_io_submit, l->aio, 1L, list) != 1)
        die("io_submit");
}

static unsigned reap(struct load *l)
{
    struct io_event e;

    if (syscall(SYS_io_getevents, l->aio, 1L, 1L, &e, NULL) != 1)
        die("io_getevents");
    if (e.res != (int64_t)l->bytes) {
        fprintf(stderr, "disk: a request ended with %lld\n", (long long)e.res);
        exit(1);
    }
    return (unsigned)e.data;
}

/* n requests, and none is in flight at the end. */
static void requests(struct load *l, unsigned long n)
{
    unsigned in_flight = 0;
    unsigned long begun = 0;

    for (; in_flight < l->depth && begun < n; begun++)
        submit(l, in_flight++);
    for (; begun < n; begun++)
        submit(l, reap(l));
    for (; in_flight; in_flight--)
        reap(l);
}

/* Whether the word is a pattern, the i-th. */
static bool run(const char *word, int fd, uint64_t size, unsigned i)
{
    static struct load l;

    size_t kind = strcspn(word, ",");
    char *end = NULL;

    l = (struct load){ .fd = fd, .seed = 88172645463325252 };
    if (!word[kind] || kind >= sizeof l.kind)
        return false;
    memcpy(l.kind, word, kind);
    l.bytes = strtoul(word + kind + 1, &end, 10);
    l.depth = *end == ',' ? (unsigned)strtoul(end + 1, &end, 10) : 0;
    l.requests = *end == ',' ? strtoul(end + 1, &end, 10) : 0;
    if (*end || l.requests == 0 || l.depth < 1 || l.depth > DEPTH_MAX || l.bytes % 512 ||
        l.bytes == 0 || l.bytes > size)
        return false;
    l.blocks = size / l.bytes;
    l.buffer = mmap(NULL, l.bytes * l.depth, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (l.buffer == MAP_FAILED || syscall(SYS_io_setup, DEPTH_MAX, &l.aio))
        die("disk");
    requests(&l, l.requests / 10 + 1);
    mark(MARK_BEGIN(i));
    requests(&l, l.requests);
    mark(MARK_END(i));
    syscall(SYS_io_destroy, l.aio);
    munmap(l.buffer, l.bytes * l.depth);
    return true;
}

int main(int argc, char **argv)
{
    unsigned patterns = 0;
    uint64_t size;
    int fd;

    mkdir("/dev", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    fd = open("/dev/vda", O_RDWR | O_DIRECT | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size))
        die("/dev/vda");
    if (size > WORK)
        size = WORK;
    mark(MARK_INIT);
    for (int i = 1; i < argc; i++)
        patterns += run(argv[i], fd, size, patterns);
    reboot(RB_AUTOBOOT);
    return 1; /* not reached */
}
