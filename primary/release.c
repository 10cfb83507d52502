/* Protection ended by an operator's order, and taken up again.
 *
 * In RELEASING the next term is requested of the arbiter, as after the loss of the standby, while
 * the standby is still there: as long as there is no answer the guest goes on as it was, though not
 * protected, since the answer may be all that was lost, and is asked for again. In LEAVING that
 * term is ours, so nobody is promoted from what the standby holds; it is told to give that up
 * (RELEASE, RELEASED), and the link is closed. In SOLO output leaves at once, and no visitor is let
 * in until the order ends.
 *
 * An arbiter without a memory would have to ask a person, or a fence agent, about a standby that
 * lives and can answer for itself: there RELEASE is sent in RELEASING, and RELEASED means that
 * nobody else holds a state of this guest any more. Without that word the link is dropped, and what
 * follows is the loss of a standby like any other.
 *
 * The order belongs to the guest: it ends with it. */
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "primary/primary_internal.h"

/* For the standby's word. Where the arbiter has a memory the guest is alone already by its grant.
 */
#define RELEASE_LIMIT SEC(2)

#define ENDED_TEXT    "the guest runs alone: not protected, by order, until \"kemarictl protect\""

static bool under_way(enum primary_state state)
{
    return state == PRIMARY_RELEASING || state == PRIMARY_LEAVING;
}

static void answer(struct primary *p, int rc, const char *text)
{
    if (p->config.protection_ordered)
        p->config.protection_ordered(p->config.context, rc, text);
}

static void set_released(struct primary *p, bool released)
{
    pthread_mutex_lock(&p->lock);
    p->status.released = released;
    pthread_mutex_unlock(&p->lock);
}

/* The term is this host's alone: on disk, when the arbiter has none to remember it. */
static int own_next_term(struct primary *p, struct error *err)
{
    const int rc = term_store_advance(p->config.terms, p->release.term, TERM_OWNER, err);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&p->lock);
    p->status.term = p->release.term;
    roster_alone(&p->roster);
    pthread_mutex_unlock(&p->lock);
    primary_introduce(p);
    return 0;
}

/* ---- orders ---- */

static const char *refusal_of(enum primary_state state)
{
    switch (state) {
    case PRIMARY_WAITING:
        return "the guest has not been protected yet: it waits for its first secondary";
    case PRIMARY_SYNCHRONISING:
        return "a secondary is being synchronised: order it when the guest is protected";
    case PRIMARY_ASKING:
        return "the secondary is lost, and the arbiter is asked already: see status";
    case PRIMARY_OUTRUN:
        return "another host was granted the guest";
    case PRIMARY_FENCED:
        return "this host lost the guest, which is stopped for good";
    case PRIMARY_PREPARING:
    case PRIMARY_HANDING:
    case PRIMARY_HANDED:
        return "a switchover is under way";
    case PRIMARY_RELEASING:
    case PRIMARY_LEAVING:
        return "that is under way already";
    default:
        return NULL;
    }
}

/* NULL when the guest may be released from its standby. */
static const char *unprotect_refusal(struct primary *p, char text[ERROR_TEXT_MAX])
{
    char unreachable[ERROR_TEXT_MAX];
    const char *why = refusal_of(p->status.state);
    if (!p->config.door)
        return "this machine has no other host that could protect it";
    if (p->status.released)
        return "the guest is not protected by order already";
    if (why || p->status.state == PRIMARY_SOLO)
        return why;
    if (!engine_is_replicating(p->engine))
        return "the secondary is catching up: order it when the guest is protected";
    if (!p->peer_releases)
        return "the secondary's kemarid is too old for it: stop that daemon instead";
    if (arbiter_reachable(p->config.arbiter, unreachable))
        return NULL;
    snprintf(text, ERROR_TEXT_MAX, "the arbiter can't be reached: %.160s", unreachable);
    return text;
}

