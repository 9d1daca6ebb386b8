/* Defaults and the rules that span options; see config.h. */
#include "config/config.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "config/disk.h"
#include "config/net.h"
#include "config/options.h"
#include "core/num.h"

void config_init(struct config *c)
{
    size_t n;
    const struct config_option *o = config_options(&n);
    struct err e;

    *c = (struct config){ .ready_fd = -1 };
    for (; n; n--, o++) {
        int ret = o->preset ? o->set(o, o->preset, (char *)c + o->offset, &e) : 0;

        assert(ret == 0);
        (void)ret;
    }
}

/* Sizes have no unit below KiB, so KiB is exact here. */
static int check_memory(const struct config *c, struct err *e)
{
    uint64_t unit = c->hugepages ? 2 * MIB : 4 * KIB, up;

    if (c->memory % unit == 0)
        return 0;
    (void)align_up_u64(c->memory, unit, &up);
    return err_set(
        e, EINVAL, "option --memory: %" PRIu64 "K is not a multiple of %s: give %" PRIu64 "K",
        c->memory / KIB, c->hugepages ? "2 MiB, which --hugepages needs" : "4 KiB", up / KIB);
}

int config_check(const struct config *c, struct err *e)
{
    size_t n;
    const struct config_option *o = config_options(&n);

    if (c->command != CONFIG_RUN)
        return 0;
    for (size_t i = 0; i < n; i++)
        if (o[i].flags & OPTION_REQUIRED && !(c->given >> i & 1))
            return config_option_err(&o[i], e, "not given");
    if (c->cmdline_raw && c->cmdline[0])
        return err_set(e, EINVAL,
                       "option --cmdline-raw: nothing can be added to it by --cmdline: "
                       "put all parameters in one of the two");
    /* Raw means verbatim: --mmio-cmdline then only takes ACPI away, and a text that announces no
     * device leaves the guest without one. The kernel reads '-' in names as '_'. */
    if (c->cmdline_raw && c->mmio_cmdline && !strstr(c->cmdline_raw, "mmio.device="))
        return err_set(e, EINVAL,
                       "option --cmdline-raw: has no virtio_mmio.device= for --mmio-cmdline, and "
                       "nothing is added to it: write the entries or use --cmdline");
    if (c->mmio_cmdline && c->cpus > 1)
        return err_set(e, EINVAL,
                       "option --mmio-cmdline: without ACPI a guest finds one vCPU, not %d: "
                       "leave out --cpus",
                       c->cpus);
    int ret = config_disks_check(c, e);

    if (ret == 0)
        ret = config_nets_check(c, e);
    return ret ? ret : check_memory(c, e);
}
