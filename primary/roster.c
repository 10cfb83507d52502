#include "primary/roster.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define REST     SEC(1)
#define REST_MAX SEC(32)

void roster_init(struct roster *roster, unsigned count, const char *const *names, nsec_t patience,
                 nsec_t now)
{
    assert(count <= PEERS_MAX);
    *roster = (struct roster){
        .count = count, .names = names, .patience = patience, .bound = ROSTER_NOBODY, .since = now};
}

void roster_recall(struct roster *roster, const struct term_record *record)
{
    if (roster->count < 2 || !record->term || strcmp(record->standby, TERM_STANDBY_NONE) == 0)
        return;
    const int host = roster_find(roster, record->standby);
    roster->bound = host >= 0 ? host : ROSTER_UNKNOWN;
}

int roster_find(const struct roster *roster, const char *name)
{
    if (roster->count == 1)
        return 0;
    for (unsigned i = 0; i < roster->count; i++)
        if (strcmp(roster->names[i], name) == 0)
            return (int)i;
    return -ENOENT;
}

enum roster_verdict roster_judge(const struct roster *roster, unsigned host, nsec_t now,
                                 struct error *why)
{
    const struct roster_host *h = &roster->hosts[host];
    if (roster->count < 2 || roster->bound == (int)host)
        return ROSTER_WELCOME;
    if (roster->bound == ROSTER_UNKNOWN) {
        error_set(why, -EBUSY,
                  "it is not known which host was the standby in this term: another one may come "
                  "in the next term");
        return ROSTER_BOUND;
    }
    if (roster->bound != ROSTER_NOBODY) {
        error_set(why, -EBUSY,
                  "%s is the standby in this term: another host may come when it has been given up",
                  roster->names[roster->bound]);
        return ROSTER_BOUND;
    }
    const nsec_t turn = roster->since + roster->patience * (nsec_t)host;
    const nsec_t due = h->rest_until > turn ? h->rest_until : turn;
    if (now >= due)
        return ROSTER_WELCOME;
    error_set(why, -EBUSY, "%s: its turn comes in %lld ms%s", roster->names[host],
              (long long)((due - now) / MSEC(1)) + 1,
              h->rest_until > turn ? ", its last synchronisation broke off"
                                   : ", others come before it in the list");
    return ROSTER_EARLY;
}

void roster_bind(struct roster *roster, unsigned host)
{
    roster->bound = (int)host;
}

void roster_protected(struct roster *roster)
{
    roster->protected = true;
    if (roster->bound >= 0)
        roster->hosts[roster->bound] = (struct roster_host){0};
}

void roster_lost(struct roster *roster, bool empty, nsec_t now)
{
    if (roster->protected)
        roster->since = now;
    if (!roster->protected && roster->bound >= 0) {
        struct roster_host *h = &roster->hosts[roster->bound];
        h->rest_until = now + roster_rest(++h->failures);
    }
    roster->protected = false;
    if (empty)
        roster->bound = ROSTER_NOBODY;
}

void roster_reopen(struct roster *roster, nsec_t now)
{
    roster->since = now;
}

void roster_alone(struct roster *roster)
{
    roster->bound = ROSTER_NOBODY;
}

nsec_t roster_rest(unsigned failures)
{
    nsec_t rest = REST;
    for (unsigned i = 1; i < failures && rest < REST_MAX; i++)
        rest *= 2;
    return rest;
}
