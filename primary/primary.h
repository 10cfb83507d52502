/* The primary role: the guest runs here.
 *
 * Connects the engine (checkpoint/), the door through which standbys come (transport/), the
 * heartbeat and the arbiter. All decisions are those of primary/fsm.h, taken on one thread, the one
 * inside primary_run(); everything else posts to it.
 *
 * Who may let output go without a standby? Only a state SOLO, reached only by the arbiter's grant
 * of a new term, written to the term store before the first byte leaves (DESIGN §6, P2). */
#ifndef KEMARI_PRIMARY_PRIMARY_H
#define KEMARI_PRIMARY_PRIMARY_H

#include "checkpoint/engine.h"
#include "heartbeat/claim.h"
#include "heartbeat/peers.h"
#include "heartbeat/term.h"
#include "primary/fsm.h"
#include "primary/roster.h"
#include "transport/door.h"

struct primary;

struct primary_config {
    const char *vm;
    const char *who; /* this process, for the arbiter; unique per start */

    struct engine_config engine; /* `event` and `context` are set by the primary */
    /* What the door says about us; role and term are set here. Borrowed. */
    const struct session_party *local;

    struct door *door;        /* borrowed, as all below; NULL: no standby can come */
    struct term_store *terms; /* used on the role's thread only */
    struct arbiter *arbiter;
    struct peers *peers;
    const char *const *hosts; /* names of the hosts that may be the standby, peers->count of them,
                                 in the order in which they are tried */
    nsec_t host_wait;         /* the next one's turn comes after this */
    nsec_t peer_wait;         /* how long to wait for the first standby; 0: for ever */
    nsec_t arbiter_timeout;   /* of one question; it is asked again afterwards */
    nsec_t
        detection_time; /* an acknowledgement younger than this contradicts a heartbeat's silence */
    unsigned send_timeout_ms; /* a standby that takes no byte for so long is lost */
    uint64_t life;            /* of the guest; 0: it begins here */
    bool solo;                /* begins with a grant for its term (a promoted standby) */
    /* The guest was handed over by agreement, in a term that is recorded: the old primary is the
     * standby behind `link`, which is taken over in every case. link NULL: it was not. */
    struct primary_heritage {
        struct link *link;
        unsigned host;         /* of the list */
        uint64_t staging_cap;  /* the peer's, bytes */
        uint64_t capabilities; /* of both */
        struct engine_heritage engine;
    } heritage;

    /* For the operator's log of events, on the role's thread. `kind` as control/events.h. */
    void (*note)(void *context, bool warning, const char *kind, const char *text);
    /* An ordered switchover came to nothing: `why`, and where the guest is. Role's thread. */
    void (*switchover_failed)(void *context, const char *why);
    /* With a heritage: the guest is protected again, or alone. It stood still for `pause`. */
    void (*switchover_done)(void *context, nsec_t pause, term_t term);
    /* What became of primary_unprotect() or primary_protect(): 0, or negative and why not. One
     * call for each, unless the role ends before. Role's thread. */
    void (*protection_ordered)(void *context, int rc, const char *text);
    void *context;
};

enum primary_end {
    PRIMARY_END_STOPPED, /* by the operator, or the guest switched itself off */
    PRIMARY_END_FAILED,  /* the guest can't go on */
    PRIMARY_END_HANDED, /* the guest runs on the other host: follow it, see primary_take_handed() */
    PRIMARY_END_REFUSED, /* the guest never began: the arbiter says that another host owns it */
};

/* Takes the term: a store that says OWNER, or one that has never been used (term 1 then). -EPERM
 * when the store says that this host lost its term: it may only come back as a secondary. */
int primary_create(const struct primary_config *config, struct primary **out, struct error *err);
void primary_destroy(struct primary **primary);

/* Starts the guest, which the machine has been given (booted or promoted), and carries on until the
 * end. A fenced primary stays here, silent, until it is stopped. */
enum primary_end primary_run(struct primary *primary);

/* What a standby on this host begins with, after PRIMARY_END_HANDED: link and state are the
 * caller's. */
struct primary_handed {
    struct engine_handed engine;
    unsigned host; /* of the list: who runs the guest now */
    term_t term;   /* recorded, as of which this host is the standby */
    uint64_t life;
};
int primary_take_handed(struct primary *primary, struct primary_handed *out, struct error *err);

/* ---- any thread ---- */

struct engine *primary_engine(struct primary *primary);
/* The heartbeat suspects that host. `certain`: not by silence alone. */
void primary_suspect(struct primary *primary, unsigned host, const char *why, bool certain);
/* A peer proved or announced a higher term. */
void primary_superseded(struct primary *primary, term_t term);
/* The guest switched itself off, or can't go on: `why` says so. */
void primary_guest_ended(struct primary *primary, bool failed, const char *why);
void primary_stop(struct primary *primary, const char *why);
/* An operator wants the guest on the other host: primary_run() ends with HANDED, or
 * `switchover_failed` is called. */
void primary_switchover(struct primary *primary);

/* An operator wants the guest to go on without a standby, in a term of its own, until the other;
 * `protection_ordered` says what came of it. */
void primary_unprotect(struct primary *primary);
void primary_protect(struct primary *primary);

struct primary_status {
    enum primary_state state;
    term_t term;
    nsec_t since;                  /* of the state, clock_now() */
    char why[ERROR_TEXT_MAX];      /* what led to the state */
    char peer[LINK_PEER_MAX];      /* the standby, "" when there is none */
    unsigned host;                 /* its number in the list, when there is one */
    int bound;                     /* see roster.h */
    struct link_security security; /* of the connection to it */
    unsigned streams;              /* connections to it */
    term_t handing;                /* the guest is being handed over in this term; 0: it is not */
    bool released;                 /* not protected by order: no standby is let in */
    bool beginning;            /* the guest waits for the arbiter's word that nobody else owns it */
    struct claim_status claim; /* the arbiter's last answer */
};

bool primary_is_fenced(struct primary *primary);
void primary_snapshot(struct primary *primary, struct primary_status *out);

#endif
