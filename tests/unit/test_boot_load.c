/* The loader against small kernels made here: what it reads where, and what it tells the kernel. */
#include "boot/e820.h"
#include "boot/layout.h"
#include "boot/pvh.h"
#include "tests/unit/boot_image.h"

static const struct boot_params *zero_page(struct gmem *m)
{
    return gmem_span(m, (gpa_t){ LAYOUT_ZERO_PAGE }, sizeof(struct boot_params));
}

static const char *cmdline(struct gmem *m)
{
    return gmem_span(m, (gpa_t){ LAYOUT_CMDLINE }, LAYOUT_CMDLINE_LEN);
}

/* --- the whole way ---------------------------------------------------------------------------- */

static void test_bzimage(void **state)
{
    (void)state;
    uint8_t raw[BZ_LEN + BZ_EXTRA];

    bz_make(raw);
    struct image k = image_new(raw, sizeof raw);
    struct gmem m = ram(16 * MIB);
    struct boot_config c = config(&k);
    struct boot_state s = load(&m, &c);
    const struct boot_params *z = zero_page(&m);

    assert_int_equal(s.mode, BOOT_MODE_LONG64);
    assert_int_equal(s.rip, BZ_PREF + 0x200);
    assert_int_equal(s.rsi, LAYOUT_ZERO_PAGE);
    assert_memory_equal(gmem_span(&m, (gpa_t){ BZ_PREF }, BZ_CODE), raw + BZ_SETUP, BZ_CODE);
    assert_int_equal(*(uint8_t *)gmem_span(&m, (gpa_t){ BZ_PREF + BZ_CODE }, 1), 0);
    assert_int_equal(z->hdr.header, 0x53726448);
    assert_int_equal(z->hdr.kernel_alignment, 0x200000);
    assert_int_equal(z->hdr.type_of_loader, 0xff);
    assert_int_equal(z->hdr.cmd_line_ptr, LAYOUT_CMDLINE);
    assert_int_equal(z->hdr.ramdisk_image, 0);
    assert_int_equal(z->hdr.ramdisk_size, 0);
    assert_int_equal(z->sentinel, 0);
    /* The header ends where it says (0x202 + 0x6a); code behind it stays out. */
    assert_int_equal(((const uint8_t *)z)[0x26c], 0);
    assert_int_equal(z->acpi_rsdp_addr, LAYOUT_ACPI);

    const struct setup_data *d = gmem_span(&m, (gpa_t){ z->hdr.setup_data }, sizeof *d + 32);

    assert_int_equal(d->type, 9);
    assert_int_equal(d->len, 32);
    assert_int_equal(d->next, 0);
    assert_memory_equal(d->data, c.seed, 32);
    gmem_fini(&m);
    close(k.fd);
}

static void test_elf_entries(void **state)
{
    (void)state;
    struct elf_image f = elf_make();
    struct image k = image_new(&f, sizeof f);
    struct gmem m = ram(16 * MIB);
    struct boot_config c = config(&k);
    struct boot_state s = load(&m, &c);

    assert_int_equal(s.mode, BOOT_MODE_LONG64);
    assert_int_equal(s.rip, ELF_TEXT + 16);
    assert_int_equal(zero_page(&m)->hdr.boot_flag, 0xaa55);
    assert_int_equal(zero_page(&m)->hdr.setup_data, LAYOUT_SETUP);
    assert_memory_equal(gmem_span(&m, (gpa_t){ ELF_DATA }, 64), f.data, 64);

    c.entry = BOOT_ENTRY_PVH;
    s = load(&m, &c);
    assert_int_equal(s.mode, BOOT_MODE_PVH32);
    assert_int_equal(s.rip, ELF_TEXT + 32);
    assert_int_equal(s.rbx, LAYOUT_PVH);
    assert_int_equal(s.cr0 & ~UINT64_C(0x10), 1);
    assert_int_equal(s.cr4, 0);

    /* A virtual entry: AUTO goes by the note, ELF refuses. */
    f.h.e_entry = 0xffffffff80000000 + ELF_TEXT;
    image_write(&k, &f, sizeof f);
    c.entry = BOOT_ENTRY_AUTO;
    assert_int_equal(load(&m, &c).mode, BOOT_MODE_PVH32);
    c.entry = BOOT_ENTRY_ELF;
    assert_refused(&m, &c, "--entry=pvh");
    /* And without the note. */
    f.note.pvh.n_type = 17;
    image_write(&k, &f, sizeof f);
    c.entry = BOOT_ENTRY_AUTO;
    assert_refused(&m, &c, "CONFIG_PVH");
    gmem_fini(&m);
    close(k.fd);
}

