/* Drills as far as they are pure: what may begin, how it went, rules, reports and their history. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/drill_filter.h"
#include "app/drill_history.h"
#include "app/drill_judge.h"
#include "control/json.h"
#include "test/support/control_sample.h"
#include "test/support/kemarictl_words.h"
#include "test/support/runner.h"

#define TEXT(to, text) snprintf(to, sizeof(to), "%s", text)

static struct drill_view make_view(const char *role, uint64_t pid)
{
    struct drill_view v = {.there = true, .protected = true, .term = 3, .pid = pid};
    TEXT(v.vm, "web");
    TEXT(v.role, role);
    TEXT(v.state, "replicating");
    TEXT(v.guest, strcmp(role, "secondary") == 0 ? "none" : "running");
    TEXT(v.arbiter, "etcd");
    TEXT(v.arbiter_state, "idle");
    return v;
}

static struct drill_pair make_pair(void)
{
    return (struct drill_pair){make_view("primary", 1), make_view("secondary", 2)};
}

/* The pair after the guest moved to the other host, and this one came back. */
static struct drill_pair make_moved(void)
{
    struct drill_pair p = {make_view("secondary", 3), make_view("primary", 2)};
    p.local.term = p.other.term = 4;
    p.other.takeover = (struct drill_takeover){.happened = true,
                                               .term = 4,
                                               .suspect = 30,
                                               .grant = 31,
                                               .load = 35,
                                               .network = 36,
                                               .run = 37,
                                               .first_output = 40};
    p.other.bytes_sent = 5000;
    return p;
}

static void expect_before(const char *scenario, const struct drill_pair *pair, int rc,
                          const char *part)
{
    struct error err = {0};
    const int got = drill_judge_before(drill_scenario_find(scenario), pair, &err);
    CU_ASSERT_EQUAL(got, rc);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, part));
    if (got != rc || !strstr(err.text, part))
        printf("\n  %s: %d, %s\n", scenario, got, err.text);
}

static void a_protected_pair_may_be_struck(void)
{
    struct drill_pair p = make_pair();
    for (size_t i = 0; i < drill_scenario_count; i++)
        if (!drill_scenarios[i].standby_only)
            expect_before(drill_scenarios[i].name, &p, 0, "");
    expect_before("standby-loss", &p, -EPERM, "is for the secondary's host");
    const struct drill_view local = p.local;
    p.local = p.other;
    p.other = local;
    expect_before("standby-loss", &p, 0, "");
    CU_ASSERT_PTR_NULL(drill_scenario_find("dance"));
}

static void what_would_not_be_survived_is_named(void)
{
    struct drill_pair p = make_pair();
    p.other.protected = false;
    TEXT(p.other.reason, "a disk is not in step");
    expect_before("kill", &p, -EBUSY,
                  "the other host says that the guest is not protected: a disk");
    p = make_pair();
    TEXT(p.local.arbiter_state, "unreachable");
    expect_before("kill", &p, -EBUSY, "can't reach the arbiter");
    p = make_pair();
    TEXT(p.local.arbiter, "manual");
    expect_before("kill", &p, -EBUSY, "until somebody answers");
    expect_before("switchover", &p, 0, "");
    p = make_pair();
    TEXT(p.local.arbiter, "none");
    expect_before("isolate-all", &p, -EBUSY, "the guest would run twice");
    expect_before("kill", &p, 0, "");
    p = make_pair();
    TEXT(p.local.role, "solo");
    expect_before("kill", &p, -EBUSY, "no primary and its secondary");
}

static void what_is_no_pair_is_no_drill(void)
{
    struct drill_pair p = make_pair();
    p.local.there = false;
    expect_before("kill", &p, -EPERM, "this host's daemon does not answer");
    p = make_pair();
    p.other.there = false;
    expect_before("kill", &p, -EPERM, "shows no status");
    p = make_pair();
    TEXT(p.other.vm, "db");
    expect_before("kill", &p, -EPERM, "another machine (db)");
    p = make_pair();
    p.other = p.local;
    expect_before("kill", &p, -EPERM, "this host's daemon, not the other's");
}

