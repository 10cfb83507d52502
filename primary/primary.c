#include "primary/primary.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "primary/primary_internal.h"

/* How long an orderly end waits for the last checkpoint, and for the standby to read of it. */
#define FLUSH_TIMEOUT   SEC(5)
#define GOODBYE_TIMEOUT SEC(1)
/* A standby's heartbeat tells how far it is; ours is refreshed this often. */
#define BEAT_REFRESH MSEC(100)

void primary_note(struct primary *p, bool warning, const char *kind, const char *text)
{
    p->config.note(p->config.context, warning, kind, text);
}

static void post(struct primary *p, const struct letter *letter)
{
    mailbox_post(p->mailbox, letter);
}

void primary_post_event(struct primary *p, enum primary_event event, const char *why)
{
    struct letter letter = {.kind = LETTER_FSM, .event = event};
    snprintf(letter.text, sizeof(letter.text), "%s", why ? why : "");
    post(p, &letter);
}

/* ---- other threads ---- */

static void on_engine_event(void *context, enum engine_event event, const struct error *why)
{
    struct primary *p = context;
    const char *text = why ? why->text : "";
    if (event == ENGINE_EVENT_PROTECTED) {
        primary_post_event(p, PRIMARY_EVENT_COMMITTED, text);
        return;
    }
    if (event == ENGINE_EVENT_OFFERED) {
        post(p, &(struct letter){.kind = LETTER_OFFERED});
        return;
    }
    if (event == ENGINE_EVENT_TAKEN) {
        primary_post_event(p, PRIMARY_EVENT_TAKEN, text);
        return;
    }
    if (event == ENGINE_EVENT_SUPERSEDED) {
        primary_post_event(p, PRIMARY_EVENT_SUPERSEDED, text);
        return;
    }
    struct engine_stats *stats = malloc(sizeof(*stats));
    if (!stats)
        abort();
    engine_snapshot(p->engine, stats);
    const bool open = stats->state == ENGINE_OPEN;
    free(stats);
    primary_post_event(p, open ? PRIMARY_EVENT_LOST_OPEN : PRIMARY_EVENT_LOST_HELD, text);
}

static void on_switchover(void *context, const struct message_switchover *step)
{
    post(context,
         &(struct letter){.kind = LETTER_STEP, .step = {.step = step->step, .term = step->term}});
}

static nsec_t trusted_since(void *context)
{
    struct primary *p = context;
    return heartbeat_trusted_since(peers_partner(p->config.peers));
}

static void on_answer(void *context, uint64_t number, enum arbiter_result result, term_t term,
                      const char *text)
{
    struct letter letter = {.kind = LETTER_ANSWER,
                            .answer = {.number = number, .result = result, .term = term}};
    snprintf(letter.text, sizeof(letter.text), "%s", text);
    post(context, &letter);
}

void primary_suspect(struct primary *primary, unsigned host, const char *why, bool certain)
{
    struct letter letter = {.kind = LETTER_SUSPECT,
                            .suspicion = {.certain = certain, .host = host}};
    snprintf(letter.text, sizeof(letter.text), "%s", why);
    post(primary, &letter);
}

void primary_superseded(struct primary *primary, term_t term)
{
    pthread_mutex_lock(&primary->lock);
    const term_t ours = primary->status.term;
    const bool ordered = term == primary->status.handing;
    pthread_mutex_unlock(&primary->lock);
    if (term <= ours || ordered)
        return;
    char text[96];
    snprintf(text, sizeof(text), "the peer owns term %llu, this host term %llu",
             (unsigned long long)term, (unsigned long long)ours);
    /* At once, on this thread: the table's FENCE then finds it done. */
    engine_fence(primary->engine);
    primary_post_event(primary, PRIMARY_EVENT_SUPERSEDED, text);
}

void primary_switchover(struct primary *primary)
{
    post(primary, &(struct letter){.kind = LETTER_SWITCHOVER});
}

void primary_unprotect(struct primary *primary)
{
    post(primary, &(struct letter){.kind = LETTER_UNPROTECT});
}

