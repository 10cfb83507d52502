/* The instructions C has no words for. */
#ifndef KEMARI_GUEST_CPU_H
#define KEMARI_GUEST_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void port_out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t port_in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void port_out16(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline void port_out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint32_t port_in32(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint64_t msr_read(uint32_t index)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
    return (uint64_t)high << 32 | low;
}

static inline void msr_write(uint32_t index, uint64_t value)
{
    __asm__ volatile("wrmsr" : : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid r;
    __asm__ volatile("cpuid"
                     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                     : "a"(leaf), "c"(subleaf));
    return r;
}

/* Ordered after everything before it, so that two readings compare. */
static inline uint64_t tsc_read(void)
{
    uint32_t low, high;
    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

static inline void cpu_relax(void)
{
    __asm__ volatile("pause" : : : "memory");
}

static inline void barrier(void)
{
    __asm__ volatile("" : : : "memory");
}

static inline uint32_t mmio_read32(uintptr_t address)
{
    uint32_t value;
    __asm__ volatile("movl (%1), %0" : "=a"(value) : "r"(address) : "memory");
    return value;
}

static inline void mmio_write32(uintptr_t address, uint32_t value)
{
    __asm__ volatile("movl %0, (%1)" : : "a"(value), "r"(address) : "memory");
}

static inline uint16_t mmio_read16(uintptr_t address)
{
    uint16_t value;
    __asm__ volatile("movw (%1), %0" : "=a"(value) : "r"(address) : "memory");
    return value;
}

static inline void mmio_write16(uintptr_t address, uint16_t value)
{
    __asm__ volatile("movw %0, (%1)" : : "a"(value), "r"(address) : "memory");
}

static inline uint8_t mmio_read8(uintptr_t address)
{
    uint8_t value;
    __asm__ volatile("movb (%1), %0" : "=a"(value) : "r"(address) : "memory");
    return value;
}

static inline void mmio_write8(uintptr_t address, uint8_t value)
{
    __asm__ volatile("movb %0, (%1)" : : "a"(value), "r"(address) : "memory");
}

/* Stops this vCPU for good. CPL 0 only. */
static inline void __attribute__((noreturn)) cpu_stop(void)
{
    for (;;)
        __asm__ volatile("cli; hlt");
}

#endif
