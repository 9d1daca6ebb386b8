/* A kernel file made by the input, loaded as the monitor loads it, and the judge of what then lies
 * in guest memory. For the loaders' targets.
 *
 * Memory is a few MiB between two inaccessible pages; pages that a run touched are given back after
 * it, so that each begins with zeros. */
#ifndef MAYFLY_TESTS_FUZZ_IMAGE_H
#define MAYFLY_TESTS_FUZZ_IMAGE_H

#include "boot/boot.h"
#include "tests/fuzz/fuzz.h"

#define IMAGE_RAM (3 * MIB + 256 * KIB)
#define IMAGE_MAX (64 * KIB) /* of a file */

/* Puts bytes into the index-th of the process's files (4 at most), which stay. Its path. */
const char *image_file(unsigned index, const void *data, size_t len);

/* Fresh memory of len bytes, at most IMAGE_RAM. */
void image_ram(struct gmem *m, uint64_t len);

/* Changes data[0..len) as the input says, a few fields of 1 to 8 bytes. */
void image_bend(uint8_t *data, size_t len, struct input *in);

/* boot_load(): 0 or its error, which has to be one that a person can read. */
int image_load(struct gmem *m, const struct boot_config *c, struct boot_state *s);

/* Where something was read from the file to. */
struct image_piece {
    uint64_t gpa, len;
    const uint8_t *data;
};

/* From 1 MiB up there are these pieces and zeros; below is nothing but what layout.h names. */
void image_check(const struct gmem *m, const struct image_piece *piece, unsigned n);

#endif
