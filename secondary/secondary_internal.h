/* Inside of the secondary role: secondary.c (life, letters, actions), doubt.c (a heartbeat that is
 * silent alone), handover.c (planned switchover). All of it runs on the role's thread. */
#ifndef KEMARI_SECONDARY_SECONDARY_INTERNAL_H
#define KEMARI_SECONDARY_SECONDARY_INTERNAL_H

#include <pthread.h>

#include "base/mailbox.h"
#include "secondary/connector.h"
#include "secondary/secondary.h"

enum letter_kind {
    LETTER_LINK,    /* the connector found the primary */
    LETTER_STANDBY, /* an event of the standby */
    LETTER_FSM,     /* an event for the table */
    LETTER_SUSPECT,
    LETTER_ALIVE, /* that was wrong */
    LETTER_ANSWER,
    LETTER_TERM,
    LETTER_SWITCHOVER, /* an operator's order */
    LETTER_STEP,       /* of a switchover, by the primary */
    LETTER_FAILED,     /* for good */
    LETTER_STOP,
};

struct letter {
    enum letter_kind kind;
    union {
        struct {
            struct link *link;
            term_t term;
            uint64_t life;
            uint64_t staging_cap;
            uint64_t capabilities;
            unsigned host;
        } link;
        struct {
            enum message_switchover_step step;
            term_t term;
            nsec_t pause;
        } step;
        enum standby_event standby;
        enum secondary_event event;
        struct {
            bool certain;
            unsigned host;
        } suspicion; /* and its end */
        struct {
            uint64_t number;
            enum arbiter_result result;
            term_t term;
        } answer;
        term_t term;
    };
    nsec_t at; /* clock_now() of posting */
    char text[ERROR_TEXT_MAX];
};

struct secondary {
    /* set at creation */
    struct secondary_config config;
    struct mailbox *mailbox;
    struct standby *standby;
    struct claim *claim; /* to the next term */
    struct connector *connector;

    /* role's thread */
    struct link *new_link; /* of the event being handled */
    nsec_t recheck_at;     /* when a doubted suspicion is looked at again; INT64_MAX: none */
    char doubt[ERROR_TEXT_MAX];
    nsec_t suspected_at;
    bool by_order;         /* not a suspicion: an operator wants the guest here */
    unsigned host;         /* that is, or was, followed */
    uint64_t life;         /* of its guest */
    uint64_t staging_cap;  /* of the primary */
    uint64_t capabilities; /* of both */
    bool ordered;          /* an operator of this host waits for a switchover */
    /* The term that the primary has promised never to go on alone in (primary/handover.c); 0: none.
     * Being refused it proves nothing: then the one after it is asked for. */
    term_t set_aside;
    bool beyond;  /* that one is asked for */
    bool follows; /* from the beginning, see secondary_heritage */
    bool ended;
    enum secondary_end end;
    struct error failure;
    struct secondary_takeover takeover;

    pthread_mutex_t lock; /* protects all below */
    int spokesman;        /* the host whose words `trouble` are, as a primary; -1: none */
    struct secondary_status status;
};

/* secondary.c */
void secondary_note(struct secondary *s, bool warning, const char *kind, const char *text);
/* Feeds the table: the one place where the state changes. */
void secondary_feed(struct secondary *s, enum secondary_event event, const char *why);
term_t secondary_known_term(struct secondary *s);

/* doubt.c */
/* The heartbeat suspects the primary. */
void secondary_weigh_suspicion(struct secondary *s, const struct letter *letter);
/* When `recheck_at` has come. */
void secondary_recheck_doubt(struct secondary *s);

/* handover.c */
void secondary_order_switchover(struct secondary *s);
void secondary_handle_step(struct secondary *s, const struct letter *letter);
/* To the operator of this host, if one waits. */
void secondary_fail_switchover(struct secondary *s, const char *why);
/* What this side holds and follows from the beginning; at creation. */
int secondary_inherit(struct secondary *s, struct error *err);

#endif
