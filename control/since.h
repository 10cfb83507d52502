/* A point in the history of events, as an operator writes it. Pure. */
#ifndef KEMARI_CONTROL_SINCE_H
#define KEMARI_CONTROL_SINCE_H

#include "base/error.h"
#include "base/types.h"

struct since {
    uint64_t id;     /* events with a greater number; 0 with a time */
    int64_t wall_ns; /* events from then on, CLOCK_REALTIME; 0: by number */
};

/* "17": a number. "90s", "5m", "2h", "3d": so long before `now_wall_ns`. "10:00", "10:00:30":
 * today; "2025-01-31", "2025-01-31 10:00", "2025-01-31T10:00:30": local time. -EINVAL with a
 * sentence. */
int since_parse(const char *text, int64_t now_wall_ns, struct since *out, struct error *err);

#endif
