/* A machine without KVM for tests of the engine and the standby: a thread plays the guest.
 *
 * Step i of the guest writes the number i to page p(i) (a fixed pseudo-random sequence) and, every
 * few steps, says i to the outside. Its only register is the number of steps done. So the exact
 * content of memory after n steps is known, and whoever saw the output i knows that at least i
 * steps must never be lost. */
#ifndef KEMARI_TEST_SUPPORT_FAKE_MACHINE_H
#define KEMARI_TEST_SUPPORT_FAKE_MACHINE_H

#include "checkpoint/machine_ops.h"
#include "checkpoint/outbox.h"

#define FAKE_OUTPUT_MAX 4096

struct fake_machine;

struct fake_machine_config {
    uint64_t memory;       /* bytes, multiple of 2 MiB */
    unsigned output_every; /* steps; 0: never */
    unsigned output_size;  /* bytes of one output, FAKE_OUTPUT_MAX at most; 0: 8 */
    unsigned step_usec;    /* between steps */
    unsigned burst;        /* steps during which it can't be parked; 0: 1 */
    /* What came out, in order. */
    void (*visible)(void *context, uint64_t step);
    void *context;
};

struct fake_machine *fake_machine_create(const struct fake_machine_config *config);
void fake_machine_destroy(struct fake_machine **machine);

struct checkpoint_machine fake_machine_ops(struct fake_machine *machine);

uint64_t fake_machine_steps(struct fake_machine *machine);
/* Until somebody has parked it; false after a minute. */
bool fake_machine_wait_parked(struct fake_machine *machine);
/* From now on output that was emitted is still on its way, or has arrived. */
void fake_machine_delay_output(struct fake_machine *machine, bool delayed);
/* Until the engine has asked for it so often; false after a minute. */
bool fake_machine_wait_asked(struct fake_machine *machine, unsigned times);
/* Parked only: does memory hold exactly what `steps` steps leave? */
bool fake_machine_memory_is_right(struct fake_machine *machine, uint64_t steps);
/* From now on, check() of any state fails, as if it came from another version. */
void fake_machine_refuse_states(struct fake_machine *machine);

#endif
