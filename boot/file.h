/* The files a guest is booted from: opened once, sized, read into place. */
#ifndef MAYFLY_BOOT_FILE_H
#define MAYFLY_BOOT_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

struct file {
    int fd; /* ours; -1 when closed */
    uint64_t size;
    const char *what; /* "kernel", "initrd": begins every message */
    const char *path; /* the caller's, outlives us */
};

/* Opens a regular file that is not empty. 0, or -errno with *e; then nothing is open. */
int file_open(struct file *f, const char *what, const char *path, struct err *e);

/* Reads exactly len bytes at off. 0, or -errno with *e: -EIO when the file ends before. */
int file_read(const struct file *f, uint64_t off, void *buf, size_t len, struct err *e);

/* Harmless when it is closed already. */
void file_close(struct file *f);

#endif
