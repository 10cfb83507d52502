#include <stdlib.h>
#include <string.h>

#include "control/json.h"
#include "control/kemarictl_call.h"
#include "control/verbs.h"

/* "KEY=VALUE" as one more setting; false when the word is none. */
static bool add_setting(struct control_policy *policy, const char *word)
{
    const char *equals = strchr(word, '=');
    struct control_setting *setting = &policy->settings[policy->count];
    if (policy->count == CONTROL_SETTINGS_MAX || !equals || equals == word ||
        (size_t)(equals - word) >= sizeof(setting->key) ||
        strlen(equals + 1) >= sizeof(setting->value))
        return false;
    memcpy(setting->key, word, (size_t)(equals - word));
    setting->key[equals - word] = '\0';
    strcpy(setting->value, equals + 1);
    policy->count++;
    return true;
}

static enum kemarictl_exit get_policy(const struct invocation *inv)
{
    static const struct control_request request = {.verb = CONTROL_VERB_POLICY};
    struct control_client *client = NULL;
    enum kemarictl_exit status = kemarictl_open(inv, &client);
    if (status != KEMARICTL_OK)
        return status;
    struct control_reply *reply = kemarictl_make_reply();
    status = kemarictl_call(inv, client, &request, CONTROL_REPLY_POLICY, reply);
    if (status == KEMARICTL_OK && inv->json) {
        char *text = control_json_policy(&reply->policy);
        fprintf(inv->out, "%s\n", text ? text : "");
        free(text);
    }
    for (unsigned i = 0; status == KEMARICTL_OK && !inv->json && i < reply->policy.count; i++)
        fprintf(inv->out, "%s=%s\n", reply->policy.settings[i].key,
                reply->policy.settings[i].value);
    free(reply);
    control_client_close(&client);
    return status;
}

static enum kemarictl_exit run_policy(struct invocation *inv)
{
    const char *what = inv->word_count ? inv->words[0] : "";
    if (strcmp(what, "get") == 0 && inv->word_count == 1)
        return get_policy(inv);
    if (strcmp(what, "set") != 0 || inv->word_count < 2)
        return kemarictl_complain(inv, KEMARICTL_USAGE,
                                  "policy: say \"get\", or \"set KEY=VALUE...\" (try --help)");
    struct control_request request = {.verb = CONTROL_VERB_SET_POLICY};
    for (unsigned i = 1; i < inv->word_count; i++)
        if (!add_setting(&request.policy, inv->words[i])) {
            fprintf(inv->err, "kemarictl: policy: \"%s\" is not KEY=VALUE\n", inv->words[i]);
            return KEMARICTL_USAGE;
        }
    return kemarictl_command(inv, &request);
}

const struct verb verb_policy = {
    .name = "policy",
    .takes = TAKES_JSON,
    .words = "get | set KEY=VALUE...",
    .run = run_policy,
    .help = "Shows when checkpoints are taken, or changes it on the host that runs the guest, all "
            "of it "
            "or "
            "nothing. Keys are those of the configuration: policy, interval, window, max-interval, "
            "staging-cap, dirty-budget. The secondary takes the policy over with the guest; a "
            "restart of "
            "both daemons comes back to what is configured.",
};
