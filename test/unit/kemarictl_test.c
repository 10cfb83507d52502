/* kemarictl: what people and programs get to see, and its exit status. Golden texts are files under
 * test/golden; KEMARI_UPDATE_GOLDEN=1 writes them anew, to be read before they are committed. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "control/json.h"
#include "control/render.h"
#include "control/schema.h"
#include "test/support/control_fixture.h"
#include "test/support/control_sample.h"
#include "test/support/kemarictl_words.h"
#include "test/support/runner.h"

static char *read_whole(const char *path)
{
    FILE *file = fopen(path, "re");
    char *text = calloc(1, 65536);
    if (file) {
        text[fread(text, 1, 65535, file)] = '\0';
        fclose(file);
    }
    return text;
}

static void expect_golden(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/test/golden/%s", SOURCE_DIR, name);
    if (getenv("KEMARI_UPDATE_GOLDEN")) {
        FILE *file = fopen(path, "we");
        CU_ASSERT_PTR_NOT_NULL_FATAL(file);
        fputs(text, file);
        fclose(file);
    }
    char *golden = read_whole(path);
    CU_ASSERT_STRING_EQUAL(text, golden);
    if (strcmp(text, golden) != 0)
        printf("\n--- %s, wanted:\n%s--- got:\n%s", name, golden, text);
    free(golden);
}

static char *rendered(const struct control_status *status, bool colour)
{
    char *text;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    control_render_status(status, colour, stream);
    fclose(stream);
    return text;
}

static void the_status_reads_as_committed(void)
{
    struct control_status *status = calloc(1, sizeof(*status));
    control_sample_protected(status);
    control_status_finish(status);
    char *text = rendered(status, false);
    expect_golden("status-protected.txt", text);
    free(text);
    control_sample_unprotected(status);
    text = rendered(status, false);
    expect_golden("status-unprotected.txt", text);
    free(text);
    memset(status, 0, sizeof(*status));
    control_status_finish(status);
    text = rendered(status, false);
    expect_golden("status-empty.txt", text);
    free(text);
    free(status);
}

static void the_status_in_json_reads_as_committed(void)
{
    struct control_status *status = calloc(1, sizeof(*status));
    control_sample_unprotected(status);
    char *text = control_json_status(status, false);
    expect_golden("status-unprotected.json", text);
    free(text);
    text = control_json_status(status, true);
    CU_ASSERT_PTR_NULL(strchr(text, '\n'));
    free(text);
    free(status);
}

static void an_event_reads_as_committed(void)
{
    struct control_event event;
    control_sample_event(&event);
    char *text;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    control_render_event(&event, false, stream);
    fclose(stream);
    CU_ASSERT_STRING_EQUAL(text, "2024-05-06 07:08:09.123 warning failover.suspect     the peer is "
                                 "silent silence_ns=31000000 path=10.0.0.2:7001\n");
    free(text);
    text = control_json_event(&event);
    CU_ASSERT_STRING_EQUAL(
        text, "{\"id\":42,\"wall_ns\":1714979289123456789,\"monotonic_ns\":1234567890,\"severity\":"
              "\"warning\",\"kind\":\"failover.suspect\",\"text\":\"the peer is silent\","
              "\"fields\":{\"silence_ns\":\"31000000\",\"path\":\"10.0.0.2:7001\"}}");
    free(text);
}

static void colours_stand_where_they_are_asked_for(void)
{
    struct control_status *status = calloc(1, sizeof(*status));
    control_sample_unprotected(status);
    char *plain = rendered(status, false);
    char *coloured = rendered(status, true);
    CU_ASSERT_PTR_NULL(strchr(plain, '\033'));
    CU_ASSERT_PTR_NOT_NULL(strstr(coloured, "\033[1;31mNOT PROTECTED\033[0m: "));
    free(plain);
    free(coloured);
    free(status);
}

static void amounts_have_three_digits_and_a_unit(void)
{
    char text[CONTROL_AMOUNT_MAX];
    CU_ASSERT_STRING_EQUAL(control_format_time(0, text), "0 ns");
    CU_ASSERT_STRING_EQUAL(control_format_time(999, text), "999 ns");
    CU_ASSERT_STRING_EQUAL(control_format_time(1250000, text), "1.25 ms");
    CU_ASSERT_STRING_EQUAL(control_format_time(SEC(99), text), "99 s");
    CU_ASSERT_STRING_EQUAL(control_format_time(SEC(100), text), "1m 40s");
    CU_ASSERT_STRING_EQUAL(control_format_time(SEC(90061), text), "1d 01h");
    CU_ASSERT_STRING_EQUAL(control_format_time(UINT64_MAX, text), "213503d 23h");
    CU_ASSERT_STRING_EQUAL(control_format_bytes(1023, text), "1023 B");
    CU_ASSERT_STRING_EQUAL(control_format_bytes(1536, text), "1.50 KiB");
    CU_ASSERT_STRING_EQUAL(control_format_bytes(UINT64_MAX, text), "16777216 TiB");
    CU_ASSERT_STRING_EQUAL(control_format_rate(0, text), "0");
    CU_ASSERT_STRING_EQUAL(control_format_rate(12345, text), "12.3k");
}

/* P5: whoever claims it, a contradiction takes "protected" back. */
static void a_status_that_contradicts_itself_is_not_protected(void)
{
    struct control_status *s = calloc(1, sizeof(*s));
    control_sample_protected(s);
    control_status_finish(s);
    CU_ASSERT_TRUE(s->protected);
    for (enum control_state state = CONTROL_STATE_STARTING; state <= CONTROL_STATE_STOPPED;
         state++) {
        control_sample_protected(s);
        s->state = state;
        control_status_finish(s);
        CU_ASSERT_EQUAL(s->protected, state == CONTROL_STATE_REPLICATING);
        CU_ASSERT_EQUAL(s->reason[0] == '\0', s->protected);
    }
    control_sample_protected(s);
    s->role = CONTROL_ROLE_SOLO;
    control_status_finish(s);
    CU_ASSERT_FALSE(s->protected);
    control_sample_protected(s);
    s->peer.connected = false;
    control_status_finish(s);
    CU_ASSERT_FALSE(s->protected);
    control_sample_protected(s);
    s->arbiter.state = CONTROL_ARBITER_UNREACHABLE;
    control_status_finish(s);
    CU_ASSERT_FALSE(s->protected);
    control_sample_protected(s);
    strcpy(s->reason, "a disk is not in step");
    control_status_finish(s);
    CU_ASSERT_FALSE(s->protected);
    CU_ASSERT_STRING_EQUAL(s->reason, "a disk is not in step");
    free(s);
}