static void test_pvh_info(void **state)
{
    (void)state;
    struct elf_image f = elf_make();
    struct image k = image_new(&f, sizeof f), r = image_new("12345", 5);
    struct gmem m = ram(5 * GIB);
    struct boot_config c = config(&k);

    c.entry = BOOT_ENTRY_PVH;
    c.initrds = (const char *[]){ r.path };
    c.n_initrds = 1;
    load(&m, &c);
    const struct pvh_start_info *p = gmem_span(&m, (gpa_t){ LAYOUT_PVH }, sizeof *p);

    assert_int_equal(p->magic, 0x336ec578);
    assert_int_equal(p->version, 1);
    assert_int_equal(p->rsdp, LAYOUT_ACPI);
    assert_int_equal(p->cmdline, LAYOUT_CMDLINE);
    assert_int_equal(p->nr_modules, 1);
    const struct pvh_module *mod = gmem_span(&m, (gpa_t){ p->modlist }, sizeof *mod);

    assert_int_equal(mod->addr, 3 * GIB - 4096);
    assert_int_equal(mod->size, 8);
    assert_memory_equal(gmem_span(&m, (gpa_t){ mod->addr }, 8), "12345\0\0\0", 8);
    assert_int_equal(p->memmap_entries, 4);
    const struct pvh_memmap *map = gmem_span(&m, (gpa_t){ p->memmap }, 4 * sizeof *map);

    assert_int_equal(map[3].addr, 4 * GIB);
    assert_int_equal(map[3].size, 2 * GIB);
    gmem_fini(&m);
    close(k.fd);
    close(r.fd);
}

static void test_cpu_state(void **state)
{
    (void)state;
    uint8_t raw[BZ_LEN + BZ_EXTRA];

    bz_make(raw);
    struct image k = image_new(raw, sizeof raw);
    struct gmem m = ram(16 * MIB);
    struct boot_config c = config(&k);
    struct boot_state s = load(&m, &c);
    const uint64_t *gdt = gmem_span(&m, (gpa_t){ s.gdt_base }, s.gdt_limit + 1u);

    /* What every 64-bit loader has there: boot.rst wants 0x10 and 0x18. */
    assert_int_equal(s.code.selector, 0x10);
    assert_int_equal(s.data.selector, 0x18);
    assert_int_equal(gdt[2], 0x00af9b000000ffff);
    assert_int_equal(gdt[3], 0x00cf93000000ffff);
    assert_int_equal(gdt[4], 0x00008b0000000067);
    assert_int_equal(gdt[0], 0);
    /* Walk to the last byte below 4 GiB and to the kernel. */
    for (int i = 0; i < 2; i++) {
        uint64_t va = i ? 4 * GIB - 1 : s.rip, e;

        assert_int_equal(gmem_read(&m, (gpa_t){ s.cr3 }, &e, 8), 0);
        assert_int_equal(gmem_read(&m, (gpa_t){ (e & ~0xfffull) + (va >> 30) * 8 }, &e, 8), 0);
        assert_int_equal(gmem_read(&m, (gpa_t){ (e & ~0xfffull) + (va >> 21 & 511) * 8 }, &e, 8),
                         0);
        assert_int_equal(e, (va & ~(2 * MIB - 1)) | 0x83);
    }
    assert_int_equal(s.cr0, 0x80000031);
    assert_int_equal(s.cr4, 0x20);
    assert_int_equal(s.efer, 0x500);
    gmem_fini(&m);
    close(k.fd);
}

