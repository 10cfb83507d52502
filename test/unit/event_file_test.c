/* The file of events: its lines, what it survives, its bounds; and the times that are asked for. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/event_file.h"
#include "control/since.h"
#include "test/support/runner.h"

#define LINE                                                                                       \
    "{\"id\":7,\"wall_ns\":1714979289123456789,\"monotonic_ns\":42,\"severity\":\"warning\","      \
    "\"kind\":\"failover.done\",\"text\":\"it's \\\"here\\\"\","                                   \
    "\"fields\":{\"granted_ns\":\"310000\",\"cause\":\"silence\"}}"

static void sample(struct control_event *event, uint64_t id)
{
    control_event_init(event, CONTROL_WARNING, "failover.done", "it's \"here\"");
    control_event_add(event, "granted_ns", "310000");
    control_event_add(event, "cause", "silence");
    event->id = id;
    event->wall_ns = 1714979289123456789;
    event->monotonic_ns = 42;
}

static void a_line_has_its_golden_bytes(void)
{
    struct control_event event, back;
    char line[EVENT_LINE_MAX];
    sample(&event, 7);
    CU_ASSERT_EQUAL_FATAL(event_line_encode(&event, line), strlen(LINE) + 1);
    CU_ASSERT_EQUAL(memcmp(line, LINE "\n", strlen(LINE) + 1), 0);
    CU_ASSERT_EQUAL(event_line_decode(LINE, strlen(LINE), &back), 0);
    CU_ASSERT_EQUAL(memcmp(&event, &back, sizeof(event)), 0);
}

static void a_line_cut_short_is_refused(void)
{
    struct control_event event;
    for (size_t cut = 0; cut < strlen(LINE); cut++) {
        CU_ASSERT_EQUAL(event_line_decode(LINE, cut, &event), -EBADMSG);
        CU_ASSERT_EQUAL(event.id, 0);
    }
}

static void the_largest_event_fits_into_a_line(void)
{
    struct control_event event, back;
    char line[EVENT_LINE_MAX];
    memset(&event, 0, sizeof(event));
    memset(event.kind, '"', sizeof(event.kind) - 1);
    memset(event.text, '\\', sizeof(event.text) - 1);
    event.field_count = CONTROL_EVENT_FIELDS_MAX;
    for (unsigned i = 0; i < CONTROL_EVENT_FIELDS_MAX; i++) {
        memset(event.fields[i].key, '\\', sizeof(event.fields[i].key) - 1);
        event.fields[i].key[0] = (char)('a' + i);
        memset(event.fields[i].value, '"', sizeof(event.fields[i].value) - 1);
    }
    event.id = INT64_MAX;
    event.wall_ns = event.monotonic_ns = INT64_MAX;
    const size_t size = event_line_encode(&event, line);
    CU_ASSERT(size < EVENT_LINE_MAX);
    CU_ASSERT_EQUAL(line[size - 1], '\n');
    CU_ASSERT_EQUAL(event_line_decode(line, size - 1, &back), 0);
    CU_ASSERT_EQUAL(memcmp(&event, &back, sizeof(event)), 0);
    /* What would end a line, or steer a terminal, is neither written nor believed. */
    sample(&event, 1);
    strcpy(event.text, "a\nb\033[2J");
    CU_ASSERT_EQUAL(event_line_decode(line, event_line_encode(&event, line) - 1, &back), 0);
    CU_ASSERT_STRING_EQUAL(back.text, "a?b?[2J");
}

#define REST "\"severity\":\"info\",\"kind\":\"a\",\"text\":\"\",\"fields\":{}}"

