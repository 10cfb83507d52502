/* What the parts of a node know at one moment, for those who tell it to the outside: status and
 * metrics. Large (histograms), so one allocation. */
#ifndef KEMARI_APP_NODE_SNAPSHOTS_H
#define KEMARI_APP_NODE_SNAPSHOTS_H

#include "app/node_internal.h"

struct snapshots {
    struct primary_status primary;
    struct secondary_status secondary;
    struct engine_stats engine;
    struct outbox_stats outbox;
    struct standby_stats standby;
    struct heartbeat_status heartbeats[PEERS_MAX]; /* of each host in the list */
    struct arbiter_pending asked;                  /* if `asking` */
    bool asking; /* a question that was open before the role was looked at, and still after */
    bool is_primary;
    bool is_secondary;
    bool took_over;
    struct secondary_takeover takeover;
    nsec_t running_at;
    bool guest_off;
    uint64_t panics;
    struct node_rates rates;
};

/* Any thread. Never NULL: aborts without memory. The caller frees. */
struct snapshots *snapshots_take(struct node *node);
void snapshots_free(struct snapshots **snapshots);

/* Fills a zeroed *out, but for what control_status_finish() adds. Any thread, while the node's
 * parts exist. node_control.c. */
void node_describe(struct node *node, const struct snapshots *snapshots,
                   struct control_status *out);

#endif
