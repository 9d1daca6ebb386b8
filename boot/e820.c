/* The memory map; see e820.h.
 *
 * What it does not mention is no memory to Linux: the legacy hole, and the devices, IOAPIC and
 * local APICs between the two parts of RAM. The ACPI tables are of type ACPI, not reserved: Linux
 * then keeps them, maps them cached and hands them to a kexec kernel.
 */
#include "boot/e820.h"

#include "boot/layout.h"

int e820_build(const struct gmem *m, bool acpi, struct boot_e820_entry map[E820_MAX])
{
    int n = 0;

    map[n++] = (struct boot_e820_entry){ .size = LAYOUT_LOW_RAM_END, .type = E820_RAM };
    if (acpi)
        map[n++] = (struct boot_e820_entry){ .addr = LAYOUT_ACPI,
                                             .size = LAYOUT_ACPI_LEN,
                                             .type = E820_ACPI };
    map[n++] = (struct boot_e820_entry){ .addr = LAYOUT_KERNEL_MIN,
                                         .size = m->region[0].len - LAYOUT_KERNEL_MIN,
                                         .type = E820_RAM };
    if (m->n > 1)
        map[n++] = (struct boot_e820_entry){ .addr = m->region[1].base,
                                             .size = m->region[1].len,
                                             .type = E820_RAM };
    return n;
}