static void more_warnings_than_fit_end_in_a_hint(void)
{
    struct control_status *s = calloc(1, sizeof(*s));
    for (int i = 0; i < CONTROL_WARNINGS_MAX + 2; i++)
        control_status_warn(s, "warning %d", i);
    CU_ASSERT_EQUAL(s->warning_count, CONTROL_WARNINGS_MAX);
    CU_ASSERT_STRING_EQUAL(s->warnings[CONTROL_WARNINGS_MAX - 1], "... and more");
    free(s);
}

static void find_keys(const struct schema *schema, const char *prefix, const char *text)
{
    for (size_t i = 0; i < schema->field_count; i++) {
        const struct schema_field *field = &schema->fields[i];
        char key[128], quoted[132];
        snprintf(key, sizeof(key), "%s%s%s", prefix, field->name,
                 field->kind == SCHEMA_OBJECTS || field->kind == SCHEMA_STRINGS ? "[]" : "");
        snprintf(quoted, sizeof(quoted), "`%.120s`", key);
        CU_ASSERT_PTR_NOT_NULL(strstr(text, quoted));
        if (!strstr(text, quoted))
            printf("\n  not in docs/status-json.md: %s\n", quoted);
        for (unsigned n = 0; n < field->name_count; n++)
            CU_ASSERT_PTR_NOT_NULL(strstr(text, field->names[n]));
        snprintf(quoted, sizeof(quoted), "%.120s.", key);
        if (field->sub)
            find_keys(field->sub, quoted, text);
    }
}