static void test_e820(void **state)
{
    (void)state;
    static const struct {
        uint64_t size, low, high;
    } rows[] = {
        { 96 * MIB, 96 * MIB, 0 },
        { 3 * GIB, 3 * GIB, 0 },
        { 3 * GIB + 4096, 3 * GIB, 4096 },
        { 5 * GIB, 3 * GIB, 2 * GIB },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (int acpi = 0; acpi < 2; acpi++) {
            struct gmem m = ram(rows[i].size);
            struct boot_e820_entry e[E820_MAX];
            int n = e820_build(&m, acpi, e), at = 0;

            assert_int_equal(n, 2 + acpi + (rows[i].high != 0));
            assert_int_equal(e[at].addr, 0);
            assert_int_equal(e[at].size, 0x9fc00);
            assert_int_equal(e[at++].type, 1);
            if (acpi) {
                assert_int_equal(e[at].addr, 0xe0000);
                assert_int_equal(e[at].size, 0x20000);
                assert_int_equal(e[at++].type, 3);
            }
            assert_int_equal(e[at].addr, MIB);
            assert_int_equal(e[at++].size, rows[i].low - MIB);
            if (rows[i].high) {
                assert_int_equal(e[at].addr, 4 * GIB);
                assert_int_equal(e[at].size, rows[i].high);
            }
            gmem_fini(&m);
        }
}

/* --- memory and initrds ----------------------------------------------------------------------- */

static void test_initrd_place(void **state)
{
    (void)state;
    uint8_t raw[BZ_LEN + BZ_EXTRA], a[4099], b[5000];

    bz_make(raw);
    memset(a, 'a', sizeof a);
    memset(b, 'b', sizeof b);
    struct image k = image_new(raw, sizeof raw);
    struct image ra = image_new(a, sizeof a), rb = image_new(b, sizeof b);
    struct gmem m = ram(16 * MIB);
    struct boot_config c = config(&k);

    c.initrds = (const char *[]){ ra.path, rb.path, ra.path };
    c.n_initrds = 3;
    load(&m, &c);
    const struct boot_params *z = zero_page(&m);
    const uint8_t *p = gmem_span(&m, (gpa_t){ z->hdr.ramdisk_image }, z->hdr.ramdisk_size);

    assert_int_equal(z->hdr.ramdisk_size, 4100 + 5000 + 4100);
    assert_int_equal(z->hdr.ramdisk_image, 16 * MIB - 16 * KIB);
    assert_memory_equal(p, a, sizeof a);
    assert_int_equal(p[4099], 0);
    assert_memory_equal(p + 4100, b, sizeof b);
    assert_memory_equal(p + 9100, a, sizeof a);
    assert_int_equal(p[9100 + 4099], 0);

    /* The kernel wants them lower. */
    BZ_HDR(raw)->initrd_addr_max = 5 * MIB + 123;
    image_write(&k, raw, sizeof raw);
    load(&m, &c);
    assert_int_equal(z->hdr.ramdisk_image, 5 * MIB - 16 * KIB);
    /* Just above the kernel is the last place. */
    BZ_HDR(raw)->initrd_addr_max = BZ_PREF + BZ_INIT + 16 * KIB - 1;
    image_write(&k, raw, sizeof raw);
    load(&m, &c);
    assert_int_equal(z->hdr.ramdisk_image, BZ_PREF + BZ_INIT);
    BZ_HDR(raw)->initrd_addr_max--;
    image_write(&k, raw, sizeof raw);
    assert_refused(&m, &c, "do not fit under 0x303fff");

    c.initrds = (const char *[]){ ra.path, "/nonexistent/initrd" };
    c.n_initrds = 2;
    assert_refused(&m, &c, "initrd /nonexistent/initrd: No such file");
    const char *many[BOOT_INITRDS_MAX + 1] = { 0 };

    c.initrds = many;
    c.n_initrds = ARRAY_LEN(many);
    assert_refused(&m, &c, "at most 16");
    gmem_fini(&m);
    close(k.fd);
    close(ra.fd);
    close(rb.fd);
}

/* The minimum that a refusal names is enough, and a MiB less is not. */
static void test_minimum(void **state)
{
    (void)state;
    static const struct {
        uint64_t init;
        size_t initrd;
        unsigned min;
    } rows[] = {
        { MIB, 0, 3 },
        { MIB + 1, 0, 4 },
        { 1, 0, 3 },
        { MIB, 1, 4 },
        { MIB, MIB, 4 },
        { MIB, MIB + 1, 5 },
        { MIB - 4096, 1, 3 },
        { MIB - 4095, 4096, 4 },
        { 3 * MIB - 4096, 4097, 6 },
        { 60 * MIB, 5000001, 67 },
    };
    uint8_t raw[BZ_LEN + BZ_EXTRA];
    static uint8_t rd[5000001];

    bz_make(raw);
    struct image k = image_new(raw, sizeof raw), r = image_new("", 0);

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char word[64];
        struct boot_config c = config(&k);

        BZ_HDR(raw)->init_size = (uint32_t)rows[i].init;
        image_write(&k, raw, sizeof raw);
        image_write(&r, rd, rows[i].initrd);
        c.initrds = (const char *[]){ r.path };
        c.n_initrds = rows[i].initrd != 0;
        snprintf(word, sizeof word, "), %u MiB to be loaded: give --memory at least ", rows[i].min);
        struct gmem m = ram((rows[i].min - 1) * MIB);

        assert_refused(&m, &c, word);
        gmem_fini(&m);
        m = ram(1 * MIB);
        assert_refused(&m, &c, word);
        gmem_fini(&m);
        m = ram(rows[i].min * MIB);
        load(&m, &c);
        gmem_fini(&m);
    }
    /* What can never fit is not promised. */
    struct boot_config c = config(&k);
    struct gmem m = ram(4 * GIB);

    BZ_HDR(raw)->pref_address = 3 * GIB - MIB;
    BZ_HDR(raw)->init_size = MIB;
    image_write(&k, raw, sizeof raw);
    load(&m, &c);
    BZ_HDR(raw)->init_size = MIB + 1;
    image_write(&k, raw, sizeof raw);
    assert_refused(&m, &c, "more than the 3072 MiB");
    gmem_fini(&m);
    close(k.fd);
    close(r.fd);
}

