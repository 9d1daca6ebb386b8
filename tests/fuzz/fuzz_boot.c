/* What the loader builds beside the kernel: command line, initrds, ACPI tables, memory map, for any
 * configuration of CPUs, devices, memory and text; then what a guest may say at the power ports.
 *
 * The kernel is a valid one. What was built is read back here as a guest would, by the structures
 * of ACPI 6.3, Linux's boot protocol and Xen's start info. */
#include "tests/fuzz/image.h"
#include "tests/unit/boot_image.h"

#include "boot/layout.h"
#include "boot/power.h"
#include "boot/pvh.h"

#define INITRDS (BOOT_INITRDS_MAX + 2) /* more than are taken */
#define TEXT    2600                   /* longer than any kernel takes */

struct fuzz {
    struct boot_config c;
    struct boot_device device[BOOT_DEVICES_MAX];
    const char *initrd[INITRDS];
    uint8_t which[INITRDS]; /* of the files */
    char text[TEXT];
    uint8_t file[3][600];
    size_t file_len[3];
    size_t limit; /* of the command line, the kernel's */
    struct gmem m;
};

/* --- what was built ----------------------------------------------------------------------- */

static const uint8_t *at(const struct fuzz *z, uint64_t gpa, uint64_t len)
{
    const uint8_t *p = gmem_span(&z->m, (gpa_t){ gpa }, len);

    FUZZ_CHECK(p, "0x%jx is no memory", (uintmax_t)gpa);
    return p;
}

static uint64_t number(const struct fuzz *z, uint64_t gpa, size_t len)
{
    uint64_t v = 0;

    memcpy(&v, at(z, gpa, len), len);
    return v;
}

static void check_sum(const struct fuzz *z, uint64_t gpa, uint64_t len)
{
    const uint8_t *p = at(z, gpa, len);
    uint8_t sum = 0;

    FUZZ_CHECK(gpa >= LAYOUT_ACPI && range_within(gpa - LAYOUT_ACPI, len, LAYOUT_ACPI_LEN),
               "a table at 0x%jx", (uintmax_t)gpa);
    for (uint64_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + p[i]);
    FUZZ_CHECK(sum == 0, "the checksum of %.4s", p);
}

static unsigned count_text(const uint8_t *p, uint64_t len, const char *text)
{
    unsigned n = 0;

    for (const uint8_t *end = p + len; (p = memmem(p, (size_t)(end - p), text, strlen(text))); p++)
        n++;
    return n;
}

static void check_acpi(const struct fuzz *z)
{
    const uint64_t rsdp = LAYOUT_ACPI;
    uint64_t xsdt = number(z, rsdp + 24, 8), len = number(z, xsdt + 4, 4), tables = 0;

    FUZZ_CHECK(!memcmp(at(z, rsdp, 8), "RSD PTR ", 8), "no RSDP");
    check_sum(z, rsdp, 20);
    check_sum(z, rsdp, 36);
    check_sum(z, xsdt, len);
    for (uint64_t i = 36; i + 8 <= len; i += 8, tables++) {
        uint64_t t = number(z, xsdt + i, 8), t_len = number(z, t + 4, 4);

        check_sum(z, t, t_len);
        if (!memcmp(at(z, t, 4), "APIC", 4)) /* 8 bytes a CPU, 12 the IOAPIC */
            FUZZ_CHECK(t_len == 44 + 8 * (uint64_t)z->c.cpus + 12, "MADT of %ju", (uintmax_t)t_len);
        if (memcmp(at(z, t, 4), "FACP", 4) != 0)
            continue;
        uint64_t dsdt = number(z, t + 140, 8), dsdt_len = number(z, dsdt + 4, 4);

        FUZZ_CHECK(dsdt == number(z, t + 40, 4), "two DSDTs");
        check_sum(z, dsdt, dsdt_len);
        FUZZ_CHECK(count_text(at(z, dsdt, dsdt_len), dsdt_len, "LNRO0005") ==
                       (unsigned)z->c.n_devices,
                   "devices in the DSDT");
    }
    FUZZ_CHECK(tables == 2, "%ju tables", (uintmax_t)tables);
}

