#include "secondary/standby.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "secondary/standby_internal.h"

/* ---- the applying thread ---- */

/* The staging memory comes back before anybody is told that the epoch is applied: the receiving
 * thread waits for the one to get the other. */
static void apply(struct standby *s, struct staged_epoch *epoch)
{
    staged_epoch_apply(epoch, s->memory);
    const epoch_t number = epoch->epoch;
    const nsec_t received_at = epoch->received_at;
    struct section_set *state = epoch->state;
    epoch->state = NULL;
    staged_epoch_recycle(epoch, s->config.slab);
    pthread_mutex_lock(&s->lock);
    if (state) {
        section_set_destroy(&s->state);
        s->state = state;
        s->state_at = received_at;
    }
    s->stats.applied = number;
    s->applying = false;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void *applier_main(void *context)
{
    struct standby *s = context;
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        if (!s->queue_count) {
            pthread_cond_wait(&s->changed, &s->lock);
            continue;
        }
        struct staged_epoch next = s->queue[0];
        memmove(s->queue, s->queue + 1, --s->queue_count * sizeof(s->queue[0]));
        s->applying = true;
        pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->lock);
        apply(s, &next);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

void standby_wait_applied(struct standby *s)
{
    while ((s->queue_count || s->applying) && !s->stop)
        pthread_cond_wait(&s->changed, &s->lock);
}

static void settle(void *context)
{
    struct standby *s = context;
    pthread_mutex_lock(&s->lock);
    standby_wait_applied(s);
    pthread_mutex_unlock(&s->lock);
}

void standby_enqueue(struct standby *s, const struct staged_epoch *epoch)
{
    pthread_mutex_lock(&s->lock);
    while (s->queue_count == STANDBY_QUEUE_MAX && !s->stop)
        pthread_cond_wait(&s->changed, &s->lock);
    s->queue[s->queue_count++] = *epoch;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

/* ---- the interface ---- */

int standby_create(const struct standby_config *config, struct standby **out, struct error *err)
{
    *out = NULL;
    struct standby *s = calloc(1, sizeof(*s));
    if (!s)
        return error_set(err, -ENOMEM, "standby: out of memory");
    s->config = *config;
    s->ops = config->machine.ops;
    s->machine = config->machine.context;
    s->memory = s->ops->memory(s->machine);
    pthread_mutex_init(&s->telling, NULL);
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    s->disks = config->machine.disks;
    int rc = stage_create(s->memory, config->slab, settle, s, &s->disks, &s->stage, err);
    if (rc == 0 && pthread_create(&s->applier, NULL, applier_main, s) != 0)
        rc = error_set(err, -EAGAIN, "standby: can't start a thread");
    s->applier_started = rc == 0;
    if (rc == 0 && s->disks.ops)
        s->disks.ops->watch(s->disks.context, standby_on_disks_failed, s);
    if (rc < 0)
        standby_destroy(&s);
    *out = s;
    return rc;
}

void standby_destroy(struct standby **standby)
{
    struct standby *s = *standby;
    if (!s)
        return;
    standby_unfollow(s);
    if (s->applier_started && s->disks.ops)
        s->disks.ops->watch(s->disks.context, NULL, NULL);
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (s->applier_started)
        pthread_join(s->applier, NULL);
    for (size_t i = 0; i < s->queue_count; i++)
        staged_epoch_recycle(&s->queue[i], s->config.slab);
    stage_destroy(&s->stage);
    section_set_destroy(&s->state);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->telling);
    free(s);
    *standby = NULL;
}

static int start_following(struct standby *standby, struct link *link, term_t term,
                           struct error *err)
{
    assert(!standby->link);
    standby->link = link;
    stage_begin_link(standby->stage);
    pthread_mutex_lock(&standby->lock);
    standby->term = term;
    standby->told = link;
    standby->stats.following = true;
    standby->released = false;
    standby->parting = false;
    pthread_mutex_unlock(&standby->lock);
    if (pthread_create(&standby->receiver, NULL, standby_receive, standby) == 0)
        return 0;
    standby_show_link(standby, NULL);
    pthread_mutex_lock(&standby->lock);
    standby->stats.following = false;
    pthread_mutex_unlock(&standby->lock);
    link_destroy(&standby->link);
    return error_set(err, -EAGAIN, "standby: can't start a thread");
}

int standby_follow(struct standby *standby, struct link *link, term_t term, struct error *err)
{
    standby->last_begun = 0;
    standby->synchronised = false;
    standby->ready_told = false;
    return start_following(standby, link, term, err);
}

int standby_follow_heir(struct standby *standby, struct link *link, term_t term,
                        struct section_set *state, epoch_t epoch, const struct policy *policy,
                        struct error *err)
{
    if (standby->disks.ops)
        standby->disks.ops->restart(standby->disks.context);
    pthread_mutex_lock(&standby->lock);
    standby->disks_failed = false;
    section_set_destroy(&standby->state);
    standby->state = state;
    standby->state_at = clock_now();
    standby->stats.committed = epoch;
    standby->stats.applied = epoch;
    standby->stats.promotable = true;
    standby->stats.has_policy = true;
    standby->stats.policy = *policy;
    standby->stats.last_frame = clock_now();
    pthread_mutex_unlock(&standby->lock);
    standby->last_begun = epoch;
    standby->synchronised = true;
    standby->ready_told = true;
    return start_following(standby, link, term, err);
}

struct link *standby_take_link(struct standby *standby)
{
    struct link *link = standby->link;
    assert(link);
    pthread_join(standby->receiver, NULL);
    standby_show_link(standby, NULL);
    standby->link = NULL;
    pthread_mutex_lock(&standby->lock);
    standby->stats.following = false;
    pthread_mutex_unlock(&standby->lock);
    return link;
}

int standby_send_switchover(struct standby *standby, const struct message_switchover *step,
                            struct error *err)
{
    const struct message message = {.kind = MESSAGE_SWITCHOVER, .switchover = *step};
    if (!standby->link)
        return error_set(err, -ENOTCONN, "not connected to the primary");
    return message_send(standby->link, standby->term, 0, &message, err);
}

void standby_unfollow(struct standby *standby)
{
    if (!standby->link)
        return;
    link_shutdown(standby->link);
    pthread_join(standby->receiver, NULL);
    standby_show_link(standby, NULL);
    link_destroy(&standby->link);
    if (stage_is_filling(standby->stage))
        stage_drop(standby->stage);
}

/* Ends when the primary has closed the link, or at `until`. */
static void last_words(struct standby *s, enum message_goodbye_reason reason, const char *text,
                       nsec_t until)
{
    const struct timespec deadline = clock_to_timespec(until);
    int rc = 0;
    if (!s->link)
        return;
    struct message message = {.kind = MESSAGE_GOODBYE,
                              .goodbye = {.reason = reason, .final = true}};
    snprintf(message.goodbye.text, sizeof(message.goodbye.text), "%s", text);
    message_send(s->link, s->term, 0, &message, NULL);
    pthread_mutex_lock(&s->lock);
    while (s->stats.following && rc == 0)
        rc = pthread_cond_timedwait(&s->changed, &s->lock, &deadline);
    pthread_mutex_unlock(&s->lock);
}

void standby_say_goodbye(struct standby *standby, const char *text, nsec_t until)
{
    pthread_mutex_lock(&standby->lock);
    standby->parting = true;
    pthread_mutex_unlock(&standby->lock);
    last_words(standby, MESSAGE_GOODBYE_STOP, text, until);
}

void standby_supersede(struct standby *standby, nsec_t until)
{
    last_words(standby, MESSAGE_GOODBYE_SUPERSEDED, "the standby was granted the guest", until);
}

bool standby_keep(struct standby *standby)
{
    pthread_mutex_lock(&standby->lock);
    standby->kept = standby->stats.promotable;
    const bool kept = standby->kept;
    pthread_mutex_unlock(&standby->lock);
    return kept;
}

void standby_let_go(struct standby *standby)
{
    pthread_mutex_lock(&standby->lock);
    standby->kept = false;
    pthread_mutex_unlock(&standby->lock);
}

int standby_promote(struct standby *standby, struct standby_takeover *out, struct error *err)
{
    const nsec_t start = clock_now();
    standby_unfollow(standby);
    const nsec_t dropped = clock_now();
    pthread_mutex_lock(&standby->lock);
    standby_wait_applied(standby);
    const bool promotable = standby->stats.promotable;
    const epoch_t epoch = standby->stats.committed;
    pthread_mutex_unlock(&standby->lock);
    if (!promotable)
        return error_set(err, -ENODATA, "this standby holds no complete state of the guest");
    int rc = standby->disks.ops ? standby->disks.ops->finish(standby->disks.context, err) : 0;
    if (rc < 0)
        return rc;
    const nsec_t applied = clock_now();
    rc = standby->ops->load(standby->machine, standby->state, applied - standby->state_at, err);
    if (rc < 0)
        return rc;
    *out = (struct standby_takeover){.epoch = epoch,
                                     .drop = dropped - start,
                                     .apply = applied - dropped,
                                     .load = clock_now() - applied};
    return 0;
}

void standby_snapshot(struct standby *standby, struct standby_stats *out)
{
    pthread_mutex_lock(&standby->lock);
    *out = standby->stats;
    pthread_mutex_unlock(&standby->lock);
    const size_t used =
        slab_chunk_count(standby->config.slab) - slab_free_count(standby->config.slab);
    out->staging_used = used * SLAB_CHUNK_SIZE;
}
