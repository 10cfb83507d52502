#include "secondary/secondary.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "secondary/secondary_internal.h"

/* Our beats tell how far we are; that is refreshed this often. */
#define BEAT_REFRESH MSEC(100)

/* After a disk of this host has failed, a new synchronisation is tried as often as this. */
#define UNFIT_REST SEC(10)

/* A host that refused us while we hold the guest is asked again as often as this. */
#define REFUSED_REST SEC(1)

/* How long a living primary may take to stop when an operator moves the guest away from it. */
#define ORDERED_PATIENCE SEC(1)

/* How long an orderly end waits for the primary, which has nothing to do but to read of it. */
#define GOODBYE_TIMEOUT SEC(1)

/* Acknowledgements are a few bytes: a primary that doesn't take them for so long is gone. */
#define SEND_TIMEOUT_MS 1000

void secondary_note(struct secondary *s, bool warning, const char *kind, const char *text)
{
    s->config.note(s->config.context, warning, kind, text);
}

static void post(struct secondary *s, struct letter *letter, const char *text)
{
    letter->at = clock_now();
    snprintf(letter->text, sizeof(letter->text), "%s", text ? text : "");
    mailbox_post(s->mailbox, letter);
}

static void post_event(struct secondary *s, enum secondary_event event, const char *why)
{
    struct letter letter = {.kind = LETTER_FSM, .event = event};
    post(s, &letter, why);
}

/* ---- other threads ---- */

static void on_connected(void *context, unsigned host, struct link *link,
                         const struct session *session)
{
    struct letter letter = {.kind = LETTER_LINK,
                            .link = {.link = link,
                                     .host = host,
                                     .term = session->term,
                                     .life = session->peer.life,
                                     .staging_cap = session->peer.staging_cap,
                                     .capabilities = session->capabilities}};
    post(context, &letter, link_peer_name(link));
}

/* Only a primary speaks of turns. What it said stands until it says something else. */
static void on_connect_failed(void *context, unsigned host, const struct error *why,
                              enum session_reason reason, bool final)
{
    struct secondary *s = context;
    const bool from_primary = reason == SESSION_TURN || reason == SESSION_STRANGER;
    pthread_mutex_lock(&s->lock);
    const bool counts = from_primary || s->spokesman < 0 || s->spokesman == (int)host;
    const bool news = counts && strcmp(s->status.trouble, why->text) != 0;
    if (counts) {
        s->spokesman = from_primary ? (int)host : -1;
        snprintf(s->status.trouble, sizeof(s->status.trouble), "%s", why->text);
    }
    pthread_mutex_unlock(&s->lock);
    if (news)
        log_info("secondary", "%s", why->text);
    struct letter letter = {.kind = LETTER_FAILED};
    if (final)
        post(s, &letter, why->text);
}

/* The end of the data connection goes to the heartbeat's detector, which makes a suspicion of it or
 * not (DESIGN §6). A peer that broke the protocol is not a dead peer, and neither is one behind a
 * wire that carries nothing any more: there the heartbeat decides. */
static void hint_heartbeat(const struct secondary *s, enum standby_event event, int code)
{
    struct heartbeat *heartbeat = peers_partner(s->config.peers);
    if (!heartbeat)
        return;
    if (event == STANDBY_EVENT_GOODBYE)
        heartbeat_hint_goodbye(heartbeat);
    else if (event == STANDBY_EVENT_CLOSED)
        heartbeat_hint_eof(heartbeat);
    else if (event == STANDBY_EVENT_BROKEN && code == -ECONNRESET)
        heartbeat_hint_reset(heartbeat);
}

static void on_standby_event(void *context, enum standby_event event, const struct error *why)
{
    struct secondary *s = context;
    hint_heartbeat(s, event, why ? why->code : 0);
    struct letter letter = {.kind = LETTER_STANDBY, .standby = event};
    post(s, &letter, why ? why->text : "");
}

static void on_switchover(void *context, const struct message_switchover *step)
{
    struct letter letter = {.kind = LETTER_STEP,
                            .step = {.step = step->step,
                                     .term = step->term,
                                     .pause = step->pause < INT64_MAX ? (nsec_t)step->pause : 0}};
    post(context, &letter, step->text);
}

