/* ELF kernels; see elf.h.
 *
 * Segments go to their physical addresses, all of them from 1 MiB up: below is ours. No two may
 * share a byte, so it does not matter in which order they are read, and what lies between file size
 * and memory size is zero already. Linux gives e_entry as a physical address.
 */
#include "boot/elf.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "boot/layout.h"
#include "core/num.h"

#define PHDRS_MAX     KERNEL_PIECES_MAX
#define NOTES_MAX     256  /* in one segment; Linux has about 20 */
#define PHYS32_ENTRY  18   /* XEN_ELFNOTE_PHYS32_ENTRY */
#define CMDLINE_MAX   2047 /* Linux's COMMAND_LINE_SIZE is 2048 and it cuts silently */
#define ENTRY_MAX     UINT64_C(0xffffffff)
#define HDR_VERSION   0x020f
#define HDR_MAGIC     UINT32_C(0x53726448) /* "HdrS" */
#define HDR_BOOT_FLAG 0xaa55

static const struct {
    uint16_t id;
    const char *name;
} machines[] = {
    { EM_386, "32-bit x86" }, { EM_AARCH64, "arm64" }, { EM_ARM, "arm" },
    { EM_RISCV, "RISC-V" },   { EM_PPC64, "ppc64" },   { EM_S390, "s390" },
};

static const char *elf_machine(uint16_t id)
{
    for (size_t i = 0; i < ARRAY_LEN(machines); i++)
        if (machines[i].id == id)
            return machines[i].name;
    return "another architecture";
}

static int elf_check(const struct kernel *k, const Elf64_Ehdr *h, size_t len, struct err *e)
{
    const char *path = k->file.path;

    if (len < sizeof *h)
        return err_set(e, ENOEXEC, "kernel %s: is a truncated ELF file: copy it again", path);
    if (h->e_ident[EI_DATA] != ELFDATA2LSB || h->e_ident[EI_CLASS] != ELFCLASS64 ||
        h->e_machine != EM_X86_64)
        return err_set(e, ENOEXEC, "kernel %s: is an ELF file for %s: give one for x86_64", path,
                       h->e_ident[EI_DATA] == ELFDATA2LSB ? elf_machine(h->e_machine)
                                                          : "a big-endian machine");
    if (h->e_type != ET_EXEC && h->e_type != ET_DYN)
        return err_set(e, ENOEXEC,
                       "kernel %s: is an ELF file but no program (type %u): give a linked "
                       "vmlinux",
                       path, h->e_type);
    if (h->e_phnum == 0 || h->e_phnum > PHDRS_MAX || h->e_phentsize != sizeof(Elf64_Phdr))
        return err_set(e, ENOEXEC,
                       "kernel %s: has %u program headers of %u bytes, not 1 to %d of %zu: give "
                       "Linux's vmlinux",
                       path, h->e_phnum, h->e_phentsize, PHDRS_MAX, sizeof(Elf64_Phdr));
    if (!range_within(h->e_phoff, h->e_phnum * sizeof(Elf64_Phdr), k->file.size))
        return err_set(e, ENOEXEC,
                       "kernel %s: is truncated: its program headers lie behind its end: copy "
                       "it again",
                       path);
    return 0;
}

/* Judges one PT_LOAD and makes it a piece. */
static int elf_add_segment(struct kernel *k, const Elf64_Phdr *p, struct err *e)
{
    uint64_t end;

    if (p->p_memsz == 0)
        return 0;
    if (!range_within(p->p_offset, p->p_filesz, k->file.size))
        return err_set(e, ENOEXEC,
                       "kernel %s: is truncated: %" PRIu64 " bytes, a segment lies at %#" PRIx64
                       "+%#" PRIx64 ": copy it again",
                       k->file.path, k->file.size, (uint64_t)p->p_offset, (uint64_t)p->p_filesz);
    if (p->p_filesz > p->p_memsz || !add_u64(p->p_paddr, p->p_memsz, &end) ||
        p->p_paddr < LAYOUT_KERNEL_MIN)
        return err_set(e, ENOEXEC,
                       "kernel %s: has a segment at physical address %#" PRIx64 " of %#" PRIx64
                       " bytes (%#" PRIx64 " in the file): a kernel is linked at 1 MiB or above",
                       k->file.path, (uint64_t)p->p_paddr, (uint64_t)p->p_memsz,
                       (uint64_t)p->p_filesz);
    if (end > k->end)
        k->end = end;
    if (p->p_filesz) /* else it is .bss alone, and memory is zero */
        k->piece[k->n++] = (struct kernel_piece){ .off = p->p_offset,
                                                  .gpa = { p->p_paddr },
                                                  .len = p->p_filesz };
    return 0;
}

static int elf_check_overlap(const struct kernel *k, const Elf64_Phdr *ph, unsigned n,
                             struct err *e)
{
    for (unsigned i = 0; i < n; i++)
        for (unsigned j = 0; j < i; j++)
            if (ph[i].p_type == PT_LOAD && ph[j].p_type == PT_LOAD &&
                ranges_overlap(ph[i].p_paddr, ph[i].p_memsz, ph[j].p_paddr, ph[j].p_memsz))
                return err_set(e, ENOEXEC,
                               "kernel %s: segments %u and %u overlap at physical address %#" PRIx64
                               ": link it anew",
                               k->file.path, j, i, (uint64_t)ph[i].p_paddr);
    return 0;
}

