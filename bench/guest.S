/* The freestanding guest of the bench: the same bytes for every monitor.
 *
 * It marks its entry (mark.h), prints one byte, and ends the machine; with -DWAIT it sleeps for
 * ever instead of ending. Monitors differ in what they offer, so it tries in turn: to print, a
 * serial port, then the emergency register of a virtio console where Mayfly or QEMU's microvm has
 * one; to end, ACPI's sleep register at the port of Mayfly and Cloud Hypervisor, then at the
 * address of QEMU's, then the keyboard controller's reset, then a triple fault.
 *
 * Entered in 64-bit mode by its ELF entry or in 32-bit mode by its PVH note. Nothing here needs
 * a stack, and what the two modes share assembles to the same instructions in both. An emulating
 * KVM takes most of a microsecond for each of them, so there are few.
 */
#include "bench/mark.h"

#define SERIAL      0x3f8
#define CONSOLE     0xd0000000 /* Mayfly's first device */
#define QEMU_MMIO   0xfeb00000 /* microvm: 24 windows for virtio devices ... */
#define QEMU_WINDOW 0x200      /* ... of this size */
#define QEMU_GED    0xfea00200 /* its sleep control register */
#define DEVICE_ID   8
#define ID_CONSOLE  3
#define EMERGENCY   0x108
#define SLEEP       0x600
#define KEYBOARD    0x64
#define S5          (0x20 | 5 << 2)

        .macro  body
        mov     $MARK_LEAF, %eax
        mov     $MARK_ENTRY, %ecx
        cpuid
        mov     $SERIAL, %edx
        mov     $'!', %al
        out     %al, %dx
        mov     $CONSOLE, %ebx
        cmpl    $ID_CONSOLE, DEVICE_ID(%ebx)
        je      2f
        mov     $QEMU_MMIO, %ebx
        mov     $24, %ecx
1:      cmpl    $ID_CONSOLE, DEVICE_ID(%ebx)
        je      2f
        add     $QEMU_WINDOW, %ebx
        dec     %ecx
        jnz     1b
        jmp     3f
2:      movl    $'!', EMERGENCY(%ebx)
3:
#ifdef WAIT
        cli
4:      hlt
        jmp     4b
#else
        mov     $SLEEP, %edx
        mov     $S5, %al
        out     %al, %dx
        mov     $QEMU_GED, %ebx
        movb    $S5, (%ebx)
        mov     $0xfe, %al
        out     %al, $KEYBOARD
        ud2                             /* there is no IDT */
#endif
        .endm

        .section .note.Xen, "a", @note
        .balign 4
        .long   4, 4, 18                /* XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz  "Xen"
        .long   enter_pvh

        .section .text.start, "ax"
        .globl  start
        .code64
start:  body

        .code32
enter_pvh:
        body

        .section .note.GNU-stack, "", @progbits