static void every_key_of_the_json_is_documented(void)
{
    char *text = read_whole(SOURCE_DIR "/docs/status-json.md");
    find_keys(&control_status_schema, "", text);
    free(text);
}

static void a_wrong_command_line_exits_with_2(void)
{
    kemarictl_expect("", 2, "", "kemarictl: no verb: what is to be done? (try --help)\n");
    kemarictl_expect("dance", 2, "", "kemarictl: dance: there is no such verb (try --help)\n");
    kemarictl_expect("status stop", 2, "", "kemarictl: stop: one verb is enough (try --help)\n");
    kemarictl_expect("status --colour", 2, "",
                     "kemarictl: --colour: there is no such option (try --help)\n");
    kemarictl_expect("stop --follow", 2, "",
                     "kemarictl: --follow: this verb does not take the option (try --help)\n");
    kemarictl_expect("status -s", 2, "", "kemarictl: -s: the value is missing (try --help)\n");
    kemarictl_expect("status --json=1", 2, "",
                     "kemarictl: --json: this option takes no value (try --help)\n");
    kemarictl_expect("events --since x", 2, "",
                     "kemarictl: --since x: neither a number of an event nor a time, such as "
                     "\"2h\", \"10:30\" or \"2025-01-31 10:30\"\n");
    kemarictl_expect("grant --term -1", 2, "",
                     "kemarictl: --term: the value is not a number (try --help)\n");
    static const char *const nonsense[] = {"policy", "policy get now", "policy set",
                                           "policy put window=2"};
    for (size_t i = 0; i < ARRAY_SIZE(nonsense); i++)
        kemarictl_expect(nonsense[i], 2, "",
                         "kemarictl: policy: say \"get\", or \"set KEY=VALUE...\" (try --help)\n");
    kemarictl_expect("policy set window", 2, "",
                     "kemarictl: policy: \"window\" is not KEY=VALUE\n");
    kemarictl_expect("policy set =2", 2, "", "kemarictl: policy: \"=2\" is not KEY=VALUE\n");
    static const char *const senseless[] = {"keygen", "keygen secret", "keygen secret a b",
                                            "keygen certificates /tmp", "keygen riddle x"};
    for (size_t i = 0; i < ARRAY_SIZE(senseless); i++)
        kemarictl_expect(
            senseless[i], 2, "",
            "kemarictl: keygen: say \"secret FILE\", or \"certificates DIRECTORY HOST...\" (try "
            "--help)\n");
    kemarictl_expect("keygen certificates /tmp a/b", 2, "",
                     "kemarictl: \"a/b\" is neither a DNS name nor a numeric address of a host\n");
    kemarictl_expect("dump", 2, "", "kemarictl: dump: say \"FILE\" (try --help)\n");
    kemarictl_expect(
        "status -s a -m b", 2, "",
        "kemarictl: --socket and --machine: only one of the two can be meant (try --help)\n");
}

static void keygen_makes_what_is_not_there_and_overwrites_nothing(void)
{
    char folder[] = "/tmp/kemarictl-keygen-XXXXXX";
    char words[128], said[256];
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    snprintf(words, sizeof(words), "keygen secret %s/secret", folder);
    snprintf(said, sizeof(said), "secret: %s/secret (the same file on both hosts)\n", folder);
    kemarictl_expect(words, 0, said, "");
    snprintf(said, sizeof(said), "kemarictl: %s/secret exists and is not overwritten\n", folder);
    kemarictl_expect(words, 1, "", said);
    snprintf(words, sizeof(words), "keygen certificates %s 192.0.2.1", folder);
    snprintf(said, sizeof(said),
             "authority: %s/ca.pem, ca.key (keep it off the hosts)\n"
             "host: %s/192.0.2.1.pem, 192.0.2.1.key\n",
             folder, folder);
    kemarictl_expect(words, 0, said, "");
    snprintf(said, sizeof(said), "kemarictl: %s/192.0.2.1.key exists and is not overwritten\n",
             folder);
    kemarictl_expect(words, 1, "", said);
    /* The authority that is there makes further certificates. */
    snprintf(words, sizeof(words), "keygen certificates %s b.example", folder);
    snprintf(said, sizeof(said), "host: %s/b.example.pem, b.example.key\n", folder);
    kemarictl_expect(words, 0, said, "");
    static const char *const made[] = {"secret",        "ca.pem",        "ca.key",
                                       "192.0.2.1.pem", "192.0.2.1.key", "b.example.pem",
                                       "b.example.key"};
    for (size_t i = 0; i < ARRAY_SIZE(made); i++) {
        struct stat status;
        snprintf(words, sizeof(words), "%s/%s", folder, made[i]);
        CU_ASSERT_EQUAL(stat(words, &status), 0);
        CU_ASSERT_EQUAL(status.st_mode & 07777, 0600);
        CU_ASSERT_EQUAL(unlink(words), 0);
    }
    CU_ASSERT_EQUAL(rmdir(folder), 0);
    kemarictl_expect("keygen secret /gone/secret", 1, "",
                     "kemarictl: /gone/secret: No such file or directory\n");
}

