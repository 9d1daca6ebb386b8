/* Guest memory; see gmem.h.
 *
 * The mapping is aligned to 2 MiB on the host and so is every region in the guest, so that a huge
 * page of the host serves a huge page of the guest's second-level tables: with 4 KiB pages a Linux
 * boot costs ten times the faults. A PROT_NONE page behind the end turns an overrun of ours into a
 * fault instead of a silent write.
 */
#include "core/gmem.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE  (2 * MIB)
#define GUARD_SIZE 4096

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static void gmem_layout(struct gmem *m, uint8_t *host, uint64_t size)
{
    m->size = size;
    m->n = 1;
    m->region[0] = (struct gmem_region){ .base = 0,
                                         .len = min_u64(size, GMEM_LOW_MAX),
                                         .host = host };
    if (size > GMEM_LOW_MAX) {
        m->n = 2;
        m->region[1] = (struct gmem_region){ .base = GMEM_HIGH_BASE,
                                             .len = size - GMEM_LOW_MAX,
                                             .host = host + GMEM_LOW_MAX };
    }
}

void gmem_init_at(struct gmem *m, void *host, size_t len)
{
    *m = (struct gmem){ 0 };
    gmem_layout(m, host, len);
}

static int gmem_populate(uint8_t *host, uint64_t size, struct err *e)
{
    if (madvise(host, size, MADV_POPULATE_WRITE) == 0)
        return 0;
    if (errno != EINVAL)
        return err_set(e, errno,
                       "memory: %" PRIu64 " MiB can't be made present: %s: give less to "
                       "--memory or leave out --prefault",
                       size / MIB, strerror(errno));
    /* Linux before 5.14: touch every page. */
    for (uint64_t off = 0; off < size; off += 4096)
        ((volatile uint8_t *)host)[off] = 0;
    return 0;
}

int gmem_init(struct gmem *m, uint64_t size, const struct gmem_opts *o, struct err *e)
{
    *m = (struct gmem){ 0 };
    if (size < GMEM_SIZE_MIN || size > GMEM_SIZE_MAX || size % 4096)
        return err_set(e, EINVAL,
                       "memory: %" PRIu64 " bytes is not a multiple of 4 KiB between "
                       "1 MiB and 1 TiB",
                       size);
    if (o->hugepages && size % HUGE_PAGE)
        return err_set(e, EINVAL,
                       "memory: %" PRIu64 " KiB is not a multiple of 2 MiB, which "
                       "--hugepages needs",
                       size / KIB);

    /* Room to align the start, and the guard behind the end. */
    m->map_len = size + HUGE_PAGE + GUARD_SIZE;
    m->map = mmap(NULL, m->map_len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m->map == MAP_FAILED) {
        m->map = NULL;
        return err_set(e, errno,
                       "memory: %" PRIu64 " MiB of address space: %s: give less to "
                       "--memory or raise the limit (ulimit -v)",
                       size / MIB, strerror(errno));
    }
    uint8_t *host = (uint8_t *)(((uintptr_t)m->map + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

    flags |= o->hugepages ? MAP_HUGETLB : MAP_NORESERVE;
    /* cppcheck-suppress leakReturnValNotUsed ; it replaces a part of m->map */
    if (mmap(host, size, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED) {
        int code = errno;

        gmem_fini(m);
        if (o->hugepages)
            return err_set(e, code,
                           "memory: %" PRIu64 " huge pages of 2 MiB: %s: reserve them "
                           "with sysctl vm.nr_hugepages=N",
                           size / HUGE_PAGE, strerror(code));
        return err_set(e, code, "memory: %" PRIu64 " MiB: %s: give less to --memory", size / MIB,
                       strerror(code));
    }
    /* Advice: a kernel without transparent huge pages only runs slower. */
    if (!o->hugepages)
        (void)madvise(host, size, MADV_HUGEPAGE);
    if (o->prefault) {
        int ret = gmem_populate(host, size, e);

        if (ret) {
            gmem_fini(m);
            return ret;
        }
    }
    gmem_layout(m, host, size);
    return 0;
}

void gmem_fini(struct gmem *m)
{
    if (m->map)
        munmap(m->map, m->map_len);
    *m = (struct gmem){ 0 };
}

void *gmem_span(const struct gmem *m, gpa_t gpa, uint64_t len)
{
    if (len == 0)
        return NULL;
    for (int i = 0; i < m->n; i++) {
        const struct gmem_region *r = &m->region[i];

        if (gpa.v >= r->base && range_within(gpa.v - r->base, len, r->len))
            return r->host + (gpa.v - r->base);
    }
    return NULL;
}

int gmem_read(const struct gmem *m, gpa_t gpa, void *buf, size_t len)
{
    if (len == 0)
        return 0;
    const void *p = gmem_span(m, gpa, len);

    if (!p)
        return -EFAULT;
    memcpy(buf, p, len);
    return 0;
}

int gmem_write(struct gmem *m, gpa_t gpa, const void *buf, size_t len)
{
    if (len == 0)
        return 0;
    void *p = gmem_span(m, gpa, len);

    if (!p)
        return -EFAULT;
    memcpy(p, buf, len);
    return 0;
}

int gmem_zero(struct gmem *m, gpa_t gpa, size_t len)
{
    if (len == 0)
        return 0;
    void *p = gmem_span(m, gpa, len);

    if (!p)
        return -EFAULT;
    memset(p, 0, len);
    return 0;
}

int gmem_iov(const struct gmem *m, gpa_t gpa, size_t len, struct iovec *iov, int max)
{
    if (len == 0)
        return 0;
    /* The regions never touch (the devices lie between), so RAM is one piece or it is not RAM. */
    void *p = gmem_span(m, gpa, len);

    if (!p)
        return -EFAULT;
    if (max < 1)
        return -E2BIG;
    iov[0] = (struct iovec){ .iov_base = p, .iov_len = len };
    return 1;
}
