/* Full synchronisation: everything in `pending` goes to the standby's memory in rounds while the
 * guest runs and dirties pages again (pre-copy). An epoch without state: it commits nothing and
 * releases nothing; the next cut does.
 *
 * Pages are copied to staging memory first, so that a frame's digest is of what is sent although
 * the guest writes meanwhile; a page torn by that is dirty again and comes in the next round.
 *
 * Disks are copied before memory, since that takes longest. What the guest writes meanwhile is sent
 * in between, always before the next piece of the copy is read: so a piece of the copy never undoes
 * a write that came after it, and the log doesn't fill while the copy goes on. */
#include <errno.h>

#include "base/clock.h"
#include "checkpoint/engine_internal.h"

/* Pages of a batch of frames sent at a time, in chunks. */
#define SYNC_CHUNKS 4
/* Rounds end when what is left would fit into an ordinary epoch, or when they don't help. */
#define SYNC_ROUNDS_MAX  30
#define SYNC_LEFT_PAGES  2048
#define SYNC_STALL_NUMER 3 /* a round that leaves more than 3/4 of the round before stalls */
#define SYNC_STALL_DENOM 4
/* A guest that dirties faster than a round can take is throttled by half more after every stall. */
#define SYNC_SHARE_MIN (1.0 / 128)

static void account_progress(struct engine *e, uint64_t done, uint64_t more)
{
    pthread_mutex_lock(&e->lock);
    e->stats.sync_done_pages += done;
    e->stats.sync_total_pages += more;
    pthread_mutex_unlock(&e->lock);
}

/* One pass over `pending`. */
static int send_round(struct engine *e, struct capture *capture, struct capture_sent *sent,
                      struct error *err)
{
    uint64_t next = 0;
    while (next < e->pending.page_count) {
        if (engine_interrupted(e))
            return error_set(err, -EPIPE, "synchronisation interrupted");
        /* Epochs in flight may still hold all of it. */
        int rc = engine_wait_for_room(e, SYNC_CHUNKS);
        if (rc == 0)
            rc = capture_pages(capture, e->memory, &e->pending, &next, SYNC_CHUNKS, !e->parked,
                               e->config.slab);
        if (rc < 0)
            return error_set(err, rc, "synchronisation: no staging memory");
        engine_lend_turn(e);
        rc = capture_send_pages(capture, e->encoder, true, e->link, e->term, e->digest, sent, err);
        account_progress(e, capture->page_count, 0);
        capture_recycle(capture, e->config.slab);
        if (rc == 0)
            rc = engine_send_disk_writes(e, capture->epoch, sent, err);
        engine_regain_turn(e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* A round ends with a log that begins anew, or the cut that follows would send once more what all
 * rounds sent. */
static int collect_round(struct engine *e, struct error *err)
{
    const bool park =
        !e->parked && e->ops->dirty_wants_park && e->ops->dirty_wants_park(e->machine);
    if (park)
        engine_park_guest(e);
    const int rc = engine_collect(e, err);
    if (park)
        engine_resume_guest(e);
    return rc;
}

static int send_rounds(struct engine *e, struct capture *capture, struct capture_sent *sent,
                       struct error *err)
{
    const uint64_t fits =
        e->pace.levels.brim < SYNC_LEFT_PAGES ? e->pace.levels.brim : SYNC_LEFT_PAGES;
    uint64_t before = e->pending.page_count;
    for (unsigned round = 0; round < SYNC_ROUNDS_MAX; round++) {
        int rc = send_round(e, capture, sent, err);
        if (rc < 0)
            return rc;
        dirty_set_clear(&e->pending);
        e->pending_count = 0;
        rc = collect_round(e, err);
        if (rc < 0)
            return rc;
        if (e->pace.frozen || !e->guest_started || e->pending_count <= fits)
            return 0;
        if (e->pending_count > before / SYNC_STALL_DENOM * SYNC_STALL_NUMER)
            e->pace.throttle.share /= 2;
        if (e->pace.throttle.share < SYNC_SHARE_MIN)
            return 0;
        before = e->pending_count;
        account_progress(e, 0, e->pending_count);
    }
    return 0;
}

/* The capture that carries an epoch without state is empty while in flight. */
int engine_synchronise(struct engine *e, bool with_disks, struct error *err)
{
    struct capture *capture = engine_take_capture(e);
    capture->cut_at = clock_now();
    engine_push_flight(e, capture, dirty_set_count(&e->pending), false);
    struct capture_sent sent = {0};
    e->pace.synchronising = true;
    engine_lend_turn(e);
    int rc = engine_send_begin(e, capture->epoch, MESSAGE_EPOCH_FULL, err);
    const epoch_t epoch = capture->epoch;
    if (rc == 0 && with_disks)
        rc = engine_synchronise_disks(e, epoch, &sent, err);
    engine_regain_turn(e);
    if (rc == 0)
        rc = send_rounds(e, capture, &sent, err);
    e->pace.synchronising = false;
    engine_lend_turn(e);
    if (rc == 0)
        rc = engine_send_end(e, epoch, &sent, 0, err);
    engine_regain_turn(e);
    if (rc == 0 && engine_wait_acked(e, epoch) < 0)
        rc = error_set(err, -EPIPE, "the standby did not acknowledge the synchronisation");
    return rc;
}