static struct drill_report judge(const char *scenario, const struct drill_pair *after,
                                 int64_t protected_at, const char *trouble)
{
    const struct drill_pair before = make_pair();
    struct drill_report r = {0};
    for (int i = 0; i < DRILL_STEP_COUNT; i++)
        r.steps[i] = -1;
    r.steps[DRILL_PROTECTED] = protected_at;
    drill_judge_after(drill_scenario_find(scenario), &before, after, trouble, &r);
    return r;
}

static void a_failover_is_survived_by_the_steps_of_the_heir(void)
{
    const struct drill_pair after = make_moved();
    const struct drill_report r = judge("kill", &after, SEC(2), "");
    CU_ASSERT_TRUE(r.survived);
    CU_ASSERT_TRUE(r.moved);
    CU_ASSERT_STRING_EQUAL(r.why, "the guest runs on the other host, protected again after 2.00 s");
    CU_ASSERT_EQUAL(r.steps[DRILL_DETECTED], 30);
    CU_ASSERT_EQUAL(r.steps[DRILL_GRANTED], 31);
    CU_ASSERT_EQUAL(r.steps[DRILL_PROMOTED], 37);
    CU_ASSERT_EQUAL(r.steps[DRILL_FIRST_OUTPUT], 40);
    CU_ASSERT_EQUAL(r.term_before, 3);
    CU_ASSERT_EQUAL(r.term_after, 4);
    CU_ASSERT_EQUAL(r.resync_bytes, 5000);
    const struct drill_pair before = make_pair();
    CU_ASSERT_TRUE(drill_judge_settled(drill_scenario_find("kill"), &before, &after));
    CU_ASSERT_TRUE(drill_judge_settled(drill_scenario_find("switchover"), &before, &after));
    CU_ASSERT_FALSE(drill_judge_settled(drill_scenario_find("kill"), &before, &before));
    CU_ASSERT_FALSE(drill_judge_settled(drill_scenario_find("slow-link"), &before, &after));
}

static void a_power_failure_is_judged_from_the_host_that_stays(void)
{
    const struct drill_scenario *power = drill_scenario_find("power-off");
    struct drill_pair before = make_pair(), after = make_pair();
    struct drill_report r = {0};
    CU_ASSERT_TRUE(drill_strikes_other(power));
    CU_ASSERT_FALSE(drill_strikes_other(drill_scenario_find("kill")));
    /* The secondary's host goes: the guest stays, in a new term. */
    CU_ASSERT_FALSE(drill_judge_settled(power, &before, &after));
    after.local.term = 4;
    CU_ASSERT_TRUE(drill_judge_settled(power, &before, &after));
    drill_judge_after(power, &before, &after, "", &r);
    CU_ASSERT_TRUE(r.survived);
    CU_ASSERT_FALSE(r.moved);
    /* The primary's: the guest comes to this host. */
    const struct drill_pair moved = make_moved();
    before = (struct drill_pair){.local = make_pair().other, .other = make_pair().local};
    after = (struct drill_pair){.local = moved.other, .other = moved.local};
    CU_ASSERT_TRUE(drill_judge_settled(power, &before, &after));
    drill_judge_after(power, &before, &after, "", &r);
    CU_ASSERT_TRUE(r.survived);
    CU_ASSERT_TRUE(r.moved);
    CU_ASSERT_EQUAL(r.steps[DRILL_PROMOTED], 37);
    drill_judge_after(power, &before, &before, "", &r);
    CU_ASSERT_FALSE(r.survived);
    struct drill_pair manual = make_pair();
    TEXT(manual.local.arbiter, "manual");
    expect_before("power-off", &manual, -EBUSY, "\"kemarictl grant\" on this host");
}

