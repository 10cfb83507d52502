/* Two hosts, one guest: output commit, roles, terms and the arbiter, as the code has them.
 *
 * The decision tables are not written here: tables.c prints those of primary/fsm.c and
 * secondary/fsm.c into tables.pml.  What stands here is what surrounds them: engine, outbox, standby,
 * link, mailboxes, term record, arbiter.  docs/model.md maps each name to the code, says what is left
 * out, and how to read a counterexample.
 *
 * Time does not exist: every step of a thread may be delayed for ever.  A frozen process, a slow
 * disk, a partition and a lost beat are steps that do not come; a wrong suspicion is a step that comes
 * any time.  Budgets keep it finite: `trouble` counts what begins without a cause (suspicion, link failure,
 * failover), `crashes` the processes that die, `meetings` the links, `outputs` what the guest says,
 * `overflows` the full synchronisations in the middle of protection, `moves` the planned switchovers.  One run covers all of budget().
 *
 * A guest's history is a line: it has said 1, 2, 3...  `lin` names a copy of the guest that runs or
 * ran; a promotion begins a new line that shares the old one's words up to the state it began from.
 * `cur` is the line the world listens to, `vis` the last word of it that the world has heard.
 *
 * Each MUTANT_x takes one rule out of the model; test/model/run demands a counterexample for each. A
 * LIMIT_x takes out an assumption, and has a counterexample too. A SPARE_x takes out a rule behind
 * which another one stands: it must hold. */

#include "variant.pml" /* nothing, or what test/model/run changes */

/* What the tables of the code decide: set by *_fsm_step(). */
byte next_state;
short actions;
bool legal;
#include "tables.pml"

/* enum engine_state, enum outbox_mode, enum term_ownership */
#define ENGINE_HOLDING       0
#define ENGINE_SYNCHRONISING 1
#define ENGINE_REPLICATING   2
#define ENGINE_OPEN          3
#define ENGINE_FENCED        4
#define OUTBOX_HOLDING       0
#define OUTBOX_OPEN          1
#define OUTBOX_DISCARDING    2
#define TERM_STANDBY         1
#define TERM_OWNER           2
#define TERM_LOST            3

/* A question to the arbiter: none; asked; answered and posted to the role. */
#define REQUEST_NONE     0
#define REQUEST_ASKED    1
#define REQUEST_GRANTED  2
#define REQUEST_REFUSED  3

/* Frames on the link, primary to standby and back. */
#define FULL_EPOCH 1 /* BEGIN to END of a full synchronisation */
#define EPOCH_BEGIN 3
#define EPOCH_END  4
#define EPOCH_ACK  5
#define SUPERSEDED 6 /* GOODBYE of a standby that was granted the guest */
#define PREPARE    7 /* steps of a planned switchover; TAKE carries the state it is of */
#define PREPARED   8
#define TAKE       9
#define TAKEN      10

/* Letters of the secondary; those of the primary are its events. */
#define LETTER_LINK     20 /* term and life of the primary that took us */
#define STANDBY_READY   21
#define STANDBY_NOT_READY 22
#define STANDBY_CLOSED  23
#define LETTER_ALIVE    24 /* a suspicion is revoked */
#define LETTER_PREPARE  26
#define LETTER_TAKE     27
#define LETTER_WELL     25 /* MUTANT_LINK_UNCHECKED: decided by the thread that posts */

#define NO_EPOCH 15 /* in flight: an epoch without state (full synchronisation) */
#define NOBODY   15

typedef host {
    bool up;
    bool primary;   /* its role */
    byte state;     /* enum primary_state or secondary_state */
    byte term;      /* status.term */
    byte starts;    /* makes `who` unique per process start */
    byte disk_term; /* the term record */
    byte disk_ownership;

    byte request;
    byte asked;     /* expected term of the question */

    byte returning; /* expected term of a question taken back, until it is handed back */

    byte life;      /* of the guest that runs here, or is followed */
    bool end_open;  /* this side's end of the link */
    byte link_term;

    /* primary: engine and outbox */
    byte lin;       /* which line the guest that runs here is */
    byte said;      /* by the guest */
    byte told;      /* of it, to the world */
    byte engine;
    byte outbox;
    byte in_flight; /* epochs */
    byte oldest;    /* state of the oldest, as `said` at its cut */
    byte newest;
    bool sending;   /* END of the newest is not out yet */
    byte last_cut;
    bool need_cut;  /* a synchronisation was acknowledged: the epoch with state follows */
    bool offered;   /* engine_protect() */
    bool want_open;
    bool was_open;
    bool failed;    /* link_failed */
    bool superseded; /* how the link ends: ENGINE_EVENT_SUPERSEDED */
    bool spoke;
    bool taken;     /* the door */
    bool halted;    /* the guest stands still: it is being handed over */
    byte handover;  /* term that the standby was told to be for a hand-over */
    bool reserved;  /* set aside by the arbiter */
    bool told_lost; /* the link on which it was told is gone */
    bool last_done; /* the last cut */
    bool offered_guest; /* TAKE was sent */
    bool heir;      /* took the guest, nothing committed yet */
    bool fresh;     /* began on a term record already used: an earlier run may have been heard */

    /* secondary: standby and connector */
    bool following;
    bool synchronised;
    bool ready_told;
    bool promotable;
    bool torn;      /* memory is half of one moment and half of another */
    byte staged;    /* state of the epoch that arrives */
    byte held;      /* committed state */
    byte held_lin;
    bool connecting;
    byte set_aside; /* the term that the primary promised not to go on alone in */
    bool beyond;    /* the one after it is asked for */
    byte revoking;  /* MUTANT_LINK_UNCHECKED */
};

host H[2];
chan data = [4] of { byte, byte, byte, byte }; /* frame, state, line, term */
chan acks = [4] of { byte };
chan mail0 = [6] of { byte, byte, byte };      /* letter, term, life */
chan mail1 = [6] of { byte, byte, byte };
#define MAIL(x) mail[x]
chan mail[2];

byte arbiter_term = 1;
byte arbiter_who = NOBODY;

byte outputs, trouble, crashes, meetings, overflows, moves; /* budgets, see budget() */
byte died;

/* The world. */
byte lines = 1;
byte cur = 1;
byte vis = 0;
byte shared[8]; /* how much of a line that is no longer `cur` is history; 255: never was */
byte parent[8]; /* of a line that was handed over and has not been heard: the one it goes on from */
byte base[8];   /* and its word there */
byte complete[8]; /* of each line, what a standby has held whole */
byte aside;    /* the term that is, or was last, set aside for a hand-over */
byte used = 1;  /* highest term somebody went on alone with */
bool gone;      /* lost by more than P3 speaks of */
bool counted;   /* the one crash that P3 speaks of came while both sides said protected */

byte kind, arg1, arg2, arg3, ev, word, was;

#define me    H[h]
#define peer  H[1 - h]
#define WHO(x) ((x) + 2 * H[x].starts)

