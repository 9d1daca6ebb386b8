/* How the machine ended, for the person who started it: the last line on stderr and the exit status
 * (docs/mayfly.1, EXIT STATUS). */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "boot/klog.h"
#include "virtio/console.h"
#include "vmm.h"

#define RIP_RESET 0xfff0 /* where a processor starts */

/* A guest that died before its console existed is not silent: the end of its log, if it is found
 * in its memory. */
static void tell_guest_log(const struct machine *m)
{
    static char text[4096];
    size_t n = klog_find(&m->mem, text, sizeof text - 1);

    if (n == 0) {
        dprintf(STDERR_FILENO, "mayfly: the guest never used its console, and no kernel log is "
                               "found in its memory\n");
        return;
    }
    dprintf(STDERR_FILENO, "mayfly: the guest never used its console; the end of its kernel log:"
                           "\n");
    text[n] = 0;
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        dprintf(STDERR_FILENO, "| %s\n", line);
    }
}

static void tell_vcpus(const struct machine *m)
{
    for (unsigned i = 0; i < m->vcpus.n; i++)
        dprintf(STDERR_FILENO, "mayfly: vCPU %u is at RIP 0x%" PRIx64 "\n", i,
                vcpu_rip(&m->vcpus.cpu[i]));
}

int report_end(const struct machine *m)
{
    enum ending why = (enum ending)atomic_load(&m->ending);
    bool panicked = (why == END_RESET || why == END_TRIPLE) && boot_panicked(&m->mem);
    bool orderly = why == END_POWEROFF || (why == END_RESET && !panicked);

    if (!orderly && m->n_slots && !console_was_used(m->slot[0].dev)) {
        tell_guest_log(m);
        if (why == END_TIMEOUT || why == END_SIGNAL)
            tell_vcpus(m);
    }
    uint64_t rip = m->end_vcpu < m->vcpus.n ? vcpu_rip(&m->vcpus.cpu[m->end_vcpu]) : 0;

    if (panicked) {
        dprintf(STDERR_FILENO, "mayfly: the guest's kernel panicked\n");
        return EXIT_PANIC;
    }
    switch (why) {
    case END_NONE:
    case END_POWEROFF:
        dprintf(STDERR_FILENO, "mayfly: the guest powered off\n");
        return 0;
    case END_RESET:
        dprintf(STDERR_FILENO, "mayfly: the guest rebooted; Mayfly ends there\n");
        return 0;
    case END_TRIPLE:
        if (rip == RIP_RESET)
            dprintf(STDERR_FILENO,
                    "mayfly: the guest triple-faulted: vCPU %u (KVM has reset it, as it does on "
                    "AMD: its RIP is lost)\n",
                    m->end_vcpu);
        else
            dprintf(STDERR_FILENO,
                    "mayfly: the guest triple-faulted: vCPU %u at RIP 0x%" PRIx64 "\n", m->end_vcpu,
                    rip);
        return EXIT_TRIPLE_FAULT;
    case END_FAULT:
        dprintf(STDERR_FILENO,
                "mayfly: vCPU %u can't go on: %s, at RIP 0x%" PRIx64 ": does "
                "`mayfly probe` say that Linux boots here?\n",
                m->end_vcpu, m->end_text, rip);
        return EXIT_MAYFLY;
    case END_TIMEOUT:
        dprintf(STDERR_FILENO, "mayfly: the time of --timeout was up; the guest was ended\n");
        return EXIT_TIMEOUT;
    case END_SIGNAL:
        if (atomic_load(&m->escaped)) {
            dprintf(STDERR_FILENO, "mayfly: Ctrl-] was pressed three times; the guest was ended\n");
            return EXIT_SIGNALLED + SIGINT;
        }
        dprintf(STDERR_FILENO, "mayfly: %s: the guest was ended\n", strsignal(m->signal));
        return EXIT_SIGNALLED + m->signal;
    }
    return EXIT_MAYFLY;
}
