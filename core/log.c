/* See log.h. A line is formatted on the stack and handed over by one write(), which Linux does not
 * interleave for short lines; text of a guest's or a user's making is stripped of control bytes, so
 * that nobody can forge a line or drive the terminal. */
#include "core/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
    int fd;
    enum log_level max;
    bool tty;
    _Atomic bool raw;
} logger = { .fd = 2, .max = LOG_WARN };

void log_init(int fd, enum log_level max)
{
    logger.fd = fd;
    logger.max = max;
    logger.tty = isatty(fd);
}

int log_fd(void)
{
    return logger.fd;
}

void log_set_raw(bool raw)
{
    atomic_store_explicit(&logger.raw, raw, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
    return level <= logger.max;
}

void log_msg(enum log_level level, const char *fmt, ...)
{
    static const char *const names[] = { "", "warning: ", "info: ", "debug: " };
    char line[1024];
    int saved = errno;
    va_list ap;

    if (!log_enabled(level))
        return;
    size_t n = (size_t)snprintf(line, sizeof line, "mayfly: %s", names[level]);
    size_t room = sizeof line - 2; /* CR LF */

    va_start(ap, fmt);
    int len = vsnprintf(line + n, room - n, fmt, ap);
    va_end(ap);
    if (len > 0)
        n += (size_t)len < room - n ? (size_t)len : room - n - 1;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = '?';
    if (logger.tty && atomic_load_explicit(&logger.raw, memory_order_relaxed))
        line[n++] = '\r';
    line[n++] = '\n';
    /* A log that can't be written has nowhere to say so. */
    if (write(logger.fd, line, n) < 0)
        errno = 0;
    errno = saved;
}

bool log_allow(struct log_limit *l, uint32_t *dropped)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    int64_t now = (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000 + 1;
    int64_t start = atomic_load(&l->window);

    *dropped = 0;
    if (start == 0 || now - start >= LOG_LIMIT_MS) {
        /* Two threads may both open the window; then a few lines more are written. */
        atomic_store(&l->window, now);
        atomic_store(&l->used, 0);
    }
    if (atomic_fetch_add(&l->used, 1) >= LOG_LIMIT_BURST) {
        atomic_fetch_add(&l->dropped, 1);
        return false;
    }
    *dropped = atomic_exchange(&l->dropped, 0);
    return true;
}