/* Can the guest that the world knows go on from this host? */
#define OF_CUR(l)  ((l) == cur || (parent[l] == cur && shared[l] == 255 && base[l] >= vis))
#define RUNS(x)    (H[x].up && H[x].primary && OF_CUR(H[x].lin) && \
                    H[x].state != PRIMARY_FENCED && H[x].engine != ENGINE_FENCED && \
                    (H[x].state != PRIMARY_OUTRUN || CAN_WIN(x)))
/* An outrun primary goes on when the term is handed back, which needs the process that was granted
 * it. */
#define CAN_WIN(x) (arbiter_term == H[x].term || (H[1 - x].up && arbiter_who == WHO(1 - x)))
#define KEEPS(x)   (H[x].up && !H[x].primary && H[x].promotable && OF_CUR(H[x].held_lin) && \
                    H[x].held >= vis && \
                    (H[x].state == SECONDARY_READY || H[x].state == SECONDARY_ORPHANED || \
                     H[x].state == SECONDARY_ASKING || H[x].state == SECONDARY_PROMOTING))
#define GOES_ON(x) (RUNS(x) || KEEPS(x))

/* ---- the world listens ---- */

/* `line` begins to be what the world hears. P3: a guest that begins anew while somebody still holds
 * the one that was heard throws that one away. */
inline become_official(line)
{
    assert(!(vis > 0 && (GOES_ON(0) || GOES_ON(1)))); /* P3: the committed guest was outrun */
    shared[cur] = vis;
    cur = line;
    vis = 0
}

/* The same for a guest that was handed over: it goes on from all that was heard. */
inline become_heard(line)
{
    assert(parent[line] == cur && vis <= base[line]); /* P2: two guests spoke after a hand-over */
    shared[cur] = base[line];
    cur = line;
    vis = base[line]
}

/* Everything up to word `upto` of the guest on this host becomes visible. */
inline emit(h, upto)
{
    if
    :: upto > me.told ->
        if
        :: me.lin != cur && shared[me.lin] == 255 && parent[me.lin] == 0 -> become_official(me.lin)
        :: me.lin != cur && shared[me.lin] == 255 && parent[me.lin] > 0 ->
            become_heard(me.lin)
        :: else
        fi;
        if
        :: me.lin == cur ->
            if
            :: upto > vis -> vis = upto
            :: else
            fi
        :: else ->
            assert(upto <= shared[me.lin]); /* P2: two guests spoke */
#ifdef LIMIT_LATE_WORDS
            assert(false) /* strict P2: even words of the common history come late */
#endif
        fi;
        me.told = upto;
        printf("host %d: word %d of line %d is visible\n", h, upto, me.lin)
    :: else
    fi
}

/* outbox_release() */
inline release(h, upto)
{
    assert(upto <= complete[me.lin]); /* P1: visible before a standby held it */
    emit(h, upto)
}

/* Somebody gave up: P3 with no crash, or with one that came while both said protected. A term granted
 * to a question that was taken back is the known exception, until it is handed back. */
#ifdef LIMIT_UNUSED_GRANT
#define EXCUSED false
#else
#define EXCUSED UNUSED_GRANT
#endif
/* A term set aside for a hand-over is no excuse: nobody is lost by being refused it. */
#define UNUSED_GRANT (arbiter_term > used && arbiter_term != aside)
#define AT_MOST_ONE_CRASH (died == 0 || (died == 1 && counted))
inline check_not_lost()
{
    if
    :: vis > 0 && !GOES_ON(0) && !GOES_ON(1) ->
        assert(gone || !AT_MOST_ONE_CRASH || EXCUSED); /* P3: a single failure lost the guest */
        gone = true
    :: else
    fi
}

/* ---- link ---- */

inline clear_link()
{
    do
    :: len(data) > 0 -> data?kind, arg1, arg2, arg3
    :: len(data) == 0 -> break
    od;
    do
    :: len(acks) > 0 -> acks?kind
    :: len(acks) == 0 -> break
    od
}

/* What the other side sent and we did not read is gone; what we sent may still be read. */
inline close_end(h)
{
    if
    :: me.end_open ->
        me.end_open = false;
        if
        :: !peer.end_open -> clear_link()
        :: else
        fi
    :: else
    fi
}

inline post(to, letter, number, whose_life)
{
    assert(len(MAIL(to)) < 6); /* the model's mailbox is long enough */
    MAIL(to)!letter, number, whose_life
}

inline clear_mail(h)
{
    do
    :: len(MAIL(h)) > 0 -> MAIL(h)?kind, arg1, arg2
    :: len(MAIL(h)) == 0 -> break
    od
}

/* ---- terms ---- */

/* term_store_advance(): `legal` says whether it was allowed. */
inline record(h, newer, whose)
{
    if
    :: newer == me.disk_term && whose == me.disk_ownership -> legal = true
    :: newer > me.disk_term -> legal = true
#ifdef MUTANT_TERMS_UNCHECKED
    :: newer < me.disk_term -> legal = true
#endif
    :: newer == me.disk_term && whose == TERM_LOST && newer > 0 -> legal = true
    :: newer == me.disk_term && me.disk_ownership == TERM_LOST && whose == TERM_STANDBY ->
        legal = true
    :: else -> legal = false
    fi;
    if
    :: legal ->
        assert(newer >= me.disk_term); /* a term went backwards */
        me.disk_term = newer;
        me.disk_ownership = whose
    :: else
    fi
}

inline ask(h)
{
    me.request = REQUEST_ASKED;
    me.asked = (me.beyond -> me.set_aside : me.term);
    me.returning = 0;
    printf("host %d: asks for term %d\n", h, me.asked + 1)
}

/* claim_cancel(): its answer will not be heard; the arbiter may have granted it. */
inline cancel(h)
{
    me.returning = me.asked;
    me.request = REQUEST_NONE;
    me.asked = 0
}

/* ---- life of a process ---- */

inline forget(h)
{
    close_end(h);
    clear_mail(h);
    me.request = REQUEST_NONE; me.asked = 0; me.returning = 0;
    me.life = 0; me.link_term = 0;
    me.lin = 0; me.said = 0; me.told = 0; me.engine = 0; me.outbox = 0;
    me.in_flight = 0; me.oldest = 0; me.newest = 0; me.sending = false; me.last_cut = 0;
    me.need_cut = false; me.offered = false; me.want_open = false; me.was_open = false;
    me.failed = false; me.superseded = false; me.spoke = false;
    me.taken = false; me.fresh = false;
    me.halted = false; me.last_done = false; me.offered_guest = false; me.heir = false;
    me.handover = 0; me.reserved = false; me.told_lost = false;
    me.set_aside = 0; me.beyond = false;
    me.following = false; me.synchronised = false; me.ready_told = false;
    me.promotable = false; me.torn = false; me.staged = 0; me.held = 0; me.held_lin = 0;
    me.connecting = false; me.revoking = 0;
    me.state = 0; me.term = 0; me.primary = false; me.up = false
}

