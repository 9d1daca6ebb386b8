/* The command line: words that are nearly options, by the table that holds them all, or the input's
 * own bytes.
 *
 * What is accepted keeps every promise of config.h; what is refused says why in one line. A second
 * reading of the same words gives the same. */
#include "config/args.h"
#include "config/help.h"
#include "config/options.h"
#include "config/units.h"
#include "core/bucket.h"
#include "core/num.h"
#include "tests/fuzz/fuzz.h"

#define WORDS_MAX 64
#define STORE     (64 * KIB)

struct words {
    char *argv[WORDS_MAX + 1];
    int argc;
    char store[STORE];
    size_t used;
};

/* A text that stands in argv; the store is large enough for all. */
static char *keep(struct words *w, const char *text)
{
    size_t n = strlen(text) + 1;
    char *p = w->store + w->used;

    if (n > sizeof w->store - w->used)
        return (char *)"";
    memcpy(p, text, n);
    w->used += n;
    return p;
}

static void add(struct words *w, const char *text)
{
    if (w->argc < WORDS_MAX)
        w->argv[w->argc++] = keep(w, text);
}

/* A value that some option takes, or nearly. */
static void some_value(struct input *in, char *buf, size_t max)
{
    static const char *const values[] = {
        "1",
        "64",
        "65",
        "0",
        "256M",
        "1M",
        "1T",
        "2049K",
        "2GiB",
        "5KB",
        "auto",
        "elf",
        "pvh",
        "stdio",
        "none",
        "pty",
        "file:x",
        "file:",
        "3",
        "2",
        "3s",
        "90m",
        "8760h",
        "8761h",
        "10ms",
        "debug",
        "error",
        "warn",
        "-",
        "--",
        "",
        "4K",
        "6K",
        "2147483647",
        "-1",
        "0x10",
        "--kernel",
        "-c",
        "k",
        "virtio_mmio.device=4K@0xd0000000:5",
        "18446744073709551616",
        "18446744073709551615",
        "16777216T",
        "100000000000000000000",
        "9223372036854775807",
        "9223372036854775808h",
    };
    uint8_t how = in_u8(in);

    if (how < 0x80)
        snprintf(buf, max, "%s", values[how % ARRAY_LEN(values)]);
    else if (how < 0xa0)
        snprintf(buf, max, "%ju%s", (uintmax_t)in_value(in),
                 &"\0\0K\0M\0G\0T\0ms\0s\0m\0h"[2 * (how % 6U)]);
    else if (how < 0xf0)
        in_text(in, buf, max);
    else {                        /* long */
        uint16_t by = in_u16(in); /* often about the most that a command line takes */
        size_t n = min_size(max - 1, by & 0x8000 ? 2040U + by % 12 : by % 2200);

        memset(buf, 'a', n);
        buf[n] = '\0';
    }
}

/* A value made of keys, for an option that takes some: its name, then keys of its table with a
 * value that one of them takes, or nearly. */
static void some_keys(const struct config_option *o, struct input *in, char *buf, size_t max)
{
    static const char *const disks[] = { "d", "a,,b", "/dev/x=y:z", ",,", "", "ro" };
    static const char *const nets[] = { "tap=t",       "fd=3", "tap=a,,b", "fd=4", "tap=tap0",
                                        "fd=12345678", "tap=", "fd=2",     "t",    "tap=%" };
    static const char *const values[] = {
        "",
        "=",
        "=1",
        "=64",
        "=0",
        "=100M",
        "=1024T:1",
        "=1:1024T",
        "=1M:",
        "=:1",
        "=auto",
        "=sync",
        "=uring",
        "=/tmp",
        "=a,,b",
        "=a",
        "=12345678901234567890",
        "=1K:x",
        "=2",
        "=on",
        "=off",
        "=1400",
        "=65535",
        "=16",
        "=52:54:00:12:34:56",
        "=02:00:00:00:00:0A",
        "=01:00:00:00:00:00",
        "=00:00:00:00:00:00",
        "=52:54:00:12:34",
    };
    char text[40];
    const char *name = o->letter == 'n' ? nets[in_below(in, ARRAY_LEN(nets))]
                                        : disks[in_below(in, ARRAY_LEN(disks))];
    size_t used = (size_t)snprintf(buf, max, "%s", name);

    for (unsigned n = in_u8(in) % 8; n; n--) {
        const struct config_option *k = &o->keys[in_below(in, (unsigned)o->keys_n)];
        uint8_t how = in_u8(in);

        if (how >= 0xe0) { /* anything, a mistyped key among them */
            in_text(in, text, sizeof text);
            used += (size_t)snprintf(buf + used, max - used, ",%.*s%s", how % 4, k->name, text);
        } else {
            used += (size_t)snprintf(buf + used, max - used, ",%s%s", k->name,
                                     values[how % ARRAY_LEN(values)]);
        }
    }
}

