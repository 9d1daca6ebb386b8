/* Small kernels made in memory, given to the loader as files, and what it must say to them. */
#ifndef MAYFLY_TESTS_BOOT_IMAGE_H
#define MAYFLY_TESTS_BOOT_IMAGE_H

#include <asm/bootparam.h>
#include <elf.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot/boot.h"
#include "core/num.h"
#include "tests/unit/unit.h"

/* --- files ------------------------------------------------------------------------------------ */

struct image {
    int fd;
    char path[32];
    size_t len;
};

static inline void image_write(struct image *f, const void *data, size_t len)
{
    assert_int_equal(ftruncate(f->fd, 0), 0);
    assert_int_equal(pwrite(f->fd, data, len, 0), len);
    f->len = len;
}

static inline struct image image_new(const void *data, size_t len)
{
    struct image f = { .fd = memfd_create("test", MFD_CLOEXEC) };

    assert_true(f.fd >= 0);
    snprintf(f.path, sizeof f.path, "/proc/self/fd/%d", f.fd);
    image_write(&f, data, len);
    return f;
}

#define BZ_HDR_OFF    0x1f1
#define BZ_SETUP      1024
#define BZ_CODE       1024
#define BZ_LEN        (BZ_SETUP + BZ_CODE)
#define BZ_EXTRA      32 /* a signature behind the code, which is not needed */
#define BZ_PREF       (2 * MIB)
#define BZ_INIT       (1 * MIB)
#define BZ_HDR(image) ((struct setup_header *)(void *)((image) + BZ_HDR_OFF))

static inline void bz_make(uint8_t image[BZ_LEN + BZ_EXTRA])
{
    memset(image, 0xcc, BZ_LEN + BZ_EXTRA);
    *BZ_HDR(image) = (struct setup_header){ .setup_sects = 1,
                                            .syssize = BZ_CODE / 16,
                                            .boot_flag = 0xaa55,
                                            .jump = 0x6aeb,
                                            .header = 0x53726448,
                                            .version = 0x20f,
                                            .loadflags = LOADED_HIGH,
                                            .initrd_addr_max = 0x7fffffff,
                                            .kernel_alignment = 0x200000,
                                            .relocatable_kernel = 1,
                                            .xloadflags = XLF_KERNEL_64,
                                            .cmdline_size = 255,
                                            .payload_offset = 512,
                                            .payload_length = 100,
                                            .pref_address = BZ_PREF,
                                            .init_size = BZ_INIT };
    for (int i = 0; i < BZ_CODE; i++)
        image[BZ_SETUP + i] = (uint8_t)(i * 7 + 1);
}

struct elf_image {
    Elf64_Ehdr h;
    Elf64_Phdr ph[3];
    uint8_t text[128], data[64];
    struct {
        Elf64_Nhdr other;
        char other_name[4];
        uint8_t other_desc[8];
        Elf64_Nhdr pvh;
        char name[4];
        uint32_t entry;
    } note;
    uint8_t sections[24]; /* not needed */
};
#define ELF_TEXT   (2 * MIB)
#define ELF_DATA   (3 * MIB)
#define ELF_NEEDED offsetof(struct elf_image, sections)

static inline struct elf_image elf_make(void)
{
    struct elf_image f = {
        .h = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
               .e_type = ET_EXEC,
               .e_machine = EM_X86_64,
               .e_version = EV_CURRENT,
               .e_entry = ELF_TEXT + 16,
               .e_phoff = offsetof(struct elf_image, ph),
               .e_ehsize = sizeof(Elf64_Ehdr),
               .e_phentsize = sizeof(Elf64_Phdr),
               .e_phnum = 3 },
        .ph = { { .p_type = PT_LOAD,
                  .p_offset = offsetof(struct elf_image, text),
                  .p_vaddr = 0xffffffff80000000 + ELF_TEXT,
                  .p_paddr = ELF_TEXT,
                  .p_filesz = 128,
                  .p_memsz = 128 },
                { .p_type = PT_LOAD,
                  .p_offset = offsetof(struct elf_image, data),
                  .p_paddr = ELF_DATA,
                  .p_filesz = 64,
                  .p_memsz = 4096 },
                { .p_type = PT_NOTE,
                  .p_offset = offsetof(struct elf_image, note),
                  .p_filesz = sizeof f.note,
                  .p_align = 4 } },
        .note = { .other = { .n_namesz = 4, .n_descsz = 6, .n_type = 18 },
                  .other_name = "GNU",
                  .pvh = { .n_namesz = 4, .n_descsz = 4, .n_type = 18 },
                  .name = "Xen",
                  .entry = ELF_TEXT + 32 },
    };

    memset(f.text, 0x90, sizeof f.text);
    memset(f.data, 0xdd, sizeof f.data);
    return f;
}

/* --- loading ---------------------------------------------------------------------------------- */

static inline struct gmem ram(uint64_t size)
{
    struct gmem m;
    struct err e;

    assert_int_equal(gmem_init(&m, size, &(struct gmem_opts){ 0 }, &e), 0);
    return m;
}

static inline struct boot_config config(const struct image *kernel)
{
    return (struct boot_config){ .kernel = kernel->path, .cpus = 1, .seed = { 1, 2, 3 } };
}

/* Fails as it should: with a code, a message that has the word, and in one line. */
static inline void assert_refused(struct gmem *m, const struct boot_config *c, const char *word)
{
    struct boot_state s;
    struct err e = { 0 };

    assert_true(boot_load(m, c, &s, &e) < 0);
    assert_true(e.code > 0);
    if (!strstr(e.msg, word))
        fail_msg("'%s' is not in: %s", word, e.msg);
    assert_null(strchr(e.msg, '\n'));
}

static inline struct boot_state load(struct gmem *m, const struct boot_config *c)
{
    struct boot_state s;
    struct err e = { 0 };

    if (boot_load(m, c, &s, &e))
        fail_msg("%s", e.msg);
    return s;
}

#endif
