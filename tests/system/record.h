/* Numbered records, written by guest/records.c and found again by host/powerlog.c.
 *
 * Record n is begun when record n - 1 is on stable storage by the word of the guest's kernel. There
 * are four ways to get it there, in turn:
 *
 *   n % 4 == 0   appended to the file "append", fsync: data, a size, a commit of the journal
 *           1, 2 in its own place of the file "slots", whose blocks have been there before, with
 *                fdatasync or by O_DSYNC: nothing but data and a flush
 *           3    a file of its own in "files": written, fsync, renamed, fsync of the directory
 */
#ifndef TESTS_SYSTEM_RECORD_H
#define TESTS_SYSTEM_RECORD_H

#include <stdint.h>
#include <stdio.h>

enum { RECORD_MAX = 512, APPEND_LEN = 5000, SLOT_LEN = 4096, FILE_LEN = 3000, RECORD_LEN = 5000 };
enum { SLOT_EMPTY = 0xff }; /* in every byte */

/* What record n looks like; a shorter one is its beginning. */
static inline void record_fill(uint8_t *p, int n)
{
    uint64_t x = (uint64_t)n;

    for (int i = 0; i < RECORD_LEN; i++) {
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        p[i] = (uint8_t)(x >> 56);
    }
    snprintf((char *)p, 16, "record %07d\n", n);
}

#endif
