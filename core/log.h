/* Log lines for the person who runs Mayfly: one stream (stderr or --log-file), four levels, one
 * write() a line so that threads never mix. The one global of the program outside vmm.c. */
#ifndef MAYFLY_CORE_LOG_H
#define MAYFLY_CORE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Where lines go and which. fd stays the caller's. Before any other thread exists. */
void log_init(int fd, enum log_level max);

/* Where they go, for a signal's handler. */
int log_fd(void);

/* While the terminal is raw a newline alone does not return the carriage: then lines on a terminal
 * end in CR LF. Any thread. */
void log_set_raw(bool raw);

bool log_enabled(enum log_level level);

/* "mayfly: LEVEL: text". Never blocks on a lock, keeps errno. Any thread. */
__attribute__((format(printf, 2, 3))) void log_msg(enum log_level level, const char *fmt, ...);

#define log_error(...) log_msg(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_msg(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_msg(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_msg(LOG_DEBUG, __VA_ARGS__)

/* A budget of lines that a guest can provoke: a burst of LOG_LIMIT_BURST, then as many a
 * LOG_LIMIT_MS. One for each cause, zero-initialised, usable from several threads. */
#define LOG_LIMIT_BURST 5
#define LOG_LIMIT_MS    5000

struct log_limit {
    _Atomic int64_t window; /* start, ms of the monotonic clock; 0 before the first line */
    _Atomic uint32_t used, dropped;
};

/* Whether a line may be written now; *dropped is how many were not since the last that was. */
bool log_allow(struct log_limit *l, uint32_t *dropped);

#endif
