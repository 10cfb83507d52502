/* Planned switchover: how the guest is given to the standby on purpose (docs/failure.md).
 *
 *   PREPARING  PREPARE(t+1) ──► standby ──► PREPARED; then t+1 is requested of the arbiter. The
 * guest runs on, protected: whatever fails until here costs it nothing. HANDING    the engine stops
 * it, commits and releases all it has said, and says TAKE(t+1) HANDED     TAKEN: this host is the
 * standby of term t+1
 *
 * The term t+1 is *for the hand-over only* from PREPARE on: this host never goes on alone in it,
 * and the standby knows. So when one side dies or the link breaks at any point, the other one asks
 * for t+2 and loses nothing: whoever is refused t+1 because it was set aside may still ask for t+2,
 * and in t+1 the new primary releases output only with the old one's acknowledgement. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "primary/primary_internal.h"

/* The guest runs meanwhile. */
#define PREPARE_LIMIT SEC(5)
/* It stands still, until the last checkpoint is committed ... */
#define COMMIT_LIMIT SEC(2)
/* ... and the standby says that it runs there. */
#define TAKE_LIMIT SEC(2)

static bool under_way(const struct primary *p)
{
    return p->status.state == PRIMARY_PREPARING || p->status.state == PRIMARY_HANDING;
}

static void send_step(struct primary *p, enum message_switchover_step step, term_t term,
                      const char *text)
{
    struct message_switchover message = {.step = step, .term = term};
    struct error err = {0};
    snprintf(message.text, sizeof(message.text), "%.*s", MESSAGE_TEXT_MAX - 1, text);
    if (engine_send_switchover(p->engine, &message, &err) < 0)
        log_debug("primary", "switchover: %s", err.text);
}

/* To both operators, of whom one waits. */
static void tell_failure(struct primary *p, const char *why)
{
    primary_note(p, true, "switchover.failed", why);
    if (p->config.switchover_failed)
        p->config.switchover_failed(p->config.context, why);
}

static bool is_possible(struct primary *p, char why[ERROR_TEXT_MAX])
{
    char unreachable[ERROR_TEXT_MAX];
    if (under_way(p))
        snprintf(why, ERROR_TEXT_MAX, "a switchover is under way already");
    else if (p->status.state != PRIMARY_PROTECTED || !engine_is_replicating(p->engine))
        snprintf(why, ERROR_TEXT_MAX, "the guest is not protected (%s): nobody could take it over",
                 primary_state_name(p->status.state));
    else if (!p->peer_switches)
        snprintf(why, ERROR_TEXT_MAX, "the secondary's kemarid is too old for a switchover");
    else if (!arbiter_reachable(p->config.arbiter, unreachable))
        snprintf(why, ERROR_TEXT_MAX, "the arbiter can't be reached: %.160s", unreachable);
    else
        return true;
    return false;
}

void primary_order_switchover(struct primary *p, bool by_standby)
{
    char why[ERROR_TEXT_MAX];
    if (is_possible(p, why)) {
        primary_feed(p, PRIMARY_EVENT_ORDERED,
                     by_standby ? "ordered on the secondary's host" : "ordered by an operator");
        return;
    }
    if (by_standby)
        send_step(p, MESSAGE_SWITCHOVER_REFUSED, 0, why);
    else if (p->config.switchover_failed)
        p->config.switchover_failed(p->config.context, why);
}

void primary_standby_step(struct primary *p, const struct message_switchover *step)
{
    if (step->step == MESSAGE_SWITCHOVER_REQUEST)
        primary_order_switchover(p, true);
    else if (step->step == MESSAGE_SWITCHOVER_RELEASED)
        primary_standby_released(p, step->term);
    else if (p->status.state == PRIMARY_PREPARING && step->term == p->handover.term)
        primary_feed(p, PRIMARY_EVENT_PREPARED, "");
}

/* ---- actions ---- */

void primary_act_prepare(struct primary *p)
{
    struct handover *h = &p->handover;
    const term_t term = p->status.term + 1;
    if (h->term != term)
        *h = (struct handover){.term = term};
    h->offered = false;
    h->deadline = clock_now() + PREPARE_LIMIT;
    send_step(p, MESSAGE_SWITCHOVER_PREPARE, term, "");
}

void primary_act_reserve(struct primary *p)
{
    struct handover *h = &p->handover;
    struct error err = {0};
    /* An arbiter without a memory has no term to set aside: the owner's word is enough. */
    h->reserved = h->reserved || !arbiter_remembers(p->config.arbiter);
    if (h->reserved)
        primary_post_event(p, PRIMARY_EVENT_RESERVED, "");
    else if (claim_reserve(p->claim, h->term - 1, "switchover", &err) < 0)
        primary_post_event(p, PRIMARY_EVENT_GIVEN_UP, err.text);
}

void primary_act_offer(struct primary *p)
{
    p->handover.deadline = clock_now() + COMMIT_LIMIT;
    pthread_mutex_lock(&p->lock);
    p->status.handing = p->handover.term;
    pthread_mutex_unlock(&p->lock);
    engine_hand_over(p->engine, p->handover.term);
}

