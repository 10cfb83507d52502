/* Frame of every guest program: what runs before it, and the way between privilege levels.
 *
 * The runtime takes over the machine (GDT, IDT, page tables, TSS), copies the command line, and
 * calls guest_main() at CPL 0 on vCPU 0. A program that wants native speed on a KVM that emulates
 * CPL 0 goes on with runtime_user(). An unexpected exception on any vCPU prints
 * "EXCEPTION vector=.. rip=.." and stops the vCPU.
 *
 * Freestanding, no allocation; programs own all RAM from GUEST_FREE_BASE on, below and above the
 * device window. Up to 64 GiB are mapped. */
#ifndef KEMARI_GUEST_RUNTIME_H
#define KEMARI_GUEST_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "test/guest/lib/layout.h"

/* Order of the pushes in start.S. */
struct trap_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};

/* The program. Called at CPL 0 on vCPU 0 with interrupts off; must not return. */
void guest_main(void) __attribute__((noreturn));

/* Continues in `function` at CPL 3 with IOPL 3 and interrupts off on the caller's vCPU `cpu`. */
void runtime_user(unsigned cpu, void (*function)(void *), void *argument) __attribute__((noreturn));

/* Runs `function` at CPL 0, from CPL 3 or CPL 0; returns its result. */
uint64_t supervisor_call(uint64_t (*function)(uint64_t), uint64_t argument);

/* Installs a handler for an interrupt vector (VECTOR_IRQ_BASE..). It runs at CPL 0 with interrupts
 * off and acknowledges the interrupt itself. */
void runtime_set_handler(unsigned vector, void (*handler)(struct trap_frame *frame));

/* Starts vCPUs 1..count-1 by INIT and SIPI; each calls `function`(cpu) at CPL 0. Returns when all
 * have begun. CPL 0 only, once. */
void runtime_start_vcpus(unsigned count, void (*function)(unsigned cpu));

/* True when [start, start+size) is RAM that belongs to the program. */
bool runtime_has_memory(uint64_t start, uint64_t size);

/* Values of "key=value" words on the command line. A number is decimal or 0x...; absent or
 * malformed gives `fallback`. */
uint64_t args_number(const char *key, uint64_t fallback);

/* Copies the value (truncated, terminated); false when absent. */
bool args_string(const char *key, char *out, size_t size);

/* Prints `what` and stops the vCPU; any privilege level. */
void runtime_fail(const char *what) __attribute__((noreturn));

void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *a, const void *b, size_t size);

#endif
