/* ACPI's sleep and reset registers and the keyboard controller's reset in the hostile guest, all
 * that they do but to end it (boot/power.h). */
#include "chaos.h"

#define SLEEP_CONTROL 0x600
#define SLEEP_STATUS  0x601
#define RESET         0x602
#define KEYBOARD      0x64
#define SLP_EN        0x20
#define S5            5
#define WAK           0x80

/* Bytes that end nothing wherever they land. */
static uint8_t harmless(struct rng *r)
{
    for (;;) {
        uint8_t v = (uint8_t)rng_next(r);
        bool off = (v & SLP_EN) && (v >> 2 & 7) == S5;

        if (!off && v != 1 && v != 0xfe)
            return v;
    }
}

static void power_poke(struct rng *r)
{
    static const uint16_t ports[] = { SLEEP_CONTROL, SLEEP_STATUS, RESET, KEYBOARD };
    uint16_t port = (uint16_t)(ports[rng_below(r, ARRAY_LEN(ports))] - rng_below(r, 2));
    uint32_t v = harmless(r) | harmless(r) << 8 | harmless(r) << 16 | (uint32_t)harmless(r) << 24;

    switch (rng_below(r, 6)) {
    case 0:
        out8(port, (uint8_t)v);
        break;
    case 1:
        out16(port, (uint16_t)v);
        break;
    case 2:
        out32(port, v);
        break;
    case 3:
        in8(port);
        break;
    case 4:
        in16(port);
        break;
    default:
        in32(port);
        break;
    }
}

static void power_drive(struct rng *r)
{
    for (unsigned i = 0; i < 40; i++)
        power_poke(r);
}

static bool power_prove(struct rng *r)
{
    (void)r;
    out8(SLEEP_STATUS, WAK);
    bool awake = in8(SLEEP_STATUS) == 0;

    out8(SLEEP_CONTROL, SLP_EN | 1 << 2); /* S1, which there is not */
    bool woken = in8(SLEEP_STATUS) == WAK;

    out8(SLEEP_STATUS, WAK);
    return awake && woken && in8(SLEEP_STATUS) == 0;
}

const struct chaos_device chaos_power = { "power", power_drive, power_poke, power_prove };
