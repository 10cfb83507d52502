/* Frame of every CUnit program: a table of named tests, run in order, exit status for ctest. */
#ifndef KEMARI_TEST_SUPPORT_RUNNER_H
#define KEMARI_TEST_SUPPORT_RUNNER_H

#include <CUnit/CUnit.h>

struct test_case {
    const char *name; /* says the behaviour: "a truncated header is refused" */
    void (*run)(void);
};

/* Runs all (or, with an argument, those whose name contains argv[1]); returns the exit status of
 * main(): 0, or 1 when an assertion failed or nothing ran. */
int test_run(int argc, char **argv, const char *suite, const struct test_case *cases, size_t count);

/* Ends the program as skipped, with the reason. Call before test_run(). */
void test_skip(const char *reason) __attribute__((noreturn));

#define TEST_MAIN(suite, cases)                                                                    \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        return test_run(argc, argv, suite, cases, sizeof(cases) / sizeof((cases)[0]));             \
    }

#endif
