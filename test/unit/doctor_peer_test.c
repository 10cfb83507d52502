/* kemarictl doctor --peer: what two hosts tell each other, what is judged of it, and the
 * measurement of the link between two doctors. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/doctor_checks.h"
#include "app/doctor_facts.h"
#include "test/support/doctor_fixture.h"
#include "test/support/kemarictl_words.h"
#include "test/support/runner.h"

static struct doctor_facts make_facts(void)
{
    struct doctor_facts f = {.version = "0.1.0",
                             .kernel = "6.1.0-56-amd64",
                             .clock = "tsc",
                             .machine = "kvm",
                             .listen = "tls://192.0.2.1:7000",
                             .peer = "tls://192.0.2.2:7000",
                             .memory = 1 << 30,
                             .vcpus = 2,
                             .tsc_khz = 2600000,
                             .heartbeat_interval = 10000000,
                             .disk_count = 1,
                             .disks = {1 << 20},
                             .leaf_count = 2,
                             .leaves = {{0, 0, {7, 1, 2, 3}}, {7, 0, {0, 0x20, 0x40, 0}}}};
    return f;
}

/* The same of the other host. */
static struct doctor_facts make_other(void)
{
    struct doctor_facts f = make_facts();
    strcpy(f.listen, "tls://192.0.2.2:7000");
    strcpy(f.peer, "tls://192.0.2.1:7000");
    return f;
}

static const char GOLDEN[] =
    "{\"version\":\"0.1.0\",\"kernel\":\"6.1.0-56-amd64\",\"clock\":\"tsc\",\"machine\":\"kvm\","
    "\"listen\":\"tls://192.0.2.1:7000\",\"peer\":\"tls://192.0.2.2:7000\",\"memory\":1073741824,"
    "\"vcpus\":2,\"tsc_khz\":2600000,\"heartbeat_interval_ns\":10000000,\"tsc_scaling\":false,"
    "\"disks\":[1048576],\"cpuid\":[[0,0,7,1,2,3],[7,0,0,32,64,0]]}";

static int parse(const char *text, struct doctor_facts *facts, bool *yes, char reasons[64])
{
    struct error err = {0};
    const int rc = doctor_facts_parse(text, facts, yes, reasons, 64, &err);
    CU_ASSERT_EQUAL(rc == 0, err.text[0] == '\0');
    return rc;
}

static char *report_of(const char *facts, const char *checks)
{
    char *text;
    CU_ASSERT_TRUE_FATAL(
        asprintf(&text, "{\"can_protect\":true,\"checks\":%s,\"facts\":%s}", checks, facts) > 0);
    return text;
}

static void facts_survive_json(void)
{
    const struct doctor_facts facts = make_facts();
    struct doctor_facts back;
    char reasons[64];
    bool yes;
    json_t *json = doctor_facts_json(&facts);
    char *text = json_dumps(json, JSON_COMPACT);
    CU_ASSERT_STRING_EQUAL(text, GOLDEN);
    char *report = report_of(text, "[{\"verdict\":\"problem\",\"reason\":\"tap-missing\"},"
                                   "{\"verdict\":\"warning\",\"reason\":\"tap-down\"},"
                                   "{\"verdict\":\"problem\",\"reason\":\"disk-busy\"}]");
    CU_ASSERT_EQUAL(parse(report, &back, &yes, reasons), 0);
    CU_ASSERT_EQUAL(memcmp(&facts, &back, sizeof(facts)), 0);
    CU_ASSERT_TRUE(yes);
    CU_ASSERT_STRING_EQUAL(reasons, "tap-missing, disk-busy");
    for (size_t length = 0; length < strlen(report); length++) {
        char *cut = strndup(report, length);
        CU_ASSERT_EQUAL(parse(cut, &back, &yes, reasons), -EBADMSG);
        CU_ASSERT_EQUAL(back.vcpus, 0);
        free(cut);
    }
    free(report);
    free(text);
    json_decref(json);
}

