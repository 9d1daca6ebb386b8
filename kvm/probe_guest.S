/* The probe's guest: 64-bit code, copied to PROBE_CODE of a small VM and entered at each probe_
 * label in turn. Each executes one instruction that a KVM without hardware virtualization is known
 * to refuse in ring 0, leaves PROBE_PASSED in EAX and halts. Position-independent. */
#include "kvm/probe_guest.h"

        .section .rodata, "a", @progbits
        .balign 64
        .globl probe_guest, probe_guest_end, probe_int3, probe_cmpxchg16b, probe_xrstor
        .globl probe_on_int3
probe_guest:
area:   .zero   512 + 64                /* XSAVE's legacy area and header, all zero */
slot:   .zero   16

probe_int3:
        lidt    idtr(%rip)
        int3
        jmp     passed

probe_on_int3:
        iretq

probe_cmpxchg16b:
        xor     %eax, %eax
        xor     %edx, %edx
        xor     %ebx, %ebx
        xor     %ecx, %ecx
        lock cmpxchg16b slot(%rip)
        jmp     passed

probe_xrstor:
        mov     %cr4, %rax
        or      $(1 << 18 | 1 << 9), %eax /* OSXSAVE, OSFXSR */
        mov     %rax, %cr4
        xor     %ecx, %ecx
        xor     %edx, %edx
        mov     $3, %eax                /* x87 and SSE */
        xsetbv
        xrstor  area(%rip)
        jmp     passed

passed: mov     $PROBE_PASSED, %eax
        hlt

        .balign 8
idtr:   .word   PROBE_IDT_LEN - 1
        .quad   PROBE_IDT
probe_guest_end:

        .section .note.GNU-stack, "", @progbits
