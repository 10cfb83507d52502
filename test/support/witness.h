/* What everybody sees of a guest (test/support/fake_machine.h), and what a test counts: on any
 * thread, to be waited for. */
#ifndef KEMARI_TEST_SUPPORT_WITNESS_H
#define KEMARI_TEST_SUPPORT_WITNESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct witness {
    pthread_mutex_t lock; /* also of what the test counts */
    pthread_cond_t changed;
    uint64_t seen;  /* highest step that became visible */
    bool backwards; /* a visible step was not above the one before */
};

void witness_init(struct witness *w);
void witness_fini(struct witness *w);

/* A step becomes visible: as `visible` of a fake machine, whose context is the witness. */
void witness_see(void *witness, uint64_t step);
uint64_t witness_seen(struct witness *w);
/* False when it took more than a minute, which is for ever. */
bool witness_wait_seen(struct witness *w, uint64_t step);

/* One more. */
void witness_count(struct witness *w, unsigned *counter);
/* Waits until *counter reaches `value`; false as above. */
bool witness_wait_count(struct witness *w, const unsigned *counter, unsigned value);

#endif
