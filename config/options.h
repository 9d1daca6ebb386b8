/* The one table of options.
 *
 * A row says all there is to say of an option: its names, its help, its default and bounds as text,
 * the function that reads its value and the field it fills. The command line (args.c), the help
 * (help.c) and later the JSON reader walk the same rows; a new option is a row, a field of struct
 * config and a paragraph of the man page.
 *
 * A setter gets the row and the field, not the whole config, so that an option with sub-options
 * (`--disk PATH,ro,id=x`) is one row, whose setter takes the next element of an array in struct
 * config and has its keys read by keys.c from a table of such rows (keys, below).
 */
#ifndef MAYFLY_CONFIG_OPTIONS_H
#define MAYFLY_CONFIG_OPTIONS_H

#include <stddef.h>

#include "config/config.h"
#include "core/err.h"

enum {
    OPTION_REQUIRED = 1, /* by CONFIG_RUN */
    OPTION_REPEATABLE = 2,
    OPTION_EMPTY = 8,     /* an empty text is a value, as of -a "$MORE" */
    OPTION_INFO = 4,      /* command line only, with any command or none: help, version */
    OPTION_KEY = 16,      /* of another option: no dashes; no section, no help */
    OPTION_OPTIONAL = 32, /* a key whose value may be left out: then its text is NULL */
};

struct config_option {
    const char *section; /* heading in the help; rows of one section are neighbours */
    const char *name;    /* without dashes; the JSON key, too */
    char letter;         /* 0: none */
    const char *metavar; /* NULL: a flag */
    const char *help;    /* one line; the help adds words and default to it */
    const char *words;   /* "a|b|c": the values of a choice, in the enum's order */
    const char *preset;  /* the default, NULL: none */
    const char *min;     /* bounds, read like the value; for a text max is its length */
    const char *max;
    const char *hint; /* the remedy that ends an error of the value; a flag has none */
    int (*set)(const struct config_option *o, const char *text, void *field, struct err *e);
    size_t offset; /* of the field in struct config; a key's, in its option's element */
    unsigned flags;
    const struct config_option *keys; /* of an option with sub-options, at most 64 */
    size_t keys_n;
};

/* The rows, *n of them. Constant. */
const struct config_option *config_options(size_t *n);

/* The row of a name of len bytes, or of a letter; NULL when there is none. */
const struct config_option *config_option_named(const char *name, size_t len);
const struct config_option *config_option_lettered(char letter);

/* Sets the field of row o from text (NULL for a flag) and marks it given. 0, or -EINVAL with *e:
 * given twice, empty, malformed or out of bounds. c keeps the pointer text. */
int config_set(struct config *c, const struct config_option *o, const char *text, struct err *e);

/* "option --NAME: REASON: HINT" into *e, or, of a key, "NAME: REASON: HINT". Returns -EINVAL. */
__attribute__((format(printf, 3, 4))) int config_option_err(const struct config_option *o,
                                                            struct err *e, const char *fmt, ...);

#endif
