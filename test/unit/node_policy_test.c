/* What an operator's words make of a policy. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "app/node_internal.h"
#include "test/support/runner.h"

#define RESERVED (UINT64_C(64) << 20)

static const struct policy now = {.kind = POLICY_PIPELINED,
                                  .interval = MSEC(25),
                                  .max_interval = MSEC(500),
                                  .window = 2,
                                  .dirty_budget = 4096,
                                  .staging_cap = RESERVED};

/* "key=value key=value" */
static int change(const char *words, struct policy *out, struct error *err)
{
    struct control_policy request = {0};
    char *copy = strdup(words), *rest = copy;
    for (char *word; (word = strsep(&rest, " "));) {
        struct control_setting *setting = &request.settings[request.count];
        char *value = strchr(word, '=');
        if (!value)
            continue;
        request.count++;
        *value++ = '\0';
        strcpy(setting->key, word);
        strcpy(setting->value, value);
    }
    const int rc = node_policy_change(&now, RESERVED, &request, out, err);
    free(copy);
    return rc;
}

static void what_is_named_changes_and_nothing_else(void)
{
    struct policy p, wanted = now;
    CU_ASSERT_EQUAL(change("window=5", &p, NULL), 0);
    wanted.window = 5;
    CU_ASSERT_TRUE(policy_equal(&p, &wanted));
    CU_ASSERT_EQUAL(change("policy=interval interval=300us", &p, NULL), 0);
    wanted = now, wanted.kind = POLICY_INTERVAL, wanted.interval = USEC(300);
    CU_ASSERT_TRUE(policy_equal(&p, &wanted));
    CU_ASSERT_EQUAL(
        change("policy=kemari max-interval=2s staging-cap=8M dirty-budget=4M", &p, NULL), 0);
    wanted = now, wanted.kind = POLICY_KEMARI, wanted.max_interval = SEC(2);
    wanted.staging_cap = 8 << 20, wanted.dirty_budget = 1024;
    CU_ASSERT_TRUE(policy_equal(&p, &wanted));
}

static void a_change_that_is_wrong_is_refused_with_its_reason(void)
{
    static const struct {
        const char *words;
        const char *why;
    } rows[] = {
        {"", "nothing is to be changed"},
        {"outbox-cap=8M", "a policy has no \"outbox-cap\""},
        {"kernel=/bin/sh", "a policy has no \"kernel\""},
        {"window=2 window=3", "window: given twice"},
        {"window=9", "window: 9 is out of range, 1 to 8"},
        {"window=x", "window: \"x\" is not a whole number"},
        {"policy=lazy", "policy: \"lazy\" is not one of: pipelined, kemari, interval"},
        {"policy=interval interval=1us", "interval: 1us is out of range, 100us to 1min"},
        {"staging-cap=128M", "staging-cap: more than the 64 MiB that were set aside at the start"},
        /* Each is fine by itself. */
        {"staging-cap=8M", "dirty-budget: the size is larger than staging-cap"},
        {"window=3 dirty-budget=128M", "dirty-budget: the size is larger than staging-cap"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct policy p;
        struct error err = {0};
        CU_ASSERT_EQUAL(change(rows[i].words, &p, &err), -EINVAL);
        CU_ASSERT_STRING_EQUAL(err.text, rows[i].why);
    }
}

/* What `policy get` shows is what `policy set` takes. */
static void a_description_leads_back_to_the_policy(void)
{
    struct control_policy all = {0};
    struct policy p, other = {.kind = POLICY_KEMARI,
                              .interval = MSEC(1),
                              .max_interval = MSEC(1),
                              .window = 1,
                              .dirty_budget = 256,
                              .staging_cap = 8 << 20};
    node_policy_describe(&now, &all);
    CU_ASSERT_EQUAL(all.count, 6);
    CU_ASSERT_EQUAL(node_policy_change(&other, RESERVED, &all, &p, NULL), 0);
    CU_ASSERT_TRUE(policy_equal(&p, &now));
}

static const struct test_case cases[] = {
    {"what is named changes and nothing else", what_is_named_changes_and_nothing_else},
    {"a change that is wrong is refused with its reason",
     a_change_that_is_wrong_is_refused_with_its_reason},
    {"a description leads back to the policy", a_description_leads_back_to_the_policy},
};

TEST_MAIN("node-policy", cases)
