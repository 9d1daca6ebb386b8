/* The terminal that Mayfly was started from: raw while the guest has it, as it was at every end. */
#ifndef MAYFLY_HOST_TERM_H
#define MAYFLY_HOST_TERM_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <termios.h>

struct term {
    struct termios saved;
    int fd;
    volatile sig_atomic_t raw; /* saved holds what term_restore puts back */
};

/* Makes the terminal fd raw: every byte, Ctrl-C too, belongs to the guest. False when fd is no
 * terminal. Also after SIGCONT, since a shell resets its terminal while a job is stopped. */
bool term_raw(struct term *t, int fd);

/* Puts the terminal back; nothing when it is not raw. Async-signal-safe, keeps errno. */
void term_restore(struct term *t);

/* Ctrl-] three times within a second asks for the VM's end, as systemd-nspawn has it. The bytes
 * themselves go on to the guest. */
#define ESCAPE_BYTE  0x1d
#define ESCAPE_COUNT 3
#define ESCAPE_MS    1000

struct escape {
    int64_t at[ESCAPE_COUNT - 1]; /* ms, of those before */
    int count;                    /* of them */
};

/* Feeds what was typed at now_ms of any steady clock. true once the sequence is complete. */
bool escape_feed(struct escape *e, const void *typed, size_t n, int64_t now_ms);

#endif
