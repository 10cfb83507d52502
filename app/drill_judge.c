#include "app/drill_judge.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

/* The host that is struck, and the one that stays. */
static const struct drill_view *victim(const struct drill_scenario *s, const struct drill_pair *p)
{
    return drill_strikes_other(s) ? &p->other : &p->local;
}

static const struct drill_view *survivor(const struct drill_scenario *s, const struct drill_pair *p)
{
    return drill_strikes_other(s) ? &p->local : &p->other;
}

/* ---- before ---- */

static int check_hosts(const struct drill_pair *p, struct error *err)
{
    if (!p->local.there)
        return error_set(err, -EPERM, "this host's daemon does not answer");
    if (!p->other.there)
        return error_set(err, -EPERM, "the other host's kemarictl (--peer) shows no status");
    if (!is(p->local.vm, p->other.vm))
        return error_set(err, -EPERM, "--peer shows another machine (%s) than this host's (%s)",
                         p->other.vm, p->local.vm);
    if (p->local.pid == p->other.pid && is(p->local.role, p->other.role))
        return error_set(err, -EPERM, "--peer shows this host's daemon, not the other's");
    return 0;
}

static int check_protected(const char *where, const struct drill_view *view, struct error *err)
{
    if (is(view->arbiter_state, "unreachable"))
        return error_set(err, -EBUSY, "%s can't reach the arbiter: nobody could go on", where);
    if (!view->protected)
        return error_set(err, -EBUSY, "%s says that the guest is not protected: %s", where,
                         view->reason);
    return 0;
}

/* Somebody has to decide, unless the guest stays whatever happens. */
static int check_arbiter(const struct drill_scenario *s, const char *kind, struct error *err)
{
    const unsigned all = DRILL_DATA | DRILL_HEARTBEAT;
    if (is(kind, "none") && (s->wires & all) == all)
        return error_set(err, -EBUSY,
                         "the arbiter is \"none\": with both hosts alive and cut off from each "
                         "other, the guest would run twice");
    if (is(kind, "manual") && s->outcome == DRILL_VICTIM_LOSES)
        return error_set(err, -EBUSY,
                         "the arbiter is \"manual\": the guest would stand still until somebody "
                         "answers \"kemarictl grant\" on %s host",
                         drill_strikes_other(s) ? "this" : "the other");
    return 0;
}

int drill_judge_before(const struct drill_scenario *s, const struct drill_pair *p,
                       struct error *err)
{
    int rc = check_hosts(p, err);
    if (rc == 0 && s->standby_only && !is(p->local.role, "secondary"))
        rc = error_set(err, -EPERM, "%s is for the secondary's host; this one is %s", s->name,
                       p->local.role);
    if (rc == 0 && !(is(p->local.role, "primary") && is(p->other.role, "secondary")) &&
        !(is(p->local.role, "secondary") && is(p->other.role, "primary")))
        rc = error_set(err, -EBUSY, "these hosts are no primary and its secondary (%s and %s)",
                       p->local.role, p->other.role);
    if (rc == 0)
        rc = check_protected("this host", &p->local, err);
    if (rc == 0)
        rc = check_protected("the other host", &p->other, err);
    return rc == 0 ? check_arbiter(s, p->local.arbiter, err) : rc;
}

/* ---- meanwhile ---- */

static bool newly_owns(const struct drill_view *before, const struct drill_view *now)
{
    return drill_view_owns(now) && now->term > before->term;
}

bool drill_judge_settled(const struct drill_scenario *s, const struct drill_pair *before,
                         const struct drill_pair *now)
{
    switch (s->outcome) {
    case DRILL_VICTIM_LOSES:
        return newly_owns(survivor(s, before), survivor(s, now));
    case DRILL_SWAPS:
        return is(before->local.role, "primary") ? newly_owns(&before->other, &now->other)
                                                 : newly_owns(&before->local, &now->local);
    case DRILL_STAYS:
    case DRILL_EITHER:
        break;
    }
    return false; /* these last their time */
}