static void help_is_everywhere(void)
{
    static const char *const verbs[] = {
        "status", "failover", "stop",       "events",  "grant",      "deny",
        "dump",   "list",     "version",    "policy",  "switchover", "keygen",
        "config", "drill",    "checkpoint", "console", "protect",    "unprotect"};
    char *out, *err;
    char *manual = read_whole(SOURCE_DIR "/docs/man/kemarictl.1");
    CU_ASSERT_EQUAL(kemarictl_run_words("--help", &out, &err), 0);
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        char words[32], usage[64];
        snprintf(usage, sizeof(usage), "\n  %-10s ", verbs[i]);
        CU_ASSERT_PTR_NOT_NULL(strstr(out, usage));
        snprintf(usage, sizeof(usage), "\n.It Cm %s", verbs[i]);
        CU_ASSERT_PTR_NOT_NULL(strstr(manual, usage));
        /* One line each here, all of it with the verb. */
        CU_ASSERT_PTR_NULL(strstr(out, "Ctrl-] leaves"));
        char *verb_out, *verb_err;
        snprintf(words, sizeof(words), "%s -h", verbs[i]);
        CU_ASSERT_EQUAL(kemarictl_run_words(words, &verb_out, &verb_err), 0);
        snprintf(usage, sizeof(usage), "usage: kemarictl [-s SOCKET | -m NAME] %s", verbs[i]);
        CU_ASSERT_EQUAL(strncmp(verb_out, usage, strlen(usage)), 0);
        free(verb_out);
        free(verb_err);
    }
    free(manual);
    free(out);
    free(err);
}

static void no_daemon_exits_with_3(void)
{
    kemarictl_expect("status -s /nowhere/x.sock", 3, "",
                     "kemarictl: no kemarid serves /nowhere/x.sock\n");
    kemarictl_expect("-r /nowhere status", 3, "",
                     "kemarictl: no kemarid runs here: /nowhere has no socket\n");
    kemarictl_expect("-r /nowhere -m db stop", 3, "",
                     "kemarictl: no kemarid serves /nowhere/db.sock\n");
}