void primary_protect(struct primary *primary)
{
    post(primary, &(struct letter){.kind = LETTER_PROTECT});
}

void primary_guest_ended(struct primary *primary, bool failed, const char *why)
{
    struct letter letter = {.kind = LETTER_GUEST_ENDED, .failed = failed};
    snprintf(letter.text, sizeof(letter.text), "%s", why ? why : "");
    post(primary, &letter);
}

void primary_stop(struct primary *primary, const char *why)
{
    struct letter letter = {.kind = LETTER_STOP};
    snprintf(letter.text, sizeof(letter.text), "%s", why);
    post(primary, &letter);
}

/* ---- the table, on the role's thread ---- */

static const char *event_kind_of(enum primary_state state)
{
    static const char *const kinds[] = {
        [PRIMARY_WAITING] = "primary.waiting",     [PRIMARY_SYNCHRONISING] = "sync.started",
        [PRIMARY_PROTECTED] = "primary.protected", [PRIMARY_ASKING] = "arbiter.asked",
        [PRIMARY_OUTRUN] = "primary.outrun",       [PRIMARY_SOLO] = "primary.solo",
        [PRIMARY_FENCED] = "primary.fenced",       [PRIMARY_PREPARING] = "switchover.preparing",
        [PRIMARY_HANDING] = "switchover.handing",  [PRIMARY_HANDED] = "switchover.handed",
        [PRIMARY_RELEASING] = "protection.ending", [PRIMARY_LEAVING] = "protection.leaving",
    };
    return kinds[state];
}

/* The one place where the state changes. */
void primary_feed(struct primary *p, enum primary_event event, const char *why)
{
    const enum primary_state before = p->status.state;
    const struct primary_step step = primary_fsm_step(before, event);
    if (!step.legal) {
        log_error("primary", "event \"%s\" in state %s: ignored (%s)", primary_event_name(event),
                  primary_state_name(before), why);
        if (p->visitor)
            link_destroy(&p->visitor);
        return;
    }
    const bool lost = event == PRIMARY_EVENT_LOST_HELD || event == PRIMARY_EVENT_LOST_NEW ||
                      event == PRIMARY_EVENT_LOST_OPEN || event == PRIMARY_EVENT_SUPERSEDED;
    p->spoke = p->spoke || step.state == PRIMARY_PROTECTED || step.state == PRIMARY_SOLO;
    if (lost)
        primary_release_door(p);
    pthread_mutex_lock(&p->lock);
    if (lost) {
        p->status.peer[0] = '\0';
        p->status.security = (struct link_security){0};
        p->status.streams = 0;
    }
    if (lost && event != PRIMARY_EVENT_SUPERSEDED)
        roster_lost(&p->roster, event == PRIMARY_EVENT_LOST_OPEN, clock_now());
    if (step.state == PRIMARY_PROTECTED)
        roster_protected(&p->roster);
    if (step.state != before) {
        p->status.state = step.state;
        p->status.since = clock_now();
        snprintf(p->status.why, sizeof(p->status.why), "%s", why);
    }
    pthread_mutex_unlock(&p->lock);
    primary_switchover_changed(p, before, event, *why ? why : primary_event_name(event));
    primary_release_changed(p, before, *why ? why : primary_event_name(event));
    if (step.state == PRIMARY_PROTECTED)
        claim_forget(p->claim);
    if (step.state != before && (step.state == PRIMARY_OUTRUN || before == PRIMARY_OUTRUN)) {
        engine_pause_guest(p->engine, step.state == PRIMARY_OUTRUN);
        primary_introduce(p);
    }
    if (step.state != before) {
        log_info("primary", "%s -> %s: %s%s%s", primary_state_name(before),
                 primary_state_name(step.state), primary_event_name(event), *why ? ": " : "", why);
        const bool warning = step.state != PRIMARY_PROTECTED &&
                             step.state != PRIMARY_SYNCHRONISING &&
                             step.state != PRIMARY_PREPARING && step.state != PRIMARY_HANDING &&
                             step.state != PRIMARY_HANDED;
        primary_note(p, warning, event_kind_of(step.state), *why ? why : primary_event_name(event));
    }
    /* Whose address it is may have changed since the network last heard of it. */
    if (step.state != before && (step.state == PRIMARY_PROTECTED || step.state == PRIMARY_SOLO))
        p->config.engine.machine.ops->announce(p->config.engine.machine.context);
    primary_carry_out(p, step.actions, event, *why ? why : primary_event_name(event));
    if (step.state == PRIMARY_HANDED && before != PRIMARY_HANDED) {
        primary_introduce(p);
        p->ended = true;
        p->end = PRIMARY_END_HANDED;
    }
    primary_publish_local(p, step.state != before);
}

