/* See cpuid.h. Topology is told three times on x86: in leaf 1 and 4 (Intel) or 0x8000001d/1e
 * (AMD) for old kernels, and in leaf 0xb and 0x1f for all. Linux complains about a firmware bug
 * when they do not agree. */
#include "kvm/cpuid.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/num.h"

#define CPUID_SPARE 6 /* leaves 0xb and 0x1f, three subleaves each */

const struct kvm_cpuid_entry2 *cpuid_find(const struct kvm_cpuid2 *c, uint32_t leaf, uint32_t index)
{
    for (uint32_t i = 0; i < c->nent; i++)
        if (c->entries[i].function == leaf && c->entries[i].index == index)
            return &c->entries[i];
    return NULL;
}

/* Leaves 0xb and 0x1f are replaced by ours: KVM's describe the host. */
static void cpuid_make_topology_leaves(struct kvm_cpuid2 *c)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < c->nent; i++)
        if (c->entries[i].function != 0xb && c->entries[i].function != 0x1f)
            c->entries[kept++] = c->entries[i];
    c->nent = kept;
    const struct kvm_cpuid_entry2 *basic = cpuid_find(c, 0, 0);
    uint32_t max = basic ? basic->eax : 0;

    for (uint32_t leaf = 0xb; leaf <= 0x1f; leaf += 0x1f - 0xb)
        for (uint32_t index = 0; leaf <= max && index < 3; index++)
            c->entries[c->nent++] = (struct kvm_cpuid_entry2){
                .function = leaf, .index = index, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX
            };
}

int cpuid_fetch(struct vm *vm, struct err *e)
{
    bool deadline = ioctl(vm->kvm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;

    /* KVM says E2BIG until the table is large enough. */
    for (uint32_t room = 128; room <= 1024; room *= 2) {
        struct kvm_cpuid2 *c = calloc(1, sizeof *c + (room + CPUID_SPARE) *
                                                         sizeof(struct kvm_cpuid_entry2));

        if (!c)
            return err_set(e, ENOMEM, "cpuid: out of memory");
        c->nent = room;
        if (ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, c) == 0) {
            cpuid_make_topology_leaves(c);
            for (uint32_t i = 0; i < c->nent; i++)
                if (c->entries[i].function == 1 && deadline)
                    c->entries[i].ecx |= 1u << 24; /* the APIC timer needs no calibration */
            vm->cpuid = c;
            return 0;
        }
        int code = errno;

        free(c);
        if (code != E2BIG)
            return err_set(e, code, "kvm: CPUID: %s: use a newer host kernel", strerror(code));
    }
    return err_set(e, E2BIG, "kvm: CPUID has more than 1024 leaves: report this");
}

/* Bits that hold the numbers 0..n-1. */
static uint32_t bits_for(uint32_t n)
{
    uint32_t bits = 0;

    while ((UINT32_C(1) << bits) < n)
        bits++;
    return bits;
}

static void set_bits(uint32_t *reg, unsigned shift, unsigned width, uint32_t v)
{
    uint32_t mask = ((UINT32_C(1) << width) - 1) << shift;

    *reg = (*reg & ~mask) | (v << shift & mask);
}

/* Cache leaves (4 on Intel, 0x8000001d on AMD): the first two levels are a core's own, what lies
 * behind is everyone's. */
static void cpuid_set_cache(struct kvm_cpuid_entry2 *l, unsigned n)
{
    bool shared = (l->eax >> 5 & 7) > 2;

    if ((l->eax & 0x1f) == 0)
        return; /* no more caches */
    set_bits(&l->eax, 14, 12, shared ? (1u << bits_for(n)) - 1 : 0);
}

/* Intel SDM on CPUID 0BH: level type 1 is the thread, 2 the core, 0 the end. */
static void cpuid_set_extended_topology(struct kvm_cpuid_entry2 *l, unsigned id, unsigned n)
{
    static const uint32_t type[3] = { 1, 2, 0 };

    l->eax = l->index == 1 ? bits_for(n) : 0;
    l->ebx = l->index == 0 ? 1 : l->index == 1 ? n : 0;
    l->ecx = l->index | type[l->index] << 8;
    l->edx = id;
}

void cpuid_set_topology(struct vm *vm, unsigned id, unsigned n)
{
    for (uint32_t i = 0; i < vm->cpuid->nent; i++) {
        struct kvm_cpuid_entry2 *l = &vm->cpuid->entries[i];

        switch (l->function) {
        case 1:
            set_bits(&l->ebx, 24, 8, id);
            set_bits(&l->ebx, 16, 8, 1u << bits_for(n));
            set_bits(&l->edx, 28, 1, n > 1); /* HTT: the count above is valid */
            l->ecx |= 1u << 31;              /* a hypervisor is here */
            break;
        case 4:
            cpuid_set_cache(l, n);
            if (l->eax & 0x1f)
                set_bits(&l->eax, 26, 6, (1u << bits_for(n)) - 1);
            break;
        case 0xb:
        case 0x1f:
            cpuid_set_extended_topology(l, id, n);
            break;
        case 0x80000001:
            set_bits(&l->ecx, 1, 1, n > 1); /* AMD: CmpLegacy */
            break;
        case 0x80000008:
            set_bits(&l->ecx, 0, 8, n - 1);
            set_bits(&l->ecx, 12, 4, bits_for(n));
            break;
        case 0x8000001d:
            cpuid_set_cache(l, n);
            break;
        case 0x8000001e:
            l->eax = id;
            l->ebx = id; /* core id; one thread a core */
            l->ecx = 0;
            break;
        default:
            break;
        }
    }
}
