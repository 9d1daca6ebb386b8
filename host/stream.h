/* A character stream: what the console device talks to on the host.
 *
 * Two descriptors that never block, either of which may be absent (-1), and nothing else, so that
 * a test puts a pipe behind a console. Owner: the console's loop, once it runs.
 */
#ifndef MAYFLY_HOST_STREAM_H
#define MAYFLY_HOST_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

struct stream {
    int in, out;     /* -1: no input, output is discarded */
    int hold;        /* kept open so that a pty never hangs up; -1 */
    bool restore[2]; /* of standard input, output: O_NONBLOCK is taken away again at the end */
    bool in_tty;     /* input ends by hang-up, and Ctrl-] counts */
    bool is_file;    /* of the user's naming */
    bool made;       /* it was not there before */
    bool is_pty;     /* its window size is another terminal's, asked for as input comes */
    char path[64];   /* of the pty, for people */
};

/* Each: 0 or -errno with *e; stream_close undoes it. Main thread. */
void stream_none(struct stream *s);
int stream_stdio(struct stream *s, struct err *e);
/* Output to path, made if need be; no input. */
int stream_file(struct stream *s, const char *path, struct err *e);
int stream_pty(struct stream *s, struct err *e);
void stream_close(struct stream *s);

/* The guest begins: a file is emptied. Main thread. */
void stream_start(struct stream *s);

/* Gives standard input and output their blocking mode back. Async-signal-safe. */
void stream_restore(const struct stream *s);

/* Waits until what was written to a pty has been read there: our end's closing throws away the
 * rest. Gives up when nothing was read for stall_ms. How many bytes are left then, 0 for all
 * other streams. */
size_t stream_drain(const struct stream *s, int stall_ms);

/* The window size of the terminal behind the stream; false (and 0 x 0) when there is none. */
bool stream_size(const struct stream *s, uint16_t *cols, uint16_t *rows);

#endif