static void on_answer(void *context, uint64_t number, enum arbiter_result result, term_t term,
                      const char *text)
{
    struct letter letter = {.kind = LETTER_ANSWER,
                            .answer = {.number = number, .result = result, .term = term}};
    post(context, &letter, text);
}

void secondary_suspect(struct secondary *secondary, unsigned host, const char *why, bool certain)
{
    struct letter letter = {.kind = LETTER_SUSPECT,
                            .suspicion = {.certain = certain, .host = host}};
    post(secondary, &letter, why);
}

void secondary_alive(struct secondary *secondary, unsigned host)
{
    struct letter letter = {.kind = LETTER_ALIVE, .suspicion = {.host = host}};
    post(secondary, &letter, "");
}

void secondary_superseded(struct secondary *secondary, term_t term)
{
    struct letter letter = {.kind = LETTER_TERM, .term = term};
    post(secondary, &letter, "");
}

void secondary_stop(struct secondary *secondary, const char *why)
{
    struct letter letter = {.kind = LETTER_STOP};
    post(secondary, &letter, why);
}

void secondary_switchover(struct secondary *secondary)
{
    struct letter letter = {.kind = LETTER_SWITCHOVER};
    post(secondary, &letter, "");
}

int secondary_failover(struct secondary *secondary, struct error *err)
{
    pthread_mutex_lock(&secondary->lock);
    const enum secondary_state state = secondary->status.state;
    pthread_mutex_unlock(&secondary->lock);
    if (state != SECONDARY_READY && state != SECONDARY_ORPHANED && state != SECONDARY_ASKING)
        return error_set(err, -ENODATA,
                         "this host holds no complete state of the guest (%s): a failover now "
                         "would lose it",
                         secondary_state_name(state));
    post_event(secondary, SECONDARY_EVENT_FAILOVER, "operator's failover");
    return 0;
}

/* ---- actions, on the role's thread ---- */

term_t secondary_known_term(struct secondary *s)
{
    pthread_mutex_lock(&s->lock);
    const term_t term = s->status.term;
    pthread_mutex_unlock(&s->lock);
    return term;
}

static void publish_local(struct secondary *s)
{
    struct standby_stats stats;
    standby_snapshot(s->standby, &stats);
    const struct heartbeat_local local = {.role = PACKET_ROLE_SECONDARY,
                                          .term = secondary_known_term(s),
                                          .epoch = stats.committed,
                                          .guest_alive = true};
    peers_set_local(s->config.peers, &local, false);
}

static void forget_promise(struct secondary *s)
{
    s->set_aside = 0;
    s->beyond = false;
}

static void act_follow(struct secondary *s)
{
    struct link *link = s->new_link;
    s->new_link = NULL;
    struct error err = {0};
    pthread_mutex_lock(&s->lock);
    snprintf(s->status.peer, sizeof(s->status.peer), "%s", link_peer_name(link));
    s->status.security = *link_security(link);
    s->status.streams = link_streams(link);
    s->status.trouble[0] = '\0';
    s->status.host = s->host;
    s->spokesman = -1;
    pthread_mutex_unlock(&s->lock);
    peers_choose(s->config.peers, s->host);
    if (peers_partner(s->config.peers))
        heartbeat_hint_session(peers_partner(s->config.peers));
    s->recheck_at = INT64_MAX;
    forget_promise(s);
    link_set_timeouts(link, SEND_TIMEOUT_MS, 0);
    standby_unfollow(s->standby);
    if (standby_follow(s->standby, link, secondary_known_term(s), &err) < 0)
        post_event(s, SECONDARY_EVENT_LOST, err.text);
}

static void act_ask(struct secondary *s, const char *why)
{
    struct error err = {0};
    const term_t expected = s->beyond ? s->set_aside : secondary_known_term(s);
    if (claim_ask(s->claim, expected, why, &err) == 0)
        return;
    log_error("secondary", "can't ask the arbiter: %s", err.text);
    secondary_note(s, true, "arbiter.error", err.text);
}

static void end_with(struct secondary *s, enum secondary_end end)
{
    s->ended = true;
    s->end = end;
}

/* When a primary whose link is still up counts as silent. One that was left by order lives, as far
 * as anybody knows, and is given the time that a busy host may take. */