/* In the middle of a switchover, from x to y or back. */
#define MOVES(x, y) (H[x].primary && H[x].engine == ENGINE_REPLICATING && \
                     (H[x].state == PRIMARY_PREPARING || H[x].state == PRIMARY_HANDING) && \
                     ((!H[y].primary && H[y].state == SECONDARY_READY) || H[y].heir) || \
                     (H[x].primary && H[x].heir && !H[y].primary && H[y].state == SECONDARY_READY))

/* The process dies with all it knows. P3 speaks of a crash while both sides said protected. */
inline die(h)
{
    counted = (H[0].up && H[1].up && H[0].end_open && H[1].end_open &&
               (H[0].primary != H[1].primary || H[0].heir || H[1].heir) &&
               ((H[0].primary && H[0].state == PRIMARY_PROTECTED &&
                 H[0].engine == ENGINE_REPLICATING && H[1].state == SECONDARY_READY) ||
                (H[1].primary && H[1].state == PRIMARY_PROTECTED &&
                 H[1].engine == ENGINE_REPLICATING && H[0].state == SECONDARY_READY) ||
                MOVES(0, 1) || MOVES(1, 0)));
    crashes--;
    died++;
    forget(h)
}

inline start_secondary(h)
{
    me.up = true;
    me.primary = false;
    me.starts++;
    me.state = SECONDARY_CONNECTING;
    me.term = me.disk_term;
    me.connecting = true;
    printf("host %d: starts as secondary, term %d\n", h, me.term)
}

/* primary_create(): an empty guest begins a life. */
inline start_primary(h)
{
    me.up = true;
    me.primary = true;
    me.starts++;
    me.fresh = (me.disk_term > 0);
    me.state = PRIMARY_WAITING;
    me.term = (me.disk_term -> me.disk_term : 1);
    record(h, me.term, TERM_OWNER);
    lines++;
    me.lin = lines;
    me.life = lines;
    me.engine = ENGINE_HOLDING;
    me.outbox = OUTBOX_HOLDING;
    printf("host %d: starts as primary, term %d, line %d\n", h, me.term, me.lin)
}

/* ---- primary: engine ---- */

inline engine_fence(h)
{
    me.engine = ENGINE_FENCED;
    me.outbox = OUTBOX_DISCARDING;
    me.failed = me.end_open
}

/* close_link() and, in the role, which event that is. */
inline close_link(h)
{
    close_end(h);
    me.failed = false;
    me.sending = false;
    me.need_cut = false;
#ifndef MUTANT_FLIGHT_KEPT
    me.in_flight = 0; me.oldest = 0; me.newest = 0;
#endif
    me.last_cut = 0;
    if
    :: me.engine != ENGINE_FENCED && me.was_open -> me.engine = ENGINE_OPEN
    :: me.engine != ENGINE_FENCED && !me.was_open -> me.engine = ENGINE_HOLDING
    :: else
    fi;
    if
    :: me.superseded -> post(h, PRIMARY_EVENT_SUPERSEDED, 0, 0)
    :: !me.superseded && me.engine == ENGINE_OPEN -> post(h, PRIMARY_EVENT_LOST_OPEN, 0, 0)
    :: else -> post(h, PRIMARY_EVENT_LOST_HELD, 0, 0)
    fi;
    me.superseded = false
}

/* engine_acknowledged() */
inline acknowledged(h)
{
    arg1 = me.oldest;
    me.in_flight--;
    me.oldest = me.newest;
    me.newest = 0;
    if
    :: me.in_flight == 0 -> me.oldest = 0
    :: else
    fi;
    if
    :: arg1 == NO_EPOCH -> me.need_cut = true
    :: else ->
        if
        :: me.engine == ENGINE_SYNCHRONISING && !(me.in_flight > 0 && me.oldest == NO_EPOCH) ->
            me.engine = ENGINE_REPLICATING;
            post(h, PRIMARY_EVENT_COMMITTED, 0, 0)
        :: else
        fi;
        if
#ifdef MUTANT_RELEASE_ALL
        :: me.outbox != OUTBOX_DISCARDING -> release(h, me.said)
#else
        :: me.outbox != OUTBOX_DISCARDING -> release(h, arg1)
#endif
        :: else
        fi
    fi
}

inline push_flight(h, what)
{
    if
    :: me.in_flight == 0 -> me.oldest = what
    :: else -> me.newest = what
    fi;
    me.in_flight++
}

/* node_become_secondary(): the standby of what was handed over. */
inline follow_heir(h)
{
    record(h, me.handover, TERM_STANDBY);
    assert(legal); /* a host that handed its guest over can't be a standby */
    was = me.handover; word = me.said; arg2 = me.lin; arg1 = me.life;
    me.lin = 0; me.said = 0; me.told = 0; me.engine = 0; me.outbox = 0;
    me.in_flight = 0; me.last_cut = 0; me.spoke = false; me.halted = false; me.last_done = false;
    me.offered_guest = false; me.handover = 0; me.reserved = false; me.told_lost = false;
    me.taken = false; me.heir = false; me.want_open = false; me.was_open = false;
    me.primary = false; me.state = SECONDARY_READY; me.term = was; me.link_term = was;
    me.life = arg1; me.following = true; me.synchronised = true; me.ready_told = true;
    me.promotable = true; me.held = word; me.held_lin = arg2;
    printf("host %d: follows the heir, term %d, from word %d\n", h, me.term, word)
}

/* ---- primary: role ---- */

inline primary_act(h)
{
    if
    :: actions & ACT_TURN_AWAY ->
        close_end(h);
        me.taken = (me.taken && me.state != PRIMARY_OUTRUN)
    :: else
    fi;
    if
    :: actions & ACT_DROP -> me.failed = me.end_open
    :: else
    fi;
    if
    :: actions & ACT_CANCEL -> cancel(h)
    :: else
    fi;
    if
    :: actions & ACT_PROTECT ->
        me.link_term = me.term;
        if
        :: me.engine == ENGINE_FENCED -> close_end(h); post(h, PRIMARY_EVENT_LOST_HELD, 0, 0)
        :: else -> me.offered = true
        fi
    :: else
    fi;
    if
    :: actions & ACT_GO_ON -> me.halted = false; me.last_done = false; me.offered_guest = false
    :: else
    fi;
    if
    :: actions & ACT_ASK -> ask(h)
    :: else
    fi;
    if
    :: actions & ACT_PREPARE ->
        if
        :: me.handover != me.term + 1 -> me.handover = me.term + 1; me.reserved = false;
            me.told_lost = false
        :: else
        fi;
        if
        :: peer.end_open -> data!PREPARE, 0, me.handover, me.link_term
        :: else
        fi;
#ifdef MUTANT_UNPREPARED
        post(h, PRIMARY_EVENT_PREPARED, 0, 0)
#endif
    :: else
    fi;
    if
    :: actions & ACT_RESERVE ->
        if
        :: me.reserved -> post(h, PRIMARY_EVENT_RESERVED, 0, 0)
        :: else -> ask(h)
        fi
    :: else
    fi;
    if
    :: actions & ACT_OFFER -> me.halted = true; me.last_done = false; me.offered_guest = false
    :: else
    fi;
    if
    :: actions & ACT_OPEN -> me.want_open = (me.engine == ENGINE_HOLDING)
    :: else
    fi;
    if
    :: actions & ACT_FENCE -> engine_fence(h); record(h, me.term, TERM_LOST)
    :: else
    fi
}

