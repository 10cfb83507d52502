/* A standby that is alive and doesn't do its part: it takes bytes one by one, or all of them and
 * acknowledges nothing. Neither the connection nor the heartbeat says so, and the engine's thread
 * may be inside of a send, so somebody else looks at the clock: while there is a link, one thread
 * that wakes a few times per cap.
 *
 * What is judged: how long the guest has been stopped, and how long ago the oldest epoch in flight
 * was cut. Either has the cap, and a second more for every SLOWEST_BYTES that were dirty. A
 * synchronisation with the guest running has the cap from its END on. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "checkpoint/engine_internal.h"

#define LOOKS_PER_CAP 8
/* A link slower than this is no link to replicate over. */
#define SLOWEST_BYTES ((uint64_t)1 << 20)

static nsec_t allowed_for(const struct in_flight *flight, nsec_t cap)
{
    return cap + SEC(flight->pages * PAGE_SIZE / SLOWEST_BYTES);
}

/* With the lock held. True when the link must go, with the reason. */
static bool overdue(struct engine *e, nsec_t now, struct error *why)
{
    const nsec_t cap = e->config.stall_cap;
    const struct in_flight *oldest = e->flight_count ? &e->flight[0] : NULL;
    const nsec_t allowed = oldest ? allowed_for(oldest, cap) : cap;
    nsec_t stopped_at = e->stopped_at;
    if (!e->link || e->link_failed || e->halted)
        return false;
    if (stopped_at && stopped_at < e->linked_at)
        stopped_at = e->linked_at; /* before that it was nobody's fault */
    if (stopped_at && now - stopped_at > allowed) {
        error_set(why, -ETIMEDOUT, "the standby kept the guest stopped for %lld ms",
                  (long long)((now - stopped_at) / MSEC(1)));
        return true;
    }
    if (!oldest)
        return false;
    /* How much a synchronisation has to send is known when it has been sent: the guest runs. */
    const bool late = oldest->commits ? now - oldest->pushed_at > allowed
                                      : oldest->end_at && now - oldest->end_at > cap;
    if (!late)
        return false;
    const nsec_t since = oldest->commits ? oldest->pushed_at : oldest->end_at;
    error_set(why, -ETIMEDOUT, "the standby has not acknowledged epoch %llu for %lld ms",
              (unsigned long long)oldest->capture->epoch, (long long)((now - since) / MSEC(1)));
    return true;
}

static void *watch_main(void *context)
{
    struct engine *e = context;
    pthread_mutex_lock(&e->lock);
    while (!e->watch_stop) {
        const nsec_t now = clock_now();
        struct error why;
        if (overdue(e, now, &why)) {
            log_warning("checkpoint", "%s", why.text);
            engine_fail_link_locked(e, &why);
        }
        const struct timespec until =
            clock_to_timespec(now + e->config.stall_cap / LOOKS_PER_CAP + 1);
        pthread_cond_timedwait(&e->watch_wake, &e->lock, &until);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

void engine_watch_start(struct engine *e)
{
    e->watch_stop = false;
    e->linked_at = clock_now();
    e->watching = e->config.stall_cap && pthread_create(&e->watch, NULL, watch_main, e) == 0;
    if (e->config.stall_cap && !e->watching)
        log_error("checkpoint", "can't start the thread that watches the standby");
}

void engine_watch_stop(struct engine *e)
{
    if (!e->watching)
        return;
    pthread_mutex_lock(&e->lock);
    e->watch_stop = true;
    pthread_cond_signal(&e->watch_wake);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->watch, NULL);
    e->watching = false;
}