/* --- command line ----------------------------------------------------------------------------- */

static uint8_t sum_of(const uint8_t *p, size_t n)
{
    uint8_t sum = 0;

    while (n--)
        sum = (uint8_t)(sum + *p++);
    return sum;
}

/* Found and walked as a kernel does: a signature on a 16-byte boundary, entries by their types. */
static void test_mptable(void **state)
{
    (void)state;
    static const uint8_t len_of[] = { 20, 8, 8, 8, 8 };
    unsigned seen[ARRAY_LEN(len_of)] = { 0 }, pins = 0;
    uint8_t raw[BZ_LEN + BZ_EXTRA];
    const uint8_t *pointer = NULL;

    bz_make(raw);
    struct image k = image_new(raw, sizeof raw);
    struct gmem m = ram(16 * MIB);
    struct boot_config c = config(&k);

    load(&m, &c); /* ACPI says it all */
    for (uint64_t at = 0xf0000; at < 0x100000; at += 16)
        assert_memory_not_equal(gmem_span(&m, (gpa_t){ at }, 4), "_MP_", 4);
    c.mmio_cmdline = true;
    load(&m, &c);
    for (uint64_t at = 0xf0000; at < 0x100000 && !pointer; at += 16)
        if (memcmp(gmem_span(&m, (gpa_t){ at }, 4), "_MP_", 4) == 0)
            pointer = gmem_span(&m, (gpa_t){ at }, 16);
    assert_non_null(pointer);
    assert_int_equal(pointer[8], 1);
    assert_int_equal(sum_of(pointer, 16), 0);

    uint32_t at;
    uint16_t len, entries;

    memcpy(&at, pointer + 4, 4);
    const uint8_t *t = gmem_span(&m, (gpa_t){ at }, 44);

    assert_memory_equal(t, "PCMP", 4);
    memcpy(&len, t + 4, 2);
    memcpy(&entries, t + 34, 2);
    assert_int_equal(sum_of(t, len), 0);
    const uint8_t *p = t + 44;

    for (unsigned i = 0; i < entries; i++) {
        assert_in_range(p[0], 0, ARRAY_LEN(len_of) - 1);
        seen[p[0]]++;
        if (p[0] == 3) { /* edge or level as ISA has it; pin = irq, at the one IOAPIC */
            assert_int_equal(p[5], p[7]);
            assert_int_equal(p[6], 1);
            pins |= 1u << p[7];
        }
        p += len_of[p[0]];
    }
    assert_int_equal(p - t, len);
    assert_int_equal(seen[0], 1);
    assert_int_equal(seen[1], 1);
    assert_int_equal(seen[2], 1);
    assert_int_equal(seen[4], 2);
    assert_int_equal(pins, 0xfffb); /* but for the cascade: every interrupt that a device may get */
}

