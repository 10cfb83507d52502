/* The decisions of both roles: the whole of both tables, and what no walk through them can do. */
#include <stdio.h>
#include <string.h>

#include "primary/fsm.h"
#include "secondary/fsm.h"
#include "test/support/runner.h"

/* Where each event leads, by the letter of the state; '-': it can't happen there. */
struct row {
    char state;
    const char *next;
};

/* ---- primary ---- */

static const char primary_letters[] =
    "wspaxofrhdgl"; /* x: OUTRUN; o: SOLO, output is open; r: PREPARING; g: RELEASING; l: LEAVING */

/* Columns: CONNECTED COMMITTED LOST_HELD LOST_NEW LOST_OPEN SUSPECT WAITED GRANTED REFUSED OUTRUN
 * UNANSWERED SUPERSEDED ORDERED PREPARED RESERVED GIVEN_UP OVERDUE TAKEN UNPROTECT FREED */
static const struct row primary_rows[] = {
    {'w', "s----wa----f--------"}, {'s', "spawoss----f--------"}, {'p', "ppa--pp----fr-----g-"},
    {'a', "s----aaofxaf--------"}, {'x', "x----xxofxxf--------"}, {'o', "s----oo----f--------"},
    {'f', "fffffff----f-----f--"}, {'r', "rra--rr-fppf-rhp----"}, {'h', "hha--hh----f---phd--"},
    {'d', "d----dd----d--------"}, {'g', "gga--gglfpgf---pg--l"}, {'l', "llo--ll----f----l--l"},
};
_Static_assert(PRIMARY_EVENT_COUNT == 20 && SECONDARY_EVENT_COUNT == 13, "a column for each event");

static void the_primarys_table_is_this(void)
{
    for (unsigned s = 0; s < PRIMARY_STATE_COUNT; s++) {
        CU_ASSERT_EQUAL(primary_rows[s].state, primary_letters[s]);
        for (unsigned v = 0; v < PRIMARY_EVENT_COUNT; v++) {
            const struct primary_step step =
                primary_fsm_step((enum primary_state)s, (enum primary_event)v);
            const char expected = primary_rows[s].next[v];
            const char got = step.legal ? primary_letters[step.state] : '-';
            if (got != expected)
                printf("  %s, %s: %c instead of %c\n", primary_state_name((enum primary_state)s),
                       primary_event_name((enum primary_event)v), got, expected);
            CU_ASSERT_EQUAL(got, expected);
            CU_ASSERT_TRUE(step.legal || (step.state == s && step.actions == 0));
        }
    }
}

#define HAS(step, action) (((step).actions & (action)) != 0)

