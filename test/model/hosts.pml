/* Three hosts, one guest: who may be the standby (primary/roster.h).
 *
 * pair.pml has the steps of a link, an engine and two roles as the code has them. Here a link is two
 * ends with an epoch and an acknowledgement under way, and the roles are what is left of the tables:
 * enough for the question that a third host adds, whether one that was left behind, with a complete
 * state, can ever be promoted. docs/model.md says why the rest is that of a pair.
 *
 * As there, time does not exist, every step may be delayed for ever, and histories are lines. A host
 * never hears of a higher term by a beat. Checked are P1 and P2.
 *
 * Each MUTANT_x takes one rule out; test/model/run demands a counterexample. */

#include "variant.pml"

#define HOSTS  3
#define NOBODY HOSTS

/* enum primary_state; OUTRUN is FENCED here, since neither speaks */
#define WAITING       0
#define SYNCHRONISING 1
#define PROTECTED     2
#define ASKING        3
#define SOLO          4
#define FENCED        5

#define TERM_STANDBY 1
#define TERM_OWNER   2
#define TERM_LOST    3

#define REQUEST_NONE     0
#define REQUEST_ASKED    1
#define REQUEST_GRANTED  2 /* answered and posted to the role */
#define REQUEST_REFUSED  3
#define REQUEST_RECORDED 4 /* the grant is on disk, and not used yet */

typedef host {
    bool up;
    bool primary;
    byte state; /* of a primary */
    byte term;
    byte starts;
    byte disk_term; /* the term record */
    byte disk_ownership;
    byte disk_standby;
    byte request;
    byte asked;     /* expected term */
    byte returning; /* the same of a question taken back, until it is handed back */
    byte link;      /* the host at the other end of this side's end of a link */
    byte life;

    /* primary */
    byte lin;
    byte said;
    bool spoke;
    bool open; /* SYNCHRONISING, and no epoch was cut yet */
    byte cut;  /* the epoch in flight: its state + 1; 0: none */
    byte ack;  /* likewise, on its way back */
    byte bound; /* roster.bound */

    /* secondary */
    byte arriving; /* an epoch's state + 1 */
    byte arriving_lin;
    bool promotable;
    byte held;
    byte held_lin;
};

host H[HOSTS];
byte arbiter_term = 1;
byte arbiter_who = 255;
byte outputs, trouble, crashes, meetings;

byte lines = 1;
byte cur = 1;
byte vis = 0;
byte shared[9];   /* how much of a line that is no longer `cur` is history; 255: never was heard */
byte complete[9]; /* of each line, what a standby has held whole */

#define me     H[h]
#define WHO(x) ((x) + 4 * H[x].starts)

/* Everything up to that word becomes visible. */
inline emit(upto)
{
    if
    :: upto > 0 ->
        if
        :: me.lin == cur ->
            if
            :: upto > vis -> vis = upto
            :: else
            fi
        :: me.lin != cur && shared[me.lin] == 255 -> /* a guest that began anew is heard */
            shared[cur] = complete[cur]; /* its acknowledgement may be under way: LIMIT_LATE_WORDS */
            cur = me.lin;
            vis = upto
        :: else -> assert(upto <= shared[me.lin]) /* P2: two guests spoke */
        fi
    :: else
    fi
}

inline ask()
{
    me.request = REQUEST_ASKED;
    me.asked = me.term;
    me.returning = 0
}

/* claim_cancel() */
inline cancel(x)
{
    if
    :: H[x].request != REQUEST_NONE ->
        H[x].returning = H[x].asked;
        H[x].request = REQUEST_NONE;
        H[x].asked = 0
    :: else
    fi
}

inline forget()
{
    me.primary = false; me.state = 0; me.term = 0; me.request = 0; me.asked = 0; me.returning = 0;
    me.link = NOBODY; me.life = 0; me.lin = 0; me.said = 0; me.spoke = false; me.open = false;
    me.cut = 0; me.ack = 0; me.bound = NOBODY; me.arriving = 0; me.arriving_lin = 0;
    me.promotable = false; me.held = 0; me.held_lin = 0
}

/* claim_settle(): a term is on disk before it is used, and with it that nobody has its state. */
inline record_grant()
{
    me.disk_term = me.asked + 1;
    me.disk_ownership = TERM_OWNER;
    me.disk_standby = NOBODY;
    me.request = REQUEST_RECORDED
}

/* ---- primary ---- */

/* engine: from the cut on output is held */
inline take_cut()
{
    me.open = false;
    me.cut = me.said + 1;
    if
    :: H[me.link].up && H[me.link].link == h ->
        H[me.link].arriving = me.cut;
        H[me.link].arriving_lin = me.lin
    :: else
    fi
}

inline acknowledged()
{
    emit(me.ack - 1);
    me.cut = 0;
    me.ack = 0;
    me.spoke = true;
    me.state = PROTECTED;
#ifdef MUTANT_BOUND_AT_COMMIT
    me.bound = me.link
#endif
}

