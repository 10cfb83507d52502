/* The arbiter: the place outside both hosts where a term is granted by compare-and-swap.
 *
 * Whoever wants to go on alone asks: "if the term of `vm` is `expected`, make it `next` and me the
 * owner". Asking is asynchronous: the arbiter has a thread of its own on which the kind's blocking
 * code runs, and on which the callback is called, exactly once per request unless it is cancelled.
 * It is never called from inside arbiter_request().
 *
 * Attempts that bring no trustworthy answer are repeated until the deadline. An answer that can't
 * be trusted is no answer: a grant of another term than the one asked for, a refusal with a term
 * below the one we already hold, anything a kind can't read.
 *
 * Lost answers are safe. An arbiter with a memory (etcd, disk) grants again what it granted before
 * to the same `who`, and refuses anybody else. An operator's grant (manual) is for the request with
 * that number alone: it says that the other host is dead *now*, and is void when the request was
 * taken back. */
#ifndef KEMARI_HEARTBEAT_ARBITER_H
#define KEMARI_HEARTBEAT_ARBITER_H

#include "base/error.h"
#include "base/types.h"

#define ARBITER_TEXT_MAX      128 /* of each string of a request, including the terminating zero */
#define ARBITER_ENDPOINTS_MAX 8
#define ARBITER_URL_MAX       256 /* of an endpoint, with the zero */

struct arbiter;

enum arbiter_purpose {
    ARBITER_PROMOTE,  /* a secondary wants to take over */
    ARBITER_SOLO,     /* a primary wants to release output without a standby */
    ARBITER_START,    /* a primary wants to begin */
    ARBITER_HANDOVER, /* a primary sets the next term aside, for the side it hands the guest to */
};

struct arbiter_request {
    const char *vm;
    const char *who; /* this process: host name and start instance; unique per process start */
    enum arbiter_purpose purpose;
    term_t expected; /* the term the asker believes to be current */
    term_t next;     /* > expected */
    const char *why; /* for people and logs: "peer silent on 2 paths" */
    nsec_t timeout;  /* until the callback says UNKNOWN; 0: keep asking until cancelled */
    bool held;       /* ARBITER_START: `next` is recorded on this host as its own already, by an
                        earlier process; the question is whether that still holds */
};

enum arbiter_result {
    ARBITER_GRANTED, /* `term` is ours. Record it durably (term.h), then act */
    ARBITER_REFUSED, /* somebody else has it, or the operator said no: see `term` */
    ARBITER_UNKNOWN, /* no answer in time: hold output and ask again */
};

struct arbiter_answer {
    enum arbiter_result result;
    term_t term;               /* granted: = next; refused: the current term, >= expected
                                  (= expected: nobody else won, it was denied) */
    char text[ERROR_TEXT_MAX]; /* one phrase for people */
    unsigned attempts;         /* made for this request */
};

/* On the arbiter's thread, without a lock held; may call arbiter_request() for the next question.
 */
typedef void (*arbiter_callback)(void *owner, const struct arbiter_answer *answer);

struct arbiter_etcd_config {
    const char *const *endpoints; /* "http://HOST:PORT" or "https://...", NULL terminated */
    const char *key_prefix;       /* before the VM's name; NULL: "/kemari/" */
    const char *ca_file;          /* PEM, each may be NULL */
    const char *cert_file;
    const char *key_file;
    const char *user; /* NULL: no login */
    const char *password;
};

struct arbiter_config {
    const char *kind;           /* "none", "manual", "command", "etcd" */
    const char *const *command; /* command: argv of the agent, NULL terminated, [0] absolute */
    struct arbiter_etcd_config etcd;
    nsec_t attempt_timeout; /* of one attempt; 0: the kind's own. manual: no limit */
    nsec_t retry_delay;     /* between attempts; 0: 200 ms */

    /* Kinds that can be probed (etcd): every so often, while nothing is asked, it is tried whether
     * a question about `vm` would be answered. 0: never. */
    nsec_t probe_interval;
    const char *vm;
    /* Tells changes, the first finding included, on the arbiter's thread without a lock; or NULL.
     */
    void (*reachable)(void *context, bool reachable, const char *text);
    void *context;
};

/* Everything in `config` is copied. -EINVAL with a sentence for an unknown kind or option. */
int arbiter_create(const struct arbiter_config *config, struct arbiter **out, struct error *err);

/* Cancels what is pending and ends the thread. Not from the callback. */
void arbiter_destroy(struct arbiter **arbiter);

/* Queues the request (strings are copied). -EBUSY while another is pending, -EINVAL for next <=
 * expected or a missing or overlong string. One to an operator (kind `manual`) that ended UNKNOWN
 * stays open for his answer, unless it was about a hand-over: made again, for the same `vm`, `who`,
 * purpose and terms, it keeps its number; another one, or a cancellation, ends it. */
int arbiter_request(struct arbiter *arbiter, const struct arbiter_request *request,
                    arbiter_callback callback, void *owner, struct error *err);

/* Takes the pending request back. After the return its callback will not run (a running one is
 * waited for, unless called from it). The term may have been granted nevertheless: ask again with
 * the same `who` to learn it. True when there was one to cancel. */
bool arbiter_cancel(struct arbiter *arbiter);

/* For an asker that took its request back, or dropped the answer, and will never use the term: the
 * arbiter may have granted it, and would refuse it to the peer from then on. Hands it back in the
 * background, until that has succeeded or the next arbiter_request() (which is granted what it
 * was granted before). Nothing happens with kinds that have no memory. */
void arbiter_give_back(struct arbiter *arbiter, const struct arbiter_request *request);

/* Has a memory outside both hosts: it knows the current term before anybody fails, and a primary
 * claims its term there before it begins. */
bool arbiter_remembers(const struct arbiter *arbiter);

/* False when the last probe or attempt brought no answer; `text` says why. */
bool arbiter_reachable(struct arbiter *arbiter, char text[ERROR_TEXT_MAX]);

/* A request that has no answer yet, or that stays open, for status. */
struct arbiter_pending {
    uint64_t number; /* of the request, from 1 */
    char vm[ARBITER_TEXT_MAX];
    char who[ARBITER_TEXT_MAX];
    char why[ARBITER_TEXT_MAX];
    enum arbiter_purpose purpose;
    bool held;
    term_t expected;
    term_t next;
    nsec_t since; /* monotonic */
    unsigned attempts;
    bool answerable;           /* an operator can answer it: kind `manual` */
    char last[ERROR_TEXT_MAX]; /* what the last attempt said, "" before */
};

/* False when nothing is pending. */
bool arbiter_pending(struct arbiter *arbiter, struct arbiter_pending *out);

/* The operator's answer (kind `manual`). `number`: of the request meant, 0: the pending one.
 * -ENOENT: nothing pending or another number; -ENOTSUP: another kind; -EALREADY: answered
 * differently before. The same answer to the same number again succeeds. After 0 the request ends
 * with this answer, even if its time is up meanwhile: at the latest when it is made again. */
int arbiter_answer(struct arbiter *arbiter, uint64_t number, bool granted, struct error *err);

const char *arbiter_kind_name(const struct arbiter *arbiter);

const char *arbiter_purpose_name(enum arbiter_purpose purpose); /* "promote" */

#endif
