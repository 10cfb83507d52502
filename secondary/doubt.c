/* Silence of the heartbeat alone is not death while data keeps coming (DESIGN §6: heartbeat paths
 * only): look again when the data would be as old as the silence. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "secondary/secondary_internal.h"

void secondary_weigh_suspicion(struct secondary *s, const struct letter *letter)
{
    struct standby_stats stats;
    standby_snapshot(s->standby, &stats);
    const nsec_t now = clock_now();
    if (!letter->suspicion.certain && stats.following &&
        now - stats.last_frame < s->config.detection_time) {
        if (s->recheck_at == INT64_MAX)
            secondary_note(s, true, "heartbeat.silent",
                           "the heartbeat is silent on every path while data keeps coming");
        s->recheck_at = stats.last_frame + s->config.detection_time;
        snprintf(s->doubt, sizeof(s->doubt), "%s", letter->text);
        return;
    }
    s->recheck_at = INT64_MAX;
    s->suspected_at = letter->at;
    s->by_order = false;
    snprintf(s->takeover.cause, sizeof(s->takeover.cause), "%s", letter->text);
    /* What was on its way is still received after the suspicion. */
    s->takeover.last_sign = stats.last_frame < letter->at ? stats.last_frame : letter->at;
    secondary_feed(s, SECONDARY_EVENT_SUSPECT, letter->text);
}

void secondary_recheck_doubt(struct secondary *s)
{
    struct letter letter = {.kind = LETTER_SUSPECT, .at = clock_now()};
    memcpy(letter.text, s->doubt, sizeof(letter.text));
    if (peers_partner_state(s->config.peers) == DETECTOR_SUSPECT) {
        secondary_weigh_suspicion(s, &letter);
    } else {
        s->recheck_at = INT64_MAX;
        secondary_note(s, false, "heartbeat.back", "the heartbeat is heard again");
    }
}