/* Ascending, without overlap, all of it RAM; the initrd and the kernel are in the usable part. */
static void check_map(const struct fuzz *z, uint64_t gpa, unsigned n, size_t each, uint64_t initrd,
                      uint64_t initrd_len)
{
    uint64_t end = 0;
    bool found = initrd_len == 0;

    FUZZ_CHECK(n >= 2 && n <= 4, "%u entries", n);
    for (unsigned i = 0; i < n; i++, gpa += each) {
        uint64_t from = number(z, gpa, 8), len = number(z, gpa + 8, 8),
                 type = number(z, gpa + 16, 4);

        FUZZ_CHECK(from >= end && (len || from == LAYOUT_KERNEL_MIN), "entry %u", i);
        FUZZ_CHECK(type == 1 || (type == 3 && from == LAYOUT_ACPI), "type %ju", (uintmax_t)type);
        FUZZ_CHECK(len == 0 || gmem_span(&z->m, (gpa_t){ from }, len), "entry %u is no RAM", i);
        found |= type == 1 && initrd >= from && range_within(initrd - from, initrd_len, len);
        end = from + len;
    }
    FUZZ_CHECK(found, "the initrd lies outside the map");
}

static void check_initrd(const struct fuzz *z, uint64_t gpa, uint64_t len)
{
    uint64_t want = 0;

    FUZZ_CHECK(gpa % 4096 == 0, "an initrd at 0x%jx", (uintmax_t)gpa);
    for (int i = 0; i < z->c.n_initrds; i++) {
        size_t f = z->which[i];

        FUZZ_CHECK(memcmp(at(z, gpa + want, z->file_len[f]), z->file[f], z->file_len[f]) == 0,
                   "initrd %d", i);
        for (want += z->file_len[f]; want % 4; want++)
            FUZZ_CHECK(number(z, gpa + want, 1) == 0, "initrd %d is not padded by zeros", i);
    }
    FUZZ_CHECK(want == len, "initrds of %ju bytes", (uintmax_t)len);
}

static void check_cmdline(const struct fuzz *z)
{
    const char *line = (const char *)at(z, LAYOUT_CMDLINE, LAYOUT_CMDLINE_LEN);
    size_t len = strnlen(line, LAYOUT_CMDLINE_LEN), user = strlen(z->text);

    FUZZ_CHECK(len <= z->limit, "a command line of %zu bytes", len);
    FUZZ_CHECK(len >= user && !strcmp(line + len - user, z->text), "the user's words are not last");
    FUZZ_CHECK(z->c.cmdline_raw ? len == user : !strncmp(line, "console=hvc0 ", 13), "%s", line);
    if (z->c.mmio_cmdline && !z->c.cmdline_raw)
        FUZZ_CHECK(count_text((const uint8_t *)line, len - user, "virtio_mmio.device=4K@0xd00") ==
                       (unsigned)z->c.n_devices,
                   "%s", line);
}

static void check_built(struct fuzz *z, const struct boot_state *s)
{
    bool pvh = s->mode == BOOT_MODE_PVH32;
    const uint64_t zp = LAYOUT_ZERO_PAGE;
    uint64_t initrd = 0, len = 0;

    if (pvh) {
        struct pvh_start_info i;

        memcpy(&i, at(z, s->rbx, sizeof i), sizeof i);
        FUZZ_CHECK(i.magic == PVH_MAGIC && i.cmdline == LAYOUT_CMDLINE, "start info");
        FUZZ_CHECK(i.rsdp == (z->c.mmio_cmdline ? 0 : LAYOUT_ACPI), "RSDP");
        if (i.nr_modules) {
            initrd = number(z, i.modlist, 8);
            len = number(z, i.modlist + 8, 8);
        }
        check_map(z, i.memmap, i.memmap_entries, 24, initrd, len);
    } else {
        initrd = number(z, zp + 0x218, 4);
        len = number(z, zp + 0x21c, 4);
        FUZZ_CHECK(number(z, zp + 0x070, 8) == (z->c.mmio_cmdline ? 0 : LAYOUT_ACPI), "RSDP");
        if (number(z, zp + 0x258, 8)) { /* a bzImage says where it unpacks itself */
            uint64_t end = number(z, zp + 0x258, 8) + number(z, zp + 0x260, 4);

            FUZZ_CHECK(end <= z->m.region[0].len && (!len || end <= initrd),
                       "the kernel has no room to unpack");
        }
        check_map(z, zp + 0x2d0, (unsigned)number(z, zp + 0x1e8, 1), 20, initrd, len);
    }
    FUZZ_CHECK((len > 0) == (z->c.n_initrds > 0), "an initrd of %ju bytes", (uintmax_t)len);
    check_initrd(z, initrd, len);
    check_cmdline(z);
    if (!z->c.mmio_cmdline)
        check_acpi(z);
}

/* --- what a guest says -------------------------------------------------------------------- */

