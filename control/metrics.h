/* The metrics of a daemon, in the text format that Prometheus reads.
 *
 * One table (metrics.c) knows every metric: name, type, meaning, and where its value stands in
 * struct control_metrics. The text and docs/metrics.md both follow from it. Names begin with
 * "kemari_" and end with their unit; every sample has the label vm. */
#ifndef KEMARI_CONTROL_METRICS_H
#define KEMARI_CONTROL_METRICS_H

#include <stdio.h>

#include "control/status.h"

#define CONTROL_CUTS_MAX 8

/* Large: not for a stack. Zeroed it is valid. */
struct control_metrics {
    struct control_status status; /* after control_status_finish() */
    struct histogram pause;       /* ns */
    struct histogram hold;        /* ns */
    struct histogram commit;      /* ns */
    struct histogram dirty;       /* pages of an epoch */
    uint64_t released_items;      /* of held output */
    uint64_t released_bytes;
    uint64_t dropped_items;
    unsigned cut_count; /* <= CONTROL_CUTS_MAX */
    struct control_cut {
        const char *trigger; /* static */
        uint64_t count;
    } cuts[CONTROL_CUTS_MAX];
};

/* Writes all metrics. Any thread; pure but for `out`. */
void control_metrics_print(const struct control_metrics *metrics, FILE *out);

/* Writes docs/metrics.md. */
void control_metrics_print_markdown(FILE *out);

#endif