static nsec_t silent_from(struct secondary *s)
{
    struct standby_stats stats;
    standby_snapshot(s->standby, &stats);
    return s->by_order ? clock_now() + ORDERED_PATIENCE
                       : stats.last_frame + s->config.detection_time;
}

/* Every step can be repeated; none is undone. From the grant on nobody else may continue the guest,
 * so a failure here is the end of it: loud, and kept for post-mortem (DESIGN §6). */
static void act_promote(struct secondary *s)
{
    struct secondary_takeover *t = &s->takeover;
    const struct checkpoint_machine_ops *ops = s->config.machine.ops;
    struct standby_takeover steps;
    t->suspected = s->suspected_at;
    t->granted = clock_now();
    if (!t->link)
        standby_supersede(s->standby, silent_from(s));
    int rc = standby_promote(s->standby, &steps, &s->failure);
    if (rc == 0) {
        t->epoch = steps.epoch;
        t->dropped = t->granted + steps.drop;
        t->applied = t->dropped + steps.apply;
        t->loaded = t->applied + steps.load;
        rc = ops->output_open(s->config.machine.context, &s->failure);
    }
    if (rc < 0) {
        error_prefix(&s->failure, "promotion failed");
        end_with(s, SECONDARY_END_FAILED);
        return;
    }
    /* P2: a term that was handed over allows no word before the old primary has acknowledged. */
    if (!t->link)
        ops->announce(s->config.machine.context);
    t->network = clock_now();
    t->term = secondary_known_term(s);
    t->life = s->life;
    end_with(s, SECONDARY_END_PROMOTED);
}

static void carry_out(struct secondary *s, unsigned actions, const char *why)
{
    if (actions & SECONDARY_ACT_CANCEL)
        claim_cancel(s->claim);
    if (actions & SECONDARY_ACT_FOLLOW)
        act_follow(s);
    if (actions & SECONDARY_ACT_UNFOLLOW)
        standby_unfollow(s->standby);
    if (actions & SECONDARY_ACT_CONNECT)
        connector_go(s->connector, secondary_known_term(s));
    if (actions & SECONDARY_ACT_ASK)
        act_ask(s, why);
    if (actions & SECONDARY_ACT_PROMOTE)
        act_promote(s);
}

static const char *event_kind_of(enum secondary_state state)
{
    static const char *const kinds[] = {
        [SECONDARY_CONNECTING] = "secondary.connecting",
        [SECONDARY_SYNCHRONISING] = "sync.started",
        [SECONDARY_READY] = "secondary.ready",
        [SECONDARY_ORPHANED] = "secondary.orphaned",
        [SECONDARY_ASKING] = "arbiter.asked",
        [SECONDARY_PROMOTING] = "failover.promoting",
    };
    return kinds[state];
}

/* The guest went on elsewhere, and its disks with it. */
static void outdate_disks(struct secondary *s)
{
    const struct checkpoint_disks *disks = &s->config.machine.disks;
    if (disks->ops)
        disks->ops->outdate(disks->context, secondary_known_term(s));
}

/* The one place where the state changes. */
void secondary_feed(struct secondary *s, enum secondary_event event, const char *why)
{
    const enum secondary_state before = s->status.state;
    const struct secondary_step step = secondary_fsm_step(before, event);
    if (!step.legal) {
        log_error("secondary", "event \"%s\" in state %s: ignored (%s)",
                  secondary_event_name(event), secondary_state_name(before), why);
        if (s->new_link)
            link_destroy(&s->new_link);
        return;
    }
    if (!*why)
        why = secondary_event_name(event);
    pthread_mutex_lock(&s->lock);
    if (step.actions & SECONDARY_ACT_UNFOLLOW) {
        s->status.peer[0] = '\0';
        s->status.security = (struct link_security){0};
        s->status.streams = 0;
    }
    if (step.state != before) {
        s->status.state = step.state;
        s->status.since = clock_now();
        snprintf(s->status.why, sizeof(s->status.why), "%s", why);
    }
    pthread_mutex_unlock(&s->lock);
    if (step.state == SECONDARY_READY)
        claim_forget(s->claim);
    if (event == SECONDARY_EVENT_SUPERSEDED || event == SECONDARY_EVENT_REFUSED)
        outdate_disks(s);
    /* The grant is already recorded; nothing may delay what follows it. */
    carry_out(s, step.actions, why);
    publish_local(s);
    if (step.state != before) {
        log_info("secondary", "%s -> %s: %s: %s", secondary_state_name(before),
                 secondary_state_name(step.state), secondary_event_name(event), why);
        secondary_note(s, step.state != SECONDARY_READY && step.state != SECONDARY_SYNCHRONISING,
                       event_kind_of(step.state), why);
    }
}

