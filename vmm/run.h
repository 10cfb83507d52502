/* Stopping and letting go of a set of vCPU threads.
 *
 * Reasons to stop are counted: the controlling thread that parks and a vCPU that carries out a
 * reset stop independently, and the guest runs only while nobody wants it stopped. Nothing is lost
 * between the decision to stop and the entry into guest mode: the counter is raised first, then
 * every vCPU is kicked by a signal whose handler makes KVM_RUN return at once. */
#ifndef KEMARI_VMM_RUN_H
#define KEMARI_VMM_RUN_H

#include <stdbool.h>

struct run;

/* `context` is given to `kick` and to jobs. `kick` gets vCPU `index` out of guest mode, or makes
 * its next entry return at once. Starts with one reason to stop, so that no thread runs before
 * run_resume(). */
struct run *run_create(unsigned vcpus, void (*kick)(void *context, unsigned index), void *context);
void run_destroy(struct run **run);

/* Called by vCPU thread `index` when it is out of guest mode with everything completed: counts as
 * parked while there is a reason to stop, returns true to go on and false to end the thread. */
bool run_gate(struct run *run, unsigned index);

/* True when the calling vCPU thread should go to the gate. Cheap; any thread. */
bool run_is_stopping(const struct run *run);

/* Adds a reason to stop and waits until every vCPU is parked. */
void run_stop(struct run *run);

/* The same from vCPU thread `self`, which counts as parked meanwhile; but when another vCPU is
 * inside such a transition already: false, and nothing happened. Ended by run_end_transition(). */
bool run_begin_transition(struct run *run, unsigned self);

/* Removes the transition's reason to stop, or leaves it in place for good. */
void run_end_transition(struct run *run, bool stay_stopped);

/* Takes one reason to stop away. */
void run_resume(struct run *run);

/* Calls `job` once for every vCPU: on vCPU threads, as many as the host has processors for, and on
 * the caller's thread once it is in run_finish_job(), which returns when all is done. In between
 * the caller may do other work. A thread may get any vCPU. All are parked: between run_stop() and
 * run_resume(), or before the first run_resume(). */
void run_begin_job(struct run *run, void (*job)(void *context, unsigned index));
void run_finish_job(struct run *run);

/* Makes every run_gate() return false, now and for ever. */
void run_quit(struct run *run);

#endif
