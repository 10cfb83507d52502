#include "secondary/fsm.h"

#define TO(next, what)                                                                             \
    {                                                                                              \
        .state = SECONDARY_##next, .actions = (what), .legal = true                                \
    }
#define STAY(current) TO(current, 0)
#define CANCEL        SECONDARY_ACT_CANCEL
#define FOLLOW        SECONDARY_ACT_FOLLOW
#define UNFOLLOW      SECONDARY_ACT_UNFOLLOW
#define CONNECT       SECONDARY_ACT_CONNECT
#define ASK           SECONDARY_ACT_ASK
#define PROMOTE       SECONDARY_ACT_PROMOTE

/* Answers of a request that was cancelled meanwhile are dropped by the caller, so GRANTED, REFUSED
 * and UNANSWERED come in ASKING only. The connector runs in every state without a link: ASKING
 * included, since a primary that takes us back as its standby is the best answer. */
static const struct secondary_step table[SECONDARY_STATE_COUNT][SECONDARY_EVENT_COUNT] =
    {
        [SECONDARY_CONNECTING] =
            {
                [SECONDARY_EVENT_CONNECTED] = TO(SYNCHRONISING, FOLLOW),
                /* Of a link that was given up when a higher term was seen. */
                [SECONDARY_EVENT_COMMITTED] = STAY(CONNECTING),
                [SECONDARY_EVENT_RESYNC] = STAY(CONNECTING),
                [SECONDARY_EVENT_LOST] = STAY(CONNECTING),
                [SECONDARY_EVENT_SUSPECT] = STAY(CONNECTING),
                [SECONDARY_EVENT_ALIVE] = STAY(CONNECTING),
                [SECONDARY_EVENT_WELL] = STAY(CONNECTING),
                [SECONDARY_EVENT_SUPERSEDED] = STAY(CONNECTING),
            },
        [SECONDARY_SYNCHRONISING] =
            {
                [SECONDARY_EVENT_COMMITTED] = TO(READY, 0),
                [SECONDARY_EVENT_RESYNC] = STAY(SYNCHRONISING),
                [SECONDARY_EVENT_LOST] = TO(CONNECTING, UNFOLLOW | CONNECT),
                /* It could not take over anyway: the link's own time-outs are soon enough. */
                [SECONDARY_EVENT_SUSPECT] = STAY(SYNCHRONISING),
                [SECONDARY_EVENT_ALIVE] = STAY(SYNCHRONISING),
                [SECONDARY_EVENT_WELL] = STAY(SYNCHRONISING),
                [SECONDARY_EVENT_SUPERSEDED] = TO(CONNECTING, UNFOLLOW | CONNECT),
            },
        [SECONDARY_READY] =
            {
                [SECONDARY_EVENT_COMMITTED] = STAY(READY),
                [SECONDARY_EVENT_RESYNC] = TO(SYNCHRONISING, 0),
                [SECONDARY_EVENT_LOST] = TO(ORPHANED, UNFOLLOW | CONNECT),
                /* The link stays until the grant: what still commits is not lost. */
                [SECONDARY_EVENT_SUSPECT] = TO(ASKING, ASK),
                [SECONDARY_EVENT_ALIVE] = STAY(READY),
                [SECONDARY_EVENT_WELL] = STAY(READY),
                [SECONDARY_EVENT_FAILOVER] = TO(ASKING, ASK),
                [SECONDARY_EVENT_SUPERSEDED] = TO(CONNECTING, UNFOLLOW | CONNECT),
                [SECONDARY_EVENT_HANDED] = TO(PROMOTING, PROMOTE),
            },
        [SECONDARY_ORPHANED] =
            {
                [SECONDARY_EVENT_CONNECTED] = TO(SYNCHRONISING, FOLLOW),
                /* After a suspicion that was revoked in the moment when the link broke. */
                [SECONDARY_EVENT_LOST] = TO(ORPHANED, UNFOLLOW | CONNECT),
                /* What is held can't be applied to the disks. */
                [SECONDARY_EVENT_RESYNC] = STAY(CONNECTING),
                [SECONDARY_EVENT_SUSPECT] = TO(ASKING, ASK),
                [SECONDARY_EVENT_ALIVE] = STAY(ORPHANED),
                [SECONDARY_EVENT_WELL] = STAY(ORPHANED),
                [SECONDARY_EVENT_FAILOVER] = TO(ASKING, ASK),
                [SECONDARY_EVENT_SUPERSEDED] = STAY(CONNECTING),
            },
        [SECONDARY_ASKING] =
            {
                [SECONDARY_EVENT_CONNECTED] = TO(SYNCHRONISING, CANCEL | FOLLOW),
                [SECONDARY_EVENT_COMMITTED] = STAY(ASKING),
                [SECONDARY_EVENT_RESYNC] = TO(SYNCHRONISING, CANCEL),
                [SECONDARY_EVENT_LOST] = TO(ASKING, UNFOLLOW | CONNECT),
                [SECONDARY_EVENT_SUSPECT] = STAY(ASKING),
                [SECONDARY_EVENT_ALIVE] = TO(ORPHANED, CANCEL),
                [SECONDARY_EVENT_WELL] = TO(READY, CANCEL),
                [SECONDARY_EVENT_FAILOVER] = STAY(ASKING),
                [SECONDARY_EVENT_GRANTED] = TO(PROMOTING, PROMOTE),
                [SECONDARY_EVENT_REFUSED] = TO(CONNECTING, UNFOLLOW | CONNECT),
                [SECONDARY_EVENT_UNANSWERED] = TO(ASKING, ASK),
                [SECONDARY_EVENT_SUPERSEDED] = TO(CONNECTING, CANCEL | UNFOLLOW | CONNECT),
                [SECONDARY_EVENT_HANDED] = TO(PROMOTING, CANCEL | PROMOTE),
            },
        [SECONDARY_PROMOTING] =
            {
                [SECONDARY_EVENT_LOST] = STAY(PROMOTING),
                [SECONDARY_EVENT_RESYNC] = STAY(PROMOTING),
                [SECONDARY_EVENT_COMMITTED] = STAY(PROMOTING),
                [SECONDARY_EVENT_SUSPECT] = STAY(PROMOTING),
                [SECONDARY_EVENT_ALIVE] = STAY(PROMOTING),
                [SECONDARY_EVENT_WELL] = STAY(PROMOTING),
                [SECONDARY_EVENT_FAILOVER] = STAY(PROMOTING),
            },
};

