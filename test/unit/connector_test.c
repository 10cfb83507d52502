/* How often a secondary looks for its primary. */
#include "secondary/connector.h"
#include "test/support/runner.h"

static void pauses_grow_and_stay_bounded(void)
{
    nsec_t before = 0;
    for (unsigned failures = 1; failures < 10; failures++) {
        const nsec_t pause = connector_pause(failures);
        CU_ASSERT(pause >= before);
        CU_ASSERT(pause <= SEC(2));
        before = pause;
    }
    CU_ASSERT_EQUAL(connector_pause(1), MSEC(200));
    CU_ASSERT_EQUAL(connector_pause(2), MSEC(300));
    CU_ASSERT_EQUAL(connector_pause(9), SEC(2));
    CU_ASSERT_EQUAL(connector_pause(1u << 31), SEC(2));
}

static const struct test_case cases[] = {
    {"pauses grow and stay bounded", pauses_grow_and_stay_bounded},
};

TEST_MAIN("connector", cases)
