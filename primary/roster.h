/* Which host of the list may be the standby now. Pure.
 *
 * The list names the hosts beside this one, the preferred one first. Two rules, of which the first
 * carries the promises and the second is a matter of taste:
 *
 * 1. *One standby to a term.* A host that was let in may hold, from then on, a state of this term
 *    that it may be promoted from, whatever became of the link. No other may come until this
 *    primary has won a new term to go on alone in: the arbiter refuses that host from then on,
 *    since it asks for a term that is over. Were another one let in and to commit before that, the
 *    first could still be granted the next term, with a state older than what was seen (P1).
 *    The host is *bound*, and written down with the term before it holds anything: this process may
 *    die and begin anew in the same term.
 * 2. *In turn.* Host i may come when the guest has been unprotected for i times `patience`. One
 *    whose synchronisation broke off rests for a while, so that the next has its chance.
 *
 * With one host in the list there is nothing to choose, and neither rule applies: that is a pair.
 *
 *         nobody ── let in ──► bound ── link lost before it could hold anything ──► nobody
 *                               │  ▲                                                  ▲
 *                               └──┘ link lost: it alone may come back                │
 *                               └──────────────── a new term was won ─────────────────┘ */
#ifndef KEMARI_PRIMARY_ROSTER_H
#define KEMARI_PRIMARY_ROSTER_H

#include "base/error.h"
#include "base/types.h"
#include "heartbeat/peers.h"
#include "heartbeat/term.h"

#define ROSTER_NOBODY  (-1) /* holds a state of this term, or may */
#define ROSTER_UNKNOWN (-2) /* somebody may: it was not written down who, or is not in the list */

enum roster_verdict {
    ROSTER_WELCOME,
    ROSTER_BOUND, /* another host may hold a state of this term */
    ROSTER_EARLY, /* others come before it, or it has failed just now */
};

struct roster {
    unsigned count;
    const char *const *names; /* `count` of them; borrowed */
    nsec_t patience;
    int bound;    /* a host's number, or one of the above */
    nsec_t since; /* when the guest was protected last, or this roster began */
    bool protected;
    struct roster_host {
        unsigned failures;
        nsec_t rest_until;
    } hosts[PEERS_MAX];
};

void roster_init(struct roster *roster, unsigned count, const char *const *names, nsec_t patience,
                 nsec_t now);

/* Who is bound, by the record of a term that this host owned already when its process began. */
void roster_recall(struct roster *roster, const struct term_record *record);

/* The number of that host; -ENOENT when it is not in the list. With one host in the list it is that
 * one, whatever it is called. */
int roster_find(const struct roster *roster, const char *name);

/* May that host come? `why` gets a sentence when it may not. */
enum roster_verdict roster_judge(const struct roster *roster, unsigned host, nsec_t now,
                                 struct error *why);

/* It was let in. */
void roster_bind(struct roster *roster, unsigned host);
/* The guest is protected. */
void roster_protected(struct roster *roster);
/* The link to the bound host is gone; `empty`: it can't hold a state of this term. */
void roster_lost(struct roster *roster, bool empty, nsec_t now);
/* After a time in which nobody was let in, by order: the turns begin anew. */
void roster_reopen(struct roster *roster, nsec_t now);
/* A new term was won, to go on alone in. */
void roster_alone(struct roster *roster);

/* Pure. How long a host rests after so many synchronisations in a row that broke off. */
nsec_t roster_rest(unsigned failures);

#endif
