/* The command line; see cmdline.h.
 *
 *   default  [acpi=off and the devices]  what the user adds
 *
 * Ours goes first: where a word comes twice the kernel takes the last, so the user's wins, and
 * behind a " -- " of the user's every word would be init's.
 */
#include "boot/cmdline.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/num.h"

static const char *const defaults[] = {
    "console=hvc0", /* the virtio console is the only one */
    /* A panic ends the VM at once, and the warm reset is how we know that it was one (power.h). */
    "panic=-1",
    "reboot=panic_warm",
    "pci=off",         /* no host bridge: spares hundreds of reads of configuration ports */
    "8250.nr_uarts=0", /* no serial port: spares the probe of four */
    /* virtio devices here reach all memory, so bounce buffers (64 MiB, as soon as there is RAM
     * above 4 GiB) would never be used. */
    "swiotlb=noforce",
};

static const char *const defaults_mmio[] = {
    "acpi=off", /* there are no tables, and the kernel would look for them */
    /* No table says that there is no keyboard controller. Linux would probe for it, and wait half
     * a second, as port 0x64 reads 0. */
    "initcall_blacklist=i8042_init",
};

struct text {
    char *p;
    size_t cap, len; /* len counts on when cap is used up */
};

__attribute__((format(printf, 2, 3))) static void text_add(struct text *t, const char *fmt, ...)
{
    size_t room = t->len < t->cap ? t->cap - t->len : 0;
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(room ? t->p + t->len : NULL, room, fmt, ap);
    va_end(ap);
    t->len += n > 0 ? (size_t)n : 0;
}

/* Whether a word of the kernel's (none behind "--") announces a device. The kernel reads '-' in
 * names as '_'. */
static bool cmdline_has_device(const char *s)
{
    static const char name[] = "virtio_mmio.device=";

    while (*s) {
        size_t len = strcspn(s, " \t\n"), i = 0;

        if (len == 2 && memcmp(s, "--", 2) == 0)
            return false;
        while (i < sizeof name - 1 && (s[i] == '-' ? '_' : s[i]) == name[i])
            i++;
        if (i == sizeof name - 1)
            return true;
        s += len + strspn(s + len, " \t\n");
    }
    return false;
}

static void cmdline_add_words(struct text *t, const char *const *word, size_t n)
{
    for (size_t i = 0; i < n; i++)
        text_add(t, "%s%s", t->len ? " " : "", word[i]);
}

int cmdline_build(const struct boot_config *c, char *buf, size_t cap, size_t limit, struct err *e)
{
    const char *user = c->cmdline_raw ? c->cmdline_raw : c->cmdline_extra;
    struct text t = { .p = buf, .cap = cap };

    if (user && !c->mmio_cmdline && cmdline_has_device(user))
        return err_set(e, EINVAL,
                       "cmdline: has virtio_mmio.device= while ACPI announces the same "
                       "devices: leave it out, or use --mmio-cmdline");
    if (!c->cmdline_raw) {
        cmdline_add_words(&t, defaults, ARRAY_LEN(defaults));
        if (c->mmio_cmdline)
            cmdline_add_words(&t, defaults_mmio, ARRAY_LEN(defaults_mmio));
        for (int i = 0; c->mmio_cmdline && i < c->n_devices; i++)
            text_add(&t, " virtio_mmio.device=%uK@%#" PRIx64 ":%u", c->devices[i].len / 1024,
                     c->devices[i].base.v, c->devices[i].gsi);
    }
    if (user && *user)
        text_add(&t, "%s%s", t.len ? " " : "", user);
    limit = min_size(limit, cap - 1);
    if (t.len > limit)
        return err_set(e, E2BIG,
                       "cmdline: is %zu bytes long, this kernel takes %zu: shorten --cmdline",
                       t.len, limit);
    buf[t.len] = '\0';
    return 0;
}
