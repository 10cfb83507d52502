/* Drills: a failure made on purpose, watched, taken back, and reported (docs/drills.md).
 *
 * A drill strikes the host on which it is ordered: that is where a fault can be made for real, and
 * where somebody must see to it that it ends. The other host is asked through its own kemarictl.
 * A power failure leaves nobody to see to anything: that one strikes the other host. */
#ifndef KEMARI_APP_DRILL_H
#define KEMARI_APP_DRILL_H

#include "base/types.h"

/* What is made to happen. */
enum drill_kind {
    DRILL_KILL,       /* SIGKILL of the daemon */
    DRILL_FREEZE,     /* the daemon stands still */
    DRILL_CUT,        /* what it sends and should receive is lost */
    DRILL_SLOW,       /* a narrow link */
    DRILL_CORRUPT,    /* bytes are altered on their way */
    DRILL_SWITCHOVER, /* by agreement */
    DRILL_POWER_OFF,  /* the other host's power, by a command that is configured */
};

/* Between this host and what; bits. */
enum { DRILL_DATA = 1, DRILL_HEARTBEAT = 2, DRILL_ARBITER = 4 };

/* Who has the guest afterwards. */
enum drill_outcome {
    DRILL_VICTIM_LOSES, /* the one that was not struck, whoever had it before */
    DRILL_SWAPS,        /* the one that did not have it */
    DRILL_STAYS,        /* the one that had it */
    DRILL_EITHER,
};

struct drill_scenario {
    const char *name;
    enum drill_kind kind;
    unsigned wires;
    bool standby_only; /* strikes a secondary only */
    enum drill_outcome outcome;
    unsigned seconds; /* the fault lasts at most, unless the operator says otherwise */
    const char *what; /* one phrase for people */
};

#define DRILL_SECONDS_MAX 60

extern const struct drill_scenario drill_scenarios[];
extern const size_t drill_scenario_count;

/* This host is the one that stays. */
bool drill_strikes_other(const struct drill_scenario *scenario);

/* How long the pair may take after the fault until the guest is protected again: a host that was
 * switched off has to boot, and perhaps somebody to walk to it. */
nsec_t drill_patience(const struct drill_scenario *scenario);

/* NULL when there is none of that name. */
const struct drill_scenario *drill_scenario_find(const char *name);

#endif
