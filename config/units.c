/* See units.h. One walk reads digits; a table of suffixes says what a unit is worth. */
#include "config/units.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "core/num.h"

struct unit {
    const char *suffix;
    uint64_t worth;
};

/* Reads the digits that begin text and leaves *rest at what follows them. */
static int units_digits(const char *text, const char **rest, uint64_t *out)
{
    const char *p = text;
    uint64_t v = 0;

    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
            __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
            return -ERANGE;
    if (p == text)
        return -EINVAL;
    *rest = p;
    *out = v;
    return 0;
}

static int units_scale(uint64_t v, uint64_t worth, uint64_t max, uint64_t *out)
{
    if (__builtin_mul_overflow(v, worth, &v) || v > max)
        return -ERANGE;
    *out = v;
    return 0;
}

int units_number(const char *text, uint64_t *out)
{
    const char *rest;
    uint64_t v;
    int ret = units_digits(text, &rest, &v);

    if (ret)
        return ret;
    if (*rest)
        return -EINVAL;
    *out = v;
    return 0;
}

/* A size; a number alone counts alone bytes. */
static int units_sized(const char *text, uint64_t alone, uint64_t *out)
{
    static const struct unit units[] = {
        { "K", KIB }, { "M", MIB }, { "G", GIB }, { "T", 1024 * GIB }
    };
    const char *rest;
    uint64_t v;
    int ret = units_digits(text, &rest, &v);

    if (ret)
        return ret;
    if (!*rest)
        return units_scale(v, alone, UINT64_MAX, out);
    if (rest[1] && strcmp(rest + 1, "iB") != 0)
        return -EINVAL;
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (strncasecmp(rest, units[i].suffix, 1) == 0)
            return units_scale(v, units[i].worth, UINT64_MAX, out);
    return -EINVAL;
}

int units_size(const char *text, uint64_t *out)
{
    return units_sized(text, MIB, out);
}

int units_bytes(const char *text, uint64_t *out)
{
    return units_sized(text, 1, out);
}

int units_duration(const char *text, uint64_t *out)
{
    static const struct unit units[] = {
        { "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }
    };
    const char *rest;
    uint64_t v;
    int ret = units_digits(text, &rest, &v);

    if (ret)
        return ret;
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (strcmp(rest, units[i].suffix) == 0)
            return units_scale(v, units[i].worth, INT64_MAX, out);
    return -EINVAL;
}
