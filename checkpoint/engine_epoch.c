/* One epoch on the executing side: cut, send, and the commit when the acknowledgement comes
 * (DESIGN §4). */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "checkpoint/engine_internal.h"
#include "checkpoint/page_codec.h"
#include "transport/session.h"

/* A smaller epoch tells of the round trip, and not of what the link takes. */
#define DRAIN_PAGES_MIN 256

/* Of an oversize epoch, copied and sent at a time. */
#define PIECE_CHUNKS 4

struct capture *engine_take_capture(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    /* The window is smaller than the number of captures, and only this thread takes them. */
    assert(e->idle_count > 0);
    struct capture *capture = e->idle[--e->idle_count];
    pthread_mutex_unlock(&e->lock);
    return capture;
}

static void put_back_capture(struct engine *e, struct capture *capture)
{
    capture_recycle(capture, e->config.slab);
    pthread_mutex_lock(&e->lock);
    e->idle[e->idle_count++] = capture;
    pthread_mutex_unlock(&e->lock);
}

static void forget_pending(struct engine *e)
{
    dirty_set_clear(&e->pending);
    e->pending_count = 0;
}

void engine_push_flight(struct engine *e, struct capture *capture, uint64_t pages, bool commits)
{
    pthread_mutex_lock(&e->lock);
    assert(e->flight_count < ARRAY_SIZE(e->flight));
    capture->epoch = e->next_epoch++;
    e->flight[e->flight_count++] = (struct in_flight){
        .capture = capture, .pages = pages, .commits = commits, .pushed_at = clock_now()};
    /* The guest is parked at a cut: a request that comes later is for another one. */
    if (commits)
        e->want_checkpoint = false;
    else
        engine_set_state(e, ENGINE_SYNCHRONISING, "the standby can't be promoted from now on");
    pthread_mutex_unlock(&e->lock);
}

/* Marks the newest epoch as completely sent. */
static void mark_end_sent(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->flight[e->flight_count - 1].end_sent = true;
    e->flight[e->flight_count - 1].end_at = clock_now();
    pthread_mutex_unlock(&e->lock);
}

int engine_send_begin(struct engine *e, epoch_t epoch, enum message_epoch_kind kind,
                      struct error *err)
{
    struct message begin = {.kind = MESSAGE_EPOCH_BEGIN, .epoch_begin = {.kind = kind}};
    if (!e->policy_told || !policy_equal(&e->told, &e->current)) {
        begin.epoch_begin.has_policy = true;
        begin.epoch_begin.policy = policy_to_message(&e->current);
    }
    epoch_digest_reset(e->digest);
    const int rc = message_send(e->link, e->term, epoch, &begin, err);
    if (rc == 0) {
        e->told = e->current;
        e->policy_told = true;
    }
    return rc;
}

int engine_send_end(struct engine *e, epoch_t epoch, const struct capture_sent *sent,
                    uint64_t state_bytes, struct error *err)
{
    struct message end = {.kind = MESSAGE_EPOCH_END,
                          .epoch_end = {.pages = sent->pages,
                                        .zero_pages = sent->zero_pages,
                                        .frames = sent->frames,
                                        .bytes = sent->bytes,
                                        .state_bytes = state_bytes,
                                        .disk_bytes = sent->disk_bytes}};
    epoch_digest_result(e->digest, end.epoch_end.digest);
    pthread_mutex_lock(&e->lock);
    e->stats.pages_sent += sent->pages;
    e->stats.zero_pages += sent->zero_pages;
    e->stats.bytes_sent += sent->bytes;
    e->stats.disk_bytes_sent += sent->disk_bytes;
    e->stats.encodings = *page_encoder_stats(e->encoder);
    struct in_flight *flight = &e->flight[e->flight_count - 1];
    if (flight->commits)
        e->stats.epoch_bytes += sent->bytes;
    flight->bytes = sent->bytes;
    flight->on_wire = clock_now() - sent->sending;
    pthread_mutex_unlock(&e->lock);
    mark_end_sent(e);
    e->last_sent = clock_now();
    return message_send(e->link, e->term, epoch, &end, err);
}

int engine_collect(struct engine *e, struct error *err)
{
    const uint64_t before = e->pending_count;
    const int rc = e->ops->dirty_collect(e->machine, &e->pending, err);
    if (rc < 0)
        return rc;
    e->pending_count = dirty_set_count(&e->pending);
    e->pace.fresh += e->pending_count > before ? e->pending_count - before : 0;
    return 0;
}

