/* An application processor's way from SIPI (real mode at AP_TRAMPOLINE) to ap_start() in C.
 *
 * The code between the two labels is copied to AP_TRAMPOLINE, so it addresses only itself, by
 * numbers relative to that place. */
#include "layout.h"

#define AT(label) (AP_TRAMPOLINE + (label) - ap_trampoline)

    .section .data
    .balign 16
    .global ap_trampoline
    .global ap_trampoline_end
    .code16
ap_trampoline:
    cli
    cld
    xor %ax, %ax
    mov %ax, %ds
    lgdtl AT(ap_gdt_pointer)
    mov $0x20, %eax /* CR4.PAE */
    mov %eax, %cr4
    movl AT(ap_page_map), %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx /* EFER.LME */
    rdmsr
    or $0x100, %eax
    wrmsr
    mov %cr0, %eax
    and $0x9fffffff, %eax /* caches on */
    or $0x80000001, %eax  /* paging and protection at once: straight to long mode */
    mov %eax, %cr0
    ljmpl $SELECTOR_KERNEL_CODE, $AT(ap_long_mode)

    .code64
ap_long_mode:
    movl $ap_long_entry, %eax
    jmp *%rax

    .balign 8
ap_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
ap_gdt_pointer:
    .word 23
    .long AT(ap_gdt)
    .balign 4
ap_page_map:
    .long page_map
ap_trampoline_end:

/* Takes the next vCPU number, that number's stack, and goes on in C. */
    .text
ap_long_entry:
    mov $SELECTOR_KERNEL_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $1, %ebx
    lock xadd %ebx, ap_next_number(%rip)
    mov %ebx, %eax
    inc %eax
    imul $STACK_SIZE, %rax, %rax
    lea kernel_stacks(%rip), %rsp
    add %rax, %rsp
    lgdt gdt_pointer(%rip)
    pushq $SELECTOR_KERNEL_CODE
    lea 1f(%rip), %rax
    push %rax
    lretq
1:  mov %ebx, %edi
    call ap_start
    ud2

    .section .data
    .balign 4
ap_next_number:
    .long 1

    .section .note.GNU-stack, "", @progbits
