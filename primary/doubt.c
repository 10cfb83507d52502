/* Silence of the heartbeat alone is not death while data keeps coming (DESIGN §6: heartbeat paths
 * only). A checkpoint is the question, its acknowledgement within the detection time the answer. */
#include <stdio.h>

#include "base/clock.h"
#include "primary/primary_internal.h"

/* Detection times of silence that a standby may need to take the guest over. */
#define HANDING_PATIENCE 4

enum detector_state primary_peer_state(const struct primary *p)
{
    return peers_partner_state(p->config.peers);
}

static void doubt(struct primary *p, const char *why)
{
    p->heard = engine_bytes_received(p->engine);
    /* A guest that is handed over says nothing for a while, and neither does its standby. */
    const bool handing = p->status.state == PRIMARY_HANDING;
    p->recheck_at = clock_now() + p->config.detection_time * (handing ? HANDING_PATIENCE : 1);
    snprintf(p->doubt, sizeof(p->doubt), "%s", why);
    engine_request_checkpoint(p->engine);
}

void primary_weigh_suspicion(struct primary *p, const struct letter *letter)
{
    const enum primary_state state = p->status.state;
    const bool doubtful =
        state == PRIMARY_PROTECTED || state == PRIMARY_PREPARING || state == PRIMARY_HANDING;
    if (letter->suspicion.certain || !doubtful)
        primary_feed(p, PRIMARY_EVENT_SUSPECT, letter->text);
    else
        doubt(p, letter->text);
}

void primary_recheck_doubt(struct primary *p)
{
    p->recheck_at = INT64_MAX;
    if (primary_peer_state(p) != DETECTOR_SUSPECT) {
        if (p->alarmed)
            primary_note(p, false, "heartbeat.back", "the heartbeat is heard again");
        p->alarmed = false;
        return;
    }
    if (engine_bytes_received(p->engine) == p->heard) {
        primary_feed(p, PRIMARY_EVENT_SUSPECT, p->doubt);
        return;
    }
    if (!p->alarmed)
        primary_note(p, true, "heartbeat.silent",
                     "the heartbeat is silent on every path while data keeps coming");
    p->alarmed = true;
    doubt(p, p->doubt);
}
