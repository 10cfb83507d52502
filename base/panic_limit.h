/* A guest that panics whenever it starts is not restarted for ever: both machines count alike.
 *
 * No locks: whoever has a count serialises its use. */
#ifndef KEMARI_BASE_PANIC_LIMIT_H
#define KEMARI_BASE_PANIC_LIMIT_H

#include "base/error.h"
#include "base/types.h"

#define PANIC_RESTARTS_MAX 100
#define PANIC_TEXT_SIZE    120

/* After `restarts` restarts within `window` of this host's monotonic time, another panic stops the
 * guest. 0 restarts: no limit. */
struct panic_limit {
    unsigned restarts; /* up to PANIC_RESTARTS_MAX */
    nsec_t window;
};

/* When the guest was restarted: this host's own memory, so that another host that takes over is as
 * patient as this one was. */
struct panic_count {
    struct panic_limit limit;
    nsec_t restarts[PANIC_RESTARTS_MAX]; /* a ring of the last `limit.restarts` times */
    unsigned count;                      /* of them that are set */
    unsigned oldest;
};

/* -EINVAL for a limit that can't be counted. */
int panic_count_init(struct panic_count *count, const struct panic_limit *limit, struct error *err);

/* The guest panicked at `now`. Is it to be restarted? Then that is noted. */
bool panic_count_restart(struct panic_count *count, nsec_t now);

/* What is said of a guest that isn't restarted any more. */
void panic_limit_describe(const struct panic_limit *limit, char out[PANIC_TEXT_SIZE]);

#endif