struct secondary_step secondary_fsm_step(enum secondary_state state, enum secondary_event event)
{
    struct secondary_step step = table[state][event];
    if (!step.legal)
        step.state = state;
    return step;
}

const char *secondary_state_name(enum secondary_state state)
{
    static const char *const names[] = {
        [SECONDARY_CONNECTING] = "connecting", [SECONDARY_SYNCHRONISING] = "synchronising",
        [SECONDARY_READY] = "ready",           [SECONDARY_ORPHANED] = "orphaned",
        [SECONDARY_ASKING] = "asking",         [SECONDARY_PROMOTING] = "promoting",
    };
    return names[state];
}

const char *secondary_event_name(enum secondary_event event)
{
    static const char *const names[] = {
        [SECONDARY_EVENT_CONNECTED] = "primary connected",
        [SECONDARY_EVENT_COMMITTED] = "first commit",
        [SECONDARY_EVENT_RESYNC] = "full synchronisation",
        [SECONDARY_EVENT_LOST] = "link lost",
        [SECONDARY_EVENT_SUSPECT] = "primary suspected",
        [SECONDARY_EVENT_ALIVE] = "primary alive",
        [SECONDARY_EVENT_WELL] = "primary well",
        [SECONDARY_EVENT_FAILOVER] = "operator's failover",
        [SECONDARY_EVENT_GRANTED] = "granted",
        [SECONDARY_EVENT_REFUSED] = "refused",
        [SECONDARY_EVENT_UNANSWERED] = "no answer from the arbiter",
        [SECONDARY_EVENT_SUPERSEDED] = "higher term seen",
        [SECONDARY_EVENT_HANDED] = "guest handed over",
    };
    return names[event];
}
