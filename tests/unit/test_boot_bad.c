/* No file, cut, damaged or foreign, does more to the loader than fail with a message. */
#include <stdlib.h>
#include <sys/stat.h>

#include "boot/file.h"
#include "boot/layout.h"
#include "tests/unit/boot_image.h"

/* Cut at every byte: refused as long as a needed byte is missing, with a message. */
static void check_truncations(const void *data, size_t len, size_t needed, enum boot_entry entry)
{
    struct image k = image_new(data, len);
    struct gmem m = ram(4 * MIB);
    struct boot_config c = config(&k);

    c.entry = entry;
    for (size_t n = 0; n <= len; n++) {
        image_write(&k, data, n);
        if (n < needed)
            assert_refused(&m, &c, k.path);
        else
            load(&m, &c);
    }
    gmem_fini(&m);
    close(k.fd);
}

static void test_truncated(void **state)
{
    (void)state;
    uint8_t raw[BZ_LEN + BZ_EXTRA];
    struct elf_image f = elf_make();

    bz_make(raw);
    check_truncations(raw, sizeof raw, BZ_LEN, BOOT_ENTRY_AUTO);
    check_truncations(&f, sizeof f, ELF_NEEDED, BOOT_ENTRY_PVH);
    /* By the other entry the notes are not needed. */
    check_truncations(&f, sizeof f, offsetof(struct elf_image, note), BOOT_ENTRY_AUTO);
}

/* Damage that a fixed seed chooses. Either it loads, inside memory, or there is a message. */
static void check_damaged(const uint8_t *data, size_t len, size_t header, unsigned rounds)
{
    static const uint8_t edges[] = { 0x00, 0x01, 0x7f, 0x80, 0xff };
    struct rng r = { 1 };
    uint8_t copy[4096];
    struct image k = image_new(data, len);
    size_t size = 5 * MIB;
    void *host = malloc(size); /* where the sanitizer guards both ends */
    struct gmem m;
    unsigned loaded = 0;

    assert_true(host && len <= sizeof copy);
    gmem_init_at(&m, host, size);
    for (unsigned i = 0; i < rounds; i++) {
        struct boot_config c = config(&k);
        struct boot_state s;
        struct err e = { 0 };

        memcpy(copy, data, len);
        for (unsigned n = 1 + rng_below(&r, 4); n; n--) {
            uint8_t *p = &copy[rng_below(&r, header)];

            *p = rng_below(&r, 2) ? edges[rng_below(&r, sizeof edges)]
                                  : (uint8_t)(*p ^ 1u << rng_below(&r, 8));
        }
        image_write(&k, copy, len);
        c.entry = rng_below(&r, 3);
        if (boot_load(&m, &c, &s, &e) == 0) {
            assert_non_null(gmem_span(&m, (gpa_t){ s.rip }, 1));
            assert_true(s.rip >= LAYOUT_KERNEL_MIN);
            loaded++;
        } else {
            assert_true(e.code > 0 && e.msg[0]);
        }
    }
    assert_true(loaded > 0 && loaded < rounds);
    free(host);
    close(k.fd);
}

static void test_damaged(void **state)
{
    (void)state;
    uint8_t raw[BZ_LEN + BZ_EXTRA];
    struct elf_image f = elf_make();

    bz_make(raw);
    /* The boot sector's code is nothing to us: damage from the header on. */
    check_damaged(raw, sizeof raw, BZ_SETUP, 4000);
    check_damaged((const uint8_t *)&f, sizeof f, sizeof f, 12000);
}

/* One field at a time, at its worst. */
struct hostile {
    size_t off, len; /* of the field */
    uint64_t value;
    const char *word; /* in the refusal; NULL: it loads */
};
#define FIELD(type, f, v, w)                                                                       \
    {                                                                                              \
        offsetof(struct type, f), sizeof((struct type *)0)->f, v, w                                \
    }

