/* See overlay.h.
 *
 * The map is asked and changed a word of 64 sectors at a time, so a request of a megabyte costs
 * some tens of steps. Its memory is mapped without reserve, and without huge pages: one bit would
 * bring 2 MiB.
 */
#include "host/overlay.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "core/num.h"
#include "host/image.h"

#define WORD_BITS 64

int overlay_init(struct overlay *o, uint64_t size, struct err *e)
{
    *o = (struct overlay){ .sectors = size / IMAGE_SECTOR };
    uint64_t words = o->sectors / WORD_BITS + 1;
    size_t len = (size_t)align_down_u64(words * sizeof(uint64_t) + 4095, 4096);
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    if (p == MAP_FAILED)
        return err_set(e, errno, "overlay: a map of %" PRIu64 " KiB: %s: %s", (uint64_t)len / KIB,
                       strerror(errno), err_remedy(errno, "use a smaller disk"));
    /* Advice, and without huge pages in the kernel an error. */
    (void)madvise(p, len, MADV_NOHUGEPAGE);
    o->bits = p;
    o->map_len = len;
    return 0;
}

void overlay_fini(struct overlay *o)
{
    if (o->bits)
        munmap(o->bits, o->map_len);
    *o = (struct overlay){ 0 };
}

/* Bytes to sectors. A range that is none of the disk's is a bug of ours. */
static void overlay_range(const struct overlay *o, uint64_t off, uint64_t len, uint64_t *first,
                          uint64_t *end)
{
    assert((off | len) % IMAGE_SECTOR == 0);
    *first = off / IMAGE_SECTOR;
    assert(range_within(*first, len / IMAGE_SECTOR, o->sectors));
    *end = *first + len / IMAGE_SECTOR;
}

void overlay_set(struct overlay *o, uint64_t off, uint64_t len)
{
    uint64_t first, end;

    overlay_range(o, off, len, &first, &end);
    if (first == end)
        return;
    uint64_t word = first / WORD_BITS, last = (end - 1) / WORD_BITS;
    uint64_t head = ~UINT64_C(0) << first % WORD_BITS;
    uint64_t tail = ~UINT64_C(0) >> (WORD_BITS - 1 - (end - 1) % WORD_BITS);

    if (word == last) {
        o->bits[word] |= head & tail;
        return;
    }
    o->bits[word] |= head;
    memset(o->bits + word + 1, 0xff, (size_t)(last - word - 1) * sizeof(uint64_t));
    o->bits[last] |= tail;
}

uint64_t overlay_run(const struct overlay *o, uint64_t off, uint64_t len, bool *mine)
{
    uint64_t first, end;

    overlay_range(o, off, len, &first, &end);
    assert(first < end);
    uint64_t word = first / WORD_BITS, at = first;

    *mine = o->bits[word] >> first % WORD_BITS & 1;
    /* Bits that differ from the first are ones in here. */
    uint64_t flip = *mine ? ~UINT64_C(0) : 0;
    uint64_t other = (o->bits[word] ^ flip) >> first % WORD_BITS;

    if (!other) {
        for (word++; word * WORD_BITS < end; word++) {
            other = o->bits[word] ^ flip;
            if (other)
                break;
        }
        at = word * WORD_BITS;
    }
    if (other)
        at += (uint64_t)__builtin_ctzll(other);
    return (min_u64(at, end) - first) * IMAGE_SECTOR;
}