/* Whether a segment's file bytes hold the physical address. */
static bool elf_is_code(const struct kernel *k, uint64_t pa)
{
    for (int i = 0; i < k->n; i++)
        if (pa >= k->piece[i].gpa.v && pa - k->piece[i].gpa.v < k->piece[i].len)
            return true;
    return false;
}

/* Looks for the PVH note in one PT_NOTE segment. 1 and *entry, 0 when there is none (or the notes
 * are damaged, which ends the walk), or -errno with *e. */
static int elf_find_note(const struct kernel *k, const Elf64_Phdr *p, uint64_t *entry,
                         struct err *e)
{
    uint64_t align = p->p_align == 8 ? 8 : 4, off = 0;

    if (!range_within(p->p_offset, p->p_filesz, k->file.size))
        return 0;
    for (int i = 0; i < NOTES_MAX && range_within(off, sizeof(Elf64_Nhdr), p->p_filesz); i++) {
        /* The name "Xen" with its NUL is 4 bytes, the address 4 or 8. */
        struct {
            Elf64_Nhdr h;
            char name[4];
            uint8_t desc[8];
        } note = { 0 };
        size_t len = (size_t)min_u64(sizeof note, p->p_filesz - off);
        int ret = file_read(&k->file, p->p_offset + off, &note, len, e);

        if (ret)
            return ret;
        uint64_t desc = (sizeof note.h + note.h.n_namesz + align - 1) & ~(align - 1);

        if (!range_within(off, desc + note.h.n_descsz, p->p_filesz))
            return 0;
        if (note.h.n_type == PHYS32_ENTRY && note.h.n_namesz == 4 &&
            memcmp(note.name, "Xen", 4) == 0 && (note.h.n_descsz == 4 || note.h.n_descsz == 8)) {
            memcpy(entry, note.desc, note.h.n_descsz);
            return 1;
        }
        off += (desc + note.h.n_descsz + align - 1) & ~(align - 1);
    }
    return 0;
}

static int elf_pvh_entry(struct kernel *k, const Elf64_Phdr *ph, unsigned n, struct err *e)
{
    uint64_t entry = 0;
    int found = 0;

    for (unsigned i = 0; i < n && found == 0; i++)
        if (ph[i].p_type == PT_NOTE)
            found = elf_find_note(k, &ph[i], &entry, e);
    if (found < 0)
        return found;
    if (found == 0)
        return err_set(e, ENOEXEC,
                       "kernel %s: has no PVH note: give a kernel built with CONFIG_PVH, or a "
                       "bzImage",
                       k->file.path);
    if (entry > ENTRY_MAX || !elf_is_code(k, entry))
        return err_set(e, ENOEXEC,
                       "kernel %s: its PVH entry %#" PRIx64 " lies outside what is loaded: link it "
                       "anew",
                       k->file.path, entry);
    k->mode = BOOT_MODE_PVH32;
    k->entry = entry;
    return 0;
}

int elf_parse(struct kernel *k, const uint8_t *head, size_t len, enum boot_entry entry,
              struct err *e)
{
    Elf64_Phdr ph[PHDRS_MAX];
    Elf64_Ehdr h = { 0 };

    memcpy(&h, head, min_size(sizeof h, len));
    int ret = elf_check(k, &h, len, e);

    if (ret)
        return ret;
    ret = file_read(&k->file, h.e_phoff, ph, h.e_phnum * sizeof ph[0], e);
    for (unsigned i = 0; i < h.e_phnum && ret == 0; i++)
        if (ph[i].p_type == PT_LOAD)
            ret = elf_add_segment(k, &ph[i], e);
    if (ret == 0)
        ret = elf_check_overlap(k, ph, h.e_phnum, e);
    if (ret)
        return ret;

    /* What a bzImage's header says of itself, the loader says of an ELF. */
    k->hdr = (struct setup_header){ .boot_flag = HDR_BOOT_FLAG,
                                    .header = HDR_MAGIC,
                                    .version = HDR_VERSION,
                                    .loadflags = LOADED_HIGH,
                                    .cmdline_size = CMDLINE_MAX };
    k->cmdline_max = CMDLINE_MAX;
    k->initrd_limit = GMEM_LOW_MAX;
    k->mode = BOOT_MODE_LONG64;
    k->entry = h.e_entry;
    if (entry == BOOT_ENTRY_PVH || (entry == BOOT_ENTRY_AUTO && !elf_is_code(k, h.e_entry)))
        return elf_pvh_entry(k, ph, h.e_phnum, e);
    if (!elf_is_code(k, h.e_entry))
        return err_set(e, ENOEXEC,
                       "kernel %s: its entry %#" PRIx64 " is no physical address of a segment: try "
                       "--entry=pvh",
                       k->file.path, (uint64_t)h.e_entry);
    return 0;
}