static void verbs_do_what_the_daemon_says(void)
{
    struct control_fixture f;
    char *out, *err, words[256];
    control_fixture_start(&f, (gid_t)-1);
    setenv("KEMARI_RUN_DIR", f.directory, 1);
    /* The only machine there is. */
    CU_ASSERT_EQUAL(kemarictl_run_words("status", &out, &err), 0);
    CU_ASSERT_EQUAL(strncmp(out, "web: PROTECTED\n", 15), 0);
    free(out);
    free(err);
    CU_ASSERT_EQUAL(kemarictl_run_words("--json status -m web", &out, &err), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\n  \"protected\": true,\n"));
    free(out);
    free(err);
    kemarictl_expect("grant", 0, "term 7 is granted\n", "");
    kemarictl_expect("grant --term=6", 1, "", "kemarictl: refused: the question is about term 7\n");
    kemarictl_expect("switchover", 0, "the guest runs on the other host\n", "");
    kemarictl_expect("switchover --json", 0,
                     "{\"schema\":1,\"verb\":\"switchover\",\"done\":true,\"code\":0,"
                     "\"text\":\"the guest runs on the other host\"}\n",
                     "");
    kemarictl_expect("protect --no-wait", 0, "a secondary is let in again\n", "");
    kemarictl_expect("protect", 0, "the guest is protected\n", "");
    kemarictl_expect("unprotect", 1, "", "kemarictl: refused: a secondary is being synchronised\n");
    snprintf(words, sizeof(words),
             "{\"schema\":1,\"verb\":\"unprotect\",\"done\":false,\"code\":%d,"
             "\"text\":\"a secondary is being synchronised\"}\n",
             -EBUSY);
    kemarictl_expect("unprotect --json", 1, words,
                     "kemarictl: refused: a secondary is being synchronised\n");
    kemarictl_expect("dump core", 1, "", "kemarictl: refused: the guest runs\n");
    kemarictl_expect("checkpoint", 1, "", "kemarictl: refused: the guest is not protected\n");
    kemarictl_expect("deny", 1, "", "kemarictl: refused: nothing is asked\n");
    kemarictl_expect("policy get", 0, "policy=interval\ninterval=25ms\n", "");
    kemarictl_expect("policy --json get", 0,
                     "{\n  \"policy\": \"interval\",\n  \"interval\": \"25ms\"\n}\n", "");
    kemarictl_expect("policy set window=3", 0, "1: window is 3\n", "");
    kemarictl_expect("policy set window=3 policy=kemari", 1, "",
                     "kemarictl: refused: 2: window is 3\n");
    snprintf(words, sizeof(words),
             "kemarictl " KEMARI_VERSION "\nkemarid " KEMARI_VERSION ", machine web, process %d\n",
             (int)getpid());
    kemarictl_expect("version -m web", 0, words, "");
    kemarictl_expect("version", 0, "kemarictl " KEMARI_VERSION "\n", "");
    kemarictl_expect("version --json", 0,
                     "{\"schema\":1,\"kemarictl\":\"" KEMARI_VERSION
                     "\",\"kemarid\":\"\",\"vm\":\"\",\"pid\":0}\n",
                     "");
    CU_ASSERT_EQUAL(kemarictl_run_words("list", &out, &err), 0);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(out, "\nweb              primary    replicating    running  yes\n"));
    free(out);
    free(err);
    snprintf(words, sizeof(words), "stop -s %s", f.path);
    kemarictl_expect(words, 0, "the guest is stopped\n", "");
    control_fixture_stop(&f);
    unsetenv("KEMARI_RUN_DIR");
}

/* One row or line per socket; what can't be asked is said, and does not hide the others. */
static void a_list_shows_every_machine(void)
{
    struct control_fixture f;
    char *out, *err, words[160], dead[128];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    control_fixture_start(&f, (gid_t)-1);
    snprintf(dead, sizeof(dead), "%s/db.sock", f.directory);
    snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", dead);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    fd_close(&fd);
    snprintf(words, sizeof(words), "-r %s list --json", f.directory);
    CU_ASSERT_EQUAL(kemarictl_run_words(words, &out, &err), 3);
    CU_ASSERT_EQUAL(strncmp(out, "{\"schema\":1,\"vm\":\"web\",", 23), 0);
    CU_ASSERT_PTR_EQUAL(strchr(out, '\n'), out + strlen(out) - 1);
    CU_ASSERT_EQUAL(strncmp(err, "kemarictl: db: no kemarid serves ", 33), 0);
    free(out);
    free(err);
    /* Two machines: one has to be chosen, by its name or its socket. */
    snprintf(words, sizeof(words), "-r %s status", f.directory);
    kemarictl_expect(words, 2, "",
                     "kemarictl: 2 machines run here, choose one with -m NAME (see "
                     "\"kemarictl list\")\n");
    snprintf(words, sizeof(words), "-r %s -m web version", f.directory);
    CU_ASSERT_EQUAL(kemarictl_run_words(words, &out, &err), 0);
    free(out);
    free(err);
    unlink(dead);
    kemarictl_expect("-r /nowhere list", 0,
                     "NAME             ROLE       STATE          GUEST    PROTECTED\n", "");
    control_fixture_stop(&f);
}