static void handle_answer(struct primary *p, const struct letter *letter)
{
    struct error err = {0};
    const enum claim_outcome outcome =
        claim_settle(p->claim, letter->answer.number, letter->answer.result, letter->answer.term,
                     letter->text, &err);
    if (primary_settle_handover(p, outcome, letter->answer.term, letter->text))
        return;
    switch (outcome) {
    case CLAIM_GRANTED:
        pthread_mutex_lock(&p->lock);
        p->status.term = letter->answer.term;
        roster_alone(&p->roster);
        pthread_mutex_unlock(&p->lock);
        primary_introduce(p);
        primary_feed(p, PRIMARY_EVENT_GRANTED, letter->text);
        break;
    case CLAIM_REFUSED:
        primary_feed(
            p, letter->answer.term > p->status.term ? PRIMARY_EVENT_OUTRUN : PRIMARY_EVENT_REFUSED,
            letter->text);
        break;
    case CLAIM_UNANSWERED:
        primary_feed(p, PRIMARY_EVENT_UNANSWERED, err.code ? err.text : letter->text);
        break;
    case CLAIM_STALE:
        break;
    }
}

static void handle_suspect(struct primary *p, const struct letter *letter)
{
    if (letter->suspicion.host != p->host)
        return; /* it is not the standby */
    primary_weigh_suspicion(p, letter);
    if (p->ask_at != INT64_MAX && p->status.state == PRIMARY_ASKING)
        primary_act_ask(p, letter->text);
}

/* When a primary that waits for its first standby has waited long enough. */
static nsec_t wait_end(const struct primary *p)
{
    return p->config.peer_wait && !p->config.solo ? clock_now() + p->config.peer_wait : INT64_MAX;
}

/* Power-off or an operator's stop: the last words of the guest are committed and released first. */
static void finish(struct primary *p, enum primary_end end, const char *why)
{
    peers_announce_stop(p->config.peers);
    struct error err = {0};
    const int rc = engine_flush(p->engine, clock_now() + FLUSH_TIMEOUT);
    if (rc < 0 && p->status.state != PRIMARY_FENCED) {
        error_set(&err, rc, "output that was still held is lost: %s", strerror(-rc));
        primary_note(p, true, "primary.unsaid", err.text);
    }
    engine_say_goodbye(p->engine, why, clock_now() + GOODBYE_TIMEOUT);
    p->ended = true;
    p->end = end;
}

/* A first commit releases output before its event is handled, and a link that fails right then
 * takes that event with it. */
static bool has_spoken(struct primary *p)
{
    struct engine_stats *stats = malloc(sizeof(*stats));
    if (!stats)
        abort();
    engine_snapshot(p->engine, stats);
    p->spoke = p->spoke || stats->epochs_committed > 0;
    free(stats);
    return p->spoke;
}

