/* A small library for freestanding guests: what a kernel would bring along, and no more.
 *
 * A guest is one C file with guest_main(), linked with all of lib/. It runs in ring 0 on the first
 * vCPU, with the first 4 GiB mapped one to one, and powers off when guest_main returns. What it has
 * to say goes through print(): by the console's emergency write until console_start(), then by its
 * transmit queue. Hosts without hardware virtualization emulate all of it at some 0.65 µs an
 * instruction and refuse SSE, cmpxchg16b, int3 and more, so loops are short and plain.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONSOLE_BASE UINT64_C(0xd0000000) /* docs/mayfly.1, DEVICES */
#define CONSOLE_GSI  5
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

void guest_main(void);

/* --- the machine --- */

/* The compiler may not know that the address is a number: it takes low ones for mistakes. */
static inline void *at(uint64_t addr)
{
    __asm__("" : "+r"(addr));
    return (void *)addr;
}

#define GUEST_ACCESS(bits, insn, reg)                                                              \
    static inline uint##bits##_t in##bits(uint16_t port)                                           \
    {                                                                                              \
        uint##bits##_t v;                                                                          \
        __asm__ volatile("in" insn " %1, %0" : "=a"(v) : "Nd"(port));                              \
        return v;                                                                                  \
    }                                                                                              \
    static inline void out##bits(uint16_t port, uint##bits##_t v)                                  \
    {                                                                                              \
        __asm__ volatile("out" insn " %0, %1" : : "a"(v), "Nd"(port));                             \
    }                                                                                              \
    static inline uint##bits##_t read##bits(uint64_t addr)                                         \
    {                                                                                              \
        return *(volatile uint##bits##_t *)at(addr);                                               \
    }                                                                                              \
    static inline void write##bits(uint64_t addr, uint##bits##_t v)                                \
    {                                                                                              \
        *(volatile uint##bits##_t *)at(addr) = v;                                                  \
    }

GUEST_ACCESS(8, "b", "al")
GUEST_ACCESS(16, "w", "ax")
GUEST_ACCESS(32, "l", "eax")

static inline uint64_t read64(uint64_t addr)
{
    return *(volatile uint64_t *)at(addr);
}

static inline void write64(uint64_t addr, uint64_t v)
{
    *(volatile uint64_t *)at(addr) = v;
}

static inline uint64_t read_msr(uint32_t msr)
{
    uint32_t lo, hi;

    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return lo | (uint64_t)hi << 32;
}

static inline void write_msr(uint32_t msr, uint64_t v)
{
    __asm__ volatile("wrmsr" : : "a"((uint32_t)v), "d"((uint32_t)(v >> 32)), "c"(msr));
}

struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(uint32_t leaf, uint32_t index)
{
    struct cpuid r;

    __asm__ volatile("cpuid"
                     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                     : "a"(leaf), "c"(index));
    return r;
}

static inline void pause(void)
{
    __asm__ volatile("pause" : : : "memory");
}

/* mfence is an SSE2 instruction, which an emulating KVM refuses. */
static inline void fence(void)
{
    __asm__ volatile("lock orl $0, (%%rsp)" : : : "memory", "cc");
}

/* --- how it was started --- */

/* Linux's zero page, or NULL after a PVH entry; then the start info. */
extern const uint8_t *zero_page;
extern const uint8_t *start_info;
extern const char *command_line;

/* Whether the command line has the word, alone or as word=...; the text behind "word=", up to the
 * next blank, goes to value where it is not NULL. */
bool option(const char *word, char *value, size_t size);
uint64_t option_number(const char *word, uint64_t otherwise);

/* --- talking --- */

/* %s %c %d %u %x, l for 64 bits, a width padded with zeros, as in %02x. One transmission. */
__attribute__((format(printf, 1, 2))) void print(const char *fmt, ...);

/* A line of a test that judges itself: "ok WHAT", or "BAD WHAT: 0xGOT, not 0xWANT", counted. */
void check(const char *what, uint64_t got, uint64_t want);
extern unsigned checked, bad;

_Noreturn void power_off(void);
_Noreturn void halt(void);

/* --- memory --- */

void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);

/* --- interrupts (intr.c) --- */

#define VECTOR_CONSOLE 0x35
#define VECTOR_OTHER   0x36
#define APIC_BASE      UINT64_C(0xfee00000)
#define APIC_EOI       0x0b0
#define APIC_SVR       0x0f0
#define APIC_ICR_LOW   0x300
#define APIC_ICR_HIGH  0x310

/* IDT, local APIC, and the console's GSI through the IOAPIC, as an edge. Interrupts stay off but
 * for wait_interrupt(). An exception prints itself and powers off. */
void intr_start(void);

/* Takes another GSI, as an edge, by VECTOR_OTHER. */
void intr_route(uint32_t gsi, uint32_t vector);

/* How many interrupts came. */
extern volatile unsigned interrupts;

/* Sleeps until there were more interrupts than seen. */
void wait_interrupt(unsigned seen);

/* The same, for some us at most: then the local timer was the interrupt. */
void wait_interrupt_for(unsigned seen, uint32_t us);

#endif