/* GOLDEN with that in place of what is there. */
static void expect_refused(const char *old, const char *new)
{
    struct doctor_facts facts;
    char reasons[64], *changed, *place = strstr(GOLDEN, old);
    bool yes;
    CU_ASSERT_PTR_NOT_NULL_FATAL(place);
    CU_ASSERT_TRUE_FATAL(asprintf(&changed, "%.*s%s%s", (int)(place - GOLDEN), GOLDEN, new,
                                  place + strlen(old)) > 0);
    char *report = report_of(changed, "[]");
    CU_ASSERT_EQUAL(parse(report, &facts, &yes, reasons), -EBADMSG);
    free(report);
    free(changed);
}

static void facts_that_make_no_sense_are_refused(void)
{
    expect_refused("\"memory\":1073741824", "\"memory\":-1");
    expect_refused("\"vcpus\":2", "\"vcpus\":\"2\"");
    expect_refused("\"clock\":\"tsc\"", "\"clock\":\"\\u001b[2J\"");
    expect_refused("\"clock\":\"tsc\"", "\"clock\":1");
    expect_refused("[7,0,0,32,64,0]", "[7,0,0,32,64]");
    expect_refused("[7,0,0,32,64,0]", "[7,0,0,4294967296,64,0]");
    expect_refused("[1048576]", "[-1]");
    expect_refused("[1048576]",
                   "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]");
    expect_refused("[1048576]", "7");
    expect_refused("6.1.0-56-amd64", "0123456789012345678901234567890123456789012345678901234567890"
                                     "123456789012345678901234567890123456789");
}

/* What is said of that check when these two are compared. */
static void expect(const struct doctor_facts *own, const struct doctor_facts *peer,
                   const char *check, const char *reason, const char *part)
{
    static struct doctor_report report;
    report = (struct doctor_report){0};
    doctor_say(&report, "cpu", "", DOCTOR_CPU_NOT_COMPARED, "not compared");
    doctor_facts_judge(own, peer, &report);
    for (unsigned i = 0; i < report.count; i++) {
        const struct doctor_finding *f = &report.findings[i];
        if (strcmp(f->check, check) != 0)
            continue;
        CU_ASSERT_STRING_EQUAL(doctor_cures[f->reason].reason, reason);
        CU_ASSERT_PTR_NOT_NULL(strstr(f->found, part));
        if (strcmp(doctor_cures[f->reason].reason, reason) != 0 || !strstr(f->found, part))
            printf("\n  %s: %s: %s\n", check, doctor_cures[f->reason].reason, f->found);
        return;
    }
    CU_ASSERT_STRING_EQUAL("", reason);
}

static void hosts_that_agree_are_fine(void)
{
    const struct doctor_facts own = make_facts(), peer = make_other();
    expect(&own, &peer, "cpu", "ok", "2 leaves");
    expect(&own, &peer, "tsc", "ok", "2600000 kHz");
    expect(&own, &peer, "clocks", "", "");
    expect(&own, &peer, "machine", "ok", "agree");
    expect(&own, &peer, "peer-versions", "ok", "0.1.0");
}

static void processors_are_compared_leaf_by_leaf(void)
{
    const struct doctor_facts own = make_facts();
    struct doctor_facts peer = make_other();
    peer.leaves[1].registers[2] = 0x41;
    expect(&own, &peer, "cpu", "cpu-differs", "leaf 0x7.0 ecx is 0x40 here and 0x41 there");
    peer = make_other();
    peer.leaf_count = 1;
    expect(&own, &peer, "cpu", "cpu-differs", "leaf 0x7.0 ebx is 0x20 here and 0 there");
    expect(&peer, &own, "cpu", "cpu-differs", "leaf 0x7.0 ebx is 0 here and 0x20 there");
    peer.leaf_count = 0;
    expect(&own, &peer, "cpu", "cpu-not-compared", "not compared");
}

static void clocks_must_be_alike(void)
{
    struct doctor_facts own = make_facts(), peer = make_other();
    peer.tsc_khz = 2600000 + 600; /* 230 ppm */
    expect(&own, &peer, "tsc", "ok", "2600600 there");
    peer.tsc_khz = 2600000 + 700;
    expect(&own, &peer, "tsc", "tsc-differs", "2600700 there");
    own.tsc_scaling = true;
    expect(&own, &peer, "tsc", "tsc-differs", "here yes, there no");
    peer.tsc_scaling = true;
    expect(&own, &peer, "tsc", "ok", "");
    strcpy(peer.clock, "hpet");
    expect(&own, &peer, "clocks", "clocks-differ", "tsc here and hpet there");
}