bool drill_judge_protected(const struct drill_pair *p)
{
    return p->local.there && p->other.there && p->local.protected && p->other.protected &&
           drill_view_owns(&p->local) != drill_view_owns(&p->other);
}

/* ---- after ---- */

static void take_steps(const struct drill_view *heir, const struct drill_view *before,
                       struct drill_report *r)
{
    const struct drill_takeover *t = &heir->takeover;
    if (!t->happened || t->term <= before->term)
        return;
    const struct {
        enum drill_step step;
        uint64_t ns;
    } steps[] = {{DRILL_DETECTED, t->suspect},
                 {DRILL_GRANTED, t->grant},
                 {DRILL_PROMOTED, t->run},
                 {DRILL_FIRST_OUTPUT, t->first_output}};
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
        r->steps[steps[i].step] = steps[i].ns ? (int64_t)steps[i].ns : -1;
    snprintf(r->cause, sizeof(r->cause), "%s", t->cause);
}

static bool moved_rightly(const struct drill_scenario *s, const struct drill_pair *before,
                          bool moved)
{
    switch (s->outcome) {
    case DRILL_VICTIM_LOSES:
        return moved == is(victim(s, before)->role, "primary");
    case DRILL_SWAPS:
        return moved;
    case DRILL_STAYS:
        return !moved;
    case DRILL_EITHER:
        break;
    }
    return true;
}

static void judge(const struct drill_scenario *s, const struct drill_pair *before,
                  const struct drill_pair *after, const char *trouble, struct drill_report *r)
{
    const bool local = drill_view_owns(&after->local), other = drill_view_owns(&after->other);
    const char *where = local ? "this host" : "the other host";
    r->survived = false;
    if (trouble[0])
        snprintf(r->why, sizeof(r->why), "%s", trouble);
    else if (local && other)
        snprintf(r->why, sizeof(r->why), "both hosts say that they run the guest");
    else if (!local && !other)
        snprintf(r->why, sizeof(r->why), "no host says that it runs the guest");
    else if (r->steps[DRILL_PROTECTED] < 0)
        snprintf(r->why, sizeof(r->why), "the guest runs on %s and was not protected again: %s",
                 where, local ? after->local.reason : after->other.reason);
    else if (!moved_rightly(s, before, r->moved))
        snprintf(r->why, sizeof(r->why), "the guest %s, which this failure does not ask for",
                 r->moved ? "moved" : "did not move");
    else
        r->survived = true;
    if (r->survived)
        snprintf(r->why, sizeof(r->why), "the guest runs on %s, protected again after %.2f s",
                 where, (double)r->steps[DRILL_PROTECTED] / 1e9);
}

void drill_judge_after(const struct drill_scenario *s, const struct drill_pair *before,
                       const struct drill_pair *after, const char *trouble, struct drill_report *r)
{
    const bool was_local = is(before->local.role, "primary");
    const bool local = drill_view_owns(&after->local), other = drill_view_owns(&after->other);
    const struct drill_view *owner = local ? &after->local : &after->other;
    const struct drill_view *owner_before = local ? &before->local : &before->other;
    r->moved = (local || other) && local != was_local;
    r->term_before =
        before->local.term > before->other.term ? before->local.term : before->other.term;
    r->term_after = after->local.term > after->other.term ? after->local.term : after->other.term;
    r->longest_hold_ns = owner->hold_max;
    if (r->moved)
        take_steps(owner, owner_before, r);
    /* One that was promoted counts from there on; one that stayed, from its start. */
    const bool same = owner->pid == owner_before->pid && !r->moved;
    const uint64_t sent = owner->bytes_sent, sent_before = same ? owner_before->bytes_sent : 0;
    r->resync_bytes = (sent > sent_before ? sent - sent_before : 0) + owner->disk_bytes_sent;
    judge(s, before, after, trouble, r);
}
