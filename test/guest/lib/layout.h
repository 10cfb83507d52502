/* Numbers shared by the assembly and the C half of the runtime. */
#ifndef KEMARI_GUEST_LAYOUT_H
#define KEMARI_GUEST_LAYOUT_H

#define GUEST_VCPUS_MAX      64

#define SELECTOR_KERNEL_CODE 0x08
#define SELECTOR_KERNEL_DATA 0x10
#define SELECTOR_USER_DATA   0x1b
#define SELECTOR_USER_CODE   0x23
#define SELECTOR_TSS(cpu)    (0x28 + 16 * (cpu))

#define GDT_SIZE             (0x28 + 16 * GUEST_VCPUS_MAX)

/* Stacks of a vCPU: one for CPL 3, one (TSS.RSP0) for what interrupts it and for CPL 0 guests. */
#define STACK_SIZE 8192

/* Vectors: exceptions, then interrupts. */
#define VECTOR_IRQ_BASE 32
#define VECTOR_SPURIOUS 63
#define VECTOR_COUNT    64

/* Where an application processor wakes up (SIPI vector 8), in real mode. */
#define AP_TRAMPOLINE 0x8000

/* Memory from here on belongs to the guest program. */
#define GUEST_FREE_BASE 0x400000

#endif