size_t engine_room(struct engine *e)
{
    const size_t all = slab_chunk_count(e->config.slab);
    const size_t free = slab_free_count(e->config.slab);
    const size_t cap = (size_t)(e->current.staging_cap / SLAB_CHUNK_SIZE);
    const size_t barred = cap < all ? all - cap : 0;
    return free > barred ? free - barred : 0;
}

int engine_wait_for_room(struct engine *e, size_t chunks)
{
    engine_lend_turn(e);
    pthread_mutex_lock(&e->lock);
    while (engine_room(e) < chunks && e->idle_count < CAPTURES && !e->link_failed && !e->stop)
        pthread_cond_wait(&e->changed, &e->lock);
    pthread_mutex_unlock(&e->lock);
    engine_regain_turn(e);
    return engine_room(e) >= chunks ? 0 : -ENOBUFS;
}

/* More is dirty than one epoch may stage on either side. What is dirty goes out with the guest
 * parked and no state; the standby can't be promoted until the epoch that follows commits. */
static int overflow(struct engine *e, struct error *err)
{
    pthread_mutex_lock(&e->lock);
    e->stats.overflows += e->stats.state == ENGINE_REPLICATING;
    pthread_mutex_unlock(&e->lock);
    log_warning("checkpoint", "%llu dirty pages are more than the staging memory takes",
                (unsigned long long)e->pending_count);
    return engine_synchronise(e, false, err);
}

/* An oversize epoch goes out piece by piece from the memory of the guest, which stands still
 * meanwhile; the standby keeps what its staging memory doesn't take elsewhere. */
static bool may_exceed(const struct engine *e, size_t chunks)
{
    return e->peer_spills && chunks <= e->chunk_cap + SESSION_SPILL_BATCHES;
}

/* With the guest parked: everything the epoch needs, in order of cost to redo. */
static int fill_capture(struct engine *e, struct capture *capture, struct error *err)
{
    uint64_t next = 0;
    int rc =
        capture_pages(capture, e->memory, &e->pending, &next, e->chunk_cap, false, e->config.slab);
    if (rc == 0 && next < e->pending.page_count)
        rc = -ENOBUFS;
    if (rc < 0)
        return error_set(err, rc, "cut: staging memory ran out at page %llu of %llu",
                         (unsigned long long)next, (unsigned long long)e->pending.page_count);
    return e->ops->save(e->machine, capture->state, err);
}

/* Parks the guest and fills a capture; the guest stays parked. Of an `oversize` epoch the capture
 * has no pages: they are in `pending` still. On error the pages are back there and no capture is
 * taken. */
static int cut(struct engine *e, struct capture **out, bool *oversize, struct error *err)
{
    engine_park_guest(e);
    int rc = engine_collect(e, err);
    if (rc < 0)
        return rc;
    size_t chunks = capture_chunks_for(e->pending_count);
    *oversize = chunks > e->chunk_cap && may_exceed(e, chunks);
    if (!*oversize && (chunks > e->chunk_cap || engine_wait_for_room(e, chunks) < 0)) {
        rc = engine_interrupted(e) ? error_set(err, -EPIPE, "the link failed during a cut")
                                   : overflow(e, err);
        if (rc < 0)
            return rc;
    }
    struct capture *capture = engine_take_capture(e);
    capture->cut_at = clock_now();
    rc = *oversize ? e->ops->save(e->machine, capture->state, err) : fill_capture(e, capture, err);
    if (rc < 0) {
        put_back_capture(e, capture);
        return rc;
    }
    /* After the state, and last, since it can't fail: a write that ends between the two is in the
     * log and not in the state, and is done again by whoever loads it. */
    if (e->disks.ops)
        capture->disk_batch = e->disks.ops->take(e->disks.context);
    engine_push_flight(e, capture, e->pending_count, true);
    if (!*oversize)
        forget_pending(e);
    e->pace.told = false;
    /* From here on what the guest says belongs to the next epoch. A guest that ran alone until now
     * is held from this cut on: the standby may commit any moment. */
    outbox_hold(e->outbox, capture->epoch);
    outbox_cut(e->outbox, capture->epoch);
    e->was_open = false;
    *out = capture;
    return 0;
}

/* What the last commit told of the link. */
static void weigh_link(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    const uint64_t bytes = e->acked_bytes;
    const nsec_t took = e->acked_took;
    e->acked_bytes = 0;
    pthread_mutex_unlock(&e->lock);
    if (bytes)
        link_cost_acknowledged(page_encoder_link_cost(e->encoder), bytes, took);
}

