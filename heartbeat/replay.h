/* Who may be believed: replay protection and the adoption of a peer process. Pure.
 *
 * A MAC proves that a packet was made by somebody with the key, not that it was made now, nor by
 * the process that is alive now. Two rules close that:
 *
 *  1. Adoption. Each side shows a random `challenge` in its packets and echoes the one it hears. A
 *     packet of a process (instance) that is not the adopted one is believed only if it echoes our
 *     current challenge: so it was made after we chose that challenge. Adopting chooses a new one,
 *     which makes everything recorded before, of whatever instance, worthless. Thus a recording of
 *     a dead peer cannot make it look alive, neither to us nor to our successor process.
 *  2. Window. Of the adopted instance each sequence number counts once per path. Numbers below the
 *     newest are accepted as `late` within 64: they are counted, but tell nothing new.
 *
 * Cost: a (re)started peer is believed one beat later. Not closed: beats withheld by the network
 * and delivered later, in order, count as fresh; only time can uncover them. */
#ifndef KEMARI_HEARTBEAT_REPLAY_H
#define KEMARI_HEARTBEAT_REPLAY_H

#include "heartbeat/packet.h"

#define REPLAY_WINDOW 64

enum replay_verdict {
    REPLAY_FRESH,     /* newest of the adopted peer on this path */
    REPLAY_ADOPTED,   /* first packet of a process that is the peer from now on */
    REPLAY_LATE,      /* of the adopted peer, overtaken by a newer one; information is stale */
    REPLAY_DUPLICATE, /* seen before */
    REPLAY_TOO_OLD,   /* below the window: can't be told from a replay */
    REPLAY_UNPROVEN,  /* unknown process that does not (yet) echo our challenge */
    REPLAY_REFLECTED, /* our own packet, sent back to us */
    REPLAY_MISROUTED, /* sent on another path than it came in on */
};

struct replay_path {
    uint64_t newest; /* highest sequence accepted, 0 = none */
    uint64_t seen;   /* bit i: newest - i was accepted */
};

struct replay {
    uint64_t own_instance;   /* set at creation */
    uint64_t peer_instance;  /* adopted process, 0 = none yet */
    uint64_t challenge;      /* what an unknown process must echo */
    uint64_t peer_challenge; /* what we echo, 0 = none heard */
    struct replay_path paths[PACKET_PATH_MAX];
};

/* Both numbers random and not 0. */
void replay_init(struct replay *replay, uint64_t own_instance, uint64_t challenge);

/* Judges a decoded packet that came in on `path`. `next_challenge`: random and not 0, used (and
 * then to be replaced by the caller) if and only if the answer is REPLAY_ADOPTED. */
enum replay_verdict replay_judge(struct replay *replay, unsigned path, const struct packet *packet,
                                 uint64_t next_challenge);

#endif
