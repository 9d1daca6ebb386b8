/* memtouch MIB: takes MIB of memory in pages of 4 KiB, writes into each its own physical page
 * number, then reads all of them back: a page that the host maps at two places shows. Says
 *
 *   below N above M wrong W
 *
 * with the pages that lie below the hole under 4 GiB, above it, and hold what was not written. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

/* The physical page numbers of n pages from p, by proc(5)'s pagemap. */
static void find(const uint8_t *p, size_t n, uint64_t *pfn)
{
    int fd = open("/proc/self/pagemap", O_RDONLY);

    if (fd < 0 || pread(fd, pfn, n * 8, (off_t)((uintptr_t)p / PAGE * 8)) != (ssize_t)(n * 8)) {
        perror("memtouch: pagemap");
        exit(1);
    }
    close(fd);
    for (size_t i = 0; i < n; i++)
        pfn[i] &= (UINT64_C(1) << 55) - 1;
}

int main(int argc, char **argv)
{
    size_t n = (size_t)(argc > 1 ? atol(argv[1]) : 1) * 256, below = 0, above = 0, wrong = 0;
    uint64_t *pfn = malloc(n * sizeof *pfn);
    uint8_t *p = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (!pfn || p == MAP_FAILED || madvise(p, n * PAGE, MADV_NOHUGEPAGE)) {
        perror("memtouch");
        return 1;
    }
    for (size_t i = 0; i < n; i++)
        p[i * PAGE] = 1;
    find(p, n, pfn);
    for (size_t i = 0; i < n; i++)
        *(uint64_t *)(void *)(p + i * PAGE + 8 * (i % 512)) = pfn[i];
    for (size_t i = 0; i < n; i++) {
        wrong += *(uint64_t *)(void *)(p + i * PAGE + 8 * (i % 512)) != pfn[i];
        below += pfn[i] && pfn[i] < 0xc0000000 / PAGE;
        above += pfn[i] >= 0x100000000 / PAGE;
    }
    printf("below %zu above %zu wrong %zu\n", below, above, wrong);
    return 0;
}
