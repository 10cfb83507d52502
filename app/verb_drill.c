/* kemarictl drill: rehearsing failures. */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/drill_history.h"
#include "app/drill_run.h"
#include "app/verbs.h"
#include "control/kemarictl_call.h"

static enum kemarictl_exit list_scenarios(const struct invocation *inv)
{
    json_t *list = json_array();
    for (size_t i = 0; i < drill_scenario_count; i++) {
        const struct drill_scenario *s = &drill_scenarios[i];
        if (inv->json)
            json_array_append_new(list, json_pack("{s:s, s:s, s:i}", "name", s->name, "what",
                                                  s->what, "seconds", (int)s->seconds));
        else
            fprintf(inv->out, "%-18s %s\n", s->name, s->what);
    }
    char *text = inv->json ? json_dumps(list, JSON_INDENT(2)) : NULL;
    if (text)
        fprintf(inv->out, "%s\n", text);
    free(text);
    json_decref(list);
    return KEMARICTL_OK;
}

/* ---- reports ---- */

static enum kemarictl_exit write_picture(const struct invocation *inv,
                                         const struct drill_report *report)
{
    FILE *file = inv->svg ? fopen(inv->svg, "we") : NULL;
    if (!inv->svg)
        return KEMARICTL_OK;
    if (file)
        drill_report_svg(report, file);
    if (file && fclose(file) == 0)
        return KEMARICTL_OK;
    fprintf(inv->err, "kemarictl: %s can't be written\n", inv->svg);
    return KEMARICTL_FAILED;
}

static enum kemarictl_exit show(const struct invocation *inv, const struct drill_report *report,
                                bool compact)
{
    if (inv->json) {
        char *text = drill_report_json(report, compact);
        fprintf(inv->out, "%s\n", text ? text : "");
        free(text);
    } else {
        drill_report_text(report, inv->colour, inv->out);
    }
    return write_picture(inv, report);
}

/* Where this machine's reports are: as ordered, as its daemon says, or where they usually are. */
static enum kemarictl_exit find_state_dir(const struct invocation *inv, char out[PATH_MAX])
{
    struct drill_target target;
    struct error err = {0};
    char *socket = NULL;
    if (inv->state_dir) {
        snprintf(out, PATH_MAX, "%s", inv->state_dir);
        return KEMARICTL_OK;
    }
    const enum kemarictl_exit status = kemarictl_choose_socket(inv, &socket);
    if (status != KEMARICTL_OK)
        return status;
    const int rc = drill_target_open(socket, &target, &err);
    free(socket);
    if (rc == 0) {
        snprintf(out, PATH_MAX, "%s", target.state_dir);
        drill_target_close(&target);
    } else if (inv->machine) {
        snprintf(out, PATH_MAX, "/var/lib/kemari/%s", inv->machine);
    } else {
        return kemarictl_complain(inv, kemarictl_exit_of(rc), err.text);
    }
    return KEMARICTL_OK;
}

static enum kemarictl_exit list_reports(const struct invocation *inv, const char *state_dir)
{
    struct drill_report *report = calloc(1, sizeof(*report));
    struct error err = {0};
    char **ids;
    const int count = drill_history_list(state_dir, &ids, &err);
    for (int i = 0; report && i < count; i++) {
        if (drill_history_load(state_dir, ids[i], report, &err) < 0)
            fprintf(inv->err, "kemarictl: %s\n", err.text);
        else if (inv->json)
            show(inv, report, true);
        else
            fprintf(inv->out, "%-40s %-12s %s\n", report->id,
                    report->survived ? "survived" : "NOT SURVIVED", report->why);
    }
    drill_history_free(ids, count);
    free(report);
    return count < 0 ? kemarictl_complain(inv, KEMARICTL_FAILED, err.text) : KEMARICTL_OK;
}

static enum kemarictl_exit report(const struct invocation *inv, const char *which)
{
    char state_dir[PATH_MAX];
    struct error err = {0};
    enum kemarictl_exit status = find_state_dir(inv, state_dir);
    if (status != KEMARICTL_OK)
        return status;
    if (which && strcmp(which, "all") == 0)
        return list_reports(inv, state_dir);
    struct drill_report *found = calloc(1, sizeof(*found));
    if (!found)
        return kemarictl_complain(inv, KEMARICTL_FAILED, "out of memory");
    if (drill_history_load(state_dir, which, found, &err) < 0)
        status = kemarictl_complain(inv, KEMARICTL_FAILED, err.text);
    else
        status = show(inv, found, false);
    free(found);
    return status;
}

/* ---- running ---- */