inline primary_feed(h, event)
{
    was = me.state;
    d_step { primary_fsm_step(me.state, event) };
    if
    :: legal ->
        me.state = next_state;
#ifdef MUTANT_SOLO_UNASKED
        if
        :: event == PRIMARY_EVENT_LOST_HELD && me.state == PRIMARY_ASKING ->
            me.state = PRIMARY_SOLO; actions = ACT_OPEN
        :: else
        fi;
#endif
        printf("host %d: primary %d -> %d by event %d\n", h, was, me.state, event);
        me.spoke = (me.spoke || me.state == PRIMARY_PROTECTED || me.state == PRIMARY_SOLO);
        if
        :: event == PRIMARY_EVENT_LOST_HELD || event == PRIMARY_EVENT_LOST_NEW ||
           event == PRIMARY_EVENT_LOST_OPEN || event == PRIMARY_EVENT_SUPERSEDED ->
            me.taken = false
        :: else
        fi;
        if
        :: event == PRIMARY_EVENT_COMMITTED ->
            me.heir = false;
            if
            :: me.told_lost -> me.handover = 0; me.reserved = false; me.told_lost = false
            :: else
            fi
        :: event == PRIMARY_EVENT_LOST_HELD && me.handover > 0 ->
            me.told_lost = true;
            me.heir = false;
#ifndef MUTANT_ALONE_IN_TERM
            if
            :: me.reserved && me.term < me.handover ->
                me.term = me.handover;
                if
                :: me.disk_term < me.handover -> record(h, me.handover, TERM_OWNER)
                :: else
                fi;
                legal = true
            :: else
            fi
#endif
        :: event == PRIMARY_EVENT_LOST_HELD && me.handover == 0 -> me.heir = false
        :: else
        fi;
        primary_act(h)
    :: else ->
        if
        :: event == PRIMARY_EVENT_CONNECTED -> close_end(h)
        :: else
        fi
    fi;
    if
    :: me.state != was && (me.state == PRIMARY_FENCED || me.state == PRIMARY_OUTRUN) ->
        check_not_lost()
    :: else
    fi
}

/* ---- secondary ---- */

inline unfollow(h)
{
    close_end(h);
    if
    :: me.following -> me.following = false; post(h, STANDBY_CLOSED, 0, 0)
    :: else
    fi;
#ifndef MUTANT_STAGE_KEPT
    me.staged = 0
#endif
}

/* standby_supersede(), standby_promote(), then primary_create() with config.solo. */
inline promote(h)
{
    if
    :: me.end_open && peer.end_open && len(acks) < 4 -> acks!SUPERSEDED
    :: else
    fi;
    if
#ifdef MUTANT_STATE_NOT_KEPT
    :: !me.promotable ->
        printf("host %d: promotion failed\n", h);
        forget(h);
        check_not_lost()
#endif
    :: else ->
        assert(!me.torn); /* P1: half of one moment and half of another */
        if
        :: me.held_lin != cur && shared[me.held_lin] == 255 && parent[me.held_lin] == 0 ->
            become_official(me.held_lin)
        :: me.held_lin != cur && shared[me.held_lin] == 255 && parent[me.held_lin] > 0 ->
            become_heard(me.held_lin)
        :: else
        fi;
        assert(me.held_lin == cur && vis <= me.held); /* P1: behind what was visible */
        word = me.held;
        ev = me.life;
        was = me.term;
        forget(h);
        me.up = true;
        me.primary = true;
        me.state = PRIMARY_SOLO;
        me.term = was;
        used = was;
        me.life = ev;
        lines++;
        me.lin = lines;
        me.said = word;
        me.told = word;
        me.engine = ENGINE_OPEN;
        me.outbox = OUTBOX_OPEN;
        me.spoke = true;
        shared[cur] = word;
        cur = me.lin;
        vis = word;
        printf("host %d: promoted, term %d, from word %d, line %d\n", h, me.term, word, me.lin)
    fi
}

/* take_guest(), then primary_create() with a heritage: output waits for the old primary. */
inline inherit(h)
{
    word = me.held;
    ev = me.life;
    was = me.set_aside;
    arg2 = (parent[me.held_lin] > 0 && shared[me.held_lin] == 255 && me.held_lin != cur ->
            parent[me.held_lin] : me.held_lin);
    me.following = false; me.promotable = false; me.synchronised = false; me.ready_told = false;
    me.held = 0; me.held_lin = 0; me.set_aside = 0; me.beyond = false; me.staged = 0;
    me.request = REQUEST_NONE; me.asked = 0;
    me.primary = true;
    me.state = PRIMARY_SYNCHRONISING;
    me.term = was;
    me.link_term = was;
    me.life = ev;
    lines++;
    me.lin = lines;
    parent[me.lin] = arg2;
    base[me.lin] = word;
    complete[me.lin] = word;
    me.said = word; me.told = word; me.last_cut = word;
    me.engine = ENGINE_SYNCHRONISING;
#ifdef MUTANT_HEIR_OPEN
    me.outbox = OUTBOX_OPEN;
#else
    me.outbox = OUTBOX_HOLDING;
    me.need_cut = true;
#endif
    me.was_open = false;
    me.spoke = true;
    me.heir = true;
    if
    :: was > used -> used = was
    :: else
    fi;
    if
    :: peer.end_open && len(acks) < 4 -> acks!TAKEN
    :: else
    fi;
    printf("host %d: takes the guest over, term %d, from word %d, line %d\n", h, me.term, word, me.lin)
}

inline secondary_feed(h, event)
{
    was = me.state;
    d_step { secondary_fsm_step(me.state, event) };
#ifdef MUTANT_PROMOTE_UNASKED
    if
    :: event == SECONDARY_EVENT_SUSPECT && next_state == SECONDARY_ASKING ->
        next_state = SECONDARY_PROMOTING; actions = SACT_PROMOTE
    :: else
    fi;
#endif
#ifdef MUTANT_PROMOTE_SYNCHRONISING
    if
    :: event == SECONDARY_EVENT_SUSPECT && was == SECONDARY_SYNCHRONISING ->
        next_state = SECONDARY_ASKING; actions = SACT_ASK
    :: else
    fi;
#endif
#ifdef MUTANT_REFUSED_AGAIN
    if
    :: event == SECONDARY_EVENT_REFUSED && was == SECONDARY_ASKING ->
        next_state = SECONDARY_ASKING; actions = SACT_ASK; me.term = arbiter_term
    :: else
    fi;
#endif
    if
    :: legal ->
        me.state = next_state;
        printf("host %d: secondary %d -> %d by event %d\n", h, was, me.state, event);
        if
        :: actions & SACT_CANCEL -> cancel(h)
        :: else
        fi;
        if
        :: actions & SACT_FOLLOW ->
            me.following = true; me.synchronised = false; me.ready_told = false;
            me.set_aside = 0; me.beyond = false;
            me.link_term = me.term
        :: else
        fi;
        if
        :: actions & SACT_UNFOLLOW -> unfollow(h)
        :: else
        fi;
        if
        :: actions & SACT_CONNECT -> me.connecting = true
        :: else
        fi;
        if
        :: actions & SACT_ASK -> ask(h)
        :: else
        fi;
        if
        :: me.state == SECONDARY_CONNECTING -> check_not_lost()
        :: else
        fi;
        if
        :: actions & SACT_PROMOTE && event != SECONDARY_EVENT_HANDED -> promote(h)
        :: else
        fi
    :: else ->
        if
        :: event == SECONDARY_EVENT_CONNECTED -> close_end(h)
        :: else
        fi
    fi
}

