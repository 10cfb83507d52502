/* Planned switchover on the side that takes the guest; the whole exchange stands in
 * primary/handover.c. */
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "secondary/secondary_internal.h"

void secondary_fail_switchover(struct secondary *s, const char *why)
{
    if (s->ordered && s->config.switchover_failed)
        s->config.switchover_failed(s->config.context, why);
    s->ordered = false;
}

void secondary_order_switchover(struct secondary *s)
{
    static const struct message_switchover request = {.step = MESSAGE_SWITCHOVER_REQUEST};
    struct error err = {0};
    s->ordered = true;
    if (s->status.state != SECONDARY_READY)
        error_set(&err, -ENODATA, "this host is not ready to take the guest over (%s)",
                  secondary_state_name(s->status.state));
    else if (!(s->capabilities & SESSION_CAP_SWITCHOVER))
        error_set(&err, -ENOTSUP, "the primary's kemarid is too old for a switchover");
    else
        standby_send_switchover(s->standby, &request, &err);
    if (err.code)
        secondary_fail_switchover(s, err.text);
}

/* The guest stands still on the other host, and its last state is held here. */
static void take_guest(struct secondary *s, const struct letter *letter)
{
    struct secondary_takeover *t = &s->takeover;
    struct error err = {0};
    const bool due = letter->step.term == s->set_aside && standby_keep(s->standby) &&
                     secondary_fsm_step(s->status.state, SECONDARY_EVENT_HANDED).legal;
    /* The old primary is the standby of that term, and nobody else can be. */
    const char *standby = s->config.peers->count > 1 ? s->config.hosts[s->host] : "";
    int rc = due ? term_store_own(s->config.terms, s->set_aside, standby, &err)
                 : error_set(&err, -EPROTO, "the guest was offered, but not as was agreed");
    if (rc < 0) {
        standby_let_go(s->standby);
        secondary_feed(s, SECONDARY_EVENT_LOST, err.text);
        return;
    }
    t->link = standby_take_link(s->standby);
    t->host = s->host;
    t->offered_term = secondary_known_term(s);
    t->staging_cap = s->staging_cap;
    t->capabilities = s->capabilities;
    t->stood_since = letter->at - letter->step.pause;
    t->last_sign = letter->at;
    snprintf(t->cause, sizeof(t->cause), "planned switchover");
    s->suspected_at = letter->at;
    pthread_mutex_lock(&s->lock);
    s->status.term = s->set_aside;
    pthread_mutex_unlock(&s->lock);
    secondary_feed(s, SECONDARY_EVENT_HANDED, "planned switchover");
    if (s->end != SECONDARY_END_PROMOTED)
        link_destroy(&t->link);
}

void secondary_handle_step(struct secondary *s, const struct letter *letter)
{
    struct error err = {0};
    const struct message_switchover prepared = {.step = MESSAGE_SWITCHOVER_PREPARED,
                                                .term = letter->step.term};
    switch (letter->step.step) {
    case MESSAGE_SWITCHOVER_REFUSED:
        secondary_fail_switchover(s, letter->text);
        break;
    case MESSAGE_SWITCHOVER_PREPARE:
        /* Of a link that is gone, or not of the next term: not answered, so it is given up. */
        if (s->status.state != SECONDARY_READY || letter->step.term != secondary_known_term(s) + 1)
            break;
        s->set_aside = letter->step.term;
        s->beyond = false;
        if (standby_send_switchover(s->standby, &prepared, &err) < 0)
            log_info("secondary", "switchover: %s", err.text);
        break;
    case MESSAGE_SWITCHOVER_TAKE:
        take_guest(s, letter);
        break;
    default:
        break;
    }
}

/* What this side holds and follows from the beginning. */
int secondary_inherit(struct secondary *s, struct error *err)
{
    struct secondary_heritage *h = &s->config.heritage;
    const int rc = term_store_advance(s->config.terms, h->term, TERM_STANDBY, err);
    if (rc < 0)
        return rc;
    s->status.state = SECONDARY_READY;
    s->status.term = h->term;
    s->life = h->life;
    s->host = h->host;
    s->status.host = h->host;
    peers_choose(s->config.peers, h->host);
    s->staging_cap = h->staging_cap;
    s->capabilities = h->capabilities;
    s->follows = true;
    snprintf(s->status.why, sizeof(s->status.why), "planned switchover");
    snprintf(s->status.peer, sizeof(s->status.peer), "%s", link_peer_name(h->link));
    struct link *link = h->link;
    struct section_set *state = h->state;
    h->link = NULL;
    h->state = NULL;
    return standby_follow_heir(s->standby, link, h->term, state, h->epoch, &h->policy, err);
}
