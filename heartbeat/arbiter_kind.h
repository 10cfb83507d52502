/* What a kind of arbiter is to the dispatcher in arbiter.c. Internal to heartbeat/. */
#ifndef KEMARI_HEARTBEAT_ARBITER_KIND_H
#define KEMARI_HEARTBEAT_ARBITER_KIND_H

#include "heartbeat/arbiter.h"

/* One attempt to get an answer. */
struct arbiter_attempt {
    uint64_t number; /* of the request; repeated attempts have the same */
    struct arbiter_request request;
    nsec_t deadline; /* monotonic; after it the attempt is UNKNOWN. INT64_MAX: none */
    int cancel_fd;   /* readable as soon as nobody wants the answer: return UNKNOWN */
};

struct arbiter_kind {
    const char *name;

    /* Copies what it needs from `config` into a new *state. May be NULL (no state). */
    int (*create)(const struct arbiter_config *config, void **state, struct error *err);

    /* Compare-and-swap of the term. Called on the arbiter's thread, one at a time; may block, but
     * must watch `deadline` and `cancel_fd`. Fills `answer` (result, term, text); the dispatcher
     * distrusts it and repeats UNKNOWN. A kind with a memory outside both hosts must grant again
     * what it granted before to the same `who`: that answer was lost. */
    void (*ask)(void *state, const struct arbiter_attempt *attempt, struct arbiter_answer *answer);

    /* An operator's answer to request `number`; any thread, while ask() may be running. NULL: this
     * kind takes none. The dispatcher has checked that the number is the pending one. */
    void (*answer)(void *state, uint64_t number, bool granted);

    /* No attempt waits for its deadline: an operator takes the time it takes. */
    bool patient;

    nsec_t attempt_timeout; /* when none is configured; 0: 5 s */

    /* Both for kinds with a memory outside both hosts, NULL for others; called like ask().
     *
     * probe: could a question be answered now? Changes nothing; of `attempt->request` only `vm` is
     * set. 0, or why not (-ECANCELED when cancel_fd said so).
     * give_back: the asker will never use `next`: if it is ours, the term is `expected` again. 0
     * when `next` is certainly not ours any more; else it is called again. An ask() that is still
     * on its way must not be able to take it again, nor this to undo a later ask(). */
    int (*probe)(void *state, const struct arbiter_attempt *attempt, struct error *err);
    int (*give_back)(void *state, const struct arbiter_attempt *attempt, struct error *err);

    void (*destroy)(void *state); /* may be NULL */
};

extern const struct arbiter_kind arbiter_kind_none;
extern const struct arbiter_kind arbiter_kind_manual;
extern const struct arbiter_kind arbiter_kind_command;
extern const struct arbiter_kind arbiter_kind_etcd;

/* arbiter_create() for a kind at hand instead of a name; `config->kind` is not looked at. */
int arbiter_create_of_kind(const struct arbiter_kind *kind, const struct arbiter_config *config,
                           struct arbiter **out, struct error *err);

/* Waits until `fd` (-1: nothing) or the attempt's cancel_fd is readable or the deadline is over.
 * True when it was `fd`. */
bool arbiter_wait(const struct arbiter_attempt *attempt, int fd);

#endif