static void what_is_no_event_is_refused(void)
{
    static const char *const lines[] = {
        "",
        "null",
        "[]",
        "{}",
        "{" REST,
        LINE "x",
        "{\"id\":0,\"wall_ns\":1,\"monotonic_ns\":1," REST,
        "{\"id\":-1,\"wall_ns\":1,\"monotonic_ns\":1," REST,
        "{\"id\":1.0,\"wall_ns\":1,\"monotonic_ns\":1," REST,
        "{\"id\":1,\"wall_ns\":-1,\"monotonic_ns\":1," REST,
        "{\"id\":99999999999999999999,\"wall_ns\":1,\"monotonic_ns\":1," REST,
        "{\"id\":1,\"id\":2,\"wall_ns\":1,\"monotonic_ns\":1," REST,
        "{\"id\":1,\"wall_ns\":1,\"monotonic_ns\":1,\"severity\":\"loud\",\"kind\":\"a\","
        "\"text\":\"\",\"fields\":{}}",
        "{\"id\":1,\"wall_ns\":1,\"monotonic_ns\":1,\"severity\":\"unknown\",\"kind\":\"a\","
        "\"text\":\"\",\"fields\":{}}",
        "{\"id\":1,\"wall_ns\":1,\"monotonic_ns\":1,\"severity\":\"info\",\"kind\":3,"
        "\"text\":\"\",\"fields\":{}}",
        "{\"id\":1,\"wall_ns\":1,\"monotonic_ns\":1,\"severity\":\"info\",\"kind\":\"a\","
        "\"text\":\"\\u0000\",\"fields\":{}}",
        "{\"id\":1,\"wall_ns\":1,\"monotonic_ns\":1,\"severity\":\"info\",\"kind\":\"a\","
        "\"text\":\"\",\"fields\":[]}",
        "{\"id\":1,\"wall_ns\":1,\"monotonic_ns\":1,\"severity\":\"info\",\"kind\":\"a\","
        "\"text\":\"\",\"fields\":{\"k\":{}}}",
        "{\"id\":1,\"wall_ns\":1,\"monotonic_ns\":1,\"severity\":\"info\",\"kind\":\"a\","
        "\"text\":\"\",\"fields\":{\"a\":\"\",\"b\":\"\",\"c\":\"\",\"d\":\"\",\"e\":\"\","
        "\"f\":\"\",\"g\":\"\",\"h\":\"\",\"i\":\"\",\"j\":\"\",\"k\":\"\",\"l\":\"\","
        "\"m\":\"\"}}",
        "{\"id\":1,\"wall_ns\":1,\"monotonic_ns\":1,\"severity\":\"info\",\"kind\":\"a\","
        "\"text\":\"\",\"fields\":{\"a key that is longer than any key is\":\"\"}}",
    };
    struct control_event event;
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        CU_ASSERT_EQUAL(event_line_decode(lines[i], strlen(lines[i]), &event), -EBADMSG);
        CU_ASSERT_EQUAL(event.field_count, 0);
    }
    char *deep = malloc(EVENT_LINE_MAX);
    memset(deep, '[', EVENT_LINE_MAX);
    CU_ASSERT_EQUAL(event_line_decode(deep, EVENT_LINE_MAX - 1, &event), -EBADMSG);
    CU_ASSERT_EQUAL(event_line_decode(deep, EVENT_LINE_MAX, &event), -EBADMSG);
    free(deep);
}

/* ---- files ---- */

struct place {
    char folder[64], path[96], old_path[128];
};

