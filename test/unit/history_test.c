/* The histories of the live view. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/history.h"
#include "test/support/runner.h"

static struct control_status status;
static struct history history;

static void begin(void)
{
    memset(&status, 0, sizeof(status));
    memset(&history, 0, sizeof(history));
    status.pid = 1;
}

static void expect_lines(const char *wanted)
{
    char *text;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    history_render(&history, false, stream);
    fclose(stream);
    CU_ASSERT_STRING_EQUAL(text, wanted);
    if (strcmp(text, wanted) != 0)
        printf("\n--- wanted:\n%s--- got:\n%s", wanted, text);
    free(text);
}

static void what_is_always_nothing_has_no_line(void)
{
    begin();
    history_add(&history, &status, SEC(1));
    history_add(&history, &status, SEC(2));
    expect_lines("");
}

static void bars_grow_with_the_value(void)
{
    begin();
    static const double rates[] = {0, 100, 350, 700};
    for (unsigned i = 0; i < ARRAY_SIZE(rates); i++) {
        status.replication.epochs_per_second = rates[i];
        history_add(&history, &status, SEC(1 + i));
    }
    expect_lines("  epochs/s     .:+@ 700 (max 700)\n");
}

static void a_rate_is_of_the_time_between_two_answers(void)
{
    begin();
    history_add(&history, &status, SEC(1));
    status.replication.bytes_sent = 4096;
    history_add(&history, &status, SEC(3));
    expect_lines("  sent/s        @ 2 KiB (max 2 KiB)\n");
}

static void a_restarted_daemon_and_a_missing_one_are_gaps(void)
{
    begin();
    history_add(&history, &status, SEC(1));
    status.replication.bytes_sent = 1 << 20;
    history_add(&history, &status, SEC(2));
    status.pid = 2;
    history_add(&history, &status, SEC(3));
    history_add(&history, NULL, SEC(4));
    status.replication.bytes_sent = 3 << 20;
    history_add(&history, &status, SEC(5));
    expect_lines("  sent/s        @    unknown (max 1 MiB)\n");
}

static void only_the_newest_are_kept(void)
{
    begin();
    for (unsigned i = 0; i < HISTORY_SAMPLES + 3; i++) {
        status.outbox.bytes = i;
        history_add(&history, &status, SEC(1 + i));
    }
    CU_ASSERT_EQUAL(history.count, HISTORY_SAMPLES);
    CU_ASSERT_EQUAL(history.values[HISTORY_OUTBOX][0], 3.0);
    CU_ASSERT_EQUAL(history.values[HISTORY_OUTBOX][HISTORY_SAMPLES - 1], HISTORY_SAMPLES + 2.0);
}

static const struct test_case cases[] = {
    {"what is always nothing has no line", what_is_always_nothing_has_no_line},
    {"bars grow with the value", bars_grow_with_the_value},
    {"a rate is of the time between two answers", a_rate_is_of_the_time_between_two_answers},
    {"a restarted daemon and a missing one are gaps",
     a_restarted_daemon_and_a_missing_one_are_gaps},
    {"only the newest are kept", only_the_newest_are_kept},
};

int main(int argc, char **argv)
{
    return test_run(argc, argv, "history", cases, ARRAY_SIZE(cases));
}
