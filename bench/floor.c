/* floor MEGABYTES KERNEL [INITRD CMDLINE]: the least a program can do to run the bench's guests.
 *
 * This is no monitor: it has no device, checks next to nothing, and trusts its guest. It makes only
 * the KVM calls that a Linux guest can't do without, memory before the irqchip (the other way round
 * each waits for a grace period), loads the ELF kernel with reads straight into guest memory, and
 * enters it on its only thread. What Mayfly takes beyond that is the price of what Mayfly does
 * beyond that.
 *
 * Without devices there are no ACPI tables either: Linux is told acpi=off by its command line. The
 * freestanding guest finds the register of a console that prints one byte. Either ends by ACPI's
 * sleep port or the keyboard controller's reset.
 */
#include <asm/bootparam.h>
#include <elf.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Guest memory below 1 MiB. */
enum { ZERO_PAGE = 0x7000, PML4 = 0x9000, PDPT = 0xa000, PD = 0xb000, CMDLINE = 0x10000 };

#define HUGE_PAGE 0x200000ul
#define CONSOLE   0xd0000000ul /* what guest.S looks for: */
#define DEVICE_ID (CONSOLE + 8)
#define EMERGENCY (CONSOLE + 0x108)

#define LARGE_PAGE 0x83 /* present, writable, 2 MiB */
#define TABLE      0x03

static uint8_t *ram;

static long must(long ret, const char *what)
{
    if (ret < 0) {
        perror(what);
        exit(125);
    }
    return ret;
}