static void say(void *context, const char *sentence)
{
    const struct invocation *inv = context;
    fprintf(inv->err, "drill: %s\n", sentence);
}

static bool confirmed(const struct invocation *inv, const struct drill_scenario *scenario)
{
    char line[16] = "";
    fprintf(inv->err, "%s: %s. Do it now? [y/N] ", scenario->name, scenario->what);
    fflush(inv->err);
    return fgets(line, sizeof(line), stdin) && (line[0] == 'y' || line[0] == 'Y');
}

static enum kemarictl_exit strike(struct invocation *inv, const struct drill_order *order,
                                  const struct peer_command *peer)
{
    struct drill_target target;
    struct error err = {0};
    char *socket = NULL;
    enum kemarictl_exit status = kemarictl_choose_socket(inv, &socket);
    if (status != KEMARICTL_OK)
        return status;
    int rc = drill_target_open(socket, &target, &err);
    free(socket);
    if (rc < 0)
        return kemarictl_complain(inv, kemarictl_exit_of(rc), err.text);
    struct drill_report *made = calloc(1, sizeof(*made));
    rc = made ? drill_run(order, &target, peer, made, &err)
              : error_set(&err, -ENOMEM, "out of memory");
    drill_target_close(&target);
    if (rc < 0) {
        fprintf(inv->err, "kemarictl: refused: %s\n", err.text);
        status = KEMARICTL_FAILED;
    } else {
        status = show(inv, made, false);
        if (status == KEMARICTL_OK && !made->survived)
            status = KEMARICTL_FAILED;
    }
    free(made);
    return status;
}

static enum kemarictl_exit run_scenario(struct invocation *inv, const char *name)
{
    const struct drill_scenario *scenario = drill_scenario_find(name);
    const char *command = inv->peer ? inv->peer : getenv("KEMARI_PEER_CTL");
    struct error err = {0};
    struct peer_command peer;
    if (!scenario) {
        fprintf(inv->err, "kemarictl: drill: there is no scenario \"%s\" (see \"drill list\")\n",
                name);
        return KEMARICTL_USAGE;
    }
    if (!command)
        return kemarictl_complain(inv, KEMARICTL_USAGE,
                                  "drill run needs --peer, how to ask the other host: for example "
                                  "--peer \"ssh HOST kemarictl -m NAME\"");
    if (inv->seconds > DRILL_SECONDS_MAX)
        return kemarictl_complain(inv, KEMARICTL_USAGE, "a drill's fault lasts 60 s at most");
    if (!inv->yes && !isatty(STDIN_FILENO))
        return kemarictl_complain(
            inv, KEMARICTL_USAGE,
            "drill run asks for confirmation; without a terminal it needs --yes");
    if (peer_command_parse(command, &peer, &err) < 0)
        return kemarictl_complain(inv, KEMARICTL_USAGE, err.text);
    const struct drill_order order = {.scenario = scenario,
                                      .seconds =
                                          inv->seconds ? (unsigned)inv->seconds : scenario->seconds,
                                      .force = inv->force,
                                      .tell = say,
                                      .context = inv};
    enum kemarictl_exit status = KEMARICTL_FAILED;
    if (inv->yes || confirmed(inv, scenario))
        status = strike(inv, &order, &peer);
    else
        kemarictl_complain(inv, status, "nothing was done");
    peer_command_free(&peer);
    return status;
}

static enum kemarictl_exit run_drill(struct invocation *inv)
{
    const char *what = inv->word_count ? inv->words[0] : "";
    if (strcmp(what, "list") == 0 && inv->word_count == 1)
        return list_scenarios(inv);
    if (strcmp(what, "run") == 0 && inv->word_count == 2)
        return run_scenario(inv, inv->words[1]);
    if (strcmp(what, "report") == 0 && inv->word_count <= 2)
        return report(inv, inv->word_count == 2 ? inv->words[1] : NULL);
    return kemarictl_complain(inv, KEMARICTL_USAGE,
                              "drill: say \"list\", \"run SCENARIO\", or \"report [ID|all]\" (try "
                              "--help)");
}

const struct verb verb_drill = {
    .name = "drill",
    .takes = TAKES_JSON | TAKES_YES | TAKES_DRILL | TAKES_PEER,
    .words = "list | run SCENARIO | report [ID|all]",
    .run = run_drill,
    .help = "Rehearses a failure: makes it happen to this host, watches what both hosts do, takes "
            "it back, waits until the guest is protected again, and reports. Refuses when the pair "
            "might not survive, unless --force is given. Asks first, unless --yes is given. "
            "\"report\" shows the newest report of this host, the one of that ID, or all in short.",
};
