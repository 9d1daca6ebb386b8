/* The first state of a vCPU; vcpu_set_regs stands in vcpu.h. */
#ifndef MAYFLY_KVM_REGS_H
#define MAYFLY_KVM_REGS_H

#include "kvm/vcpu.h"

/* What firmware would have set, on every vCPU. 0, or -errno with *e. Main thread. */
int vcpu_set_msrs(const struct vcpu *v, struct err *e);

#endif
