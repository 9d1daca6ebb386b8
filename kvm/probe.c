/* See probe.h.
 *
 * A host can have /dev/kvm and every capability and still be unable to run Linux: where there is
 * no hardware virtualization behind it, KVM emulates the guest's kernel code and refuses what its
 * emulator does not know. So a small VM executes three such instructions, each of which Linux
 * needs before it prints a word.
 */
#include "kvm/probe.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/num.h"
#include "kvm/cpuid.h"
#include "kvm/probe_guest.h"
#include "kvm/vcpu.h"

#define PROBE_RAM  MIB
#define SEL_CODE   0x10
#define SEL_DATA   0x18
#define GATE_INT64 0x8e00 /* present, privilege 0, 64-bit interrupt gate */

extern const uint8_t probe_guest[], probe_guest_end[], probe_on_int3[];
extern const uint8_t probe_int3[], probe_cmpxchg16b[], probe_xrstor[];

static const struct {
    const char *name;
    const uint8_t *entry;
    uint32_t cpuid_ecx; /* of leaf 1: needed only where the processor has it */
} trials[] = {
    { "int3", probe_int3, 0 },
    { "cmpxchg16b", probe_cmpxchg16b, 1u << 13 },
    { "xrstor", probe_xrstor, 1u << 26 },
};

static const struct {
    long cap;
    const char *name;
    bool count;
} wanted[] = {
    { KVM_CAP_TSC_DEADLINE_TIMER, "TSC deadline timer", false },
    { KVM_CAP_ADJUST_CLOCK, "kvmclock", false },
    { KVM_CAP_NR_VCPUS, "vCPUs recommended", true },
    { KVM_CAP_MAX_VCPUS, "vCPUs at most", true },
};

static void say(FILE *out, const char *what, const char *text)
{
    fprintf(out, "%-28s %s\n", what, text);
}

static uint64_t guest_address(const uint8_t *label)
{
    return PROBE_CODE + (uint64_t)(label - probe_guest);
}

/* Page tables for the first 2 MiB, a GDT with code and data, an IDT with a gate for int3. */
static int probe_fill(struct gmem *m)
{
    uint64_t handler = guest_address(probe_on_int3);
    const uint64_t pml4 = PROBE_PDPT | 3, pdpt = PROBE_PD | 3, pd = 0x83;
    const uint64_t gdt[] = { 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff };
    const uint64_t gate[2] = { (handler & 0xffff) | SEL_CODE << 16 | (uint64_t)GATE_INT64 << 32 |
                                   (handler >> 16 & 0xffff) << 48,
                               handler >> 32 };

    return gmem_write(m, (gpa_t){ PROBE_PML4 }, &pml4, sizeof pml4) ||
           gmem_write(m, (gpa_t){ PROBE_PDPT }, &pdpt, sizeof pdpt) ||
           gmem_write(m, (gpa_t){ PROBE_PD }, &pd, sizeof pd) ||
           gmem_write(m, (gpa_t){ PROBE_GDT }, gdt, sizeof gdt) ||
           gmem_write(m, (gpa_t){ PROBE_IDT + 3 * sizeof gate }, gate, sizeof gate) ||
           gmem_write(m, (gpa_t){ PROBE_CODE }, probe_guest,
                      (uintptr_t)probe_guest_end - (uintptr_t)probe_guest);
}

/* Runs one trial on the vCPU. Whether it passed; *e says why not. */
static bool probe_try(const struct vcpu *v, const uint8_t *entry, struct err *e)
{
    const struct vcpu_start start = {
        .long_mode = true,
        .rip = guest_address(entry),
        .rsp = PROBE_STACK,
        .cr3 = PROBE_PML4,
        .gdt_base = PROBE_GDT,
        .gdt_limit = 4 * 8 - 1,
        .cs = SEL_CODE,
        .ds = SEL_DATA,
    };
    struct kvm_regs r;

    if (vcpu_set_regs(v, &start, e))
        return false;
    if (ioctl(v->fd, KVM_RUN, 0) < 0)
        return err_set(e, errno, "KVM_RUN: %s", strerror(errno)) == 0;
    if (v->run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
        return err_set(e, EIO, "refused (KVM internal error %u)", v->run->internal.suberror) == 0;
    if (v->run->exit_reason != KVM_EXIT_HLT || ioctl(v->fd, KVM_GET_REGS, &r) < 0 ||
        r.rax != PROBE_PASSED)
        return err_set(e, EIO, "failed (KVM exit %u)", v->run->exit_reason) == 0;
    return true;
}

/* Makes the VM and tries each instruction on a vCPU of its own state. */
static bool probe_instructions(struct vm *vm, FILE *out, struct err *e)
{
    struct vcpu v = { .fd = -1 };
    struct gmem mem;
    char what[40];
    bool all = true;

    if (gmem_init(&mem, PROBE_RAM, &(struct gmem_opts){ 0 }, e))
        return false;
    if (probe_fill(&mem))
        all = err_set(e, EFAULT, "the probe does not fit its VM: report this") == 0;
    else if (vm_create_bare(vm, &mem, e) || vcpu_init(&v, vm, 0, 1, e))
        all = false;
    for (size_t i = 0; v.fd >= 0 && i < ARRAY_LEN(trials); i++) {
        const struct kvm_cpuid_entry2 *l = cpuid_find(vm->cpuid, 1, 0);

        snprintf(what, sizeof what, "guest kernel runs %s", trials[i].name);
        if (!l || (l->ecx & trials[i].cpuid_ecx) != trials[i].cpuid_ecx) {
            say(out, what, "not needed: the processor lacks it");
            continue;
        }
        bool passed = probe_try(&v, trials[i].entry, e);

        say(out, what, passed ? "yes" : e->msg);
        all &= passed;
    }
    if (v.fd >= 0)
        vcpu_fini(&v, vm);
    if (!all)
        err_set(e, ENOSYS,
                "its KVM has no hardware virtualization behind it: use one with VT-x or AMD-V "
                "(if it is a VM, with nested virtualization on)");
    gmem_fini(&mem);
    return all;
}

bool probe_run(FILE *out)
{
    struct vm vm;
    struct err e;
    char text[24];
    bool ok = vm_open(&vm, &e) == 0;

    say(out, "/dev/kvm", ok ? "yes" : e.msg);
    if (ok) {
        for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
            int v = ioctl(vm.kvm, KVM_CHECK_EXTENSION, wanted[i].cap);

            snprintf(text, sizeof text, "%d", v);
            say(out, wanted[i].name, wanted[i].count ? text : v > 0 ? "yes" : "no");
        }
        ok = probe_instructions(&vm, out, &e);
        vm_close(&vm);
    }
    if (ok)
        fprintf(out, "Linux will boot on this host.\n");
    else
        fprintf(out, "Linux will not boot on this host: %s\n", e.msg);
    return ok;
}
