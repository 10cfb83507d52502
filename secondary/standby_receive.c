/* The receiving thread: verifies each epoch, proves that its state would load, and only then
 * acknowledges it and hands it to the applying thread. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/prompt.h"
#include "secondary/standby_internal.h"

#define RELEASED_TEXT "the primary goes on alone, by order of its operator"
#define PARTING_TEXT  "this host said goodbye"

static int begin(struct standby *s, epoch_t epoch, const struct message_epoch_begin *message,
                 struct error *err)
{
    const enum message_epoch_kind kind = message->kind;
    if (epoch <= s->last_begun)
        return error_set(err, -EPROTO, "epoch %llu begins after epoch %llu",
                         (unsigned long long)epoch, (unsigned long long)s->last_begun);
    if (kind == MESSAGE_EPOCH_INCREMENTAL && !s->synchronised)
        return error_set(err, -EPROTO, "epoch %llu comes before a full synchronisation",
                         (unsigned long long)epoch);
    s->policy_begun = message->has_policy;
    int rc = 0;
    if (message->has_policy)
        rc = policy_from_message(&message->policy, &s->policy_coming, err);
    if (rc < 0)
        return error_prefix(err, "the primary's policy");
    s->last_begun = epoch;
    rc = stage_begin(s->stage, epoch, kind, err);
    if (rc < 0 || kind == MESSAGE_EPOCH_INCREMENTAL)
        return rc;
    /* Pages of a synchronisation go straight to memory: older epochs must be there before, and
     * from now on there is no consistent state to continue from. */
    pthread_mutex_lock(&s->lock);
    standby_wait_applied(s);
    if (s->kept) {
        pthread_mutex_unlock(&s->lock);
        return error_set(err, -ECANCELED, "the state held is about to be promoted");
    }
    const bool was_promotable = s->stats.promotable;
    s->stats.promotable = false;
    s->stats.synchronising = true;
    s->stats.sync_pages = 0;
    pthread_mutex_unlock(&s->lock);
    if (s->disks.ops) {
        s->disks.ops->restart(s->disks.context);
        pthread_mutex_lock(&s->lock);
        s->disks_failed = false;
        pthread_mutex_unlock(&s->lock);
    }
    s->synchronised = false;
    s->ready_told = false;
    if (was_promotable)
        s->config.event(s->config.context, STANDBY_EVENT_NOT_READY, NULL);
    return 0;
}

static int refuse(struct standby *s, epoch_t epoch, enum message_nack_reason reason,
                  const struct error *why)
{
    struct message nack = {.kind = MESSAGE_EPOCH_NACK, .epoch_nack = {.reason = reason}};
    memcpy(nack.epoch_nack.text, why->text, sizeof(nack.epoch_nack.text) - 1);
    message_send(s->link, s->term, epoch, &nack, NULL);
    return why->code;
}

