/* The first vCPU's state; see cpustate.h.
 *
 * LONG64 (boot.rst, "64-bit BOOT PROTOCOL"): 64-bit mode, the kernel's range, zero page and command
 * line mapped one to one, CS 0x10 executable, DS, ES and SS 0x18 writable, interrupts off, the zero
 * page in RSI. Everything below 4 GiB is mapped, with pages of 2 MiB: that holds any kernel's range
 * and lets a freestanding guest reach its devices.
 *
 * PVH32 (Xen, docs/misc/pvh.markdown): flat 32-bit protected mode without paging, CR0 with PE
 * alone, CR4 zero, a 32-bit TSS at 0 with limit 0x67, the start info in EBX.
 *
 * The GDT in memory says the same as the segment registers, so that a guest may load a segment
 * before it has a GDT of its own.
 */
#include "boot/cpustate.h"

#include <string.h>

#include "boot/layout.h"
#include "core/num.h"

enum { GDT_CODE = 2, GDT_DATA = 3, GDT_TSS = 4, GDT_LEN = 6 /* a 64-bit TSS takes two */ };

#define CR0_PE    (UINT64_C(1) << 0)
#define CR0_ET    (UINT64_C(1) << 4)
#define CR0_NE    (UINT64_C(1) << 5)
#define CR0_PG    (UINT64_C(1) << 31)
#define CR4_PAE   (UINT64_C(1) << 5)
#define EFER_LME  (UINT64_C(1) << 8)
#define EFER_LMA  (UINT64_C(1) << 10)
#define PTE_TABLE UINT64_C(0x003) /* present, writable */
#define PTE_LARGE UINT64_C(0x083) /* the same, a page of 2 MiB */
#define PT_LEN    512

#define TYPE_CODE UINT8_C(0xb) /* execute, read, accessed */
#define TYPE_DATA UINT8_C(0x3) /* read, write, accessed */
#define TYPE_TSS  UINT8_C(0xb) /* busy; 64-bit in long mode */

static uint64_t descriptor(const struct boot_segment *s)
{
    uint64_t limit = s->g ? s->limit >> 12 : s->limit;
    uint64_t attr = s->type | (uint64_t)s->s << 4 | UINT64_C(1) << 7 /* present */ |
                    (uint64_t)s->l << 13 | (uint64_t)s->db << 14 | (uint64_t)s->g << 15;

    return (limit & 0xffff) | (s->base & 0xffffff) << 16 | attr << 40 | (limit >> 16 & 0xf) << 48 |
           (s->base >> 24 & 0xff) << 56;
}

static void pagetable_build(struct gmem *m)
{
    uint64_t *pml4 = gmem_span(m, (gpa_t){ LAYOUT_PML4 }, PT_LEN * sizeof *pml4);
    uint64_t *pdpt = gmem_span(m, (gpa_t){ LAYOUT_PDPT }, PT_LEN * sizeof *pdpt);
    uint64_t *pd = gmem_span(m, (gpa_t){ LAYOUT_PD },
                             (uint64_t)LAYOUT_PD_COUNT * PT_LEN * sizeof *pd);

    pml4[0] = LAYOUT_PDPT | PTE_TABLE;
    for (unsigned i = 0; i < LAYOUT_PD_COUNT; i++)
        pdpt[i] = (LAYOUT_PD + i * UINT64_C(0x1000)) | PTE_TABLE;
    for (unsigned i = 0; i < LAYOUT_PD_COUNT * PT_LEN; i++)
        pd[i] = (i * (2 * MIB)) | PTE_LARGE;
}

void cpustate_build(struct gmem *m, enum boot_mode mode, uint64_t entry, struct boot_state *s)
{
    bool is64 = mode == BOOT_MODE_LONG64;
    uint64_t *gdt = gmem_span(m, (gpa_t){ LAYOUT_GDT }, GDT_LEN * sizeof *gdt);

    *s = (struct boot_state){
        .mode = mode,
        .rip = entry,
        .rsp = LAYOUT_STACK_TOP, /* neither protocol asks for one */
        .rsi = is64 ? LAYOUT_ZERO_PAGE : 0,
        .rbx = is64 ? 0 : LAYOUT_PVH,
        .cr0 = is64 ? CR0_PE | CR0_ET | CR0_NE | CR0_PG : CR0_PE | CR0_ET,
        .cr3 = is64 ? LAYOUT_PML4 : 0,
        .cr4 = is64 ? CR4_PAE : 0,
        .efer = is64 ? EFER_LME | EFER_LMA : 0,
        .gdt_base = LAYOUT_GDT,
        .gdt_limit = GDT_LEN * sizeof *gdt - 1,
        .code = { .selector = GDT_CODE * 8,
                  .limit = UINT32_MAX,
                  .type = TYPE_CODE,
                  .s = true,
                  .l = is64,
                  .db = !is64,
                  .g = true },
        .data = { .selector = GDT_DATA * 8,
                  .limit = UINT32_MAX,
                  .type = TYPE_DATA,
                  .s = true,
                  .db = true,
                  .g = true },
        .tss = { .selector = GDT_TSS * 8, .limit = 0x67, .type = TYPE_TSS },
    };
    gdt[GDT_CODE] = descriptor(&s->code);
    gdt[GDT_DATA] = descriptor(&s->data);
    gdt[GDT_TSS] = descriptor(&s->tss);
    if (is64)
        pagetable_build(m);
}