inline lose_link()
{
    me.link = NOBODY;
    me.cut = 0;
    me.ack = 0;
    if
    :: me.state == SYNCHRONISING && me.open ->
        me.open = false;
        me.state = SOLO;
        me.bound = NOBODY /* roster_lost(empty) */
    :: me.state == SYNCHRONISING && !me.open && !me.spoke -> me.state = WAITING
    :: else ->
        me.state = ASKING;
        ask()
    fi
}

inline go_alone()
{
    me.term = me.asked + 1;
    me.bound = NOBODY; /* roster_alone() */
    me.request = REQUEST_NONE;
    me.asked = 0;
    me.spoke = true;
    me.state = SOLO;
    emit(me.said)
}

inline start_primary()
{
    me.up = true;
    me.primary = true;
    me.starts++;
    me.state = WAITING;
    me.term = me.disk_term;
#ifndef MUTANT_STANDBY_FORGOTTEN
    me.bound = me.disk_standby; /* roster_recall() */
#endif
    lines++;
    me.lin = lines;
    me.life = lines;
    printf("host %d: starts as primary, term %d, line %d\n", h, me.term, me.lin)
}

/* ---- secondary ---- */

inline take()
{
    me.held = me.arriving - 1;
    me.held_lin = me.arriving_lin;
    me.promotable = true;
    if
    :: me.held > complete[me.held_lin] -> complete[me.held_lin] = me.held
    :: else
    fi;
    if
    :: H[me.link].up && H[me.link].link == h -> H[me.link].ack = me.arriving
    :: else
    fi;
    me.arriving = 0;
    me.arriving_lin = 0
}

inline unfollow()
{
    me.link = NOBODY;
    me.arriving = 0;
    me.arriving_lin = 0
}

inline promote()
{
    printf("host %d: is promoted in term %d with word %d of line %d\n", h, me.asked + 1, me.held,
           me.held_lin);
    /* A guest that began anew and has not been heard is of a later line: whether it may outlive the
     * one that was is P3's question, and pair.pml's. */
    if
    :: me.held_lin > cur -> shared[cur] = complete[cur]
    :: else ->
        assert(me.held_lin == cur && me.held >= vis) /* P1: promoted, and behind what was visible */
    fi;
    shared[me.held_lin] = me.held;
    lines++;
    me.lin = lines;
    cur = lines;
    me.said = me.held;
    unfollow();
    me.promotable = false; me.held = 0; me.held_lin = 0;
    me.term = me.asked + 1;
    me.request = REQUEST_NONE;
    me.asked = 0;
    me.primary = true;
    me.state = SOLO;
    me.spoke = true;
    me.bound = NOBODY
}

inline start_secondary()
{
    me.up = true;
    me.starts++;
    me.term = me.disk_term;
    printf("host %d: starts as secondary, term %d\n", h, me.term)
}

/* ---- both ---- */

#ifdef MUTANT_SAME_TERM
#define MAY_COME(p, s) (H[p].state != WAITING || H[p].bound == NOBODY || H[p].bound == s)
#else
#define MAY_COME(p, s) (H[p].bound == NOBODY || H[p].bound == s)
#endif

#define CAN_MEET(p, s) (meetings > 0 && (p) != (s) && H[p].up && H[s].up && H[p].primary &&         \
                        !H[s].primary && H[p].link == NOBODY && H[s].link == NOBODY &&              \
                        (H[p].state == WAITING || H[p].state == ASKING || H[p].state == SOLO) &&    \
                        H[p].request != REQUEST_RECORDED && H[s].request != REQUEST_RECORDED &&     \
                        H[s].term <= H[p].term && MAY_COME(p, s))

/* The secondary `h` is let in by p. One that holds the guest doesn't follow another one. */
inline meet(p)
{
    meetings--;
#ifndef MUTANT_BOUND_AT_COMMIT
    H[p].bound = h;
#endif
    if
    :: H[p].disk_ownership == TERM_OWNER -> H[p].disk_standby = h
    :: else
    fi;
    if
    :: me.promotable && me.life != H[p].life
    :: else ->
        printf("host %d: follows host %d, line %d, in term %d\n", h, p, H[p].lin, H[p].term);
        cancel(p);
        cancel(h);
        H[p].open = (H[p].state == SOLO);
        H[p].state = SYNCHRONISING;
        H[p].link = h;
        me.link = p;
        me.promotable = false; me.held = 0; me.held_lin = 0;
        me.term = H[p].term;
        if
        :: me.disk_term == me.term && me.disk_ownership == TERM_STANDBY
        :: else ->
            assert(me.disk_term <= me.term);
            me.disk_term = me.term;
            me.disk_ownership = TERM_STANDBY;
            me.disk_standby = NOBODY
        fi;
        me.life = H[p].life
    fi
}

inline arbitrate()
{
    if
#ifdef MUTANT_OTHERS_GRANTED
    :: me.request = REQUEST_GRANTED
#endif
    :: arbiter_term == me.asked ->
        arbiter_term = me.asked + 1;
        arbiter_who = WHO(h);
        printf("arbiter: host %d has term %d\n", h, arbiter_term);
        if
        :: me.request = REQUEST_GRANTED
        :: true /* the answer is lost */
        fi
    :: arbiter_term == me.asked + 1 && arbiter_who == WHO(h) -> me.request = REQUEST_GRANTED
    :: arbiter_term > me.asked && arbiter_who != WHO(h) -> me.request = REQUEST_REFUSED
    fi
}

