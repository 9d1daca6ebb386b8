/* The initrds: several files that the kernel sees as one. */
#ifndef MAYFLY_BOOT_INITRD_H
#define MAYFLY_BOOT_INITRD_H

#include <stdint.h>

#include "boot/boot.h"
#include "boot/file.h"

struct initrds {
    struct file file[BOOT_INITRDS_MAX];
    int n;
    uint64_t size; /* of all, each padded to 4 bytes; 0 without any */
};

/* Opens every one. 0, or -errno with *e; then none is open. */
int initrds_open(struct initrds *r, const struct boot_config *c, struct err *e);

/* Reads them to base, which has room for size bytes of RAM. 0 or -errno with *e. */
int initrds_load(const struct initrds *r, struct gmem *m, gpa_t base, struct err *e);

void initrds_close(struct initrds *r);

#endif
