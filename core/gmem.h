/* Guest memory: RAM as the guest sees it, and the only ways to touch it.
 *
 * RAM runs from 0 to at most GMEM_LOW_MAX; what does not fit goes on from GMEM_HIGH_BASE. Between
 * the two lie the devices and the interrupt controllers. Both parts are one anonymous mapping of
 * ours, with an inaccessible page behind it.
 *
 * An address of the guest is a gpa_t, a type of its own, so that it can be mistaken neither for an
 * integer nor for a pointer, and no function here turns one into a pointer without a length.
 */
#ifndef MAYFLY_CORE_GMEM_H
#define MAYFLY_CORE_GMEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/err.h"
#include "core/num.h"

typedef struct {
    uint64_t v;
} gpa_t; /* guest-physical; not an integer, not a pointer */

#define GMEM_LOW_MAX   (3 * GIB)
#define GMEM_HIGH_BASE (4 * GIB)
#define GMEM_SIZE_MIN  (1 * MIB)
#define GMEM_SIZE_MAX  (1024 * GIB)

struct gmem_region {
    uint64_t base; /* guest-physical */
    uint64_t len;
    uint8_t *host;
};

struct gmem {
    struct gmem_region region[2]; /* ascending */
    int n;                        /* regions in use: 1, or 2 above GMEM_LOW_MAX */
    uint64_t size;                /* bytes of RAM in all */
    void *map;                    /* the whole reservation, for gmem_fini */
    size_t map_len;
};

struct gmem_opts {
    bool hugepages; /* from the host's hugetlb pool instead of transparent huge pages */
    bool prefault;  /* have every page present before the guest runs */
};

/* Maps size bytes of RAM (a multiple of 4 KiB, within GMEM_SIZE_MIN..MAX; with hugepages of
 * 2 MiB). 0, or -errno with *e. Main thread, before any other thread uses it. */
int gmem_init(struct gmem *m, uint64_t size, const struct gmem_opts *o, struct err *e);
void gmem_fini(struct gmem *m);

/* Wraps memory of the caller's as RAM from 0 up, for tests: nothing is mapped or freed. */
void gmem_init_at(struct gmem *m, void *host, size_t len);

/* The host address of [gpa, gpa + len) when all of it is RAM in one region, else NULL. len 0 gives
 * NULL. Any thread. The guest writes there whenever it likes: copy, then judge the copy. */
void *gmem_span(const struct gmem *m, gpa_t gpa, uint64_t len);

/* Copy out of and into guest memory. 0, or -EFAULT when any byte is not RAM; then nothing was
 * copied. Any thread. */
int gmem_read(const struct gmem *m, gpa_t gpa, void *buf, size_t len);
int gmem_write(struct gmem *m, gpa_t gpa, const void *buf, size_t len);
int gmem_zero(struct gmem *m, gpa_t gpa, size_t len);

/* The range as host iovecs for a system call, at most max of them. Their number, -EFAULT when a
 * byte is not RAM, -E2BIG when max is too small. len 0 gives 0. Any thread. */
int gmem_iov(const struct gmem *m, gpa_t gpa, size_t len, struct iovec *iov, int max);

#endif
