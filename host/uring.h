/* The io_uring engine of a disk: one ring a device, restricted to what a disk needs. */
#ifndef MAYFLY_HOST_URING_H
#define MAYFLY_HOST_URING_H

#include "host/disk.h"

/* Gives d a ring for `depth` requests at once, and has the loop wait in it. 0, or -errno with *e
 * where the host has no io_uring, or not one that can be restricted; then d is as it was. Main
 * thread, before the loop's runs, and after the disk's files are open. */
int uring_open(struct disk *d, unsigned depth, struct loop *loop, struct err *e);

#endif
