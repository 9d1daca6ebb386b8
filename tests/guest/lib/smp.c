/* See smp.h. One at a time: each is waited for, so they share the trampoline. */
#include "smp.h"

#include "guest.h"

#define TRAMPOLINE  0x20000 /* free low RAM: boot/layout.h */
#define STACK       2048
#define ICR_INIT    0x4500
#define ICR_STARTUP 0x4600

extern const uint8_t ap_trampoline[];
extern const uint64_t ap_trampoline_len;
extern volatile uint64_t ap_stack; /* ap.S: of the one that starts now */
void ap_main(void);

static uint8_t stacks[CPUS_MAX][STACK] __attribute__((aligned(16)));
static void (*volatile ap_fn)(unsigned);
static volatile unsigned ap_id;

void ap_main(void)
{
    unsigned id = ap_id;
    void (*fn)(unsigned) = ap_fn;

    fence();
    ap_fn = NULL; /* smp_start goes on */
    fn(id);
    halt();
}

void smp_start(unsigned id, void (*fn)(unsigned id))
{
    memcpy(at(TRAMPOLINE), ap_trampoline, ap_trampoline_len);
    ap_stack = (uintptr_t)stacks[id] + STACK;
    ap_id = id;
    ap_fn = fn;
    write32(APIC_BASE + APIC_SVR, 0x1ff);
    write32(APIC_BASE + APIC_ICR_HIGH, id << 24);
    write32(APIC_BASE + APIC_ICR_LOW, ICR_INIT);
    write32(APIC_BASE + APIC_ICR_HIGH, id << 24);
    write32(APIC_BASE + APIC_ICR_LOW, ICR_STARTUP | TRAMPOLINE >> 12);
    while (ap_fn)
        pause();
}
