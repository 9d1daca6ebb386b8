/* What the user asked for: every option's value, checked, in plain fields.
 *
 * A struct config is filled row by row from the table of options (config/options.h), whoever reads
 * the rows' texts: the command line now, JSON later. Texts point into what was parsed (argv, say),
 * which must outlive the config, or, where a value had to be taken apart, into the config itself:
 * it is not copied. Nothing here opens, prints or exits.
 */
#ifndef MAYFLY_CONFIG_CONFIG_H
#define MAYFLY_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/log.h"

#define CONFIG_INITRD_MAX 16
/* The user's part of the kernel command line, NUL included: COMMAND_LINE_SIZE of x86 Linux. */
#define CONFIG_CMDLINE_SIZE 2048
#define CONFIG_DISK_MAX     16
#define CONFIG_NET_MAX      16
/* NUL included; VIRTIO_BLK_ID_BYTES. */
#define CONFIG_DISK_ID_SIZE 21
/* The values of all disks, NULs included: at least one path as long as paths can be. */
#define CONFIG_TEXTS_SIZE 8192

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

enum config_switch { CONFIG_OFF, CONFIG_ON };

enum config_io { CONFIG_IO_AUTO, CONFIG_IO_URING, CONFIG_IO_SYNC };

struct config_console {
    enum config_console_kind kind;
    const char *path; /* CONFIG_CONSOLE_FILE alone, else NULL */
};

struct config_files {
    const char *path[CONFIG_INITRD_MAX];
    unsigned n;
};

/* Values taken apart, one behind the other. */
struct config_texts {
    char bytes[CONFIG_TEXTS_SIZE];
    size_t used;
};

struct config_disk {
    const char *path;
    bool ro, direct, overlay;     /* overlay: neither of the others */
    const char *overlay_dir;      /* NULL: where temporary files go */
    char id[CONFIG_DISK_ID_SIZE]; /* printable ASCII, no other disk's; "": the default */
    enum config_io io;
    /* Limits for a bucket (core/bucket.h): a rate of 1..BUCKET_MAX a second and a burst of
     * 1..BUCKET_MAX; both 0: none. */
    uint64_t bw, bw_burst;     /* bytes */
    uint64_t iops, iops_burst; /* requests */
    int queues;                /* 1..cpus */
};

struct config_disks {
    struct config_disk disk[CONFIG_DISK_MAX];
    unsigned n;
    struct config_texts texts;
};

struct config_net {
    const char *tap; /* NULL: fd */
    int fd;          /* -1: tap */
    bool mac_given;
    uint8_t mac[6]; /* a host's own address, where given */
    int mtu;        /* 68..65535; 0: the interface's */
    int queues;     /* 1..16, at most cpus; 1 with fd */
    enum config_switch vhost;
    /* Limits as those of a disk; from the host, and to it. */
    uint64_t rx_bw, rx_bw_burst, tx_bw, tx_bw_burst;     /* bytes */
    uint64_t rx_pps, rx_pps_burst, tx_pps, tx_pps_burst; /* frames */
};

struct config_nets {
    struct config_net net[CONFIG_NET_MAX];
    unsigned n;
    struct config_texts texts;
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
    struct config_disks disks;
    struct config_nets nets;

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
