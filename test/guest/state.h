/* What the two halves of the state guest share. */
#ifndef KEMARI_GUEST_STATE_H
#define KEMARI_GUEST_STATE_H

#include <stdbool.h>
#include <stdint.h>

/* What %fs:0 and %gs:0 of a vCPU read. */
struct state_pointers {
    uint64_t fs, gs;
};

/* A value for one register of one vCPU in one round; differs in all three. */
uint64_t state_value(unsigned cpu, uint64_t round, unsigned place);

/* Says what was found instead of what, and stops the vCPU. */
void state_lost(const char *what, uint64_t index, unsigned cpu, uint64_t round, uint64_t is,
                uint64_t want) __attribute__((noreturn));

/* CPL 0. Once, and once per vCPU before its first round. */
void state_devices_prepare(void);
void state_system_prepare(unsigned cpu);

/* Verifies what the round before wrote, then writes new values. `argument` is round << 8 | cpu.
 * CPL 0, by supervisor_call(). */
uint64_t state_system_round(uint64_t argument);

/* True when AVX registers are enabled. */
bool state_has_avx(void);

/* What FS and GS of the vCPU point at since its last system round. */
const struct state_pointers *state_pointers(unsigned cpu);

#endif