static void the_primarys_actions_fit_its_states(void)
{
    for (unsigned s = 0; s < PRIMARY_STATE_COUNT; s++)
        for (unsigned v = 0; v < PRIMARY_EVENT_COUNT; v++) {
            const struct primary_step step =
                primary_fsm_step((enum primary_state)s, (enum primary_event)v);
            const bool answer = v == PRIMARY_EVENT_GRANTED || v == PRIMARY_EVENT_REFUSED ||
                                v == PRIMARY_EVENT_OUTRUN || v == PRIMARY_EVENT_UNANSWERED;
            const bool asks = s == PRIMARY_ASKING || s == PRIMARY_OUTRUN;
            const bool goes_on_asking =
                step.state == PRIMARY_ASKING || step.state == PRIMARY_OUTRUN;
            const bool enters = step.state != s;
            /* P2: output opens by a grant, and never otherwise: of a term that was won, or that the
             * standby left to this host, as soon as the link to it is gone. */
            CU_ASSERT_EQUAL(HAS(step, PRIMARY_ACT_OPEN),
                            (asks && v == PRIMARY_EVENT_GRANTED && step.legal) ||
                                (s == PRIMARY_LEAVING && v == PRIMARY_EVENT_LOST_HELD));
            CU_ASSERT_EQUAL(enters && step.state == PRIMARY_LEAVING,
                            s == PRIMARY_RELEASING &&
                                (v == PRIMARY_EVENT_GRANTED || v == PRIMARY_EVENT_FREED));
            CU_ASSERT_EQUAL(enters && step.state == PRIMARY_RELEASING,
                            s == PRIMARY_PROTECTED && v == PRIMARY_EVENT_UNPROTECT);
            CU_ASSERT_EQUAL(HAS(step, PRIMARY_ACT_FENCE), enters && step.state == PRIMARY_FENCED);
            CU_ASSERT_TRUE(s != PRIMARY_FENCED || step.state == PRIMARY_FENCED);
            CU_ASSERT_TRUE(!enters || step.state != PRIMARY_SOLO || v == PRIMARY_EVENT_GRANTED ||
                           v == PRIMARY_EVENT_LOST_OPEN || s == PRIMARY_LEAVING);
            CU_ASSERT_TRUE(!answer || !step.legal || asks || s == PRIMARY_RELEASING ||
                           (s == PRIMARY_PREPARING && v != PRIMARY_EVENT_GRANTED));
            /* The guest leaves from HANDING only, into which only a term set aside leads; and what
             * comes out of it without the guest being taken lets it go on. */
            CU_ASSERT_EQUAL(enters && step.state == PRIMARY_HANDED,
                            s == PRIMARY_HANDING && v == PRIMARY_EVENT_TAKEN);
            CU_ASSERT_EQUAL(HAS(step, PRIMARY_ACT_OFFER), enters && step.state == PRIMARY_HANDING);
            CU_ASSERT_TRUE(!enters || step.state != PRIMARY_HANDING || v == PRIMARY_EVENT_RESERVED);
            CU_ASSERT_EQUAL(HAS(step, PRIMARY_ACT_GO_ON), s == PRIMARY_HANDING && enters &&
                                                              step.state != PRIMARY_HANDED &&
                                                              step.state != PRIMARY_FENCED);
            /* A question for going on alone is open, or about to be, while ASKING or OUTRUN. */
            CU_ASSERT_EQUAL(HAS(step, PRIMARY_ACT_ASK),
                            goes_on_asking && (enters || answer) && step.legal);
            const bool may_ask = asks || s == PRIMARY_PREPARING || s == PRIMARY_RELEASING;
            CU_ASSERT_EQUAL(HAS(step, PRIMARY_ACT_CANCEL), may_ask && enters && !answer &&
                                                               v != PRIMARY_EVENT_RESERVED &&
                                                               v != PRIMARY_EVENT_FREED);
            /* Who may have lost the guest takes no standby, and only an answer makes it so. */
            CU_ASSERT_EQUAL(enters && step.state == PRIMARY_OUTRUN,
                            s == PRIMARY_ASKING && v == PRIMARY_EVENT_OUTRUN);
            CU_ASSERT_TRUE(s != PRIMARY_OUTRUN || !HAS(step, PRIMARY_ACT_PROTECT));
            /* A visitor is taken in or turned away, and nobody else is. */
            CU_ASSERT_EQUAL(HAS(step, PRIMARY_ACT_PROTECT) + HAS(step, PRIMARY_ACT_TURN_AWAY),
                            v == PRIMARY_EVENT_CONNECTED);
            CU_ASSERT_TRUE(v == PRIMARY_EVENT_COMMITTED || !enters ||
                           step.state != PRIMARY_PROTECTED || s == PRIMARY_PREPARING ||
                           s == PRIMARY_HANDING || s == PRIMARY_RELEASING);
        }
}

/* Every state that can be reached, together with what the engine knows: does output leave, and has
 * this guest ever said anything? A grant opens, the first cut of a link closes, and the loss of a
 * link is NEW, HELD or OPEN accordingly. */
