/* bzImage; see bzimage.h. Documentation/arch/x86/boot.rst of Linux, "The Real-Mode Kernel Header"
 * and "64-bit BOOT PROTOCOL".
 *
 *   file:  | boot sector | setup code            | protected-mode kernel        | signature ... |
 *          0       0x1f1 header, (setup_sects + 1) * 512     + syssize * 16
 *
 * Only the last part that syssize names is loaded, at pref_address, where the kernel runs if its
 * address is not randomised: it then unpacks itself inside [pref_address, + init_size) and moves
 * nothing. The 64-bit entry is 0x200 behind the start. The setup code is not used.
 */
#include "boot/bzimage.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "boot/layout.h"
#include "core/num.h"

#define HDR_OFF     0x1f1 /* of the setup header */
#define HDR_BASE    0x202 /* the byte before it counts the header's bytes from here */
#define HDR_MAGIC   UINT32_C(0x53726448) /* "HdrS" */
#define ENTRY64_OFF 0x200
#define SECTOR      512
#define SECTS_UNSET 4
#define VERSION_MIN 0x020c /* 2.12, Linux 3.8: xloadflags tells of the 64-bit entry */
#define HDR_MIN_END (HDR_OFF + offsetof(struct setup_header, handover_offset))
#define HDR_END(h)  (HDR_BASE + (unsigned)((h)->jump >> 8))

bool bzimage_is(const uint8_t *head, size_t len)
{
    uint32_t magic;

    if (len < HDR_BASE + sizeof magic)
        return false;
    memcpy(&magic, head + HDR_BASE, sizeof magic);
    return magic == HDR_MAGIC;
}

/* Whether this kernel can be started our way at all. */
static int bzimage_check_kind(const struct kernel *k, enum boot_entry entry, struct err *e)
{
    const struct setup_header *h = &k->hdr;

    if (entry != BOOT_ENTRY_AUTO)
        return err_set(e, EINVAL,
                       "kernel %s: is a bzImage, which has no %s entry: leave out --entry, or "
                       "give the vmlinux inside it",
                       k->file.path, entry == BOOT_ENTRY_PVH ? "PVH" : "ELF");
    if (h->version < VERSION_MIN)
        return err_set(e, ENOEXEC,
                       "kernel %s: speaks boot protocol %u.%02u, 2.12 is needed: give Linux 3.8 or "
                       "newer",
                       k->file.path, h->version >> 8, h->version & 0xff);
    if (!(h->loadflags & LOADED_HIGH) || !(h->xloadflags & XLF_KERNEL_64))
        return err_set(e, ENOEXEC,
                       "kernel %s: has no 64-bit entry: give a kernel built for x86_64 "
                       "(CONFIG_64BIT)",
                       k->file.path);
    return 0;
}

/* Everything that must hold before the numbers of the header are used. */
static int bzimage_check_numbers(const struct kernel *k, uint64_t start, uint64_t size,
                                 struct err *e)
{
    const struct setup_header *h = &k->hdr;
    uint64_t end;

    if (!range_within(start, size, k->file.size))
        return err_set(e, ENOEXEC,
                       "kernel %s: is truncated: %" PRIu64 " bytes of %" PRIu64
                       ": copy or download it again",
                       k->file.path, k->file.size, start + size);
    if (size <= ENTRY64_OFF || !range_within(h->payload_offset, h->payload_length, size) ||
        !add_u64(h->pref_address, max_u64(h->init_size, size), &end) ||
        h->pref_address < LAYOUT_KERNEL_MIN)
        return err_set(e, ENOEXEC,
                       "kernel %s: its boot header contradicts itself (address %#" PRIx64
                       ", needs %u bytes, has %" PRIu64 "): copy or build it again",
                       k->file.path, (uint64_t)h->pref_address, h->init_size, size);
    return 0;
}

int bzimage_parse(struct kernel *k, const uint8_t *head, size_t len, enum boot_entry entry,
                  struct err *e)
{
    struct setup_header *h = &k->hdr;

    memcpy(h, head + HDR_OFF, min_size(sizeof *h, len - HDR_OFF));
    int ret = bzimage_check_kind(k, entry, e);

    if (ret)
        return ret;
    /* The header says itself where it ends; what lies behind is code, and stays out of the zero
     * page. */
    size_t end = min_size(HDR_END(h), HDR_OFF + sizeof *h);

    if (end < HDR_MIN_END || len < end)
        return err_set(e, ENOEXEC, "kernel %s: its boot header is cut short: copy it again",
                       k->file.path);
    memset((uint8_t *)h + (end - HDR_OFF), 0, HDR_OFF + sizeof *h - end);

    uint64_t start = ((h->setup_sects ? h->setup_sects : SECTS_UNSET) + UINT64_C(1)) * SECTOR;
    uint64_t size = (uint64_t)h->syssize * 16;

    ret = bzimage_check_numbers(k, start, size, e);
    if (ret)
        return ret;
    k->mode = BOOT_MODE_LONG64;
    k->entry = h->pref_address + ENTRY64_OFF;
    k->end = h->pref_address + max_u64(h->init_size, size);
    k->initrd_limit = h->initrd_addr_max + UINT64_C(1);
    k->cmdline_max = h->cmdline_size;
    k->piece[0] = (struct kernel_piece){ .off = start, .gpa = { h->pref_address }, .len = size };
    k->n = 1;
    return 0;
}