static void a_verdict_finds_what_went_wrong(void)
{
    struct drill_pair after = make_moved();
    CU_ASSERT_FALSE(judge("kill", &after, SEC(2), "nft burnt").survived);
    CU_ASSERT_STRING_EQUAL(judge("kill", &after, SEC(2), "nft burnt").why, "nft burnt");
    CU_ASSERT_FALSE(judge("isolate-arbiter", &after, SEC(2), "").survived);
    after.other.protected = false;
    TEXT(after.other.reason, "running alone");
    CU_ASSERT_STRING_EQUAL(judge("kill", &after, -1, "").why,
                           "the guest runs on the other host and was not protected again: running "
                           "alone");
    TEXT(after.other.guest, "off");
    CU_ASSERT_STRING_EQUAL(judge("kill", &after, -1, "").why,
                           "no host says that it runs the guest");
    after = make_moved();
    after.local = after.other;
    CU_ASSERT_STRING_EQUAL(judge("kill", &after, SEC(1), "").why,
                           "both hosts say that they run the guest");
    after = make_pair();
    CU_ASSERT_STRING_EQUAL(judge("kill", &after, SEC(1), "").why,
                           "the guest did not move, which this failure does not ask for");
    CU_ASSERT_TRUE(judge("isolate-arbiter", &after, SEC(1), "").survived);
}

static void a_status_is_understood_and_garbage_is_not(void)
{
    struct control_status *status = calloc(1, sizeof(*status));
    struct drill_view view;
    control_sample_protected(status);
    char *text = control_json_status(status, true);
    CU_ASSERT_TRUE(drill_view_parse(text, &view));
    CU_ASSERT_TRUE(view.protected);
    CU_ASSERT_TRUE(drill_view_owns(&view));
    CU_ASSERT_STRING_EQUAL(view.vm, "web");
    CU_ASSERT_EQUAL(view.held_frames, 2);
    CU_ASSERT_EQUAL(view.takeover.first_output, 6250000);
    /* Cut anywhere, it is no status. */
    for (size_t length = strlen(text) - 1; length > 0; length -= length > 64 ? 61 : 1) {
        text[length] = '\0';
        CU_ASSERT_FALSE(drill_view_parse(text, &view));
        CU_ASSERT_FALSE(view.there);
    }
    CU_ASSERT_FALSE(drill_view_parse("[1]", &view));
    free(text);
    free(status);
}

/* ---- rules ---- */

static char *rules(const struct config *config, const char *scenario, int wanted, const char *part)
{
    char *text;
    size_t size;
    struct error err = {0};
    FILE *stream = open_memstream(&text, &size);
    const int rc = drill_filter_write(config, drill_scenario_find(scenario), 7, stream, &err);
    fclose(stream);
    CU_ASSERT_EQUAL(rc, wanted);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, part));
    return text;
}

static void take_config(struct config *config)
{
    char *argv[] = {(char *)"kemarid",
                    (char *)"--name",
                    (char *)"web",
                    (char *)"--role",
                    (char *)"primary",
                    (char *)"--memory",
                    (char *)"64M",
                    (char *)"--kernel",
                    (char *)"/bin/sh",
                    (char *)"--listen",
                    (char *)"tcp://10.0.0.1:7000",
                    (char *)"--peer",
                    (char *)"tcp://10.0.0.2:7100",
                    (char *)"--path.0",
                    (char *)"10.0.1.1:7001,10.0.1.2:7002",
                    (char *)"--path.1",
                    (char *)"[fd00::1]:7001,[fd00::2]:7002",
                    (char *)"--arbiter",
                    (char *)"etcd",
                    (char *)"--arbiter-endpoints",
                    (char *)"http://10.0.2.9:2379 http://[fd00::9]:2379",
                    (char *)"--secret-file",
                    (char *)SECRET_FILE};
    enum config_action action;
    struct error err = {0};
    const int rc = config_read(ARRAY_SIZE(argv), argv, stdout, config, &action, &err);
    if (rc < 0)
        printf("\n  %s\n", err.text);
    CU_ASSERT_EQUAL_FATAL(rc, 0);
}

