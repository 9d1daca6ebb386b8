/* The functions that read a value's text into a field, for rows of options and of keys alike.
 *
 * Each has the shape of config_option.set: 0, or -EINVAL with *e, which quotes the text up to 60
 * bytes, so that the remedy always fits. text lives as long as the config; NULL for a flag.
 */
#ifndef MAYFLY_CONFIG_VALUES_H
#define MAYFLY_CONFIG_VALUES_H

#include <stdint.h>

#include "config/options.h"
#include "core/err.h"

/* bool: true. */
int value_flag(const struct config_option *o, const char *text, void *field, struct err *e);

/* const char *: text itself, of at most o->max bytes. */
int value_text(const struct config_option *o, const char *text, void *field, struct err *e);

/* int: a number between the row's bounds, which must fit. */
int value_number(const struct config_option *o, const char *text, void *field, struct err *e);

/* uint64_t: bytes; int64_t: milliseconds. */
int value_size(const struct config_option *o, const char *text, void *field, struct err *e);
int value_duration(const struct config_option *o, const char *text, void *field, struct err *e);

/* An enum whose order is that of o->words. */
int value_choice(const struct config_option *o, const char *text, void *field, struct err *e);

/* What those are made of: a text read by a function of units.h and held against the row's bounds;
 * what: the noun that errors call it by. */
int value_bounded(const struct config_option *o, const char *text, const char *what,
                  int (*read)(const char *, uint64_t *), uint64_t *v, struct err *e);

/* "RATE" or "RATE:BURST", both within the row's bounds. A burst that is not given is a tenth of a
 * second's worth, at least 1: what is larger than that passes in debt (core/bucket.h). */
int value_rate(const struct config_option *o, const char *text,
               int (*read)(const char *, uint64_t *), uint64_t *rate, uint64_t *burst,
               struct err *e);

/* The place of text among the row's words; *rest is what a word "prefix:ARG" leaves, else NULL. */
int value_choose(const struct config_option *o, const char *text, unsigned *place,
                 const char **rest, struct err *e);

#endif
