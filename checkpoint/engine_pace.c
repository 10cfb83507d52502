/* How much the guest runs between two cuts: looks at the dirty log, and short parks for what the
 * throttle says (checkpoint/throttle.h).
 *
 * The share becomes time by credit: it grows by the share of all time that passes, shrinks by the
 * time that the guest ran, and decides whether the guest runs. So a turn that comes late is made
 * good by the next park.
 *
 * A thread of its own does this, because the engine's may be held up by a link that takes no byte
 * just when it matters. The two take turns with the machine (engine.turn): the engine's thread has
 * it all the time except while it sends or waits. */
#include <assert.h>
#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/prompt.h"
#include "checkpoint/engine_internal.h"

/* Most running time that is owed, in slices: a guest that ran too long is not to stand still for
 * long. */
#define DEBT 5

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

void engine_lend_turn(struct engine *e)
{
    pthread_mutex_unlock(&e->turn);
}

void engine_regain_turn(struct engine *e)
{
    pthread_mutex_lock(&e->turn);
}

static void publish(struct engine *e, bool stopped)
{
    const double share = stopped ? 0 : e->pace.throttle.share;
    /* Any throttle shows. */
    const unsigned percent = share >= 1 ? 0 : 100 - (unsigned)(share * 100);
    pthread_mutex_lock(&e->lock);
    e->stats.throttle_percent = percent;
    e->stats.parked = percent == 100 && e->pace.parked_since;
    pthread_mutex_unlock(&e->lock);
}

void engine_pace_link(struct engine *e, bool linked)
{
    struct pace *p = &e->pace;
    throttle_init(&p->throttle);
    p->linked = linked;
    p->synchronising = linked;
    p->told = false;
    p->fresh = 0;
    p->ran_looked = p->ran_paced = p->ran;
    p->credit = 0;
    p->at = clock_now();
    p->look_at = p->at;
    publish(e, false);
    pthread_cond_signal(&e->paced);
}

void engine_pace_running(struct engine *e, bool running)
{
    struct pace *p = &e->pace;
    const nsec_t now = clock_now();
    if (p->running_since)
        p->ran += now - p->running_since;
    p->running_since = running ? now : 0;
}

/* Pages cut and not yet with the standby, as far as one can tell: since the oldest epoch in flight
 * began to travel, some of it is there. */
static uint64_t backlog(struct engine *e, nsec_t now, double *drain)
{
    double pages = 0, there = 0;
    pthread_mutex_lock(&e->lock);
    *drain = e->drain;
    for (size_t i = 0; i < e->flight_count; i++)
        pages += (double)e->flight[i].capture->page_count;
    if (e->flight_count) {
        const struct in_flight *oldest = &e->flight[0];
        const nsec_t since = oldest->pushed_at > e->drained_at ? oldest->pushed_at : e->drained_at;
        there =
            smaller(e->drain * (double)(now - since) / 1e9, (double)oldest->capture->page_count);
    }
    pthread_mutex_unlock(&e->lock);
    return (uint64_t)(pages - there);
}

/* Up to now. */
static void account(struct engine *e, nsec_t now)
{
    struct pace *p = &e->pace;
    if (p->running_since) {
        p->ran += now - p->running_since;
        p->running_since = now;
    }
    p->slice = throttle_slice(&p->levels);
    p->credit += p->throttle.share * (double)(now - p->at) - (double)(p->ran - p->ran_paced);
    p->credit = larger(smaller(p->credit, (double)p->slice), -DEBT * (double)p->slice);
    p->at = now;
    p->ran_paced = p->ran;
}

static void wake_engine(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    engine_signal(e);
    pthread_mutex_unlock(&e->lock);
}

static int look(struct engine *e, nsec_t now, struct error *err)
{
    struct pace *p = &e->pace;
    const int rc = engine_collect(e, err);
    if (rc < 0)
        return rc;
    account(e, now);
    struct throttle_look in = {.now = now,
                               .ran = p->ran - p->ran_looked,
                               .fresh = p->fresh,
                               .dirty = e->pending_count,
                               .levels = p->levels};
    in.backlog = backlog(e, now, &in.drain);
    throttle_look(&p->throttle, &in);
    p->fresh = 0;
    p->ran_looked = p->ran;
    p->look_at = now + throttle_next_look(&p->throttle, e->pending_count, p->levels.capacity);
    if (e->pending_count > p->budget && !p->told) {
        p->told = true;
        wake_engine(e);
    }
    return 0;
}

