/* What became of a drill: for people, for programs (docs/status-json.md), and as a picture. */
#ifndef KEMARI_APP_DRILL_REPORT_H
#define KEMARI_APP_DRILL_REPORT_H

#include <stdio.h>

#include "base/error.h"
#include "base/types.h"

#define DRILL_ID_MAX     64
#define DRILL_EVENTS_MAX 64

/* In the order in which they happen when they do. */
enum drill_step {
    DRILL_DETECTED,     /* the other host suspected this one */
    DRILL_GRANTED,      /* and was granted the next term */
    DRILL_PROMOTED,     /* the guest runs there */
    DRILL_FIRST_OUTPUT, /* and its first output left */
    DRILL_HEALED,       /* the fault is taken back */
    DRILL_PROTECTED,    /* both hosts say protected again */
    DRILL_STEP_COUNT,
};

struct drill_event {
    int64_t at_ns; /* since the fault, by its host's clock */
    bool other;    /* of the other host */
    char severity[16];
    char kind[48];
    char text[256];
};

struct drill_report {
    char id[DRILL_ID_MAX]; /* UTC time and scenario */
    char vm[64];
    char scenario[32];
    char role[32]; /* of this host, before */
    char arbiter[32];
    int64_t began_wall_ns;
    bool forced;
    /* ns since the fault; below 0: did not happen, or nobody knows. The first four count from the
     * last sign of life, as the host that took over measured them. */
    int64_t steps[DRILL_STEP_COUNT];
    uint64_t term_before;
    uint64_t term_after;
    bool moved; /* the guest, to another host */
    char cause[256];
    uint64_t held_frames;     /* most pieces of output that were seen held at a time */
    uint64_t longest_hold_ns; /* of output, on the host that has the guest afterwards */
    uint64_t resync_bytes;    /* sent to protect the guest again */
    bool survived;
    char why[512]; /* one sentence */
    unsigned event_count;
    struct drill_event events[DRILL_EVENTS_MAX];
};

extern const char *const drill_step_names[DRILL_STEP_COUNT];

void drill_report_text(const struct drill_report *report, bool colour, FILE *out);
/* To be freed; NULL when memory is out. */
char *drill_report_json(const struct drill_report *report, bool compact);
void drill_report_svg(const struct drill_report *report, FILE *out);

/* From JSON. -EBADMSG when it is no report. */
int drill_report_parse(const char *json, struct drill_report *report, struct error *err);

#endif