/* TAKE is on its way. This host is the standby of that term, if anything; it must know so after a
 * crash, and there is time now. */
void primary_offered(struct primary *p)
{
    struct error err = {0};
    if (p->status.state != PRIMARY_HANDING)
        return;
    p->handover.offered = true;
    p->handover.deadline = clock_now() + TAKE_LIMIT;
    if (term_store_advance(p->config.terms, p->handover.term, TERM_STANDBY, &err) < 0)
        log_error("primary", "switchover: %s", err.text);
}

void primary_switchover_overdue(struct primary *p)
{
    struct handover *h = &p->handover;
    h->deadline = INT64_MAX;
    if (p->status.state == PRIMARY_PREPARING) {
        primary_feed(p, PRIMARY_EVENT_GIVEN_UP,
                     "neither the secondary nor the arbiter answered in time; the guest was not "
                     "stopped");
    } else if (p->status.state == PRIMARY_HANDING && !h->offered && engine_take_back(p->engine)) {
        primary_feed(p, PRIMARY_EVENT_GIVEN_UP,
                     "the last checkpoint was not committed in time; the guest goes on here");
    } else if (p->status.state == PRIMARY_HANDING) {
        primary_feed(p, PRIMARY_EVENT_OVERDUE, "the secondary did not take the guest in time");
    }
}

/* ---- what came of it ---- */

static void tell_success(struct primary *p)
{
    const enum primary_state state = p->status.state;
    if (!p->inherited || (state != PRIMARY_PROTECTED && state != PRIMARY_SOLO))
        return;
    p->inherited = false;
    if (p->config.switchover_done)
        p->config.switchover_done(p->config.context, engine_handover_pause(p->engine),
                                  p->status.term);
}

/* The term that was set aside is ours, though not to go on alone in: the next one is to be asked
 * for. */
static void adopt_reserved_term(struct primary *p)
{
    const struct term_record record = term_store_current(p->config.terms);
    struct error err = {0};
    pthread_mutex_lock(&p->lock);
    p->status.term = p->handover.term;
    pthread_mutex_unlock(&p->lock);
    /* The same host is the standby, if it comes back. */
    if (record.term < p->handover.term &&
        term_store_own(p->config.terms, p->handover.term, record.standby, &err) < 0)
        log_error("primary", "switchover: %s", err.text);
    primary_introduce(p);
}

void primary_switchover_changed(struct primary *p, enum primary_state before,
                                enum primary_event event, const char *why)
{
    struct handover *h = &p->handover;
    const bool lost = event == PRIMARY_EVENT_LOST_HELD;
    tell_success(p);
    if (before == PRIMARY_HANDING && p->status.state != PRIMARY_HANDING) {
        pthread_mutex_lock(&p->lock);
        p->status.handing = 0;
        pthread_mutex_unlock(&p->lock);
    }
    /* A standby that was synchronised since has nothing of that promise. */
    if (event == PRIMARY_EVENT_COMMITTED && h->lost)
        *h = (struct handover){.deadline = INT64_MAX};
    if (lost && h->term) {
        h->lost = true;
        if (h->reserved && p->status.term < h->term)
            adopt_reserved_term(p);
    }
    const bool ended = (before == PRIMARY_PREPARING || before == PRIMARY_HANDING) &&
                       !under_way(p) && p->status.state != PRIMARY_HANDED;
    if (!ended)
        return;
    h->deadline = INT64_MAX;
    char text[ERROR_TEXT_MAX];
    snprintf(text, sizeof(text), "%.180s%s", why,
             lost ? "; the guest is here, and goes on when the arbiter has said so" : "");
    tell_failure(p, text);
    if (!lost && p->status.state == PRIMARY_PROTECTED)
        send_step(p, MESSAGE_SWITCHOVER_REFUSED, 0, text);
}

bool primary_settle_handover(struct primary *p, enum claim_outcome outcome, term_t term,
                             const char *text)
{
    struct handover *h = &p->handover;
    const bool granted = outcome == CLAIM_GRANTED;
    if (p->status.state == PRIMARY_PREPARING && granted) {
        h->reserved = true;
        primary_feed(p, PRIMARY_EVENT_RESERVED, text);
        return true;
    }
    const bool asks = p->status.state == PRIMARY_ASKING || p->status.state == PRIMARY_OUTRUN;
    if (asks && granted && h->term == term && !h->reserved) {
        h->reserved = true;
        adopt_reserved_term(p);
        primary_feed(p, PRIMARY_EVENT_UNANSWERED, "that term was promised to a hand-over");
        return true;
    }
    return false;
}

int primary_take_handed(struct primary *primary, struct primary_handed *out, struct error *err)
{
    *out = (struct primary_handed){
        .host = primary->host, .term = primary->handover.term, .life = primary->life};
    return engine_take_handed(primary->engine, &out->engine, err);
}
