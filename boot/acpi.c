/* ACPI tables; see acpi.h. ACPI 6.3, chapter 5.
 *
 * "Hardware-reduced" says that there are no fixed registers, no SCI, no PM timer, no 8259 and no
 * 8254: Linux then probes for none of them and needs just the tables below.
 *
 *   RSDP -> XSDT -> FADT -> DSDT   \_SB.V000.. the devices, PWRB the power button, \_S5
 *                -> MADT           local APICs of the vCPUs, one IOAPIC
 *
 * Reset and sleep registers are ports of power.h. Soft-off needs both the sleep control and the
 * sleep status register; without RESET_REG_SUP the reset register is not used.
 */
#include "boot/acpi.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "boot/aml.h"
#include "boot/layout.h"
#include "boot/power.h"
#include "core/num.h"

struct acpi_header {
    char signature[4];
    uint32_t length;
    uint8_t revision, checksum;
    char oem_id[6], oem_table_id[8];
    uint32_t oem_revision;
    char creator_id[4];
    uint32_t creator_revision;
} __attribute__((packed));

struct acpi_rsdp {
    char signature[8];
    uint8_t checksum;
    char oem_id[6];
    uint8_t revision;
    uint32_t rsdt, length;
    uint64_t xsdt;
    uint8_t ext_checksum, reserved[3];
} __attribute__((packed));

struct acpi_gas { /* generic address structure */
    uint8_t space, bit_width, bit_offset, access_size;
    uint64_t addr;
} __attribute__((packed));

/* What lies behind the header; what hardware-reduced ACPI ignores is reserved here. */
struct acpi_fadt {
    uint32_t facs, dsdt;
    uint8_t reserved0, pm_profile;
    uint8_t reserved1[63];
    uint16_t boot_arch;
    uint8_t reserved2;
    uint32_t flags;
    struct acpi_gas reset_reg;
    uint8_t reset_value;
    uint16_t arm_boot_arch;
    uint8_t minor;
    uint64_t x_facs, x_dsdt;
    uint8_t reserved3[96];
    struct acpi_gas sleep_control, sleep_status;
    uint64_t hypervisor_id;
} __attribute__((packed));

_Static_assert(sizeof(struct acpi_header) == 36 && sizeof(struct acpi_rsdp) == 36 &&
                   sizeof(struct acpi_header) + sizeof(struct acpi_fadt) == 276 &&
                   sizeof(struct acpi_header) + offsetof(struct acpi_fadt, boot_arch) == 109 &&
                   sizeof(struct acpi_header) + offsetof(struct acpi_fadt, reset_reg) == 116 &&
                   sizeof(struct acpi_header) + offsetof(struct acpi_fadt, sleep_control) == 244,
               "the tables are ACPI's");

enum {
    SPACE_IO = 1,
    ACCESS_BYTE = 1,
    FADT_REVISION = 6,
    FADT_MINOR = 3,
    MADT_REVISION = 5,
    DSDT_REVISION = 2, /* integers are 64-bit */
};
/* Boot flags: no 8042, no legacy devices (both by absence). */
#define BOOT_NO_VGA      (1 << 2)
#define BOOT_NO_CMOS_RTC (1 << 5)
/* Feature flags. */
#define FADT_WBINVD     (UINT32_C(1) << 0)
#define FADT_NO_PWR     (UINT32_C(1) << 4) /* no power button in fixed registers */
#define FADT_NO_SLP     (UINT32_C(1) << 5)
#define FADT_RESET_REG  (UINT32_C(1) << 10)
#define FADT_HEADLESS   (UINT32_C(1) << 12)
#define FADT_HW_REDUCED (UINT32_C(1) << 20)

static size_t table_begin(struct wbuf *a, const char signature[4], uint8_t revision)
{
    static const uint8_t zero[16];
    struct acpi_header h = { .revision = revision, .oem_revision = 1, .creator_revision = 1 };

    memcpy(h.signature, signature, sizeof h.signature);
    memcpy(h.oem_id, "MAYFLY", sizeof h.oem_id);
    memcpy(h.oem_table_id, "MICROVM ", sizeof h.oem_table_id);
    memcpy(h.creator_id, "MAYF", sizeof h.creator_id);
    wbuf_bytes(a, zero, -a->len % sizeof zero);
    wbuf_bytes(a, &h, sizeof h);
    return a->len - sizeof h;
}

