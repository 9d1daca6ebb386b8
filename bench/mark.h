/* How a guest tells where it is, so that no device is needed for it and every monitor is told the
 * same way: CPUID with this leaf and the place in ECX. Any program may execute it, KVM answers it
 * without leaving the kernel, and its trace event kvm:kvm_cpuid bears the host's time. */
#ifndef BENCH_MARK_H
#define BENCH_MARK_H

#define MARK_LEAF  0x4d617966 /* "Mayf" */
#define MARK_ENTRY 1          /* a freestanding guest's first instruction */
#define MARK_INIT  2          /* init's first act */
/* Before and after disk.c's or net.c's i-th pattern. */
#define MARK_BEGIN(i) (16 + 2 * (i))
#define MARK_END(i)   (17 + 2 * (i))

#ifndef __ASSEMBLER__
static inline void mark(unsigned place)
{
    unsigned leaf = MARK_LEAF;

    __asm__ volatile("cpuid" : "+a"(leaf), "+c"(place) : : "ebx", "edx", "memory");
}
#endif

#endif
