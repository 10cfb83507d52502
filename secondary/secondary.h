/* The secondary role: stands by, decides, takes over.
 *
 * Connects the standby, the connector, the heartbeat and the arbiter. All decisions are those of
 * secondary/fsm.h, taken on one thread, the one inside secondary_run(). */
#ifndef KEMARI_SECONDARY_SECONDARY_H
#define KEMARI_SECONDARY_SECONDARY_H

#include "heartbeat/claim.h"
#include "heartbeat/peers.h"
#include "heartbeat/term.h"
#include "secondary/fsm.h"
#include "secondary/standby.h"
#include "transport/session.h"

struct secondary;

struct secondary_config {
    const char *vm;
    const char *who; /* this process, for the arbiter; unique per start */

    struct checkpoint_machine machine; /* borrowed, as all below */
    struct slab *slab;
    const char *const *hosts; /* addresses at which the primary may be, peers->count of them */
    const struct tls_credentials *tls; /* for tls:// ones; or NULL */
    struct session_config session;     /* role and term are set here */

    struct term_store *terms; /* used on the role's thread only */
    struct arbiter *arbiter;
    struct peers *peers;
    /* This host has just handed the guest over to the one behind `link`, and is its standby: see
     * primary_take_handed(). Taken over in every case. link NULL: it looks for a primary. */
    struct secondary_heritage {
        struct link *link;
        unsigned host; /* of the list */
        struct section_set *state;
        epoch_t epoch;
        term_t term; /* recorded */
        uint64_t life;
        uint64_t staging_cap;
        uint64_t capabilities;
        struct policy policy;
    } heritage;
    nsec_t detection_time; /* data younger than this contradicts a heartbeat's silence */
    nsec_t arbiter_timeout;

    /* For the operator's log of events, on the role's thread. */
    void (*note)(void *context, bool warning, const char *kind, const char *text);
    /* A switchover that was ordered here came to nothing. Role's thread. */
    void (*switchover_failed)(void *context, const char *why);
    void *context;
};

enum secondary_end {
    SECONDARY_END_PROMOTED, /* the machine holds the guest: run it, as a primary that is solo, or,
                               with takeover.link, of which the old primary is the standby */
    SECONDARY_END_STOPPED,  /* by the operator, or the primary ended the guest */
    SECONDARY_END_FAILED,   /* can't be this primary's secondary, or promotion failed */
};

/* When each step of a promotion was done, clock_now(). */
struct secondary_takeover {
    term_t term;
    epoch_t epoch;
    uint64_t life; /* of the guest, for the primary that this becomes */
    char cause[ERROR_TEXT_MAX];
    nsec_t last_sign; /* of life of the old primary */
    nsec_t suspected;
    nsec_t granted; /* and recorded */
    nsec_t dropped;
    nsec_t applied;
    nsec_t loaded;
    nsec_t network;
    /* A planned switchover: */
    struct link *link;    /* to the old primary; the caller's. NULL: it was a failover */
    unsigned host;        /* the old primary's number in the list */
    uint64_t staging_cap; /* of the old primary */
    uint64_t capabilities;
    term_t offered_term; /* of the link until now */
    nsec_t stood_since;  /* the guest, clock_now() */
};

int secondary_create(const struct secondary_config *config, struct secondary **out,
                     struct error *err);
void secondary_destroy(struct secondary **secondary);

/* Carries on until the end. `takeover` is filled in when PROMOTED, `err` when FAILED. */
enum secondary_end secondary_run(struct secondary *secondary, struct secondary_takeover *takeover,
                                 struct error *err);

/* ---- any thread ---- */

/* The heartbeat suspects that host. `certain`: not by silence alone. */
void secondary_suspect(struct secondary *secondary, unsigned host, const char *why, bool certain);
/* That was wrong. */
void secondary_alive(struct secondary *secondary, unsigned host);
/* A peer announced this term. */
void secondary_superseded(struct secondary *secondary, term_t term);
void secondary_stop(struct secondary *secondary, const char *why);
/* An operator wants the guest here. -ENODATA with the reason when this side could not take over. */
int secondary_failover(struct secondary *secondary, struct error *err);
/* An operator wants the guest here, by agreement with the primary: secondary_run() ends with
 * PROMOTED, or `switchover_failed` is called. */
void secondary_switchover(struct secondary *secondary);

struct secondary_status {
    enum secondary_state state;
    term_t term; /* of the state held, or the last one known */
    nsec_t since;
    char why[ERROR_TEXT_MAX];     /* what led to the state */
    char trouble[ERROR_TEXT_MAX]; /* why the last attempt to connect failed, "" after success; of
                                     several hosts the primary's word counts, if there is one */
    char peer[LINK_PEER_MAX];
    unsigned host;                 /* the peer's number in the list */
    struct link_security security; /* of the connection to it */
    unsigned streams;              /* connections to it */
    struct claim_status claim;     /* the arbiter's last answer */
};

void secondary_snapshot(struct secondary *secondary, struct secondary_status *out);
void secondary_standby_stats(struct secondary *secondary, struct standby_stats *out);

#endif
