/* See near.h. A word is near when one or two edits of a byte make the name of it. */
#include "config/near.h"

#include <stdint.h>
#include <string.h>

#include "core/num.h"

#define WORD_MAX 24 /* longer than any name of ours */

/* Levenshtein's distance, one row of the matrix at a time. n and the name's length <= WORD_MAX. */
static size_t edits(const char *word, size_t n, const char *name)
{
    size_t row[WORD_MAX + 1], m = strlen(name);

    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t swap = diagonal + (word[i - 1] != name[j - 1]);

            diagonal = row[j];
            row[j] = min_size(swap, 1 + min_size(row[j], row[j - 1]));
        }
    }
    return row[m];
}

size_t near_distance(const char *word, size_t n, const char *name)
{
    if (n == 0 || n > WORD_MAX || strlen(name) > WORD_MAX)
        return SIZE_MAX;
    if (n >= 3 && strncmp(word, name, n) == 0)
        return 0;
    size_t d = edits(word, n, name);

    return d <= (n < 5 ? 1 : 2) ? d : SIZE_MAX;
}
