/* void registers_hold(struct register_image *image, uint64_t turns, uint64_t use_avx)
 *
 * Loads every register a CPL 3 program has from the image, spins for `turns`, and writes what the
 * registers hold then back over the image. Offsets are those of struct register_image (state.c).
 * RSP points to the image meanwhile: nothing uses the stack at CPL 3. */
#define GPR(n)  (8 * (n))(%rsp)
#define X87(n)  (128 + 16 * (n))(%rsp)
#define VEC(n)  (256 + 32 * (n))(%rsp)
#define CONTROL (768)(%rsp)
#define MXCSR   (772)(%rsp)
#define SAVED   (776)(%rsp)
#define AVX     (784)(%rsp)

    .text
    .global registers_hold
registers_hold:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, 776(%rdi)
    mov %rdx, 784(%rdi)
    mov %rdi, %rsp
    mov %rsi, %rcx

    fninit
    fldcw CONTROL
    ldmxcsr MXCSR
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    fldt X87(\n)
    .endr
    test %rdx, %rdx
    jz 1f
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vmovups VEC(\n), %ymm\n
    .endr
    jmp 2f
1:  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    movups VEC(\n), %xmm\n
    .endr
2:  mov GPR(0), %rax
    mov GPR(2), %rdx
    mov GPR(3), %rbx
    mov GPR(5), %rbp
    mov GPR(6), %rsi
    mov GPR(7), %rdi
    mov GPR(8), %r8
    mov GPR(9), %r9
    mov GPR(10), %r10
    mov GPR(11), %r11
    mov GPR(12), %r12
    mov GPR(13), %r13
    mov GPR(14), %r14
    mov GPR(15), %r15

3:  dec %rcx
    jnz 3b

    mov %rax, GPR(0)
    mov %rdx, GPR(2)
    mov %rbx, GPR(3)
    mov %rbp, GPR(5)
    mov %rsi, GPR(6)
    mov %rdi, GPR(7)
    mov %r8, GPR(8)
    mov %r9, GPR(9)
    mov %r10, GPR(10)
    mov %r11, GPR(11)
    mov %r12, GPR(12)
    mov %r13, GPR(13)
    mov %r14, GPR(14)
    mov %r15, GPR(15)
    cmpq $0, AVX
    je 4f
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vmovups %ymm\n, VEC(\n)
    .endr
    vzeroupper
    jmp 5f
4:  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    movups %xmm\n, VEC(\n)
    .endr
5:  .irp n, 7, 6, 5, 4, 3, 2, 1, 0
    fstpt X87(\n)
    .endr
    fnstcw CONTROL
    stmxcsr MXCSR
    mov SAVED, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

    .section .note.GNU-stack, "", @progbits
