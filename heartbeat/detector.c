/* The decision is made in two parts: an event is first reduced to a trigger by looking at paths and
 * times, then the table says what the trigger does in the present state. Only detector_set()
 * assigns the state. */
#include "heartbeat/detector.h"

#include <assert.h>
#include <string.h>

enum trigger {
    TRIGGER_BEAT,     /* beat of the peer's process, or of the first one */
    TRIGGER_REPLACED, /* beat of another process than the one known */
    TRIGGER_RESUMED,  /* enough beats to revoke the suspicion */
    TRIGGER_STOPPING, /* beat with the announcement of a stop */
    TRIGGER_GOODBYE,  /* data connection ended on purpose */
    TRIGGER_SILENCE,  /* no path heard any more */
    TRIGGER_DATA_END, /* end of data, and it counts */
    TRIGGER_SESSION,  /* new data connection */
    TRIGGER_COUNT,
};

/* What to record as the reason when the trigger alone does not say it. */
#define REASON_OF_DATA  DETECTOR_REASON_COUNT
#define REASON_OF_BEATS (DETECTOR_REASON_COUNT + 1)

struct transition {
    bool moves;
    enum detector_state to;
    int reason;
};

#define TO(state, why)                                                                             \
    {                                                                                              \
        true, DETECTOR_##state, why                                                                \
    }

/* Rows that are absent change nothing: an announced stop is final for its process, the first
 * suspicion keeps its reason, silence accuses only a peer that was alive. */
static const struct transition transitions[][TRIGGER_COUNT] = {
    [DETECTOR_UNHEARD] =
        {
            [TRIGGER_BEAT] = TO(ALIVE, DETECTOR_REASON_BEAT),
            [TRIGGER_REPLACED] = TO(ALIVE, DETECTOR_REASON_BEAT),
            [TRIGGER_STOPPING] = TO(STOPPED, DETECTOR_REASON_STOPPING),
            [TRIGGER_GOODBYE] = TO(STOPPED, DETECTOR_REASON_GOODBYE),
            [TRIGGER_DATA_END] = TO(SUSPECT, REASON_OF_DATA),
        },
    [DETECTOR_ALIVE] =
        {
            [TRIGGER_REPLACED] = TO(SUSPECT, DETECTOR_REASON_RESTARTED),
            [TRIGGER_STOPPING] = TO(STOPPED, DETECTOR_REASON_STOPPING),
            [TRIGGER_GOODBYE] = TO(STOPPED, DETECTOR_REASON_GOODBYE),
            [TRIGGER_SILENCE] = TO(SUSPECT, DETECTOR_REASON_SILENCE),
            [TRIGGER_DATA_END] = TO(SUSPECT, REASON_OF_DATA),
        },
    [DETECTOR_SUSPECT] =
        {
            [TRIGGER_RESUMED] = TO(ALIVE, REASON_OF_BEATS),
            [TRIGGER_STOPPING] = TO(STOPPED, DETECTOR_REASON_STOPPING),
            [TRIGGER_GOODBYE] = TO(STOPPED, DETECTOR_REASON_GOODBYE),
            [TRIGGER_SESSION] = TO(UNHEARD, DETECTOR_REASON_SESSION),
        },
    [DETECTOR_STOPPED] =
        {
            [TRIGGER_REPLACED] = TO(ALIVE, DETECTOR_REASON_BEAT),
            [TRIGGER_SESSION] = TO(UNHEARD, DETECTOR_REASON_SESSION),
        },
};

static nsec_t larger(nsec_t a, nsec_t b)
{
    return a > b ? a : b;
}

static nsec_t smaller(nsec_t a, nsec_t b)
{
    return a < b ? a : b;
}

bool detector_config_valid(const struct detector_config *c)
{
    return c->path_count >= 1 && c->path_count <= DETECTOR_PATH_MAX &&
           c->interval >= DETECTOR_INTERVAL_MIN && c->interval <= DETECTOR_INTERVAL_MAX &&
           c->multiplier >= 1 && c->multiplier <= DETECTOR_MULTIPLIER_MAX &&
           c->stall_threshold >= 0;
}

void detector_init(struct detector *d, const struct detector_config *config, nsec_t now)
{
    assert(detector_config_valid(config));
    memset(d, 0, sizeof(*d));
    d->config = *config;
    if (!d->config.stall_threshold)
        d->config.stall_threshold =
            larger(config->interval * config->multiplier / 2, 2 * config->interval);
    d->since = now;
    d->last_run = now;
}