/* Waited in vain for the first standby. A primary that began anew on a used record (its earlier run
 * crashed) is taken to wait longer than a standby that holds the guest needs to be granted it. */
#ifdef LIMIT_RESTART_ASKS
#define MAY_WAIT (me.state == PRIMARY_WAITING)
#else
#define MAY_WAIT (me.state == PRIMARY_WAITING && !me.fresh)
#endif
#ifdef MUTANT_PROMOTE_SYNCHRONISING
#define MAY_SUSPECT ((me.state == SECONDARY_READY || me.state == SECONDARY_ORPHANED || \
                      me.state == SECONDARY_SYNCHRONISING) && trouble > 0)
#else
#define MAY_SUSPECT ((me.state == SECONDARY_READY || me.state == SECONDARY_ORPHANED) && \
                     trouble > 0)
#endif

/* A switchover: ordered; given up before the guest was offered; not heard of any more. */
#define MAY_ORDER   (me.state == PRIMARY_PROTECTED && moves > 0 && \
                     me.engine == ENGINE_REPLICATING && me.end_open && !me.failed && len(data) < 3)
#define MAY_GIVE_UP (me.state == PRIMARY_PREPARING || \
                     (me.state == PRIMARY_HANDING && !me.offered_guest))
#define MAY_BE_OVERDUE (me.state == PRIMARY_HANDING && me.offered_guest && trouble > 0 && \
                        me.engine == ENGINE_REPLICATING && me.end_open && !me.failed)

#define HOLDS_GUEST (me.state == SECONDARY_ORPHANED || me.state == SECONDARY_ASKING)
#define TAKES_LINK  (me.state == SECONDARY_CONNECTING || me.state == SECONDARY_ORPHANED || \
                     me.state == SECONDARY_ASKING)

/* handle_link(): sets `ev`. */
inline handle_link(h, t, l)
{
    ev = SECONDARY_EVENT_CONNECTED;
    if
#ifndef MUTANT_LINK_UNCHECKED
    :: !TAKES_LINK -> skip
#endif
#ifndef MUTANT_STRANGER
    :: HOLDS_GUEST && l != me.life -> close_end(h); ev = SECONDARY_EVENT_SUSPECT
#endif
    :: else ->
        assert(!(vis > 0 && l != me.life && KEEPS(h))); /* P3: the committed guest is given up */
        if
        :: t == me.disk_term && me.disk_ownership == TERM_OWNER -> record(h, t, TERM_LOST)
        :: else
        fi;
        record(h, t, TERM_STANDBY);
        if
        :: legal -> me.term = t; me.life = l
        :: else -> ev = NOBODY; forget(h); check_not_lost()
        fi
    fi
}

/* Scratch variables are part of the state: they must not tell states apart. */
inline tidy()
{
    kind = 0; arg1 = 0; arg2 = 0; arg3 = 0; ev = 0; word = 0; was = 0;
    next_state = 0; actions = 0; legal = false
}

/* standby_keep(): a standby whose memory is being overwritten by a full synchronisation (the letter
 * that says so is still on its way) does not use a grant. */
#if defined(MUTANT_STATE_NOT_KEPT) || defined(MUTANT_PROMOTE_SYNCHRONISING)
#define KEPT true
#else
#define KEPT (me.primary || me.promotable)
#endif

/* handle_answer(): a grant counts once it is on disk. The process may die in between. */
inline record_grant(h, event)
{
    legal = true;
#ifndef MUTANT_GRANT_VOLATILE
    if
    :: KEPT && !(me.primary && me.state == PRIMARY_PREPARING) -> record(h, me.asked + 1, TERM_OWNER)
    :: else
    fi;
#endif
    if
    :: me.primary && me.state == PRIMARY_PREPARING ->
        me.reserved = true; aside = me.handover;
        me.request = REQUEST_NONE; me.asked = 0;
        ev = PRIMARY_EVENT_RESERVED
#ifndef MUTANT_ALONE_IN_TERM
    :: me.primary && (me.state == PRIMARY_ASKING || me.state == PRIMARY_OUTRUN) && legal &&
       me.handover == me.asked + 1 &&
       !me.reserved ->
        me.reserved = true; aside = me.handover; me.term = me.handover;
        ask(h); ev = NOBODY
#define PROMISED (me.primary && (me.state == PRIMARY_PREPARING || \
                  ((me.state == PRIMARY_ASKING || me.state == PRIMARY_OUTRUN) && \
                   me.handover == me.asked + 1 && !me.reserved)))
#else
#define PROMISED (me.primary && me.state == PRIMARY_PREPARING)
#endif
    :: !PROMISED && !KEPT -> ask(h); ev = NOBODY
    :: KEPT && !legal -> ask(h); ev = NOBODY
    :: !PROMISED && KEPT && legal && crashes > 0 -> printf("host %d: crashes\n", h); die(h); ev = NOBODY
    :: !PROMISED && KEPT && legal ->
        me.term = me.asked + 1; me.request = REQUEST_NONE; me.asked = 0;
        used = me.term;
        ev = event
    fi
}

/* ---- a host: each option is one step of one thread ---- */

