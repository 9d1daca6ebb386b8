/* hvm_start_info; see pvh.h. It has no place for a random seed. */
#include "boot/pvh.h"

#include "boot/e820.h"
#include "boot/layout.h"

struct pvh_page {
    struct pvh_start_info info;
    struct pvh_module initrd;
    struct pvh_memmap map[E820_MAX];
};
_Static_assert(sizeof(struct pvh_start_info) == 56 && sizeof(struct pvh_module) == 32 &&
                   sizeof(struct pvh_memmap) == 24,
               "the structures are Xen's");
_Static_assert(sizeof(struct pvh_page) <= LAYOUT_PVH_LEN, "they share a page");

void pvh_build(struct gmem *m, const struct boot_info *b)
{
    struct pvh_page *p = gmem_span(m, (gpa_t){ LAYOUT_PVH }, sizeof *p);
    struct boot_e820_entry map[E820_MAX];
    int n = e820_build(m, b->acpi, map);

    *p = (struct pvh_page){ .info = { .magic = PVH_MAGIC,
                                      .version = PVH_VERSION,
                                      .cmdline = LAYOUT_CMDLINE,
                                      .rsdp = b->acpi ? LAYOUT_ACPI : 0,
                                      .memmap = LAYOUT_PVH + offsetof(struct pvh_page, map),
                                      .memmap_entries = (uint32_t)n } };
    if (b->initrd_size) {
        p->info.nr_modules = 1;
        p->info.modlist = LAYOUT_PVH + offsetof(struct pvh_page, initrd);
        p->initrd = (struct pvh_module){ .addr = b->initrd, .size = b->initrd_size };
    }
    for (int i = 0; i < n; i++)
        p->map[i] = (struct pvh_memmap){ .addr = map[i].addr,
                                         .size = map[i].size,
                                         .type = map[i].type };
}
