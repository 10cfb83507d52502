/* Life of the engine: its thread and commands. See engine.h for states and locks. */
#include "checkpoint/engine.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/prompt.h"
#include "checkpoint/engine_internal.h"
#include "checkpoint/page_cache.h"

const char *engine_state_name(enum engine_state state)
{
    static const char *const names[] = {
        [ENGINE_HOLDING] = "holding",         [ENGINE_SYNCHRONISING] = "synchronising",
        [ENGINE_REPLICATING] = "replicating", [ENGINE_OPEN] = "open",
        [ENGINE_FENCED] = "fenced",
    };
    return names[state];
}

void engine_signal(struct engine *e)
{
    e->generation++;
    pthread_cond_broadcast(&e->changed);
}

void engine_set_state(struct engine *e, enum engine_state next, const char *why)
{
    if (e->stats.state == next || e->stats.state == ENGINE_FENCED)
        return;
    log_info("checkpoint", "%s -> %s: %s", engine_state_name(e->stats.state),
             engine_state_name(next), why);
    e->stats.state = next;
    engine_signal(e);
}

void engine_park_guest(struct engine *e)
{
    if (e->parked)
        return;
    e->stopped_at = clock_now();
    e->ops->park(e->machine);
    e->parked = true;
    engine_pace_running(e, false);
}

void engine_resume_guest(struct engine *e)
{
    if (!e->parked || !e->guest_started)
        return;
    pthread_mutex_lock(&e->lock);
    const bool stay = e->stats.state == ENGINE_FENCED || e->halted;
    pthread_mutex_unlock(&e->lock);
    if (stay)
        return;
    e->parked = false;
    engine_pace_running(e, true);
    e->ops->resume(e->machine);
    e->stopped_at = 0;
}

void engine_fail_link_locked(struct engine *e, const struct error *why)
{
    if (!e->link)
        return;
    if (!e->link_failed && e->ending == ENGINE_EVENT_LINK_LOST)
        e->link_error = *why;
    e->link_failed = true;
    e->mute = true; /* the standby may see the end of the link before the receiver does */
    link_shutdown(e->link);
    engine_signal(e);
}

void engine_fail_link(struct engine *e, const struct error *why)
{
    pthread_mutex_lock(&e->lock);
    engine_fail_link_locked(e, why);
    pthread_mutex_unlock(&e->lock);
}

bool engine_interrupted_locked(const struct engine *e)
{
    return e->stop || e->link_failed || e->stats.state == ENGINE_FENCED ||
           e->handover.step == HANDOVER_TAKEN;
}

bool engine_interrupted(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    const bool result = engine_interrupted_locked(e);
    pthread_mutex_unlock(&e->lock);
    return result;
}

int engine_wait_acked(struct engine *e, epoch_t epoch)
{
    engine_lend_turn(e);
    pthread_mutex_lock(&e->lock);
    while (e->acked < epoch && !engine_interrupted_locked(e))
        pthread_cond_wait(&e->changed, &e->lock);
    const int rc = e->acked >= epoch ? 0 : -EPIPE;
    pthread_mutex_unlock(&e->lock);
    engine_regain_turn(e);
    return rc;
}

/* ---- the thread ---- */

static void wake(void *context)
{
    struct engine *e = context;
    pthread_mutex_lock(&e->lock);
    engine_signal(e);
    pthread_mutex_unlock(&e->lock);
}

int engine_start_disks(struct engine *e, struct error *err)
{
    const int rc = e->disks.ops ? e->disks.ops->start(e->disks.context, wake, e, err) : 0;
    e->disks_started = rc == 0 && e->disks.ops;
    return rc;
}

