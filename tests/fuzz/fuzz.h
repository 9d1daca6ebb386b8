/* What every fuzz target starts from: the input as a program, and a check that ends the run.
 *
 * libFuzzer makes bytes; a target reads them as a small program of operations with parameters, so
 * that most of what it does is nearly valid and every byte that is changed changes one thing. At
 * the end of the input all reads give 0. fuzz.c holds libFuzzer's entry points, a target is one
 * function, fuzz_one().
 *
 * A run is deterministic where it has one thread, leaves no memory and no descriptor behind, and
 * touches nothing outside the process.
 */
#ifndef MAYFLY_TESTS_FUZZ_H
#define MAYFLY_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct input {
    const uint8_t *p;
    size_t left;
};

/* The target: one run. */
void fuzz_one(struct input *in);

/* A rule that must hold whatever the input says. It ends the run as a crash does, so that libFuzzer
 * keeps the input. */
#define FUZZ_CHECK(cond, ...)                                                                      \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #cond);                             \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* The next n bytes, zeros behind the end. */
static inline void in_bytes(struct input *in, void *buf, size_t n)
{
    size_t got = n < in->left ? n : in->left;

    memset(buf, 0, n);
    if (got)
        memcpy(buf, in->p, got);
    in->p += got;
    in->left -= got;
}

static inline uint8_t in_u8(struct input *in)
{
    uint8_t v;

    in_bytes(in, &v, sizeof v);
    return v;
}

static inline uint16_t in_u16(struct input *in)
{
    uint16_t v;

    in_bytes(in, &v, sizeof v);
    return v;
}

static inline uint32_t in_u32(struct input *in)
{
    uint32_t v;

    in_bytes(in, &v, sizeof v);
    return v;
}

static inline uint64_t in_u64(struct input *in)
{
    uint64_t v;

    in_bytes(in, &v, sizeof v);
    return v;
}

/* Below n, which is not 0: one byte of input where that is enough, else two. */
static inline unsigned in_below(struct input *in, unsigned n)
{
    return (n <= 256 ? in_u8(in) : in_u16(in)) % n;
}

/* A number of the kind that breaks things: small, a power of two, the end of a type, each perhaps
 * one off; or any. Two bytes of input, or up to nine. */
uint64_t in_value(struct input *in);

/* A text of at most max - 1 bytes with its NUL: a length, then the bytes; other NULs in it end it
 * early. */
void in_text(struct input *in, char *buf, size_t max);

#endif
