#include "test/support/runner.h"

#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_SKIPPED 77

int test_run(int argc, char **argv, const char *suite, const struct test_case *cases, size_t count)
{
    /* A test that dies must leave what it printed. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (CU_initialize_registry() != CUE_SUCCESS)
        return 1;
    CU_pSuite s = CU_add_suite(suite, NULL, NULL);
    size_t added = 0;
    for (size_t i = 0; s && i < count; i++)
        if (argc < 2 || strstr(cases[i].name, argv[1]))
            added += CU_add_test(s, cases[i].name, cases[i].run) != NULL;
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    const unsigned failed = CU_get_number_of_failures() + CU_get_number_of_suites_failed();
    CU_cleanup_registry();
    return failed == 0 && added > 0 ? 0 : 1;
}

void test_skip(const char *reason)
{
    printf("SKIP: %s\n", reason);
    exit(EXIT_SKIPPED);
}