void engine_end_disks(struct engine *e, struct capture *capture, enum checkpoint_disk_end end)
{
    if (capture->disk_batch)
        e->disks.ops->release(e->disks.context, capture->disk_batch, end);
    capture->disk_batch = NULL;
}

/* With the guest parked: `pending`, with a capture for pieces. */
static int send_pieces(struct engine *e, struct capture *piece, epoch_t epoch,
                       struct capture_sent *sent, struct error *err)
{
    uint64_t next = 0;
    while (next < e->pending.page_count) {
        if (engine_interrupted(e))
            return error_set(err, -EPIPE, "the link failed during a cut");
        int rc = engine_wait_for_room(e, PIECE_CHUNKS);
        if (rc == 0)
            rc = capture_pages(piece, e->memory, &e->pending, &next, PIECE_CHUNKS, false,
                               e->config.slab);
        if (rc < 0)
            return error_set(err, rc, "cut: no staging memory for an oversize epoch");
        piece->epoch = epoch;
        engine_lend_turn(e);
        rc = capture_send_pages(piece, e->encoder, false, e->link, e->term, e->digest, sent, err);
        engine_regain_turn(e);
        capture_recycle(piece, e->config.slab);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int send_oversize(struct engine *e, epoch_t epoch, struct capture_sent *sent,
                         struct error *err)
{
    log_info("checkpoint",
             "epoch %llu: %llu dirty pages are more than the staging memory takes: they are sent "
             "while the guest stands still",
             (unsigned long long)epoch, (unsigned long long)e->pending_count);
    struct capture *piece = engine_take_capture(e);
    const int rc = send_pieces(e, piece, epoch, sent, err);
    put_back_capture(e, piece);
    if (rc == 0)
        forget_pending(e);
    return rc;
}

static int send_epoch(struct engine *e, const struct capture *capture, bool oversize,
                      struct error *err)
{
    struct capture_sent sent = {0};
    uint64_t state_bytes = 0;
    weigh_link(e);
    engine_lend_turn(e);
    int rc = engine_send_begin(e, capture->epoch, MESSAGE_EPOCH_INCREMENTAL, err);
    if (rc == 0)
        rc =
            capture_send_pages(capture, e->encoder, false, e->link, e->term, e->digest, &sent, err);
    engine_regain_turn(e);
    if (rc == 0 && oversize)
        rc = send_oversize(e, capture->epoch, &sent, err);
    engine_lend_turn(e);
    if (rc == 0)
        rc = capture_send_disks(&e->disks, capture->disk_batch, e->link, e->term, capture->epoch,
                                e->digest, &sent, err);
    if (rc == 0)
        rc = capture_send_state(capture, e->state_encoder, e->link, e->term, e->digest, &sent,
                                &state_bytes, err);
    if (rc == 0)
        rc = engine_send_end(e, capture->epoch, &sent, state_bytes, err);
    engine_regain_turn(e);
    return rc;
}

static void account_cut(struct engine *e, enum policy_trigger trigger, size_t pages, nsec_t pause)
{
    pthread_mutex_lock(&e->lock);
    e->stats.triggers[trigger]++;
    e->stats.dirty_last = pages;
    e->stats.dirty_total += pages;
    histogram_add(&e->stats.pause, pause);
    histogram_add(&e->stats.dirty, (nsec_t)pages);
    pthread_mutex_unlock(&e->lock);
}

/* Its pause has the sending in it. */
static void account_oversize(struct engine *e, enum policy_trigger trigger, size_t pages,
                             nsec_t pause)
{
    account_cut(e, trigger, pages, pause);
    pthread_mutex_lock(&e->lock);
    e->stats.oversize++;
    pthread_mutex_unlock(&e->lock);
}

int engine_cut_and_send(struct engine *e, enum policy_trigger trigger, struct error *err)
{
    const bool throttled = e->parked;
    const nsec_t parked_at = clock_now();
    struct capture *capture = NULL;
    bool oversize = false;
    engine_pace_freeze(e, true);
    int rc = cut(e, &capture, &oversize, err);
    const size_t pages = rc < 0 ? 0 : oversize ? e->pending_count : capture->page_count;
    const epoch_t epoch = rc == 0 ? capture->epoch : 0;
    if (rc == 0)
        capture->cut_at = parked_at;
    const bool commit = rc == 0 && e->current.kind == POLICY_KEMARI;
    const bool stay = commit || (rc == 0 && oversize);
    engine_pace_freeze(e, stay);
    /* A machine whose requests end in a cut brings its disks what no room was left for. */
    if (!throttled && !stay && engine_is_full(e))
        engine_pace(e, true);
    else if (!throttled && !stay)
        engine_resume_guest(e);
    if (rc < 0)
        return rc;
    e->last_cut = clock_now();
    if (!oversize)
        account_cut(e, trigger, pages, e->last_cut - parked_at);
    rc = send_epoch(e, capture, oversize, err);
    if (oversize)
        account_oversize(e, trigger, pages, clock_now() - parked_at);
    if (stay) {
        if (rc == 0 && commit)
            engine_wait_acked(e, epoch);
        engine_pace_freeze(e, false);
        if (!throttled)
            engine_resume_guest(e);
    }
    return rc;
}

/* With the lock held: how fast epochs of some size go through link and standby. */
static void learn_drain(struct engine *e, const struct in_flight *acked)
{
    const nsec_t now = clock_now();
    const nsec_t since = acked->pushed_at > e->drained_at ? acked->pushed_at : e->drained_at;
    e->drained_at = now;
    if (!acked->commits || acked->capture->page_count < DRAIN_PAGES_MIN || now <= since)
        return;
    const double drain = (double)acked->capture->page_count * 1e9 / (double)(now - since);
    e->drain = e->drain > 0 ? (e->drain + drain) / 2 : drain;
}

/* With the lock held. */
static bool synchronisation_in_flight(const struct engine *e)
{
    for (size_t i = 0; i < e->flight_count; i++)
        if (!e->flight[i].commits)
            return true;
    return false;
}

/* P2: an acknowledgement proves that the standby was a standby when it sent it. Read after a sleep,
 * or after a long way, it may be old news: then an epoch that was cut later must be acknowledged as
 * well. One that is read when the link has been given up proves nothing: the standby may have been
 * granted the guest since. Asked for each piece of output, since a sleep, or the end of the link,
 * may come in the middle of a release. */
bool engine_may_emit(void *context)
{
    const struct engine *e = context;
    return !e->mute && (!e->config.trusted_since ||
                        e->releasing_cut_at >= e->config.trusted_since(e->config.context));
}

static void release(struct engine *e, epoch_t epoch, nsec_t cut_at)
{
    e->releasing_cut_at = cut_at;
    if (outbox_release(e->outbox, epoch))
        return;
    pthread_mutex_lock(&e->lock);
    e->stats.stale_acks++;
    e->want_checkpoint = true;
    engine_signal(e);
    pthread_mutex_unlock(&e->lock);
}

int engine_acknowledged(struct engine *e, epoch_t epoch, struct error *err)
{
    pthread_mutex_lock(&e->lock);
    const struct in_flight oldest = e->flight[0];
    bool disks_in_step = false;
    if (e->flight_count == 0 || oldest.capture->epoch != epoch || !oldest.end_sent) {
        pthread_mutex_unlock(&e->lock);
        return error_set(err, -EPROTO, "the standby acknowledged epoch %llu, which isn't due",
                         (unsigned long long)epoch);
    }
    memmove(e->flight, e->flight + 1, --e->flight_count * sizeof(e->flight[0]));
    e->acked = epoch;
    learn_drain(e, &oldest);
    if (oldest.commits) {
        e->stats.committed = epoch;
        e->stats.committed_cut = oldest.capture->cut_at;
        e->stats.epochs_committed++;
        histogram_add(&e->stats.commit, clock_now() - oldest.capture->cut_at);
        e->acked_bytes = oldest.bytes;
        e->acked_took = clock_now() - oldest.on_wire;
        disks_in_step = e->disks_synchronised;
        e->disks_synchronised = false;
        if (!synchronisation_in_flight(e))
            engine_set_state(e, ENGINE_REPLICATING, "committed");
    }
    pthread_mutex_unlock(&e->lock);

    /* P1: the standby holds epoch `epoch` complete, verified and loadable; now, and only now. */
    if (oldest.commits)
        release(e, epoch, oldest.capture->cut_at);
    engine_end_disks(e, oldest.capture, CHECKPOINT_DISK_COMMITTED);
    if (disks_in_step)
        e->disks.ops->in_step(e->disks.context);
    capture_recycle(oldest.capture, e->config.slab);

    pthread_mutex_lock(&e->lock);
    e->idle[e->idle_count++] = oldest.capture;
    engine_signal(e);
    pthread_mutex_unlock(&e->lock);
    return 0;
}
