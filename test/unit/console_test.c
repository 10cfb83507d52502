/* The ring behind "kemarictl console", and the verb. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "control/console.h"
#include "test/support/control_fixture.h"
#include "test/support/kemarictl_words.h"
#include "test/support/runner.h"

static void what_was_said_is_read_by_position(void)
{
    struct control_console *console = control_console_create();
    char out[8];
    uint64_t next = 0;
    CU_ASSERT_EQUAL(control_console_read(console, 0, out, sizeof(out), &next), 0);
    CU_ASSERT_EQUAL(next, 0);
    control_console_write(console, "login: root", 11);
    CU_ASSERT_EQUAL(control_console_read(console, 0, out, sizeof(out), &next), 8);
    CU_ASSERT_EQUAL(memcmp(out, "login: r", 8), 0);
    CU_ASSERT_EQUAL(control_console_read(console, next, out, sizeof(out), &next), 3);
    CU_ASSERT_EQUAL(memcmp(out, "oot", 3), 0);
    CU_ASSERT_EQUAL(next, 11);
    /* A position that another daemon gave. */
    CU_ASSERT_EQUAL(control_console_read(console, 12, out, sizeof(out), &next), 8);
    control_console_destroy(&console);
    CU_ASSERT_PTR_NULL(console);
}

static void only_the_newest_is_kept(void)
{
    struct control_console *console = control_console_create();
    static uint8_t much[CONTROL_CONSOLE_KEPT + 5], out[CONTROL_CONSOLE_KEPT + 5];
    uint64_t next = 0;
    for (size_t i = 0; i < sizeof(much); i++)
        much[i] = (uint8_t)(i * 7);
    control_console_write(console, "old", 3);
    control_console_write(console, much, sizeof(much));
    CU_ASSERT_EQUAL(control_console_read(console, 0, out, sizeof(out), &next),
                    CONTROL_CONSOLE_KEPT);
    CU_ASSERT_EQUAL(memcmp(out, much + 5, CONTROL_CONSOLE_KEPT), 0);
    CU_ASSERT_EQUAL(next, 3 + sizeof(much));
    control_console_write(console, "new", 3);
    CU_ASSERT_EQUAL(control_console_read(console, next, out, sizeof(out), &next), 3);
    CU_ASSERT_EQUAL(memcmp(out, "new", 3), 0);
    control_console_destroy(&console);
}

/* As from a pipe. */
static void type(const char *text)
{
    int ends[2];
    CU_ASSERT_EQUAL_FATAL(pipe(ends), 0);
    CU_ASSERT_EQUAL(fd_write_all(ends[1], text, strlen(text)), 0);
    fd_close(&ends[1]);
    CU_ASSERT_EQUAL(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    fd_close(&ends[0]);
}

static void what_is_typed_reaches_the_guest_and_its_answer_the_operator(void)
{
    struct control_fixture f;
    char words[128];
    control_fixture_start(&f, (gid_t)-1);
    control_console_write(f.console, "login: ", 7);
    type("a word that is longer than three bytes\r");
    snprintf(words, sizeof(words), "console -s %s", f.path);
    kemarictl_expect(words, 0, "login: a word that is longer than three bytes\r", "");
    control_fixture_stop(&f);
}

static void a_host_without_the_guest_has_no_console(void)
{
    struct control_fixture f;
    char words[128];
    control_fixture_start(&f, (gid_t)-1);
    f.guest_is_away = true;
    snprintf(words, sizeof(words), "console -s %s", f.path);
    kemarictl_expect(
        words, 1, "",
        "kemarictl: refused: the guest runs on the other host: its console is there\n");
    control_fixture_stop(&f);
    kemarictl_expect("console -s /nowhere/x.sock", 3, "",
                     "kemarictl: no kemarid serves /nowhere/x.sock\n");
}

static const struct test_case cases[] = {
    {"what was said is read by position", what_was_said_is_read_by_position},
    {"only the newest is kept", only_the_newest_is_kept},
    {"what is typed reaches the guest, and its answer the operator",
     what_is_typed_reaches_the_guest_and_its_answer_the_operator},
    {"a host without the guest has no console", a_host_without_the_guest_has_no_console},
};

int main(int argc, char **argv)
{
    return test_run(argc, argv, "console", cases, ARRAY_SIZE(cases));
}
