/* See vm.h; Documentation/virt/kvm/api.rst is the reference for every request here. */
#include "kvm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/num.h"
#include "kvm/cpuid.h"

/* On Intel without unrestricted guests KVM needs four pages of guest-physical space for itself;
 * they lie in the hole, above the devices and the APICs. */
#define TSS_ADDR      0xfffbd000ul
#define IDENTITY_ADDR 0xfffbc000ul

static const struct {
    long cap;
    const char *name;
} needed[] = {
    { KVM_CAP_USER_MEMORY, "user memory" },
    { KVM_CAP_IRQCHIP, "in-kernel irqchip" },
    { KVM_CAP_IRQFD, "irqfd" },
    { KVM_CAP_IOEVENTFD, "ioeventfd" },
    { KVM_CAP_IMMEDIATE_EXIT, "immediate exit" },
    { KVM_CAP_EXT_CPUID, "CPUID" },
    { KVM_CAP_SET_TSS_ADDR, "TSS address" },
    { KVM_CAP_SET_IDENTITY_MAP_ADDR, "identity map address" },
};

static int vm_open_failed(int code, struct err *e)
{
    const char *remedy = "is it a KVM device?";

    if (code == ENOENT)
        remedy = "load kvm_intel or kvm_amd, and see that virtualization is on in the firmware";
    else if (code == ENODEV || code == ENXIO)
        remedy = "this processor or machine has no virtualization, or its firmware hides it";
    else if (code == EACCES || code == EPERM)
        remedy = "become a member of the group kvm, or run as root";
    return err_set(e, code, "/dev/kvm: %s: %s", strerror(code), err_remedy(code, remedy));
}

int vm_open(struct vm *vm, struct err *e)
{
    *vm = (struct vm){ .kvm = -1, .fd = -1 };
    vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (vm->kvm < 0)
        return vm_open_failed(errno, e);
    int version = ioctl(vm->kvm, KVM_GET_API_VERSION, 0);

    if (version != KVM_API_VERSION) {
        vm_close(vm);
        return err_set(e, ENODEV,
                       "/dev/kvm: it is not KVM with API version %d: give Mayfly a "
                       "Linux host's",
                       KVM_API_VERSION);
    }
    for (size_t i = 0; i < ARRAY_LEN(needed); i++)
        if (ioctl(vm->kvm, KVM_CHECK_EXTENSION, needed[i].cap) <= 0) {
            vm_close(vm);
            return err_set(e, ENODEV, "/dev/kvm: it lacks %s: use a newer host kernel",
                           needed[i].name);
        }
    int len = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

    if (len < (int)sizeof(struct kvm_run)) {
        vm_close(vm);
        return err_set(e, ENODEV, "/dev/kvm: no vCPU size: use a newer host kernel");
    }
    vm->run_len = (size_t)len;
    int ret = cpuid_fetch(vm, e);

    if (ret)
        vm_close(vm);
    return ret;
}

void vm_close(struct vm *vm)
{
    if (vm->fd >= 0)
        close(vm->fd);
    if (vm->kvm >= 0)
        close(vm->kvm);
    free(vm->cpuid);
    *vm = (struct vm){ .kvm = -1, .fd = -1 };
}

static int vm_failed(const char *what, struct err *e)
{
    int code = errno;

    return err_set(e, code, "kvm: %s: %s: %s", what, strerror(code),
                   err_remedy(code, "dmesg of the host may say more"));
}

int vm_create_bare(struct vm *vm, const struct gmem *mem, struct err *e)
{
    uint64_t identity = IDENTITY_ADDR;

    do /* a signal while KVM allocates: it is to be asked again */
        vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0);
    while (vm->fd < 0 && errno == EINTR);
    if (vm->fd < 0)
        return vm_failed("a VM can't be made", e);
    if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0 ||
        ioctl(vm->fd, KVM_SET_TSS_ADDR, TSS_ADDR) < 0)
        return vm_failed("TSS address", e);
    for (int i = 0; i < mem->n; i++) {
        const struct gmem_region *r = &mem->region[i];
        struct kvm_userspace_memory_region slot = {
            .slot = (uint32_t)i,
            .guest_phys_addr = r->base,
            .memory_size = r->len,
            .userspace_addr = (uintptr_t)r->host,
        };

        if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
            return vm_failed("guest memory", e);
    }
    return 0;
}

/* Interrupts below 16 reach the 8259 as well as the IOAPIC, and KVM's 8259 begins with nothing
 * masked and its vectors at 0: one that comes before Linux has turned to its APICs would be an
 * exception there (our power button, #OF, a panic). So all is masked, until a guest that wants the
 * 8259 sets it up. */
static int vm_mask_8259(struct vm *vm, struct err *e)
{
    struct kvm_irqchip pic = { .chip_id = KVM_IRQCHIP_PIC_MASTER };

    if (ioctl(vm->fd, KVM_GET_IRQCHIP, &pic) < 0)
        return vm_failed("irqchip", e);
    pic.chip.pic.imr = 0xff;
    return ioctl(vm->fd, KVM_SET_IRQCHIP, &pic) < 0 ? vm_failed("irqchip", e) : 0;
}

int vm_create(struct vm *vm, const struct gmem *mem, struct err *e)
{
    int ret = vm_create_bare(vm, mem, e);

    if (ret)
        return ret;
    if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) < 0)
        return vm_failed("irqchip", e);
    return vm_mask_8259(vm, e);
}

int vm_ioeventfd(struct vm *vm, gpa_t addr, uint32_t value, int fd, struct err *e)
{
    struct kvm_ioeventfd io = {
        .datamatch = value,
        .addr = addr.v,
        .len = sizeof value,
        .fd = fd,
        .flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
    };

    return ioctl(vm->fd, KVM_IOEVENTFD, &io) < 0 ? vm_failed("ioeventfd", e) : 0;
}

int vm_irqfd(struct vm *vm, uint32_t gsi, int fd, struct err *e)
{
    struct kvm_irqfd irq = { .fd = (uint32_t)fd, .gsi = gsi };

    return ioctl(vm->fd, KVM_IRQFD, &irq) < 0 ? vm_failed("irqfd", e) : 0;
}

void vm_irq(const struct vm *vm, uint32_t gsi)
{
    struct kvm_irq_level line = { .irq = gsi, .level = 1 };

    /* It can't fail with an irqchip and a gsi that has a pin; then the guest would hang, not we. */
    if (ioctl(vm->fd, KVM_IRQ_LINE, &line) < 0)
        return;
    line.level = 0;
    ioctl(vm->fd, KVM_IRQ_LINE, &line);
}
