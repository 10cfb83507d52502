/* When checkpoints are taken, as an operator reads and changes it. Values are read and written as
 * in the configuration, whose options they are; whether all of them go together is for
 * policy_check(). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "app/config_table.h"
#include "app/config_value.h"
#include "app/node_internal.h"

static const char *const keys[] = {"policy",       "interval",    "window",
                                   "max-interval", "staging-cap", "dirty-budget"};

static const struct config_option *option_of(const char *key)
{
    unsigned instance = 0;
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        if (strcmp(keys[i], key) == 0)
            return config_option_find("replication", key, &instance);
    return NULL;
}

struct policy node_policy_of(const struct config *config)
{
    static const enum policy_kind kinds[] = {
        [CONFIG_POLICY_PIPELINED] = POLICY_PIPELINED,
        [CONFIG_POLICY_KEMARI] = POLICY_KEMARI,
        [CONFIG_POLICY_INTERVAL] = POLICY_INTERVAL,
    };
    return (struct policy){
        .kind = kinds[config->policy],
        .interval = config->interval,
        .max_interval = config->max_interval,
        .window = config->window,
        .dirty_budget = config->dirty_budget >> PAGE_SHIFT,
        .staging_cap = config->staging_cap,
    };
}

/* The other way; only those members of `config` are touched. */
static void put_policy(const struct policy *policy, struct config *config)
{
    static const enum config_policy kinds[] = {
        [POLICY_PIPELINED] = CONFIG_POLICY_PIPELINED,
        [POLICY_KEMARI] = CONFIG_POLICY_KEMARI,
        [POLICY_INTERVAL] = CONFIG_POLICY_INTERVAL,
    };
    config->policy = kinds[policy->kind];
    config->interval = policy->interval;
    config->max_interval = policy->max_interval;
    config->window = policy->window;
    config->dirty_budget = policy->dirty_budget << PAGE_SHIFT;
    config->staging_cap = policy->staging_cap;
}

static int parse(const struct config_option *option, const char *text, struct config *config,
                 struct error *err)
{
    void *member = (char *)config + option->offset;
    uint64_t number = 0;
    int rc = 0;
    switch (option->kind) {
    case CONFIG_KIND_ENUM:
        return config_parse_enum(text, option->names, member, err);
    case CONFIG_KIND_DURATION:
        return config_parse_duration(text, (nsec_t)option->min, (nsec_t)option->max, member, err);
    case CONFIG_KIND_BYTES:
        return config_parse_bytes(text, option->min, option->max, member, err);
    default:
        rc = config_parse_uint(text, option->min, option->max, &number, err);
        *(unsigned *)member = (unsigned)number;
        return rc;
    }
}

int node_policy_change(const struct policy *now, uint64_t reserved,
                       const struct control_policy *change, struct policy *out, struct error *err)
{
    struct config scratch = {0};
    put_policy(now, &scratch);
    if (!change->count)
        return error_set(err, -EINVAL, "nothing is to be changed");
    for (unsigned i = 0; i < change->count; i++) {
        const struct control_setting *setting = &change->settings[i];
        const struct config_option *option = option_of(setting->key);
        if (!option)
            return error_set(err, -EINVAL, "a policy has no \"%s\"", setting->key);
        for (unsigned k = 0; k < i; k++)
            if (strcmp(change->settings[k].key, setting->key) == 0)
                return error_set(err, -EINVAL, "%s: given twice", setting->key);
        const int rc = parse(option, setting->value, &scratch, err);
        if (rc < 0)
            return error_prefix(err, "%s", setting->key);
    }
    *out = node_policy_of(&scratch);
    if (out->staging_cap > reserved)
        return error_set(err, -EINVAL,
                         "staging-cap: more than the %llu MiB that were set aside at the start",
                         (unsigned long long)(reserved >> 20));
    return policy_check(out, err);
}

void node_policy_describe(const struct policy *policy, struct control_policy *out)
{
    struct config scratch = {0};
    put_policy(policy, &scratch);
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        struct control_setting *setting = &out->settings[out->count++];
        snprintf(setting->key, sizeof(setting->key), "%s", keys[i]);
        config_option_format(option_of(keys[i]), 0, &scratch, setting->value,
                             sizeof(setting->value));
    }
}

/* With node->lock held: the policy that holds, or would hold were this standby promoted now. */
static struct policy policy_now(struct node *node)
{
    if (node->primary)
        return engine_policy(primary_engine(node->primary));
    struct standby_stats stats = {0};
    if (node->secondary)
        secondary_standby_stats(node->secondary, &stats);
    return stats.has_policy ? stats.policy : node_policy_of(node->config);
}

void node_policy_get(void *context, struct control_policy *out)
{
    struct node *node = context;
    pthread_mutex_lock(&node->lock);
    const struct policy policy = policy_now(node);
    pthread_mutex_unlock(&node->lock);
    node_policy_describe(&policy, out);
}

static void tell(struct node *node, const struct policy *policy)
{
    struct control_policy all = {0};
    struct control_event event;
    node_policy_describe(policy, &all);
    control_event_init(&event, CONTROL_INFO, "policy.changed", "an operator set the policy %s",
                       policy_kind_name(policy->kind));
    for (unsigned i = 0; i < all.count; i++)
        control_event_add(&event, all.settings[i].key, "%s", all.settings[i].value);
    control_events_append(node->events, &event);
}

void node_policy_set(void *context, control_token_t token, const struct control_policy *change)
{
    struct node *node = context;
    struct error err = {0};
    struct policy next;
    int rc;
    pthread_mutex_lock(&node->lock);
    if (node->primary) {
        const struct policy now = policy_now(node);
        rc = node_policy_change(&now, node->config->staging_cap, change, &next, &err);
        if (rc == 0)
            engine_set_policy(primary_engine(node->primary), &next);
    } else {
        rc = error_set(&err, -EPERM,
                       "the guest does not run here: set its policy on the host that runs it");
    }
    pthread_mutex_unlock(&node->lock);
    if (rc == 0)
        tell(node, &next);
    control_server_complete(node->server, token, rc, rc < 0 ? err.text : "the policy is set");
}
