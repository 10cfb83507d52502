/* The engine's link: taken up, heard, handed over or closed. */
#include <assert.h>
#include <errno.h>
#include <sys/random.h>

#include "base/log.h"
#include "base/prompt.h"
#include "checkpoint/engine_internal.h"
#include "checkpoint/page_codec.h"
#include "transport/session.h"

/* Its own words are the reason of the end, also where a sender has met the closed connection before
 * they were read. */
static int heard_goodbye(struct engine *e, const struct message_goodbye *goodbye, struct error *err)
{
    const int rc = error_set(err, -EPIPE, "the standby said goodbye: %s", goodbye->text);
    pthread_mutex_lock(&e->lock);
    e->ending = goodbye->reason == MESSAGE_GOODBYE_SUPERSEDED ? ENGINE_EVENT_SUPERSEDED
                                                              : ENGINE_EVENT_GOODBYE;
    e->link_error = *err;
    pthread_mutex_unlock(&e->lock);
    return rc;
}

/* 0, negative when the link is of no use any more, 1 when it is not ours to read any more. */
static int handle_message(struct engine *e, const struct frame *frame, const struct message *m,
                          struct error *err)
{
    switch (m->kind) {
    case MESSAGE_EPOCH_ACK:
        return engine_acknowledged(e, frame->epoch, err);
    case MESSAGE_APPLIED:
        return 0;
    case MESSAGE_EPOCH_NACK:
        return error_set(err, -EPROTO, "the standby refused epoch %llu: %s",
                         (unsigned long long)frame->epoch, m->epoch_nack.text);
    case MESSAGE_RESYNC:
        return error_set(err, -EPROTO, "the standby asks for a new synchronisation: %s",
                         m->resync.text);
    case MESSAGE_GOODBYE:
        return heard_goodbye(e, &m->goodbye, err);
    case MESSAGE_SWITCHOVER:
        return engine_handle_switchover(e, &m->switchover, err);
    default:
        return error_set(err, -EPROTO, "the standby sent %s, which only a primary may send",
                         message_kind_name(m->kind));
    }
}

static int receive_one(struct engine *e, struct link *link, term_t term, struct error *err)
{
    struct frame frame;
    int rc = link_receive_header(link, &frame, err);
    if (rc < 0)
        return rc;
    if (frame.type == FRAME_SYNC && frame.term == term)
        return engine_hear_disks(e, link, &frame, err);
    if (frame.type != FRAME_CONTROL || frame.term != term)
        return error_set(err, -EPROTO, "the standby sent a %s frame of term %llu in term %llu",
                         frame_type_name(frame.type), (unsigned long long)frame.term,
                         (unsigned long long)term);
    struct message message;
    rc = message_receive(link, &frame, &message, err);
    return rc < 0 ? rc : handle_message(e, &frame, &message, err);
}

