#include "heartbeat/peers.h"

#include <assert.h>
#include <stdlib.h>

#include "base/quick_exit.h"

_Static_assert(PEERS_MAX <= QUICK_EXIT_SPEAKERS_MAX, "each heartbeat has last words of its own");

struct heartbeat *peers_partner(struct peers *peers)
{
    return peers->heartbeats[atomic_load(&peers->partner)];
}

void peers_choose(struct peers *peers, unsigned host)
{
    assert(host < PEERS_MAX);
    atomic_store(&peers->partner, host);
}

void peers_set_local(struct peers *peers, const struct heartbeat_local *local, bool now)
{
    for (unsigned i = 0; i < peers->count; i++) {
        if (!peers->heartbeats[i])
            continue;
        if (now)
            heartbeat_set_local_now(peers->heartbeats[i], local);
        else
            heartbeat_set_local(peers->heartbeats[i], local);
    }
}

void peers_announce_stop(struct peers *peers)
{
    for (unsigned i = 0; i < peers->count; i++)
        if (peers->heartbeats[i])
            heartbeat_announce_stop(peers->heartbeats[i]);
}

enum detector_state peers_state(const struct peers *peers, unsigned host)
{
    if (!peers->heartbeats[host])
        return DETECTOR_UNHEARD;
    struct heartbeat_status *status = malloc(sizeof(*status));
    if (!status)
        abort();
    heartbeat_snapshot(peers->heartbeats[host], status);
    const enum detector_state state = status->state;
    free(status);
    return state;
}

enum detector_state peers_partner_state(struct peers *peers)
{
    return peers_state(peers, atomic_load(&peers->partner));
}