proctype node(byte h)
{
    do
    /* The guest runs and says something. */
    :: atomic { me.up && me.primary && me.engine != ENGINE_FENCED && !me.halted &&
        me.said < outputs ->
        me.said++;
        if
        :: me.outbox == OUTBOX_OPEN -> emit(h, me.said)
        :: else
        fi;
        tidy()
    }

    /* The engine without a link: carry out want_open, adopt a link. */
    :: atomic { me.up && me.primary && me.want_open && !me.offered && !me.end_open ->
        me.want_open = false;
        if
        :: me.engine == ENGINE_HOLDING ->
            me.engine = ENGINE_OPEN; me.outbox = OUTBOX_OPEN; emit(h, me.said)
        :: else
        fi;
        tidy()
    }
    :: atomic { me.up && me.primary && me.offered ->
        me.offered = false;
        if
        :: me.engine == ENGINE_FENCED -> close_end(h)
        :: else ->
            me.was_open = (me.engine == ENGINE_OPEN || (me.want_open &&
                                                        me.engine == ENGINE_HOLDING));
#ifndef MUTANT_GRANT_KEPT
            if
            :: me.want_open && me.engine == ENGINE_HOLDING ->
                me.outbox = OUTBOX_OPEN; emit(h, me.said)
            :: else
            fi;
            me.want_open = false;
#else
            me.was_open = (me.engine == ENGINE_OPEN);
#endif
            me.engine = ENGINE_SYNCHRONISING;
            push_flight(h, NO_EPOCH);
            if
            :: peer.end_open -> data!FULL_EPOCH, 0, me.lin, me.link_term
            :: else
            fi
        fi;
        tidy()
    }
#ifdef MUTANT_GRANT_KEPT
    :: atomic { me.up && me.primary && me.want_open && me.engine == ENGINE_REPLICATING ->
        me.want_open = false; me.outbox = OUTBOX_OPEN; emit(h, me.said); tidy() }
#endif

    /* END of the newest epoch. */
    :: atomic { me.up && me.primary && me.sending && !me.failed && me.end_open && len(data) < 4 ->
        me.sending = false;
        word = (me.in_flight == 1 -> me.oldest : me.newest);
        if
        :: !peer.end_open
        :: peer.end_open -> data!EPOCH_END, word, me.lin, me.link_term
        fi;
#ifdef MUTANT_RELEASE_UNACKNOWLEDGED
        release(h, word)
#endif
        tidy()
    }

    /* Cut: the guest is parked, its state taken, output held from here on. */
    :: atomic { me.up && me.primary && me.end_open && !me.failed && !me.sending && !me.offered &&
        me.in_flight < 2 && len(data) < 4 &&
        ((me.engine == ENGINE_SYNCHRONISING && me.need_cut) ||
         (me.engine == ENGINE_REPLICATING && me.halted && !me.last_done) ||
         (me.engine == ENGINE_REPLICATING && !me.halted && me.said > me.last_cut)) ->
        me.need_cut = false;
        me.last_done = me.halted;
        me.last_cut = me.said;
        push_flight(h, me.said);
#ifndef MUTANT_HELD_LATE
        me.outbox = OUTBOX_HOLDING;
        me.was_open = false;
#endif
        if
        :: peer.end_open -> data!EPOCH_BEGIN, me.said, me.lin, me.link_term
        :: else
        fi;
        me.sending = true;
        tidy()
    }

    /* engine_handover_step(): all is committed and released. */
    :: atomic { me.up && me.primary && me.halted && me.last_done && !me.offered_guest &&
        me.engine == ENGINE_REPLICATING && me.in_flight == 0 && !me.sending && me.end_open &&
        !me.failed && len(data) < 4 ->
        assert(me.told == me.said); /* offered with output unsaid */
        me.offered_guest = true;
        if
        :: peer.end_open -> data!TAKE, me.said, me.handover, me.link_term
        :: else
        fi;
        tidy()
    }
    :: atomic { me.up && me.primary && me.state == PRIMARY_HANDING && me.offered_guest &&
        me.disk_term < me.handover ->
        record(h, me.handover, TERM_STANDBY);
        tidy()
    }

    /* More is dirty than the staging memory takes. */
    :: atomic { me.up && me.primary && me.end_open && !me.failed && !me.sending && !me.halted &&
        me.engine == ENGINE_REPLICATING && me.in_flight < 2 && overflows > 0 && len(data) < 4 ->
        overflows--;
        push_flight(h, NO_EPOCH);
        me.engine = ENGINE_SYNCHRONISING;
        if
        :: peer.end_open -> data!FULL_EPOCH, 0, me.lin, me.link_term
        :: else
        fi;
        tidy()
    }

    /* The engine's receiver. */
    :: atomic { me.up && me.primary && me.end_open && len(acks) > 0 &&
        !(me.heir && peer.up && peer.primary && peer.end_open) ->
        acks?kind;
        if
        :: kind == PREPARED -> post(h, PRIMARY_EVENT_PREPARED, 0, 0)
        :: kind == TAKEN && me.state == PRIMARY_HANDING && me.offered_guest && !me.failed ->
            me.engine = ENGINE_HOLDING; /* hand_over_link() */
            post(h, PRIMARY_EVENT_TAKEN, 0, 0)
        :: kind == TAKEN && !(me.state == PRIMARY_HANDING && me.offered_guest && !me.failed) -> skip
        :: kind == SUPERSEDED -> me.superseded = true; me.failed = true
        :: kind == EPOCH_ACK && (me.in_flight == 0 || (me.in_flight == 1 && me.sending)) ->
            me.failed = true /* not due: a protocol error */
        :: else -> acknowledged(h)
        fi;
        tidy()
    }

    /* close_link() */
    :: atomic { me.up && me.primary && me.end_open && !me.offered && me.in_flight +
        me.failed + (me.engine == ENGINE_REPLICATING) + me.need_cut > 0 &&
        !(me.heir && peer.up && peer.primary && peer.end_open && !me.failed) &&
        (me.failed || (!peer.end_open && len(acks) == 0) || trouble > 0) ->
        if
        :: me.failed || (!peer.end_open && len(acks) == 0)
        :: else -> trouble--; printf("host %d: its end of the link fails\n", h)
        fi;
        close_link(h);
        tidy()
    }

    /* The primary's role thread. */
    :: atomic { me.up && me.primary && len(MAIL(h)) > 0 ->
        MAIL(h)?ev, arg1, arg2;
#ifndef MUTANT_NEW_ASKS
        if
        :: ev == PRIMARY_EVENT_LOST_HELD && !me.spoke -> ev = PRIMARY_EVENT_LOST_NEW
        :: else
        fi;
#endif
        primary_feed(h, ev);
        if
        :: me.state == PRIMARY_HANDED -> follow_heir(h)
        :: else
        fi;
        tidy()
    }
    :: atomic { me.up && me.primary &&
        ((me.state == PRIMARY_PROTECTED && trouble > 0 && me.end_open && !me.failed) ||
         MAY_ORDER || MAY_GIVE_UP || MAY_BE_OVERDUE ||
         MAY_WAIT || me.request == REQUEST_REFUSED || me.request == REQUEST_GRANTED) ->
        if
        :: MAY_ORDER -> moves--; ev = PRIMARY_EVENT_ORDERED
        :: MAY_GIVE_UP -> ev = PRIMARY_EVENT_GIVEN_UP
        :: MAY_BE_OVERDUE -> trouble--; ev = PRIMARY_EVENT_OVERDUE
        :: me.state == PRIMARY_PROTECTED && trouble > 0 && me.end_open && !me.failed ->
            trouble--;
            ev = PRIMARY_EVENT_SUSPECT
        :: MAY_WAIT -> ev = PRIMARY_EVENT_WAITED
        :: me.request == REQUEST_REFUSED ->
#ifdef MUTANT_REFUSED_FENCES
            ev = PRIMARY_EVENT_REFUSED;
#else
            ev = PRIMARY_EVENT_OUTRUN;
#endif
            me.request = REQUEST_NONE; me.asked = 0
        :: me.request == REQUEST_GRANTED ->
            record_grant(h, PRIMARY_EVENT_GRANTED)
        fi;
        if
        :: ev != NOBODY -> primary_feed(h, ev)
        :: else
        fi;
        tidy()
    }
    /* A beat of an owner of a higher term: primary_superseded(). */
#ifndef SPARE_SUPERSEDED
    :: atomic { me.up && me.primary && me.state != PRIMARY_FENCED &&
        me.engine != ENGINE_FENCED && peer.up && peer.primary && peer.term > me.term &&
        !(me.state == PRIMARY_HANDING && peer.term == me.handover) ->
        engine_fence(h);
        post(h, PRIMARY_EVENT_SUPERSEDED, 0, 0);
        tidy()
    }
#endif

    /* Either role: the arbiter answers; an answer that is lost is asked for again. */
    :: atomic { me.up && me.request == REQUEST_ASKED ->
        if
#ifdef MUTANT_ARBITER_GRANTS_ALL
        :: true -> arbiter_term = me.asked + 1; arbiter_who = WHO(h); ev = REQUEST_GRANTED
#else
        :: arbiter_term == me.asked ->
            arbiter_term = me.asked + 1; arbiter_who = WHO(h); ev = REQUEST_GRANTED
        :: arbiter_term == me.asked + 1 && arbiter_who == WHO(h) -> ev = REQUEST_GRANTED
        :: arbiter_term < me.asked -> /* a term set aside was handed back: no answer */
            me.beyond = false; me.asked = me.term; ev = REQUEST_ASKED
        :: else -> ev = REQUEST_REFUSED
#endif
        fi;
        if
        :: me.request = ev;
            if
            :: ev == REQUEST_GRANTED && me.primary && me.state == PRIMARY_PREPARING ->
                aside = arbiter_term; printf("arbiter: sets term %d aside for host %d\n", arbiter_term, h)
            :: ev == REQUEST_GRANTED && !(me.primary && me.state == PRIMARY_PREPARING) ->
                printf("arbiter: grants host %d term %d\n", h, arbiter_term)
            :: else -> printf("arbiter: refuses host %d, the term is %d\n", h, arbiter_term)
            fi
        :: ev == REQUEST_GRANTED ->
            if
            :: me.primary && me.state == PRIMARY_PREPARING -> aside = arbiter_term
            :: else
            fi;
            printf("arbiter: its answer to host %d is lost, the term is %d\n", h, arbiter_term)
        fi;
        tidy()
    }
    /* arbiter_give_back() */
    :: atomic { me.up && me.returning > 0 ->
        if
        :: arbiter_term == me.returning + 1 && arbiter_who == WHO(h) ->
            arbiter_term = me.returning;
            arbiter_who = NOBODY;
            printf("arbiter: host %d hands term %d back\n", h, arbiter_term + 1)
        :: else
        fi;
        me.returning = 0;
        tidy()
    }

    /* The connector: handshake with the primary's door. */
    :: atomic { me.up && !me.primary && me.connecting && !me.end_open &&
        peer.up && peer.primary && !peer.end_open && !peer.taken && meetings > 0 ->
        if
#if !defined(MUTANT_TERMS_UNCHECKED) && !defined(SPARE_HANDSHAKE_TERM)
        :: me.term > peer.term ->
            if
            :: peer.state != PRIMARY_FENCED -> post(1 - h, PRIMARY_EVENT_SUPERSEDED, 0, 0);
                peer.taken = true /* once is enough */
            :: else
            fi
#endif
        :: else ->
            meetings--;
            me.connecting = false;
            me.end_open = true;
            peer.end_open = true;
            peer.taken = true;
            post(h, LETTER_LINK, peer.term, peer.life);
            post(1 - h, PRIMARY_EVENT_CONNECTED, 0, 0)
        fi;
        tidy()
    }

    /* The standby's receiver. */
    :: atomic { me.up && !me.primary && me.following && me.end_open && len(data) > 0 &&
        len(acks) < 4 ->
        data?kind, arg1, arg2, arg3;
        if
        :: arg3 != me.link_term || (kind == EPOCH_BEGIN && !me.synchronised) ||
           (kind == TAKE && !(me.promotable && me.held == arg1)) ->
            close_end(h); me.following = false; post(h, STANDBY_CLOSED, 0, 0)
        :: else ->
            if
            :: kind == FULL_EPOCH ->
                me.torn = true;
                if
                :: me.promotable -> post(h, STANDBY_NOT_READY, 0, 0)
                :: else
                fi;
                me.promotable = false;
                me.ready_told = false;
                me.synchronised = true;
                if
                :: peer.end_open -> acks!EPOCH_ACK
                :: else
                fi
            :: kind == PREPARE -> post(h, LETTER_PREPARE, arg2, 0)
            :: kind == TAKE -> me.following = false; post(h, LETTER_TAKE, arg2, 0)
            :: kind == EPOCH_BEGIN ->
                me.staged = arg1;
#ifdef MUTANT_STAGE_KEPT
                me.torn = true;
#endif
#ifdef MUTANT_ACK_INCOMPLETE
                if
                :: peer.end_open -> acks!EPOCH_ACK
                :: else
                fi
#endif
            :: kind == EPOCH_END ->
                me.held = arg1;
                me.held_lin = arg2;
                if
                :: arg1 > complete[arg2] -> complete[arg2] = arg1
                :: else
                fi;
                me.torn = false;
                me.staged = 0;
                me.promotable = true;
#ifndef MUTANT_ACK_INCOMPLETE
                if
                :: peer.end_open -> acks!EPOCH_ACK
                :: else
                fi;
#endif
                if
                :: !me.ready_told -> me.ready_told = true; post(h, STANDBY_READY, 0, 0)
                :: else
                fi
            fi
        fi;
        tidy()
    }
    :: atomic { me.up && !me.primary && me.following &&
        ((!peer.end_open && len(data) == 0) || trouble > 0) ->
        if
        :: !peer.end_open && len(data) == 0
        :: else -> trouble--; printf("host %d: its end of the link fails\n", h)
        fi;
        close_end(h);
        me.following = false;
        post(h, STANDBY_CLOSED, 0, 0);
        tidy()
    }

    /* The secondary's role thread. */
    :: atomic { me.up && !me.primary && len(MAIL(h)) > 0 ->
        MAIL(h)?kind, arg1, arg2;
        if
        :: kind == LETTER_LINK -> handle_link(h, arg1, arg2)
        :: kind == STANDBY_READY -> ev = SECONDARY_EVENT_COMMITTED
        :: kind == STANDBY_NOT_READY -> ev = SECONDARY_EVENT_RESYNC
        :: kind == STANDBY_CLOSED -> ev = SECONDARY_EVENT_LOST
        :: kind == LETTER_PREPARE ->
            ev = NOBODY;
            if
            :: me.state == SECONDARY_READY && arg1 == me.term + 1 && len(acks) < 4 ->
                me.set_aside = arg1;
                me.beyond = false;
                if
                :: me.end_open && peer.end_open -> acks!PREPARED
                :: else
                fi
            :: else
            fi
        :: kind == LETTER_TAKE ->
            legal = false;
            if
            :: arg1 == me.set_aside && me.promotable && me.end_open &&
               (me.state == SECONDARY_READY || me.state == SECONDARY_ASKING) ->
                record(h, arg1, TERM_OWNER)
            :: else
            fi;
            ev = (legal -> SECONDARY_EVENT_HANDED : SECONDARY_EVENT_LOST)
        :: kind == LETTER_WELL -> ev = SECONDARY_EVENT_WELL
        :: kind == LETTER_ALIVE ->
#ifdef MUTANT_LINK_UNCHECKED
            ev = SECONDARY_EVENT_ALIVE
#else
            ev = (me.following -> SECONDARY_EVENT_WELL : SECONDARY_EVENT_ALIVE)
#endif
        fi;
        if
        :: ev != NOBODY -> secondary_feed(h, ev)
        :: else
        fi;
        if
        :: kind == LETTER_TAKE && !me.primary && me.state == SECONDARY_PROMOTING -> inherit(h)
        :: else
        fi;
        tidy()
    }
    :: atomic { me.up && !me.primary &&
        (MAY_SUSPECT ||
         me.request == REQUEST_REFUSED || me.request == REQUEST_GRANTED ||
         (me.state == SECONDARY_ORPHANED && !peer.up)) ->
        if
        :: MAY_SUSPECT ->
            trouble--;
            ev = SECONDARY_EVENT_SUSPECT
        :: me.state == SECONDARY_ORPHANED && !peer.up -> ev = SECONDARY_EVENT_SUSPECT
#ifndef MUTANT_NOT_BEYOND
        :: me.request == REQUEST_REFUSED && me.set_aside > 0 && !me.beyond &&
           arbiter_term == me.set_aside ->
            me.beyond = true; ask(h); ev = NOBODY
        :: me.request == REQUEST_REFUSED && !(me.set_aside > 0 && !me.beyond &&
           arbiter_term == me.set_aside) ->
#else
        :: me.request == REQUEST_REFUSED ->
#endif
            ev = SECONDARY_EVENT_REFUSED; me.request = REQUEST_NONE; me.asked = 0
        :: me.request == REQUEST_GRANTED ->
            record_grant(h, SECONDARY_EVENT_GRANTED)
        fi;
        if
        :: ev != NOBODY -> secondary_feed(h, ev)
        :: else
        fi;
        tidy()
    }
    /* The suspicion is revoked. */
#ifndef MUTANT_LINK_UNCHECKED
    :: atomic { me.up && !me.primary && me.state == SECONDARY_ASKING && trouble > 0 ->
        trouble--;
        post(h, LETTER_ALIVE, 0, 0);
        tidy()
    }
#else
    :: atomic { me.up && !me.primary && me.state == SECONDARY_ASKING && me.revoking == 0 &&
        trouble > 0 ->
        trouble--;
        me.revoking = (me.following -> LETTER_WELL : LETTER_ALIVE);
        tidy()
    }
    :: atomic { me.up && !me.primary && me.revoking > 0 ->
        post(h, me.revoking, 0, 0);
        me.revoking = 0;
        tidy()
    }
#endif
    /* A beat of an owner of a higher term: LETTER_TERM. */
    :: atomic { me.up && !me.primary && peer.up && peer.primary && peer.term > me.term &&
        (me.state == SECONDARY_SYNCHRONISING || me.state == SECONDARY_READY ||
         me.state == SECONDARY_ORPHANED || me.state == SECONDARY_ASKING) ->
        secondary_feed(h, SECONDARY_EVENT_SUPERSEDED);
        tidy()
    }

    /* Death and return. */
    :: atomic { me.up && crashes > 0 ->
        printf("host %d: crashes\n", h);
        die(h);
        tidy()
    }
    :: atomic { !me.up && lines < 5 &&
#ifdef SPARE_LOST_RECORD
        me.disk_ownership != TERM_STANDBY ->
#else
        me.disk_ownership == TERM_OWNER ->
#endif
        start_primary(h);
        tidy()
    }
    :: atomic { !me.up -> start_secondary(h) }
    /* An operator restarts a fenced primary, as a secondary. */
    :: atomic { me.up && me.primary && me.state == PRIMARY_FENCED && !me.end_open ->
        forget(h);
        start_secondary(h);
        tidy()
    }
    od
}

