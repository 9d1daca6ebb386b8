/* The MP table; see mptable.h. Intel's MultiProcessor Specification 1.4, chapter 4.
 *
 * It describes one processor, and is there all the same: a Linux built for several that finds
 * neither ACPI nor this takes the machine for one whose local APIC nobody set up, leaves its timer
 * alone and looks for an 8254, which is not there either. So nothing that sleeps ever wakes. (Linux
 * reads it if it has CONFIG_X86_MPPARSE.)
 *
 *   floating pointer -> header, processor, ISA bus, IOAPIC, 15 interrupts 1:1, two local ones
 */
#include "boot/mptable.h"

#include <stdint.h>
#include <string.h>

#include "boot/acpi.h"
#include "boot/layout.h"
#include "core/num.h"

enum { MP_PROCESSOR, MP_BUS, MP_IOAPIC, MP_INTERRUPT, MP_LOCAL };
enum { MP_INT = 0, MP_NMI = 1, MP_EXTINT = 3 };
enum {
    MP_VERSION_1_4 = 4,
    PROCESSOR_ENABLED = 1,
    PROCESSOR_BOOTS = 2,
    LAPIC_VERSION = 0x14,
    IOAPIC_VERSION = 0x11,
    IOAPIC_ID = 1,
    IOAPIC_ENABLED = 1,
    ISA_IRQS = 16,
    CASCADE = 2, /* the second 8259's, no device's */
    ALL_LAPICS = 0xff,
};

struct mp_interrupt { /* MP_INTERRUPT and MP_LOCAL */
    uint8_t entry, type;
    uint16_t flags; /* 0: as the bus has it */
    uint8_t bus, irq, apic, pin;
} __attribute__((packed));

struct mptable {
    struct {
        char signature[4];
        uint32_t table;
        uint8_t paragraphs, version, checksum, features[5];
    } __attribute__((packed)) pointer;
    struct mp_config {
        char signature[4];
        uint16_t length;
        uint8_t version, checksum;
        char oem[8], product[12];
        uint32_t oem_table;
        uint16_t oem_length, entries;
        uint32_t lapic;
        uint16_t ext_length;
        uint8_t ext_checksum, reserved;
        struct {
            uint8_t entry, id, version, flags;
            uint32_t signature, features, reserved[2];
        } __attribute__((packed)) processor;
        struct {
            uint8_t entry, id;
            char name[6];
        } bus;
        struct {
            uint8_t entry, id, version, flags;
            uint32_t addr;
        } __attribute__((packed)) ioapic;
        struct mp_interrupt irq[ISA_IRQS - 1], local[2];
    } __attribute__((packed)) config;
};

_Static_assert(sizeof(((struct mptable *)0)->pointer) == 16 &&
                   offsetof(struct mp_config, processor) == 44 &&
                   offsetof(struct mp_config, irq) == 44 + 20 + 8 + 8 &&
                   sizeof(struct mp_interrupt) == 8,
               "the table is the specification's");

void mptable_build(struct gmem *m)
{
    struct mptable t = {
        .pointer = { .table = LAYOUT_MPTABLE + sizeof t.pointer,
                     .paragraphs = 1,
                     .version = MP_VERSION_1_4 },
        .config = {
            .length = sizeof t.config,
            .version = MP_VERSION_1_4,
            .entries = 3 + ARRAY_LEN(t.config.irq) + ARRAY_LEN(t.config.local),
            .lapic = ACPI_LAPIC_ADDR,
            .processor = { .entry = MP_PROCESSOR,
                           .version = LAPIC_VERSION,
                           .flags = PROCESSOR_ENABLED | PROCESSOR_BOOTS },
            .bus = { .entry = MP_BUS },
            .ioapic = { .entry = MP_IOAPIC,
                        .id = IOAPIC_ID,
                        .version = IOAPIC_VERSION,
                        .flags = IOAPIC_ENABLED,
                        .addr = ACPI_IOAPIC_ADDR },
            .local = { { .entry = MP_LOCAL, .type = MP_EXTINT },
                       { .entry = MP_LOCAL, .type = MP_NMI, .apic = ALL_LAPICS, .pin = 1 } },
        },
    };

    memcpy(t.pointer.signature, "_MP_", sizeof t.pointer.signature);
    memcpy(t.config.signature, "PCMP", sizeof t.config.signature);
    memcpy(t.config.oem, "MAYFLY  ", sizeof t.config.oem);
    memcpy(t.config.product, "MICROVM     ", sizeof t.config.product);
    memcpy(t.config.bus.name, "ISA   ", sizeof t.config.bus.name);
    for (unsigned irq = 0, i = 0; irq < ISA_IRQS; irq++)
        if (irq != CASCADE)
            t.config.irq[i++] = (struct mp_interrupt){ .entry = MP_INTERRUPT,
                                                       .type = MP_INT,
                                                       .irq = (uint8_t)irq,
                                                       .apic = IOAPIC_ID,
                                                       .pin = (uint8_t)irq };
    t.pointer.checksum = acpi_checksum(&t.pointer, sizeof t.pointer);
    t.config.checksum = acpi_checksum(&t.config, sizeof t.config);
    gmem_write(m, (gpa_t){ LAYOUT_MPTABLE }, &t, sizeof t);
}
