/* Grants everything at once. For drills and demonstrations on one machine: with it, a cut link
 * makes two owners (DESIGN §6). */
#include <stdio.h>

#include "heartbeat/arbiter_kind.h"

static void none_ask(void *state, const struct arbiter_attempt *attempt,
                     struct arbiter_answer *answer)
{
    (void)state;
    answer->result = ARBITER_GRANTED;
    answer->term = attempt->request.next;
    snprintf(answer->text, sizeof(answer->text), "granted unasked: arbiter \"none\"");
}

const struct arbiter_kind arbiter_kind_none = {
    .name = "none",
    .ask = none_ask,
};