static void make_place(struct place *p)
{
    strcpy(p->folder, "/tmp/kemari-events-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(p->folder));
    snprintf(p->path, sizeof(p->path), "%s/vm.events", p->folder);
    snprintf(p->old_path, sizeof(p->old_path), "%s.1", p->path);
}

static void remove_place(const struct place *p)
{
    unlink(p->path);
    unlink(p->old_path);
    CU_ASSERT_EQUAL(rmdir(p->folder), 0);
}

static int append(struct event_file *file, uint64_t id)
{
    struct control_event event;
    struct error err = {0};
    sample(&event, id);
    return event_file_append(file, &event, &err);
}

/* Checks that what is kept are `count` events with ids first, first + 1, ...; the last `own` of
 * them of this process. */
static void expect_events(struct event_file *file, uint64_t first, unsigned count, unsigned own)
{
    struct control_event event;
    uint64_t position = 0;
    bool is_own = false;
    for (unsigned i = 0; i < count; i++) {
        CU_ASSERT_TRUE_FATAL(event_file_next(file, &position, &event, &is_own));
        CU_ASSERT_EQUAL(event.id, first + i);
        CU_ASSERT_EQUAL(is_own, i >= count - own);
    }
    CU_ASSERT_FALSE(event_file_next(file, &position, &event, &is_own));
}

static void put_bytes(const char *path, const char *bytes, size_t size)
{
    FILE *out = fopen(path, "ab");
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    CU_ASSERT_EQUAL(fwrite(bytes, 1, size, out), size);
    fclose(out);
}

static void events_survive_their_daemon(void)
{
    struct place p;
    struct stat status;
    make_place(&p);
    struct event_file *file = event_file_open(p.path);
    expect_events(file, 1, 0, 0);
    CU_ASSERT_EQUAL(append(file, 1), 0);
    CU_ASSERT_EQUAL(append(file, 2), 0);
    expect_events(file, 1, 2, 2);
    event_file_close(&file);
    CU_ASSERT_PTR_NULL(file);
    CU_ASSERT_EQUAL(stat(p.path, &status), 0);
    CU_ASSERT_EQUAL(status.st_mode & 0777, 0600);
    /* Killed in the middle of a line, which had been preceded by what is no line at all. */
    put_bytes(p.path, "no event\n\n" LINE, 10 + strlen(LINE) / 2);
    file = event_file_open(p.path);
    expect_events(file, 1, 2, 0);
    CU_ASSERT_EQUAL(append(file, 3), 0);
    expect_events(file, 1, 3, 1);
    event_file_close(&file);
    file = event_file_open(p.path);
    expect_events(file, 1, 3, 0);
    event_file_close(&file);
    remove_place(&p);
}

static off_t size_of(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 ? status.st_size : 0;
}

static void the_oldest_are_forgotten_in_bounds(void)
{
    const unsigned per_file = EVENT_FILE_LIMIT / (strlen(LINE) + 2);
    struct control_event event;
    struct place p;
    uint64_t early = 0;
    bool own;
    make_place(&p);
    struct event_file *file = event_file_open(p.path);
    CU_ASSERT_EQUAL(append(file, 1), 0);
    CU_ASSERT_TRUE(event_file_next(file, &early, &event, &own));
    const uint64_t last = 4 * per_file;
    for (uint64_t id = 2; id <= last; id++)
        if (append(file, id) < 0)
            CU_FAIL_FATAL("append");
    CU_ASSERT(size_of(p.path) <= EVENT_FILE_LIMIT && size_of(p.path) > 0);
    CU_ASSERT(size_of(p.old_path) <= EVENT_FILE_LIMIT &&
              size_of(p.old_path) > EVENT_FILE_LIMIT / 2);
    /* A reader that was slow goes on with the oldest that is kept. */
    CU_ASSERT_TRUE_FATAL(event_file_next(file, &early, &event, &own));
    const uint64_t oldest = event.id;
    CU_ASSERT(oldest > last - 2 * (per_file + 20) && oldest < last - per_file / 2);
    expect_events(file, oldest, (unsigned)(last - oldest + 1), (unsigned)(last - oldest + 1));
    event_file_close(&file);
    file = event_file_open(p.path);
    expect_events(file, oldest, (unsigned)(last - oldest + 1), 0);
    event_file_close(&file);
    /* Of a file that somebody made too long the end counts. */
    char *noise = calloc(1, EVENT_FILE_LIMIT);
    unlink(p.path);
    unlink(p.old_path);
    put_bytes(p.path, noise, EVENT_FILE_LIMIT);
    put_bytes(p.path, "\n" LINE "\n", strlen(LINE) + 2);
    free(noise);
    file = event_file_open(p.path);
    expect_events(file, 7, 1, 0);
    CU_ASSERT_EQUAL(append(file, 8), 0);
    CU_ASSERT(size_of(p.path) < 1024);
    event_file_close(&file);
    remove_place(&p);
}

static void a_disk_that_refuses_stops_nothing(void)
{
    struct place p;
    make_place(&p);
    CU_ASSERT_EQUAL(mkdir(p.path, 0700), 0); /* in its place */
    struct event_file *file = event_file_open(p.path);
    CU_ASSERT_EQUAL(append(file, 1), -EISDIR);
    CU_ASSERT_EQUAL(append(file, 2), -EISDIR);
    expect_events(file, 1, 2, 2);
    CU_ASSERT_EQUAL(rmdir(p.path), 0);
    CU_ASSERT_EQUAL(append(file, 3), 0);
    /* Full in the middle of a line: nothing of it stays. */
    const off_t whole = size_of(p.path);
    const struct rlimit full = {.rlim_cur = (rlim_t)whole + 20, .rlim_max = RLIM_INFINITY};
    const struct rlimit free_again = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_FSIZE, &full), 0);
    CU_ASSERT_EQUAL(append(file, 4), -EFBIG);
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_FSIZE, &free_again), 0);
    signal(SIGXFSZ, before);
    CU_ASSERT_EQUAL(size_of(p.path), whole);
    CU_ASSERT_EQUAL(append(file, 5), 0);
    /* Removed, or moved away by whoever rotates logs: made anew. */
    CU_ASSERT_EQUAL(unlink(p.path), 0);
    CU_ASSERT_EQUAL(append(file, 6), 0);
    CU_ASSERT_EQUAL(size_of(p.path), whole);
    expect_events(file, 1, 6, 6);
    /* A link would lead out of the state directory. */
    CU_ASSERT_EQUAL(unlink(p.path), 0);
    CU_ASSERT_EQUAL(symlink("/dev/null", p.path), 0);
    CU_ASSERT_EQUAL(append(file, 7), -ELOOP);
    event_file_close(&file);
    remove_place(&p);
}