/* Aligned as Mayfly's, and with huge pages advised. */
static void map_ram(size_t len)
{
    void *p = mmap(NULL, len + HUGE_PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    must(p == MAP_FAILED ? -1 : 0, "memory");
    ram = (uint8_t *)(((uintptr_t)p + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
    madvise(ram, len, MADV_HUGEPAGE);
}

static void read_at(int fd, uint64_t to, size_t len, off_t from)
{
    for (size_t done = 0; done < len;)
        done += (size_t)must(pread(fd, ram + to + done, len - done, from + (off_t)done), "read");
}

/* Returns the 64-bit entry. */
static uint64_t load_kernel(const char *path)
{
    int fd = (int)must(open(path, O_RDONLY | O_CLOEXEC), path);
    Elf64_Phdr ph[16];
    Elf64_Ehdr eh;

    must(pread(fd, &eh, sizeof eh, 0), path);
    must(eh.e_phnum > 16 ? -1 : 0, "program headers");
    must(pread(fd, ph, sizeof *ph * eh.e_phnum, (off_t)eh.e_phoff), path);
    for (int i = 0; i < eh.e_phnum; i++)
        if (ph[i].p_type == PT_LOAD)
            read_at(fd, ph[i].p_paddr, ph[i].p_filesz, (off_t)ph[i].p_offset);
    close(fd);
    return eh.e_entry;
}

/* The zero page, the initrd at the end of memory, and the first 4 GiB mapped one to one. */
static void load_rest(size_t len, const char *initrd, const char *cmdline)
{
    struct boot_params *z = (void *)(ram + ZERO_PAGE);
    uint64_t *pml4 = (void *)(ram + PML4), *pdpt = (void *)(ram + PDPT), *pd = (void *)(ram + PD);
    struct stat st;

    z->hdr.type_of_loader = 0xff;
    z->hdr.cmd_line_ptr = CMDLINE;
    z->e820_entries = 2;
    z->e820_table[0] = (struct boot_e820_entry){ 0, 0x9fc00, 1 };
    z->e820_table[1] = (struct boot_e820_entry){ 0x100000, len - 0x100000, 1 };
    if (initrd) {
        int fd = (int)must(open(initrd, O_RDONLY | O_CLOEXEC), initrd);

        must(fstat(fd, &st), initrd);
        z->hdr.ramdisk_size = (uint32_t)st.st_size;
        z->hdr.ramdisk_image = (uint32_t)(len - (size_t)st.st_size) & ~0xfffu;
        read_at(fd, z->hdr.ramdisk_image, (size_t)st.st_size, 0);
        close(fd);
    }
    if (cmdline)
        snprintf((char *)ram + CMDLINE, 0x10000, "%s", cmdline);
    pml4[0] = PDPT + TABLE;
    for (uint64_t i = 0; i < 4; i++)
        pdpt[i] = (PD + (i << 12)) + TABLE;
    for (uint64_t i = 0; i < 2048; i++)
        pd[i] = (i << 21) + LARGE_PAGE;
}

static void set_cpuid(int kvm, int vcpu)
{
    struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entry[128];
    } c = { .head.nent = 128 };

    must(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &c), "supported CPUID");
    for (uint32_t i = 0; i < c.head.nent; i++)
        if (c.entry[i].function == 1)
            c.entry[i].ecx |= 1u << 24 | 1u << 31; /* TSC deadline timer, hypervisor */
    must(ioctl(vcpu, KVM_SET_CPUID2, &c), "CPUID");
}

static void set_registers(int vcpu, uint64_t entry)
{
    struct kvm_regs r = { .rflags = 2, .rip = entry, .rsi = ZERO_PAGE };
    struct kvm_segment code = {
        .limit = ~0u, .selector = 0x10, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1
    };
    struct kvm_segment data = {
        .limit = ~0u, .selector = 0x18, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1
    };
    struct kvm_sregs s;

    must(ioctl(vcpu, KVM_GET_SREGS, &s), "registers");
    s.cs = code;
    s.ds = s.es = s.fs = s.gs = s.ss = data;
    s.cr0 = 0x80000011; /* PG, ET, PE */
    s.cr3 = PML4;
    s.cr4 = 0x20;   /* PAE */
    s.efer = 0x500; /* LMA, LME */
    must(ioctl(vcpu, KVM_SET_SREGS, &s), "registers");
    must(ioctl(vcpu, KVM_SET_REGS, &r), "registers");
}

/* Whether the guest goes on. Ports without a device read as ones, the keyboard controller's as 0
 * (the kernel waits for that before it resets). */
static int answer(struct kvm_run *run)
{
    static const uint64_t console = 3, none = 0;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;

    if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT)
        return !((run->io.port == 0x600 && *data == (0x20 | 5 << 2)) ||
                 (run->io.port == 0x64 && *data == 0xfe));
    if (run->exit_reason == KVM_EXIT_IO)
        memset(data, run->io.port == 0x64 ? 0 : 0xff, (size_t)run->io.size * run->io.count);
    else if (run->exit_reason == KVM_EXIT_MMIO && run->mmio.is_write)
        return run->mmio.phys_addr != EMERGENCY || write(STDOUT_FILENO, run->mmio.data, 1) == 1;
    else if (run->exit_reason == KVM_EXIT_MMIO)
        memcpy(run->mmio.data, run->mmio.phys_addr == DEVICE_ID ? &console : &none, sizeof none);
    else {
        fprintf(stderr, "floor: exit %u\n", run->exit_reason);
        exit(71);
    }
    return 1;
}

int main(int argc, char **argv)
{
    if (argc != 3 && argc != 5)
        return 125;
    size_t len = strtoul(argv[1], NULL, 10) << 20;

    map_ram(len);
    uint64_t entry = load_kernel(argv[2]);

    load_rest(len, argc == 5 ? argv[3] : NULL, argc == 5 ? argv[4] : NULL);

    int kvm = (int)must(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
    int vm = (int)must(ioctl(kvm, KVM_CREATE_VM, 0), "VM");
    struct kvm_userspace_memory_region slot = { .memory_size = len,
                                                .userspace_addr = (uintptr_t)ram };

    must(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), "memory slot");
    must(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "irqchip");

    int vcpu = (int)must(ioctl(vm, KVM_CREATE_VCPU, 0), "vCPU");
    size_t run_len = (size_t)must(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "vCPU's size");
    struct kvm_run *run = mmap(NULL, run_len, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

    must(run == MAP_FAILED ? -1 : 0, "vCPU's page");
    set_cpuid(kvm, vcpu);
    set_registers(vcpu, entry);
    do
        must(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
    while (answer(run));
    /* The VM before its memory: at exit it would be the other way round, and each page taken away
     * from a VM that is still there. */
    munmap(run, run_len);
    close(vcpu);
    close(vm);
    return 0;
}
