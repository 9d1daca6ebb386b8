/* What a mistyped word may have been meant to be. */
#ifndef MAYFLY_CONFIG_NEAR_H
#define MAYFLY_CONFIG_NEAR_H

#include <stddef.h>

/* How far the word of n bytes is from a name; SIZE_MAX when nobody would mean it. The beginning of
 * a name, as some parsers accept it, is nearest. */
size_t near_distance(const char *word, size_t n, const char *name);

#endif