#define ROW(f, v, w) FIELD(setup_header, f, v, w)
static const struct hostile hostile_bzimage[] = {
    ROW(version, 0x20b, "protocol 2.11"),
    ROW(version, 0x20c, NULL),
    ROW(xloadflags, 0, "64-bit"),
    ROW(loadflags, 0, "64-bit"),
    ROW(jump, 0x10eb, "cut short"),
    ROW(setup_sects, 0, "truncated"), /* stands for 4 */
    ROW(setup_sects, 255, "truncated"),
    ROW(syssize, UINT32_MAX, "truncated"),
    ROW(syssize, 0, "contradicts"),
    ROW(payload_offset, 925, "contradicts"),
    ROW(payload_offset, 924, NULL),
    ROW(payload_length, UINT32_MAX, "contradicts"),
    ROW(pref_address, 0, "contradicts"),
    ROW(pref_address, MIB - 1, "contradicts"),
    ROW(pref_address, MIB, NULL),
    ROW(pref_address, UINT64_MAX - 100, "contradicts"),
    ROW(pref_address, UINT64_MAX - BZ_INIT, "more than the 3072 MiB"),
    ROW(init_size, UINT32_MAX, "more than the 3072 MiB"),
    ROW(init_size, 0, NULL),
    ROW(cmdline_size, 0, "this kernel takes 0"),
    ROW(initrd_addr_max, 0, NULL), /* there is none */
    ROW(setup_data, UINT64_MAX, NULL),
    ROW(header, 0, "neither a bzImage nor"),
};
#undef ROW

#define ROW(f, v, w) FIELD(elf_image, f, v, w)
#define NOTE_LEN     sizeof((struct elf_image *)0)->note
static const struct hostile hostile_elf[] = {
    ROW(h.e_ident[EI_CLASS], ELFCLASS32, "x86_64"),
    ROW(h.e_ident[EI_DATA], ELFDATA2MSB, "big-endian"),
    ROW(h.e_machine, EM_AARCH64, "for arm64"),
    ROW(h.e_machine, EM_386, "32-bit x86"),
    ROW(h.e_machine, 12345, "another architecture"),
    ROW(h.e_type, ET_REL, "no program"),
    ROW(h.e_type, ET_CORE, "no program"),
    ROW(h.e_phnum, 0, "program headers"),
    ROW(h.e_phnum, 0xffff, "65535 program headers"),
    ROW(h.e_phnum, 129, "program headers"),
    ROW(h.e_phnum, 128, "truncated"),
    ROW(h.e_phentsize, 55, "program headers"),
    ROW(h.e_phoff, UINT64_MAX, "truncated"),
    ROW(h.e_phoff, UINT64_MAX - 100, "truncated"),
    ROW(h.e_entry, 0, NULL), /* by the note */
    ROW(ph[0].p_offset, UINT64_MAX, "truncated"),
    ROW(ph[0].p_filesz, UINT64_MAX, "truncated"),
    ROW(ph[0].p_filesz, 129, "1 MiB or above"), /* more than in memory */
    ROW(ph[0].p_memsz, UINT64_MAX, "1 MiB or above"),
    ROW(ph[0].p_memsz, UINT64_MAX - ELF_TEXT, "overlap"),
    ROW(ph[0].p_memsz, MIB, NULL),
    ROW(ph[0].p_memsz, MIB + 1, "overlap"),
    ROW(ph[0].p_paddr, 0, "1 MiB or above"),
    ROW(ph[0].p_paddr, LAYOUT_ZERO_PAGE, "1 MiB or above"),
    ROW(ph[0].p_paddr, MIB - 1, "1 MiB or above"),
    ROW(ph[0].p_paddr, ELF_DATA, "overlap"),
    ROW(ph[0].p_paddr, UINT64_MAX - 10, "1 MiB or above"),
    ROW(ph[1].p_paddr, 4 * GIB, "more than the 3072 MiB"),
    ROW(ph[1].p_memsz, 13 * MIB + 1, "17 MiB to be loaded"),
    ROW(ph[1].p_memsz, 13 * MIB, NULL),
    ROW(ph[1].p_memsz, 0, NULL),  /* no segment then */
    ROW(ph[1].p_filesz, 0, NULL), /* .bss alone */
    ROW(ph[2].p_filesz, UINT64_MAX, NULL),
};

/* With --entry=pvh. */
static const struct hostile hostile_notes[] = {
    ROW(note.other.n_namesz, UINT32_MAX, "no PVH note"),
    ROW(note.other.n_descsz, UINT32_MAX, "no PVH note"),
    ROW(note.pvh.n_namesz, 5, "no PVH note"),
    ROW(note.pvh.n_descsz, 3, "no PVH note"),
    ROW(note.pvh.n_descsz, 8, "no PVH note"), /* runs out of the segment */
    ROW(note.entry, 0, "outside"),
    ROW(note.entry, ELF_TEXT + 128, "outside"),
    ROW(ph[2].p_filesz, NOTE_LEN - 1, "no PVH note"),
    ROW(ph[2].p_filesz, 11, "no PVH note"),
    ROW(ph[2].p_offset, UINT64_MAX - 5, "no PVH note"),
};
#undef ROW