static void walk_primary(bool seen[PRIMARY_STATE_COUNT][2][2], enum primary_state state, bool open,
                         bool spoken)
{
    if (seen[state][open][spoken])
        return;
    seen[state][open][spoken] = true;
    if (state == PRIMARY_SYNCHRONISING)
        walk_primary(seen, state, false, spoken); /* the first cut */
    for (unsigned v = 0; v < PRIMARY_EVENT_COUNT; v++) {
        if ((v == PRIMARY_EVENT_LOST_OPEN && !open) || (v == PRIMARY_EVENT_COMMITTED && open) ||
            (v == PRIMARY_EVENT_LOST_HELD && (open || !spoken)) ||
            (v == PRIMARY_EVENT_LOST_NEW && spoken))
            continue;
        const struct primary_step step = primary_fsm_step(state, (enum primary_event)v);
        const bool opens = HAS(step, PRIMARY_ACT_OPEN);
        if (step.legal)
            walk_primary(seen, step.state, (open || opens) && !HAS(step, PRIMARY_ACT_FENCE),
                         spoken || opens || v == PRIMARY_EVENT_COMMITTED);
    }
}

static void a_primary_never_believes_wrongly_that_output_is_open_or_held(void)
{
    bool seen[PRIMARY_STATE_COUNT][2][2] = {0};
    walk_primary(seen, PRIMARY_WAITING, false, false);
    for (unsigned s = 0; s < PRIMARY_STATE_COUNT; s++) {
        CU_ASSERT_EQUAL(seen[s][false][false] || seen[s][false][true], s != PRIMARY_SOLO);
        CU_ASSERT_EQUAL(seen[s][true][true], s == PRIMARY_SOLO || s == PRIMARY_SYNCHRONISING);
        CU_ASSERT_FALSE(seen[s][true][false]);
    }
    /* Whoever has spoken never waits for a standby as if he had not. */
    CU_ASSERT_FALSE(seen[PRIMARY_WAITING][false][true]);
}

/* ---- secondary ---- */

static const char secondary_letters[] = "csroap";

/* Columns: CONNECTED COMMITTED RESYNC LOST SUSPECT ALIVE WELL FAILOVER GRANTED REFUSED UNANSWERED
 * SUPERSEDED HANDED */
static const struct row secondary_rows[] = {
    {'c', "scccccc----c-"}, {'s', "-rscsss----c-"}, {'r', "-rsoarra---cp"},
    {'o', "s-coaooa---c-"}, {'a', "sasaaorapcacp"}, {'p', "-ppppppp-----"},
};

static void the_secondarys_table_is_this(void)
{
    for (unsigned s = 0; s < SECONDARY_STATE_COUNT; s++) {
        CU_ASSERT_EQUAL(secondary_rows[s].state, secondary_letters[s]);
        for (unsigned v = 0; v < SECONDARY_EVENT_COUNT; v++) {
            const struct secondary_step step =
                secondary_fsm_step((enum secondary_state)s, (enum secondary_event)v);
            const char expected = secondary_rows[s].next[v];
            const char got = step.legal ? secondary_letters[step.state] : '-';
            if (got != expected)
                printf("  %s, %s: %c instead of %c\n",
                       secondary_state_name((enum secondary_state)s),
                       secondary_event_name((enum secondary_event)v), got, expected);
            CU_ASSERT_EQUAL(got, expected);
            CU_ASSERT_TRUE(step.legal || (step.state == s && step.actions == 0));
        }
    }
}

static bool holds_a_state(unsigned state)
{
    return state == SECONDARY_READY || state == SECONDARY_ORPHANED || state == SECONDARY_ASKING ||
           state == SECONDARY_PROMOTING;
}

