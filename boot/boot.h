/* From files and options to guest memory that a vCPU can start in.
 *
 * boot_load() reads a Linux kernel (bzImage, or ELF by its 64-bit or its PVH entry) and initrds
 * into guest memory and writes beside them what firmware would have: memory map, command line,
 * ACPI tables, random seed. No KVM call: kvm/ turns struct boot_state into registers and needs to
 * know nothing of the layout. Documentation/arch/x86/boot.rst of Linux, Xen's pvh.markdown, ACPI
 * 6.3.
 */
#ifndef MAYFLY_BOOT_BOOT_H
#define MAYFLY_BOOT_BOOT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "core/gmem.h"

#define BOOT_CPUS_MAX    64
#define BOOT_INITRDS_MAX 16
#define BOOT_SEED_LEN    32

/* Devices: a page each from here, in the hole between the two parts of RAM. */
#define BOOT_DEVICE_BASE UINT64_C(0xd0000000)
#define BOOT_DEVICE_LEN  0x1000
#define BOOT_DEVICES_MAX 19 /* GSIs 5 to 23: the IOAPIC has 24 pins */
/* An edge here is a press of the power button, where the guest has ACPI. */
#define BOOT_BUTTON_GSI 4

enum boot_entry { BOOT_ENTRY_AUTO, BOOT_ENTRY_ELF, BOOT_ENTRY_PVH };

struct boot_device { /* a virtio-mmio window; from boot_device_slot() */
    gpa_t base;
    uint32_t len;
    uint32_t gsi;
};

struct boot_config {
    const char *kernel;         /* path */
    const char *const *initrds; /* paths; loaded as one, in this order */
    int n_initrds;
    const char *cmdline_extra; /* goes behind the default one; may be NULL */
    const char *cmdline_raw;   /* used alone, verbatim; may be NULL */
    enum boot_entry entry;
    bool mmio_cmdline; /* devices by command line and acpi=off, for kernels without ACPI */
    unsigned cpus;     /* 1..BOOT_CPUS_MAX, APIC ids 0..cpus-1; 1 with mmio_cmdline */
    const struct boot_device *devices;
    int n_devices;
    uint8_t seed[BOOT_SEED_LEN]; /* from the host's generator, used for nothing else */
};

/* A segment register with its hidden part, present and of privilege 0. */
struct boot_segment {
    uint64_t base;
    uint32_t limit; /* in bytes, as the processor holds it */
    uint16_t selector;
    uint8_t type;
    bool s, db, l, g;
};

enum boot_mode { BOOT_MODE_LONG64, BOOT_MODE_PVH32 };

/* How the first vCPU starts. General registers not named are 0, rflags is 2, the IDT has limit 0.
 * The other vCPUs wait for INIT and SIPI in their reset state. */
struct boot_state {
    enum boot_mode mode;
    uint64_t rip, rsp;
    uint64_t rsi; /* LONG64: the zero page */
    uint64_t rbx; /* PVH32: hvm_start_info */
    uint64_t cr0, cr3, cr4, efer;
    uint64_t gdt_base;
    uint16_t gdt_limit;
    struct boot_segment code; /* CS */
    struct boot_segment data; /* DS, ES, FS, GS, SS */
    struct boot_segment tss;  /* TR */
};

/* The window and interrupt of the index-th device, counted from 0. 0, or -ENOSPC with *e when the
 * interrupts are used up. */
int boot_device_slot(unsigned index, bool mmio_cmdline, struct boot_device *d, struct err *e);

/* Fills guest memory and *s. m must be fresh (all zero); after a failure it holds rubbish. 0, or
 * -errno with *e: the user's files and options are at fault, or the host's read. Main thread,
 * before any vCPU runs. */
int boot_load(struct gmem *m, const struct boot_config *c, struct boot_state *s, struct err *e);

#endif