static void machines_must_be_equal(void)
{
    const struct doctor_facts own = make_facts();
    struct doctor_facts peer = make_other();
    peer.memory = 2;
    expect(&own, &peer, "machine", "machine-differs", "memory is 1073741824 bytes here and 2");
    peer = make_other();
    peer.vcpus = 3;
    expect(&own, &peer, "machine", "machine-differs", "vcpus is 2 here and 3");
    peer = make_other();
    strcpy(peer.machine, "qemu");
    expect(&own, &peer, "machine", "machine-differs", "type is kvm here and qemu");
    peer = make_other();
    peer.disk_count = 0;
    expect(&own, &peer, "machine", "machine-differs", "1 disks here and 0");
    peer = make_other();
    peer.disks[0] = 7;
    expect(&own, &peer, "machine", "machine-differs", "disk.0 has 1048576 bytes here and 7");
    peer.disks[0] = 0; /* busy there: not known */
    expect(&own, &peer, "machine", "ok", "");
    expect(&own, &own, "machine", "machine-differs", "listen is tls://192.0.2.1:7000");
    peer = make_other();
    strcpy(peer.version, "0.2.0");
    expect(&own, &peer, "peer-versions", "versions-differ", "0.1.0 here and 0.2.0 there");
}

static void expect_link(nsec_t round_trip, uint64_t rate, uint64_t need, const char *latency,
                        const char *bandwidth)
{
    static struct doctor_report report;
    const struct config config = {.heartbeat_interval = MSEC(10)};
    report = (struct doctor_report){0};
    doctor_judge_link(&config, round_trip, round_trip, rate, need, &report);
    CU_ASSERT_EQUAL_FATAL(report.count, 2);
    CU_ASSERT_STRING_EQUAL(doctor_cures[report.findings[0].reason].reason, latency);
    CU_ASSERT_STRING_EQUAL(doctor_cures[report.findings[1].reason].reason, bandwidth);
}

static void a_link_is_judged_by_what_the_guest_needs(void)
{
    expect_link(USEC(100), 1000000, 0, "ok", "link-not-judged");
    expect_link(USEC(100), 1000000, 500000, "ok", "ok");
    expect_link(USEC(100), 1000000, 500001, "ok", "link-narrow");
    expect_link(MSEC(11), 1000000, 1, "peer-far", "ok");
}

/* ---- two doctors ---- */

static char other_config[64], other_host[64];

static void write_config(const char *path, const char *own, const char *other, const char *role,
                         const char *memory)
{
    char text[1024];
    snprintf(
        text, sizeof(text),
        "[vm]\nname = web\nrole = %s\nrun-dir = %s\nstate-dir = %s\n"
        "[machine]\nkernel = /bin/sh\nmemory = %s\n"
        "[replication]\nlisten = tls://%s:17590\npeer = tls://%s:17590\n"
        "[heartbeat]\npath.0 = %s:17591,%s:17591\nsecret-file = %s\n[arbiter]\ntype = manual\n",
        role, doctor_directory, doctor_state_dir, memory, own, other, own, other, doctor_secret);
    doctor_write_file(path, text, 0600);
}

/* A script in ssh's place: the same file has another name and content on the other host. */
static void write_pair(const char *other_memory)
{
    char script[512];
    snprintf(other_config, sizeof(other_config), "%s/other.ini", doctor_directory);
    snprintf(other_host, sizeof(other_host), "%s/host-b", doctor_directory);
    doctor_write_file(doctor_secret, "sixteen bytes and more", 0600);
    write_config(doctor_config, "127.0.0.1", "127.0.0.2", "primary", "64M");
    write_config(other_config, "127.0.0.2", "127.0.0.1", "secondary", other_memory);
    snprintf(script, sizeof(script), "#!/bin/sh\nexec %s \"$1\" \"$2\" %s\n", KEMARICTL,
             other_config);
    doctor_write_file(other_host, script, 0700);
}