/* An option of the table's as people write it, its value with it or in the next word or absent. */
static void add_option(struct words *w, struct input *in)
{
    static char value[2300], word[2400];
    size_t rows;
    const struct config_option *o = config_options(&rows);
    uint8_t how = in_u8(in);

    o += in_below(in, (unsigned)rows);
    if (o->keys_n && in_u8(in) % 4)
        some_keys(o, in, value, sizeof value);
    else
        some_value(in, value, sizeof value);
    switch (how % 8) {
    case 0:
    case 1:
        snprintf(word, sizeof word, "--%s", o->name);
        add(w, word);
        if (o->metavar)
            add(w, value);
        break;
    case 2:
    case 3:
        snprintf(word, sizeof word, "--%s=%s", o->name, value);
        add(w, word);
        break;
    case 4:
        snprintf(word, sizeof word, "-%c%s", o->letter ? o->letter : 'x', value);
        add(w, word);
        break;
    case 5:
        snprintf(word, sizeof word, "-%c", o->letter ? o->letter : 'k');
        add(w, word);
        add(w, value);
        break;
    case 6: /* mistyped */
        snprintf(word, sizeof word, "--%s", o->name);
        word[2 + how / 8 % strlen(o->name)] = (char)('a' + how % 26);
        add(w, word);
        break;
    default:
        snprintf(word, sizeof word, "--%.*s", how / 8 % 12, o->name);
        add(w, word);
        break;
    }
}

static bool is_word(const struct words *w, const char *p)
{
    return !p || p == w->argv[0] || (p >= w->store && p < w->store + w->used);
}

static bool is_limit(uint64_t rate, uint64_t burst)
{
    return rate ? rate <= BUCKET_MAX && burst >= 1 && burst <= BUCKET_MAX : burst == 0;
}

/* Whether p is one of the config's own texts, and ends there. */
static bool is_part(const struct config_texts *t, const char *p)
{
    return p >= t->bytes && p < t->bytes + t->used && memchr(p, 0, t->bytes + t->used - p);
}

static void check_disks(const struct config *c)
{
    const struct config_texts *t = &c->disks.texts;

    FUZZ_CHECK(c->disks.n <= CONFIG_DISK_MAX && t->used <= sizeof t->bytes, "%u", c->disks.n);
    for (unsigned i = 0; i < c->disks.n; i++) {
        const struct config_disk *d = &c->disks.disk[i];

        FUZZ_CHECK(is_part(t, d->path) && *d->path, "path of %u", i);
        FUZZ_CHECK(!d->overlay_dir || (d->overlay && is_part(t, d->overlay_dir)), "dir of %u", i);
        FUZZ_CHECK(!d->overlay || (!d->ro && !d->direct), "flags of %u", i);
        FUZZ_CHECK(memchr(d->id, 0, sizeof d->id), "id of %u", i);
        for (const char *p = d->id; *p; p++)
            FUZZ_CHECK(*p >= ' ' && *p <= '~', "id of %u", i);
        for (unsigned j = 0; j < i && d->id[0]; j++)
            FUZZ_CHECK(strcmp(d->id, c->disks.disk[j].id) != 0, "id of %u and %u", i, j);
        FUZZ_CHECK(d->io <= CONFIG_IO_SYNC, "io of %u", i);
        FUZZ_CHECK(is_limit(d->bw, d->bw_burst) && is_limit(d->iops, d->iops_burst), "%u", i);
        FUZZ_CHECK(d->queues >= 1 && d->queues <= c->cpus, "queues of %u", i);
    }
}

