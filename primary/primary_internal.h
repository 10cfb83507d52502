/* Inside of the primary role: primary.c (life, letters, the table), actions.c (what the table
 * orders), begin.c (the first term), visitors.c (the door), doubt.c (a heartbeat that is silent
 * alone), handover.c (planned switchover), release.c (protection ended by order). All of it runs on
 * the role's thread. */
#ifndef KEMARI_PRIMARY_PRIMARY_INTERNAL_H
#define KEMARI_PRIMARY_PRIMARY_INTERNAL_H

#include <pthread.h>

#include "base/mailbox.h"
#include "primary/primary.h"

enum letter_kind {
    LETTER_VISITOR, /* a standby at the door */
    LETTER_FSM,     /* an event for the table */
    LETTER_SUSPECT,
    LETTER_ANSWER,
    LETTER_GUEST_ENDED,
    LETTER_SWITCHOVER, /* an operator's order */
    LETTER_UNPROTECT,  /* likewise */
    LETTER_PROTECT,    /* likewise */
    LETTER_STEP,       /* of a switchover, by the standby */
    LETTER_OFFERED,    /* by the engine: the guest */
    LETTER_STOP,
};

struct letter {
    enum letter_kind kind;
    union {
        struct {
            struct link *link;
            term_t peer_term;
            uint64_t staging_cap;
            uint64_t capabilities;
            unsigned host;
        } visitor;
        struct {
            enum message_switchover_step step;
            term_t term;
        } step;
        enum primary_event event;
        struct {
            uint64_t number;
            enum arbiter_result result;
            term_t term;
        } answer;
        bool failed;
        struct {
            bool certain;
            unsigned host;
        } suspicion;
    };
    char text[ERROR_TEXT_MAX];
};

struct primary {
    /* set at creation */
    struct primary_config config;
    struct mailbox *mailbox;
    struct engine *engine;
    struct claim *claim; /* to the next term */
    uint64_t life;       /* of the guest, see transport/session.h */
    pthread_t porter;    /* waits at the door */
    bool porter_started;

    /* role's thread */
    struct link *visitor; /* of the event being handled */
    uint64_t visitor_staging;
    uint64_t visitor_capabilities;
    unsigned host;   /* the last one that was let in */
    bool peer_known; /* the door is taken */
    bool spoke;      /* this guest has been protected or alone: it may have been heard */
    nsec_t wait_until;
    nsec_t recheck_at; /* when a doubted suspicion is looked at again; INT64_MAX: none */
    uint64_t heard;    /* bytes from the standby when the doubt began */
    char doubt[ERROR_TEXT_MAX];
    bool alarmed;  /* the operator knows of the doubt */
    nsec_t ask_at; /* ASKING, but the standby may still return; or OUTRUN, until it asks again;
                      INT64_MAX: asked, or no need */
    char ask_why[ERROR_TEXT_MAX];
    bool inherited;     /* the guest, and nobody was told yet */
    bool peer_switches; /* the standby takes part in a switchover */
    bool peer_releases; /* it gives up what it holds when it is told to */
    struct release {
        term_t term;     /* to go on alone in */
        nsec_t deadline; /* of the standby's word; INT64_MAX: none is waited for */
    } release;
    struct handover {
        term_t term;     /* that the standby was told to be for a hand-over; 0: none */
        bool reserved;   /* the arbiter set it aside for us, or has no say */
        bool offered;    /* TAKE was sent */
        bool lost;       /* the link on which that was told is gone */
        nsec_t deadline; /* of the step under way; INT64_MAX: none */
    } handover;
    bool ended;
    enum primary_end end;

    pthread_mutex_t lock; /* protects all below */
    struct roster roster;
    struct primary_status status;
};

/* primary.c */
void primary_note(struct primary *p, bool warning, const char *kind, const char *text);
/* Feeds the table: the one place where the state changes. */
void primary_feed(struct primary *p, enum primary_event event, const char *why);

void primary_post_event(struct primary *p, enum primary_event event, const char *why);

/* actions.c */
/* `event` had the table order `actions`. */
void primary_carry_out(struct primary *p, unsigned actions, enum primary_event event,
                       const char *why);
/* Asks the arbiter for the next term. */
void primary_act_ask(struct primary *p, const char *why);
/* What the guest writes from now on is known here alone. */
void primary_own_disks(struct primary *p);
/* Who we are, for standbys that come from now on. */
void primary_introduce(struct primary *p);
/* Who we are, for the heartbeats; `now`: they do not wait for the next beat. */
void primary_publish_local(struct primary *p, bool now);

/* visitors.c */
/* From now on visitors are judged by the roster. */
void primary_open_door(struct primary *p);
void primary_start_porter(struct primary *p);
/* Nobody is judged or brought any more. */
void primary_leave_door(struct primary *p);
/* Somebody was let in by the door. */
void primary_handle_visitor(struct primary *p, struct letter *letter);
/* The next may come. */
void primary_release_door(struct primary *p);

/* handover.c */
void primary_order_switchover(struct primary *p, bool by_standby);
void primary_standby_step(struct primary *p, const struct message_switchover *step);
void primary_act_prepare(struct primary *p);
void primary_act_reserve(struct primary *p);
void primary_act_offer(struct primary *p);
void primary_offered(struct primary *p);
/* When `handover.deadline` has come. */
void primary_switchover_overdue(struct primary *p);
/* After every event, before its actions. */
void primary_switchover_changed(struct primary *p, enum primary_state before,
                                enum primary_event event, const char *why);
/* An answer of the arbiter; true when it was about a hand-over, and is dealt with. */
bool primary_settle_handover(struct primary *p, enum claim_outcome outcome, term_t term,
                             const char *text);

/* release.c */
void primary_order_unprotect(struct primary *p);
void primary_order_protect(struct primary *p);
/* The answer to either. */
void primary_refuse_order(struct primary *p, const char *why);
void primary_act_release(struct primary *p);
void primary_act_dismiss(struct primary *p);
/* The standby says that it gave up what it held. */
void primary_standby_released(struct primary *p, term_t term);
/* When `release.deadline` has come. */
void primary_release_overdue(struct primary *p);
/* After every event, before its actions. */
void primary_release_changed(struct primary *p, enum primary_state before, const char *why);

/* begin.c: true when the guest may begin; false: `ended` and `end` are set. */
bool primary_begin_term(struct primary *p);

/* doubt.c */
enum detector_state primary_peer_state(const struct primary *p);
/* The heartbeat suspects the standby. */
void primary_weigh_suspicion(struct primary *p, const struct letter *letter);
/* When `recheck_at` has come. */
void primary_recheck_doubt(struct primary *p);

#endif