inline budget(words, troubles, deaths, links, fulls, switches)
{
    outputs = words; trouble = troubles; crashes = deaths; meetings = links; overflows = fulls;
    moves = switches
}

/* A primary that waits, and a secondary that looks for it. */
inline begin_cold()
{
    lines = 1;
    H[0].up = true; H[0].primary = true; H[0].state = PRIMARY_WAITING;
    H[0].term = 1; H[0].disk_term = 1; H[0].disk_ownership = TERM_OWNER;
    H[0].lin = 1; H[0].life = 1;
    H[1].up = true; H[1].state = SECONDARY_CONNECTING; H[1].connecting = true;
    H[1].disk_ownership = TERM_STANDBY
}

/* The same, some time later. */
inline begin_protected()
{
    begin_cold();
    H[0].state = PRIMARY_PROTECTED; H[0].engine = ENGINE_REPLICATING; H[0].spoke = true;
    H[0].end_open = true; H[0].link_term = 1; H[0].taken = true;
    H[1].state = SECONDARY_READY; H[1].connecting = false; H[1].following = true;
    H[1].end_open = true; H[1].link_term = 1; H[1].term = 1; H[1].disk_term = 1;
    H[1].life = 1; H[1].synchronised = true; H[1].ready_told = true;
    H[1].promotable = true; H[1].held_lin = 1
}

init
{
    byte i;
    atomic {
        mail[0] = mail0;
        mail[1] = mail1;
        do
        :: i < 8 -> shared[i] = 255; i++
        :: else -> i = 0; break
        od;
#ifdef BEGIN
        BEGIN;
        budget(BUDGET);
#else
        if
        :: begin_protected(); budget(2, 1, 1, 2, 0, 0)
        :: begin_protected(); budget(2, 1, 2, 1, 0, 0)
        :: begin_protected(); budget(2, 2, 1, 1, 0, 0)
        :: begin_protected(); budget(2, 2, 0, 1, 1, 0)
        :: begin_protected(); budget(3, 1, 1, 0, 1, 0)
        :: begin_protected(); budget(1, 0, 1, 1, 0, 1)
        :: begin_protected(); budget(2, 1, 0, 0, 0, 1)
        :: begin_protected(); budget(1, 1, 1, 0, 0, 1)
        :: begin_protected(); budget(2, 0, 0, 0, 0, 2)
        :: begin_cold(); budget(2, 1, 1, 2, 0, 0)
        :: begin_cold(); budget(1, 2, 0, 2, 0, 0)
        fi;
#endif
        run node(0);
        run node(1)
    }
}