static void check_net(const struct config *c, unsigned i)
{
    const struct config_net *net = &c->nets.net[i];

    FUZZ_CHECK(net->tap ? net->fd == -1 : net->fd >= 3 && net->fd != c->ready_fd, "end of %u", i);
    FUZZ_CHECK(!net->tap || (is_part(&c->nets.texts, net->tap) && *net->tap), "tap of %u", i);
    FUZZ_CHECK(!net->tap || (strlen(net->tap) <= 15 && !strpbrk(net->tap, "/%: \t\n\v\f\r\xa0")),
               "tap of %u", i);
    FUZZ_CHECK(!net->mac_given || (!(net->mac[0] & 1) && memcmp(net->mac, "\0\0\0\0\0", 6) != 0),
               "address of %u", i);
    FUZZ_CHECK(net->mtu == 0 || (net->mtu >= 68 && net->mtu <= 65535), "mtu of %u", i);
    FUZZ_CHECK(net->queues >= 1 && net->queues <= (net->tap ? 16 : 1) && net->queues <= c->cpus,
               "queues of %u", i);
    FUZZ_CHECK(is_limit(net->rx_bw, net->rx_bw_burst) && is_limit(net->tx_bw, net->tx_bw_burst) &&
                   is_limit(net->rx_pps, net->rx_pps_burst) &&
                   is_limit(net->tx_pps, net->tx_pps_burst),
               "%u", i);
    FUZZ_CHECK(net->vhost == CONFIG_OFF || (net->vhost == CONFIG_ON &&
                                            !(net->rx_bw | net->tx_bw | net->rx_pps | net->tx_pps)),
               "vhost of %u", i);
    for (unsigned j = 0; j < i; j++) {
        const struct config_net *other = &c->nets.net[j];

        FUZZ_CHECK(!net->tap || !other->tap || strcmp(net->tap, other->tap) != 0, "%u and %u", i,
                   j);
        FUZZ_CHECK(net->tap || net->fd != other->fd, "%u and %u", i, j);
        FUZZ_CHECK(!net->mac_given || !other->mac_given || memcmp(net->mac, other->mac, 6) != 0,
                   "address of %u and %u", i, j);
    }
}

static void check_nets(const struct config *c)
{
    FUZZ_CHECK(c->nets.n <= CONFIG_NET_MAX && c->nets.texts.used <= sizeof c->nets.texts.bytes,
               "%u", c->nets.n);
    for (unsigned i = 0; i < c->nets.n; i++)
        check_net(c, i);
}

static void check_config(const struct words *w, const struct config *c)
{
    uint64_t unit = c->hugepages ? 2 * MIB : 4 * KIB;

    FUZZ_CHECK(c->command > CONFIG_NONE && c->command <= CONFIG_VERSION, "%d", c->command);
    if (c->command != CONFIG_RUN)
        return;
    FUZZ_CHECK(c->kernel && *c->kernel && is_word(w, c->kernel), "kernel");
    FUZZ_CHECK(c->initrd.n <= CONFIG_INITRD_MAX, "%u initrds", c->initrd.n);
    for (unsigned i = 0; i < c->initrd.n; i++)
        FUZZ_CHECK(c->initrd.path[i] && is_word(w, c->initrd.path[i]), "initrd %u", i);
    FUZZ_CHECK(memchr(c->cmdline, 0, sizeof c->cmdline), "a command line without an end");
    FUZZ_CHECK(is_word(w, c->cmdline_raw) && is_word(w, c->pidfile) && is_word(w, c->log_file),
               "a text from nowhere");
    FUZZ_CHECK(!c->cmdline_raw || (!c->cmdline[0] && strlen(c->cmdline_raw) < 2048), "both lines");
    FUZZ_CHECK(c->entry <= CONFIG_ENTRY_PVH && c->log_level <= LOG_DEBUG, "words");
    FUZZ_CHECK(c->cpus >= 1 && c->cpus <= 64 && (!c->mmio_cmdline || c->cpus == 1), "%d", c->cpus);
    FUZZ_CHECK(c->memory >= MIB && c->memory <= 1024 * GIB && c->memory % unit == 0, "%ju",
               (uintmax_t)c->memory);
    FUZZ_CHECK(c->console.kind <= CONFIG_CONSOLE_PTY, "console");
    FUZZ_CHECK((c->console.kind == CONFIG_CONSOLE_FILE) == (c->console.path != NULL) &&
                   is_word(w, c->console.path),
               "console file");
    FUZZ_CHECK(c->timeout_ms >= 0 && c->timeout_ms <= INT64_C(8760) * 3600000, "timeout");
    FUZZ_CHECK(c->grace_ms >= 0 && c->grace_ms <= INT64_C(8760) * 3600000, "grace");
    FUZZ_CHECK(c->ready_fd == -1 || c->ready_fd >= 3, "ready-fd %d", c->ready_fd);
    check_disks(c);
    check_nets(c);
}

