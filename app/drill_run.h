/* One drill from the check to the report. */
#ifndef KEMARI_APP_DRILL_RUN_H
#define KEMARI_APP_DRILL_RUN_H

#include "app/drill.h"
#include "app/drill_report.h"
#include "app/drill_target.h"
#include "app/drill_view.h"

struct drill_order {
    const struct drill_scenario *scenario;
    unsigned seconds; /* the fault lasts at most */
    bool force;
    /* Says what happens, in one sentence, while it does; may be NULL. */
    void (*tell)(void *context, const char *sentence);
    void *context;
};

/* 0 with a report, saved, whatever its verdict; or -errno and nothing has happened. Blocks for as
 * long as the drill takes. */
int drill_run(const struct drill_order *order, const struct drill_target *target,
              const struct peer_command *peer, struct drill_report *report, struct error *err);

#endif
