/* Every way a guest can end, by the word end=...; it says nothing unless the word `say` is there.
 */
#include "lib/virtio.h"

/* Labels that the tests look up and compare with the RIP that is told. */
#define AT(name, code) __asm__ volatile(".globl " #name "\n" #name ": " code)

static void end_off(void)
{
    power_off();
}

static void end_reset_64(void)
{
    out8(0x64, 0xfe);
    halt();
}

static void end_reset_acpi(void)
{
    out8(0x602, 1);
    halt();
}

/* No IDT yet: any exception is a double fault, and that a triple one. */
static void end_triple(void)
{
    AT(triple_fault, "ud2");
}

static void end_panic(void)
{
    write16(0x472, 0x1234); /* reboot=panic_warm */
    end_reset_64();
}

static void end_panic_triple(void)
{
    write16(0x472, 0x1234);
    AT(panic_fault, "ud2");
}

static void end_loop(void)
{
    AT(loop, "jmp loop");
}

static void end_hlt(void)
{
    AT(hlt, "cli; hlt; jmp hlt");
}

static void end_int3(void)
{
    intr_start();
    AT(breakpoint, "int3");
}

/* The sleep and reset registers take no other value for a yes. */
static void end_not_yet(void)
{
    out8(0x602, 0);
    out8(0x602, 0xff);
    out8(0x64, 0xff);
    out8(0x600, 5 << 2);
    out8(0x600, 0x20 | 3 << 2);
    print("still here\n");
    power_off();
}

static const struct {
    const char *name;
    void (*end)(void);
} ends[] = {
    { "off", end_off },         { "reset-64", end_reset_64 }, { "reset-acpi", end_reset_acpi },
    { "triple", end_triple },   { "panic", end_panic },       { "panic-triple", end_panic_triple },
    { "loop", end_loop },       { "hlt", end_hlt },           { "int3", end_int3 },
    { "not-yet", end_not_yet },
};

void guest_main(void)
{
    char name[16];

    if (option("say", NULL, 0))
        console_start(0), print("here\n");
    option("end", name, sizeof name);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        if (strcmp(ends[i].name, name) == 0)
            ends[i].end();
    print("BAD end=%s\n", name);
}
