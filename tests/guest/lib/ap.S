/* Where a vCPU goes from SIPI: real mode in a page below 1 MiB (the caller copies it there), by
 * protected mode into 64-bit mode with the first one's page tables, to ap_main on ap_stack. */
#define TRAMPOLINE 0x20000 /* smp.c */
#define REAL(label)  ((label) - ap_trampoline)
#define COPY(label)  (TRAMPOLINE + REAL(label))
#define LOADER_PML4  0x9000 /* boot/layout.h */

        .section .rodata, "a", @progbits
        .globl  ap_trampoline, ap_trampoline_len
        .code16
        .balign 16
ap_trampoline:
        cli
        mov     %cs, %ax
        mov     %ax, %ds
        lgdtl   REAL(gdtr)
        mov     $1, %eax                /* PE */
        mov     %eax, %cr0
        ljmpl   $0x08, $COPY(protected)

        .code32
protected:
        mov     $0x18, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $0x20, %eax             /* PAE */
        mov     %eax, %cr4
        mov     $LOADER_PML4, %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx       /* EFER */
        rdmsr
        or      $0x100, %eax            /* LME */
        wrmsr
        mov     $0x80000001, %eax       /* PG, PE */
        mov     %eax, %cr0
        ljmpl   $0x10, $COPY(long)

        .code64
long:
        mov     $ap_stack, %eax
        mov     (%rax), %rsp
        mov     $ap_main, %eax
        call    *%rax
1:      hlt
        jmp     1b

        .balign 8
gdt:    .quad   0
        .quad   0x00cf9b000000ffff      /* 08: 32-bit code */
        .quad   0x00af9b000000ffff      /* 10: 64-bit code */
        .quad   0x00cf93000000ffff      /* 18: data */
gdtr:   .word   . - gdt - 1
        .long   COPY(gdt)
trampoline_end:
        .balign 8
ap_trampoline_len:
        .quad   trampoline_end - ap_trampoline

        .bss
        .globl  ap_stack
        .balign 8
ap_stack: .zero 8
        .section .note.GNU-stack, "", @progbits
