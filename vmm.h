/* The machine: what main builds, runs and tells the end of. For vmm.c and report.c alone. */
#ifndef MAYFLY_VMM_H
#define MAYFLY_VMM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "boot/boot.h"
#include "boot/power.h"
#include "config/config.h"
#include "core/bus.h"
#include "core/gmem.h"
#include "core/loop.h"
#include "host/stream.h"
#include "host/tap.h"
#include "host/vhost.h"
#include "kvm/vcpu.h"
#include "seccomp/enter.h"
#include "virtio/mmio.h"

/* Exit statuses (docs/mayfly.1, EXIT STATUS). */
enum {
    EXIT_PANIC = 70,
    EXIT_TRIPLE_FAULT = 71,
    EXIT_TIMEOUT = 124,
    EXIT_MAYFLY = 125,
    EXIT_SIGNALLED = 128, /* + n */
};

/* How the machine ended. */
enum ending { END_NONE, END_POWEROFF, END_RESET, END_TRIPLE, END_FAULT, END_TIMEOUT, END_SIGNAL };

/* A device in its place: transport, loops, window, interrupt. */
struct slot {
    struct virtio_dev *dev;
    struct virtio_mmio mmio;
    struct loop *loop; /* n_loops of them, the device's own first */
    unsigned n_loops;
    struct boot_device at;
    enum seccomp_role role; /* of its loops' threads */
    const struct vm *vm;
    pthread_mutex_t pulse; /* one edge at a time */
};

struct machine;

/* Ports that boot/power.c answers. */
struct port_window {
    struct machine *machine;
    uint16_t port, len;
};

/* What a network card is in front of. */
struct net_place {
    struct tap tap;
    struct vhost vhost[TAP_QUEUES_MAX];
};

struct machine {
    struct config cfg;
    struct gmem mem;
    struct vm vm;
    struct vcpus vcpus;
    struct bus mmio, pio;
    struct power power;
    struct port_window port[2];
    struct stream stream;
    struct slot slot[BOOT_DEVICES_MAX];
    unsigned n_slots;
    struct net_place *net; /* of each card */
    /* This thread's loop and what it waits for. */
    struct loop loop;
    struct watch signals, timeout, grace, ended;
    int button; /* an eventfd: a signal presses the guest's power button; -1 without ACPI */
    int signal; /* the first that asked for an end */
    bool log_opened, pidfile_made;
    /* Written once, by the thread that ends the machine first. */
    _Atomic int ending;
    unsigned end_vcpu;
    char end_text[160];
    _Atomic bool escaped;
};

/* Tells on stderr how the machine ended, its last words first where nobody heard them, and returns
 * the exit status. With all threads joined. */
int report_end(const struct machine *m);

#endif
