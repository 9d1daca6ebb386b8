/* Other vCPUs, brought up by INIT and SIPI through the trampoline of ap.S. */
#ifndef GUEST_SMP_H
#define GUEST_SMP_H

#define CPUS_MAX 64

/* Has the vCPU with this APIC id (1 to CPUS_MAX - 1) run fn(id) on a stack of its own, in 64-bit
 * mode without interrupts, and halt. Returns when it has begun. Once for each. */
void smp_start(unsigned id, void (*fn)(unsigned id));

#endif
