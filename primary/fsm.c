#include "primary/fsm.h"

#define TO(next, what)                                                                             \
    {                                                                                              \
        .state = PRIMARY_##next, .actions = (what), .legal = true                                  \
    }
#define STAY(current) TO(current, 0)
#define PROTECT       PRIMARY_ACT_PROTECT
#define TURN_AWAY     PRIMARY_ACT_TURN_AWAY
#define DROP          PRIMARY_ACT_DROP
#define ASK           PRIMARY_ACT_ASK
#define CANCEL        PRIMARY_ACT_CANCEL
#define OPEN          PRIMARY_ACT_OPEN
#define FENCE         PRIMARY_ACT_FENCE
#define PREPARE       PRIMARY_ACT_PREPARE
#define RESERVE       PRIMARY_ACT_RESERVE
#define OFFER         PRIMARY_ACT_OFFER
#define GO_ON         PRIMARY_ACT_GO_ON
#define RELEASE       PRIMARY_ACT_RELEASE
#define DISMISS       PRIMARY_ACT_DISMISS

/* Answers of a request that was cancelled meanwhile are dropped by the caller, so GRANTED comes in
 * ASKING, OUTRUN and RELEASING only, RESERVED in PREPARING only, and REFUSED, OUTRUN and UNANSWERED
 * in all four. */