static void the_secondarys_actions_fit_its_states(void)
{
    for (unsigned s = 0; s < SECONDARY_STATE_COUNT; s++)
        for (unsigned v = 0; v < SECONDARY_EVENT_COUNT; v++) {
            const struct secondary_step step =
                secondary_fsm_step((enum secondary_state)s, (enum secondary_event)v);
            const bool answer = v == SECONDARY_EVENT_GRANTED || v == SECONDARY_EVENT_REFUSED ||
                                v == SECONDARY_EVENT_UNANSWERED;
            const bool enters = step.state != s;
            /* P2: suspicion authorises nobody. */
            CU_ASSERT_EQUAL(HAS(step, SECONDARY_ACT_PROMOTE),
                            step.legal &&
                                (v == SECONDARY_EVENT_GRANTED || v == SECONDARY_EVENT_HANDED));
            CU_ASSERT_EQUAL(enters && step.state == SECONDARY_PROMOTING,
                            (s == SECONDARY_ASKING && v == SECONDARY_EVENT_GRANTED) ||
                                ((s == SECONDARY_READY || s == SECONDARY_ASKING) &&
                                 v == SECONDARY_EVENT_HANDED));
            CU_ASSERT_TRUE(!answer || !step.legal || s == SECONDARY_ASKING);
            /* P3: only a whole state is ever asked for, and only a commit makes one. */
            CU_ASSERT_TRUE(holds_a_state(s) || !holds_a_state(step.state) ||
                           v == SECONDARY_EVENT_COMMITTED);
            CU_ASSERT_EQUAL(HAS(step, SECONDARY_ACT_ASK),
                            step.state == SECONDARY_ASKING &&
                                (enters || v == SECONDARY_EVENT_UNANSWERED) && step.legal);
            CU_ASSERT_EQUAL(HAS(step, SECONDARY_ACT_CANCEL),
                            s == SECONDARY_ASKING && enters && !answer);
            CU_ASSERT_EQUAL(HAS(step, SECONDARY_ACT_FOLLOW),
                            step.legal && v == SECONDARY_EVENT_CONNECTED);
            /* A link that is given up is looked for again. */
            CU_ASSERT_EQUAL(HAS(step, SECONDARY_ACT_UNFOLLOW), HAS(step, SECONDARY_ACT_CONNECT));
        }
}

/* Wherever the link may be, whoever has none looks for one: LOST may be handled in any state but
 * CONNECTING, where the search runs already. */
static void a_lost_link_is_always_looked_for(void)
{
    for (unsigned s = 0; s < SECONDARY_STATE_COUNT; s++) {
        const struct secondary_step step =
            secondary_fsm_step((enum secondary_state)s, SECONDARY_EVENT_LOST);
        CU_ASSERT_TRUE(s == SECONDARY_CONNECTING || s == SECONDARY_PROMOTING ||
                       HAS(step, SECONDARY_ACT_CONNECT));
    }
}

static void names_are_all_there_and_all_different(void)
{
    const char *names[64];
    size_t count = 0;
    for (unsigned i = 0; i < PRIMARY_STATE_COUNT; i++)
        names[count++] = primary_state_name((enum primary_state)i);
    for (unsigned i = 0; i < PRIMARY_EVENT_COUNT; i++)
        names[count++] = primary_event_name((enum primary_event)i);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++)
            CU_ASSERT_STRING_NOT_EQUAL(names[i], names[j]);
    count = 0;
    for (unsigned i = 0; i < SECONDARY_STATE_COUNT; i++)
        names[count++] = secondary_state_name((enum secondary_state)i);
    for (unsigned i = 0; i < SECONDARY_EVENT_COUNT; i++)
        names[count++] = secondary_event_name((enum secondary_event)i);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++)
            CU_ASSERT_STRING_NOT_EQUAL(names[i], names[j]);
}

static const struct test_case cases[] = {
    {"the primary's table is this", the_primarys_table_is_this},
    {"the primary's actions fit its states", the_primarys_actions_fit_its_states},
    {"a primary never believes wrongly that output is open, or held",
     a_primary_never_believes_wrongly_that_output_is_open_or_held},
    {"the secondary's table is this", the_secondarys_table_is_this},
    {"the secondary's actions fit its states", the_secondarys_actions_fit_its_states},
    {"a lost link is always looked for", a_lost_link_is_always_looked_for},
    {"names are all there and all different", names_are_all_there_and_all_different},
};

TEST_MAIN("fsm", cases)
