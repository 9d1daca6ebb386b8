/* vCPU threads; see vcpu.h.
 *
 * A thread runs KVM_RUN, answers the exits through the two buses, and nothing else. To stop it
 * immediate_exit is set and a signal sent: whether the thread is about to enter the guest (the
 * flag makes KVM_RUN return at once) or in it (the signal kicks it out), it comes back with EINTR
 * and sees `stop`. The signal is unblocked in these threads alone and its handler does nothing.
 */
#include "kvm/vcpu.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/num.h"
#include "core/thread.h"
#include "kvm/cpuid.h"
#include "kvm/regs.h"

#define VCPU_STACK (16 * KIB)

static void on_kick(int sig)
{
    (void)sig;
}

int vcpu_init(struct vcpu *v, struct vm *vm, unsigned id, unsigned n, struct err *e)
{
    v->id = id;
    v->run = MAP_FAILED;
    v->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)id);
    if (v->fd < 0)
        return err_set(e, errno, "kvm: vCPU %u can't be made: %s: %s", id, strerror(errno),
                       err_remedy(errno, "give less to --cpus"));
    v->run = mmap(NULL, vm->run_len, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
    if (v->run == MAP_FAILED)
        return err_set(e, errno, "kvm: vCPU %u can't be mapped: %s: %s", id, strerror(errno),
                       err_remedy(errno, "report this"));
    cpuid_set_topology(vm, id, n);
    if (ioctl(v->fd, KVM_SET_CPUID2, vm->cpuid) < 0)
        return err_set(e, errno, "kvm: vCPU %u: CPUID: %s: report this", id, strerror(errno));
    return vcpu_set_msrs(v, e);
}

void vcpu_fini(struct vcpu *v, const struct vm *vm)
{
    if (v->run != MAP_FAILED)
        munmap(v->run, vm->run_len);
    if (v->fd >= 0)
        close(v->fd);
    v->run = MAP_FAILED;
    v->fd = -1;
}

int vcpus_create(struct vcpus *c, unsigned n, const struct vcpu_start *s, struct err *e)
{
    struct sigaction sa = { .sa_handler = on_kick }; /* no SA_RESTART: KVM_RUN must return */

    sigaction(THREAD_KICK_SIGNAL, &sa, NULL);
    c->n = 0;
    while (c->n < n) {
        struct vcpu *v = &c->cpu[c->n];
        int ret = vcpu_init(v, c->vm, c->n, n, e);

        v->set = c;
        c->n++;
        if (ret == 0 && v->id == 0)
            ret = vcpu_set_regs(v, s, e);
        if (ret) {
            vcpus_free(c);
            return ret;
        }
    }
    return 0;
}

void vcpus_free(struct vcpus *c)
{
    for (unsigned i = 0; i < c->n; i++)
        vcpu_fini(&c->cpu[i], c->vm);
    c->n = 0;
}

/* A port access; REP INS and OUTS come as several of one size in a row. */
static void vcpu_pio(struct vcpu *v)
{
    struct kvm_run *run = v->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;

    for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
        if (run->io.direction == KVM_EXIT_IO_OUT)
            bus_write(v->set->pio, run->io.port, data, run->io.size);
        else
            bus_read(v->set->pio, run->io.port, data, run->io.size);
    }
}