/* ---- letters ---- */

/* Whether the link is up is looked up here, after all letters that came before: a link lost since
 * tells so in the next one. */
static void handle_alive(struct secondary *s, const struct letter *letter)
{
    struct standby_stats stats;
    standby_snapshot(s->standby, &stats);
    secondary_feed(s, stats.following ? SECONDARY_EVENT_WELL : SECONDARY_EVENT_ALIVE, letter->text);
}

/* Could the guest continue from what this side holds? */
static bool holds_guest(const struct secondary *s)
{
    return s->status.state == SECONDARY_ORPHANED || s->status.state == SECONDARY_ASKING;
}

/* The primary is back, but without the guest whose state we hold: it crashed and began anew. To
 * follow it would throw that guest away (P3), so its return is the proof of its death. */
static void meet_stranger(struct secondary *s, const struct letter *letter)
{
    struct link *link = letter->link.link;
    link_destroy(&link);
    struct letter suspicion = {
        .kind = LETTER_SUSPECT, .suspicion = {.certain = true, .host = s->host}, .at = letter->at};
    snprintf(suspicion.text, sizeof(suspicion.text), "the primary restarted without the guest");
    secondary_weigh_suspicion(s, &suspicion);
}

/* A term is on disk before it is used (DESIGN §6). A host that was the owner of that very term, in
 * an earlier life of this process, has lost it: its guest died with it. */
static int record_term(struct secondary *s, term_t term, struct error *err)
{
    const struct term_record record = term_store_current(s->config.terms);
    int rc = 0;
    if (record.term == term && record.ownership == TERM_OWNER)
        rc = term_store_advance(s->config.terms, term, TERM_LOST, err);
    return rc < 0 ? rc : term_store_advance(s->config.terms, term, TERM_STANDBY, err);
}

static void handle_link(struct secondary *s, const struct letter *letter)
{
    struct error err = {0};
    /* Before anything of it is taken over: the term and life known are those of the state held. */
    if (!secondary_fsm_step(s->status.state, SECONDARY_EVENT_CONNECTED).legal) {
        struct link *link = letter->link.link;
        link_destroy(&link);
        log_info("secondary", "a second link in state %s is closed",
                 secondary_state_name(s->status.state));
        return;
    }
    if (holds_guest(s) && letter->link.life != s->life) {
        meet_stranger(s, letter);
        return;
    }
    if (record_term(s, letter->link.term, &err) < 0) {
        struct link *link = letter->link.link;
        link_destroy(&link);
        log_error("secondary", "can't follow: %s", err.text);
        secondary_note(s, true, "term.error", err.text);
        s->failure = err;
        end_with(s, SECONDARY_END_FAILED);
        return;
    }
    pthread_mutex_lock(&s->lock);
    s->status.term = letter->link.term;
    pthread_mutex_unlock(&s->lock);
    s->host = letter->link.host;
    s->life = letter->link.life;
    s->staging_cap = letter->link.staging_cap;
    s->capabilities = letter->link.capabilities;
    s->new_link = letter->link.link;
    secondary_feed(s, SECONDARY_EVENT_CONNECTED, letter->text);
}

static void handle_standby(struct secondary *s, const struct letter *letter)
{
    switch (letter->standby) {
    case STANDBY_EVENT_READY:
        secondary_feed(s, SECONDARY_EVENT_COMMITTED, letter->text);
        break;
    case STANDBY_EVENT_NOT_READY:
        secondary_feed(s, SECONDARY_EVENT_RESYNC, letter->text);
        break;
    case STANDBY_EVENT_UNFIT:
        /* The primary must get its chance to go on alone before it is asked for its time again. */
        connector_rest(s->connector, letter->at + UNFIT_REST);
        secondary_feed(s, SECONDARY_EVENT_RESYNC, letter->text);
        break;
    case STANDBY_EVENT_CLOSED:
    case STANDBY_EVENT_BROKEN:
        secondary_fail_switchover(s, "the link to the primary was lost in the middle: see status");
        secondary_feed(s, SECONDARY_EVENT_LOST, letter->text);
        break;
    case STANDBY_EVENT_GOODBYE:
        secondary_note(s, false, "secondary.stopped", letter->text);
        end_with(s, SECONDARY_END_STOPPED);
        break;
    }
}

