/* --disk: one row of the table of options, and a table of keys of its own. */
#ifndef MAYFLY_CONFIG_DISK_H
#define MAYFLY_CONFIG_DISK_H

#include "config/config.h"
#include "config/options.h"
#include "core/err.h"

#define CONFIG_DISK_KEYS 8

extern const struct config_option config_disk_keys[CONFIG_DISK_KEYS];

/* The setter of the row: field is a struct config_disks, which gets one more. */
int config_disk_set(const struct config_option *o, const char *text, void *field, struct err *e);

/* The rules between disks, and between a disk and other options. 0, or -EINVAL with *e. */
int config_disks_check(const struct config *c, struct err *e);

#endif
