/* The heartbeats of one daemon, one to each host that it may be paired with, and which of them is
 * the partner's. What this side tells goes to all; what is asked and hinted is about the partner.
 */
#ifndef KEMARI_HEARTBEAT_PEERS_H
#define KEMARI_HEARTBEAT_PEERS_H

#include <stdatomic.h>

#include "heartbeat/heartbeat.h"

#define PEERS_MAX 4

struct peers {
    unsigned count;                          /* of hosts; 0: this host stands alone */
    struct heartbeat *heartbeats[PEERS_MAX]; /* set at creation; NULL: none to that host */
    _Atomic unsigned
        partner; /* the last host that a connection was made with; the first until then */
};

/* All are called on any thread. */

/* The partner's heartbeat, or NULL. */
struct heartbeat *peers_partner(struct peers *peers);
void peers_choose(struct peers *peers, unsigned host);
/* To all; `now` as heartbeat_set_local_now(). */
void peers_set_local(struct peers *peers, const struct heartbeat_local *local, bool now);
void peers_announce_stop(struct peers *peers);
/* Unheard where there is no heartbeat. */
enum detector_state peers_partner_state(struct peers *peers);
enum detector_state peers_state(const struct peers *peers, unsigned host);

#endif