static void test_cmdline(void **state)
{
    (void)state;
    uint8_t raw[BZ_LEN + BZ_EXTRA];
    struct boot_device dev[2];
    struct err e;
    char text[300];

    bz_make(raw);
    struct image k = image_new(raw, sizeof raw);
    struct gmem m = ram(16 * MIB);
    struct boot_config c = config(&k);

    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(boot_device_slot(i, true, &dev[i], &e), 0);
    c.devices = dev;
    c.n_devices = 2;
    c.cmdline_extra = "root=/dev/vda panic=7 -- -x";
    load(&m, &c);
    assert_non_null(strstr(cmdline(&m), "console=hvc0 panic=-1 reboot=panic_warm"));
    assert_null(strstr(cmdline(&m), "acpi=off"));
    assert_null(strstr(cmdline(&m), "virtio_mmio"));
    assert_string_equal(strstr(cmdline(&m), " root="), " root=/dev/vda panic=7 -- -x");

    c.mmio_cmdline = true;
    load(&m, &c);
    assert_non_null(strstr(cmdline(&m), " acpi=off "));
    assert_non_null(strstr(cmdline(&m), " virtio_mmio.device=4K@0xd0000000:5 "
                                        "virtio_mmio.device=4K@0xd0001000:6 root="));
    assert_int_equal(zero_page(&m)->acpi_rsdp_addr, 0);
    assert_int_equal(zero_page(&m)->e820_entries, 2);

    c.cmdline_raw = "only this";
    load(&m, &c);
    assert_string_equal(cmdline(&m), "only this");
    c.cmdline_raw = "";
    load(&m, &c);
    assert_string_equal(cmdline(&m), "");

    /* Never both ways at once; behind "--" it is init's word. */
    c.mmio_cmdline = false;
    c.cmdline_raw = "quiet virtio-mmio.device=4K@0xd0000000:5";
    assert_refused(&m, &c, "--mmio-cmdline");
    c.cmdline_raw = "quiet -- virtio_mmio.device=4K@0xd0000000:5";
    load(&m, &c);

    /* The kernel's limit, exactly. */
    memset(text, 'x', sizeof text);
    text[255] = '\0';
    c.cmdline_raw = text;
    load(&m, &c);
    text[255] = 'x';
    text[256] = '\0';
    assert_refused(&m, &c, "256 bytes long, this kernel takes 255");
    gmem_fini(&m);
    close(k.fd);
}

static void test_cmdline_limits(void **state)
{
    (void)state;
    static char text[LAYOUT_CMDLINE_LEN + 1];
    struct elf_image f = elf_make();
    uint8_t raw[BZ_LEN + BZ_EXTRA];

    bz_make(raw);
    BZ_HDR(raw)->cmdline_size = UINT32_MAX;
    struct image elf = image_new(&f, sizeof f), bz = image_new(raw, sizeof raw);
    const struct {
        const struct image *k;
        size_t max;
    } rows[] = { { &elf, 2047 }, { &bz, LAYOUT_CMDLINE_LEN - 1 } };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct gmem m = ram(16 * MIB);
        struct boot_config c = config(rows[i].k);

        memset(text, 'y', sizeof text);
        text[rows[i].max] = '\0';
        c.cmdline_raw = text;
        load(&m, &c);
        text[rows[i].max] = 'y';
        text[rows[i].max + 1] = '\0';
        assert_refused(&m, &c, "bytes long");
        gmem_fini(&m);
    }
    close(elf.fd);
    close(bz.fd);
}

static void test_config(void **state)
{
    (void)state;
    struct elf_image f = elf_make();
    struct image k = image_new(&f, sizeof f);
    struct gmem m = ram(16 * MIB);
    struct boot_config c = config(&k);
    struct boot_device d;
    struct err e;

    c.cpus = 0;
    assert_refused(&m, &c, "between 1 and 64");
    c.cpus = 65;
    assert_refused(&m, &c, "between 1 and 64");
    c.cpus = 64;
    load(&m, &c);
    c.mmio_cmdline = true;
    assert_refused(&m, &c, "--cpus 1");
    for (unsigned i = 0; i < 19; i++) {
        assert_int_equal(boot_device_slot(i, false, &d, &e), 0);
        assert_int_equal(d.base.v, 0xd0000000 + i * 4096);
        assert_int_equal(d.gsi, 5 + i);
    }
    assert_int_equal(boot_device_slot(19, false, &d, &e), -ENOSPC);
    assert_non_null(strstr(e.msg, "19"));
    for (unsigned i = 0; i < 9; i++) {
        assert_int_equal(boot_device_slot(i, true, &d, &e), 0);
        assert_true(d.gsi >= 5 && d.gsi <= 15 && d.gsi != 8 && d.gsi != 13);
    }
    assert_int_equal(boot_device_slot(9, true, &d, &e), -ENOSPC);
    gmem_fini(&m);
    close(k.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bzimage),  cmocka_unit_test(test_elf_entries),
        cmocka_unit_test(test_pvh_info), cmocka_unit_test(test_cpu_state),
        cmocka_unit_test(test_e820),     cmocka_unit_test(test_initrd_place),
        cmocka_unit_test(test_minimum),  cmocka_unit_test(test_mptable),
        cmocka_unit_test(test_cmdline),  cmocka_unit_test(test_cmdline_limits),
        cmocka_unit_test(test_config),
    };

    return cmocka_run_group_tests_name("boot_load", tests, NULL, NULL);
}