static void rules_match_the_pair_only_and_end_by_themselves(void)
{
    struct config config;
    take_config(&config);
    char *text = rules(&config, "isolate-all", 0, "");
    static const char *const wanted[] = {
        "delete table inet kemari-drill-web\n",
        "  ip saddr 10.0.0.1 tcp sport 7000 meta l4proto @armed drop\n",
        "  ip daddr 10.0.0.2 tcp dport 7100 meta l4proto @armed drop\n",
        "  ip daddr 10.0.1.2 udp dport 7002 meta l4proto @armed drop\n",
        "  ip6 saddr fd00::2 udp sport 7002 meta l4proto @armed drop\n",
        "  ip daddr 10.0.2.9 tcp dport 2379 meta l4proto @armed drop\n",
        "  ip6 saddr fd00::9 tcp sport 2379 meta l4proto @armed drop\n",
        "armed { tcp timeout 7s, udp timeout 7s }\n",
    };
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
        CU_ASSERT_PTR_NOT_NULL(strstr(text, wanted[i]));
    /* No rule without the condition that times out. */
    for (const char *at = text; (at = strstr(at, "addr ")); at++) {
        const char *end = strchr(at, '\n'), *armed = strstr(at, "@armed");
        CU_ASSERT(armed && armed < end);
    }
    free(text);
    text = rules(&config, "isolate-heartbeat", 0, "");
    CU_ASSERT_PTR_NULL(strstr(text, "sport 7000"));
    CU_ASSERT_PTR_NULL(strstr(text, "2379"));
    free(text);
    text = rules(&config, "slow-link", 0, "");
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "@armed limit rate over"));
    free(text);
    config.arbiter = CONFIG_ARBITER_NONE;
    free(rules(&config, "isolate-arbiter", -ENOTSUP, "only an arbiter of type etcd"));
    config.listen.scheme = "rdma";
    free(rules(&config, "isolate-data", -ENOTSUP, "past the kernel's packet filter"));
    config_free(&config);
}

/* ---- reports ---- */

static struct drill_report make_report(const char *id)
{
    struct drill_report r = {.began_wall_ns = 1714979289123456789,
                             .steps = {MSEC(31), MSEC(33), MSEC(38), MSEC(40), MSEC(41), SEC(2)},
                             .term_before = 3,
                             .term_after = 4,
                             .moved = true,
                             .held_frames = 7,
                             .longest_hold_ns = 870000,
                             .resync_bytes = 12345678,
                             .survived = true,
                             .event_count = 1};
    TEXT(r.id, id);
    TEXT(r.vm, "web");
    TEXT(r.scenario, "kill");
    TEXT(r.role, "primary");
    TEXT(r.arbiter, "etcd");
    TEXT(r.cause, "silent on every path");
    TEXT(r.why, "the guest runs on <the> other host & is well");
    r.events[0] = (struct drill_event){.at_ns = MSEC(31), .other = true};
    TEXT(r.events[0].severity, "warning");
    TEXT(r.events[0].kind, "heartbeat.suspect");
    TEXT(r.events[0].text, "silent on every path");
    return r;
}

static char *printed(const struct drill_report *r, bool picture)
{
    char *text;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    if (picture)
        drill_report_svg(r, stream);
    else
        drill_report_text(r, false, stream);
    fclose(stream);
    return text;
}

