#include "app/drill.h"

#include <string.h>

const struct drill_scenario drill_scenarios[] = {
    {"kill", DRILL_KILL, 0, false, DRILL_VICTIM_LOSES, 10, "this host's daemon is killed"},
    {"freeze", DRILL_FREEZE, 0, false, DRILL_VICTIM_LOSES, 10,
     "this host's daemon stands still until the other has gone on, then wakes"},
    {"standby-loss", DRILL_KILL, 0, true, DRILL_VICTIM_LOSES, 10,
     "this host's daemon, a secondary, is killed: the primary goes on alone"},
    {"isolate-data", DRILL_CUT, DRILL_DATA, false, DRILL_EITHER, 1,
     "the way of checkpoints between the hosts is cut"},
    {"isolate-heartbeat", DRILL_CUT, DRILL_HEARTBEAT, false, DRILL_EITHER, 2,
     "all heartbeat paths are cut, while checkpoints still arrive"},
    {"isolate-arbiter", DRILL_CUT, DRILL_ARBITER, false, DRILL_STAYS, 5,
     "this host can't reach the arbiter"},
    {"isolate-all", DRILL_CUT, DRILL_DATA | DRILL_HEARTBEAT | DRILL_ARBITER, false,
     DRILL_VICTIM_LOSES, 20, "this host reaches neither the other one nor the arbiter"},
    {"slow-link", DRILL_SLOW, DRILL_DATA, false, DRILL_EITHER, 5,
     "the way of checkpoints takes 1 MB/s and loses the rest"},
    {"corrupt-link", DRILL_CORRUPT, DRILL_DATA, false, DRILL_EITHER, 2,
     "every tenth packet of checkpoints arrives altered"},
    {"switchover", DRILL_SWITCHOVER, 0, false, DRILL_SWAPS, 10,
     "the guest moves to the other host by agreement"},
    {"power-off", DRILL_POWER_OFF, 0, false, DRILL_VICTIM_LOSES, 30,
     "the other host loses its power, by the command that is configured"},
};
const size_t drill_scenario_count = ARRAY_SIZE(drill_scenarios);

bool drill_strikes_other(const struct drill_scenario *scenario)
{
    return scenario->kind == DRILL_POWER_OFF;
}

nsec_t drill_patience(const struct drill_scenario *scenario)
{
    return drill_strikes_other(scenario) ? SEC(1800) : SEC(120);
}

const struct drill_scenario *drill_scenario_find(const char *name)
{
    for (size_t i = 0; i < drill_scenario_count; i++)
        if (strcmp(drill_scenarios[i].name, name) == 0)
            return &drill_scenarios[i];
    return NULL;
}
