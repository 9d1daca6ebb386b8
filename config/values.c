/* See values.h. */
#include "config/values.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "config/units.h"

int value_flag(const struct config_option *o, const char *text, void *field, struct err *e)
{
    (void)o, (void)text, (void)e;
    *(bool *)field = true;
    return 0;
}

int value_text(const struct config_option *o, const char *text, void *field, struct err *e)
{
    uint64_t max = UINT64_MAX;

    if (o->max && units_number(o->max, &max) == 0 && strlen(text) > max)
        return config_option_err(o, e, "%zu bytes long, more than %s", strlen(text), o->max);
    *(const char **)field = text;
    return 0;
}

int value_bounded(const struct config_option *o, const char *text, const char *what,
                  int (*read)(const char *, uint64_t *), uint64_t *v, struct err *e)
{
    uint64_t min = 0, max = UINT64_MAX;
    int ret = read(text, v);

    if (ret == -EINVAL)
        return config_option_err(o, e, "\"%.60s\" is not a %s", text, what);
    if (o->min)
        (void)read(o->min, &min);
    if (o->max)
        (void)read(o->max, &max);
    if (ret || *v < min || *v > max)
        return config_option_err(o, e, "%.60s is not between %s and %s", text, o->min, o->max);
    return 0;
}

int value_number(const struct config_option *o, const char *text, void *field, struct err *e)
{
    uint64_t v;
    int ret = value_bounded(o, text, "number", units_number, &v, e);

    if (ret == 0)
        *(int *)field = (int)v; /* max is at most INT_MAX: the table's test */
    return ret;
}

int value_size(const struct config_option *o, const char *text, void *field, struct err *e)
{
    return value_bounded(o, text, "size", units_size, field, e);
}

int value_duration(const struct config_option *o, const char *text, void *field, struct err *e)
{
    uint64_t v;
    int ret = value_bounded(o, text, "duration", units_duration, &v, e);

    if (ret == 0)
        *(int64_t *)field = (int64_t)v;
    return ret;
}

int value_rate(const struct config_option *o, const char *text,
               int (*read)(const char *, uint64_t *), uint64_t *rate, uint64_t *burst,
               struct err *e)
{
    size_t n = strcspn(text, ":");
    char head[64];
    int ret;

    if (n >= sizeof head)
        return config_option_err(o, e, "\"%.60s\" is not a rate", text);
    memcpy(head, text, n);
    head[n] = '\0';
    ret = value_bounded(o, head, "rate", read, rate, e);
    if (ret)
        return ret;
    if (text[n])
        return value_bounded(o, text + n + 1, "burst", read, burst, e);
    *burst = *rate < 10 ? 1 : *rate / 10;
    return 0;
}

int value_choose(const struct config_option *o, const char *text, unsigned *place,
                 const char **rest, struct err *e)
{
    const char *word = o->words;

    *rest = NULL;
    for (*place = 0; word; ++*place) {
        size_t n = strcspn(word, "|"), head = strcspn(word, ":|");
        bool match = strncmp(text, word, head) == 0;

        if (match && head < n && text[head] == ':') {
            *rest = text + head + 1;
            return 0;
        }
        if (match && head == n && text[n] == '\0')
            return 0;
        word = word[n] ? word + n + 1 : NULL;
    }
    return config_option_err(o, e, "\"%.60s\" is not one of %s", text, o->words);
}

int value_choice(const struct config_option *o, const char *text, void *field, struct err *e)
{
    const char *rest;
    unsigned place;
    int ret = value_choose(o, text, &place, &rest, e);

    /* GCC and clang give an enum without negative values the type unsigned. */
    if (ret == 0)
        memcpy(field, &place, sizeof place);
    return ret;
}