static void *receiver_main(void *context)
{
    struct engine *e = context;
    prompt_thread("acks");
    pthread_mutex_lock(&e->lock);
    struct link *link = e->link;
    const term_t term = e->term;
    pthread_mutex_unlock(&e->lock);
    struct error err = {0};
    int rc;
    while ((rc = receive_one(e, link, term, &err)) == 0)
        ;
    if (rc < 0)
        engine_fail_link(e, &err);
    return NULL;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

void engine_adopt_policy(struct engine *e)
{
    e->current = e->policy;
    size_t chunks = smaller(slab_chunk_count(e->config.slab), e->peer_chunks);
    chunks = smaller(chunks, (size_t)(e->current.staging_cap / SLAB_CHUNK_SIZE));
    /* One chunk of the peer's goes to the state sections. */
    e->chunk_cap = chunks > 2 ? chunks - 2 : 1;
    struct pace *p = &e->pace;
    p->levels = throttle_levels(e->chunk_cap * PAGE_BATCH_MAX, e->current.dirty_budget);
    /* What the staging memory takes is a budget, too. */
    const uint64_t fits = p->levels.brim / 2;
    p->budget = e->current.dirty_budget < fits ? e->current.dirty_budget : fits;
}

/* What the last standby held is no reference for this one, nor what it could take. */
static void begin_encoding(struct engine *e, uint64_t capabilities)
{
    const bool encoded = capabilities & SESSION_CAP_ENCODED;
    e->peer_spills = capabilities & SESSION_CAP_SPILL;
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
        log_warning("checkpoint", "no random seed for digests of pages");
    page_encoder_begin_link(e->encoder, encoded, seed);
    state_encoder_begin_link(e->state_encoder, capabilities & SESSION_CAP_RELATIVE_STATE &&
                                                   e->config.encoding != PAGE_ENCODER_RAW);
    pthread_mutex_lock(&e->lock);
    e->stats.encoding = encoded ? e->config.encoding : PAGE_ENCODER_RAW;
    pthread_mutex_unlock(&e->lock);
}

bool engine_adopt_link(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->peer_chunks = (size_t)(e->offered_staging / SLAB_CHUNK_SIZE);
    engine_adopt_policy(e);
    e->policy_told = false;
    e->drain = 0;
    e->link = e->offered;
    e->offered = NULL;
    e->link_failed = false;
    e->mute = false;
    e->ending = ENGINE_EVENT_LINK_LOST;
    e->acked = 0;
    e->acked_bytes = 0;
    const uint64_t capabilities = e->offered_capabilities;
    /* A grant that came before this link is used now or never: kept for later, it would open the
     * outbox after this standby had committed. */
    const bool opens = e->want_open && e->stats.state == ENGINE_HOLDING;
    e->want_open = false;
    e->was_open = opens || e->stats.state == ENGINE_OPEN;
    engine_set_state(e, ENGINE_SYNCHRONISING, link_peer_name(e->link));
    pthread_mutex_unlock(&e->lock);
    if (opens)
        outbox_open(e->outbox);
    link_lend(e->link, slab_memory(e->config.slab),
              slab_chunk_count(e->config.slab) * SLAB_CHUNK_SIZE);
    begin_encoding(e, capabilities);
    engine_pace_link(e, true);
    if (pthread_create(&e->receiver, NULL, receiver_main, e) == 0)
        return true;
    log_error("checkpoint", "can't start the thread that receives acknowledgements");
    return false;
}

static void stop_disks(struct engine *e)
{
    if (e->disks_started)
        e->disks.ops->stop(e->disks.context);
    e->disks_started = false;
    pthread_mutex_lock(&e->lock);
    engine_forget_words(e);
    e->disks_synchronised = false;
    pthread_mutex_unlock(&e->lock);
}

void engine_tell(struct engine *e, enum engine_event event, const struct error *why)
{
    engine_lend_turn(e);
    e->config.event(e->config.context, event, why);
    engine_regain_turn(e);
}

void engine_hand_over_link(struct engine *e)
{
    pthread_join(e->receiver, NULL);
    engine_pace_link(e, false);
    if (e->tracking)
        e->ops->dirty_stop(e->machine);
    e->tracking = false;
    stop_disks(e); /* what ended after the last cut is under way in its state: done again there */
    pthread_mutex_lock(&e->lock);
    assert(e->flight_count == 0);
    e->handover.link = e->link;
    e->link = NULL;
    while (e->link_users)
        pthread_cond_wait(&e->changed, &e->lock);
    engine_set_state(e, ENGINE_HOLDING, "the guest was handed over");
    pthread_mutex_unlock(&e->lock);
    engine_tell(e, ENGINE_EVENT_TAKEN, NULL);
}

void engine_close_link(struct engine *e, bool receiver_runs)
{
    pthread_mutex_lock(&e->lock);
    struct link *link = e->link;
    pthread_mutex_unlock(&e->lock);
    link_shutdown(link);
    if (receiver_runs)
        pthread_join(e->receiver, NULL);
    engine_pace_link(e, false);
    if (e->tracking)
        e->ops->dirty_stop(e->machine);
    e->tracking = false;
    /* The receiver has ended: nobody else touches what is in flight. */
    for (size_t i = 0; i < e->flight_count; i++)
        engine_end_disks(e, e->flight[i].capture, CHECKPOINT_DISK_ABORTED);
    stop_disks(e);

    pthread_mutex_lock(&e->lock);
    e->link = NULL;
    while (e->link_users)
        pthread_cond_wait(&e->changed, &e->lock);
    for (size_t i = 0; i < e->flight_count; i++) {
        struct capture *capture = e->flight[i].capture;
        capture_give_back(capture, e->memory, &e->pending);
        capture_recycle(capture, e->config.slab);
        e->idle[e->idle_count++] = capture;
    }
    e->stats.epochs_aborted += e->flight_count;
    e->flight_count = 0;
    const struct error why = e->link_error;
    const enum engine_event ending = e->ending;
    const bool stopping = e->stop;
    engine_set_state(e, e->was_open ? ENGINE_OPEN : ENGINE_HOLDING, why.text);
    pthread_mutex_unlock(&e->lock);
    link_destroy(&link);
    if (!stopping)
        engine_tell(e, ending, &why);
}
