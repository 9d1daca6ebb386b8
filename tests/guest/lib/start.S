/* Entries of a guest, and the stubs of its interrupts.
 *
 * start: the 64-bit entry of Linux's boot protocol: RSI holds the zero page, the first 4 GiB are
 * mapped one to one. Memory is fresh, so .bss is zero already. */
        .section .text.start, "ax"
        .globl  start
        .code64
start:
        lea     stack_end(%rip), %rsp
        mov     %rsi, %rdi
        xor     %esi, %esi
        call    guest_start
1:      hlt
        jmp     1b

/* What a vector's stub leaves to the common end: the number. An error code that the processor
 * pushed stays below it; those of interrupts are dummies. */
        .text
        .macro  stub vector, error
        .balign 16
        .if     \error == 0
        push    $0
        .endif
        push    $\vector
        jmp     common
        .endm

        .balign 16
        .globl  vectors
vectors:
        .altmacro
        .set    i, 0
        .rept   64
        .if     i == 8 || (i >= 10 && i <= 14) || i == 17
        stub    %i, 1
        .else
        stub    %i, 0
        .endif
        .set    i, i + 1
        .endr

/* Calls interrupt(vector, error, frame of the processor) and goes back. */
common:
        push    %rax
        push    %rcx
        push    %rdx
        push    %rsi
        push    %rdi
        push    %r8
        push    %r9
        push    %r10
        push    %r11
        cld
        mov     72(%rsp), %rdi
        mov     80(%rsp), %rsi
        lea     88(%rsp), %rdx
        call    interrupt
        pop     %r11
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rdi
        pop     %rsi
        pop     %rdx
        pop     %rcx
        pop     %rax
        add     $16, %rsp
        iretq

        .bss
        .balign 16
        .globl  stack_end
stack:  .zero   16384
stack_end:

        .section .note.GNU-stack, "", @progbits
