/* One path of the heartbeat: a bound UDP socket, the peer's address, and the counters of both
 * directions. Internal to heartbeat/; owned by the heartbeat's thread once that runs.
 *
 * The socket is not connected: what counts is the MAC, not the source address, and an interface
 * that is down at start must not keep the daemon from starting. */
#ifndef KEMARI_HEARTBEAT_PATH_H
#define KEMARI_HEARTBEAT_PATH_H

#include "base/quick_exit.h"
#include "heartbeat/heartbeat.h"
#include "heartbeat/replay.h"

struct path {
    /* Set at creation. */
    unsigned index;
    int fd;
    struct address own;
    struct address peer;
    nsec_t opened_at;
    unsigned interface; /* index of the one that has our address, 0: not known; the thread's */

    /* Owned by the thread. */
    uint64_t sequence;    /* of the last beat sent */
    uint64_t echo_time;   /* the peer's `sent_at` of its newest beat, 0 = none */
    nsec_t echo_heard_at; /* when that came */
    uint64_t own_echo;    /* our newest `sent_at` that came back, 0 = none */
    nsec_t own_echo_at;   /* when it came back */
    struct heartbeat_path_status status;
};

/* Resolves, binds. On failure path->fd is -1 and the sentence names the path. */
int path_open(struct path *path, unsigned index, const struct heartbeat_path *config,
              struct error *err);

void path_close(struct path *path);

/* Looks up the interface again: an address may come and go. */
void path_find_interface(struct path *path);

/* Completes `beat` (path, sequence, times) and sends it. A failure is counted, not reported: the
 * peer's silence and the status tell it. */
void path_send(struct path *path, struct packet *beat, const struct packet_key *key);

/* The beat that tells of this process's end, made now: `beat` is one that path_send() has completed
 * for this path. It is newer than the next one that will be sent. */
void path_make_last_word(const struct path *path, struct packet beat, const struct packet_key *key,
                         struct quick_exit_word *out);

/* Next datagram that waits, at most `size` bytes of it; its full length, or -EAGAIN when none. */
ssize_t path_receive(struct path *path, uint8_t *bytes, size_t size);

/* Counts what was refused by the codec, or judged by the replay protection. `newest_before`:
 * highest sequence accepted on this path before the judgement. */
void path_count_refused(struct path *path, enum packet_verdict verdict);
void path_count_judged(struct path *path, const struct packet *beat, enum replay_verdict verdict,
                       uint64_t newest_before);

/* Takes the times of a fresh beat: echo for the peer, round trip for the status. */
void path_take_times(struct path *path, const struct packet *beat, nsec_t now);

/* A new process of the peer: its clock and its echoes have nothing to do with the old one's. */
void path_forget_times(struct path *path);

#endif
