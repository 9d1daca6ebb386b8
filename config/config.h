/* What the user asked for: every option's value, checked, in plain fields.
 *
 * A struct config is filled row by row from the table of options (config/options.h), whoever reads
 * the rows' texts: the command line now, JSON later. Texts point into what was parsed (argv, say),
 * which must outlive the config. Nothing here opens, prints or exits.
 */
#ifndef MAYFLY_CONFIG_CONFIG_H
#define MAYFLY_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "core/log.h"

#define CONFIG_INITRD_MAX 16
/* The user's part of the kernel command line, NUL included: COMMAND_LINE_SIZE of x86 Linux. */
#define CONFIG_CMDLINE_SIZE 2048

enum config_command { CONFIG_NONE, CONFIG_RUN, CONFIG_PROBE, CONFIG_HELP, CONFIG_VERSION };

/* The order of each is that of the words in its row of the table. */
enum config_entry { CONFIG_ENTRY_AUTO, CONFIG_ENTRY_ELF, CONFIG_ENTRY_PVH };
enum config_console_kind {
    CONFIG_CONSOLE_STDIO,
    CONFIG_CONSOLE_NONE,
    CONFIG_CONSOLE_FILE,
    CONFIG_CONSOLE_PTY,
};

enum config_seccomp {
    CONFIG_SECCOMP_KILL,
    CONFIG_SECCOMP_TRAP,
    CONFIG_SECCOMP_LOG,
    CONFIG_SECCOMP_OFF,
};

struct config_console {
    enum config_console_kind kind;
    const char *path; /* CONFIG_CONSOLE_FILE alone, else NULL */
};

struct config_files {
    const char *path[CONFIG_INITRD_MAX];
    unsigned n;
};

struct config {
    enum config_command command;
    uint64_t given; /* bit i: row i of the table was given, not defaulted */

    const char *kernel;
    struct config_files initrd;
    char cmdline[CONFIG_CMDLINE_SIZE]; /* added to the default one; "" when not given */
    const char *cmdline_raw;           /* used alone; NULL when not given */
    enum config_entry entry;
    bool mmio_cmdline;

    int cpus;        /* 1..64 */
    uint64_t memory; /* bytes, a multiple of 4 KiB, of 2 MiB with hugepages */
    bool hugepages, prefault;

    struct config_console console;

    int64_t timeout_ms; /* 0: none */
    int64_t grace_ms;
    const char *pidfile; /* NULL: none */
    int ready_fd;        /* -1: none; whether it is open is for the caller to see */

    enum config_seccomp seccomp;

    enum log_level log_level;
    const char *log_file; /* NULL: stderr */
};

/* The defaults of the table, and no command. */
void config_init(struct config *c);

/* The rules that span options, once all are set: what is required, what excludes what.
 * 0, or -EINVAL with *e. A command other than CONFIG_RUN passes. */
int config_check(const struct config *c, struct err *e);

#endif
