/* The phases of loading a guest; see boot.h, and layout.h for what lies below 1 MiB.
 *
 *   1 MiB    pref_address      + init_size                          end of low RAM
 *     | free RAM  | kernel, unpacks here | free RAM  |  initrds, whole  |
 *                                                    page-aligned       page-aligned
 *
 * Nothing is read before it is known to fit: the kernel's headers say what it needs, the initrds'
 * sizes are known, and when the sum is more than there is the message names the least that would
 * do.
 */
#include "boot/boot.h"

#include <errno.h>
#include <inttypes.h>

#include "boot/acpi.h"
#include "boot/cmdline.h"
#include "boot/cpustate.h"
#include "boot/initrd.h"
#include "boot/kernel.h"
#include "boot/layout.h"
#include "boot/mptable.h"
#include "boot/pvh.h"
#include "boot/zeropage.h"
#include "core/num.h"

#define PAGE UINT64_C(4096)

/* Interrupts of the PC's two 8259s that no fixed device has: 8 is the RTC's, 13 the FPU's. */
static const uint8_t legacy_irqs[] = { 5, 6, 7, 9, 10, 11, 12, 14, 15 };
#define FIRST_GSI 5

int boot_device_slot(unsigned index, bool mmio_cmdline, struct boot_device *d, struct err *e)
{
    unsigned max = mmio_cmdline ? ARRAY_LEN(legacy_irqs) : BOOT_DEVICES_MAX;

    if (index >= max)
        return err_set(e, ENOSPC, "devices: there are interrupts for %u%s: configure fewer%s", max,
                       mmio_cmdline ? " with --mmio-cmdline" : "",
                       mmio_cmdline ? ", or leave --mmio-cmdline out" : "");
    *d = (struct boot_device){ .base = { BOOT_DEVICE_BASE + (uint64_t)index * BOOT_DEVICE_LEN },
                               .len = BOOT_DEVICE_LEN,
                               .gsi = mmio_cmdline ? legacy_irqs[index] : FIRST_GSI + index };
    return 0;
}

static int boot_check_config(const struct boot_config *c, struct err *e)
{
    struct boot_device last;

    if (c->cpus < 1 || c->cpus > BOOT_CPUS_MAX)
        return err_set(e, EINVAL, "cpus: %u is not between 1 and %d", c->cpus, BOOT_CPUS_MAX);
    if (c->mmio_cmdline && c->cpus > 1)
        return err_set(e, EINVAL,
                       "cpus: %u with --mmio-cmdline: without ACPI Linux finds only one: give "
                       "--cpus 1",
                       c->cpus);
    return c->n_devices > 0
               ? boot_device_slot((unsigned)c->n_devices - 1, c->mmio_cmdline, &last, e)
               : 0;
}

/* What a kernel that is loaded needs to run lies in no header. Linux wants a 64th of memory for its
 * page structures and as much again to breathe, and an initrd is there twice while it is unpacked:
 * with this share and that copy Debian's kernel reaches its init. */
#define RUN_SHARE 8

static uint64_t to_mib(uint64_t bytes)
{
    return (bytes + MIB - 1) / MIB;
}

/* Finds the initrds' place: as high as can be, so that the kernel may grow. *base is 0 without
 * any. */
static int boot_place(const struct gmem *m, const struct kernel *k, const struct initrds *r,
                      uint64_t *base, struct err *e)
{
    uint64_t low = m->region[0].len, kernel_end, size, need;

    /* The initrds start at a page, so what they and the kernel need is counted in pages. */
    if (!align_up_u64(k->end, PAGE, &kernel_end) || !align_up_u64(r->size, PAGE, &size) ||
        !add_u64(kernel_end, size, &need) || need > GMEM_LOW_MAX)
        return err_set(e, EFBIG,
                       "memory: kernel %s and its initrds need more than the %" PRIu64
                       " MiB that can lie below 4 GiB: make them smaller",
                       k->file.path, GMEM_LOW_MAX / MIB);
    if (need > low)
        return err_set(e, ENOMEM,
                       "memory: %" PRIu64 " MiB is too little for kernel %s (%" PRIu64
                       " KiB up to the end of its range) and its initrds (%" PRIu64
                       " KiB), %" PRIu64 " MiB to be loaded: give --memory at least %" PRIu64
                       " MiB",
                       m->size / MIB, k->file.path, kernel_end / KIB, size / KIB, to_mib(need),
                       to_mib(need + need / RUN_SHARE + size));
    *base = 0;
    if (size == 0)
        return 0;
    if (need > k->initrd_limit)
        return err_set(e, EFBIG,
                       "initrd %s: %" PRIu64 " KiB do not fit under %#" PRIx64
                       ", where kernel %s wants them: make them smaller",
                       r->file[0].path, size / KIB, k->initrd_limit, k->file.path);
    *base = align_down_u64(min_u64(low, k->initrd_limit) - size, PAGE);
    return 0;
}

/* Kernel and initrds into RAM; fills what the kernel is told of them. */
static int boot_load_files(struct gmem *m, const struct boot_config *c, struct kernel *k,
                           struct boot_info *b, struct err *e)
{
    struct initrds r;
    int ret = initrds_open(&r, c, e);

    if (ret)
        return ret;
    ret = boot_place(m, k, &r, &b->initrd, e);
    if (ret == 0)
        ret = kernel_load(k, m, e);
    if (ret == 0)
        ret = initrds_load(&r, m, (gpa_t){ b->initrd }, e);
    b->initrd_size = r.size;
    initrds_close(&r);
    return ret;
}

int boot_load(struct gmem *m, const struct boot_config *c, struct boot_state *s, struct err *e)
{
    struct boot_info info = { .acpi = !c->mmio_cmdline };
    struct kernel k;
    int ret = boot_check_config(c, e);

    if (ret)
        return ret;
    char *cmdline = gmem_span(m, (gpa_t){ LAYOUT_CMDLINE }, LAYOUT_CMDLINE_LEN);

    if (!cmdline || m->region[0].len < LAYOUT_KERNEL_MIN)
        return err_set(e, ENOMEM, "memory: %" PRIu64 " KiB is too little: 1 MiB is ours alone",
                       m->size / KIB);
    ret = kernel_open(&k, c->kernel, c->entry, e);
    if (ret)
        return ret;
    /* The cheap things that can fail come before the reading. */
    ret = cmdline_build(c, cmdline, LAYOUT_CMDLINE_LEN, k.cmdline_max, e);
    if (ret == 0 && info.acpi)
        ret = acpi_build(m, c, e);
    else if (ret == 0)
        mptable_build(m);
    if (ret == 0)
        ret = boot_load_files(m, c, &k, &info, e);
    if (ret)
        goto out;
    if (k.mode == BOOT_MODE_LONG64)
        zeropage_build(m, &k.hdr, &info, c->seed);
    else
        pvh_build(m, &info);
    cpustate_build(m, k.mode, k.entry, s);
out:
    kernel_close(&k);
    return ret;
}