static void handle(struct primary *p, struct letter *letter)
{
    switch (letter->kind) {
    case LETTER_VISITOR:
        primary_handle_visitor(p, letter);
        break;
    case LETTER_FSM:
        if (letter->event == PRIMARY_EVENT_LOST_HELD && !has_spoken(p)) {
            letter->event = PRIMARY_EVENT_LOST_NEW;
            p->wait_until = wait_end(p);
        }
        primary_feed(p, letter->event, letter->text);
        break;
    case LETTER_SUSPECT:
        handle_suspect(p, letter);
        break;
    case LETTER_ANSWER:
        handle_answer(p, letter);
        break;
    case LETTER_SWITCHOVER:
        primary_order_switchover(p, false);
        break;
    case LETTER_UNPROTECT:
        primary_order_unprotect(p);
        break;
    case LETTER_PROTECT:
        primary_order_protect(p);
        break;
    case LETTER_STEP:
        primary_standby_step(
            p, &(struct message_switchover){.step = letter->step.step, .term = letter->step.term});
        break;
    case LETTER_OFFERED:
        primary_offered(p);
        break;
    case LETTER_GUEST_ENDED:
        primary_note(p, letter->failed, letter->failed ? "guest.failed" : "guest.off",
                     letter->text);
        finish(p, letter->failed ? PRIMARY_END_FAILED : PRIMARY_END_STOPPED, letter->text);
        break;
    case LETTER_STOP:
        primary_note(p, false, "primary.stopped", letter->text);
        engine_take_back(p->engine);
        engine_stop_guest(p->engine);
        finish(p, PRIMARY_END_STOPPED, letter->text);
        break;
    }
}

/* ---- the interface ---- */

/* Never 0, which means none. */
static int begin_life(struct primary *p, struct error *err)
{
    p->life = p->config.life;
    while (!p->life)
        if (getrandom(&p->life, sizeof(p->life), 0) != sizeof(p->life))
            return error_set(err, -EIO, "no random number for the guest's life: %s",
                             strerror(errno));
    return 0;
}

static int take_term(struct primary *p, struct error *err)
{
    const struct term_record record = term_store_current(p->config.terms);
    if (record.ownership == TERM_LOST)
        return error_set(err, -EPERM,
                         "this host lost the guest in term %llu: it can only come back as a "
                         "secondary (role = secondary)",
                         (unsigned long long)record.term);
    if (record.ownership == TERM_STANDBY && record.term > 0)
        return error_set(err, -EPERM,
                         "this host was the secondary in term %llu: another host owns the guest; "
                         "start it with role = secondary",
                         (unsigned long long)record.term);
    p->status.term = record.term;
    p->status.beginning =
        arbiter_remembers(p->config.arbiter) && !p->config.solo && !p->config.heritage.link;
    if (p->status.beginning)
        return 0; /* the arbiter is asked by primary_begin_term() */
    if (!record.term)
        p->status.term = 1;
    return term_store_advance(p->config.terms, p->status.term, TERM_OWNER, err);
}

/* The guest runs as soon as the engine has begun to track it: nothing else may delay it. */
static int inherit(struct primary *p, struct error *err)
{
    const struct primary_heritage *h = &p->config.heritage;
    snprintf(p->status.peer, sizeof(p->status.peer), "%s", link_peer_name(h->link));
    p->peer_switches = true;
    p->peer_releases = h->capabilities & SESSION_CAP_RELEASE;
    p->spoke = true;
    p->inherited = true;
    p->host = h->host;
    p->status.host = h->host;
    peers_choose(p->config.peers, h->host);
    const int rc = engine_protect_taken(p->engine, h->link, p->status.term, h->staging_cap,
                                        h->capabilities, &h->engine, err);
    if (rc == 0)
        p->config.heritage.link = NULL;
    return rc;
}