uint8_t acpi_checksum(const void *data, size_t len)
{
    const uint8_t *p = data;
    uint8_t sum = 0;

    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum - p[i]);
    return sum;
}

/* Gives the table its length and checksum; its guest-physical address. */
static uint64_t table_end(struct wbuf *a, size_t mark)
{
    if (a->overflow)
        return 0;
    struct acpi_header *h = (void *)(a->data + mark);

    h->length = (uint32_t)(a->len - mark);
    h->checksum = acpi_checksum(h, h->length);
    return LAYOUT_ACPI + mark;
}

/* Extended Interrupt: ResourceConsumer, Edge, ActiveHigh, Exclusive. */
struct acpi_irq {
    uint8_t tag;
    uint16_t len;
    uint8_t flags, count;
    uint32_t gsi;
} __attribute__((packed));
#define ACPI_IRQ(gsi)                                                                              \
    {                                                                                              \
        0x89, 6, 1 << 0 /* consumer */ | 1 << 1 /* edge */, 1, gsi                                 \
    }

static void dsdt_add_device(struct wbuf *a, unsigned uid, const struct boot_device *d)
{
    char name[8];
    /* Memory32Fixed (ReadWrite), the interrupt, end. */
    const struct {
        uint8_t mem_tag;
        uint16_t mem_len;
        uint8_t writable;
        uint32_t base, len;
        struct acpi_irq irq;
        uint8_t end_tag, end_checksum;
    } __attribute__((packed)) crs = {
        .mem_tag = 0x86,
        .mem_len = 9,
        .writable = 1,
        .base = (uint32_t)d->base.v,
        .len = d->len,
        .irq = ACPI_IRQ(d->gsi),
        .end_tag = 0x79,
    };

    snprintf(name, sizeof name, "V%03u", uid % 1000);
    size_t dev = aml_device(a, name);

    aml_name(a, "_HID");
    aml_string(a, "LNRO0005"); /* what Linux's virtio-mmio driver binds to */
    aml_name(a, "_UID");
    aml_int(a, uid);
    aml_name(a, "_CRS");
    aml_buffer(a, &crs, sizeof crs);
    aml_close(a, dev);
}

/* The power button: a device of the method kind, and the event device (ACPI 6.3, 5.6.9) that tells
 * of it. Neither has a register: a press is the interrupt, and its method says what it means. */
static void dsdt_add_button(struct wbuf *a)
{
    const struct {
        struct acpi_irq irq;
        uint8_t end_tag, end_checksum;
    } __attribute__((packed)) crs = { .irq = ACPI_IRQ(BOOT_BUTTON_GSI), .end_tag = 0x79 };
    size_t dev = aml_device(a, "PWRB");

    aml_name(a, "_HID");
    aml_string(a, "PNP0C0C");
    aml_close(a, dev);
    dev = aml_device(a, "GED0");
    aml_name(a, "_HID");
    aml_string(a, "ACPI0013");
    aml_name(a, "_CRS");
    aml_buffer(a, &crs, sizeof crs);
    size_t method = aml_method(a, "_EVT", 1);

    aml_notify(a, "PWRB", 0x80); /* S0: pressed */
    aml_close(a, method);
    aml_close(a, dev);
}

static uint64_t dsdt_add(struct wbuf *a, const struct boot_config *c)
{
    size_t mark = table_begin(a, "DSDT", DSDT_REVISION);
    size_t scope = aml_scope(a, "_SB_");

    for (int i = 0; i < c->n_devices; i++)
        dsdt_add_device(a, (unsigned)i, &c->devices[i]);
    dsdt_add_button(a);
    aml_close(a, scope);

    aml_name(a, "_S5_");
    size_t s5 = aml_package(a, 4);

    aml_int(a, POWER_SLP_TYP_S5);
    for (int i = 0; i < 3; i++)
        aml_int(a, 0);
    aml_close(a, s5);
    return table_end(a, mark);
}

