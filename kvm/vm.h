/* The virtual machine as KVM knows it: its memory, its interrupt controllers, its events. */
#ifndef MAYFLY_KVM_VM_H
#define MAYFLY_KVM_VM_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/gmem.h"

#define VM_CPUS_MAX 64

struct vm {
    int kvm, fd;              /* /dev/kvm, and the VM made from it */
    size_t run_len;           /* bytes of a vCPU's shared page(s) */
    struct kvm_cpuid2 *cpuid; /* what KVM supports, asked once; see cpuid.h */
};

/* Opens /dev/kvm and checks that it can do what Mayfly needs. 0, or -errno with *e, whose text says
 * what to do. Main thread, as all here. */
int vm_open(struct vm *vm, struct err *e);

/* Makes the VM with its memory and then the in-kernel PIC, IOAPIC and local APICs: in this order,
 * since a memslot set after the irqchip waits 6 ms for a grace period. */
int vm_create(struct vm *vm, const struct gmem *mem, struct err *e);
void vm_close(struct vm *vm);

/* The same without interrupt controllers, so that HLT ends KVM_RUN: for the probe. */
int vm_create_bare(struct vm *vm, const struct gmem *mem, struct err *e);

/* A 32-bit write of value to addr signals fd, without an exit. The fd stays the caller's. */
int vm_ioeventfd(struct vm *vm, gpa_t addr, uint32_t value, int fd, struct err *e);

/* A signal of fd raises the interrupt gsi, as an edge. */
int vm_irqfd(struct vm *vm, uint32_t gsi, int fd, struct err *e);

/* Raises the interrupt gsi, as an edge, at once and by this thread: an irqfd's signal goes by a
 * worker of the kernel's, which costs a switch there and back. Any thread, for one gsi one at a
 * time, and not beside an irqfd's signals: of two edges that overlap the guest gets one. */
void vm_irq(const struct vm *vm, uint32_t gsi);

#endif
