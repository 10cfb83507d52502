#include "checkpoint/policy.h"

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

const char *policy_kind_name(enum policy_kind kind)
{
    static const char *const names[] = {"pipelined", "kemari", "interval"};
    return names[kind];
}