/* Everything dirty, copied while the guest runs, then the first epoch with state. */
static int bring_up(struct engine *e, struct error *err)
{
    int rc = e->ops->dirty_start(e->machine, err);
    if (rc < 0)
        return rc;
    e->tracking = true;
    rc = engine_start_disks(e, err);
    if (rc < 0)
        return rc;
    dirty_set_fill(&e->pending);
    e->pending_count = e->pending.page_count;
    pthread_mutex_lock(&e->lock);
    e->stats.sync_done_pages = 0;
    e->stats.sync_total_pages = e->pending.page_count;
    e->stats.sync_started = clock_now();
    pthread_mutex_unlock(&e->lock);
    rc = engine_synchronise(e, e->disks_started, err);
    return rc < 0 ? rc : engine_cut_and_send(e, POLICY_TRIGGER_REQUEST, err);
}

static void start_guest_if_wanted(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    const bool start = e->want_start && !e->guest_started;
    pthread_mutex_unlock(&e->lock);
    if (!start)
        return;
    e->guest_started = true;
    engine_resume_guest(e);
    engine_pace_freeze(e, false);
}

/* An idle guest must not make the connection look dead: a standby that hears no heartbeat judges by
 * the age of the last frame (DESIGN §6, heartbeat paths only). Returns when the next sign is due.
 */
static nsec_t show_life(struct engine *e, nsec_t now, struct error *err)
{
    static const struct message alive = {.kind = MESSAGE_ALIVE};
    if (e->config.alive_interval == 0)
        return INT64_MAX;
    if (now - e->last_sent >= e->config.alive_interval) {
        engine_lend_turn(e);
        const int rc = message_send(e->link, e->term, 0, &alive, err);
        engine_regain_turn(e);
        if (rc < 0)
            return rc;
        e->last_sent = now;
    }
    return e->last_sent + e->config.alive_interval;
}

/* What the policy is to know. With the lock held. */
static struct policy_input policy_input(const struct engine *e, nsec_t now, bool disks_press)
{
    return (struct policy_input){
        .now = now,
        .last_cut = e->last_cut,
        .output_since = outbox_waiting_since(e->outbox),
        .in_flight = (unsigned)e->flight_count,
        .dirty = e->pending_count,
        .requested = e->want_checkpoint || disks_press,
    };
}

/* A cut that finds no staging memory keeps the guest parked until there is some: as long as an
 * epoch in flight will give some back, that is a full window. */
static bool lacks_room(struct engine *e)
{
    return e->pending_count > 0 && capture_chunks_for(e->pending_count) > engine_room(e);
}

/* One look at the policy while a link is up. Returns the time to look again, or negative. */
static nsec_t replicate_step(struct engine *e, struct error *err)
{
    const nsec_t now = clock_now();
    engine_settle_handover(e);
    pthread_mutex_lock(&e->lock);
    const bool handing = e->handover.step != HANDOVER_NONE;
    pthread_mutex_unlock(&e->lock);
    if (handing)
        return engine_handover_step(e, err);
    const bool disks_press = e->disks_started && e->disks.ops->pressing(e->disks.context);
    pthread_mutex_lock(&e->lock);
    engine_adopt_policy(e);
    struct policy_input input = policy_input(e, now, disks_press);
    const bool halted = e->halted;
    const bool handed = e->handover.step != HANDOVER_NONE; /* since the look above */
    pthread_mutex_unlock(&e->lock);
    if (halted)
        engine_park_halted(e, handed);
    struct policy policy = e->current;
    policy.dirty_budget = e->pace.budget;
    if (input.in_flight && lacks_room(e))
        input.in_flight = policy.window;
    const struct policy_decision d = policy_decide(&policy, &input);
    if (d.trigger != POLICY_TRIGGER_NONE) {
        const int rc = engine_cut_and_send(e, d.trigger, err);
        return rc < 0 ? rc : 0;
    }
    nsec_t wake_at = show_life(e, now, err);
    if (d.wake_at < wake_at)
        wake_at = d.wake_at;
    if (e->guest_started && wake_at >= 0)
        engine_pace(e, d.throttle || engine_is_full(e));
    return wake_at;
}