/* A grant is worth nothing while a full synchronisation overwrites what is held: the letter that
 * says so is on its way then, and takes the question back. */
static void handle_answer(struct secondary *s, const struct letter *letter)
{
    struct error err = {0};
    enum arbiter_result result = letter->answer.result;
    const bool kept = result == ARBITER_GRANTED && standby_keep(s->standby);
    if (result == ARBITER_GRANTED && !kept)
        result = ARBITER_UNKNOWN;
    const enum claim_outcome outcome = claim_settle(s->claim, letter->answer.number, result,
                                                    letter->answer.term, letter->text, &err);
    if (kept && outcome != CLAIM_GRANTED)
        standby_let_go(s->standby);
    switch (outcome) {
    case CLAIM_GRANTED:
        pthread_mutex_lock(&s->lock);
        s->status.term = letter->answer.term;
        pthread_mutex_unlock(&s->lock);
        secondary_feed(s, SECONDARY_EVENT_GRANTED, letter->text);
        break;
    case CLAIM_REFUSED:
        if (s->set_aside && !s->beyond && letter->answer.term == s->set_aside) {
            s->beyond = true;
            secondary_feed(s, SECONDARY_EVENT_UNANSWERED,
                           "that term was set aside for a hand-over");
            break;
        }
        /* Denied, though nobody else has won: the primary is said to live, and what is held may
         * still be needed. An operator may ask again (failover). */
        if (letter->answer.term <= secondary_known_term(s))
            handle_alive(s, letter);
        else
            secondary_feed(s, SECONDARY_EVENT_REFUSED, letter->text);
        break;
    case CLAIM_UNANSWERED:
        /* The primary may have handed it back meanwhile. */
        s->beyond = false;
        secondary_feed(s, SECONDARY_EVENT_UNANSWERED, err.code ? err.text : letter->text);
        break;
    case CLAIM_STALE:
        break;
    }
}

static void handle(struct secondary *s, const struct letter *letter)
{
    switch (letter->kind) {
    case LETTER_LINK:
        handle_link(s, letter);
        break;
    case LETTER_STANDBY:
        handle_standby(s, letter);
        break;
    case LETTER_FSM:
        if (letter->event == SECONDARY_EVENT_FAILOVER) {
            s->by_order = true;
            s->suspected_at = letter->at;
            s->takeover.last_sign = letter->at;
            snprintf(s->takeover.cause, sizeof(s->takeover.cause), "%s", letter->text);
        }
        secondary_feed(s, letter->event, letter->text);
        break;
    case LETTER_SUSPECT:
        /* Of the others, none is the primary. */
        if (letter->suspicion.host == s->host)
            secondary_weigh_suspicion(s, letter);
        break;
    case LETTER_ALIVE:
        if (letter->suspicion.host == s->host)
            handle_alive(s, letter);
        break;
    case LETTER_ANSWER:
        handle_answer(s, letter);
        break;
    case LETTER_TERM:
        if (letter->term > secondary_known_term(s))
            secondary_feed(s, SECONDARY_EVENT_SUPERSEDED, "the peer owns a higher term");
        break;
    case LETTER_SWITCHOVER:
        secondary_order_switchover(s);
        break;
    case LETTER_STEP:
        secondary_handle_step(s, letter);
        break;
    case LETTER_FAILED:
        /* Nobody's refusal is worth the guest, and anybody may have said it. */
        if (holds_guest(s)) {
            secondary_note(s, true, "secondary.refused", letter->text);
            connector_rest(s->connector, letter->at + REFUSED_REST);
            connector_go(s->connector, secondary_known_term(s));
            break;
        }
        error_set(&s->failure, -ECONNREFUSED, "%s", letter->text);
        end_with(s, SECONDARY_END_FAILED);
        break;
    case LETTER_STOP:
        secondary_note(s, false, "secondary.stopped", letter->text);
        peers_announce_stop(s->config.peers);
        standby_say_goodbye(s->standby, letter->text, clock_now() + GOODBYE_TIMEOUT);
        end_with(s, SECONDARY_END_STOPPED);
        break;
    }
}

