/* Accesses that no driver makes: to the transport's registers in every width and at every offset,
 * out of turn, backwards; to ports and addresses that nobody owns. Judges itself. */
#include "lib/virtio.h"

#define BASE       CONSOLE_BASE
#define NOWHERE    UINT64_C(0xd0001000) /* the next device's place, without one */
#define REGISTERS  0x100
#define CONFIG_LEN 12

static void reads_of_odd_widths(void)
{
    uint64_t sum = 0;

    for (uint64_t a = BASE; a < BASE + REGISTERS; a++) {
        sum |= read8(a) | read16(a);
        if (a < BASE + REGISTERS - 8) /* the rest reaches into the configuration */
            sum |= read64(a);
        if (a % 4 && a < BASE + REGISTERS - 4)
            sum |= read32(a);
    }
    check("a register read in another width or place", sum, 0);
}

static void writes_of_odd_widths(void)
{
    for (uint64_t a = BASE; a < BASE + REGISTERS; a++) {
        write8(a, 0xff);
        write16(a, 0xffff);
        if (a % 4)
            write32(a, UINT32_MAX);
        write64(a, UINT64_MAX);
    }
    check("status after writes in other widths", reg(STATUS), 0);
    check("queue ready after them", reg(QUEUE_READY), 0);
    check("interrupt status after them", reg(INTERRUPT_STATUS), 0);
}

/* Registers that are write-only, or none at all. */
static void reads_of_nothing(void)
{
    static const uint16_t known[] = { MAGIC,         VERSION, DEVICE_ID, VENDOR_ID, DEVICE_FEATURES,
                                      QUEUE_NUM_MAX, 0x0b0,   0x0b4,     0x0b8,     0x0bc };
    uint64_t sum = 0;

    for (unsigned r = 0, k = 0; r < REGISTERS; r += 4) {
        if (k < ARRAY_LEN(known) && known[k] == r)
            k++;
        else if (r != CONFIG_GENERATION)
            sum |= reg(r);
    }
    check("registers without a meaning", sum, 0);
    for (unsigned r = 0x0b0; r < 0x0c0; r += 4)
        check("shared memory: none", reg(r), UINT32_MAX);
}

static void writes_to_nothing(void)
{
    static const uint16_t none[] = { MAGIC,           VERSION, DEVICE_ID, VENDOR_ID,
                                     DEVICE_FEATURES, 0x018,   0x028,     0x03c,
                                     0x040,           0x048,   0x054,     0x068,
                                     0x0b0,           0x0c0,   0x0fc,     INTERRUPT_STATUS };

    for (size_t i = 0; i < ARRAY_LEN(none); i++)
        set_reg(none[i], UINT32_MAX);
    check("magic", reg(MAGIC), 0x74726976);
    check("version", reg(VERSION), 2);
    check("device id", reg(DEVICE_ID), 3);
    check("status", reg(STATUS), 0);
}

static void configuration(void)
{
    check("configuration generation", reg(CONFIG_GENERATION), reg(CONFIG_GENERATION));
    check("no window: no size", read32(BASE + CONFIG), 0);
    write32(BASE + CONFIG, UINT32_MAX);
    write16(BASE + CONFIG + 1, 0xffff);
    check("its size is read-only", read32(BASE + CONFIG), 0);
    check("behind its end", read64(BASE + CONFIG + CONFIG_LEN), 0);
    check("across its end", read64(BASE + CONFIG + CONFIG_LEN - 4), 0);
    check("far behind its end", read8(BASE + 0xfff), 0);
    write64(BASE + CONFIG + CONFIG_LEN - 4, UINT64_MAX);
    write32(BASE + 0xffc, UINT32_MAX);
    check("across the window's end", read32(BASE + 0xffe), 0xffff0000);
    write32(BASE + 0xffe, 0);
}

/* From each status every value is tried; only the legal step is taken. */
static void status_machine(void)
{
    static const uint8_t steps[] = { 0, 1, 3, 11, 15 };

    for (size_t at_step = 0; at_step < 4; at_step++) {
        console_reset();
        for (size_t i = 1; i <= at_step; i++) {
            if (steps[i] == 11) { /* VERSION_1 */
                set_reg(DRIVER_FEATURES_SEL, 1);
                set_reg(DRIVER_FEATURES, 1);
            }
            set_reg(STATUS, steps[i]);
        }
        uint8_t now = steps[at_step];

        check("status reached", reg(STATUS), now);
        for (unsigned v = 1; v < 128; v++)
            if (v != steps[at_step + 1] && v != (steps[at_step + 1] | NEEDS_RESET))
                set_reg(STATUS, v);
        set_reg(STATUS, 0x100u | steps[at_step + 1]);
        check("status after steps that are none", reg(STATUS), now);
        set_reg(STATUS, now | FAILED);
        check("FAILED", reg(STATUS), now | FAILED);
        set_reg(STATUS, steps[at_step + 1]);
        check("FAILED stays", reg(STATUS), now | FAILED);
        set_reg(STATUS, 0);
        check("0 starts over", reg(STATUS), 0);
    }
}