static const struct primary_step table[PRIMARY_STATE_COUNT][PRIMARY_EVENT_COUNT] =
    {
        [PRIMARY_WAITING] =
            {
                [PRIMARY_EVENT_CONNECTED] = TO(SYNCHRONISING, PROTECT),
                [PRIMARY_EVENT_SUSPECT] = STAY(WAITING),
                [PRIMARY_EVENT_WAITED] = TO(ASKING, ASK),
                [PRIMARY_EVENT_SUPERSEDED] = TO(FENCED, FENCE),
            },
        [PRIMARY_SYNCHRONISING] =
            {
                [PRIMARY_EVENT_CONNECTED] = TO(SYNCHRONISING, TURN_AWAY),
                [PRIMARY_EVENT_COMMITTED] = TO(PROTECTED, 0),
                [PRIMARY_EVENT_LOST_HELD] = TO(ASKING, ASK),
                [PRIMARY_EVENT_LOST_NEW] = TO(WAITING, 0),
                [PRIMARY_EVENT_LOST_OPEN] = TO(SOLO, 0),
                /* Nothing is lost with this standby: the link's own time-outs are soon enough. */
                [PRIMARY_EVENT_SUSPECT] = STAY(SYNCHRONISING),
                [PRIMARY_EVENT_WAITED] = STAY(SYNCHRONISING),
                [PRIMARY_EVENT_SUPERSEDED] = TO(FENCED, FENCE),
            },
        [PRIMARY_PROTECTED] =
            {
                [PRIMARY_EVENT_CONNECTED] = TO(PROTECTED, TURN_AWAY),
                /* Again after an overflow of the staging memory. */
                [PRIMARY_EVENT_COMMITTED] = STAY(PROTECTED),
                [PRIMARY_EVENT_LOST_HELD] = TO(ASKING, ASK),
                [PRIMARY_EVENT_SUSPECT] = TO(PROTECTED, DROP),
                [PRIMARY_EVENT_WAITED] = STAY(PROTECTED),
                [PRIMARY_EVENT_SUPERSEDED] = TO(FENCED, FENCE),
                [PRIMARY_EVENT_ORDERED] = TO(PREPARING, PREPARE),
                [PRIMARY_EVENT_UNPROTECT] = TO(RELEASING, RELEASE),
            },
        [PRIMARY_ASKING] =
            {
                /* The standby is back as a standby: it did not take over. */
                [PRIMARY_EVENT_CONNECTED] = TO(SYNCHRONISING, CANCEL | PROTECT),
                [PRIMARY_EVENT_SUSPECT] = STAY(ASKING),
                [PRIMARY_EVENT_WAITED] = STAY(ASKING),
                [PRIMARY_EVENT_GRANTED] = TO(SOLO, OPEN),
                [PRIMARY_EVENT_REFUSED] = TO(FENCED, FENCE),
                [PRIMARY_EVENT_OUTRUN] = TO(OUTRUN, ASK),
                [PRIMARY_EVENT_UNANSWERED] = TO(ASKING, ASK),
                [PRIMARY_EVENT_SUPERSEDED] = TO(FENCED, CANCEL | FENCE),
            },
        [PRIMARY_OUTRUN] =
            {
                [PRIMARY_EVENT_CONNECTED] = TO(OUTRUN, TURN_AWAY),
                [PRIMARY_EVENT_SUSPECT] = STAY(OUTRUN),
                [PRIMARY_EVENT_WAITED] = STAY(OUTRUN),
                [PRIMARY_EVENT_GRANTED] = TO(SOLO, OPEN),
                [PRIMARY_EVENT_REFUSED] = TO(FENCED, FENCE),
                [PRIMARY_EVENT_OUTRUN] = TO(OUTRUN, ASK),
                [PRIMARY_EVENT_UNANSWERED] = TO(OUTRUN, ASK),
                [PRIMARY_EVENT_SUPERSEDED] = TO(FENCED, CANCEL | FENCE),
            },
        [PRIMARY_SOLO] =
            {
                [PRIMARY_EVENT_CONNECTED] = TO(SYNCHRONISING, PROTECT),
                [PRIMARY_EVENT_SUSPECT] = STAY(SOLO),
                [PRIMARY_EVENT_WAITED] = STAY(SOLO),
                [PRIMARY_EVENT_SUPERSEDED] = TO(FENCED, FENCE),
            },
        [PRIMARY_FENCED] =
            {
                [PRIMARY_EVENT_CONNECTED] = TO(FENCED, TURN_AWAY),
                [PRIMARY_EVENT_COMMITTED] = STAY(FENCED),
                [PRIMARY_EVENT_LOST_HELD] = STAY(FENCED),
                [PRIMARY_EVENT_LOST_NEW] = STAY(FENCED),
                [PRIMARY_EVENT_LOST_OPEN] = STAY(FENCED),
                [PRIMARY_EVENT_SUSPECT] = STAY(FENCED),
                [PRIMARY_EVENT_WAITED] = STAY(FENCED),
                [PRIMARY_EVENT_SUPERSEDED] = STAY(FENCED),
                [PRIMARY_EVENT_TAKEN] = STAY(FENCED),
            },
        [PRIMARY_PREPARING] =
            {
                [PRIMARY_EVENT_CONNECTED] = TO(PREPARING, TURN_AWAY),
                [PRIMARY_EVENT_COMMITTED] = STAY(PREPARING),
                [PRIMARY_EVENT_LOST_HELD] = TO(ASKING, CANCEL | ASK),
                [PRIMARY_EVENT_SUSPECT] = TO(PREPARING, DROP),
                [PRIMARY_EVENT_WAITED] = STAY(PREPARING),
                [PRIMARY_EVENT_PREPARED] = TO(PREPARING, RESERVE),
                [PRIMARY_EVENT_RESERVED] = TO(HANDING, OFFER),
                [PRIMARY_EVENT_REFUSED] = TO(FENCED, FENCE),
                /* The standby was granted that term, by suspicion. Either it goes on, and says so,
                 * or it never heard of it and acknowledges as before. */
                [PRIMARY_EVENT_OUTRUN] = TO(PROTECTED, 0),
                [PRIMARY_EVENT_UNANSWERED] = TO(PROTECTED, 0),
                [PRIMARY_EVENT_GIVEN_UP] = TO(PROTECTED, CANCEL),
                [PRIMARY_EVENT_SUPERSEDED] = TO(FENCED, CANCEL | FENCE),
            },
        [PRIMARY_HANDING] =
            {
                [PRIMARY_EVENT_CONNECTED] = TO(HANDING, TURN_AWAY),
                [PRIMARY_EVENT_COMMITTED] = STAY(HANDING),
                [PRIMARY_EVENT_LOST_HELD] = TO(ASKING, GO_ON | ASK),
                [PRIMARY_EVENT_SUSPECT] = TO(HANDING, DROP),
                [PRIMARY_EVENT_WAITED] = STAY(HANDING),
                [PRIMARY_EVENT_GIVEN_UP] = TO(PROTECTED, GO_ON),
                [PRIMARY_EVENT_OVERDUE] = TO(HANDING, DROP),
                [PRIMARY_EVENT_TAKEN] = TO(HANDED, 0),
                [PRIMARY_EVENT_SUPERSEDED] = TO(FENCED, FENCE),
            },
        [PRIMARY_HANDED] =
            {
                [PRIMARY_EVENT_CONNECTED] = TO(HANDED, TURN_AWAY),
                [PRIMARY_EVENT_SUSPECT] = STAY(HANDED),
                [PRIMARY_EVENT_WAITED] = STAY(HANDED),
                [PRIMARY_EVENT_SUPERSEDED] = STAY(HANDED),
            },
        [PRIMARY_RELEASING] =
            {
                [PRIMARY_EVENT_CONNECTED] = TO(RELEASING, TURN_AWAY),
                [PRIMARY_EVENT_COMMITTED] = STAY(RELEASING),
                [PRIMARY_EVENT_LOST_HELD] = TO(ASKING, CANCEL | ASK),
                [PRIMARY_EVENT_SUSPECT] = TO(RELEASING, DROP),
                [PRIMARY_EVENT_WAITED] = STAY(RELEASING),
                [PRIMARY_EVENT_GRANTED] = TO(LEAVING, DISMISS),
                [PRIMARY_EVENT_REFUSED] = TO(FENCED, FENCE),
                /* As in PREPARING. */
                [PRIMARY_EVENT_OUTRUN] = TO(PROTECTED, 0),
                /* It may be granted, and only the answer lost: then nobody is promoted any more. */
                [PRIMARY_EVENT_UNANSWERED] = TO(RELEASING, RELEASE),
                [PRIMARY_EVENT_GIVEN_UP] = TO(PROTECTED, CANCEL),
                /* It may have given up what it held, or not: the arbiter must say. */
                [PRIMARY_EVENT_OVERDUE] = TO(RELEASING, DROP),
                [PRIMARY_EVENT_FREED] = TO(LEAVING, DROP),
                [PRIMARY_EVENT_SUPERSEDED] = TO(FENCED, CANCEL | FENCE),
            },
        [PRIMARY_LEAVING] =
            {
                [PRIMARY_EVENT_CONNECTED] = TO(LEAVING, TURN_AWAY),
                [PRIMARY_EVENT_COMMITTED] = STAY(LEAVING),
                [PRIMARY_EVENT_LOST_HELD] = TO(SOLO, OPEN),
                [PRIMARY_EVENT_SUSPECT] = TO(LEAVING, DROP),
                [PRIMARY_EVENT_WAITED] = STAY(LEAVING),
                [PRIMARY_EVENT_OVERDUE] = TO(LEAVING, DROP),
                [PRIMARY_EVENT_FREED] = TO(LEAVING, DROP),
                [PRIMARY_EVENT_SUPERSEDED] = TO(FENCED, FENCE),
            },
};

