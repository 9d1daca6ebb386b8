/* Power-off, reset, panic; see power.h.
 *
 * Accesses may be wider than a register; each byte goes to its own port.
 */
#include "boot/power.h"

#include "boot/layout.h"

#define SLP_EN     0x20
#define SLP_TYP(v) ((v) >> 2 & 7)
#define WAK        0x80
#define RESET_8042 0xfe
#define WARM_BOOT  0x1234
#define NOBODY     0xff

static bool power_owns(unsigned port)
{
    return port == POWER_PORT_8042 ||
           (port >= POWER_PORT_SLEEP_CONTROL && port <= POWER_PORT_RESET);
}

static enum power_event power_write_byte(struct power *p, unsigned port, uint8_t v)
{
    switch (port) {
    case POWER_PORT_SLEEP_CONTROL:
        if (!(v & SLP_EN))
            return POWER_NONE;
        /* Whoever sleeps reads the status until it has woken. */
        atomic_fetch_or(&p->status, WAK);
        return SLP_TYP(v) == POWER_SLP_TYP_S5 ? POWER_OFF : POWER_NONE;
    case POWER_PORT_SLEEP_STATUS:
        if (v & WAK)
            atomic_fetch_and(&p->status, (uint8_t)~WAK);
        return POWER_NONE;
    case POWER_PORT_RESET:
        return v == POWER_RESET_VALUE ? POWER_RESET : POWER_NONE;
    case POWER_PORT_8042:
        return v == RESET_8042 ? POWER_RESET : POWER_NONE;
    default:
        return POWER_NONE;
    }
}

enum power_event power_io_write(struct power *p, uint16_t port, const uint8_t *data, unsigned len)
{
    enum power_event ev = POWER_NONE;

    for (unsigned i = 0; i < len && ev == POWER_NONE; i++)
        ev = power_write_byte(p, (unsigned)port + i, data[i]);
    return ev;
}

void power_io_read(const struct power *p, uint16_t port, uint8_t *data, unsigned len)
{
    for (unsigned i = 0; i < len; i++) {
        unsigned at = (unsigned)port + i;

        data[i] = at == POWER_PORT_SLEEP_STATUS ? atomic_load(&p->status)
                  : power_owns(at)              ? 0
                                                : NOBODY;
    }
}

bool boot_panicked(const struct gmem *m)
{
    uint16_t word = 0;

    return gmem_read(m, (gpa_t){ LAYOUT_WARM_WORD }, &word, sizeof word) == 0 && word == WARM_BOOT;
}
