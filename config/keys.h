/* Sub-options: `--disk PATH,ro,id=x`.
 *
 * The value of such an option is words parted by commas; ",," stands for a comma within a word, as
 * with QEMU. The first word is the name of the thing, a path, say; each further one is a key, alone
 * or as KEY=VALUE. The keys are the rows of a table of the option's own (o->keys), of the same kind
 * as the rows of options, their fields in one element of an array in struct config. The option's
 * setter takes the next element, splits the value, judges the name, and has the rest read here.
 */
#ifndef MAYFLY_CONFIG_KEYS_H
#define MAYFLY_CONFIG_KEYS_H

#include "config/config.h"
#include "config/options.h"
#include "core/err.h"

struct config_words {
    char *name; /* the first word; each ends with a NUL, and the next begins behind it */
    char *end;
};

/* Splits text into *words, which lie in *texts. 0, or -EINVAL with *e: it is full. */
int config_keys_split(const struct config_option *o, const char *text, struct config_texts *texts,
                      struct config_words *words, struct err *e);

/* Sets the presets of o->keys in element, then what the words behind the name say. 0, or -EINVAL
 * with *e, "option --NAME: THING: REASON: HINT": a key that is unknown, given twice, or whose value
 * is missing, not wanted, malformed or out of bounds. Element points into the words. */
int config_keys_set(const struct config_option *o, const struct config_words *words, void *element,
                    struct err *e);

#endif
