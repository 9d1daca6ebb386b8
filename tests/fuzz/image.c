/* See image.h. */
#include "tests/fuzz/image.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot/layout.h"
#include "core/num.h"

#define PAGE 4096

const char *image_file(unsigned index, const void *data, size_t len)
{
    static struct {
        int fd;
        char path[32];
    } file[4];

    FUZZ_CHECK(index < ARRAY_LEN(file), "file %u", index);
    for (unsigned i = 0; i < ARRAY_LEN(file) && !file[i].fd; i++) { /* all in the first run */
        file[i].fd = memfd_create("fuzz", MFD_CLOEXEC);
        snprintf(file[i].path, sizeof file[i].path, "/proc/self/fd/%d", file[i].fd);
    }
    FUZZ_CHECK(ftruncate(file[index].fd, 0) == 0 &&
                   pwrite(file[index].fd, data, len, 0) == (ssize_t)len,
               "the file can't be written");
    return file[index].path;
}

void image_ram(struct gmem *m, uint64_t len)
{
    static uint8_t *ram;

    if (!ram) {
        uint8_t *p = mmap(NULL, IMAGE_RAM + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                          0);

        FUZZ_CHECK(p != MAP_FAILED && !mprotect(p + PAGE, IMAGE_RAM, PROT_READ | PROT_WRITE),
                   "no memory");
        (void)madvise(p, IMAGE_RAM, MADV_NOHUGEPAGE);
        ram = p + PAGE;
    }
    FUZZ_CHECK(madvise(ram, IMAGE_RAM, MADV_DONTNEED) == 0, "no fresh memory");
    /* It ends where the inaccessible page begins. */
    gmem_init_at(m, ram + IMAGE_RAM - len, len);
}

void image_bend(uint8_t *data, size_t len, struct input *in)
{
    for (unsigned bends = in_u8(in) % 8; bends && len >= 8; bends--) {
        uint8_t how = in_u8(in);
        size_t width = (size_t)1 << how % 4, at = how & 4 ? in_u8(in) : in_u16(in);
        uint64_t v = in_value(in), old = 0;

        at %= len - width + 1;
        if (how & 8) /* a number stands at a multiple of its size */
            at -= at % width;
        memcpy(&old, data + at, width);
        v = how & 16 ? old + v : how & 32 ? old - v : v;
        memcpy(data + at, &v, width);
    }
}

int image_load(struct gmem *m, const struct boot_config *c, struct boot_state *s)
{
    struct err e = { 0 };
    int ret = boot_load(m, c, s, &e);

    FUZZ_CHECK(ret <= 0 && (ret == 0 || (e.code == -ret && e.msg[0])), "%d: %s", ret, e.msg);
    for (const char *p = e.msg; *p; p++)
        FUZZ_CHECK((unsigned char)*p >= ' ' && *p != 0x7f, "a control byte in: %s", e.msg);
    return ret;
}

/* The compiler's loop over megabytes, not ours, and not watched. */
static bool is_zero(const uint8_t *p, uint64_t len)
{
    return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

void image_check(const struct gmem *m, const struct image_piece *piece, unsigned n)
{
    static const struct {
        uint64_t from, to;
    } empty[] = { { 0, LAYOUT_GDT },
                  { LAYOUT_GDT + LAYOUT_GDT_LEN, LAYOUT_ZERO_PAGE },
                  { LAYOUT_SETUP + LAYOUT_SETUP_LEN, LAYOUT_CMDLINE },
                  { LAYOUT_CMDLINE + LAYOUT_CMDLINE_LEN, LAYOUT_ACPI } };
    uint8_t *ram = m->region[0].host;

    for (unsigned i = 0; i < ARRAY_LEN(empty); i++)
        FUZZ_CHECK(is_zero(ram + empty[i].from, empty[i].to - empty[i].from),
                   "something lies below 1 MiB from 0x%jx on", (uintmax_t)empty[i].from);
    /* What is as it should be is taken away, zeros are left. */
    for (unsigned i = 0; i < n; i++) {
        FUZZ_CHECK(piece[i].gpa >= LAYOUT_KERNEL_MIN &&
                       range_within(piece[i].gpa, piece[i].len, m->region[0].len),
                   "a piece at 0x%jx, 0x%jx bytes", (uintmax_t)piece[i].gpa,
                   (uintmax_t)piece[i].len);
        FUZZ_CHECK(memcmp(ram + piece[i].gpa, piece[i].data, piece[i].len) == 0,
                   "other bytes at 0x%jx", (uintmax_t)piece[i].gpa);
        memset(ram + piece[i].gpa, 0, piece[i].len);
    }
    FUZZ_CHECK(is_zero(ram + LAYOUT_KERNEL_MIN, m->region[0].len - LAYOUT_KERNEL_MIN),
               "something lies outside the pieces");
}