static uint64_t fadt_add(struct wbuf *a, uint64_t dsdt)
{
    struct acpi_gas port = { .space = SPACE_IO, .bit_width = 8, .access_size = ACCESS_BYTE };
    struct acpi_fadt f = {
        .dsdt = (uint32_t)dsdt,
        .boot_arch = BOOT_NO_VGA | BOOT_NO_CMOS_RTC,
        .flags = FADT_WBINVD | FADT_NO_PWR | FADT_NO_SLP | FADT_RESET_REG | FADT_HEADLESS |
                 FADT_HW_REDUCED,
        .reset_value = POWER_RESET_VALUE,
        .minor = FADT_MINOR,
        .x_dsdt = dsdt,
    };
    size_t mark = table_begin(a, "FACP", FADT_REVISION);

    port.addr = POWER_PORT_RESET;
    f.reset_reg = port;
    port.addr = POWER_PORT_SLEEP_CONTROL;
    f.sleep_control = port;
    port.addr = POWER_PORT_SLEEP_STATUS;
    f.sleep_status = port;
    memcpy(&f.hypervisor_id, "Mayfly\0", sizeof f.hypervisor_id);
    wbuf_bytes(a, &f, sizeof f);
    return table_end(a, mark);
}

static uint64_t madt_add(struct wbuf *a, unsigned cpus)
{
    const struct {
        uint32_t lapic, flags;
    } __attribute__((packed)) head = { .lapic = ACPI_LAPIC_ADDR };
    const struct {
        uint8_t type, len, id, reserved;
        uint32_t addr, gsi_base;
    } __attribute__((packed)) ioapic = { .type = 1, .len = 12, .addr = ACPI_IOAPIC_ADDR };
    size_t mark = table_begin(a, "APIC", MADT_REVISION);

    wbuf_bytes(a, &head, sizeof head);
    for (unsigned i = 0; i < cpus; i++) {
        const struct {
            uint8_t type, len, uid, apic_id;
            uint32_t flags;
        } __attribute__((packed)) lapic = {
            .len = 8, .uid = (uint8_t)i, .apic_id = (uint8_t)i, .flags = 1 /* enabled */
        };

        wbuf_bytes(a, &lapic, sizeof lapic);
    }
    wbuf_bytes(a, &ioapic, sizeof ioapic);
    return table_end(a, mark);
}

int acpi_build(struct gmem *m, const struct boot_config *c, struct err *e)
{
    struct acpi_rsdp rsdp = { .revision = 2, .length = sizeof rsdp };
    struct wbuf a = { .data = gmem_span(m, (gpa_t){ LAYOUT_ACPI }, LAYOUT_ACPI_LEN),
                      .len = sizeof rsdp, /* its place; it is written last */
                      .cap = LAYOUT_ACPI_LEN };

    uint64_t dsdt = dsdt_add(&a, c);
    uint64_t fadt = fadt_add(&a, dsdt);
    const uint64_t tables[] = { fadt, madt_add(&a, c->cpus) };
    size_t mark = table_begin(&a, "XSDT", 1);

    wbuf_bytes(&a, tables, sizeof tables);
    rsdp.xsdt = table_end(&a, mark);
    if (a.overflow)
        return err_set(e, ENOSPC, "acpi: the tables outgrow their %d bytes: use fewer devices",
                       LAYOUT_ACPI_LEN);
    memcpy(rsdp.signature, "RSD PTR ", sizeof rsdp.signature);
    memcpy(rsdp.oem_id, "MAYFLY", sizeof rsdp.oem_id);
    rsdp.checksum = acpi_checksum(&rsdp, offsetof(struct acpi_rsdp, length)); /* ACPI 1.0's part */
    rsdp.ext_checksum = acpi_checksum(&rsdp, sizeof rsdp);
    memcpy(a.data, &rsdp, sizeof rsdp);
    return 0;
}
