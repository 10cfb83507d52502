/* What a node tells Prometheus. On the thread of the server of metrics. */
#include <stdlib.h>

#include "app/node_snapshots.h"
#include "control/metrics.h"
#include "control/metrics_server.h"

#define IDLE_SECONDS 5

static void fill_output(const struct snapshots *s, struct control_metrics *out)
{
    static const char *const triggers[POLICY_TRIGGER_COUNT] = {
        [POLICY_TRIGGER_OUTPUT] = "output",
        [POLICY_TRIGGER_TIME] = "time",
        [POLICY_TRIGGER_DIRTY] = "dirty",
        [POLICY_TRIGGER_REQUEST] = "request",
    };
    _Static_assert(POLICY_TRIGGER_COUNT <= CONTROL_CUTS_MAX, "a place for each");
    for (unsigned i = 0; i < POLICY_TRIGGER_COUNT; i++)
        if (triggers[i])
            out->cuts[out->cut_count++] = (struct control_cut){triggers[i], s->engine.triggers[i]};
    out->pause = s->engine.pause;
    out->commit = s->engine.commit;
    out->dirty = s->engine.dirty;
    out->hold = s->outbox.hold;
    out->released_items = s->outbox.released_items;
    out->released_bytes = s->outbox.released_bytes;
    out->dropped_items = s->outbox.dropped_items;
}

static void on_print(void *context, FILE *out)
{
    struct snapshots *s = snapshots_take(context);
    struct control_metrics *metrics = calloc(1, sizeof(*metrics));
    if (!metrics)
        abort();
    node_describe(context, s, &metrics->status);
    control_status_finish(&metrics->status);
    fill_output(s, metrics);
    control_metrics_print(metrics, out);
    free(metrics);
    snapshots_free(&s);
}

int node_build_metrics(struct node *node, struct error *err)
{
    const struct config_address *address = &node->config->metrics;
    if (!address->text)
        return 0;
    const struct metrics_server_config config = {.address =
                                                     (const struct sockaddr *)&address->address,
                                                 .length = address->length,
                                                 .idle_seconds = IDLE_SECONDS,
                                                 .print = on_print,
                                                 .context = node};
    if (metrics_server_create(&config, &node->metrics, err) < 0)
        return error_prefix(err, "metrics %s", address->text);
    return 0;
}
