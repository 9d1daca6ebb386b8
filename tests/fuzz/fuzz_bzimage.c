/* Kernel files that are bzImages, nearly: a small valid one with some fields bent, or the input as
 * it is. Accepted, guest memory holds the file's protected-mode part where its header says and
 * nothing else, and the zero page its header; refused, there is a reason. */
#include "tests/fuzz/image.h"
#include "tests/unit/boot_image.h"

#include "boot/layout.h"

struct file_bytes {
    uint8_t data[IMAGE_MAX];
    size_t len;
};

static void make(struct file_bytes *f, uint8_t how, struct input *in)
{
    if (how & 1) {
        f->len = min_size(in->left, sizeof f->data);
        in_bytes(in, f->data, f->len);
        return;
    }
    bz_make(f->data);
    f->len = BZ_LEN + (how & 2 ? BZ_EXTRA : 0);
    if (how & 4)
        image_bend(f->data + BZ_HDR_OFF, sizeof(struct setup_header), in);
    else
        image_bend(f->data, f->len, in);
    if (how & 8)
        f->len -= min_size(f->len - 1, in_u16(in) % BZ_LEN);
}

static void check_loaded(struct gmem *m, const struct file_bytes *f, const struct boot_state *s)
{
    struct boot_params *z = gmem_span(m, (gpa_t){ LAYOUT_ZERO_PAGE }, sizeof *z);
    struct setup_header h;

    FUZZ_CHECK(f->len >= BZ_HDR_OFF + sizeof h, "%zu bytes hold no header", f->len);
    memcpy(&h, f->data + BZ_HDR_OFF, sizeof h);
    uint64_t start = 512 * ((h.setup_sects ? h.setup_sects : UINT64_C(4)) + 1);
    struct image_piece piece = { h.pref_address, 16 * (uint64_t)h.syssize, f->data + start };

    FUZZ_CHECK(h.header == 0x53726448 && range_within(start, piece.len, f->len) &&
                   piece.len > 0x200,
               "no bzImage, or none with its 64-bit entry");
    FUZZ_CHECK(h.pref_address + (uint64_t)h.init_size <= m->region[0].len, "it can't unpack");
    FUZZ_CHECK(s->mode == BOOT_MODE_LONG64 && s->rip == h.pref_address + 0x200 &&
                   s->rsi == LAYOUT_ZERO_PAGE,
               "entered at 0x%jx", (uintmax_t)s->rip);
    FUZZ_CHECK(z->hdr.header == h.header && z->hdr.cmd_line_ptr == LAYOUT_CMDLINE &&
                   z->hdr.type_of_loader == 0xff && z->e820_entries == 3,
               "the zero page");
    image_check(m, &piece, 1);
}

void fuzz_one(struct input *in)
{
    static struct file_bytes f;
    struct boot_state s;
    struct gmem m;
    uint8_t how = in_u8(in);

    make(&f, how, in);
    struct boot_config c = { .kernel = image_file(0, f.data, f.len),
                             .cpus = 1,
                             .cmdline_extra = "quiet" };

    if (how >= 0xe0)
        c.entry = how & 16 ? BOOT_ENTRY_PVH : BOOT_ENTRY_ELF;
    image_ram(&m, IMAGE_RAM);
    if (image_load(&m, &c, &s) == 0)
        check_loaded(&m, &f, &s);
}
