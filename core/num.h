/* Checked arithmetic and small numeric helpers. Every number of a guest, a file or an option
 * passes through these before it is used as a size or an address. */
#ifndef MAYFLY_CORE_NUM_H
#define MAYFLY_CORE_NUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "guest structures are read in place");

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* The struct that holds a member, given the member's address. */
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* a + b into *sum; false (and *sum unspecified) when it does not fit. */
static inline bool add_u64(uint64_t a, uint64_t b, uint64_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

/* Rounds v up to a multiple of align, a power of two; false when it does not fit. */
static inline bool align_up_u64(uint64_t v, uint64_t align, uint64_t *out)
{
    if (__builtin_add_overflow(v, align - 1, out))
        return false;
    *out &= ~(align - 1);
    return true;
}

static inline uint64_t align_down_u64(uint64_t v, uint64_t align)
{
    return v & ~(align - 1);
}

static inline bool is_pow2(uint64_t v)
{
    return v != 0 && (v & (v - 1)) == 0;
}

/* Whether [off, off + len) lies inside [0, size). len 0 is inside when off <= size. */
static inline bool range_within(uint64_t off, uint64_t len, uint64_t size)
{
    return off <= size && len <= size - off;
}

/* Whether [a, a + alen) and [b, b + blen) share a byte. The ranges must not wrap. */
static inline bool ranges_overlap(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
    return alen && blen && a < b + blen && b < a + alen;
}

static inline size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

#endif