static bool negotiated(uint32_t low, uint32_t high, uint32_t beyond)
{
    console_reset();
    set_reg(STATUS, ACKNOWLEDGE);
    set_reg(STATUS, ACKNOWLEDGE | DRIVER);
    set_reg(DRIVER_FEATURES_SEL, 0);
    set_reg(DRIVER_FEATURES, low);
    set_reg(DRIVER_FEATURES_SEL, 1);
    set_reg(DRIVER_FEATURES, high);
    set_reg(DRIVER_FEATURES_SEL, 2);
    set_reg(DRIVER_FEATURES, beyond);
    set_reg(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    return reg(STATUS) & FEATURES_OK;
}

static void features(void)
{
    set_reg(DEVICE_FEATURES_SEL, 0);
    uint32_t low = reg(DEVICE_FEATURES);

    set_reg(DEVICE_FEATURES_SEL, 1);
    check("VERSION_1 is offered, and nothing beside it", reg(DEVICE_FEATURES), 1);
    set_reg(DEVICE_FEATURES_SEL, 2);
    check("nothing beyond 64 bits", reg(DEVICE_FEATURES), 0);
    check("INDIRECT and EVENT_IDX, size and emergency write", low, 0x30000005);
    check("all of it", negotiated(low, 1, 0), true);
    check("VERSION_1 alone", negotiated(0, 1, 0), true);
    check("without VERSION_1", negotiated(low, 0, 0), false);
    check("a bit that is not offered", negotiated(1u << 1, 1, 0), false);
    check("a high one", negotiated(0, 3, 0), false);
    check("one beyond 64", negotiated(0, 1, 1), false);
    check("after a refusal", negotiated(0, 1, 0), true);
    set_reg(DRIVER_FEATURES_SEL, 1);
    set_reg(DRIVER_FEATURES, 0);
    check("features after FEATURES_OK", reg(STATUS), 11);
}

static void queues_out_of_turn(void)
{
    console_reset();
    queue_set(RX, QUEUE_SIZE, 0x100000, 0x101000, 0x102000);
    check("a queue made ready before FEATURES_OK", reg(QUEUE_READY), 0);
    console_negotiate(F_VERSION_1);
    check("queue size", reg(QUEUE_NUM_MAX), 64);
    set_reg(QUEUE_SEL, 2);
    check("a third queue", reg(QUEUE_NUM_MAX), 0);
    set_reg(QUEUE_READY, 1);
    check("made ready", reg(QUEUE_READY), 0);
    set_reg(QUEUE_SEL, UINT32_MAX);
    check("the last queue", reg(QUEUE_NUM_MAX), 0);
    set_reg(QUEUE_NUM, 1);
    set_reg(QUEUE_SEL, RX);
    set_reg(QUEUE_READY, 1);
    check("ready", reg(QUEUE_READY), 1);
    set_reg(QUEUE_READY, 0);
    check("and not", reg(QUEUE_READY), 0);
}

/* Kicks of no queue, in all widths, before and while it runs. */
static void notifications(void)
{
    static const uint32_t values[] = { 0, 1, 2, 3, 0x7fff, 0xffff, 0x10000, UINT32_MAX };

    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        set_reg(QUEUE_NOTIFY, values[i]);
        write8(BASE + QUEUE_NOTIFY, (uint8_t)values[i]);
        write16(BASE + QUEUE_NOTIFY, (uint16_t)values[i]);
        write64(BASE + QUEUE_NOTIFY, values[i]);
    }
}

static void ports(void)
{
    static const uint16_t nobody[] = { 0x20 - 1, 0x60,  0x71,  0x80,  0x2f8,
                                       0xcf8,    0xcfc, 0x5ff, 0x603, 0xffff };
    uint8_t string[16];
    void *p = string;
    uint64_t count = sizeof string, ones = UINT64_MAX, zeros = 0;

    for (size_t i = 0; i < ARRAY_LEN(nobody); i++) {
        out8(nobody[i], 0);
        ones &= in8(nobody[i]);
        ones &= in16(nobody[i]) | ~UINT64_C(0xffff);
        ones &= in32(nobody[i]) | ~UINT64_C(0xffffffff);
    }
    check("ports of nobody", ones & 0xff, 0xff);
    check("port 0x64", in8(0x64), 0);
    __asm__ volatile("rep insb" : "+D"(p), "+c"(count) : "d"(0x64) : "memory");
    for (size_t i = 0; i < sizeof string; i++)
        zeros |= string[i];
    check("port 0x64 by a string instruction", zeros, 0);
    check("sleep control", in8(0x600), 0);
    check("sleep status", in8(0x601), 0);
    out8(0x600, 0x20 | 1 << 2);
    check("WAK after another sleep than S5", in8(0x601), 0x80);
    out8(0x601, 0x80);
    check("WAK cleared", in8(0x601), 0);
}

static void addresses(void)
{
    static const uint64_t nobody[] = { NOWHERE, UINT64_C(0xc0000000), UINT64_C(0xcffffff8),
                                       UINT64_C(0xe0000000), UINT64_C(0xfffffff0) };

    for (size_t i = 0; i < ARRAY_LEN(nobody); i++) {
        write8(nobody[i], 0);
        write16(nobody[i], 0);
        write32(nobody[i], 0);
        write64(nobody[i], 0);
        check("8 bits of nobody", read8(nobody[i]), UINT8_MAX);
        check("16 bits of nobody", read16(nobody[i]), UINT16_MAX);
        check("32 bits of nobody", read32(nobody[i]), UINT32_MAX);
        check("64 bits of nobody", read64(nobody[i]), UINT64_MAX);
    }
}

void guest_main(void)
{
    reads_of_odd_widths();
    writes_of_odd_widths();
    reads_of_nothing();
    writes_to_nothing();
    configuration();
    status_machine();
    features();
    queues_out_of_turn();
    notifications();
    ports();
    addresses();
    console_start(0);
    notifications();
    check("it still runs", reg(STATUS), 15);
    print("%u checked, %u bad\n", checked, bad);
}