void primary_order_unprotect(struct primary *p)
{
    char text[ERROR_TEXT_MAX];
    const char *why = unprotect_refusal(p, text);
    if (why) {
        answer(p, -EBUSY, why);
    } else if (p->status.state == PRIMARY_SOLO) {
        set_released(p, true);
        primary_note(p, true, "protection.off", ENDED_TEXT);
        answer(p, 0, ENDED_TEXT);
    } else {
        primary_feed(p, PRIMARY_EVENT_UNPROTECT, "ordered by an operator");
    }
}

void primary_order_protect(struct primary *p)
{
    const enum primary_state state = p->status.state;
    if (!p->config.door)
        answer(p, -EINVAL, "this machine has no other host that could protect it");
    else if (state == PRIMARY_FENCED || state == PRIMARY_OUTRUN || under_way(state))
        answer(p, -EBUSY,
               under_way(state) ? "its protection is just being ended" : refusal_of(state));
    else if (state == PRIMARY_PROTECTED && engine_is_replicating(p->engine))
        answer(p, -EALREADY, "the guest is protected already");
    else if (!p->status.released)
        answer(p, 0, "a secondary is let in as soon as it comes");
    else {
        pthread_mutex_lock(&p->lock);
        p->status.released = false;
        roster_reopen(&p->roster, clock_now());
        pthread_mutex_unlock(&p->lock);
        primary_note(p, false, "protection.on", "an operator lets a secondary in again");
        answer(p, 0, "a secondary is let in again");
    }
}

void primary_refuse_order(struct primary *p, const char *why)
{
    answer(p, -EBUSY, why);
}

/* ---- actions ---- */

void primary_act_release(struct primary *p)
{
    struct error err = {0};
    p->release.term = p->status.term + 1;
    if (!arbiter_remembers(p->config.arbiter))
        primary_act_dismiss(p);
    else if (claim_ask(p->claim, p->status.term, "protection ended by order", &err) < 0)
        primary_post_event(p, PRIMARY_EVENT_GIVEN_UP, err.text);
}

void primary_act_dismiss(struct primary *p)
{
    const struct message_switchover message = {.step = MESSAGE_SWITCHOVER_RELEASE,
                                               .term = p->release.term};
    struct error err = {0};
    p->release.deadline = clock_now() + RELEASE_LIMIT;
    if (engine_send_switchover(p->engine, &message, &err) < 0)
        log_debug("primary", "release: %s", err.text); /* the loss of the link follows */
}

void primary_standby_released(struct primary *p, term_t term)
{
    struct error err = {0};
    if (!under_way(p->status.state) || term != p->release.term)
        return;
    if (p->status.state == PRIMARY_RELEASING && arbiter_remembers(p->config.arbiter))
        return; /* it was not told to: its word is worth nothing */
    if (p->status.state == PRIMARY_RELEASING && own_next_term(p, &err) < 0) {
        log_error("primary", "release: %s", err.text);
        primary_feed(p, PRIMARY_EVENT_OVERDUE, err.text);
        return;
    }
    primary_feed(p, PRIMARY_EVENT_FREED, "");
}

void primary_release_overdue(struct primary *p)
{
    p->release.deadline = INT64_MAX;
    if (under_way(p->status.state))
        primary_feed(p, PRIMARY_EVENT_OVERDUE, "the secondary did not answer in time");
}

/* ---- what came of it ---- */

void primary_release_changed(struct primary *p, enum primary_state before, const char *why)
{
    const enum primary_state state = p->status.state;
    if (state == before)
        return;
    if (state == PRIMARY_LEAVING)
        set_released(p, true);
    if (state == PRIMARY_FENCED)
        set_released(p, false);
    if (!under_way(before) || under_way(state))
        return;
    p->release.deadline = INT64_MAX;
    if (state == PRIMARY_SOLO) {
        primary_note(p, true, "protection.off", ENDED_TEXT);
        answer(p, 0, ENDED_TEXT);
        return;
    }
    char text[ERROR_TEXT_MAX];
    snprintf(text, sizeof(text), "%.200s; %s", why,
             state == PRIMARY_PROTECTED ? "the guest is protected as before" : "see status");
    primary_note(p, true, "protection.kept", text);
    answer(p, -EBUSY, text);
}
