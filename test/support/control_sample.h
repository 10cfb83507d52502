/* A status with something in every field, for golden texts and round trips. */
#ifndef KEMARI_TEST_SUPPORT_CONTROL_SAMPLE_H
#define KEMARI_TEST_SUPPORT_CONTROL_SAMPLE_H

#include "control/events.h"
#include "control/status.h"

/* A protected primary that was promoted a while ago; not "finished". */
void control_sample_protected(struct control_status *status);

/* A primary in the middle of its first synchronisation, finished, with all that is worth a
 * warning. */
void control_sample_unprotected(struct control_status *status);

void control_sample_event(struct control_event *event);

#endif