inline hand_back()
{
    if
    :: arbiter_term == me.returning + 1 && arbiter_who == WHO(h) ->
        arbiter_term = me.returning;
        arbiter_who = 255
    :: else
    fi;
    me.returning = 0
}

#define GONE(h) (!H[H[h].link].up || H[H[h].link].link != (h))

proctype one(byte h)
{
    do
    /* primary */
    :: atomic { me.up && me.primary && me.state != FENCED && outputs > 0 ->
            outputs--;
            me.said++;
            if
            :: me.state == SOLO || (me.state == SYNCHRONISING && me.open) -> emit(me.said)
            :: else
            fi }
    :: atomic { me.up && me.primary && me.link != NOBODY && me.cut == 0 -> take_cut() }
    :: atomic { me.up && me.primary && me.link != NOBODY && me.ack > 0 -> acknowledged() }
    :: atomic { me.up && me.primary && me.link != NOBODY && (GONE(h) || trouble > 0) ->
            if
            :: GONE(h)
            :: else -> trouble--
            fi;
            lose_link() }
    :: atomic { me.up && me.primary && me.state == WAITING && trouble > 0 ->
            trouble--; /* peer-wait is over */
            me.state = ASKING;
            ask() }
    :: atomic { me.up && me.primary && me.request == REQUEST_GRANTED -> record_grant() }
    :: atomic { me.up && me.primary && me.request == REQUEST_RECORDED -> go_alone() }
    :: atomic { me.up && me.primary && me.request == REQUEST_REFUSED ->
            me.request = REQUEST_NONE;
            me.asked = 0;
            me.disk_ownership = TERM_LOST;
            me.state = FENCED }
    /* secondary */
    :: atomic { me.up && !me.primary && me.arriving > 0 && me.request < REQUEST_RECORDED -> take() }
    :: atomic { me.up && !me.primary && me.link != NOBODY && (GONE(h) || trouble > 0) ->
            if
            :: GONE(h)
            :: else -> trouble--
            fi;
            unfollow() }
    :: atomic { me.up && !me.primary && me.promotable && me.request == REQUEST_NONE &&
                (trouble > 0 || me.link == NOBODY || GONE(h)) ->
            if
            :: me.link == NOBODY || GONE(h)
            :: else -> trouble--
            fi;
            ask() }
    :: atomic { me.up && !me.primary && me.request == REQUEST_GRANTED -> record_grant() }
    :: atomic { me.up && !me.primary && me.request == REQUEST_RECORDED -> promote() }
    :: atomic { me.up && !me.primary && me.request == REQUEST_REFUSED ->
            me.request = REQUEST_NONE;
            me.asked = 0;
            me.promotable = false; me.held = 0; me.held_lin = 0;
            unfollow() }
    :: atomic { CAN_MEET(0, h) -> meet(0) }
    :: atomic { CAN_MEET(1, h) -> meet(1) }
    :: atomic { CAN_MEET(2, h) -> meet(2) }
    /* arbiter */
    :: atomic { me.up && me.request == REQUEST_ASKED && arbiter_term >= me.asked -> arbitrate() }
    :: atomic { me.up && me.returning > 0 -> hand_back() }
    /* life and death */
    :: atomic { me.up && crashes > 0 ->
            crashes--;
            me.up = false;
            forget();
            printf("host %d: dies\n", h) }
    :: atomic { !me.up && me.disk_ownership == TERM_OWNER && arbiter_term == me.disk_term ->
            start_primary() }
    :: atomic { !me.up -> start_secondary() }
    od
}

/* Host 0 runs the guest, host 1 protects it, host 2 waits. */
init
{
    byte i;
    atomic {
        do
        :: i < 9 -> shared[i] = 255; i++
        :: else -> i = 0; break
        od;
        do
        :: i < HOSTS ->
            H[i].up = true; H[i].link = NOBODY; H[i].bound = NOBODY; H[i].disk_standby = NOBODY;
            H[i].disk_ownership = TERM_STANDBY;
            i++
        :: else -> i = 0; break
        od;
        H[0].primary = true; H[0].state = PROTECTED; H[0].term = 1; H[0].disk_term = 1;
        H[0].disk_ownership = TERM_OWNER; H[0].disk_standby = 1; H[0].bound = 1; H[0].link = 1;
        H[0].lin = 1; H[0].life = 1; H[0].spoke = true;
        H[1].term = 1; H[1].disk_term = 1; H[1].link = 0; H[1].life = 1; H[1].promotable = true;
        H[1].held_lin = 1;
#ifdef BUDGET
        BUDGET;
#else
        if
        :: outputs = 2; trouble = 2; crashes = 0; meetings = 3
        :: outputs = 2; trouble = 1; crashes = 1; meetings = 2
        :: outputs = 1; trouble = 1; crashes = 2; meetings = 2
        fi;
#endif
        run one(0);
        run one(1);
        run one(2)
    }
}