/* At which the slower side sends. */
static nsec_t effective_interval(const struct detector *d)
{
    return larger(d->config.interval, smaller(d->peer_interval, DETECTOR_INTERVAL_MAX));
}

nsec_t detector_detection_time(const struct detector *d)
{
    return effective_interval(d) * d->config.multiplier;
}

/* When a path that is heard will be silent, unless a beat comes. */
static nsec_t path_deadline(const struct detector *d, const struct detector_path *path)
{
    const nsec_t full = path->timer + detector_detection_time(d);
    if (!d->data_ended)
        return full;
    return smaller(full, larger(path->timer, d->data_ended_at) + effective_interval(d) * 3 / 2);
}

static nsec_t data_end_expiry(const struct detector *d)
{
    return d->data_ended_at + detector_detection_time(d);
}

static void restart_timers(struct detector *d, nsec_t now)
{
    for (unsigned i = 0; i < d->config.path_count; i++)
        d->paths[i].timer = now;
}

static bool any_path_heard(const struct detector *d)
{
    for (unsigned i = 0; i < d->config.path_count; i++)
        if (d->paths[i].heard)
            return true;
    return false;
}

/* The only place that assigns the state. */
static void detector_set(struct detector *d, enum detector_state to, enum detector_reason reason,
                         nsec_t now, struct detector_actions *actions)
{
    if (to == DETECTOR_SUSPECT) {
        d->suspicions++;
        d->probation = reason != DETECTOR_REASON_SILENCE;
        d->replaced = reason == DETECTOR_REASON_RESTARTED;
        d->probation_from = 0;
    }
    d->state = to;
    d->reason = reason;
    d->since = now;
    actions->changed = true;
}

static void pull(struct detector *d, enum trigger trigger, nsec_t now,
                 struct detector_actions *actions)
{
    const struct transition *t = &transitions[d->state][trigger];
    if (!t->moves)
        return;
    int reason = t->reason;
    if (reason == REASON_OF_DATA)
        reason = (int)d->data_reason;
    else if (reason == REASON_OF_BEATS)
        reason = d->replaced ? DETECTOR_REASON_BEAT : DETECTOR_REASON_RESUMED;
    detector_set(d, t->to, (enum detector_reason)reason, now, actions);
}

/* A detector that slept can't tell the peer's silence from its own deafness. */
static void check_own_stall(struct detector *d, nsec_t now, struct detector_actions *actions)
{
    const nsec_t gap = now - d->last_run;
    if (gap <= d->config.stall_threshold)
        return;
    d->stalls++;
    actions->stalled = true;
    actions->stalled_for = gap;
    d->distrust_until = now + detector_detection_time(d);
    restart_timers(d, now);
}

/* In SUSPECT: has the peer beaten long enough to be believed? */
static bool probation_passed(struct detector *d, nsec_t now)
{
    if (!d->probation)
        return true;
    const nsec_t detection = detector_detection_time(d);
    if (!d->probation_from || now - d->probation_last > detection)
        d->probation_from = now;
    d->probation_last = now;
    return now - d->probation_from >= detection;
}

static void on_beat(struct detector *d, const struct detector_event *e, nsec_t now,
                    struct detector_actions *actions)
{
    assert(e->path < d->config.path_count && e->instance && e->interval > 0);
    const bool replaced = d->instance && e->instance != d->instance;
    d->instance = e->instance;
    d->peer_interval = e->interval;
    struct detector_path *path = &d->paths[e->path];
    path->heard = true;
    path->last_heard = now;
    path->timer = now;
    if (replaced && d->state == DETECTOR_SUSPECT) {
        d->probation = true;
        d->replaced = true;
        d->probation_from = 0;
    }
    if (e->stopping)
        pull(d, TRIGGER_STOPPING, now, actions);
    else if (replaced)
        pull(d, TRIGGER_REPLACED, now, actions);
    else
        pull(d, TRIGGER_BEAT, now, actions);
    if (d->state == DETECTOR_SUSPECT && probation_passed(d, now))
        pull(d, TRIGGER_RESUMED, now, actions);
}

