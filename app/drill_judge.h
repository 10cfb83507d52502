/* What a pair must be to survive a drill, and whether it did. Pure. */
#ifndef KEMARI_APP_DRILL_JUDGE_H
#define KEMARI_APP_DRILL_JUDGE_H

#include "app/drill.h"
#include "app/drill_report.h"
#include "app/drill_view.h"

/* Both hosts' views at one moment of a drill. */
struct drill_pair {
    struct drill_view local;
    struct drill_view other;
};

/* 0 when the pair should survive the scenario on this host. -EPERM: it can't be a drill here at
 * all. -EBUSY: it might not survive, which an operator may want to see (--force). With a sentence.
 */
int drill_judge_before(const struct drill_scenario *scenario, const struct drill_pair *pair,
                       struct error *err);

/* Whether the guest's place is settled, so that the fault may end. */
bool drill_judge_settled(const struct drill_scenario *scenario, const struct drill_pair *before,
                         const struct drill_pair *now);

/* Both say protected, and one is the other's secondary. */
bool drill_judge_protected(const struct drill_pair *pair);

/* Fills in who has the guest, the terms, the steps of a takeover, and the verdict. `report` has the
 * steps healed and protected. `trouble`: what went wrong with the drill itself, or empty. */
void drill_judge_after(const struct drill_scenario *scenario, const struct drill_pair *before,
                       const struct drill_pair *after, const char *trouble,
                       struct drill_report *report);

#endif