static void a_watch_repeats_itself_and_has_a_history(void)
{
    struct control_fixture f;
    char *out, *err, words[160];
    control_fixture_start(&f, (gid_t)-1);
    snprintf(words, sizeof(words), "status -s %s --watch --count 2 --json", f.path);
    CU_ASSERT_EQUAL(kemarictl_run_words(words, &out, &err), 0);
    char *second = strchr(out, '\n');
    CU_ASSERT_PTR_NOT_NULL_FATAL(second);
    CU_ASSERT_EQUAL(strncmp(second, "\n{\"schema\":", 11), 0);
    CU_ASSERT_PTR_EQUAL(strchr(second + 1, '\n'), out + strlen(out) - 1);
    free(out);
    free(err);
    snprintf(words, sizeof(words), "status -s %s --watch --count 2", f.path);
    CU_ASSERT_EQUAL(kemarictl_run_words(words, &out, &err), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\n  epochs/s     @@ 812 (max 812)\n"));
    free(out);
    free(err);
    snprintf(words, sizeof(words), "status -s %s --count 2", f.path);
    kemarictl_expect(words, 2, "", "kemarictl: --count needs --watch (try --help)\n");
    control_fixture_stop(&f);
    snprintf(words, sizeof(words), "kemarictl: no kemarid serves %s\n", f.path);
    char gone[160];
    snprintf(gone, sizeof(gone), "status -s %s --watch", f.path);
    kemarictl_expect(gone, 3, "", words);
}

static void *complete_failover(void *context)
{
    struct control_fixture *f = context;
    control_server_complete(f->server, control_fixture_wait_failover(f), -EPERM,
                            "the secondary is not in step");
    control_server_complete(f->server, control_fixture_wait_failover(f), 0, "asking the arbiter");
    return NULL;
}

static void failover_needs_a_yes(void)
{
    struct control_fixture f;
    pthread_t thread;
    char words[128];
    control_fixture_start(&f, (gid_t)-1);
    snprintf(words, sizeof(words), "-s %s failover", f.path);
    kemarictl_expect(
        words, 2, "",
        "kemarictl: failover asks for confirmation; without a terminal it needs --yes\n");
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, complete_failover, &f), 0);
    snprintf(words, sizeof(words), "-s %s failover --yes", f.path);
    kemarictl_expect(words, 1, "", "kemarictl: refused: the secondary is not in step\n");
    kemarictl_expect(words, 0, "asking the arbiter\n", "");
    pthread_join(thread, NULL);
    control_fixture_stop(&f);
}

static void events_are_lines_and_say_what_is_gone(void)
{
    struct control_fixture f;
    char *out, *err, words[128];
    control_fixture_start(&f, (gid_t)-1);
    for (int i = 1; i <= FIXTURE_EVENTS + 5; i++)
        control_events_note(f.events, CONTROL_INFO, "test.kind", "number %d", i);
    snprintf(words, sizeof(words), "-s %s events", f.path);
    CU_ASSERT_EQUAL(kemarictl_run_words(words, &out, &err), 0);
    CU_ASSERT_STRING_EQUAL(err, "kemarictl: 5 events before this one are no longer kept\n");
    CU_ASSERT_PTR_NOT_NULL(strstr(out, " info    test.kind            number 6\n"));
    free(out);
    free(err);
    snprintf(words, sizeof(words), "-s %s events --json --since %d", f.path, FIXTURE_EVENTS + 4);
    CU_ASSERT_EQUAL(kemarictl_run_words(words, &out, &err), 0);
    CU_ASSERT_EQUAL(strncmp(out, "{\"id\":69,", 9), 0);
    CU_ASSERT_PTR_EQUAL(strchr(out, '\n'), out + strlen(out) - 1);
    free(out);
    free(err);
    control_fixture_stop(&f);
}

/* Answers one client with some bytes and closes. */
struct impostor {
    int listener;
    const void *bytes;
    size_t size;
};

