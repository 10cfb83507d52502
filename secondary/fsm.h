/* The secondary's decisions, as a pure table: (state, event) -> (state, actions).
 *
 *                  connected                first commit
 *    CONNECTING ─────────────► SYNCHRONISING ───────────► READY
 *      ▲  ▲  ▲                  │    ▲   ▲                 │ │
 *      │  │  └──────────────────┘    │   └─ full sync again ┘ │ link lost
 *      │  │        link lost         │ connected              ▼
 *      │  │                          ├──────────────────── ORPHANED
 *      │  │ refused, higher term     │ connected              │ suspicion, operator
 *      │  └──────────────────────────┼───────────────────── ASKING ──granted──► PROMOTING
 *      │                             └────────────────────────┘
 *      └─ the state held is of no use (never complete, or outdated): this side can't take over
 *
 *    READY, ASKING ──── the primary hands the guest over ────► PROMOTING
 *
 * Only READY, ORPHANED and ASKING hold a state from which the guest could continue. Suspicion alone
 * does nothing but ask (DESIGN §6). */
#ifndef KEMARI_SECONDARY_FSM_H
#define KEMARI_SECONDARY_FSM_H

#include "base/types.h"

enum secondary_state {
    SECONDARY_CONNECTING,
    SECONDARY_SYNCHRONISING,
    SECONDARY_READY,
    SECONDARY_ORPHANED,
    SECONDARY_ASKING,
    SECONDARY_PROMOTING,
    SECONDARY_STATE_COUNT
};

enum secondary_event {
    SECONDARY_EVENT_CONNECTED,  /* a primary passed the handshake */
    SECONDARY_EVENT_COMMITTED,  /* the first complete epoch */
    SECONDARY_EVENT_RESYNC,     /* the primary began a full synchronisation */
    SECONDARY_EVENT_LOST,       /* the link is gone */
    SECONDARY_EVENT_SUSPECT,    /* the primary is thought to have failed */
    SECONDARY_EVENT_ALIVE,      /* that was wrong, but the link is gone */
    SECONDARY_EVENT_WELL,       /* that was wrong, and the link is up */
    SECONDARY_EVENT_FAILOVER,   /* an operator wants the guest here */
    SECONDARY_EVENT_GRANTED,    /* by the arbiter, recorded durably */
    SECONDARY_EVENT_REFUSED,    /* by the arbiter */
    SECONDARY_EVENT_UNANSWERED, /* by the arbiter, in time */
    SECONDARY_EVENT_SUPERSEDED, /* somebody owns a higher term than the state held is of */
    SECONDARY_EVENT_HANDED,     /* the primary gave the guest and a term; recorded durably */
    SECONDARY_EVENT_COUNT
};

enum secondary_action {
    SECONDARY_ACT_CANCEL = 1 << 0,   /* take the request back */
    SECONDARY_ACT_FOLLOW = 1 << 1,   /* give the new link to the standby */
    SECONDARY_ACT_UNFOLLOW = 1 << 2, /* close the link */
    SECONDARY_ACT_CONNECT = 1 << 3,  /* look for the primary again */
    SECONDARY_ACT_ASK = 1 << 4,      /* request the next term */
    SECONDARY_ACT_PROMOTE = 1 << 5,
};

struct secondary_step {
    enum secondary_state state;
    unsigned actions; /* enum secondary_action, to be carried out in the order of their bits */
    bool legal;       /* false: this event can't happen in this state; nothing changes */
};

struct secondary_step secondary_fsm_step(enum secondary_state state, enum secondary_event event);

const char *secondary_state_name(enum secondary_state state);
const char *secondary_event_name(enum secondary_event event);

#endif