/* Outside of cuts; keeps the account of the time. */
static void set_parked(struct engine *e, bool park)
{
    struct pace *p = &e->pace;
    const nsec_t now = clock_now();
    const nsec_t since = p->parked_since;
    p->parked_since = park ? now : 0;
    if (since) {
        pthread_mutex_lock(&e->lock);
        e->stats.throttled += now - since;
        pthread_mutex_unlock(&e->lock);
    }
    if (park && !since)
        engine_park_guest(e);
    else if (!park && since)
        engine_resume_guest(e);
}

/* Returns when it is to be done again. */
static nsec_t pace(struct engine *e, bool stop)
{
    struct pace *p = &e->pace;
    assert(!p->frozen);
    const nsec_t now = clock_now();
    account(e, now);
    const double share = p->throttle.share;
    bool run = !stop && share > 0;
    if (run && share < 1)
        run = p->parked_since ? p->credit >= (double)p->slice : p->credit > 0;
    set_parked(e, !run);
    publish(e, stop);
    if (stop || share <= 0 || share >= 1)
        return INT64_MAX;
    const double wait = run ? p->credit / (1 - share) : ((double)p->slice - p->credit) / share;
    return now + (nsec_t)larger(wait, 0) + 1;
}

void engine_pace(struct engine *e, bool stop)
{
    const struct pace *p = &e->pace;
    const bool calm = p->throttle.share >= 1 && !p->parked_since && !stop;
    if (calm)
        return;
    pace(e, stop);
    pthread_cond_signal(&e->paced);
}

bool engine_is_full(struct engine *e)
{
    return outbox_is_full(e->outbox) ||
           (e->disks_started && e->disks.ops->full && e->disks.ops->full(e->disks.context));
}

/* One turn of the thread. Returns when the next is due. */
static nsec_t take_turn(struct engine *e)
{
    struct pace *p = &e->pace;
    if (!p->linked || p->frozen || !e->guest_started)
        return INT64_MAX;
    /* A synchronisation reads the log once per round, and sets the share. */
    const nsec_t now = clock_now();
    struct error err = {0};
    if (!p->synchronising && now >= p->look_at && look(e, now, &err) < 0) {
        engine_fail_link(e, &err);
        return INT64_MAX;
    }
    const nsec_t again = pace(e, engine_is_full(e));
    return p->synchronising || again < p->look_at ? again : p->look_at;
}

static void *pacer_main(void *context)
{
    struct engine *e = context;
    prompt_thread("pace");
    if (e->config.realtime)
        prompt_realtime();
    pthread_mutex_lock(&e->turn);
    while (!e->pacer_stop) {
        const nsec_t next = take_turn(e);
        e->pace.asleep = next == INT64_MAX;
        if (e->pace.asleep) {
            pthread_cond_wait(&e->paced, &e->turn);
            continue;
        }
        const struct timespec until = clock_to_timespec(next);
        pthread_cond_timedwait(&e->paced, &e->turn, &until);
    }
    pthread_mutex_unlock(&e->turn);
    return NULL;
}

void engine_pace_freeze(struct engine *e, bool frozen)
{
    e->pace.frozen = frozen;
    if (!frozen && e->pace.asleep)
        pthread_cond_signal(&e->paced);
}

int engine_pace_start(struct engine *e, struct error *err)
{
    if (pthread_create(&e->pacer, NULL, pacer_main, e) != 0)
        return error_set(err, -EAGAIN, "checkpoint engine: can't start a thread");
    e->pacer_started = true;
    return 0;
}

void engine_pace_end(struct engine *e)
{
    if (!e->pacer_started)
        return;
    pthread_mutex_lock(&e->turn);
    e->pacer_stop = true;
    pthread_cond_signal(&e->paced);
    pthread_mutex_unlock(&e->turn);
    pthread_join(e->pacer, NULL);
    e->pacer_started = false;
}