static void a_report_survives_json(void)
{
    struct drill_report r = make_report("20240506T070809Z-kill"), copy;
    r.steps[DRILL_FIRST_OUTPUT] = -1;
    char *json = drill_report_json(&r, false);
    struct error err = {0};
    CU_ASSERT_EQUAL(drill_report_parse(json, &copy, &err), 0);
    char *again = drill_report_json(&copy, false);
    CU_ASSERT_STRING_EQUAL(json, again);
    free(again);
    CU_ASSERT_PTR_NOT_NULL(strstr(json, "\"first_output\": null"));
    json[strlen(json) / 2] = '\0';
    CU_ASSERT_EQUAL(drill_report_parse(json, &copy, &err), -EBADMSG);
    free(json);
    CU_ASSERT_EQUAL(drill_report_parse("{\"schema\": 1}", &copy, &err), -EBADMSG);
    CU_ASSERT_EQUAL(drill_report_parse("{\"schema\": 2, \"steps_ns\": {}}", &copy, &err), -EBADMSG);
}

static void a_report_reads_well_and_is_a_picture(void)
{
    const struct drill_report r = make_report("20240506T070809Z-kill");
    char *text = printed(&r, false);
    static const char *const wanted =
        "drill 20240506T070809Z-kill: SURVIVED: the guest runs on <the> other host & is well\n"
        "  scenario       kill on the primary of web, 2024-05-06 07:08:09, arbiter etcd\n"
        "  detected       31 ms      the other host suspected this one\n"
        "  granted        33 ms      it was granted the next term\n"
        "  promoted       38 ms      the guest ran there\n"
        "  first_output   40 ms      its first output left\n"
        "  healed         41 ms      the fault was taken back\n"
        "  protected      2 s        protected again\n"
        "  term           3 to 4, the guest moved\n"
        "  cause          silent on every path\n"
        "  outputs held   7 at most, the longest for 870 us\n"
        "  resynchronised 11.8 MiB\n"
        "  +31 ms      other warning heartbeat.suspect      silent on every path\n";
    CU_ASSERT_STRING_EQUAL(text, wanted);
    if (strcmp(text, wanted) != 0)
        printf("\n%s", text);
    free(text);
    text = printed(&r, true);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "&lt;the> other host &amp; is well"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "first output 40 ms</text>"));
    CU_ASSERT_EQUAL(strcmp(text + strlen(text) - 7, "</svg>\n"), 0);
    free(text);
}

static void the_history_keeps_the_newest(void)
{
    char directory[] = "/tmp/kemari-drills-XXXXXX";
    char id[DRILL_ID_MAX], words[256];
    struct error err = {0};
    struct drill_report found;
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(directory));
    CU_ASSERT_EQUAL(drill_history_load(directory, NULL, &found, &err), -ENOENT);
    int lock = drill_history_lock(directory, &err);
    CU_ASSERT_FATAL(lock >= 0);
    CU_ASSERT_EQUAL(drill_history_lock(directory, &err), -EBUSY);
    CU_ASSERT_STRING_EQUAL(err.text, "another drill is running here");
    for (int i = 0; i < DRILL_HISTORY_KEPT + 3; i++) {
        snprintf(id, sizeof(id), "20240506T%06dZ-kill", i);
        const struct drill_report r = make_report(id);
        CU_ASSERT_EQUAL(drill_history_save(directory, &r, &err), 0);
    }
    close(lock);
    char **ids;
    const int count = drill_history_list(directory, &ids, &err);
    CU_ASSERT_EQUAL(count, DRILL_HISTORY_KEPT);
    CU_ASSERT_STRING_EQUAL(ids[0], "20240506T000003Z-kill");
    drill_history_free(ids, count);
    CU_ASSERT_EQUAL(drill_history_load(directory, NULL, &found, &err), 0);
    CU_ASSERT_STRING_EQUAL(found.id, id);
    CU_ASSERT_EQUAL(drill_history_load(directory, "../../etc/passwd", &found, &err), -ENOENT);
    snprintf(words, sizeof(words), "drill report --state-dir %s --json 20240506T000009Z-kill",
             directory);
    char *out, *said;
    CU_ASSERT_EQUAL(kemarictl_run_words(words, &out, &said), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"id\": \"20240506T000009Z-kill\""));
    free(out);
    free(said);
    snprintf(words, sizeof(words), "rm -r %s", directory);
    CU_ASSERT_EQUAL(system(words), 0);
}