static void play_power(struct fuzz *z, struct input *in)
{
    static const uint16_t ports[] = { 0x64, 0x600, 0x601, 0x602, 0x603, 0x5ff, 0xffff, 0x63 };
    struct power p = { 0 };
    uint8_t data[4], back[4 + 1];

    for (unsigned i = 0; i < 8 && in->left; i++) {
        uint8_t how = in_u8(in);
        uint16_t port = how & 8 ? in_u16(in) : ports[how % ARRAY_LEN(ports)];
        unsigned len = 1U << (how >> 4) % 3;
        bool near = port >= 0x5fd && port <= 0x602, old = port >= 0x61 && port <= 0x64;

        in_bytes(in, data, sizeof data);
        enum power_event ev = power_io_write(&p, port, data, len);

        FUZZ_CHECK(ev == POWER_NONE || near || old, "port 0x%x ends the VM", port);
        memset(back, 0xcc, sizeof back);
        power_io_read(&p, port, back, len);
        FUZZ_CHECK(back[len] == 0xcc, "an IN of %u writes more", len);
        for (unsigned k = 0; k < len && !near && !old; k++)
            FUZZ_CHECK(back[k] == 0xff, "port 0x%x", port + k);
    }
    uint16_t word = in_u16(in);

    memcpy(z->m.region[0].host + LAYOUT_WARM_WORD, &word, 2);
    FUZZ_CHECK(boot_panicked(&z->m) == (word == 0x1234), "the guest's last word");
}

/* --- the configuration -------------------------------------------------------------------- */

static void make_kernel(struct fuzz *z, uint8_t how, struct input *in)
{
    static uint8_t bz[BZ_LEN + BZ_EXTRA];
    struct elf_image elf = elf_make();

    bz_make(bz);
    BZ_HDR(bz)->cmdline_size = in_u16(in) % TEXT;
    z->limit = how & 1 ? 2047 : BZ_HDR(bz)->cmdline_size;
    if ((how & 3) == 2) { /* PVH is not for it */
        BZ_HDR(bz)->initrd_addr_max = in_u32(in);
        how = 0;
    }
    if (how & 1)
        z->c.kernel = image_file(0, &elf, sizeof elf);
    else
        z->c.kernel = image_file(0, bz, sizeof bz);
    if (how & 2)
        z->c.entry = BOOT_ENTRY_PVH;
}

static void make_config(struct fuzz *z, struct input *in)
{
    static uint8_t high[4096];
    uint8_t how = in_u8(in), more = in_u8(in);
    struct err e;

    make_kernel(z, how, in);
    z->c.mmio_cmdline = how & 4;
    z->c.cpus = how & 8 ? in_u8(in) : 1;
    z->c.n_initrds = more % 128 % (INITRDS + 1);
    z->c.initrds = z->initrd;
    for (unsigned i = 0; i < 3; i++) {
        z->file_len[i] = z->c.n_initrds ? in_u16(in) % sizeof z->file[i] : 0;
        memset(z->file[i], 'a' + (int)i, sizeof z->file[i]);
    }
    for (int i = 0; i < z->c.n_initrds; i++) {
        z->which[i] = in_u8(in) % 3;
        z->initrd[i] = image_file(1U + z->which[i], z->file[z->which[i]], z->file_len[z->which[i]]);
    }
    for (unsigned n = how & 16 ? in_u8(in) % 24 : 2; z->c.n_devices < (int)n; z->c.n_devices++)
        if (boot_device_slot((unsigned)z->c.n_devices, z->c.mmio_cmdline,
                             &z->device[z->c.n_devices], &e))
            break;
    z->c.devices = z->device;
    in_text(in, z->text, sizeof z->text);
    if (how & 32)
        memset(z->text, 'x', more * 10U); /* long ones need not be in the input */
    *(how & 64 ? &z->c.cmdline_raw : &z->c.cmdline_extra) = z->text;
    uint16_t pages = how & 128 ? in_u16(in) : 0;
    uint64_t ram = IMAGE_RAM - pages % (IMAGE_RAM / 4096) * UINT64_C(4096);

    if (pages & 0x8000) /* about what the kernels need at least */
        ram = BZ_PREF + BZ_INIT + (pages % 8) * UINT64_C(4096) - UINT64_C(4) * 4096;
    image_ram(&z->m, ram);
    if (more & 128) { /* as if the low part were full */
        z->m.region[1] = (struct gmem_region){ GMEM_HIGH_BASE, sizeof high, high };
        z->m.n = 2;
    }
}

void fuzz_one(struct input *in)
{
    static struct fuzz z;
    struct boot_state s;

    z.c = (struct boot_config){ .seed = "a seed" };
    memset(z.text, 0, sizeof z.text);
    make_config(&z, in);
    if (image_load(&z.m, &z.c, &s) == 0) {
        FUZZ_CHECK(z.c.cpus >= 1 && z.c.cpus <= 64 && (z.c.cpus == 1 || !z.c.mmio_cmdline), "CPUs");
        check_built(&z, &s);
        play_power(&z, in);
    }
}