static json_t *ask_both(const char *options)
{
    char words[256], *out, *err;
    snprintf(words, sizeof(words), "doctor --json %s --peer %s %s", doctor_config, other_host,
             options);
    kemarictl_run_words(words, &out, &err);
    CU_ASSERT_STRING_EQUAL(err, "");
    json_t *json = json_loads(out, 0, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(json);
    free(out);
    free(err);
    unlink(other_config);
    unlink(other_host);
    return json;
}

static void two_hosts_are_compared_and_their_link_is_measured(void)
{
    write_pair("64M");
    json_t *json = ask_both("--need 1K");
    const char *said = doctor_reason_of(json, "peer-doctor", "");
    CU_ASSERT_TRUE(strcmp(said, "ok") == 0 || strcmp(said, "peer-says-no") == 0);
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "machine", ""), "ok");
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "peer-versions", ""), "ok");
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "bandwidth", ""), "ok");
    CU_ASSERT_STRING_NOT_EQUAL(doctor_reason_of(json, "latency", ""), "not-tried");
    json_decref(json);
}

static void a_difference_between_two_hosts_forbids(void)
{
    write_pair("128M");
    json_t *json = ask_both("");
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "machine", ""), "machine-differs");
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "bandwidth", ""), "link-not-judged");
    CU_ASSERT_TRUE(json_is_false(json_object_get(json, "can_protect")));
    json_decref(json);
}

static void a_host_that_does_not_answer_is_told(void)
{
    write_pair("64M");
    doctor_write_file(other_host, "#!/bin/sh\necho '{}'\n", 0700);
    json_t *json = ask_both("");
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "peer-doctor", ""), "peer-silent");
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "machine", ""), "");
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "latency", ""), "");
    json_decref(json);
}

static void the_link_is_not_measured_with_a_stranger(void)
{
    char script[640];
    write_pair("64M");
    snprintf(
        script, sizeof(script),
        "#!/bin/sh\n[ \"$2\" = --json ] || { echo nothing; exit 1; }\nexec %s \"$1\" \"$2\" %s\n",
        KEMARICTL, other_config);
    doctor_write_file(other_host, script, 0700);
    json_t *json = ask_both("");
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "latency", ""), "not-tried");
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "bandwidth", ""), "");
    json_decref(json);
}

static void the_verb_refuses_what_makes_no_sense(void)
{
    kemarictl_expect("doctor x.ini --need 5M", 2, "",
                     "kemarictl: doctor: --need makes sense with --peer only\n");
    char *out, *err;
    CU_ASSERT_EQUAL(kemarictl_run_words("doctor x.ini --peer ssh --need much", &out, &err), 2);
    CU_ASSERT_STRING_EQUAL(out, "");
    free(out);
    free(err);
    CU_ASSERT_EQUAL(kemarictl_run_words("doctor /nowhere/x.ini --answer", &out, &err), 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(err, "/nowhere/x.ini"));
    free(out);
    free(err);
    CU_ASSERT_EQUAL(kemarictl_run_words("status --need 5M", &out, &err), 2);
    free(out);
    free(err);
}

static const struct test_case cases[] = {
    {"facts survive JSON", facts_survive_json},
    {"facts that make no sense are refused", facts_that_make_no_sense_are_refused},
    {"hosts that agree are fine", hosts_that_agree_are_fine},
    {"processors are compared leaf by leaf", processors_are_compared_leaf_by_leaf},
    {"clocks must be alike", clocks_must_be_alike},
    {"machines must be equal", machines_must_be_equal},
    {"a link is judged by what the guest needs", a_link_is_judged_by_what_the_guest_needs},
    {"two hosts are compared and their link is measured",
     two_hosts_are_compared_and_their_link_is_measured},
    {"a difference between two hosts forbids", a_difference_between_two_hosts_forbids},
    {"a host that does not answer is told", a_host_that_does_not_answer_is_told},
    {"the link is not measured with a stranger", the_link_is_not_measured_with_a_stranger},
    {"the verb refuses what makes no sense", the_verb_refuses_what_makes_no_sense},
};

int main(int argc, char **argv)
{
    if (!doctor_begin())
        return 1;
    const int status = test_run(argc, argv, "doctor-peer", cases, ARRAY_SIZE(cases));
    return doctor_end() ? status : 1;
}
