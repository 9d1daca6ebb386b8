/* A kernel file understood: what to read where, and what the kernel asks of its loader. */
#ifndef MAYFLY_BOOT_KERNEL_H
#define MAYFLY_BOOT_KERNEL_H

#include <asm/bootparam.h>
#include <stddef.h>
#include <stdint.h>

#include "boot/boot.h"
#include "boot/file.h"
#include "core/err.h"
#include "core/gmem.h"

#define KERNEL_PIECES_MAX 128
#define KERNEL_HEAD_LEN   1024 /* holds every header that we read */

struct kernel_piece {
    uint64_t off; /* in the file; [off, off + len) is inside it */
    gpa_t gpa;    /* at least LAYOUT_KERNEL_MIN, and gpa + len <= end */
    uint64_t len;
};

struct kernel {
    struct file file;
    enum boot_mode mode;
    uint64_t entry;          /* guest-physical, where the first vCPU starts */
    uint64_t end;            /* all that the kernel needs before it knows its memory is below */
    uint64_t initrd_limit;   /* the initrds must end at or below */
    uint32_t cmdline_max;    /* bytes, without the NUL */
    struct setup_header hdr; /* its own, or one made for an ELF that has none */
    struct kernel_piece piece[KERNEL_PIECES_MAX];
    int n;
};

/* Opens path, finds out what it is and fills *k from its headers. 0, or -errno with *e; then
 * nothing is open. */
int kernel_open(struct kernel *k, const char *path, enum boot_entry entry, struct err *e);

/* Reads the pieces into guest memory; k->end must be inside the low part of RAM. 0 or -errno with
 * *e. */
int kernel_load(const struct kernel *k, struct gmem *m, struct err *e);

void kernel_close(struct kernel *k);

#endif