static void the_verb_lists_and_refuses(void)
{
    char *out, *err;
    CU_ASSERT_EQUAL(kemarictl_run_words("drill list", &out, &err), 0);
    for (size_t i = 0; i < drill_scenario_count; i++)
        CU_ASSERT_PTR_NOT_NULL(strstr(out, drill_scenarios[i].what));
    free(out);
    free(err);
    CU_ASSERT_EQUAL(kemarictl_run_words("drill list --json", &out, &err), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"name\": \"isolate-all\""));
    free(out);
    free(err);
    static const char *const nonsense[] = {"drill", "drill list now", "drill run",
                                           "drill report a b"};
    for (size_t i = 0; i < ARRAY_SIZE(nonsense); i++)
        kemarictl_expect(nonsense[i], 2, "",
                         "kemarictl: drill: say \"list\", \"run SCENARIO\", or \"report "
                         "[ID|all]\" (try --help)\n");
    kemarictl_expect("drill run dance", 2, "",
                     "kemarictl: drill: there is no scenario \"dance\" (see \"drill list\")\n");
    kemarictl_expect("drill run kill", 2, "",
                     "kemarictl: drill run needs --peer, how to ask the other host: for example "
                     "--peer \"ssh HOST kemarictl -m NAME\"\n");
    kemarictl_expect("drill run kill --peer x", 2, "",
                     "kemarictl: drill run asks for confirmation; without a terminal it needs "
                     "--yes\n");
    kemarictl_expect("drill run kill --peer x --yes --seconds 61", 2, "",
                     "kemarictl: a drill's fault lasts 60 s at most\n");
    kemarictl_expect("-r /nowhere drill run kill --peer x --yes", 3, "",
                     "kemarictl: no kemarid runs here: /nowhere has no socket\n");
    kemarictl_expect("drill report --state-dir /nowhere", 1, "",
                     "kemarictl: there was no drill yet: /nowhere/drills has no report\n");
}

static const struct test_case cases[] = {
    {"a protected pair may be struck", a_protected_pair_may_be_struck},
    {"what would not be survived is named", what_would_not_be_survived_is_named},
    {"what is no pair is no drill", what_is_no_pair_is_no_drill},
    {"a failover is survived by the steps of the heir",
     a_failover_is_survived_by_the_steps_of_the_heir},
    {"a power failure is judged from the host that stays",
     a_power_failure_is_judged_from_the_host_that_stays},
    {"a verdict finds what went wrong", a_verdict_finds_what_went_wrong},
    {"a status is understood and garbage is not", a_status_is_understood_and_garbage_is_not},
    {"rules match the pair only and end by themselves",
     rules_match_the_pair_only_and_end_by_themselves},
    {"a report survives JSON", a_report_survives_json},
    {"a report reads well and is a picture", a_report_reads_well_and_is_a_picture},
    {"the history keeps the newest", the_history_keeps_the_newest},
    {"the verb lists and refuses", the_verb_lists_and_refuses},
};

int main(int argc, char **argv)
{
    if (!freopen("/dev/null", "r", stdin))
        return 1;
    setenv("TZ", "UTC", 1);
    unsetenv("KEMARI_PEER_CTL");
    unsetenv("KEMARI_RUN_DIR");
    FILE *secret = fopen(SECRET_FILE, "we");
    if (!secret || fputs("a secret of the drill test\n", secret) < 0 || fclose(secret) != 0 ||
        chmod(SECRET_FILE, 0600) != 0)
        return 1;
    return test_run(argc, argv, "drill", cases, ARRAY_SIZE(cases));
}
