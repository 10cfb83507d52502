/* When to cut: inputs and decisions, one line each. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "checkpoint/policy.h"
#include "test/support/runner.h"

#define NOW      SEC(10)
#define PERIOD   MSEC(5)
#define MAXIMUM  MSEC(50)
#define BUDGET   100
#define WINDOW   2
#define FRESH    (NOW - MSEC(1)) /* the last cut was just now */
#define NEVER    INT64_MAX
#define PIPELINE POLICY_PIPELINED

struct row {
    const char *what;
    enum policy_kind kind;
    struct policy_input in; /* `now` is NOW */
    enum policy_trigger trigger;
    nsec_t wake_at; /* looked at when the trigger is NONE */
    bool throttle;
};

static const struct row rows[] = {
    {"nothing to do: wake for the longest interval",
     PIPELINE,
     {.last_cut = FRESH},
     POLICY_TRIGGER_NONE,
     FRESH + MAXIMUM,
     false},
    {"the first output cuts at once",
     PIPELINE,
     {.last_cut = FRESH, .output_since = NOW},
     POLICY_TRIGGER_OUTPUT,
     0,
     false},
    {"output gathers while an epoch is in flight",
     PIPELINE,
     {.last_cut = FRESH, .output_since = NOW, .in_flight = 1},
     POLICY_TRIGGER_NONE,
     FRESH + MAXIMUM,
     false},
    {"the longest interval is over",
     PIPELINE,
     {.last_cut = NOW - MAXIMUM},
     POLICY_TRIGGER_TIME,
     0,
     false},
    {"the longest interval is not over by a nanosecond",
     PIPELINE,
     {.last_cut = NOW - MAXIMUM + 1},
     POLICY_TRIGGER_NONE,
     NOW + 1,
     false},
    {"time counts with one in flight, too",
     PIPELINE,
     {.last_cut = NOW - MAXIMUM, .in_flight = 1},
     POLICY_TRIGGER_TIME,
     0,
     false},
    {"at the budget nothing is due",
     PIPELINE,
     {.last_cut = FRESH, .dirty = BUDGET},
     POLICY_TRIGGER_NONE,
     FRESH + MAXIMUM,
     false},
    {"above the budget a cut is due",
     PIPELINE,
     {.last_cut = FRESH, .dirty = BUDGET + 1},
     POLICY_TRIGGER_DIRTY,
     0,
     false},
    {"dirt counts with one in flight, too",
     PIPELINE,
     {.last_cut = FRESH, .dirty = BUDGET + 1, .in_flight = 1},
     POLICY_TRIGGER_DIRTY,
     0,
     false},
    {"a request comes before everything else",
     PIPELINE,
     {.last_cut = FRESH, .dirty = BUDGET + 1, .output_since = NOW, .requested = true},
     POLICY_TRIGGER_REQUEST,
     0,
     false},
    {"a full window waits, whatever is due",
     PIPELINE,
     {.output_since = NOW, .dirty = 2 * BUDGET, .requested = true, .in_flight = WINDOW},
     POLICY_TRIGGER_NONE,
     NEVER,
     false},
    {"a full window throttles at twice the budget",
     PIPELINE,
     {.last_cut = FRESH, .dirty = 2 * BUDGET + 1, .in_flight = WINDOW},
     POLICY_TRIGGER_NONE,
     NEVER,
     true},
    {"more in flight than the window, which an operator narrowed",
     PIPELINE,
     {.dirty = 2 * BUDGET + 1, .in_flight = WINDOW + 3},
     POLICY_TRIGGER_NONE,
     NEVER,
     true},
    {"kemari cuts for output, too",
     POLICY_KEMARI,
     {.last_cut = FRESH, .output_since = NOW},
     POLICY_TRIGGER_OUTPUT,
     0,
     false},
    {"interval ignores output",
     POLICY_INTERVAL,
     {.last_cut = FRESH, .output_since = NOW},
     POLICY_TRIGGER_NONE,
     FRESH + PERIOD,
     false},
    {"interval cuts when its period is over",
     POLICY_INTERVAL,
     {.last_cut = NOW - PERIOD},
     POLICY_TRIGGER_TIME,
     0,
     false},
    {"interval minds the budget",
     POLICY_INTERVAL,
     {.last_cut = FRESH, .dirty = BUDGET + 1},
     POLICY_TRIGGER_DIRTY,
     0,
     false},
    {"interval obeys an operator",
     POLICY_INTERVAL,
     {.last_cut = FRESH, .requested = true},
     POLICY_TRIGGER_REQUEST,
     0,
     false},
};

static void every_input_has_its_decision(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct policy policy = {.kind = rows[i].kind,
                                      .interval = PERIOD,
                                      .max_interval = MAXIMUM,
                                      .window = WINDOW,
                                      .dirty_budget = BUDGET};
        struct policy_input in = rows[i].in;
        in.now = NOW;
        const struct policy_decision d = policy_decide(&policy, &in);
        const bool right = d.trigger == rows[i].trigger && d.throttle == rows[i].throttle &&
                           (d.trigger != POLICY_TRIGGER_NONE || d.wake_at == rows[i].wake_at);
        if (!right)
            printf("  not so: %s\n", rows[i].what);
        CU_ASSERT_TRUE(right);
    }
}

