/* Brings up the other vCPUs; each tells its identity. fault=N: vCPU N triple-faults instead. */
#include "lib/smp.h"
#include "lib/virtio.h"

#define MSR_APIC   0x1b
#define APIC_EXTD  (1u << 10)
#define X2APIC_ID  0x802
#define HAS_X2APIC (1u << 21)

struct identity {
    uint32_t xapic, leaf1, leafb, x2apic, shift, cores, types;
};

static struct identity identity[CPUS_MAX];
static volatile unsigned identified;
static unsigned fault;

static void identify(unsigned id)
{
    struct identity *me = &identity[id];
    struct cpuid one = cpuid(1, 0), thread = cpuid(0xb, 0), core = cpuid(0xb, 1);

    if (fault && id == fault)
        __asm__ volatile(".globl ap_fault\nap_fault: ud2");
    me->xapic = read32(APIC_BASE + 0x20) >> 24;
    me->leaf1 = one.ebx >> 24;
    me->leafb = thread.edx;
    me->shift = core.eax & 0x1f;
    me->cores = core.ebx & 0xffff;
    me->types = (thread.ecx >> 8 & 0xff) << 8 | (core.ecx >> 8 & 0xff);
    me->x2apic = UINT32_MAX;
    if (one.ecx & HAS_X2APIC) {
        write_msr(MSR_APIC, read_msr(MSR_APIC) | APIC_EXTD);
        me->x2apic = (uint32_t)read_msr(X2APIC_ID);
    }
    fence();
    identified = id;
}

void guest_main(void)
{
    unsigned cpus = (unsigned)option_number("cpus", 1);

    fault = (unsigned)option_number("fault", 0);
    console_start(0);
    for (unsigned id = 1; id < cpus; id++) {
        smp_start(id, identify);
        while (identified != id)
            pause();
    }
    identify(0);
    for (unsigned i = 0; i < cpus; i++) {
        const struct identity *c = &identity[i];

        print("cpu %u: apic %u leaf1 %u leafb %u x2apic %u shift %u cores %u types %04x\n", i,
              c->xapic, c->leaf1, c->leafb, c->x2apic, c->shift, c->cores, c->types);
    }
}
