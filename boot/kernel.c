/* What kind of kernel a file is, and loading it; see kernel.h.
 *
 * The two kinds that boot are parsed in bzimage.c and elf.c. Everything else people give by mistake
 * is named, with what to give instead.
 */
#include "boot/kernel.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "boot/bzimage.h"
#include "boot/elf.h"
#include "core/num.h"

/* Files that are not kernels for us, by their first bytes. */
static const struct {
    uint16_t off;
    uint8_t len;
    const char *magic, *what, *remedy;
} mistakes[] = {
    { 56, 4, "ARM\x64", "an arm64 image", "give a kernel built for x86_64" },
    { 56, 4, "RSC\x05", "a RISC-V image", "give a kernel built for x86_64" },
    { 4, 4, "zimg", "a compressed EFI image", "give a bzImage or the vmlinux inside it" },
    { 0, 4, "\x27\x05\x19\x56", "a U-Boot image", "give a bzImage or an x86_64 vmlinux" },
    { 0, 2, "\x1f\x8b", "compressed with gzip", "unpack it with gzip -d" },
    { 0, 6,
      "\xfd"
      "7zXZ\0",
      "compressed with xz", "unpack it with xz -d" },
    { 0, 4, "\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it with zstd -d" },
    { 0, 4, "\x02\x21\x4c\x18", "compressed with lz4", "unpack it with lz4 -d" },
    { 0, 4, "\x04\x22\x4d\x18", "compressed with lz4", "unpack it with lz4 -d" },
    { 0, 3, "BZh", "compressed with bzip2", "unpack it with bzip2 -d" },
    { 0, 6, "070701", "an initrd (cpio)", "give it with --initrd, and a kernel with --kernel" },
    { 0, 4, "QFI\xfb", "a disk image (qcow2)", "give a bzImage or a vmlinux" },
    { 0, 4, "hsqs", "a file system (squashfs)", "give a bzImage or a vmlinux" },
    { 0, 8, "!<arch>\n", "a package or archive", "unpack it and give boot/vmlinuz from it" },
    { 0, 2, "#!", "a script", "give a bzImage or a vmlinux" },
    { 0, 2, "MZ", "an EFI program without a boot header",
      "give a bzImage (from a unified image: objcopy -O binary --only-section=.linux)" },
};

static int kernel_unknown(const struct kernel *k, const uint8_t *head, size_t len, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(mistakes); i++)
        if (range_within(mistakes[i].off, mistakes[i].len, len) &&
            memcmp(head + mistakes[i].off, mistakes[i].magic, mistakes[i].len) == 0)
            return err_set(e, ENOEXEC, "kernel %s: is %s: %s", k->file.path, mistakes[i].what,
                           mistakes[i].remedy);
    return err_set(e, ENOEXEC,
                   "kernel %s: is neither a bzImage nor an ELF file: give Linux's vmlinuz "
                   "or vmlinux for x86_64",
                   k->file.path);
}

int kernel_open(struct kernel *k, const char *path, enum boot_entry entry, struct err *e)
{
    uint8_t head[KERNEL_HEAD_LEN] = { 0 };

    *k = (struct kernel){ 0 };
    int ret = file_open(&k->file, "kernel", path, e);

    if (ret)
        return ret;
    size_t len = (size_t)min_u64(sizeof head, k->file.size);

    ret = file_read(&k->file, 0, head, len, e);
    if (ret)
        goto out;
    if (bzimage_is(head, len))
        ret = bzimage_parse(k, head, len, entry, e);
    else if (len >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0)
        ret = elf_parse(k, head, len, entry, e);
    else
        ret = kernel_unknown(k, head, len, e);
out:
    if (ret)
        file_close(&k->file);
    return ret;
}

int kernel_load(const struct kernel *k, struct gmem *m, struct err *e)
{
    for (int i = 0; i < k->n; i++) {
        const struct kernel_piece *p = &k->piece[i];
        void *to = gmem_span(m, p->gpa, p->len);

        if (!to)
            return err_set(e, EFAULT, "kernel %s: does not fit into memory: raise --memory",
                           k->file.path);
        int ret = file_read(&k->file, p->off, to, p->len, e);

        if (ret)
            return ret;
    }
    return 0;
}

void kernel_close(struct kernel *k)
{
    file_close(&k->file);
}