/* Over a grid of inputs: what must hold for each of them. */
static void no_decision_contradicts_itself(void)
{
    struct policy policy = {.interval = PERIOD, .max_interval = MAXIMUM, .dirty_budget = BUDGET};
    for (unsigned i = 0; i < 3u * 4 * 5 * 2 * 2 * 3; i++) {
        unsigned n = i;
        policy.kind = (enum policy_kind)(n % 3), n /= 3;
        policy.window = 1 + n % 4, n /= 4;
        struct policy_input in = {.now = NOW, .in_flight = n % 5};
        n /= 5;
        in.requested = n % 2, n /= 2;
        in.output_since = n % 2 ? NOW : 0, n /= 2;
        in.dirty = n % 3 * (BUDGET + 1);
        in.last_cut = FRESH;
        const struct policy_decision d = policy_decide(&policy, &in);
        const bool full = in.in_flight >= policy.window;
        CU_ASSERT_TRUE(!full || d.trigger == POLICY_TRIGGER_NONE);
        CU_ASSERT_TRUE(full || !d.throttle);
        CU_ASSERT_TRUE(full || !in.requested || d.trigger == POLICY_TRIGGER_REQUEST);
        CU_ASSERT_TRUE(d.trigger != POLICY_TRIGGER_OUTPUT || in.output_since);
        CU_ASSERT_TRUE(d.trigger != POLICY_TRIGGER_DIRTY || in.dirty > BUDGET);
        CU_ASSERT_TRUE(d.wake_at > NOW);
    }
}

static const struct policy legal = {.kind = POLICY_INTERVAL,
                                    .interval = MSEC(20),
                                    .max_interval = MSEC(500),
                                    .window = 2,
                                    .dirty_budget = 2048,
                                    .staging_cap = 8 << 20};

static void expect_refusal(struct policy policy, const char *why)
{
    struct error err = {0};
    CU_ASSERT_EQUAL(policy_check(&policy, &err), -EINVAL);
    CU_ASSERT_STRING_EQUAL(err.text, why);
    /* The same when a peer says so. */
    struct policy back;
    if ((unsigned)policy.kind <= POLICY_INTERVAL) {
        const struct message_policy message = policy_to_message(&policy);
        CU_ASSERT_EQUAL(policy_from_message(&message, &back, NULL), -EINVAL);
    }
}

static void a_policy_is_judged_as_a_whole(void)
{
    struct policy p = legal;
    CU_ASSERT_EQUAL(policy_check(&p, NULL), 0);
    p.kind = (enum policy_kind)3;
    expect_refusal(p, "policy: there is no policy number 3");
    p = legal, p.interval = USEC(100) - 1;
    expect_refusal(p, "interval: 99999 ns is out of range, 100us to 1min");
    p = legal, p.max_interval = SEC(60) + 1;
    expect_refusal(p, "max-interval: 60000000001 ns is out of range, 100us to 1min");
    p = legal, p.window = 0;
    expect_refusal(p, "window: 0 is out of range, 1 to 8");
    p = legal, p.window = 9;
    expect_refusal(p, "window: 9 is out of range, 1 to 8");
    p = legal, p.staging_cap = (8 << 20) - 1;
    expect_refusal(p, "staging-cap: 8388607 bytes are less than 8M");
    p = legal, p.dirty_budget = 0;
    expect_refusal(p, "dirty-budget: 0 is no size");
    p = legal, p.dirty_budget = 2049;
    expect_refusal(p, "dirty-budget: the size is larger than staging-cap");
}

static void a_policy_survives_the_wire(void)
{
    for (unsigned kind = 0; kind <= POLICY_INTERVAL; kind++) {
        struct policy p = legal, back;
        p.kind = (enum policy_kind)kind;
        struct message_policy message = policy_to_message(&p);
        CU_ASSERT_EQUAL(policy_from_message(&message, &back, NULL), 0);
        CU_ASSERT_TRUE(policy_equal(&p, &back));
        /* Times beyond a nsec_t don't come around as small ones. */
        message.interval_ns = UINT64_MAX;
        CU_ASSERT_EQUAL(policy_from_message(&message, &back, NULL), -EINVAL);
    }
}

static void policies_that_differ_are_not_equal(void)
{
    struct policy p = legal;
    CU_ASSERT_TRUE(policy_equal(&p, &legal));
    p = legal, p.kind = POLICY_KEMARI;
    CU_ASSERT_FALSE(policy_equal(&p, &legal));
    p = legal, p.interval++;
    CU_ASSERT_FALSE(policy_equal(&p, &legal));
    p = legal, p.max_interval++;
    CU_ASSERT_FALSE(policy_equal(&p, &legal));
    p = legal, p.window++;
    CU_ASSERT_FALSE(policy_equal(&p, &legal));
    p = legal, p.dirty_budget++;
    CU_ASSERT_FALSE(policy_equal(&p, &legal));
    p = legal, p.staging_cap++;
    CU_ASSERT_FALSE(policy_equal(&p, &legal));
}

static void kinds_have_names(void)
{
    CU_ASSERT_STRING_EQUAL(policy_kind_name(POLICY_PIPELINED), "pipelined");
    CU_ASSERT_STRING_EQUAL(policy_kind_name(POLICY_KEMARI), "kemari");
    CU_ASSERT_STRING_EQUAL(policy_kind_name(POLICY_INTERVAL), "interval");
}

static const struct test_case cases[] = {
    {"every input has its decision", every_input_has_its_decision},
    {"no decision contradicts itself", no_decision_contradicts_itself},
    {"a policy is judged as a whole", a_policy_is_judged_as_a_whole},
    {"a policy survives the wire", a_policy_survives_the_wire},
    {"policies that differ are not equal", policies_that_differ_are_not_equal},
    {"kinds have names", kinds_have_names},
};

TEST_MAIN("policy", cases)
