/* The first state of a vCPU: segments and control registers as the boot protocols want them, and
 * the MSRs that firmware would have set. The tables that CR3 and GDTR point to are boot/'s work. */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/num.h"
#include "kvm/regs.h"

#define CR0_PE   (1u << 0)
#define CR0_ET   (1u << 4)
#define CR0_PG   (1u << 31)
#define CR4_PAE  (1u << 5)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)

#define MSR_IA32_MISC_ENABLE 0x1a0
#define MSR_MTRR_DEF_TYPE    0x2ff

/* Types of the segment descriptors (Intel SDM, volume 3, 3.4.5.1 and 3.5). */
enum { SEG_DATA_RW = 3, SEG_CODE_RX = 11, SEG_TSS_BUSY = 11 };

static void set_segments(struct kvm_sregs *sr, const struct vcpu_start *s)
{
    struct kvm_segment code = {
        .base = 0,
        .limit = 0xffffffff,
        .selector = s->cs,
        .type = SEG_CODE_RX,
        .present = 1,
        .s = 1,
        .g = 1,
        .l = s->long_mode,
        .db = !s->long_mode,
    };
    struct kvm_segment data = code;

    data.selector = s->ds;
    data.type = SEG_DATA_RW;
    data.l = 0;
    data.db = 1;
    sr->cs = code;
    sr->ds = sr->es = sr->fs = sr->gs = sr->ss = data;
    sr->tr = (struct kvm_segment){
        .limit = 0x67, .selector = s->tr, .type = SEG_TSS_BUSY, .present = 1
    };
    sr->gdt.base = s->gdt_base;
    sr->gdt.limit = s->gdt_limit;
    sr->idt.base = 0;
    sr->idt.limit = 0;
}

int vcpu_set_regs(const struct vcpu *v, const struct vcpu_start *s, struct err *e)
{
    struct kvm_regs r = { .rflags = 2, .rip = s->rip, .rsp = s->rsp, .rsi = s->rsi, .rbx = s->rbx };
    struct kvm_sregs sr;

    if (ioctl(v->fd, KVM_GET_SREGS, &sr) < 0)
        return err_set(e, errno, "kvm: vCPU %u: registers: %s: report this", v->id,
                       strerror(errno));
    set_segments(&sr, s);
    sr.cr0 = CR0_PE | CR0_ET;
    sr.cr4 = 0;
    sr.efer = 0;
    if (s->long_mode) {
        sr.cr0 |= CR0_PG;
        sr.cr3 = s->cr3;
        sr.cr4 = CR4_PAE;
        sr.efer = EFER_LME | EFER_LMA;
    }
    if (ioctl(v->fd, KVM_SET_SREGS, &sr) < 0 || ioctl(v->fd, KVM_SET_REGS, &r) < 0)
        return err_set(e, errno, "kvm: vCPU %u: registers: %s: report this", v->id,
                       strerror(errno));
    return 0;
}

int vcpu_set_msrs(const struct vcpu *v, struct err *e)
{
    static const struct {
        uint32_t index;
        uint64_t data;
    } msrs[] = {
        /* Fast string operations, as firmware leaves them. */
        { MSR_IA32_MISC_ENABLE, 1 },
        /* MTRRs on, write-back by default: with 0, their reset value, Linux turns PAT off. */
        { MSR_MTRR_DEF_TYPE, 0xc06 },
    };
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry[ARRAY_LEN(msrs)];
    } set = { .head.nmsrs = ARRAY_LEN(msrs) };

    for (size_t i = 0; i < ARRAY_LEN(msrs); i++)
        set.entry[i] = (struct kvm_msr_entry){ .index = msrs[i].index, .data = msrs[i].data };
    int done = ioctl(v->fd, KVM_SET_MSRS, &set);

    if (done != (int)ARRAY_LEN(msrs))
        return err_set(e, done < 0 ? errno : EINVAL,
                       "kvm: vCPU %u: MSR 0x%x is refused: report this", v->id,
                       msrs[done < 0 ? 0 : done].index);
    return 0;
}
