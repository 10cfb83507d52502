/* A claim: how a role gets from "I want to go on alone" to a term that it may use.
 *
 *   claim_ask() ──► arbiter ──► answered(number, answer) ──► the role's own thread ──►
 * claim_settle() │ GRANTED, and on disk ◄─────────────────────────────────────┤ REFUSED, UNANSWERED
 * (no answer, or not on disk: ask again) ◄┤ STALE (of a claim that was taken back)
 * ◄────────────────────┘
 *
 * The rule that both roles share stands here: a grant counts once it is durable, and until then it
 * is no answer (DESIGN §6).
 *
 * Threads: `answered` runs on the arbiter's thread and should only post; the snapshot may be taken
 * on any thread; everything else is called on the role's thread. */
#ifndef KEMARI_HEARTBEAT_CLAIM_H
#define KEMARI_HEARTBEAT_CLAIM_H

#include "heartbeat/arbiter.h"
#include "heartbeat/term.h"

struct claim;

struct claim_config {
    const char *vm; /* strings and objects are borrowed */
    const char *who;
    enum arbiter_purpose purpose;
    nsec_t timeout; /* of one question; 0: asks until it is taken back */
    struct arbiter *arbiter;
    struct term_store *terms; /* used in claim_settle() only */
    /* The answer to question `number`: bring both to claim_settle(). */
    void (*answered)(void *context, uint64_t number, enum arbiter_result result, term_t term,
                     const char *text);
    void *context;
};

enum claim_outcome { CLAIM_STALE, CLAIM_GRANTED, CLAIM_REFUSED, CLAIM_UNANSWERED };

/* What is known of the last answer, for status. */
struct claim_status {
    bool answered;
    enum arbiter_result result; /* valid when `answered` */
    char text[ERROR_TEXT_MAX];
};

int claim_create(const struct claim_config *config, struct claim **out, struct error *err);
/* Takes back what is open. */
void claim_destroy(struct claim **claim);

/* Asks for the term after `term`. Errors as arbiter_request(). */
int claim_ask(struct claim *claim, term_t term, const char *why, struct error *err);

/* Sets the term after `term` aside for a hand-over: a grant of it is not recorded here, since it is
 * another host that will own it. Errors as arbiter_request(). */
int claim_reserve(struct claim *claim, term_t term, const char *why, struct error *err);

/* For a primary that is about to begin, with an arbiter that remembers: asks for term 1 (`recorded`
 * 0), or whether `recorded`, which is on disk as this host's own, is still the current term. */
int claim_begin(struct claim *claim, term_t recorded, struct error *err);

/* Takes the question back: an answer that is under way will be STALE, and what the arbiter has
 * granted meanwhile is handed back to it (arbiter_give_back()), or the peer would be refused. */
void claim_cancel(struct claim *claim);

/* Judges an answer; a grant is made durable first. `err` says why when UNANSWERED for want of a
 * disk and is untouched otherwise. */
enum claim_outcome claim_settle(struct claim *claim, uint64_t number, enum arbiter_result result,
                                term_t term, const char *text, struct error *err);

/* What the arbiter said, or failed to say, is of a time that is over. */
void claim_forget(struct claim *claim);
void claim_snapshot(struct claim *claim, struct claim_status *out);

#endif
