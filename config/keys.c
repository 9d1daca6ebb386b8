/* See keys.h. A value is copied once, and split in place: commas and the first '=' of a word turn
 * into NULs. */
#include "config/keys.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "config/near.h"
#include "core/num.h"

int config_keys_split(const struct config_option *o, const char *text, struct config_texts *texts,
                      struct config_words *words, struct err *e)
{
    size_t room = sizeof texts->bytes - texts->used;
    char *to = texts->bytes + texts->used;

    if (strlen(text) >= room)
        return err_set(e, EINVAL,
                       "option --%s: %.60s: too long: all of them together take at most %zu bytes: "
                       "use shorter names",
                       o->name, text, sizeof texts->bytes - 1);
    words->name = to;
    for (; *text; text++) {
        if (text[0] == ',' && text[1] == ',')
            *to++ = *text++;
        else
            *to++ = *text == ',' ? '\0' : *text;
    }
    *to++ = '\0';
    words->end = to;
    texts->used = (size_t)(to - texts->bytes);
    return 0;
}

/* Puts the option and the thing before what a key's setter said. */
static int key_failed(const struct config_option *o, const char *name, struct err *e)
{
    struct err key = *e;

    return err_set(e, EINVAL, "option --%s: %.60s: %s", o->name, name, key.msg);
}

static int key_unknown(const struct config_option *o, const char *name, const char *word,
                       struct err *e)
{
    size_t best = SIZE_MAX, used = 0;
    const char *near = NULL;
    char list[160] = "";

    for (size_t i = 0; i < o->keys_n; i++) {
        const char *key = o->keys[i].name;
        size_t d = near_distance(word, strlen(word), key);

        if (d < best) {
            best = d;
            near = key;
        }
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", key);
        assert(used < sizeof list);
    }
    if (!*word)
        return err_set(e, EINVAL,
                       "option --%s: %.60s: no key behind a comma: leave the comma out, or write "
                       "two for one in a name",
                       o->name, name);
    if (near)
        return err_set(e, EINVAL, "option --%s: %.60s: unknown key \"%.60s\": did you mean %s?",
                       o->name, name, word, near);
    return err_set(e, EINVAL,
                   "option --%s: %.60s: unknown key \"%.60s\": give %s, and two commas for one in "
                   "a name",
                   o->name, name, word, list);
}

static int key_set(const struct config_option *k, const char *value, bool again, void *element,
                   struct err *e)
{
    if (again)
        return err_set(e, EINVAL, "%s: given twice: leave one out", k->name);
    if (!k->metavar && value)
        return err_set(e, EINVAL, "%s: takes no value: leave out \"=%.60s\"", k->name, value);
    if (k->metavar && !value && !(k->flags & OPTION_OPTIONAL))
        return config_option_err(k, e, "its value is missing");
    if (value && !*value)
        return config_option_err(k, e, "empty");
    return k->set(k, value, (char *)element + k->offset, e);
}

int config_keys_set(const struct config_option *o, const struct config_words *words, void *element,
                    struct err *e)
{
    char *word = words->name + strlen(words->name) + 1;
    uint64_t given = 0;

    for (size_t i = 0; i < o->keys_n; i++)
        if (o->keys[i].preset && key_set(&o->keys[i], o->keys[i].preset, false, element, e))
            return key_failed(o, words->name, e);
    while (word < words->end) {
        char *next = word + strlen(word) + 1, *value = strchr(word, '=');
        size_t i = 0;

        if (value)
            *value++ = '\0';
        while (i < o->keys_n && strcmp(o->keys[i].name, word) != 0)
            i++;
        if (i == o->keys_n)
            return key_unknown(o, words->name, word, e);
        if (key_set(&o->keys[i], value, given >> i & 1, element, e))
            return key_failed(o, words->name, e);
        given |= UINT64_C(1) << i;
        word = next;
    }
    return 0;
}
