/* First instructions of every guest, its page tables, and the ways between CPL 0 and CPL 3.
 *
 * Entered by the 64-bit Linux boot protocol: long mode, identity mapping of at least this image and
 * boot_params, RSI = boot_params, interrupts off. Nothing of the loader's descriptor or page tables
 * is used once the own ones are loaded. */
#include "layout.h"

    .section .text.entry, "ax"
    .global guest_entry
guest_entry:
    cli
    cld
    mov %rsi, %rbx
    lea page_map(%rip), %rax
    mov %rax, %cr3
    lea bss_start(%rip), %rdi
    lea bss_end(%rip), %rcx
    sub %rdi, %rcx
    shr $3, %rcx
    xor %eax, %eax
    rep stosq
    lea kernel_stacks + STACK_SIZE(%rip), %rsp
    call load_segments
    mov %rbx, %rdi
    call runtime_start
    ud2

/* Own GDT, and code and data segments from it. */
    .text
load_segments:
    lgdt gdt_pointer(%rip)
    mov $SELECTOR_KERNEL_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    pop %rax
    pushq $SELECTOR_KERNEL_CODE
    push %rax
    lretq

/* void user_enter(void (*entry)(void *), void *argument, void *stack_top): never returns.
 *
 * Port I/O at CPL 3 is allowed twice over: a software KVM may lose IOPL in iretq, and the nested SVM
 * of QEMU's TCG does not find the map in a busy TSS, which every loaded one is. */
    .global user_enter
user_enter:
    mov %rdi, %rax
    mov %rsi, %rdi
    sub $8, %rdx /* as after a call: 16-byte alignment of the ABI */
    pushq $SELECTOR_USER_DATA
    push %rdx
    pushq $0x3002 /* IOPL 3, interrupts off */
    pushq $SELECTOR_USER_CODE
    push %rax
    xor %eax, %eax
    xor %ebx, %ebx
    xor %ecx, %ecx
    xor %edx, %edx
    xor %esi, %esi
    xor %ebp, %ebp
    iretq

/* uint64_t supervisor_call(uint64_t (*function)(uint64_t), uint64_t argument): runs `function` at
 * CPL 0 of the calling vCPU. From CPL 3 the door is ud2, since the software KVM has no `int n`;
 * trap_dispatch() knows it by its address. */
    .global supervisor_call
    .global supervisor_door
supervisor_call:
    mov %cs, %eax
    test $3, %al
    jz 1f
supervisor_door:
    ud2
    ret
1:  mov %rdi, %rax
    mov %rsi, %rdi
    jmp *%rax

/* One stub per vector: pushes a zero where the CPU pushes no error code, then the vector. */
    .altmacro
    .macro trap_stub vector
trap_stub_\vector:
    .if !(\vector == 8 || (\vector >= 10 && \vector <= 14) || \vector == 17 || \vector == 21)
    pushq $0
    .endif
    pushq $\vector
    jmp trap_common
    .endm

    .set vector, 0
    .rept VECTOR_COUNT
    trap_stub %vector
    .set vector, vector + 1
    .endr

trap_common:
    push %rax
    push %rcx
    push %rdx
    push %rbx
    push %rbp
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    cld
    mov %rsp, %rdi
    call trap_dispatch
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rbp
    pop %rbx
    pop %rdx
    pop %rcx
    pop %rax
    add $16, %rsp
    iretq

    .section .data
    .macro trap_address vector
    .quad trap_stub_\vector
    .endm
    .balign 8
    .global trap_stubs
trap_stubs:
    .set vector, 0
    .rept VECTOR_COUNT
    trap_address %vector
    .set vector, vector + 1
    .endr

    .balign 16
    .global gdt
gdt:
    .quad 0
    .quad 0x00af9b000000ffff /* kernel code, 64 bit */
    .quad 0x00cf93000000ffff /* kernel data */
    .quad 0x00cff3000000ffff /* user data */
    .quad 0x00affb000000ffff /* user code, 64 bit */
    .fill 2 * GUEST_VCPUS_MAX, 8, 0 /* one TSS each */
    .balign 8
    .word 0, 0, 0
    .global gdt_pointer
gdt_pointer:
    .word GDT_SIZE - 1
    .quad gdt

/* Identity map of the first 4 GiB by 2 MiB pages, everything user accessible and writable.
 * Assembled, because at CPL 0 on a KVM that emulates it, building them would be the longest part of
 * the start. runtime.c adds what RAM lies above. */
    .section .page_tables, "aw"
    .balign 4096
    .global page_map
page_map:
    .quad page_directory_pointers + 7
    .fill 511, 8, 0
    .global page_directory_pointers
page_directory_pointers:
    .set index, 0
    .rept 4
    .quad page_directories + index * 4096 + 7
    .set index, index + 1
    .endr
    .fill 508, 8, 0
page_directories:
    .set index, 0
    .rept 2048
    .quad (index << 21) + 0x87
    .set index, index + 1
    .endr

    .section .bss.noinit, "aw", @nobits
    .balign 16
    .global kernel_stacks
kernel_stacks:
    .skip STACK_SIZE * GUEST_VCPUS_MAX
    .global user_stacks
user_stacks:
    .skip STACK_SIZE * GUEST_VCPUS_MAX

    .section .note.GNU-stack, "", @progbits
