/* The engine's part of a planned switchover (docs/protocol.md).
 *
 *   on the side that gives                         on the side that takes
 *   WANTED   guest parked, last cut, all committed
 *            and released
 *   OFFERED  TAKE ───────────────────────────────► (role: term recorded, state loaded)
 *            nothing is sent any more              dirty log on, guest runs
 *   TAKEN    ◄─────────────────────────────── TAKEN
 *            the link is left to the owner         first cut; its acknowledgement, which comes from
 *                                                  the other side's standby, releases output
 *
 * Both hosts hold the same memory and state at the end of the last epoch, so nothing needs to be
 * synchronised, and at no moment is the guest on one host only. */
#include <assert.h>
#include <errno.h>

#include "base/clock.h"
#include "checkpoint/engine_internal.h"

/* How often a hand-over looks whether what was let out has arrived. */
#define OUTPUT_LOOK USEC(200)

/* ---- the side that gives ---- */

static int offer(struct engine *e, struct error *err)
{
    struct engine_handover *h = &e->handover;
    struct message take = {.kind = MESSAGE_SWITCHOVER,
                           .switchover = {.step = MESSAGE_SWITCHOVER_TAKE, .term = h->term}};
    pthread_mutex_lock(&e->lock);
    const bool wanted = h->step == HANDOVER_WANTED;
    if (wanted)
        h->step = HANDOVER_OFFERED;
    pthread_mutex_unlock(&e->lock);
    if (!wanted)
        return 0;
    take.switchover.pause = (uint64_t)(clock_now() - h->stopped);
    const int rc = message_send(e->link, e->term, h->last, &take, err);
    if (rc == 0)
        e->config.event(e->config.context, ENGINE_EVENT_OFFERED, NULL);
    return rc;
}

static bool output_done(const struct engine *e)
{
    return !e->ops->output_done || e->ops->output_done(e->machine);
}

nsec_t engine_handover_step(struct engine *e, struct error *err)
{
    struct engine_handover *h = &e->handover;
    engine_pace_freeze(e, true);
    if (!h->stopped) {
        h->stopped = clock_now();
        engine_park_guest(e);
    }
    pthread_mutex_lock(&e->lock);
    const bool wanted = h->step == HANDOVER_WANTED;
    const bool room = e->flight_count < e->current.window;
    const bool quiet = e->idle_count == CAPTURES;
    const bool whole = e->stats.state == ENGINE_REPLICATING && e->stats.committed == h->last;
    pthread_mutex_unlock(&e->lock);
    if (!wanted || (h->last ? !quiet : !room))
        return INT64_MAX;
    if (h->last && whole && outbox_is_empty(e->outbox))
        return output_done(e) ? offer(e, err) : clock_now() + OUTPUT_LOOK;
    /* The last one, or once more: an acknowledgement may have been too old to release anything. */
    const int rc = engine_cut_and_send(e, POLICY_TRIGGER_REQUEST, err);
    h->last = e->next_epoch - 1;
    return rc;
}

int engine_handle_switchover(struct engine *e, const struct message_switchover *step,
                             struct error *err)
{
    if (step->step == MESSAGE_SWITCHOVER_REQUEST || step->step == MESSAGE_SWITCHOVER_PREPARED ||
        step->step == MESSAGE_SWITCHOVER_RELEASED) {
        if (e->config.switchover)
            e->config.switchover(e->config.context, step);
        return 0;
    }
    pthread_mutex_lock(&e->lock);
    struct engine_handover *h = &e->handover;
    const bool due = step->step == MESSAGE_SWITCHOVER_TAKEN && h->step == HANDOVER_OFFERED &&
                     step->term == h->term && step->pause <= INT64_MAX;
    if (due) {
        h->step = HANDOVER_TAKEN;
        h->pause = (nsec_t)step->pause;
        engine_signal(e);
    }
    pthread_mutex_unlock(&e->lock);
    return due ? 1
               : error_set(err, -EPROTO,
                           "the standby sent step %d of a switchover, which isn't due",
                           (int)step->step);
}

void engine_hand_over(struct engine *engine, term_t term)
{
    pthread_mutex_lock(&engine->lock);
    engine->handover.step = HANDOVER_WANTED;
    engine->handover.term = term;
    engine->halted = true;
    engine_signal(engine);
    pthread_mutex_unlock(&engine->lock);
}

