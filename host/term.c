/* See term.h. */
#include "host/term.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

bool term_raw(struct term *t, int fd)
{
    struct termios raw;

    if (!t->raw) {
        if (tcgetattr(fd, &t->saved) < 0)
            return false;
        t->fd = fd;
        /* Set before the change: a signal in between restores what was not changed yet. */
        t->raw = 1;
    }
    raw = t->saved;
    cfmakeraw(&raw);
    return tcsetattr(fd, TCSANOW, &raw) == 0;
}

void term_restore(struct term *t)
{
    int saved = errno;

    if (t->raw) {
        /* Both are async-signal-safe. A terminal that went away needs no restoring; one that is
         * another job's by now has that job's modes, and touching it would stop us. */
        pid_t foreground = tcgetpgrp(t->fd); /* -1: not the terminal of our session */

        if (foreground < 0 || foreground == getpgrp())
            tcsetattr(t->fd, TCSANOW, &t->saved);
        t->raw = 0;
    }
    errno = saved;
}

bool escape_feed(struct escape *e, const void *typed, size_t n, int64_t now_ms)
{
    const unsigned char *p = typed;

    for (size_t i = 0; i < n; i++) {
        if (p[i] != ESCAPE_BYTE) {
            e->count = 0;
            continue;
        }
        bool enough = e->count == ESCAPE_COUNT - 1, within = now_ms - e->at[0] <= ESCAPE_MS;

        if (enough && within) {
            e->count = 0;
            return true;
        }
        if (enough) /* the oldest is too old: any three within a second count */
            memmove(e->at, e->at + 1, sizeof e->at - sizeof e->at[0]);
        else
            e->count++;
        e->at[e->count - 1] = now_ms;
    }
    return false;
}
