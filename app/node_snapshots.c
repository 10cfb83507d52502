#include "app/node_snapshots.h"

#include <stdlib.h>

struct snapshots *snapshots_take(struct node *node)
{
    struct snapshots *s = calloc(1, sizeof(*s));
    if (!s)
        abort();
    /* A role asks after it has left the state that made it ask: a question that came up in between
     * would stand beside a state that is "protected". */
    struct arbiter_pending after;
    const bool before = arbiter_pending(node->arbiter, &s->asked);
    pthread_mutex_lock(&node->lock);
    s->is_primary = node->primary != NULL;
    s->is_secondary = node->secondary != NULL;
    if (node->primary) {
        primary_snapshot(node->primary, &s->primary);
        engine_snapshot(primary_engine(node->primary), &s->engine);
        outbox_snapshot(engine_outbox(primary_engine(node->primary)), &s->outbox);
    }
    if (node->secondary) {
        secondary_snapshot(node->secondary, &s->secondary);
        secondary_standby_stats(node->secondary, &s->standby);
    }
    s->took_over = node->took_over;
    s->takeover = node->takeover;
    s->running_at = node->running_at;
    s->guest_off = node->guest_off;
    s->panics = node->panics;
    s->rates = node->rates;
    pthread_mutex_unlock(&node->lock);
    s->asking = before && arbiter_pending(node->arbiter, &after) && after.number == s->asked.number;
    for (unsigned i = 0; i < node->peers.count; i++)
        heartbeat_snapshot(node->peers.heartbeats[i], &s->heartbeats[i]);
    return s;
}

void snapshots_free(struct snapshots **snapshots)
{
    free(*snapshots);
    *snapshots = NULL;
}
