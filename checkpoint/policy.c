#include "checkpoint/policy.h"

#include <errno.h>
#include <inttypes.h>

/* A guest that dirties this many budgets while the window is full is stopped until an epoch
 * commits, so that the next epoch still fits into the staging cap. */
#define THROTTLE_BUDGETS 2

static enum policy_trigger due(const struct policy *policy, const struct policy_input *in,
                               nsec_t period)
{
    if (in->requested)
        return POLICY_TRIGGER_REQUEST;
    if (in->dirty > policy->dirty_budget)
        return POLICY_TRIGGER_DIRTY;
    if (in->now - in->last_cut >= period)
        return POLICY_TRIGGER_TIME;
    return POLICY_TRIGGER_NONE;
}

struct policy_decision policy_decide(const struct policy *policy, const struct policy_input *in)
{
    const bool timed = policy->kind == POLICY_INTERVAL;
    const nsec_t period = timed ? policy->interval : policy->max_interval;
    struct policy_decision d = {.trigger = due(policy, in, period), .wake_at = INT64_MAX};
    if (d.trigger == POLICY_TRIGGER_NONE && !timed && in->output_since && in->in_flight == 0)
        d.trigger = POLICY_TRIGGER_OUTPUT;
    if (in->in_flight >= policy->window) {
        d.throttle = in->dirty > THROTTLE_BUDGETS * policy->dirty_budget;
        d.trigger = POLICY_TRIGGER_NONE;
        return d;
    }
    if (d.trigger == POLICY_TRIGGER_NONE)
        d.wake_at = in->last_cut + period;
    return d;
}

static bool period_is_legal(nsec_t period)
{
    return period >= POLICY_PERIOD_MIN && period <= POLICY_PERIOD_MAX;
}

int policy_check(const struct policy *policy, struct error *err)
{
    if ((unsigned)policy->kind > POLICY_INTERVAL)
        return error_set(err, -EINVAL, "policy: there is no policy number %u",
                         (unsigned)policy->kind);
    if (!period_is_legal(policy->interval))
        return error_set(err, -EINVAL, "interval: %" PRId64 " ns is out of range, 100us to 1min",
                         policy->interval);
    if (!period_is_legal(policy->max_interval))
        return error_set(err, -EINVAL,
                         "max-interval: %" PRId64 " ns is out of range, 100us to 1min",
                         policy->max_interval);
    if (policy->window < 1 || policy->window > POLICY_WINDOW_MAX)
        return error_set(err, -EINVAL, "window: %u is out of range, 1 to %d", policy->window,
                         POLICY_WINDOW_MAX);
    if (policy->staging_cap < POLICY_STAGING_CAP_MIN)
        return error_set(err, -EINVAL, "staging-cap: %" PRIu64 " bytes are less than 8M",
                         policy->staging_cap);
    if (policy->dirty_budget == 0)
        return error_set(err, -EINVAL, "dirty-budget: 0 is no size");
    if (policy->dirty_budget > policy->staging_cap >> PAGE_SHIFT)
        return error_set(err, -EINVAL, "dirty-budget: the size is larger than staging-cap");
    return 0;
}

bool policy_equal(const struct policy *a, const struct policy *b)
{
    return a->kind == b->kind && a->interval == b->interval && a->max_interval == b->max_interval &&
           a->window == b->window && a->dirty_budget == b->dirty_budget &&
           a->staging_cap == b->staging_cap;
}

static const enum message_policy_kind wire_kinds[] = {
    [POLICY_PIPELINED] = MESSAGE_POLICY_PIPELINED,
    [POLICY_KEMARI] = MESSAGE_POLICY_KEMARI,
    [POLICY_INTERVAL] = MESSAGE_POLICY_INTERVAL,
};

struct message_policy policy_to_message(const struct policy *policy)
{
    return (struct message_policy){
        .kind = wire_kinds[policy->kind],
        .interval_ns = (uint64_t)policy->interval,
        .max_interval_ns = (uint64_t)policy->max_interval,
        .window = policy->window,
        .dirty_budget_pages = policy->dirty_budget,
        .staging_cap_bytes = policy->staging_cap,
    };
}

/* What is too large for a nsec_t becomes the largest, which is out of range as well. */
static nsec_t to_nsec(uint64_t ns)
{
    return ns < INT64_MAX ? (nsec_t)ns : INT64_MAX;
}

int policy_from_message(const struct message_policy *message, struct policy *out, struct error *err)
{
    *out = (struct policy){
        .interval = to_nsec(message->interval_ns),
        .max_interval = to_nsec(message->max_interval_ns),
        .window = message->window,
        .dirty_budget = message->dirty_budget_pages,
        .staging_cap = message->staging_cap_bytes,
    };
    for (unsigned kind = 0; kind < ARRAY_SIZE(wire_kinds); kind++)
        if (wire_kinds[kind] == message->kind)
            out->kind = (enum policy_kind)kind;
    return policy_check(out, err);
}

const char *policy_kind_name(enum policy_kind kind)
{
    static const char *const names[] = {"pipelined", "kemari", "interval"};
    return names[kind];
}