/* With the lock held, which is given up meanwhile: sleeps until something changes or `wake_at`. */
static void wait_until(struct engine *e, nsec_t wake_at)
{
    const struct timespec until = clock_to_timespec(wake_at);
    engine_lend_turn(e);
    if (wake_at == INT64_MAX)
        pthread_cond_wait(&e->changed, &e->lock);
    else
        pthread_cond_timedwait(&e->changed, &e->lock, &until);
    pthread_mutex_unlock(&e->lock);
    engine_regain_turn(e);
    pthread_mutex_lock(&e->lock);
}

static void run_link(struct engine *e)
{
    struct error err = {0};
    pthread_mutex_lock(&e->lock);
    const struct engine_heritage heritage = e->heritage;
    e->heritage = (struct engine_heritage){0};
    pthread_mutex_unlock(&e->lock);
    const bool inherits = heritage.offered_term != 0;
    if (!inherits)
        start_guest_if_wanted(e);
    const bool receiver_runs = engine_adopt_link(e);
    engine_watch_start(e);
    const int rc = inherits        ? engine_inherit(e, &heritage, &err)
                   : receiver_runs ? bring_up(e, &err)
                                   : -EAGAIN;
    if (!receiver_runs || rc < 0)
        engine_fail_link(e, &err);
    bool announced = false;
    pthread_mutex_lock(&e->lock);
    while (!engine_interrupted_locked(e)) {
        const bool committed = e->stats.state == ENGINE_REPLICATING;
        const uint64_t seen = e->generation;
        pthread_mutex_unlock(&e->lock);
        if (committed && !announced)
            engine_tell(e, ENGINE_EVENT_PROTECTED, NULL);
        announced = committed;
        start_guest_if_wanted(e);
        const nsec_t wake_at = replicate_step(e, &err);
        if (wake_at < 0)
            engine_fail_link(e, &err);
        pthread_mutex_lock(&e->lock);
        if (wake_at > 0 && e->generation == seen)
            wait_until(e, wake_at);
    }
    const bool taken = e->handover.step == HANDOVER_TAKEN && !e->link_failed && !e->stop &&
                       e->stats.state != ENGINE_FENCED;
    pthread_mutex_unlock(&e->lock);
    engine_watch_stop(e);
    if (taken)
        engine_hand_over_link(e);
    else
        engine_close_link(e, receiver_runs);
}

/* Without a link: carry out commands, keep a guest whose outbox is full parked, sleep. `seen` is
 * the generation in which there was neither a link nor a reason to stop: what came since is no
 * reason to sleep. */
static void idle_step(struct engine *e, uint64_t seen)
{
    pthread_mutex_lock(&e->lock);
    const bool stay_parked = e->stats.state == ENGINE_FENCED || e->halted;
    const bool handing = e->handover.step != HANDOVER_NONE;
    const bool paused = e->paused;
    const bool open = e->want_open && e->stats.state == ENGINE_HOLDING;
    e->want_open = false;
    if (open)
        engine_set_state(e, ENGINE_OPEN, "granted");
    pthread_mutex_unlock(&e->lock);
    if (open)
        outbox_open(e->outbox);
    start_guest_if_wanted(e);
    engine_settle_handover(e);
    if (stay_parked)
        engine_park_halted(e, handing);
    else
        engine_pace(e, paused || outbox_is_full(e->outbox));
    pthread_mutex_lock(&e->lock);
    if (e->stats.state == ENGINE_FENCED && stay_parked && !e->still) {
        e->still = true;
        pthread_cond_broadcast(&e->changed);
    }
    if (e->generation == seen)
        wait_until(e, INT64_MAX);
    pthread_mutex_unlock(&e->lock);
}

static void *engine_main(void *context)
{
    struct engine *e = context;
    prompt_thread("epochs");
    engine_regain_turn(e);
    pthread_mutex_lock(&e->lock);
    while (!e->stop) {
        const bool link = e->offered && e->stats.state != ENGINE_FENCED;
        const uint64_t seen = e->generation;
        pthread_mutex_unlock(&e->lock);
        if (link)
            run_link(e);
        else
            idle_step(e, seen);
        pthread_mutex_lock(&e->lock);
    }
    pthread_mutex_unlock(&e->lock);
    engine_park_guest(e);
    engine_lend_turn(e);
    return NULL;
}

