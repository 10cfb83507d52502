/* When to cut: the pure decision (DESIGN §4.1), and what a policy may be.
 *
 * A policy belongs to the guest, not to a host: an operator sets it on the running primary, every
 * epoch that is cut under a new one tells the standby so, and a promoted standby goes on with the
 * policy of the epoch that it continues from. A daemon that starts takes its configuration. */
#ifndef KEMARI_CHECKPOINT_POLICY_H
#define KEMARI_CHECKPOINT_POLICY_H

#include "base/error.h"
#include "base/types.h"
#include "transport/message.h"

enum policy_kind {
    POLICY_PIPELINED, /* the first output cuts; more gathers while an epoch is in flight */
    POLICY_KEMARI,    /* as pipelined, and the guest stays parked from cut to commit */
    POLICY_INTERVAL,  /* a fixed period */
};

#define POLICY_WINDOW_MAX      8
#define POLICY_PERIOD_MIN      USEC(100) /* of both intervals */
#define POLICY_PERIOD_MAX      SEC(60)
#define POLICY_STAGING_CAP_MIN (UINT64_C(8) << 20)

struct policy {
    enum policy_kind kind;
    nsec_t interval;       /* POLICY_INTERVAL: from cut to cut */
    nsec_t max_interval;   /* a cut is due after this, whatever happens */
    unsigned window;       /* epochs in flight, 1..POLICY_WINDOW_MAX */
    uint64_t dirty_budget; /* pages, not 0; more than this is worth a cut */
    uint64_t staging_cap;  /* bytes of staging memory in use, on either side; what a host has set
                              aside at its start is a limit of its own */
};

/* Is all of it legal, together? -EINVAL with a phrase that names the option as in the configuration
 * file. */
int policy_check(const struct policy *policy, struct error *err);
bool policy_equal(const struct policy *a, const struct policy *b);

/* On the wire. policy_from_message() checks: -EINVAL. */
struct message_policy policy_to_message(const struct policy *policy);
int policy_from_message(const struct message_policy *message, struct policy *out,
                        struct error *err);

struct policy_input {
    nsec_t now;
    nsec_t last_cut;
    nsec_t output_since; /* oldest output of the gathering epoch, 0 when there is none */
    unsigned in_flight;  /* epochs cut and not yet acknowledged */
    uint64_t dirty;      /* pages known to be dirty (a lower bound) */
    bool requested;      /* an operator wants one */
};

enum policy_trigger {
    POLICY_TRIGGER_NONE,
    POLICY_TRIGGER_OUTPUT,
    POLICY_TRIGGER_TIME,
    POLICY_TRIGGER_DIRTY,
    POLICY_TRIGGER_REQUEST,
    POLICY_TRIGGER_COUNT
};

struct policy_decision {
    enum policy_trigger trigger; /* NONE: wait */
    nsec_t wake_at; /* when NONE: look again then at the latest; INT64_MAX: on events */
    bool throttle;  /* a cut is due for dirt but the window is full: stop the guest */
};

struct policy_decision policy_decide(const struct policy *policy, const struct policy_input *input);

const char *policy_kind_name(enum policy_kind kind);

#endif