/* ---- the interface ---- */

int secondary_create(const struct secondary_config *config, struct secondary **out,
                     struct error *err)
{
    *out = NULL;
    struct secondary *s = calloc(1, sizeof(*s));
    if (!s)
        return error_set(err, -ENOMEM, "secondary: out of memory");
    s->config = *config;
    s->config.session.local.role = SESSION_SECONDARY;
    s->status.state = SECONDARY_CONNECTING;
    s->status.term = term_store_current(config->terms).term;
    s->status.since = clock_now();
    s->recheck_at = INT64_MAX;
    s->spokesman = -1;
    pthread_mutex_init(&s->lock, NULL);
    const struct standby_config standby = {.machine = config->machine,
                                           .slab = config->slab,
                                           .event = on_standby_event,
                                           .switchover = on_switchover,
                                           .context = s};
    const struct connector_config connector = {.uris = config->hosts,
                                               .count = config->peers->count,
                                               .tls = config->tls,
                                               .session = s->config.session,
                                               .connected = on_connected,
                                               .failed = on_connect_failed,
                                               .context = s};
    const struct claim_config claim = {.vm = config->vm,
                                       .who = config->who,
                                       .purpose = ARBITER_PROMOTE,
                                       .timeout = config->arbiter_timeout,
                                       .arbiter = config->arbiter,
                                       .terms = config->terms,
                                       .answered = on_answer,
                                       .context = s};
    int rc = mailbox_create(sizeof(struct letter), &s->mailbox, err);
    if (rc == 0)
        rc = claim_create(&claim, &s->claim, err);
    if (rc == 0)
        rc = standby_create(&standby, &s->standby, err);
    if (rc == 0)
        rc = connector_create(&connector, &s->connector, err);
    if (rc == 0 && s->config.heritage.link)
        rc = secondary_inherit(s, err);
    section_set_destroy(&s->config.heritage.state);
    link_destroy(&s->config.heritage.link);
    if (rc < 0) {
        secondary_destroy(&s);
        return rc;
    }
    *out = s;
    return 0;
}

void secondary_destroy(struct secondary **secondary)
{
    struct secondary *s = *secondary;
    if (!s)
        return;
    connector_destroy(&s->connector);
    if (s->claim)
        claim_cancel(s->claim);
    standby_destroy(&s->standby);
    struct letter letter;
    while (s->mailbox && mailbox_wait(s->mailbox, &letter, 0))
        if (letter.kind == LETTER_LINK)
            link_destroy(&letter.link.link);
    claim_destroy(&s->claim);
    mailbox_destroy(&s->mailbox);
    pthread_mutex_destroy(&s->lock);
    free(s);
    *secondary = NULL;
}

enum secondary_end secondary_run(struct secondary *secondary, struct secondary_takeover *takeover,
                                 struct error *err)
{
    struct secondary *s = secondary;
    publish_local(s);
    if (!s->follows)
        connector_go(s->connector, secondary_known_term(s));
    while (!s->ended) {
        struct letter letter;
        nsec_t deadline = clock_now() + BEAT_REFRESH;
        if (s->recheck_at < deadline)
            deadline = s->recheck_at;
        if (mailbox_wait(s->mailbox, &letter, deadline))
            handle(s, &letter);
        else
            publish_local(s);
        if (clock_now() >= s->recheck_at)
            secondary_recheck_doubt(s);
    }
    *takeover = s->takeover;
    if (s->end == SECONDARY_END_FAILED && err)
        *err = s->failure;
    return s->end;
}

void secondary_snapshot(struct secondary *secondary, struct secondary_status *out)
{
    pthread_mutex_lock(&secondary->lock);
    *out = secondary->status;
    pthread_mutex_unlock(&secondary->lock);
    claim_snapshot(secondary->claim, &out->claim);
}

void secondary_standby_stats(struct secondary *secondary, struct standby_stats *out)
{
    standby_snapshot(secondary->standby, out);
}
