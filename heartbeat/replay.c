#include "heartbeat/replay.h"

#include <assert.h>
#include <string.h>

void replay_init(struct replay *r, uint64_t own_instance, uint64_t challenge)
{
    assert(own_instance && challenge);
    memset(r, 0, sizeof(*r));
    r->own_instance = own_instance;
    r->challenge = challenge;
}

/* Bit i of `seen` stands for newest - i. */
static enum replay_verdict window_judge(struct replay_path *path, uint64_t sequence)
{
    if (sequence > path->newest) {
        const uint64_t step = sequence - path->newest;
        path->seen = step < REPLAY_WINDOW ? path->seen << step : 0;
        path->seen |= 1;
        path->newest = sequence;
        return REPLAY_FRESH;
    }
    const uint64_t back = path->newest - sequence;
    if (back >= REPLAY_WINDOW)
        return REPLAY_TOO_OLD;
    const uint64_t bit = UINT64_C(1) << back;
    if (path->seen & bit)
        return REPLAY_DUPLICATE;
    path->seen |= bit;
    return REPLAY_LATE;
}

static void adopt(struct replay *r, uint64_t instance, uint64_t next_challenge)
{
    assert(next_challenge);
    r->peer_instance = instance;
    r->challenge = next_challenge;
    memset(r->paths, 0, sizeof(r->paths));
}

enum replay_verdict replay_judge(struct replay *r, unsigned path, const struct packet *p,
                                 uint64_t next_challenge)
{
    assert(path < PACKET_PATH_MAX);
    if (p->instance == r->own_instance)
        return REPLAY_REFLECTED;
    if (p->path != path)
        return REPLAY_MISROUTED;
    if (p->instance != r->peer_instance) {
        /* Echoing it is how an honest new process gets to know that it is heard; a replayed
         * challenge costs one beat, since the next honest packet puts it right. */
        r->peer_challenge = p->challenge;
        if (p->echo_challenge != r->challenge)
            return REPLAY_UNPROVEN;
        adopt(r, p->instance, next_challenge);
        window_judge(&r->paths[path], p->sequence);
        return REPLAY_ADOPTED;
    }
    const enum replay_verdict verdict = window_judge(&r->paths[path], p->sequence);
    if (verdict == REPLAY_FRESH)
        r->peer_challenge = p->challenge;
    return verdict;
}
