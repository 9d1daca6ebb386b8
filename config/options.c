/* The rows and the functions that read their values; see options.h. */
#include "config/options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "config/disk.h"
#include "config/net.h"
#include "config/values.h"
#include "core/num.h"

int config_option_err(const struct config_option *o, struct err *e, const char *fmt, ...)
{
    char reason[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(reason, sizeof reason, fmt, ap);
    va_end(ap);
    return err_set(e, EINVAL, "%s%s: %s: %s", o->flags & OPTION_KEY ? "" : "option --", o->name,
                   reason, o->hint);
}

/* --- Values of one option alone; what several have in common is in values.c --- */

/* config.command ends as what was asked about, whatever came before. */
static int set_help(const struct config_option *o, const char *text, void *field, struct err *e)
{
    (void)o, (void)text, (void)e;
    *(enum config_command *)field = CONFIG_HELP;
    return 0;
}

static int set_version(const struct config_option *o, const char *text, void *field, struct err *e)
{
    (void)o, (void)text, (void)e;
    *(enum config_command *)field = CONFIG_VERSION;
    return 0;
}

static int set_files(const struct config_option *o, const char *text, void *field, struct err *e)
{
    struct config_files *list = field;

    if (list->n == ARRAY_LEN(list->path))
        return config_option_err(o, e, "more than %zu given", ARRAY_LEN(list->path));
    list->path[list->n++] = text;
    return 0;
}

static int set_cmdline(const struct config_option *o, const char *text, void *field, struct err *e)
{
    char *line = field;
    size_t used = strlen(line), len = strlen(text), gap = used && len ? 1 : 0;

    if (len >= CONFIG_CMDLINE_SIZE - used - gap)
        return config_option_err(o, e, "more than %d bytes in all", CONFIG_CMDLINE_SIZE - 1);
    if (gap)
        line[used] = ' ';
    memcpy(line + used + gap, text, len + 1);
    return 0;
}

static int set_console(const struct config_option *o, const char *text, void *field, struct err *e)
{
    struct config_console *console = field;
    const char *path;
    unsigned place;
    int ret = value_choose(o, text, &place, &path, e);

    if (ret)
        return ret;
    if (path && !*path)
        return config_option_err(o, e, "\"%s\" names no file", text);
    *console = (struct config_console){ .kind = (enum config_console_kind)place, .path = path };
    return 0;
}

/* --- The rows --- */

#define FIELD(f) .offset = offsetof(struct config, f)

/* A row is a block to be read at a glance; clang-format would give every value a line. */
/* clang-format off */
static const struct config_option options[] = {
    { .section = "Kernel", .name = "kernel", .letter = 'k', .metavar = "FILE",
      .help = "the kernel to boot: bzImage or vmlinux",
      .hint = "name a bzImage or vmlinux, as in -k vmlinuz",
      FIELD(kernel), .set = value_text, .flags = OPTION_REQUIRED },
    { .section = "Kernel", .name = "initrd", .letter = 'i', .metavar = "FILE",
      .help = "its initramfs; several are concatenated",
      .hint = "name an archive, as in -i initrd.img; join many by cat",
      FIELD(initrd), .set = set_files, .flags = OPTION_REPEATABLE },
    { .section = "Kernel", .name = "cmdline", .letter = 'a', .metavar = "TEXT",
      .help = "added to the default command line",
      .hint = "give kernel parameters and no more than fit, as in -a 'quiet ro'",
      FIELD(cmdline), .set = set_cmdline, .flags = OPTION_REPEATABLE | OPTION_EMPTY },
    { .section = "Kernel", .name = "cmdline-raw", .metavar = "TEXT", .max = "2047",
      .help = "the whole command line, nothing added",
      .hint = "give all kernel parameters, as in --cmdline-raw console=hvc0",
      FIELD(cmdline_raw), .set = value_text },
    { .section = "Kernel", .name = "entry", .metavar = "WAY",
      .words = "auto|elf|pvh", .preset = "auto",
      .help = "how a vmlinux starts",
      .hint = "leave it out and Mayfly chooses",
      FIELD(entry), .set = value_choice },
    { .section = "Kernel", .name = "mmio-cmdline",
      .help = "devices on the command line, no ACPI; one vCPU",
      FIELD(mmio_cmdline), .set = value_flag },

    { .section = "Machine", .name = "cpus", .letter = 'c', .metavar = "N",
      .preset = "1", .min = "1", .max = "64",
      .help = "virtual CPUs",
      .hint = "give how many vCPUs the guest gets, as in -c 2",
      FIELD(cpus), .set = value_number },
    { .section = "Machine", .name = "memory", .letter = 'm', .metavar = "SIZE",
      .preset = "256M", .min = "1M", .max = "1T",
      .help = "RAM in K, M, G or T; a number alone is MiB",
      .hint = "give a size, as in -m 512M or -m 2G",
      FIELD(memory), .set = value_size },
    { .section = "Machine", .name = "hugepages",
      .help = "RAM from the host's pool of 2 MiB pages",
      FIELD(hugepages), .set = value_flag },
    { .section = "Machine", .name = "prefault",
      .help = "all RAM present before the guest runs",
      FIELD(prefault), .set = value_flag },
    { .section = "Machine", .name = "console", .metavar = "WHERE",
      .words = "stdio|none|file:PATH|pty", .preset = "stdio",
      .help = "guest's terminal",
      .hint = "say where the guest's console goes, as in --console file:guest.log",
      FIELD(console), .set = set_console },

    { .section = "Devices", .name = "disk", .letter = 'd', .metavar = "PATH[,KEY]...",
      .help = "raw image or block device: vda, vdb, ...",
      .hint = "name a disk image or block device, as in -d root.img or -d root.img,ro",
      .keys = config_disk_keys, .keys_n = CONFIG_DISK_KEYS,
      FIELD(disks), .set = config_disk_set, .flags = OPTION_REPEATABLE },
    { .section = "Devices", .name = "net", .letter = 'n', .metavar = "tap=NAME|fd=N[,KEY]...",
      .help = "a tap: eth0, eth1, ...",
      .hint = "name a tap or give an open one, as in -n tap=tap0 or -n fd=3",
      .keys = config_net_keys, .keys_n = CONFIG_NET_KEYS,
      FIELD(nets), .set = config_net_set, .flags = OPTION_REPEATABLE },

    { .section = "Life", .name = "timeout", .metavar = "TIME",
      .preset = "0", .min = "0", .max = "8760h",
      .help = "end the VM after 500ms, 30s, 5m, 1h; 0: never",
      .hint = "give a duration, as in --timeout 30s",
      FIELD(timeout_ms), .set = value_duration },
    { .section = "Life", .name = "grace", .metavar = "TIME",
      .preset = "3s", .min = "0", .max = "8760h",
      .help = "from a signal to the VM's forced end",
      .hint = "give a duration, as in --grace 10s",
      FIELD(grace_ms), .set = value_duration },
    { .section = "Life", .name = "pidfile", .metavar = "PATH",
      .help = "holds the process id while Mayfly runs",
      .hint = "name a file to write, as in --pidfile vm.pid",
      FIELD(pidfile), .set = value_text },
    { .section = "Life", .name = "ready-fd", .metavar = "N",
      .min = "3", .max = "2147483647",
      .help = "gets one byte when the vCPUs run",
      .hint = "give a descriptor that the caller opened, as in --ready-fd 3 3>ready",
      FIELD(ready_fd), .set = value_number },

    { .section = "Confinement", .name = "seccomp", .metavar = "MODE",
      .words = "kill|trap|log|off", .preset = "trap",
      .help = "at a forbidden system call",
      .hint = "leave it out: trap tells of a forbidden call and ends",
      FIELD(seccomp), .set = value_choice },

    { .section = "Log", .name = "log-level", .metavar = "LEVEL",
      .words = "error|warn|info|debug", .preset = "warn",
      .help = "how much",
      .hint = "say how much is logged, as in --log-level info",
      FIELD(log_level), .set = value_choice },
    { .section = "Log", .name = "log-file", .metavar = "PATH",
      .help = "appended to, instead of stderr",
      .hint = "name a file to write, as in --log-file vm.log",
      FIELD(log_file), .set = value_text },

    { .section = "Information", .name = "help", .letter = 'h',
      .help = "this text",
      FIELD(command), .set = set_help, .flags = OPTION_INFO },
    { .section = "Information", .name = "version", .letter = 'V',
      .help = "Mayfly's version",
      FIELD(command), .set = set_version, .flags = OPTION_INFO },
};
/* clang-format on */

_Static_assert(ARRAY_LEN(options) <= 64, "struct config's given holds a bit for each row");
_Static_assert(sizeof(enum config_entry) == sizeof(unsigned) &&
                   sizeof(enum config_seccomp) == sizeof(unsigned) &&
                   sizeof(enum log_level) == sizeof(unsigned),
               "value_choice writes an unsigned");

const struct config_option *config_options(size_t *n)
{
    *n = ARRAY_LEN(options);
    return options;
}

const struct config_option *config_option_named(const char *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        if (strlen(options[i].name) == len && memcmp(options[i].name, name, len) == 0)
            return &options[i];
    return NULL;
}

const struct config_option *config_option_lettered(char letter)
{
    for (size_t i = 0; letter && i < ARRAY_LEN(options); i++)
        if (options[i].letter == letter)
            return &options[i];
    return NULL;
}

int config_set(struct config *c, const struct config_option *o, const char *text, struct err *e)
{
    uint64_t bit = UINT64_C(1) << (o - options);

    if (c->given & bit && !(o->flags & OPTION_REPEATABLE))
        return err_set(e, EINVAL, "option --%s: given twice: leave one out", o->name);
    if (text && !*text && !(o->flags & OPTION_EMPTY))
        return config_option_err(o, e, "empty");
    int ret = o->set(o, text, (char *)c + o->offset, e);

    if (ret == 0)
        c->given |= bit;
    return ret;
}
