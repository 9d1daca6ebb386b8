/* How a guest powers off, resets, or says that it panicked: three ACPI registers, the reset of the
 * PC's keyboard controller, and a word in memory. Not a device: plain functions over I/O ports.
 *
 *   0x600  sleep control   w: SLP_EN with SLP_TYP of \_S5 powers off
 *   0x601  sleep status    r: WAK after any SLP_EN; w: 1 clears it
 *   0x602  reset           w: POWER_RESET_VALUE resets
 *   0x064  8042 command    w: 0xfe resets; r: 0, else Linux's kb_wait() reads it 65,536 times
 */
#ifndef MAYFLY_BOOT_POWER_H
#define MAYFLY_BOOT_POWER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/gmem.h"

#define POWER_PORT_SLEEP_CONTROL 0x600
#define POWER_PORT_SLEEP_STATUS  0x601
#define POWER_PORT_RESET         0x602
#define POWER_PORT_8042          0x64
#define POWER_RESET_VALUE        1
#define POWER_SLP_TYP_S5         5

enum power_event { POWER_NONE, POWER_OFF, POWER_RESET };

struct power {
    _Atomic uint8_t status; /* the sleep status register; any vCPU */
};

/* A guest's OUT of len bytes (1, 2, 4) at port; bytes of other ports are ignored. What it asks for.
 * Any vCPU thread. ACPI 6.3, 4.8.3.7. */
enum power_event power_io_write(struct power *p, uint16_t port, const uint8_t *data, unsigned len);

/* A guest's IN; ports that are not ours read as 0xff. Any vCPU thread. */
void power_io_read(const struct power *p, uint16_t port, uint8_t *data, unsigned len);

/* Whether the last reset was a panic's: with reboot=panic_warm Linux asks the firmware for a warm
 * boot then, 0x1234 in the word at 0x472, and for a cold one (0) otherwise. */
bool boot_panicked(const struct gmem *m);

#endif