/* ---- times ---- */

static void times_are_read_as_people_write_them(void)
{
    const int64_t now = SEC(1700000000) + 5; /* 2023-11-14 22:13:20 UTC */
    static const struct {
        const char *text;
        uint64_t id;
        int64_t wall_s;
    } good[] = {
        {"0", 0, 0},
        {"17", 17, 0},
        {"18446744073709551615", UINT64_MAX, 0},
        {"2023-11-14", 0, 1699920000},
        {"2023-11-14 22:13", 0, 1699999980},
        {"2023-11-14T22:13:20", 0, 1700000000},
        {"10:30", 0, 1699957800},
        {"10:30:15", 0, 1699957815},
    };
    static const char *const bad[] = {"",
                                      "x",
                                      "-1",
                                      "2x",
                                      "5 m",
                                      "m",
                                      "2023-13-01",
                                      "25:00",
                                      "2023-11-14 22:13 ",
                                      "18446744073709551616",
                                      "999999999999d",
                                      "10:30pm",
                                      "1.5h"};
    struct since since;
    struct error err;
    setenv("TZ", "UTC", 1);
    tzset();
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        CU_ASSERT_EQUAL(since_parse(good[i].text, now, &since, &err), 0);
        CU_ASSERT_EQUAL(since.id, good[i].id);
        CU_ASSERT_EQUAL(since.wall_ns, SEC(good[i].wall_s));
    }
    CU_ASSERT_EQUAL(since_parse("90s", now, &since, &err), 0);
    CU_ASSERT_EQUAL(since.wall_ns, now - SEC(90));
    CU_ASSERT_EQUAL(since_parse("3d", now, &since, &err), 0);
    CU_ASSERT_EQUAL(since.wall_ns, now - SEC(3 * 86400));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CU_ASSERT_EQUAL(since_parse(bad[i], now, &since, &err), -EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "--since"));
    }
}

static const struct test_case cases[] = {
    {"a line has its golden bytes", a_line_has_its_golden_bytes},
    {"a line cut short is refused", a_line_cut_short_is_refused},
    {"the largest event fits into a line", the_largest_event_fits_into_a_line},
    {"what is no event is refused", what_is_no_event_is_refused},
    {"events survive their daemon", events_survive_their_daemon},
    {"the oldest are forgotten, in bounds", the_oldest_are_forgotten_in_bounds},
    {"a disk that refuses stops nothing", a_disk_that_refuses_stops_nothing},
    {"times are read as people write them", times_are_read_as_people_write_them},
};

int main(int argc, char **argv)
{
    return test_run(argc, argv, "event-file", cases, ARRAY_SIZE(cases));
}
