/* A checkpoint by the operator's order. The engine takes it; what is waited for here is that a
 * state newer than the order commits. Main thread. */
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>

#include "app/node_internal.h"
#include "base/clock.h"

#define LOOK_MS  5
#define PATIENCE SEC(60)

/* The engine's numbers; false when there is no guest here. */
static bool look_at_engine(struct node *node, bool request, struct engine_stats *stats)
{
    pthread_mutex_lock(&node->lock);
    const bool primary = node->primary != NULL;
    if (primary) {
        /* In this order: what gathers now is cut later, by this request or another reason. */
        engine_snapshot(primary_engine(node->primary), stats);
        if (request)
            engine_request_checkpoint(primary_engine(node->primary));
    }
    pthread_mutex_unlock(&node->lock);
    return primary;
}

static void answer(struct node *node, int rc, const char *text)
{
    const control_token_t token = node->checkpoint.token;
    node->checkpoint.token = 0;
    event_del(node->checkpoint.look);
    control_server_complete(node->server, token, rc, text);
}

static void on_look(evutil_socket_t fd, short what, void *context)
{
    struct node *node = context;
    struct engine_stats *stats = &node->checkpoint.stats;
    char text[128];
    (void)fd, (void)what;
    if (!look_at_engine(node, false, stats)) {
        answer(node, -EBUSY, "the guest went to the other host meanwhile");
    } else if (stats->committed >= node->checkpoint.wanted) {
        snprintf(text, sizeof(text), "checkpoint %llu is committed",
                 (unsigned long long)stats->committed);
        answer(node, 0, text);
    } else if (stats->state != ENGINE_REPLICATING) {
        answer(node, -EBUSY, "the guest is not protected any more");
    } else if (clock_now() > node->checkpoint.deadline) {
        answer(node, -ETIMEDOUT, "the secondary has not acknowledged a checkpoint for 60 s");
    }
}

void node_checkpoint(void *context, control_token_t token)
{
    static const struct timeval period = {.tv_usec = LOOK_MS * 1000};
    struct node *node = context;
    struct engine_stats *stats = &node->checkpoint.stats;
    struct error err = {0};
    int rc = 0;
    if (!node->checkpoint.look)
        node->checkpoint.look = event_new(node->base, -1, EV_PERSIST, on_look, node);
    if (!node->checkpoint.look)
        rc = error_set(&err, -ENOMEM, "out of memory");
    else if (node->checkpoint.token)
        rc = error_set(&err, -EBUSY, "a checkpoint is being waited for already");
    else if (!look_at_engine(node, true, stats))
        rc = error_set(&err, -EPERM, "this host does not run the guest");
    else if (stats->state != ENGINE_REPLICATING)
        rc = error_set(&err, -EBUSY, "the guest is not protected: nobody would take a checkpoint");
    if (rc < 0) {
        control_server_complete(node->server, token, rc, err.text);
        return;
    }
    node->checkpoint.token = token;
    node->checkpoint.wanted = stats->next_epoch;
    node->checkpoint.deadline = clock_now() + PATIENCE;
    event_add(node->checkpoint.look, &period);
}

void node_forget_checkpoint(struct node *node)
{
    if (node->checkpoint.look)
        event_free(node->checkpoint.look);
    node->checkpoint.look = NULL;
}
