/* CPUID as the guest sees it: what KVM supports, with the topology of this VM. */
#ifndef MAYFLY_KVM_CPUID_H
#define MAYFLY_KVM_CPUID_H

#include "kvm/vm.h"

/* Asks KVM what it supports into vm->cpuid, with room for the leaves we add. 0 or -errno. */
int cpuid_fetch(struct vm *vm, struct err *e);

/* A leaf of what is supported, or NULL. */
const struct kvm_cpuid_entry2 *cpuid_find(const struct kvm_cpuid2 *c, uint32_t leaf,
                                          uint32_t index);

/* Rewrites vm->cpuid for the vCPU id of n (1..VM_CPUS_MAX): one package of n cores of one thread,
 * x2APIC ids 0..n-1. Idempotent, so that one table serves all vCPUs in turn. */
void cpuid_set_topology(struct vm *vm, unsigned id, unsigned n);

#endif
