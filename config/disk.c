/* The keys of --disk and what they mean for each other; see disk.h. Whether the image is one, is
 * for host/ to find out. */
#include "config/disk.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "config/keys.h"
#include "config/units.h"
#include "config/values.h"
#include "core/num.h"

/* Any byte that a terminal shows: the guest's tools print it, and udev makes a link of it. */
static int set_id(const struct config_option *o, const char *text, void *field, struct err *e)
{
    for (const char *p = text; *p; p++)
        if (*p < ' ' || *p > '~')
            return config_option_err(o, e, "\"%.60s\" is not all printable ASCII", text);
    if (strlen(text) >= CONFIG_DISK_ID_SIZE)
        return config_option_err(o, e, "\"%.60s\" is longer than %d bytes", text,
                                 CONFIG_DISK_ID_SIZE - 1);
    memcpy(field, text, strlen(text) + 1);
    return 0;
}

static int set_overlay(const struct config_option *o, const char *text, void *field, struct err *e)
{
    struct config_disk *d = field;

    (void)o, (void)e;
    d->overlay = true;
    d->overlay_dir = text;
    return 0;
}

static int set_bw(const struct config_option *o, const char *text, void *field, struct err *e)
{
    struct config_disk *d = field;

    return value_rate(o, text, units_bytes, &d->bw, &d->bw_burst, e);
}

static int set_iops(const struct config_option *o, const char *text, void *field, struct err *e)
{
    struct config_disk *d = field;

    return value_rate(o, text, units_number, &d->iops, &d->iops_burst, e);
}

#define FIELD(f)      .offset = offsetof(struct config_disk, f), .flags = OPTION_KEY
#define WHOLE_ELEMENT .offset = 0

/* 1024T and 1125899906842624 are BUCKET_MAX, which is for tokens of either kind. */
/* clang-format off */
const struct config_option config_disk_keys[CONFIG_DISK_KEYS] = {
    { .name = "ro", FIELD(ro), .set = value_flag },
    { .name = "id", .metavar = "ID",
      .hint = "give 1 to 20 letters, digits and the like, as in id=data",
      FIELD(id), .set = set_id },
    { .name = "direct", FIELD(direct), .set = value_flag },
    { .name = "io", .metavar = "WAY", .words = "auto|uring|sync", .preset = "auto",
      .hint = "leave it out and Mayfly takes what the host has",
      FIELD(io), .set = value_choice },
    { .name = "overlay", .metavar = "DIR",
      .hint = "name a directory for what the guest writes, as in overlay=/var/tmp, or give overlay "
              "alone",
      WHOLE_ELEMENT, .set = set_overlay, .flags = OPTION_KEY | OPTION_OPTIONAL },
    { .name = "bw", .metavar = "RATE[:BURST]", .min = "1", .max = "1024T",
      .hint = "give bytes a second, as in bw=100M or bw=100M:1G, or leave it out for no limit",
      WHOLE_ELEMENT, .set = set_bw, .flags = OPTION_KEY },
    { .name = "iops", .metavar = "RATE[:BURST]", .min = "1", .max = "1125899906842624",
      .hint = "give requests a second, as in iops=500 or iops=500:5000, or leave it out for no "
              "limit",
      WHOLE_ELEMENT, .set = set_iops, .flags = OPTION_KEY },
    { .name = "queues", .metavar = "N", .min = "1", .max = "64", .preset = "1",
      .hint = "give how many of the vCPUs have a queue of their own, as in queues=2",
      FIELD(queues), .set = value_number },
};
/* clang-format on */

_Static_assert(sizeof(enum config_io) == sizeof(unsigned), "value_choice writes an unsigned");

/* What an overlay does not go with. */
static int check_overlay(const struct config_disk *d, struct err *e)
{
    if (d->overlay && d->ro)
        return err_set(e, EINVAL,
                       "option --disk: %.60s: overlay and ro: the base of an overlay is never "
                       "written anyway, and the guest's writes need a place: leave one out",
                       d->path);
    if (d->overlay && d->direct)
        return err_set(e, EINVAL,
                       "option --disk: %.60s: overlay and direct: the page cache of an overlay's "
                       "base is what its VMs share: leave one out",
                       d->path);
    return 0;
}

int config_disk_set(const struct config_option *o, const char *text, void *field, struct err *e)
{
    struct config_disks *list = field;
    struct config_words words;

    if (list->n == CONFIG_DISK_MAX)
        return err_set(e, EINVAL, "option --%s: more than %d given: put more into each image",
                       o->name, CONFIG_DISK_MAX);
    struct config_disk *d = &list->disk[list->n];
    int ret = config_keys_split(o, text, &list->texts, &words, e);

    if (ret)
        return ret;
    if (!*words.name)
        return config_option_err(o, e, "\"%.60s\" begins with no path", text);
    *d = (struct config_disk){ .path = words.name };
    ret = config_keys_set(o, &words, d, e);
    if (ret == 0)
        ret = check_overlay(d, e);
    if (ret == 0)
        list->n++;
    return ret;
}

int config_disks_check(const struct config *c, struct err *e)
{
    for (unsigned i = 0; i < c->disks.n; i++) {
        const struct config_disk *d = &c->disks.disk[i];

        if (d->queues > c->cpus)
            return err_set(e, EINVAL,
                           "option --disk: %.60s: queues: %d is more than the %d of --cpus: a "
                           "queue serves at least one vCPU, give at most queues=%d",
                           d->path, d->queues, c->cpus, c->cpus);
        for (unsigned j = 0; j < i && d->id[0]; j++)
            if (strcmp(d->id, c->disks.disk[j].id) == 0)
                return err_set(e, EINVAL,
                               "option --disk: %.60s: id: \"%s\" is that of %.60s, too: give each "
                               "disk one of its own",
                               d->path, d->id, c->disks.disk[j].path);
    }
    return 0;
}
