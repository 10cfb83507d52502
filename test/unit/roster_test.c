/* Which host of a list may be the standby. */
#include "primary/roster.h"
#include "test/support/runner.h"

#define NOW  SEC(1000)
#define TURN SEC(10)

static const char *const names[] = {"tls://192.0.2.2:7000", "tls://192.0.2.3:7000",
                                    "tls://192.0.2.4:7000"};

static struct roster roster_of(unsigned count)
{
    struct roster roster;
    roster_init(&roster, count, names, TURN, NOW);
    return roster;
}

#define EXPECT(roster, host, now, verdict)                                                         \
    do {                                                                                           \
        struct error why = {0};                                                                    \
        CU_ASSERT_EQUAL(roster_judge(roster, host, now, &why), ROSTER_##verdict);                  \
        CU_ASSERT_EQUAL(why.text[0] == '\0', ROSTER_##verdict == ROSTER_WELCOME);                  \
    } while (0)

static void hosts_come_in_their_turn(void)
{
    struct roster r = roster_of(3);
    EXPECT(&r, 0, NOW, WELCOME);
    EXPECT(&r, 1, NOW, EARLY);
    EXPECT(&r, 1, NOW + TURN - 1, EARLY);
    EXPECT(&r, 1, NOW + TURN, WELCOME);
    EXPECT(&r, 2, NOW + TURN, EARLY);
    EXPECT(&r, 2, NOW + 2 * TURN, WELCOME);
    /* The first does not lose its turn by coming late. */
    EXPECT(&r, 0, NOW + 5 * TURN, WELCOME);
    roster_init(&r, 3, names, 0, NOW);
    EXPECT(&r, 2, NOW, WELCOME);
}

static void turns_are_counted_from_the_loss_of_protection(void)
{
    struct roster r = roster_of(2);
    roster_bind(&r, 0);
    roster_protected(&r);
    roster_lost(&r, false, NOW + SEC(500));
    roster_alone(&r);
    EXPECT(&r, 0, NOW + SEC(500), WELCOME);
    EXPECT(&r, 1, NOW + SEC(500), EARLY);
    EXPECT(&r, 1, NOW + SEC(500) + TURN, WELCOME);
    /* One that comes and goes does not keep the next from its turn. */
    roster_bind(&r, 0);
    roster_lost(&r, true, NOW + SEC(505));
    EXPECT(&r, 1, NOW + SEC(500) + TURN, WELCOME);
    /* Nor does a time in which nobody might come. */
    roster_reopen(&r, NOW + SEC(900));
    EXPECT(&r, 0, NOW + SEC(900), WELCOME);
    EXPECT(&r, 1, NOW + SEC(900), EARLY);
    EXPECT(&r, 1, NOW + SEC(900) + TURN, WELCOME);
}

static void who_was_let_in_is_alone_until_a_new_term_is_won(void)
{
    const nsec_t late = NOW + SEC(86400);
    struct roster r = roster_of(3);
    roster_bind(&r, 1);
    EXPECT(&r, 0, late, BOUND);
    EXPECT(&r, 1, late, WELCOME);
    EXPECT(&r, 2, late, BOUND);
    /* Its link may be gone, and it may hold a state all the same, protected or not. */
    roster_lost(&r, false, late);
    EXPECT(&r, 0, late + SEC(86400), BOUND);
    EXPECT(&r, 1, late, WELCOME);
    roster_protected(&r);
    roster_lost(&r, false, late);
    EXPECT(&r, 0, late + SEC(86400), BOUND);
    roster_alone(&r);
    EXPECT(&r, 0, late, WELCOME);
    EXPECT(&r, 2, late + 2 * TURN, WELCOME);
}

static void who_can_t_hold_anything_binds_nobody(void)
{
    struct roster r = roster_of(2);
    roster_bind(&r, 0);
    roster_lost(&r, true, NOW);
    EXPECT(&r, 1, NOW + TURN, WELCOME);
}

static void a_host_whose_synchronisation_broke_off_rests_longer_each_time(void)
{
    struct roster r = roster_of(2);
    nsec_t now = NOW + TURN;
    for (unsigned failures = 1; failures < 9; failures++) {
        roster_bind(&r, 0);
        roster_lost(&r, true, now);
        const nsec_t rest = roster_rest(failures);
        EXPECT(&r, 0, now, EARLY);
        EXPECT(&r, 0, now + rest - 1, EARLY);
        EXPECT(&r, 0, now + rest, WELCOME);
        EXPECT(&r, 1, now, WELCOME);
        now += rest;
    }
    /* Success makes good for it. */
    roster_bind(&r, 0);
    roster_protected(&r);
    roster_lost(&r, false, now);
    roster_alone(&r);
    EXPECT(&r, 0, now, WELCOME);
    CU_ASSERT_EQUAL(roster_rest(1), SEC(1));
    CU_ASSERT_EQUAL(roster_rest(2), SEC(2));
    CU_ASSERT_EQUAL(roster_rest(6), SEC(32));
    CU_ASSERT_EQUAL(roster_rest(UINT32_MAX), SEC(32));
}

static void a_pair_has_nothing_to_choose(void)
{
    struct roster r = roster_of(1);
    const struct term_record record = {.term = 7, .ownership = TERM_OWNER};
    roster_recall(&r, &record);
    EXPECT(&r, 0, NOW, WELCOME);
    roster_bind(&r, 0);
    roster_lost(&r, true, NOW);
    EXPECT(&r, 0, NOW, WELCOME);
    CU_ASSERT_EQUAL(roster_find(&r, ""), 0);
    CU_ASSERT_EQUAL(roster_find(&r, names[2]), 0);
}

static void hosts_are_found_by_their_names(void)
{
    const struct roster r = roster_of(2);
    CU_ASSERT_EQUAL(roster_find(&r, names[0]), 0);
    CU_ASSERT_EQUAL(roster_find(&r, names[1]), 1);
    CU_ASSERT(roster_find(&r, names[2]) < 0);
    CU_ASSERT(roster_find(&r, "") < 0);
}

static void the_record_of_the_term_is_remembered(void)
{
    const struct {
        term_t term;
        const char *standby;
        int bound;
    } rows[] = {
        {0, "", ROSTER_NOBODY},  {7, TERM_STANDBY_NONE, ROSTER_NOBODY},
        {7, names[1], 1},        {7, names[2], ROSTER_UNKNOWN}, /* not listed any more */
        {7, "", ROSTER_UNKNOWN}, /* of the time when there was no list */
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct roster r = roster_of(2);
        struct term_record record = {.term = rows[i].term, .ownership = TERM_OWNER};
        snprintf(record.standby, sizeof(record.standby), "%s", rows[i].standby);
        roster_recall(&r, &record);
        CU_ASSERT_EQUAL(r.bound, rows[i].bound);
        for (unsigned host = 0; host < 2; host++)
            if (r.bound == ROSTER_NOBODY || r.bound == (int)host)
                EXPECT(&r, host, NOW + TURN, WELCOME);
            else
                EXPECT(&r, host, NOW + TURN, BOUND);
        roster_alone(&r);
        EXPECT(&r, 0, NOW, WELCOME);
    }
}

static const struct test_case cases[] = {
    {"hosts come in their turn", hosts_come_in_their_turn},
    {"turns are counted from the loss of protection",
     turns_are_counted_from_the_loss_of_protection},
    {"who was let in is alone until a new term is won",
     who_was_let_in_is_alone_until_a_new_term_is_won},
    {"who can't hold anything binds nobody", who_can_t_hold_anything_binds_nobody},
    {"a host whose synchronisation broke off rests longer each time",
     a_host_whose_synchronisation_broke_off_rests_longer_each_time},
    {"a pair has nothing to choose", a_pair_has_nothing_to_choose},
    {"hosts are found by their names", hosts_are_found_by_their_names},
    {"the record of the term is remembered", the_record_of_the_term_is_remembered},
};

TEST_MAIN("roster", cases)
