/* Planned switchover: the operator's order; and a primary that becomes a secondary in the same
 * process. */
#include <errno.h>
#include <stdio.h>

#include "app/node_internal.h"
#include "base/clock.h"
#include "base/log.h"

void node_switchover(void *context, control_token_t token)
{
    struct node *node = context;
    const char *refusal = NULL;
    pthread_mutex_lock(&node->lock);
    if (node->switch_token)
        refusal = "a switchover is under way already";
    else if (node->stopping)
        refusal = "the daemon is stopping";
    else if (node->primary)
        primary_switchover(node->primary);
    else if (node->secondary)
        secondary_switchover(node->secondary);
    else
        refusal = "the roles are just changing";
    if (!refusal)
        node->switch_token = token;
    pthread_mutex_unlock(&node->lock);
    if (refusal)
        control_server_complete(node->server, token, -EBUSY, refusal);
}

static void answer(struct node *node, int rc, const char *text)
{
    pthread_mutex_lock(&node->lock);
    const control_token_t token = node->switch_token;
    node->switch_token = 0;
    pthread_mutex_unlock(&node->lock);
    if (token)
        control_server_complete(node->server, token, rc, text);
}

void node_switchover_failed(void *context, const char *why)
{
    answer(context, -EBUSY, why);
}

/* To whoever ordered it, and to the log of both hosts. */
static void tell(struct node *node, const char *where, nsec_t pause, term_t term, epoch_t epoch)
{
    struct control_event event;
    control_event_init(&event, CONTROL_INFO, "switchover.done",
                       "the guest runs on %s host; it stood still for %lld.%03lld ms", where,
                       (long long)(pause / MSEC(1)), (long long)(pause % MSEC(1) / USEC(1)));
    control_event_add(&event, "pause_ns", "%lld", (long long)pause);
    control_event_add(&event, "term", "%llu", (unsigned long long)term);
    control_event_add(&event, "epoch", "%llu", (unsigned long long)epoch);
    control_events_append(node->events, &event);
    log_info("app", "switchover: %s", event.text);
    answer(node, 0, event.text);
}

void node_switchover_done(void *context, nsec_t pause, term_t term)
{
    struct node *node = context;
    tell(node, "this", pause, term, node->takeover.epoch);
}

/* The primary goes; what it left is the caller's. */
static void end_primary(struct node *node)
{
    struct primary *primary = node->primary;
    node->ops.ops->output_close(node->ops.context);
    pthread_mutex_lock(&node->lock);
    node->primary = NULL;
    node->took_over = false;
    node->guest_off = false;
    pthread_mutex_unlock(&node->lock);
    primary_destroy(&primary);
    node_protection_ordered(node, -EBUSY, "the guest went to the other host meanwhile");
}

/* `host`: whom it follows, or the first of the list. */
static int begin_secondary(struct node *node, const struct secondary_config *config, unsigned host,
                           struct error *err)
{
    struct secondary *secondary = NULL;
    const int rc = secondary_create(config, &secondary, err);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&node->lock);
    node->secondary = secondary;
    /* What was heard while there was no role to be told. */
    const enum detector_reason suspected = node->news[host].suspected;
    if (suspected != DETECTOR_REASON_START)
        secondary_suspect(secondary, host, detector_reason_text(suspected),
                          suspected != DETECTOR_REASON_SILENCE);
    secondary_superseded(secondary, node->owner);
    if (node->stopping)
        secondary_stop(secondary, node->stop_why);
    pthread_mutex_unlock(&node->lock);
    return 0;
}

int node_follow_heir(struct node *node, struct error *err)
{
    struct primary_handed handed;
    int rc = primary_take_handed(node->primary, &handed, err);
    if (rc < 0)
        return rc;
    end_primary(node);
    struct secondary_config config = node_secondary_config(node);
    config.heritage = (struct secondary_heritage){.link = handed.engine.link,
                                                  .host = handed.host,
                                                  .state = handed.engine.state,
                                                  .epoch = handed.engine.epoch,
                                                  .policy = handed.engine.policy,
                                                  .term = handed.term,
                                                  .life = handed.life,
                                                  .staging_cap = handed.engine.staging_cap,
                                                  .capabilities = handed.engine.capabilities};
    rc = begin_secondary(node, &config, handed.host, err);
    if (rc == 0)
        tell(node, "the other", handed.engine.pause, handed.term, handed.engine.epoch);
    return rc;
}

/* Its guest has never run. */
int node_follow_owner(struct node *node, struct error *err)
{
    end_primary(node);
    const struct secondary_config config = node_secondary_config(node);
    const int rc = begin_secondary(node, &config, 0, err);
    if (rc == 0)
        node_note(node, false, "role.secondary",
                  "another host owns the guest: this one is its secondary");
    return rc;
}
