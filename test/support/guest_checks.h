/* The harness inside a CUnit test: what can't be done fails the test with the phrase that says why.
 * LINKS guest_harness. */
#ifndef KEMARI_TEST_SUPPORT_GUEST_CHECKS_H
#define KEMARI_TEST_SUPPORT_GUEST_CHECKS_H

#include "test/support/guest_harness.h"

#define GUEST_LONG_MS 20000 /* a deadline nobody should need */

/* A machine for `config` whose output goes to `world`; ends the test when there is none. */
struct guest *guest_check_create(const struct guest_config *config, struct world *world);

/* The same, booted, after it has said "ready". */
struct guest *guest_check_start(const struct guest_config *config, struct world *world);

/* No guest found anything wrong so far. */
void guest_check_no_complaint(struct world *world);

/* Waits until the guest has said `count` more lines with `word` in them. */
void guest_check_lines(struct world *world, const char *word, unsigned count);

#endif
