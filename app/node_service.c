/* What a node tells the service manager that started it, by sd_notify(3); without one, nothing.
 * Main thread.
 *
 * READY says that all the configuration asks for was had and the role runs: not that the guest is
 * protected, since a primary whose peer is down is wanted, too. STATUS says that. The watchdog is
 * fed by the main loop after it had the node's lock, at least twice in its period. */
#include <stdlib.h>
#include <systemd/sd-daemon.h>

#include "app/node_snapshots.h"
#include "control/schema.h"

/* The last beat before a standstill may be that old. */
#define BEAT_AGE_MAX SEC(2)

static void tell_status(struct node *node)
{
    struct snapshots *s = snapshots_take(node);
    struct control_status *status = calloc(1, sizeof(*status));
    if (!status)
        abort();
    node_describe(node, s, status);
    control_status_finish(status);
    sd_notifyf(0, "STATUS=%s, %s%s", control_role_names[status->role],
               status->protected ? "protected" : "not protected: ",
               status->protected ? "" : status->reason);
    free(status);
    snapshots_free(&s);
}

void node_service_ready(struct node *node)
{
    node->service = sd_notify(0, "READY=1") > 0;
    if (node->service)
        tell_status(node);
}

void node_service_beat(struct node *node)
{
    if (!node->service)
        return;
    tell_status(node);
    sd_notify(0, "WATCHDOG=1");
}

nsec_t node_service_patience(void)
{
    uint64_t watchdog;
    if (sd_watchdog_enabled(0, &watchdog) <= 0)
        return INT64_MAX;
    const nsec_t limit = (nsec_t)watchdog * 1000 - BEAT_AGE_MAX;
    return limit > 0 ? limit : 0;
}

void node_service_stopping(struct node *node)
{
    if (node->service)
        sd_notify(0, "STOPPING=1");
}