static void *answer_nonsense(void *context)
{
    const struct impostor *impostor = context;
    uint8_t request[64];
    int fd = accept(impostor->listener, NULL, NULL);
    const ssize_t ignored = read(fd, request, sizeof(request));
    (void)ignored;
    fd_write_all(fd, impostor->bytes, impostor->size);
    fd_close(&fd);
    return NULL;
}

static void expect_of_impostor(const void *bytes, size_t size, int status, const char *sentence)
{
    char directory[] = "/tmp/kemari-impostor-XXXXXX";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    pthread_t thread;
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(directory));
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/x.sock", directory);
    struct impostor impostor = {socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), bytes, size};
    CU_ASSERT_EQUAL(bind(impostor.listener, (struct sockaddr *)&address, sizeof(address)), 0);
    CU_ASSERT_EQUAL(listen(impostor.listener, 1), 0);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, answer_nonsense, &impostor), 0);
    char words[160];
    snprintf(words, sizeof(words), "status -s %s", address.sun_path);
    kemarictl_expect(words, status, "", sentence);
    pthread_join(thread, NULL);
    fd_close(&impostor.listener);
    unlink(address.sun_path);
    rmdir(directory);
}

static void what_is_not_understood_exits_with_4_and_a_daemon_that_dies_with_3(void)
{
    static const char http[] = "HTTP/1.1 400 Bad Request\r\n";
    static const uint8_t newer[] = {4, 0, 0, 0, 0x08, 2, 0x1a, 0};
    static const uint8_t other[] = {4, 0, 0, 0, 0x08, 1, 0x22, 0};
    expect_of_impostor(http, sizeof(http), 4,
                       "kemarictl: the reply's length is impossible; is this a kemarid?\n");
    expect_of_impostor(
        newer, sizeof(newer), 4,
        "kemarictl: the daemon speaks control protocol version 2, this kemarictl 1\n");
    expect_of_impostor(other, sizeof(other), 4,
                       "kemarictl: kemarid gave an answer to something else\n");
    expect_of_impostor(other, 3, 3, "kemarictl: kemarid closed the connection\n");
}

static const struct test_case cases[] = {
    {"the status reads as committed", the_status_reads_as_committed},
    {"the status in JSON reads as committed", the_status_in_json_reads_as_committed},
    {"an event reads as committed", an_event_reads_as_committed},
    {"colours stand where they are asked for", colours_stand_where_they_are_asked_for},
    {"amounts have three digits and a unit", amounts_have_three_digits_and_a_unit},
    {"a status that contradicts itself is not protected",
     a_status_that_contradicts_itself_is_not_protected},
    {"more warnings than fit end in a hint", more_warnings_than_fit_end_in_a_hint},
    {"every key of the JSON is documented", every_key_of_the_json_is_documented},
    {"a wrong command line exits with 2", a_wrong_command_line_exits_with_2},
    {"keygen makes what is not there and overwrites nothing",
     keygen_makes_what_is_not_there_and_overwrites_nothing},
    {"help is everywhere", help_is_everywhere},
    {"no daemon exits with 3", no_daemon_exits_with_3},
    {"verbs do what the daemon says", verbs_do_what_the_daemon_says},
    {"a list shows every machine", a_list_shows_every_machine},
    {"a watch repeats itself and has a history", a_watch_repeats_itself_and_has_a_history},
    {"failover needs a yes", failover_needs_a_yes},
    {"events are lines and say what is gone", events_are_lines_and_say_what_is_gone},
    {"what is not understood exits with 4, and a daemon that dies with 3",
     what_is_not_understood_exits_with_4_and_a_daemon_that_dies_with_3},
};

int main(int argc, char **argv)
{
    /* Nobody is at a terminal, whoever runs the test, and all are in one time zone. */
    if (!freopen("/dev/null", "r", stdin))
        return 1;
    signal(SIGPIPE, SIG_IGN);
    setenv("TZ", "UTC", 1);
    unsetenv("KEMARI_RUN_DIR");
    return test_run(argc, argv, "kemarictl", cases, ARRAY_SIZE(cases));
}