/* ---- the interface ---- */

static void emit(void *context, uint32_t port, const uint8_t *data, size_t size)
{
    const struct engine *e = context;
    e->ops->emit(e->machine, port, data, size);
}

static int allocate(struct engine *e, struct error *err)
{
    const struct outbox_config outbox = {.cap_bytes = e->config.outbox_cap,
                                         .emit = emit,
                                         .may_emit = engine_may_emit,
                                         .wake = wake,
                                         .context = e};
    int rc = dirty_set_init(&e->pending, gmem_page_count(e->memory));
    e->digest = epoch_digest_create();
    for (; rc == 0 && e->idle_count < CAPTURES; e->idle_count++) {
        e->idle[e->idle_count] = capture_create(slab_chunk_count(e->config.slab));
        if (!e->idle[e->idle_count])
            rc = -ENOMEM;
    }
    e->state_encoder = state_encoder_create();
    if (rc < 0 || !e->digest || !e->state_encoder)
        return error_set(err, -ENOMEM, "checkpoint engine: out of memory");
    const struct page_encoder_config encoding = {
        .mode = e->config.encoding,
        .cache_size = e->config.encoding_cache ? e->config.encoding_cache : PAGE_CACHE_SIZE_DEFAULT,
        .memory = e->memory,
    };
    rc = page_encoder_create(&encoding, &e->encoder, err);
    if (rc < 0)
        return rc;
    return outbox_create(&outbox, e->config.first_epoch, &e->outbox, err);
}

int engine_create(const struct engine_config *config, struct engine **out, struct error *err)
{
    assert(config->policy.window >= 1 && config->policy.window <= POLICY_WINDOW_MAX);
    *out = NULL;
    struct engine *e = calloc(1, sizeof(*e));
    if (!e)
        return error_set(err, -ENOMEM, "checkpoint engine: out of memory");
    e->config = *config;
    e->ops = config->machine.ops;
    e->machine = config->machine.context;
    e->memory = e->ops->memory(e->machine);
    e->disks = config->machine.disks;
    e->policy = config->policy;
    e->next_epoch = config->first_epoch;
    e->last_word = &e->words;
    e->parked = true;
    e->stats.encoding = config->encoding;
    e->stats.state = config->open ? ENGINE_OPEN : ENGINE_HOLDING;
    pthread_mutex_init(&e->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&e->changed, &attributes);
    pthread_cond_init(&e->watch_wake, &attributes);
    pthread_mutex_init(&e->turn, NULL);
    pthread_cond_init(&e->paced, &attributes);
    engine_pace_link(e, false);
    pthread_condattr_destroy(&attributes);
    int rc = allocate(e, err);
    if (rc == 0 && config->open)
        outbox_open(e->outbox);
    if (rc == 0)
        e->ops->output_to(e->machine, e->outbox);
    if (rc == 0)
        rc = engine_pace_start(e, err);
    if (rc == 0 && pthread_create(&e->thread, NULL, engine_main, e) != 0)
        rc = error_set(err, -EAGAIN, "checkpoint engine: can't start a thread");
    e->thread_started = rc == 0;
    if (rc < 0)
        engine_destroy(&e);
    *out = e;
    return rc;
}