bool engine_take_back(struct engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    const bool ours = engine->handover.step <= HANDOVER_WANTED;
    if (ours || !engine->link) {
        engine->handover.step = HANDOVER_NONE;
        engine->halted = false;
    }
    engine_signal(engine);
    pthread_mutex_unlock(&engine->lock);
    return ours;
}

void engine_park_halted(struct engine *e, bool handing)
{
    if (handing && !e->handover.stopped)
        e->handover.stopped = clock_now();
    engine_park_guest(e);
}

void engine_settle_handover(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    const bool over =
        e->handover.stopped && e->handover.step == HANDOVER_NONE && e->stats.state != ENGINE_FENCED;
    pthread_mutex_unlock(&e->lock);
    if (!over)
        return;
    e->handover.stopped = 0;
    e->handover.last = 0;
    engine_pace_freeze(e, false);
    if (!e->pace.parked_since)
        engine_resume_guest(e);
}

int engine_take_handed(struct engine *engine, struct engine_handed *out, struct error *err)
{
    struct engine_handover *h = &engine->handover;
    *out = (struct engine_handed){.epoch = h->last, .pause = h->pause};
    out->state = section_set_create();
    int rc = out->state ? engine->ops->save(engine->machine, out->state, err)
                        : error_set(err, -ENOMEM, "no memory for the guest's state");
    if (rc < 0) {
        section_set_destroy(&out->state);
        return rc;
    }
    pthread_mutex_lock(&engine->lock);
    out->policy = engine->policy;
    out->staging_cap = engine->offered_staging;
    out->capabilities = engine->offered_capabilities;
    out->link = h->link;
    h->link = NULL;
    pthread_mutex_unlock(&engine->lock);
    return 0;
}

int engine_send_switchover(struct engine *engine, const struct message_switchover *step,
                           struct error *err)
{
    const struct message message = {.kind = MESSAGE_SWITCHOVER, .switchover = *step};
    return engine_send_words(engine, &message, err);
}

/* ---- the side that takes ---- */

int engine_protect_taken(struct engine *engine, struct link *link, term_t term,
                         uint64_t staging_cap, uint64_t capabilities,
                         const struct engine_heritage *heritage, struct error *err)
{
    assert(heritage->offered_term != 0);
    pthread_mutex_lock(&engine->lock);
    engine->heritage = *heritage;
    pthread_mutex_unlock(&engine->lock);
    return engine_protect(engine, link, term, staging_cap, capabilities, err);
}

nsec_t engine_handover_pause(struct engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    const nsec_t pause = engine->stats.handover_pause;
    pthread_mutex_unlock(&engine->lock);
    return pause;
}

/* What was written before, by this process, is in the state that both hosts hold. */
static int track_from_here(struct engine *e, struct error *err)
{
    int rc = e->ops->dirty_start(e->machine, err);
    if (rc < 0)
        return rc;
    e->tracking = true;
    rc = engine_collect(e, err);
    dirty_set_clear(&e->pending);
    e->pending_count = 0;
    return rc < 0 ? rc : engine_start_disks(e, err); /* the images are equal, too */
}

int engine_inherit(struct engine *e, const struct engine_heritage *heritage, struct error *err)
{
    int rc = track_from_here(e, err);
    e->pace.synchronising = false;
    e->guest_started = true;
    engine_resume_guest(e);
    engine_pace_freeze(e, false);
    const nsec_t pause = clock_now() - heritage->stood_since;
    const struct message taken = {.kind = MESSAGE_SWITCHOVER,
                                  .switchover = {.step = MESSAGE_SWITCHOVER_TAKEN,
                                                 .term = e->term,
                                                 .pause = (uint64_t)(pause > 0 ? pause : 0)}};
    pthread_mutex_lock(&e->lock);
    e->stats.handover_pause = pause > 0 ? pause : 1;
    pthread_mutex_unlock(&e->lock);
    if (rc == 0)
        rc = message_send(e->link, heritage->offered_term, 0, &taken, err);
    return rc < 0 ? rc : engine_cut_and_send(e, POLICY_TRIGGER_REQUEST, err);
}