int primary_create(const struct primary_config *config, struct primary **out, struct error *err)
{
    *out = NULL;
    struct primary *p = calloc(1, sizeof(*p));
    if (!p)
        return error_set(err, -ENOMEM, "primary: out of memory");
    p->config = *config;
    p->config.engine.event = on_engine_event;
    p->config.engine.switchover = on_switchover;
    p->config.engine.context = p;
    p->config.engine.trusted_since = config->peers->count ? trusted_since : NULL;
    p->config.engine.open = config->solo;
    p->recheck_at = INT64_MAX;
    p->ask_at = INT64_MAX;
    p->handover.deadline = INT64_MAX;
    p->release.deadline = INT64_MAX;
    p->status.state = config->solo            ? PRIMARY_SOLO
                      : config->heritage.link ? PRIMARY_SYNCHRONISING
                                              : PRIMARY_WAITING;
    pthread_mutex_init(&p->lock, NULL);
    const struct claim_config claim = {.vm = config->vm,
                                       .who = config->who,
                                       .purpose = ARBITER_SOLO,
                                       .timeout = config->arbiter_timeout,
                                       .arbiter = config->arbiter,
                                       .terms = config->terms,
                                       .answered = on_answer,
                                       .context = p};
    int rc = mailbox_create(sizeof(struct letter), &p->mailbox, err);
    if (rc == 0)
        rc = claim_create(&claim, &p->claim, err);
    if (rc == 0)
        rc = begin_life(p, err);
    if (rc == 0)
        rc = take_term(p, err);
    if (rc == 0) {
        const struct term_record record = term_store_current(config->terms);
        roster_init(&p->roster, config->peers->count, config->hosts, config->host_wait,
                    clock_now());
        roster_recall(&p->roster, &record);
    }
    if (rc == 0)
        rc = engine_create(&p->config.engine, &p->engine, err);
    if (rc == 0 && p->config.heritage.link)
        rc = inherit(p, err);
    if (rc < 0) {
        link_destroy(&p->config.heritage.link);
        primary_destroy(&p);
        return rc;
    }
    *out = p;
    return 0;
}

void primary_destroy(struct primary **primary)
{
    struct primary *p = *primary;
    if (!p)
        return;
    primary_leave_door(p);
    if (p->claim)
        claim_cancel(p->claim);
    engine_destroy(&p->engine);
    struct letter letter;
    while (p->mailbox && mailbox_wait(p->mailbox, &letter, 0))
        if (letter.kind == LETTER_VISITOR)
            link_destroy(&letter.visitor.link);
    claim_destroy(&p->claim);
    mailbox_destroy(&p->mailbox);
    pthread_mutex_destroy(&p->lock);
    free(p);
    *primary = NULL;
}

enum primary_end primary_run(struct primary *primary)
{
    struct primary *p = primary;
    p->status.since = clock_now();
    if (p->status.beginning && !primary_begin_term(p))
        return p->end;
    primary_open_door(p);
    primary_introduce(p);
    p->wait_until = wait_end(p);
    p->spoke = p->spoke || p->config.solo;
    if (!p->inherited)
        primary_own_disks(p);
    engine_start_guest(p->engine);
    primary_publish_local(p, true);
    primary_start_porter(p);
    while (!p->ended) {
        struct letter letter;
        nsec_t deadline = clock_now() + BEAT_REFRESH;
        if (p->wait_until < deadline)
            deadline = p->wait_until;
        if (p->recheck_at < deadline)
            deadline = p->recheck_at;
        if (p->ask_at < deadline)
            deadline = p->ask_at;
        if (p->handover.deadline < deadline)
            deadline = p->handover.deadline;
        if (p->release.deadline < deadline)
            deadline = p->release.deadline;
        if (mailbox_wait(p->mailbox, &letter, deadline))
            handle(p, &letter);
        else
            primary_publish_local(p, false);
        if (clock_now() >= p->recheck_at)
            primary_recheck_doubt(p);
        if (clock_now() >= p->ask_at)
            primary_act_ask(p, p->ask_why);
        if (clock_now() >= p->handover.deadline)
            primary_switchover_overdue(p);
        if (clock_now() >= p->release.deadline)
            primary_release_overdue(p);
        if (clock_now() >= p->wait_until) {
            p->wait_until = INT64_MAX;
            primary_feed(p, PRIMARY_EVENT_WAITED, "no standby came in the configured time");
        }
    }
    return p->end;
}

struct engine *primary_engine(struct primary *primary)
{
    return primary->engine;
}

bool primary_is_fenced(struct primary *primary)
{
    pthread_mutex_lock(&primary->lock);
    const bool fenced = primary->status.state == PRIMARY_FENCED;
    pthread_mutex_unlock(&primary->lock);
    return fenced;
}

void primary_snapshot(struct primary *primary, struct primary_status *out)
{
    pthread_mutex_lock(&primary->lock);
    *out = primary->status;
    out->bound = primary->roster.bound;
    pthread_mutex_unlock(&primary->lock);
    claim_snapshot(primary->claim, &out->claim);
}
