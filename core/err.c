/* Formatting of struct err; see err.h. */
#include "core/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int err_set(struct err *e, int code, const char *fmt, ...)
{
    va_list ap;

    e->code = code;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    /* A message is one line whatever the user's file names hold. */
    for (char *p = e->msg; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    return -code;
}

const char *err_remedy(int code, const char *otherwise)
{
    switch (code) {
    case EMFILE:
        return "raise the limit of open files (ulimit -n)";
    case ENFILE:
        return "raise the host's limit of open files (sysctl fs.file-max)";
    case ENOMEM:
        return "free some of the host's memory, or raise the limit (ulimit -v, memory.max)";
    case ENOSPC:
    case EDQUOT:
        return "free some space there";
    default:
        return otherwise;
    }
}