void standby_on_disks_failed(void *context, const struct error *why)
{
    struct standby *s = context;
    pthread_mutex_lock(&s->telling);
    pthread_mutex_lock(&s->lock);
    s->disks_failed = true;
    s->stats.promotable = false;
    struct link *link = s->told;
    s->told_users += link != NULL;
    const term_t term = s->term;
    pthread_mutex_unlock(&s->lock);
    s->config.event(s->config.context, STANDBY_EVENT_UNFIT, why);
    pthread_mutex_unlock(&s->telling);
    if (!link)
        return;
    struct message message = {.kind = MESSAGE_RESYNC};
    snprintf(message.resync.text, sizeof(message.resync.text), "%.*s", MESSAGE_TEXT_MAX - 1,
             why->text);
    message_send(link, term, 0, &message, NULL);
    pthread_mutex_lock(&s->lock);
    s->told_users--;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void standby_show_link(struct standby *s, struct link *link)
{
    pthread_mutex_lock(&s->lock);
    s->told = link;
    while (!link && s->told_users)
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

/* Nothing that is acknowledged may be impossible to apply, as far as is known. */
static int commit_disks(struct standby *s, bool first, struct error *err)
{
    if (!s->disks.ops)
        return 0;
    const int rc = s->disks.ops->check(s->disks.context, err);
    if (rc == 0)
        s->disks.ops->commit(s->disks.context);
    else
        s->disks.ops->drop(s->disks.context);
    return rc == 0 && first ? s->disks.ops->follow(s->disks.context, s->term, err) : rc;
}

static void tell_ready(struct standby *s)
{
    pthread_mutex_lock(&s->telling);
    pthread_mutex_lock(&s->lock);
    const bool ready = s->stats.promotable;
    pthread_mutex_unlock(&s->lock);
    s->ready_told = true;
    if (ready)
        s->config.event(s->config.context, STANDBY_EVENT_READY, NULL);
    pthread_mutex_unlock(&s->telling);
}

/* END: verify, prove loadable, and only then acknowledge. */
static int end(struct standby *s, epoch_t epoch, const struct message_epoch_end *message,
               struct error *err)
{
    struct staged_epoch whole;
    int rc = stage_finish(s->stage, epoch, message, &whole, err);
    if (rc < 0)
        return refuse(s, epoch, MESSAGE_NACK_DIGEST, err);
    if (whole.state)
        rc = s->ops->check(s->machine, whole.state, err);
    if (rc < 0) {
        staged_epoch_recycle(&whole, s->config.slab);
        return refuse(s, epoch, MESSAGE_NACK_STATE, err);
    }
    const bool commits = whole.kind == MESSAGE_EPOCH_INCREMENTAL;
    rc = commit_disks(s, commits && !s->ready_told, err);
    if (rc < 0) {
        staged_epoch_recycle(&whole, s->config.slab);
        return refuse(s, epoch, MESSAGE_NACK_RESOURCES, err);
    }
    const uint64_t pages = whole.pages;
    s->synchronised = true;
    standby_enqueue(s, &whole);
    pthread_mutex_lock(&s->lock);
    if (s->policy_begun) {
        s->stats.policy = s->policy_coming;
        s->stats.has_policy = true;
    }
    if (commits) {
        s->stats.committed = epoch;
        s->stats.promotable = !s->disks_failed && !s->released;
        s->stats.synchronising = false;
        s->stats.epochs++;
        s->stats.pages += pages;
    }
    pthread_mutex_unlock(&s->lock);
    const struct message ack = {.kind = MESSAGE_EPOCH_ACK};
    rc = message_send(s->link, s->term, epoch, &ack, err);
    if (commits && !s->ready_told)
        tell_ready(s);
    return rc;
}

/* How the receiving ended. */
struct ending {
    bool goodbye;
    bool closed;
    bool handed; /* TAKE: the link lives */
};

/* The primary goes on alone: whatever comes on this link from now on makes nothing promotable. It
 * is the primary who closes the link, so that the answer reaches it. */
static int release(struct standby *s, term_t term, struct error *err)
{
    static const struct error why = {.text = RELEASED_TEXT};
    const struct message released = {
        .kind = MESSAGE_SWITCHOVER,
        .switchover = {.step = MESSAGE_SWITCHOVER_RELEASED, .term = term}};
    pthread_mutex_lock(&s->telling);
    pthread_mutex_lock(&s->lock);
    const bool kept = s->kept;
    s->released = !kept;
    if (!kept)
        s->stats.promotable = false;
    pthread_mutex_unlock(&s->lock);
    if (!kept)
        s->config.event(s->config.context, STANDBY_EVENT_NOT_READY, &why);
    pthread_mutex_unlock(&s->telling);
    if (kept)
        return error_set(err, -ECANCELED, "the state held is about to be promoted");
    return message_send(s->link, s->term, 0, &released, err);
}

static int switchover(struct standby *s, epoch_t epoch, const struct message_switchover *step,
                      struct ending *ending, struct error *err)
{
    pthread_mutex_lock(&s->lock);
    const bool whole = s->stats.promotable && s->stats.committed == epoch;
    pthread_mutex_unlock(&s->lock);
    if (step->step == MESSAGE_SWITCHOVER_RELEASE)
        return release(s, step->term, err);
    const bool take = step->step == MESSAGE_SWITCHOVER_TAKE;
    const bool known = take || step->step == MESSAGE_SWITCHOVER_PREPARE ||
                       step->step == MESSAGE_SWITCHOVER_REFUSED;
    if (!known || !s->config.switchover || (take && (!whole || stage_is_filling(s->stage))))
        return error_set(err, -EPROTO, "the primary sent step %d of a switchover, which isn't due",
                         (int)step->step);
    ending->handed = take;
    s->config.switchover(s->config.context, step);
    return take ? 1 : 0;
}

static int receive_control(struct standby *s, const struct frame *frame, struct ending *ending,
                           struct error *err)
{
    struct message m;
    const int rc = message_receive(s->link, frame, &m, err);
    if (rc < 0)
        return rc;
    switch (m.kind) {
    case MESSAGE_EPOCH_BEGIN:
        return begin(s, frame->epoch, &m.epoch_begin, err);
    case MESSAGE_EPOCH_END:
        return end(s, frame->epoch, &m.epoch_end, err);
    case MESSAGE_GOODBYE:
        ending->goodbye = m.goodbye.final;
        return error_set(err, -EPIPE, "the primary said goodbye: %s", m.goodbye.text);
    case MESSAGE_SWITCHOVER:
        return switchover(s, frame->epoch, &m.switchover, ending, err);
    case MESSAGE_ALIVE: /* the frame itself was the message: stats.last_frame */
        return 0;
    default:
        return error_set(err, -EPROTO, "the primary sent %s, which only a standby may send",
                         message_kind_name(m.kind));
    }
}

static int receive_bulk(struct standby *s, const struct frame *frame, struct error *err)
{
    if (frame->size > SLAB_CHUNK_SIZE)
        return error_set(err, -EBADMSG, "%s frame of %u bytes: the limit is %zu",
                         frame_type_name(frame->type), frame->size, SLAB_CHUNK_SIZE);
    /* Waits for the applying thread when the staging memory is full; an epoch that alone outgrows
     * it would wait for ever, so that is refused first. */
    uint8_t *chunk = slab_take(s->config.slab);
    if (!chunk) {
        pthread_mutex_lock(&s->lock);
        standby_wait_applied(s);
        pthread_mutex_unlock(&s->lock);
        chunk = slab_take(s->config.slab);
    }
    if (!chunk) {
        error_set(err, -ENOBUFS, "epoch %llu outgrows the staging memory",
                  (unsigned long long)frame->epoch);
        return refuse(s, frame->epoch, MESSAGE_NACK_STAGING, err);
    }
    int rc = link_receive_payload(s->link, chunk, frame->size, err);
    if (rc < 0) {
        slab_give(s->config.slab, chunk);
        return rc;
    }
    rc = stage_add(s->stage, frame, chunk, err);
    if (rc < 0)
        return refuse(s, frame->epoch,
                      rc == -EIO || rc == -ENOMEM ? MESSAGE_NACK_RESOURCES : MESSAGE_NACK_PROTOCOL,
                      err);
    pthread_mutex_lock(&s->lock);
    s->stats.bytes += frame->size;
    if (s->stats.synchronising && frame->type == FRAME_PAGES)
        s->stats.sync_pages += frame->size / PAGE_SIZE;
    pthread_mutex_unlock(&s->lock);
    return 0;
}

static int channel_send(void *context, const uint8_t *payload, size_t size, struct error *err)
{
    const struct standby *s = context;
    const struct frame frame = {.type = FRAME_SYNC, .term = s->term, .epoch = s->last_begun};
    const struct iovec part = {(void *)(uintptr_t)payload, size};
    return link_send(s->link, &frame, &part, 1, err);
}

/* Of the synchronisation of disks, which is a part of the full synchronisation of the guest. */
static int receive_sync(struct standby *s, const struct frame *frame, struct error *err)
{
    static const struct checkpoint_disk_channel_ops ops = {.send = channel_send};
    const struct checkpoint_disk_channel channel = {.ops = &ops, .context = s};
    uint8_t payload[CHECKPOINT_DISK_MESSAGE_MAX];
    const bool due =
        s->disks.ops && stage_is_filling(s->stage) && stage_kind(s->stage) == MESSAGE_EPOCH_FULL;
    if (!due || frame->size > sizeof(payload))
        return error_set(err, -EPROTO, "the primary sent %u bytes about disks, which are not due",
                         frame->size);
    const int rc = link_receive_payload(s->link, payload, frame->size, err);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&s->lock);
    s->stats.bytes += frame->size;
    pthread_mutex_unlock(&s->lock);
    return s->disks.ops->receive(s->disks.context, payload, frame->size, &channel, err);
}

/* 0, negative when the link is of no use any more, 1 when it is not ours to read any more. */
static int receive_one(struct standby *s, struct ending *ending, struct error *err)
{
    struct frame frame;
    int rc = link_receive_header(s->link, &frame, err);
    ending->closed = rc == -EPIPE;
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&s->lock);
    s->stats.last_frame = clock_now();
    pthread_mutex_unlock(&s->lock);
    if (frame.term != s->term)
        return error_set(err, -EPROTO, "the primary sent term %llu in term %llu",
                         (unsigned long long)frame.term, (unsigned long long)s->term);
    switch (frame.type) {
    case FRAME_CONTROL:
        return receive_control(s, &frame, ending, err);
    case FRAME_SYNC:
        return receive_sync(s, &frame, err);
    default:
        return receive_bulk(s, &frame, err);
    }
}

void *standby_receive(void *context)
{
    struct standby *s = context;
    prompt_thread("standby");
    struct error err = {0};
    struct ending ending = {0};
    while (receive_one(s, &ending, &err) == 0)
        ;
    if (ending.handed)
        return NULL;
    link_shutdown(s->link);
    pthread_mutex_lock(&s->lock);
    s->stats.following = false;
    const char *announced = s->released ? RELEASED_TEXT : s->parting ? PARTING_TEXT : NULL;
    /* Half a synchronisation is no state at all; the next link begins with a new one. */
    s->stats.synchronising = false;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    /* This end is one that was announced: nobody is to be suspected. */
    if (announced && !ending.goodbye)
        error_set(&err, -ECANCELED, "%s", announced);
    s->config.event(s->config.context,
                    ending.goodbye                ? STANDBY_EVENT_GOODBYE
                    : ending.closed && !announced ? STANDBY_EVENT_CLOSED
                                                  : STANDBY_EVENT_BROKEN,
                    &err);
    return NULL;
}
