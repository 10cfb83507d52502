/* What a live view remembers: a short history per quantity, drawn as a line of small bars.
 *
 * Pure: the caller gives statuses and the time at which each came. A restart of the daemon, whose
 * counters begin anew, shows as a gap, not as a huge rate. */
#ifndef KEMARI_CONTROL_HISTORY_H
#define KEMARI_CONTROL_HISTORY_H

#include <stdio.h>

#include "control/status.h"

#define HISTORY_SAMPLES 48

enum history_series {
    HISTORY_EPOCHS,   /* per second */
    HISTORY_DIRTY,    /* bytes per second */
    HISTORY_SENT,     /* bytes per second */
    HISTORY_LAG,      /* ns */
    HISTORY_OUTBOX,   /* bytes held */
    HISTORY_THROTTLE, /* percent */
    HISTORY_SERIES_COUNT,
};

/* Zeroed: empty. */
struct history {
    unsigned count;                                       /* samples kept */
    double values[HISTORY_SERIES_COUNT][HISTORY_SAMPLES]; /* oldest first; below 0: unknown */
    bool has_last;
    nsec_t last_at;
    uint32_t last_pid;
    uint64_t last_sent;
};

/* `now` is clock_now() of the answer; `status` NULL: there was none. */
void history_add(struct history *history, const struct control_status *status, nsec_t now);

/* One line per quantity that was ever above 0: label, bars from the oldest to the newest, the
 * newest value and the largest. `utf8`: with block characters, else in ASCII. */
void history_render(const struct history *history, bool utf8, FILE *out);

#endif
