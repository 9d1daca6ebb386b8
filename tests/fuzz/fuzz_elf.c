/* Kernel files that are ELF, nearly: valid ones (with a note for PVH, or with as many segments as
 * the input likes) with some fields bent, or the input as it is. Accepted, guest memory holds the
 * file's part of each PT_LOAD at its physical address and nothing else, and the entry lies in one;
 * refused, there is a reason. */
#include "tests/fuzz/image.h"
#include "tests/unit/boot_image.h"

#include "boot/layout.h"

#define SEGMENTS_MAX 140 /* the loader takes 128 */
#define NOTE_ROOM    24  /* behind the last note, so that it may claim to be longer */

struct file_bytes {
    uint8_t data[IMAGE_MAX];
    size_t len;
};

/* Many small segments, a note among them. */
static void make_many(struct file_bytes *f, struct input *in)
{
    static const uint8_t types[] = { PT_LOAD, PT_LOAD, PT_LOAD, PT_NOTE, PT_NULL, PT_LOAD, 7, 6 };
    unsigned n = 1 + in_below(in, SEGMENTS_MAX);
    uint64_t step = in_u8(in) % 64 * 64;
    Elf64_Ehdr h = elf_make().h;
    struct elf_image parts = elf_make();
    size_t data = sizeof h + n * sizeof(Elf64_Phdr);

    h.e_phnum = (uint16_t)n;
    h.e_phoff = sizeof h;
    h.e_entry = MIB + in_u8(in);
    memcpy(f->data, &h, sizeof h);
    for (unsigned i = 0; i < n; i++) {
        Elf64_Phdr p = { .p_type = types[in_u8(in) % sizeof types],
                         .p_offset = data,
                         .p_paddr = MIB + i * step,
                         .p_filesz = 16 + i % 49,
                         .p_memsz = 64,
                         .p_align = 4 + i % 2 * 4U };

        if (p.p_type == PT_NOTE) {
            p.p_offset = data + 64;
            p.p_filesz = sizeof parts.note + NOTE_ROOM;
        }
        memcpy(f->data + sizeof h + i * sizeof p, &p, sizeof p);
    }
    memset(f->data + data, 0x90, 64);
    memcpy(f->data + data + 64, &parts.note, sizeof parts.note);
    memset(f->data + data + 64 + sizeof parts.note, 0, NOTE_ROOM);
    f->len = data + 64 + sizeof parts.note + NOTE_ROOM;
}

static void make(struct file_bytes *f, uint8_t how, struct input *in)
{
    if (how & 1) {
        f->len = min_size(in->left, sizeof f->data);
        in_bytes(in, f->data, f->len);
        return;
    }
    if (how & 2) {
        make_many(f, in);
    } else {
        struct elf_image image = elf_make();

        memcpy(f->data, &image, sizeof image);
        f->len = sizeof image;
    }
    image_bend(f->data, f->len, in);
    if (how & 8)
        f->len -= min_size(f->len - 1, in_u8(in));
}

static void check_loaded(const struct gmem *m, const struct file_bytes *f,
                         const struct boot_state *s)
{
    static struct image_piece piece[SEGMENTS_MAX];
    unsigned n = 0;
    bool inside = false;
    Elf64_Ehdr h;

    FUZZ_CHECK(f->len >= sizeof h, "%zu bytes hold no header", f->len);
    memcpy(&h, f->data, sizeof h);
    FUZZ_CHECK(h.e_phnum <= SEGMENTS_MAX &&
                   range_within(h.e_phoff, h.e_phnum * sizeof(Elf64_Phdr), f->len),
               "its program headers");
    for (unsigned i = 0; i < h.e_phnum; i++) {
        Elf64_Phdr p;

        memcpy(&p, f->data + h.e_phoff + i * sizeof p, sizeof p);
        if (p.p_type != PT_LOAD || !p.p_memsz)
            continue;
        FUZZ_CHECK(range_within(p.p_offset, p.p_filesz, f->len), "a segment outside the file");
        FUZZ_CHECK(range_within(p.p_paddr, p.p_memsz, m->region[0].len) && p.p_filesz <= p.p_memsz,
                   "its memory");
        piece[n++] = (struct image_piece){ p.p_paddr, p.p_filesz, f->data + p.p_offset };
        inside |= s->rip >= p.p_paddr && s->rip - p.p_paddr < p.p_filesz;
    }
    FUZZ_CHECK(inside, "entered at 0x%jx, where nothing was loaded", (uintmax_t)s->rip);
    FUZZ_CHECK(s->mode == BOOT_MODE_PVH32 ? s->rbx == LAYOUT_PVH : s->rip == h.e_entry, "entry");
    image_check(m, piece, n);
}

void fuzz_one(struct input *in)
{
    static struct file_bytes f;
    struct boot_state s;
    struct gmem m;
    uint8_t how = in_u8(in);

    make(&f, how, in);
    struct boot_config c = { .kernel = image_file(0, f.data, f.len), .cpus = 1 };

    c.entry = (enum boot_entry)(how >> 6 == 3 ? 0 : how >> 6);
    image_ram(&m, IMAGE_RAM);
    if (image_load(&m, &c, &s) == 0)
        check_loaded(&m, &f, &s);
}