static void check_hostile(const struct hostile *h, size_t n, const void *good, size_t len,
                          size_t base, enum boot_entry entry)
{
    struct image k = image_new(good, len);
    struct gmem m = ram(16 * MIB);
    uint8_t *copy = malloc(len);

    assert_non_null(copy);
    for (size_t i = 0; i < n; i++) {
        struct boot_config c = config(&k);

        c.entry = entry;
        memcpy(copy, good, len);
        memcpy(copy + base + h[i].off, &h[i].value, h[i].len);
        image_write(&k, copy, len);
        if (h[i].word)
            assert_refused(&m, &c, h[i].word);
        else
            load(&m, &c);
    }
    free(copy);
    gmem_fini(&m);
    close(k.fd);
}

static void test_hostile_bzimage(void **state)
{
    (void)state;
    uint8_t raw[BZ_LEN + BZ_EXTRA];

    bz_make(raw);
    check_hostile(hostile_bzimage, ARRAY_LEN(hostile_bzimage), raw, sizeof raw, BZ_HDR_OFF,
                  BOOT_ENTRY_AUTO);

    struct image k = image_new(raw, sizeof raw);
    struct gmem m = ram(16 * MIB);
    struct boot_config c = config(&k);

    c.entry = BOOT_ENTRY_PVH;
    assert_refused(&m, &c, "no PVH entry");
    gmem_fini(&m);
    close(k.fd);
}

static void test_hostile_elf(void **state)
{
    (void)state;
    struct elf_image f = elf_make();

    check_hostile(hostile_elf, ARRAY_LEN(hostile_elf), &f, sizeof f, 0, BOOT_ENTRY_AUTO);
    check_hostile(hostile_notes, ARRAY_LEN(hostile_notes), &f, sizeof f, 0, BOOT_ENTRY_PVH);
}

/* What people give by mistake is named. */
static void test_mistakes(void **state)
{
    (void)state;
    static const struct {
        size_t off;
        const char *magic, *word;
    } rows[] = {
        { 56, "ARM\x64", "arm64 image" },  { 0, "\x1f\x8b\x08", "gzip -d" },
        { 0, "\x28\xb5\x2f\xfd", "zstd" }, { 0, "070701", "--initrd" },
        { 0, "#!/bin/sh\n", "script" },    { 0, "MZ", "EFI" },
        { 0, "!<arch>\n", "package" },     { 0, "hello", "neither" },
    };
    struct gmem m = ram(2 * MIB);
    struct image k = image_new("", 0);
    struct boot_config c = config(&k);

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t data[600] = { 0 };

        memcpy(data + rows[i].off, rows[i].magic, strlen(rows[i].magic));
        image_write(&k, data, sizeof data);
        assert_refused(&m, &c, rows[i].word);
        image_write(&k, data, rows[i].off + 1);
        assert_refused(&m, &c, "kernel ");
    }
    image_write(&k, "", 0);
    assert_refused(&m, &c, "is empty");
    c.kernel = "/";
    assert_refused(&m, &c, "a directory");
    c.kernel = "/dev/null";
    assert_refused(&m, &c, "a character device");
    c.kernel = "/nonexistent";
    assert_refused(&m, &c, "No such file");

    /* Opening a pipe must not wait for its other end. */
    char path[] = "/tmp/mayfly-test-XXXXXX", fifo[64];

    assert_non_null(mkdtemp(path));
    snprintf(fifo, sizeof fifo, "%s/fifo", path);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    c.kernel = fifo;
    assert_refused(&m, &c, "a pipe");
    unlink(fifo);
    rmdir(path);
    gmem_fini(&m);
    close(k.fd);
}

/* A file that shrinks between being sized and being read. */
static void test_shrinking(void **state)
{
    (void)state;
    struct image k = image_new("0123456789", 10);
    struct file f;
    struct err e;
    char buf[10];

    assert_int_equal(file_open(&f, "kernel", k.path, &e), 0);
    assert_int_equal(file_read(&f, 5, buf, 5, &e), 0);
    image_write(&k, "0123", 4);
    assert_int_equal(file_read(&f, 0, buf, 10, &e), -EIO);
    assert_non_null(strstr(e.msg, "ends at byte 4"));
    file_close(&f);
    file_close(&f);
    close(k.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_truncated),       cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_hostile_bzimage), cmocka_unit_test(test_hostile_elf),
        cmocka_unit_test(test_mistakes),        cmocka_unit_test(test_shrinking),
    };

    return cmocka_run_group_tests_name("boot_bad", tests, NULL, NULL);
}
