/* Who comes to the door, and who of them may be the standby (primary/roster.h). Two threads besides
 * the role's: a visitor's, on which it is judged, and the porter's, which brings who was let in. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "primary/primary_internal.h"

/* On a visitor's thread. */
static enum session_reason judge_visitor(void *context, const struct session_party *peer,
                                         struct error *why)
{
    struct primary *p = context;
    pthread_mutex_lock(&p->lock);
    const bool released = p->status.released;
    pthread_mutex_unlock(&p->lock);
    if (released) {
        error_set(why, -EBUSY, "the guest is not protected, by order of the operator");
        return SESSION_TURN;
    }
    const int host = roster_find(&p->roster, peer->host);
    if (host < 0) {
        error_set(why, host, "%s is not in the primary's list of hosts",
                  peer->host[0] ? peer->host : "a host that does not say where it is found");
        return SESSION_STRANGER;
    }
    pthread_mutex_lock(&p->lock);
    const enum roster_verdict verdict = roster_judge(&p->roster, (unsigned)host, clock_now(), why);
    pthread_mutex_unlock(&p->lock);
    return verdict == ROSTER_WELCOME ? SESSION_OK : SESSION_TURN;
}

static void *porter_main(void *context)
{
    struct primary *p = context;
    struct session *session = malloc(sizeof(*session));
    if (!session)
        abort();
    for (;;) {
        struct letter letter = {.kind = LETTER_VISITOR};
        struct error err = {0};
        const int rc = door_wait(p->config.door, 0, &letter.visitor.link, session, &err);
        if (rc == -ECANCELED)
            break;
        if (rc == -ESTALE)
            primary_post_event(p, PRIMARY_EVENT_SUPERSEDED, err.text);
        if (rc < 0)
            continue;
        letter.visitor.peer_term = session->peer.term;
        letter.visitor.staging_cap = session->peer.staging_cap;
        letter.visitor.capabilities = session->capabilities;
        const int host = roster_find(&p->roster, session->peer.host);
        letter.visitor.host = host < 0 ? p->roster.count : (unsigned)host;
        snprintf(letter.text, sizeof(letter.text), "%s", link_peer_name(letter.visitor.link));
        mailbox_post(p->mailbox, &letter);
    }
    free(session);
    return NULL;
}

void primary_release_door(struct primary *p)
{
    if (p->peer_known)
        door_release(p->config.door);
    p->peer_known = false;
}

/* False: it may not come, or that can't be written down. Whoever is let in may hold a state of this
 * term from then on, and this process may die and begin anew in the same term. */
static bool bind_standby(struct primary *p, unsigned host, struct error *err)
{
    if (p->status.released) {
        error_set(err, -EBUSY, "the guest is not protected, by order of the operator");
        return false;
    }
    if (host >= p->roster.count) {
        error_set(err, -ENOENT, "it is not in the list of hosts");
        return false;
    }
    pthread_mutex_lock(&p->lock);
    const enum roster_verdict verdict = roster_judge(&p->roster, host, clock_now(), err);
    pthread_mutex_unlock(&p->lock);
    if (verdict == ROSTER_BOUND)
        return false;
    if (p->roster.count > 1 && term_store_bind(p->config.terms, p->roster.names[host], err) < 0)
        return false;
    pthread_mutex_lock(&p->lock);
    roster_bind(&p->roster, host);
    pthread_mutex_unlock(&p->lock);
    p->host = host;
    peers_choose(p->config.peers, host);
    return true;
}

void primary_handle_visitor(struct primary *p, struct letter *letter)
{
    struct error err = {0};
    p->peer_known = true;
    const struct primary_step step = primary_fsm_step(p->status.state, PRIMARY_EVENT_CONNECTED);
    if (step.actions & PRIMARY_ACT_PROTECT && !bind_standby(p, letter->visitor.host, &err)) {
        log_error("primary", "%s is not let in: %s", letter->text, err.text);
        link_destroy(&letter->visitor.link);
        primary_release_door(p);
        return;
    }
    p->visitor = letter->visitor.link;
    p->visitor_staging = letter->visitor.staging_cap;
    p->visitor_capabilities = letter->visitor.capabilities;
    primary_feed(p, PRIMARY_EVENT_CONNECTED, letter->text);
}

void primary_open_door(struct primary *p)
{
    if (p->config.door)
        door_set_judge(p->config.door, judge_visitor, p);
}

void primary_start_porter(struct primary *p)
{
    p->porter_started = p->config.door && pthread_create(&p->porter, NULL, porter_main, p) == 0;
    if (p->config.door && !p->porter_started)
        log_error("primary", "can't start the thread at the door: no standby can come");
}

void primary_leave_door(struct primary *p)
{
    if (p->porter_started) {
        if (p->end == PRIMARY_END_HANDED)
            door_leave(p->config.door);
        else
            door_shut(p->config.door);
        pthread_join(p->porter, NULL);
    }
    if (p->config.door)
        door_set_judge(p->config.door, NULL, NULL);
}