static void on_tick(struct detector *d, nsec_t now, struct detector_actions *actions)
{
    for (unsigned i = 0; i < d->config.path_count; i++)
        if (d->paths[i].heard && now >= path_deadline(d, &d->paths[i]))
            d->paths[i].heard = false;
    const bool expired = now >= data_end_expiry(d);
    if (!any_path_heard(d)) {
        /* A heartbeat that was heard agrees by falling silent. One that never was has no say: then
         * the end of data counts if it is suspicion by itself, after the doubt of a stall. */
        const bool agreed = d->state == DETECTOR_ALIVE || (d->config.eof_is_suspicion && expired);
        if (d->data_ended && agreed)
            pull(d, TRIGGER_DATA_END, now, actions);
        else
            pull(d, TRIGGER_SILENCE, now, actions);
    }
    if (expired)
        d->data_ended = false;
}

static void on_data_end(struct detector *d, enum detector_reason reason, nsec_t now,
                        struct detector_actions *actions)
{
    d->data_reason = reason;
    if (d->state == DETECTOR_SUSPECT)
        d->probation = true;
    if (d->config.eof_is_suspicion && now >= d->distrust_until) {
        pull(d, TRIGGER_DATA_END, now, actions);
        return;
    }
    d->data_ended = true;
    d->data_ended_at = now;
}

static void on_session(struct detector *d, nsec_t now, struct detector_actions *actions)
{
    d->data_ended = false;
    restart_timers(d, now); /* who connects lives */
    /* Beats heard before may be those of a process that is gone. */
    if (d->state != DETECTOR_ALIVE)
        for (unsigned i = 0; i < d->config.path_count; i++)
            d->paths[i].heard = false;
    pull(d, TRIGGER_SESSION, now, actions);
}

struct detector_actions detector_step(struct detector *d, const struct detector_event *event,
                                      nsec_t now)
{
    struct detector_actions actions = {0};
    now = larger(now, d->last_run);
    check_own_stall(d, now, &actions);
    d->last_run = now;
    switch (event->kind) {
    case DETECTOR_EVENT_BEAT:
        on_beat(d, event, now, &actions);
        break;
    case DETECTOR_EVENT_SESSION:
        on_session(d, now, &actions);
        break;
    case DETECTOR_EVENT_EOF:
        on_data_end(d, DETECTOR_REASON_EOF, now, &actions);
        break;
    case DETECTOR_EVENT_RESET:
        on_data_end(d, DETECTOR_REASON_RESET, now, &actions);
        break;
    case DETECTOR_EVENT_EXIT:
        on_data_end(d, DETECTOR_REASON_EXIT, now, &actions);
        break;
    case DETECTOR_EVENT_DEAF:
        assert(event->path < d->config.path_count);
        d->paths[event->path].heard = false;
        break;
    case DETECTOR_EVENT_GOODBYE:
        pull(d, TRIGGER_GOODBYE, now, &actions);
        break;
    case DETECTOR_EVENT_TICK:
        on_tick(d, now, &actions);
        break;
    }
    return actions;
}

nsec_t detector_next_tick(const struct detector *d)
{
    nsec_t next = d->last_run + d->config.stall_threshold / 2;
    if (d->data_ended)
        next = smaller(next, data_end_expiry(d));
    for (unsigned i = 0; i < d->config.path_count; i++)
        if (d->paths[i].heard)
            next = smaller(next, path_deadline(d, &d->paths[i]));
    return next;
}

const char *detector_state_name(enum detector_state state)
{
    static const char *const names[] = {
        [DETECTOR_UNHEARD] = "unheard",
        [DETECTOR_ALIVE] = "alive",
        [DETECTOR_SUSPECT] = "suspect",
        [DETECTOR_STOPPED] = "stopped",
    };
    return names[state];
}

const char *detector_reason_text(enum detector_reason reason)
{
    static const char *const texts[DETECTOR_REASON_COUNT] = {
        [DETECTOR_REASON_START] = "nothing heard yet",
        [DETECTOR_REASON_SESSION] = "new session, nothing heard yet",
        [DETECTOR_REASON_BEAT] = "first beats heard",
        [DETECTOR_REASON_RESUMED] = "beats resumed",
        [DETECTOR_REASON_SILENCE] = "silent on every path",
        [DETECTOR_REASON_EOF] = "data connection closed",
        [DETECTOR_REASON_RESET] = "data connection failed",
        [DETECTOR_REASON_EXIT] = "process ended",
        [DETECTOR_REASON_RESTARTED] = "process restarted",
        [DETECTOR_REASON_GOODBYE] = "said goodbye",
        [DETECTOR_REASON_STOPPING] = "announced its stop",
    };
    return texts[reason];
}
