/* The PVH entry (Xen's pvh.markdown): 32-bit, flat, no paging, EBX holds the start info. It builds
 * the page tables that the 64-bit entry finds ready, 4 GiB one to one, and goes on as that does. */
        .section .note.Xen, "a", @note
        .balign 4
        .long   4, 4, 18                /* XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz  "Xen"
        .long   pvh_start

        .section .text.pvh, "ax"
        .code32
pvh_start:
        cli
        mov     $pvh_pdpt + 3, %eax
        mov     %eax, pvh_pml4
        mov     $pvh_pd + 3, %eax
        xor     %ecx, %ecx
1:      mov     %eax, pvh_pdpt(, %ecx, 8)
        add     $0x1000, %eax
        inc     %ecx
        cmp     $4, %ecx
        jne     1b
        mov     $0x83, %eax             /* 2 MiB, writable, present */
        xor     %ecx, %ecx
2:      mov     %eax, pvh_pd(, %ecx, 8)
        add     $0x200000, %eax
        inc     %ecx
        cmp     $2048, %ecx
        jne     2b

        mov     $0x20, %eax             /* PAE */
        mov     %eax, %cr4
        mov     $pvh_pml4, %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx       /* EFER */
        rdmsr
        or      $0x100, %eax            /* LME */
        wrmsr
        mov     $0x80000001, %eax       /* PG, PE */
        mov     %eax, %cr0
        lgdt    pvh_gdtr
        ljmp    $0x10, $pvh_long

        .code64
pvh_long:
        mov     $0x18, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $stack_end, %esp
        xor     %edi, %edi
        mov     %ebx, %esi
        call    guest_start
3:      hlt
        jmp     3b

        .section .rodata, "a", @progbits
        .balign 8
pvh_gdt: .quad  0, 0
        .quad   0x00af9b000000ffff      /* 10: 64-bit code */
        .quad   0x00cf93000000ffff      /* 18: data */
pvh_gdtr: .word . - pvh_gdt - 1
        .long   pvh_gdt

        .bss
        .balign 4096
pvh_pml4: .zero 4096
pvh_pdpt: .zero 4096
pvh_pd: .zero   4 * 4096

        .section .note.GNU-stack, "", @progbits
