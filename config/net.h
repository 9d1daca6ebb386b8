/* --net: one row of the table of options, and a table of keys of its own. */
#ifndef MAYFLY_CONFIG_NET_H
#define MAYFLY_CONFIG_NET_H

#include "config/config.h"
#include "config/options.h"
#include "core/err.h"

#define CONFIG_NET_KEYS 8

extern const struct config_option config_net_keys[CONFIG_NET_KEYS];

/* The setter of the row: field is a struct config_nets, which gets one more. */
int config_net_set(const struct config_option *o, const char *text, void *field, struct err *e);

/* The rules between nets, and between a net and other options. 0, or -EINVAL with *e. */
int config_nets_check(const struct config *c, struct err *e);

#endif
