/* What the table orders (fsm.h), as far as it is not the part of a switchover or a release. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "primary/primary_internal.h"

/* A standby whose heartbeat is heard may come back for this long after its link was lost, before
 * the arbiter is asked (DESIGN §6, data path only). */
#define RETURN_LIMIT SEC(3)
/* An outrun primary asks the arbiter this often whether the term was handed back. */
#define OUTRUN_PAUSE SEC(1)

void primary_publish_local(struct primary *p, bool now)
{
    struct engine_stats *stats = malloc(sizeof(*stats));
    if (!stats)
        return;
    engine_snapshot(p->engine, stats);
    pthread_mutex_lock(&p->lock);
    const bool fenced = p->status.state == PRIMARY_FENCED;
    const struct heartbeat_local local = {
        .role = p->status.state == PRIMARY_SOLO ? PACKET_ROLE_SOLO : PACKET_ROLE_PRIMARY,
        .term = p->status.term,
        .epoch = stats->committed,
        .guest_alive = !fenced,
    };
    pthread_mutex_unlock(&p->lock);
    free(stats);
    peers_set_local(p->config.peers, &local, now);
}

static void act_protect(struct primary *p)
{
    struct error err = {0};
    struct link *link = p->visitor;
    p->visitor = NULL;
    p->peer_switches = p->visitor_capabilities & SESSION_CAP_SWITCHOVER;
    p->peer_releases = p->visitor_capabilities & SESSION_CAP_RELEASE;
    link_set_timeouts(link, p->config.send_timeout_ms, 0);
    pthread_mutex_lock(&p->lock);
    snprintf(p->status.peer, sizeof(p->status.peer), "%s", link_peer_name(link));
    p->status.host = p->host;
    p->status.security = *link_security(link);
    p->status.streams = link_streams(link);
    const term_t term = p->status.term;
    pthread_mutex_unlock(&p->lock);
    if (peers_partner(p->config.peers))
        heartbeat_hint_session(peers_partner(p->config.peers));
    if (engine_protect(p->engine, link, term, p->visitor_staging, p->visitor_capabilities, &err) ==
        0)
        return;
    link_destroy(&link);
    primary_post_event(p, PRIMARY_EVENT_LOST_HELD, err.text);
}

void primary_act_ask(struct primary *p, const char *why)
{
    struct error err = {0};
    p->ask_at = INT64_MAX;
    pthread_mutex_lock(&p->lock);
    const term_t term = p->status.term;
    pthread_mutex_unlock(&p->lock);
    if (claim_ask(p->claim, term, why, &err) == 0)
        return;
    log_error("primary", "can't ask the arbiter: %s", err.text);
    primary_note(p, true, "arbiter.error", err.text);
}

/* The link is gone. The heartbeat may know that the standby is not. */
static void ask_or_wait(struct primary *p, const char *why)
{
    if (primary_peer_state(p) != DETECTOR_ALIVE) {
        primary_act_ask(p, why);
        return;
    }
    p->ask_at = clock_now() + RETURN_LIMIT;
    snprintf(p->ask_why, sizeof(p->ask_why), "%s", why);
}

/* Somebody else was granted the term. It may come back. */
static void ask_again_later(struct primary *p, const char *why)
{
    p->ask_at = clock_now() + OUTRUN_PAUSE;
    snprintf(p->ask_why, sizeof(p->ask_why), "%s", why);
}

static void act_cancel(struct primary *p)
{
    p->ask_at = INT64_MAX;
    claim_cancel(p->claim);
}

/* Who we are, for standbys that come from now on. A fenced host is no primary, nor is one that has
 * handed its guest over, and an outrun one may not be: they are refused, and keep what they hold.
 */
void primary_introduce(struct primary *p)
{
    if (!p->config.door)
        return;
    struct session_party local = *p->config.local;
    local.life = p->life;
    pthread_mutex_lock(&p->lock);
    const enum primary_state state = p->status.state;
    const bool none = state == PRIMARY_FENCED || state == PRIMARY_OUTRUN || state == PRIMARY_HANDED;
    local.role = none ? SESSION_SECONDARY : SESSION_PRIMARY;
    local.term = p->status.term;
    pthread_mutex_unlock(&p->lock);
    door_set_local(p->config.door, &local);
}

/* The guest may never speak again under any term that this host has held. */
static void act_fence(struct primary *p)
{
    engine_fence(p->engine);
    primary_introduce(p);
    struct error err = {0};
    const struct checkpoint_disks *disks = &p->config.engine.machine.disks;
    pthread_mutex_lock(&p->lock);
    const term_t term = p->status.term;
    pthread_mutex_unlock(&p->lock);
    if (term_store_advance(p->config.terms, term, TERM_LOST, &err) < 0)
        log_error("primary", "can't record that term %llu is lost: %s", (unsigned long long)term,
                  err.text);
    if (disks->ops)
        disks->ops->outdate(disks->context, term);
}

void primary_own_disks(struct primary *p)
{
    const struct checkpoint_disks *disks = &p->config.engine.machine.disks;
    pthread_mutex_lock(&p->lock);
    const term_t term = p->status.term;
    pthread_mutex_unlock(&p->lock);
    if (disks->ops)
        disks->ops->own(disks->context, term);
}

void primary_carry_out(struct primary *p, unsigned actions, enum primary_event event,
                       const char *why)
{
    if (actions & PRIMARY_ACT_TURN_AWAY) {
        link_destroy(&p->visitor);
        if (p->status.state == PRIMARY_FENCED || p->status.state == PRIMARY_OUTRUN)
            primary_release_door(p);
    }
    if (actions & PRIMARY_ACT_DROP)
        engine_drop_link(p->engine, why);
    if (actions & PRIMARY_ACT_CANCEL)
        act_cancel(p);
    if (actions & PRIMARY_ACT_PROTECT)
        act_protect(p);
    /* A standby that was offered the guest does not come back to be a standby. */
    const bool may_return = event == PRIMARY_EVENT_LOST_HELD && !(actions & PRIMARY_ACT_GO_ON);
    if (actions & PRIMARY_ACT_ASK && may_return)
        ask_or_wait(p, why);
    else if (actions & PRIMARY_ACT_ASK && event == PRIMARY_EVENT_OUTRUN)
        ask_again_later(p, why);
    else if (actions & PRIMARY_ACT_ASK)
        primary_act_ask(p, why);
    if (actions & PRIMARY_ACT_OPEN) {
        primary_own_disks(p);
        engine_open(p->engine, NULL);
    }
    if (actions & PRIMARY_ACT_FENCE)
        act_fence(p);
    if (actions & PRIMARY_ACT_PREPARE)
        primary_act_prepare(p);
    if (actions & PRIMARY_ACT_RESERVE)
        primary_act_reserve(p);
    if (actions & PRIMARY_ACT_OFFER)
        primary_act_offer(p);
    if (actions & PRIMARY_ACT_GO_ON)
        engine_take_back(p->engine);
    if (actions & PRIMARY_ACT_RELEASE)
        primary_act_release(p);
    if (actions & PRIMARY_ACT_DISMISS)
        primary_act_dismiss(p);
}
