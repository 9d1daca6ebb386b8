/* The zero page; see zeropage.h. Documentation/arch/x86/boot.rst and zero-page.rst of Linux.
 *
 * Only the kernel's setup header is copied into a page of zeros; the fields that a loader has to
 * write are written over it. Everything is below 4 GiB, so the ext_ fields stay 0. No screen is
 * described: with 0 lines Linux does not look for VGA.
 */
#include "boot/zeropage.h"

#include <string.h>

#include "boot/e820.h"
#include "boot/layout.h"

#define LOADER_UNDEFINED 0xff
#define VIDEO_NORMAL     0xffff

#ifndef SETUP_RNG_SEED
#define SETUP_RNG_SEED 9
#endif

_Static_assert(sizeof(struct boot_params) == LAYOUT_ZERO_PAGE_LEN, "the zero page is a page");

void zeropage_build(struct gmem *m, const struct setup_header *hdr, const struct boot_info *b,
                    const uint8_t seed[BOOT_SEED_LEN])
{
    struct boot_params *z = gmem_span(m, (gpa_t){ LAYOUT_ZERO_PAGE }, sizeof *z);
    struct setup_data *s = gmem_span(m, (gpa_t){ LAYOUT_SETUP }, LAYOUT_SETUP_LEN);

    /* Linux 6.0 on takes it as entropy and wipes it; older ones ignore the type. */
    *s = (struct setup_data){ .type = SETUP_RNG_SEED, .len = BOOT_SEED_LEN };
    memcpy(s->data, seed, BOOT_SEED_LEN);

    *z = (struct boot_params){ .hdr = *hdr };
    z->hdr.type_of_loader = LOADER_UNDEFINED;
    z->hdr.vid_mode = VIDEO_NORMAL;
    z->hdr.cmd_line_ptr = LAYOUT_CMDLINE;
    z->hdr.setup_data = LAYOUT_SETUP;
    z->hdr.ramdisk_image = (uint32_t)(b->initrd_size ? b->initrd : 0);
    z->hdr.ramdisk_size = (uint32_t)b->initrd_size;
    z->acpi_rsdp_addr = b->acpi ? LAYOUT_ACPI : 0;
    z->e820_entries = (uint8_t)e820_build(m, b->acpi, z->e820_table);
}
