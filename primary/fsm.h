/* The primary's decisions, as a pure table: (state, event) -> (state, actions).
 *
 *                 standby connected            first commit
 *      WAITING ───────────────────► SYNCHRONISING ──────────► PROTECTED
 *         │                          ▲  ▲  │ link lost           │ link lost
 *         │ waited long enough       │  │  ├─────────┬───────────┘
 *         ▼                          │  │  │(open)   │(held)
 *       ASKING ◄─────────────────────┼──┼──┼─────────┘
 *         │ granted      connected   │  │  │
 *         └─────────────► SOLO ──────┘  └──┘ SOLO
 *
 * A guest that has never been protected nor alone goes back to WAITING when its first standby
 * leaves: nothing of it has been seen, and a primary that crashed and began anew must not outrun
 * the standby that holds the guest it lost.
 *
 *      outrun: ASKING ──► OUTRUN ── granted ──► SOLO
 *      denied, or a higher term seen: any ──► FENCED, for good
 *
 * OUTRUN: the arbiter says that somebody else was granted a higher term, and nobody has proved yet
 * that it is used. Whoever was may never have heard of it, and hand it back. Until then this guest
 * is parked, its output held, and it keeps asking; no standby is taken, since a host whose term was
 * used, and whose record was lost, would come as an empty one.
 *
 * Planned switchover:
 *
 *                   ordered            term set aside               taken
 *      PROTECTED ───────────► PREPARING ────────────► HANDING ───────────────► HANDED, the end
 *          ▲                    │   │ link lost        │   │ link lost
 *          └─── given up ───────┘   └──► ASKING ◄──────┼───┘ (the guest goes on, held)
 *          └─── given up before it was offered ────────┘
 *
 * PREPARING is PROTECTED in every respect but one: the standby was told which term is only for the
 * hand-over. In HANDING the guest stands still and both hosts hold the same of it. No output leaves
 * this host in the term that was set aside: whoever wants to go on alone after it must win the next
 * one (docs/failure.md).
 *
 * Protection ended by order (release.c):
 *
 *                   ordered             granted, or the standby             link closed
 *                                       gave up what it held
 *      PROTECTED ───────────► RELEASING ──────────────────────► LEAVING ────────────────► SOLO
 *          ▲                    │   │ link lost
 *          └─── given up ───────┘   └──► ASKING
 *
 * RELEASING is PROTECTED as far as output goes, but nobody is told so any more: the arbiter may
 * have granted the next term already. In LEAVING it is ours.
 *
 * WAITING, ASKING, OUTRUN: output is held. SOLO: output leaves at once, by a grant (DESIGN §6). In
 * SYNCHRONISING output is held, or open if it was SOLO before and no epoch with state has gone out
 * yet (the engine knows which). */
#ifndef KEMARI_PRIMARY_FSM_H
#define KEMARI_PRIMARY_FSM_H

#include "base/types.h"

enum primary_state {
    PRIMARY_WAITING,
    PRIMARY_SYNCHRONISING,
    PRIMARY_PROTECTED,
    PRIMARY_ASKING,
    PRIMARY_OUTRUN,
    PRIMARY_SOLO,
    PRIMARY_FENCED,
    PRIMARY_PREPARING,
    PRIMARY_HANDING,
    PRIMARY_HANDED,
    PRIMARY_RELEASING,
    PRIMARY_LEAVING,
    PRIMARY_STATE_COUNT
};

enum primary_event {
    PRIMARY_EVENT_CONNECTED,  /* a standby passed the handshake */
    PRIMARY_EVENT_COMMITTED,  /* its first commit */
    PRIMARY_EVENT_LOST_HELD,  /* the link is gone, output is held */
    PRIMARY_EVENT_LOST_NEW,   /* the same, and this guest has never said anything to the outside */
    PRIMARY_EVENT_LOST_OPEN,  /* the link is gone, output was open all the time */
    PRIMARY_EVENT_SUSPECT,    /* the heartbeat suspects the standby */
    PRIMARY_EVENT_WAITED,     /* nobody came in the configured time */
    PRIMARY_EVENT_GRANTED,    /* by the arbiter, recorded durably */
    PRIMARY_EVENT_REFUSED,    /* by the arbiter, in nobody's favour: denied */
    PRIMARY_EVENT_OUTRUN,     /* by the arbiter, which granted a higher term to somebody else */
    PRIMARY_EVENT_UNANSWERED, /* by the arbiter, in time */
    PRIMARY_EVENT_SUPERSEDED, /* somebody proved a higher term */
    PRIMARY_EVENT_ORDERED,    /* an operator wants the guest on the other host */
    PRIMARY_EVENT_PREPARED,   /* the standby knows which term is for the hand-over */
    PRIMARY_EVENT_RESERVED,   /* that term was set aside by the arbiter */
    PRIMARY_EVENT_GIVEN_UP,   /* the switchover, before the guest was offered */
    PRIMARY_EVENT_OVERDUE,    /* it was offered the guest, or told to give it up, and is silent */
    PRIMARY_EVENT_TAKEN,      /* the guest runs on the other host */
    PRIMARY_EVENT_UNPROTECT,  /* an operator wants the guest to go on without a standby */
    PRIMARY_EVENT_FREED,      /* the standby gave up what it held, and says so */
    PRIMARY_EVENT_COUNT
};

enum primary_action {
    PRIMARY_ACT_PROTECT = 1 << 0,   /* give the new link to the engine */
    PRIMARY_ACT_TURN_AWAY = 1 << 1, /* close the new link */
    PRIMARY_ACT_DROP = 1 << 2,      /* give up the link */
    PRIMARY_ACT_ASK = 1 << 3,       /* request the next term */
    PRIMARY_ACT_CANCEL = 1 << 4,    /* take the request back */
    PRIMARY_ACT_OPEN = 1 << 5,      /* release output without a standby */
    PRIMARY_ACT_FENCE = 1 << 6,     /* stop the guest for good */
    PRIMARY_ACT_PREPARE = 1 << 7,   /* tell the standby which term is for the hand-over */
    PRIMARY_ACT_RESERVE = 1 << 8,   /* request that term */
    PRIMARY_ACT_OFFER = 1 << 9,     /* stop the guest, commit all, offer it */
    PRIMARY_ACT_GO_ON = 1 << 10,    /* the guest goes on here */
    PRIMARY_ACT_RELEASE = 1 << 11,  /* request the next term to go on alone in, with a standby */
    PRIMARY_ACT_DISMISS = 1 << 12,  /* tell the standby to give up what it holds */
};

struct primary_step {
    enum primary_state state;
    unsigned actions; /* enum primary_action, to be carried out in the order of their bits */
    bool legal;       /* false: this event can't happen in this state; nothing changes */
};

struct primary_step primary_fsm_step(enum primary_state state, enum primary_event event);

const char *primary_state_name(enum primary_state state);
const char *primary_event_name(enum primary_event event);

#endif