static void vcpu_mmio(struct vcpu *v)
{
    struct kvm_run *run = v->run;

    if (run->mmio.is_write)
        bus_write(v->set->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
    else
        bus_read(v->set->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
}

static void vcpu_end(struct vcpu *v, enum vcpu_end why, const char *text)
{
    v->set->on_end(v->set->arg, v, why, text);
}

/* KVM gave up: say in its words why. */
static void vcpu_end_fault(struct vcpu *v)
{
    const struct kvm_run *run = v->run;
    char text[160], bytes[3 * 15 + 1] = "";

    if (run->exit_reason == KVM_EXIT_FAIL_ENTRY) {
        snprintf(text, sizeof text, "the processor refused to enter the guest, reason 0x%llx",
                 (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
    } else if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
               run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
        if (run->internal.ndata >= 1 &&
            run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)
            for (size_t i = 0; i < run->emulation_failure.insn_size && i < 15; i++)
                snprintf(bytes + 3 * i, 4, " %02x", run->emulation_failure.insn_bytes[i]);
        snprintf(text, sizeof text, "KVM can't emulate an instruction%s%s", *bytes ? ":" : "",
                 bytes);
    } else if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
        snprintf(text, sizeof text, "KVM internal error %u", run->internal.suberror);
    } else {
        snprintf(text, sizeof text, "KVM exit %u is none that Mayfly knows", run->exit_reason);
    }
    vcpu_end(v, VCPU_FAULT, text);
}

/* Answers one exit. false: this vCPU has ended. */
static bool vcpu_exit(struct vcpu *v)
{
    switch (v->run->exit_reason) {
    case KVM_EXIT_IO:
        vcpu_pio(v);
        return true;
    case KVM_EXIT_MMIO:
        vcpu_mmio(v);
        return true;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        return true;
    case KVM_EXIT_SHUTDOWN:
        vcpu_end(v, VCPU_TRIPLE_FAULT, "");
        return false;
    default:
        vcpu_end_fault(v);
        return false;
    }
}

static void *vcpu_main(void *arg)
{
    struct vcpu *v = arg;
    sigset_t kick;
    char text[80];

    snprintf(text, sizeof text, "vcpu%u", v->id);
    thread_name(text);
    sigemptyset(&kick);
    sigaddset(&kick, THREAD_KICK_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
    atomic_store(&v->tid, (pid_t)syscall(SYS_gettid));
    v->set->on_start(v->set->arg);
    while (!atomic_load(&v->set->stop)) {
        if (ioctl(v->fd, KVM_RUN, 0) == 0) {
            if (!vcpu_exit(v))
                break;
        } else if (errno != EINTR && errno != EAGAIN) { /* EAGAIN: INIT came, SIPI did not yet */
            snprintf(text, sizeof text, "KVM_RUN: %s", strerror(errno));
            vcpu_end(v, VCPU_FAULT, text);
            break;
        }
    }
    return NULL;
}

int vcpus_run(struct vcpus *c, struct err *e)
{
    for (unsigned i = 0; i < c->n; i++) {
        struct vcpu *v = &c->cpu[i];
        int ret = thread_start(&v->thread, "of a vCPU", VCPU_STACK, vcpu_main, v, e);

        if (ret) {
            vcpus_join(c);
            return ret;
        }
        v->has_thread = true;
    }
    return 0;
}

void vcpus_request_stop(struct vcpus *c)
{
    atomic_store(&c->stop, true);
}

void vcpus_join(struct vcpus *c)
{
    vcpus_request_stop(c);
    for (unsigned i = 0; i < c->n; i++) {
        if (!c->cpu[i].has_thread)
            continue;
        __atomic_store_n(&c->cpu[i].run->immediate_exit, 1, __ATOMIC_RELEASE);
        /* Not pthread_kill: musl's names no process, and our filter lets us signal ourselves only.
         * A thread without an id yet sees `stop` before it enters the guest. */
        pid_t tid = atomic_load(&c->cpu[i].tid);

        if (tid)
            syscall(SYS_tgkill, getpid(), tid, THREAD_KICK_SIGNAL);
    }
    for (unsigned i = 0; i < c->n; i++)
        if (c->cpu[i].has_thread) {
            pthread_join(c->cpu[i].thread, NULL);
            c->cpu[i].has_thread = false;
        }
}

uint64_t vcpu_rip(const struct vcpu *v)
{
    struct kvm_regs r;

    return ioctl(v->fd, KVM_GET_REGS, &r) < 0 ? 0 : r.rip;
}