static void check_err(const struct err *e)
{
    FUZZ_CHECK(e->code == 22 && strlen(e->msg) > 10 && strchr(e->msg, ':'), "%s", e->msg);
    for (const char *p = e->msg; *p; p++)
        FUZZ_CHECK((unsigned char)*p >= ' ' && *p != 0x7f, "a control byte in: %s", e->msg);
}

/* The readers of numbers against what is plain: digits alone, read by the C library. */
static void check_units(const char *text)
{
    uint64_t v = 1, size = 1, bytes = 1, ms = 1;
    bool digits = *text && strspn(text, "0123456789") == strlen(text) && strlen(text) < 19;
    bool huge = *text > '0' && strspn(text, "0123456789") == strlen(text) && strlen(text) > 20;
    int ret = units_number(text, &v);

    FUZZ_CHECK(!digits || (ret == 0 && v == strtoull(text, NULL, 10)), "%s", text);
    FUZZ_CHECK(!huge || ret == -34, "%s fits, it seems", text);
    FUZZ_CHECK(ret == 0 || v == 1, "touched by a failure");
    FUZZ_CHECK(units_size(text, &size) == 0 || size == 1, "touched by a failure");
    FUZZ_CHECK(units_bytes(text, &bytes) == 0 || bytes == 1, "touched by a failure");
    FUZZ_CHECK(ret || bytes == v, "%s", text); /* a number alone */
    FUZZ_CHECK(units_duration(text, &ms) == 0 || ms == 1, "touched by a failure");
    FUZZ_CHECK(ms <= INT64_MAX, "%s", text);
}

void fuzz_one(struct input *in)
{
    static const char *const first[] = { "run", "probe", "rnu", "", "--help", "run", "-V", "pro" };
    static struct words w;
    static struct config c, again;
    static bool helped;
    static char text[2300];
    struct err e = { 0 }, e2 = { 0 };
    uint8_t how = in_u8(in);

    w.argc = 0;
    w.used = 0;
    add(&w, "mayfly");
    if (how < 0xf0)
        add(&w, first[how & 0x80 ? how % ARRAY_LEN(first) : 0]);
    if (how & 1)
        add(&w, "-kK");
    while (in->left && w.argc < WORDS_MAX) {
        if (in_u8(in) % 4) {
            add_option(&w, in);
        } else {
            some_value(in, text, sizeof text);
            check_units(text);
            add(&w, text);
        }
    }
    w.argv[w.argc] = NULL;
    int ret = config_from_args(&c, w.argc, w.argv, &e);

    FUZZ_CHECK(ret == 0 || ret == -22, "%d", ret);
    if (ret)
        check_err(&e);
    else
        check_config(&w, &c);
    FUZZ_CHECK(config_from_args(&again, w.argc, w.argv, &e2) == ret && !strcmp(e.msg, e2.msg),
               "read again: %s", e2.msg);
    FUZZ_CHECK(ret || (c.given == again.given && c.kernel == again.kernel && c.cpus == again.cpus &&
                       c.memory == again.memory && !strcmp(c.cmdline, again.cmdline) &&
                       c.disks.n == again.disks.n &&
                       !memcmp(&c.disks.texts, &again.disks.texts, sizeof c.disks.texts) &&
                       c.nets.n == again.nets.n &&
                       !memcmp(&c.nets.texts, &again.nets.texts, sizeof c.nets.texts)),
               "read again: another configuration");
    if (!helped && !ret && c.command == CONFIG_HELP) {
        FILE *out = fopen("/dev/null", "w");

        helped = true;
        config_help(out);
        fclose(out);
    }
}
