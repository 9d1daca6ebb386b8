/* Interrupts; see guest.h. Everything is reached by MMIO: the loader's page tables map it. */
#include "virtio.h"

#define GATES      64
#define CODE_SEG   UINT64_C(0x10)
#define GATE_INT64 UINT64_C(0x8e00)
#define IOAPIC     UINT64_C(0xfec00000)
#define PIC_MASK   0x21 /* and 0xa1 */
#define LVT_TIMER  0x320
#define TIMER_INIT 0x380
#define TIMER_DIV  0x3e0
#define DIV_1      0xb
#define PERIODIC   (1u << 17)
#define TIMER_MHZ  1000 /* KVM's */

volatile unsigned interrupts;

extern const uint8_t vectors[]; /* start.S: a stub every 16 bytes */
void interrupt(uint64_t vector, uint64_t error, const uint64_t *frame);

void interrupt(uint64_t vector, uint64_t error, const uint64_t *frame)
{
    if (vector == VECTOR_CONSOLE || vector == VECTOR_OTHER) {
        interrupts++;
        write32(APIC_BASE + APIC_EOI, 0);
        return;
    }
    if (vector >= 32)
        return;
    print("exception %lu (error 0x%lx) at RIP 0x%lx\n", vector, error, frame[0]);
    power_off();
}

static void ioapic_write(uint32_t index, uint32_t v)
{
    write32(IOAPIC, index);
    write32(IOAPIC + 0x10, v);
}

void intr_route(uint32_t gsi, uint32_t vector)
{
    ioapic_write(0x10 + 2 * gsi + 1, 0);  /* to APIC id 0 */
    ioapic_write(0x10 + 2 * gsi, vector); /* edge, active high */
}

void intr_start(void)
{
    static uint64_t idt[GATES][2];
    const struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) idtr = { sizeof idt - 1, (uintptr_t)idt };

    for (unsigned i = 0; i < GATES; i++) {
        uint64_t stub = (uintptr_t)vectors + UINT64_C(16) * i;

        idt[i][0] = (stub & 0xffff) | CODE_SEG << 16 | GATE_INT64 << 32 |
                    (stub >> 16 & 0xffff) << 48;
        idt[i][1] = stub >> 32;
    }
    __asm__ volatile("lidt %0" : : "m"(idtr));
    out8(PIC_MASK, 0xff);
    out8(PIC_MASK + 0x80, 0xff);
    write32(APIC_BASE + APIC_SVR, 0x1ff); /* on, spurious vector 0xff */
    intr_route(CONSOLE_GSI, VECTOR_CONSOLE);
}

void wait_interrupt(unsigned seen)
{
    /* STI takes effect behind the next instruction, so no interrupt slips in before HLT. */
    while (interrupts == seen)
        __asm__ volatile("sti; hlt; cli" : : : "memory");
}

void wait_interrupt_for(unsigned seen, uint32_t us)
{
    /* Again and again: the lab's processor now and then takes an interrupt between STI and HLT. */
    write32(APIC_BASE + LVT_TIMER, VECTOR_OTHER | PERIODIC);
    write32(APIC_BASE + TIMER_DIV, DIV_1);
    write32(APIC_BASE + TIMER_INIT, us * TIMER_MHZ);
    wait_interrupt(seen);
    write32(APIC_BASE + TIMER_INIT, 0);
}
