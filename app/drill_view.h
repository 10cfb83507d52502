/* What one of the two daemons says of itself at a moment of a drill, taken from its status in JSON:
 * the same for this host's, asked at its socket, and the other's, asked by a command. */
#ifndef KEMARI_APP_DRILL_VIEW_H
#define KEMARI_APP_DRILL_VIEW_H

#include "app/peer_command.h"
#include "base/error.h"
#include "base/types.h"

#define DRILL_WORD_MAX 32
#define DRILL_TEXT_MAX 256

struct drill_takeover {
    bool happened;
    uint64_t term;
    char cause[DRILL_TEXT_MAX];
    /* ns since the last sign of life; 0: not reached */
    uint64_t suspect, grant, load, network, run, first_output;
};

struct drill_view {
    bool there; /* it answered */
    char vm[64];
    char role[DRILL_WORD_MAX];
    char state[DRILL_WORD_MAX];
    char guest[DRILL_WORD_MAX];
    bool protected;
    char reason[DRILL_TEXT_MAX];
    uint64_t term;
    uint64_t pid;
    char arbiter[DRILL_WORD_MAX];
    char arbiter_state[DRILL_WORD_MAX];
    uint64_t held_frames;
    uint64_t hold_max;
    uint64_t bytes_sent;
    uint64_t disk_bytes_sent; /* by resynchronisations of disks */
    struct drill_takeover takeover;
};

/* Pure. False when the text is no status; `view` says `there` = false then. */
bool drill_view_parse(const char *json, struct drill_view *view);

/* It runs the guest, as far as it knows. */
bool drill_view_owns(const struct drill_view *view);

/* The views; never fail, `there` says it. A daemon that stands still is waited for so long. */
void drill_view_local(const char *socket, nsec_t timeout, struct drill_view *view);
void drill_view_peer(const struct peer_command *peer, nsec_t timeout, struct drill_view *view);

#endif
