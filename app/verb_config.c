/* kemarictl config check: what kemarid would say of a configuration before it starts anything. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "app/config.h"
#include "app/verbs.h"
#include "control/kemarictl_call.h"

#define CONFIG_JSON_SCHEMA 1

static void print_verdict(const struct invocation *inv, const char *file, const char *machine,
                          const char *error)
{
    json_t *json = json_pack("{s:i, s:s, s:b, s:s, s:s}", "schema", CONFIG_JSON_SCHEMA, "file",
                             file, "ok", error[0] == '\0', "vm", machine, "error", error);
    char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    fprintf(inv->out, "%s\n", text ? text : "");
    free(text);
    json_decref(json);
}

static enum kemarictl_exit run_config(struct invocation *inv)
{
    if (inv->word_count != 2 || strcmp(inv->words[0], "check") != 0)
        return kemarictl_complain(inv, KEMARICTL_USAGE, "config: say \"check FILE\" (try --help)");
    const char *file = inv->words[1];
    char *argv[] = {(char *)"kemarid", (char *)"--config", (char *)file};
    struct config config;
    enum config_action action;
    struct error err = {0};
    const int rc = config_read(ARRAY_SIZE(argv), argv, inv->out, &config, &action, &err);
    const char *error = rc < 0 ? err.text : "";
    if (inv->json)
        print_verdict(inv, file, rc < 0 ? "" : config.name, error);
    else if (rc == 0)
        fprintf(inv->out, "%s: machine %s, nothing is wrong with it\n", file, config.name);
    if (rc < 0)
        return inv->json ? KEMARICTL_FAILED : kemarictl_complain(inv, KEMARICTL_FAILED, error);
    config_free(&config);
    return KEMARICTL_OK;
}

const struct verb verb_config = {
    .name = "config",
    .takes = TAKES_JSON,
    .words = "check FILE",
    .run = run_config,
    .help = "Checks a configuration as kemarid would before it starts: every option, and whether "
            "the files that it names can be read. Nothing is started and no daemon is needed.",
};