void engine_destroy(struct engine **engine)
{
    struct engine *e = *engine;
    if (!e)
        return;
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    if (e->link)
        link_shutdown(e->link);
    engine_signal(e);
    pthread_mutex_unlock(&e->lock);
    if (e->thread_started)
        pthread_join(e->thread, NULL);
    engine_pace_end(e);
    if (e->outbox)
        e->ops->output_to(e->machine, NULL);
    if (e->offered)
        link_destroy(&e->offered);
    if (e->handover.link)
        link_destroy(&e->handover.link);
    for (size_t i = 0; i < e->idle_count; i++)
        capture_destroy(&e->idle[i]);
    outbox_destroy(&e->outbox);
    epoch_digest_destroy(&e->digest);
    page_encoder_destroy(&e->encoder);
    dirty_set_free(&e->pending);
    state_encoder_destroy(&e->state_encoder);
    pthread_cond_destroy(&e->changed);
    pthread_cond_destroy(&e->watch_wake);
    pthread_cond_destroy(&e->paced);
    pthread_mutex_destroy(&e->turn);
    pthread_mutex_destroy(&e->lock);
    free(e);
    *engine = NULL;
}

struct outbox *engine_outbox(struct engine *engine)
{
    return engine->outbox;
}

void engine_start_guest(struct engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    engine->want_start = true;
    engine_signal(engine);
    pthread_mutex_unlock(&engine->lock);
}

void engine_stop_guest(struct engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    engine->halted = true;
    engine_signal(engine);
    pthread_mutex_unlock(&engine->lock);
}

void engine_pause_guest(struct engine *engine, bool paused)
{
    pthread_mutex_lock(&engine->lock);
    engine->paused = paused;
    engine_signal(engine);
    pthread_mutex_unlock(&engine->lock);
}

int engine_protect(struct engine *engine, struct link *link, term_t term, uint64_t staging_cap,
                   uint64_t capabilities, struct error *err)
{
    int rc = 0;
    pthread_mutex_lock(&engine->lock);
    if (engine->stats.state == ENGINE_FENCED) {
        rc = error_set(err, -EPERM, "this side lost the guest and can't be protected");
    } else if (engine->link || engine->offered) {
        rc = error_set(err, -EBUSY, "the guest has a standby already");
    } else {
        engine->offered = link;
        engine->offered_staging = staging_cap;
        engine->offered_capabilities = capabilities;
        engine->term = term;
        engine_signal(engine);
    }
    pthread_mutex_unlock(&engine->lock);
    return rc;
}

void engine_drop_link(struct engine *engine, const char *why)
{
    struct error err = {0};
    error_set(&err, -EPIPE, "%s", why);
    engine_fail_link(engine, &err);
}

int engine_open(struct engine *engine, struct error *err)
{
    int rc = 0;
    pthread_mutex_lock(&engine->lock);
    if (engine->stats.state == ENGINE_HOLDING)
        engine->want_open = true;
    else if (engine->stats.state != ENGINE_OPEN)
        rc = error_set(err, -EBUSY, "can't release output while %s",
                       engine_state_name(engine->stats.state));
    engine_signal(engine);
    pthread_mutex_unlock(&engine->lock);
    return rc;
}

void engine_fence(struct engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    engine_set_state(engine, ENGINE_FENCED, "another side owns the guest");
    if (engine->link)
        link_shutdown(engine->link);
    pthread_mutex_unlock(&engine->lock);
    outbox_discard(engine->outbox);
}

int engine_save_fenced(struct engine *engine, struct section_set *set, nsec_t deadline,
                       struct error *err)
{
    const struct timespec until = clock_to_timespec(deadline);
    int rc = 0;
    pthread_mutex_lock(&engine->lock);
    if (engine->stats.state != ENGINE_FENCED)
        rc = error_set(err, -EBUSY, "the guest may still run here");
    while (rc == 0 && !engine->still)
        if (pthread_cond_timedwait(&engine->changed, &engine->lock, &until) == ETIMEDOUT)
            rc = error_set(err, -ETIMEDOUT, "the guest has not stopped in time");
    pthread_mutex_unlock(&engine->lock);
    return rc < 0 ? rc : engine->ops->save(engine->machine, set, err);
}

void engine_request_checkpoint(struct engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    engine->want_checkpoint = true;
    engine_signal(engine);
    pthread_mutex_unlock(&engine->lock);
}

