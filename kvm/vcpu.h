/* vCPUs: their first state, their threads, and what ends them. */
#ifndef MAYFLY_KVM_VCPU_H
#define MAYFLY_KVM_VCPU_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "core/bus.h"
#include "core/err.h"
#include "kvm/vm.h"

/* How the first vCPU starts: in 64-bit mode with paging, or in 32-bit protected mode without. */
struct vcpu_start {
    bool long_mode;
    uint64_t rip, rsp, rsi, rbx;
    uint64_t cr3, gdt_base; /* long mode */
    uint16_t gdt_limit, cs, ds, tr;
};

/* Why a vCPU left its loop by itself. */
enum vcpu_end {
    VCPU_TRIPLE_FAULT, /* the guest's */
    VCPU_FAULT,        /* KVM could not go on; the text says how */
};

struct vcpus;

struct vcpu {
    struct vcpus *set;
    int fd; /* -1: not made */
    unsigned id;
    struct kvm_run *run;
    pthread_t thread;
    bool has_thread;
    _Atomic pid_t tid; /* of the thread, once it runs */
};

/* All vCPUs of a VM and what they share. */
struct vcpus {
    struct vm *vm;
    const struct bus *mmio, *pio;
    /* Called on the vCPU's thread before it enters the guest. */
    void (*on_start)(void *arg);
    /* Called on the vCPU's thread, which ends after it. text may be "". */
    void (*on_end)(void *arg, const struct vcpu *v, enum vcpu_end why, const char *text);
    void *arg;
    unsigned n;
    _Atomic bool stop;
    struct vcpu cpu[VM_CPUS_MAX];
};

/* Makes n vCPUs: CPUID, MSRs, and for the first the state of s. The others wait for INIT and SIPI.
 * The fields above n are set by the caller. 0, or -errno with *e. Main thread. */
int vcpus_create(struct vcpus *c, unsigned n, const struct vcpu_start *s, struct err *e);

/* Starts a thread for each. On failure those that run are stopped again. Main thread. */
int vcpus_run(struct vcpus *c, struct err *e);

/* From any thread: none enters the guest again. Those inside stay there until vcpus_join. */
void vcpus_request_stop(struct vcpus *c);

/* Brings them out of the guest and waits for the threads. Main thread. */
void vcpus_join(struct vcpus *c);
void vcpus_free(struct vcpus *c);

/* The instruction pointer of a vCPU whose thread ended, 0 when KVM does not tell. */
uint64_t vcpu_rip(const struct vcpu *v);

/* For the probe: one vCPU, no thread. vcpu_init makes it, vcpu_set_regs gives it a state. */
int vcpu_init(struct vcpu *v, struct vm *vm, unsigned id, unsigned n, struct err *e);
void vcpu_fini(struct vcpu *v, const struct vm *vm);
int vcpu_set_regs(const struct vcpu *v, const struct vcpu_start *s, struct err *e);

#endif
