/* Inside of the primary role: primary.c (life, letters, actions), begin.c (the first term), doubt.c
 * (a heartbeat that is silent alone). All of it runs on the role's thread. */
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
        } visitor;
        enum primary_event event;
        struct {
            uint64_t number;
            enum arbiter_result result;
            term_t term;
        } answer;
        bool failed;
        bool certain;
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
    bool peer_known; /* the door is taken */
    bool spoke;      /* this guest has been protected or alone: it may have been heard */
    nsec_t wait_until;
    nsec_t recheck_at; /* when a doubted suspicion is looked at again; INT64_MAX: none */
    uint64_t heard;    /* bytes from the standby when the doubt began */
    char doubt[ERROR_TEXT_MAX];
    bool alarmed;  /* the operator knows of the doubt */
    nsec_t ask_at; /* ASKING, but the standby may still return; INT64_MAX: asked, or no need */
    char ask_why[ERROR_TEXT_MAX];
    bool ended;
    enum primary_end end;

    pthread_mutex_t lock; /* protects all below */
    struct primary_status status;
};

/* primary.c */
void primary_note(struct primary *p, bool warning, const char *kind, const char *text);
/* Feeds the table: the one place where the state changes. */
void primary_feed(struct primary *p, enum primary_event event, const char *why);

/* begin.c: true when the guest may begin; false: `ended` and `end` are set. */
bool primary_begin_term(struct primary *p);

/* doubt.c */
enum detector_state primary_peer_state(const struct primary *p);
/* The heartbeat suspects the standby. */
void primary_weigh_suspicion(struct primary *p, const struct letter *letter);
/* When `recheck_at` has come. */
void primary_recheck_doubt(struct primary *p);

#endif