int engine_flush(struct engine *engine, nsec_t deadline)
{
    const struct timespec until = clock_to_timespec(deadline);
    int rc = 0;
    pthread_mutex_lock(&engine->lock);
    engine->want_checkpoint = engine->link != NULL;
    engine_signal(engine);
    while (rc == 0 && engine->stats.state != ENGINE_OPEN) {
        if (!engine->link || engine->link_failed)
            rc = -ENOTCONN;
        else if (!engine->want_checkpoint && engine->idle_count == CAPTURES &&
                 outbox_waiting_since(engine->outbox) == 0)
            break;
        else
            rc = -pthread_cond_timedwait(&engine->changed, &engine->lock, &until);
    }
    pthread_mutex_unlock(&engine->lock);
    return rc;
}

bool engine_is_replicating(struct engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    const bool replicating = engine->stats.state == ENGINE_REPLICATING;
    pthread_mutex_unlock(&engine->lock);
    return replicating;
}

uint64_t engine_bytes_received(struct engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    const uint64_t bytes = engine->link ? link_counters(engine->link).bytes_received : 0;
    pthread_mutex_unlock(&engine->lock);
    return bytes;
}

int engine_send_words(struct engine *engine, const struct message *message, struct error *err)
{
    /* Not with the lock held: a peer that doesn't read would stop the whole engine.
     * engine_close_link() waits for us before it frees the link. */
    pthread_mutex_lock(&engine->lock);
    struct link *link = engine->link_failed ? NULL : engine->link;
    const term_t term = engine->term;
    engine->link_users += link != NULL;
    pthread_mutex_unlock(&engine->lock);
    if (!link)
        return error_set(err, -ENOTCONN, "there is no standby");
    const int rc = message_send(link, term, 0, message, err);
    pthread_mutex_lock(&engine->lock);
    engine->link_users--;
    engine_signal(engine);
    pthread_mutex_unlock(&engine->lock);
    return rc;
}

void engine_say_goodbye(struct engine *engine, const char *text, nsec_t deadline)
{
    const struct timespec until = clock_to_timespec(deadline);
    struct message message = {.kind = MESSAGE_GOODBYE,
                              .goodbye = {.reason = MESSAGE_GOODBYE_STOP, .final = true}};
    snprintf(message.goodbye.text, sizeof(message.goodbye.text), "%s", text);
    int rc = engine_send_words(engine, &message, NULL);
    pthread_mutex_lock(&engine->lock);
    while (rc == 0 && engine->link && !engine->link_failed)
        rc = pthread_cond_timedwait(&engine->changed, &engine->lock, &until);
    pthread_mutex_unlock(&engine->lock);
}

void engine_set_policy(struct engine *engine, const struct policy *policy)
{
    assert(policy->window >= 1 && policy->window <= POLICY_WINDOW_MAX);
    pthread_mutex_lock(&engine->lock);
    engine->policy = *policy;
    /* The standby learns of it with the next epoch: why not now. */
    engine->want_checkpoint |= engine->link != NULL;
    engine_signal(engine);
    pthread_mutex_unlock(&engine->lock);
}

struct policy engine_policy(struct engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    const struct policy policy = engine->policy;
    pthread_mutex_unlock(&engine->lock);
    return policy;
}

void engine_snapshot(struct engine *engine, struct engine_stats *out)
{
    pthread_mutex_lock(&engine->lock);
    *out = engine->stats;
    out->next_epoch = engine->next_epoch;
    out->in_flight = (unsigned)engine->flight_count;
    out->policy = engine->policy;
    pthread_mutex_unlock(&engine->lock);
}

void engine_reset_histograms(struct engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    memset(&engine->stats.pause, 0, sizeof(engine->stats.pause));
    memset(&engine->stats.commit, 0, sizeof(engine->stats.commit));
    memset(&engine->stats.dirty, 0, sizeof(engine->stats.dirty));
    pthread_mutex_unlock(&engine->lock);
    outbox_reset_hold_histogram(engine->outbox);
}