struct primary_step primary_fsm_step(enum primary_state state, enum primary_event event)
{
    struct primary_step step = table[state][event];
    if (!step.legal)
        step.state = state;
    return step;
}

const char *primary_state_name(enum primary_state state)
{
    static const char *const names[] = {
        [PRIMARY_WAITING] = "waiting",      [PRIMARY_SYNCHRONISING] = "synchronising",
        [PRIMARY_PROTECTED] = "protected",  [PRIMARY_ASKING] = "asking",
        [PRIMARY_OUTRUN] = "outrun",        [PRIMARY_SOLO] = "solo",
        [PRIMARY_FENCED] = "fenced",        [PRIMARY_PREPARING] = "preparing",
        [PRIMARY_HANDING] = "handing over", [PRIMARY_HANDED] = "handed over",
        [PRIMARY_RELEASING] = "releasing",  [PRIMARY_LEAVING] = "leaving",
    };
    return names[state];
}

const char *primary_event_name(enum primary_event event)
{
    static const char *const names[] = {
        [PRIMARY_EVENT_CONNECTED] = "standby connected",
        [PRIMARY_EVENT_COMMITTED] = "first commit",
        [PRIMARY_EVENT_LOST_HELD] = "link lost",
        [PRIMARY_EVENT_LOST_NEW] = "link lost before the guest said anything",
        [PRIMARY_EVENT_LOST_OPEN] = "link lost before the first commit",
        [PRIMARY_EVENT_SUSPECT] = "standby suspected",
        [PRIMARY_EVENT_WAITED] = "no standby came",
        [PRIMARY_EVENT_GRANTED] = "granted",
        [PRIMARY_EVENT_REFUSED] = "denied",
        [PRIMARY_EVENT_OUTRUN] = "another host was granted the term",
        [PRIMARY_EVENT_UNANSWERED] = "no answer from the arbiter",
        [PRIMARY_EVENT_SUPERSEDED] = "higher term seen",
        [PRIMARY_EVENT_ORDERED] = "switchover ordered",
        [PRIMARY_EVENT_PREPARED] = "standby prepared",
        [PRIMARY_EVENT_RESERVED] = "term set aside",
        [PRIMARY_EVENT_GIVEN_UP] = "switchover given up",
        [PRIMARY_EVENT_OVERDUE] = "standby overdue",
        [PRIMARY_EVENT_TAKEN] = "guest taken over",
        [PRIMARY_EVENT_UNPROTECT] = "end of protection ordered",
        [PRIMARY_EVENT_FREED] = "standby gave up what it held",
    };
    return names[event];
}
