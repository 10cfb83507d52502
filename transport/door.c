/* The door: see transport/door.h.
 *
 *   acceptor thread ── one visitor thread per connection ── session_accept() ── admitted? ─┐
 *                                                                                          ▼
 *   door_wait()  ◄────────────────────────────────────────────────────────────── `arrived`
 *
 * `taken` goes true when a visitor is admitted, inside its handshake, and false when that handshake
 * fails after all or door_release() is called.
 *
 * A session of several streams has a *host*: the visitor that began it. Its thread goes on to wait
 * for the others, each a visitor of its own that names the session (session_party.joins), proves
 * the key like anybody else, and leaves its link with the host. */
#include "transport/door.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "transport/bundle.h"

#define ACCEPT_RETRY_MS 100 /* after the host ran out of descriptors or memory */

enum visitor_state {
    VISITOR_NONE,
    VISITOR_INSIDE, /* its thread runs */
    VISITOR_DONE,   /* its thread has nothing left to do but to be joined */
};

struct visitor {
    struct door *door;
    pthread_t thread;

    /* protected by the door's lock */
    enum visitor_state state;
    struct link *link; /* NULL once the thread gave it up */
    nsec_t since;
    bool admitted;
    bool thrown_out;
    bool hosting;         /* `session` is complete and its streams may join */
    bool stream_lost;     /* one of them had been let in, and failed after all */
    uint32_t streams_met; /* those in `members` */
    bool reserved[SESSION_STREAMS_MAX];
    struct link *members[SESSION_STREAMS_MAX]; /* the first is not used */
    struct visitor *host; /* of a visitor that joins a session, once it was let in; else NULL */

    /* owned by the visitor's thread; `session` can be read by others while `hosting` */
    struct session_config config;
    struct session session;
};

_Static_assert(SESSION_STREAMS_MAX <= BUNDLE_MAX, "a session fits into a bundle");
_Static_assert(SESSION_STREAMS_MAX <= DOOR_VISITORS_MAX, "its streams can all be visitors");

struct door {
    /* set at creation */
    struct listener *listener;
    pthread_t acceptor;

    pthread_mutex_t lock;
    pthread_cond_t changed;

    /* protected by lock */
    struct session_config config;
    door_judge judge; /* or NULL */
    void *judge_context;
    bool shut;
    bool taken;
    bool left;            /* door_leave(), not yet seen by door_wait() */
    struct link *arrived; /* admitted, not fetched yet */
    bool stale;           /* `stale_peer` and `stale_error` wait to be fetched */
    struct session arrived_session;
    struct session stale_session;
    struct error stale_error;
    uint64_t refused;
    enum session_reason refusal;
    struct error refusal_error;
    struct visitor visitors[DOOR_VISITORS_MAX];
};

/* --- one visitor --- */

static enum session_reason admit(void *context, const struct session_party *peer, struct error *why)
{
    struct visitor *v = context;
    struct door *d = v->door;
    pthread_mutex_lock(&d->lock);
    enum session_reason reason = d->judge ? d->judge(d->judge_context, peer, why) : SESSION_OK;
    if (reason == SESSION_OK && (d->taken || d->shut))
        reason = SESSION_BUSY;
    v->admitted = reason == SESSION_OK;
    if (v->admitted)
        d->taken = true;
    pthread_mutex_unlock(&d->lock);
    return reason;
}

/* Waits for a change, until the visitor's time is over: then false. Called with the lock. */
static bool wait_for_change(struct visitor *v)
{
    const struct timespec until = clock_to_timespec(v->since + MSEC(v->config.timeout_ms));
    return pthread_cond_timedwait(&v->door->changed, &v->door->lock, &until) != ETIMEDOUT;
}

/* The host of that session. *may_come: there is none, but a visitor who may become it. Called with
 * the lock. */
static struct visitor *find_host(struct door *d, const uint8_t id[SESSION_ID_SIZE], bool *may_come)
{
    *may_come = false;
    for (size_t i = 0; i < DOOR_VISITORS_MAX; i++) {
        struct visitor *v = &d->visitors[i];
        if (v->state != VISITOR_INSIDE || !v->admitted)
            continue;
        if (v->hosting && memcmp(v->session.id, id, SESSION_ID_SIZE) == 0)
            return v;
        *may_come = *may_come || !v->hosting;
    }
    return NULL;
}

/* The connector may begin its streams before our end of its session's handshake is over: such a
 * visitor waits for its host. */
static bool join_session(void *context, const struct session_party *peer)
{
    struct visitor *v = context;
    struct door *d = v->door;
    bool may_come = false;
    pthread_mutex_lock(&d->lock);
    struct visitor *host = find_host(d, peer->joins, &may_come);
    while (!host && may_come && !d->shut && !v->thrown_out && wait_for_change(v))
        host = find_host(d, peer->joins, &may_come);
    if (host && peer->stream < host->session.streams && !host->reserved[peer->stream]) {
        host->reserved[peer->stream] = true;
        v->host = host;
    }
    const bool joined = v->host != NULL;
    pthread_mutex_unlock(&d->lock);
    return joined;
}

/* No stream joins any more; those under way lose their host. Called with the lock. */
static void stop_hosting(struct visitor *host)
{
    host->hosting = false;
    for (size_t i = 0; i < DOOR_VISITORS_MAX; i++)
        if (host->door->visitors[i].host == host)
            host->door->visitors[i].host = NULL;
}

/* Waits for the other streams of the visitor's session and makes one link of them all. */
static int gather_streams(struct visitor *v, struct error *err)
{
    struct door *d = v->door;
    const uint32_t wanted = v->session.streams - 1;
    struct link *links[SESSION_STREAMS_MAX] = {NULL};
    pthread_mutex_lock(&d->lock);
    v->hosting = true;
    pthread_cond_broadcast(&d->changed);
    bool in_time = true;
    while (in_time && v->streams_met < wanted && !v->stream_lost && !v->thrown_out && !d->shut)
        in_time = wait_for_change(v);
    stop_hosting(v);
    const uint32_t met = v->streams_met;
    memcpy(links, v->members, sizeof(links));
    memset(v->members, 0, sizeof(v->members));
    if (met == wanted) {
        links[0] = v->link;
        v->link = NULL;
    }
    pthread_mutex_unlock(&d->lock);
    struct link *bundle = NULL;
    if (met == wanted) {
        const int rc = bundle_create(links, v->session.streams, &bundle, err);
        pthread_mutex_lock(&d->lock);
        v->link = bundle;
        pthread_mutex_unlock(&d->lock);
        return rc;
    }
    for (uint32_t i = 1; i < SESSION_STREAMS_MAX; i++)
        link_destroy(&links[i]);
    return error_set(err, -ETIMEDOUT, "%s: %u of %u further streams came", link_peer_name(v->link),
                     met, wanted);
}

/* Files the outcome of a stream. Called with the lock. Returns the link to destroy, or NULL. */
static struct link *conclude_stream(struct visitor *v, int rc, struct link *link)
{
    struct visitor *host = v->host;
    v->host = NULL;
    if (!host)
        return link;
    if (rc < 0) {
        host->stream_lost = true;
        return link;
    }
    host->members[v->session.peer.stream] = link;
    host->streams_met++;
    return NULL;
}

/* Hosts of a list ask again and again who is the primary, and whether their turn has come. */
static bool is_routine(const struct session *session)
{
    return session->reason == SESSION_TURN ||
           (session->reason == SESSION_ROLE && session->peer.host[0]);
}

/* Files the outcome of a handshake. Called with the lock. Returns the link to destroy, or NULL. */
static struct link *conclude(struct visitor *v, int rc, const struct error *err)
{
    struct door *d = v->door;
    struct link *link = v->link;
    v->link = NULL;
    v->state = VISITOR_DONE;
    if (v->session.peer.stream) {
        link = conclude_stream(v, rc, link);
    } else if (rc == 0 && !d->shut) {
        d->arrived = link;
        d->arrived_session = v->session;
        link = NULL;
    } else if (v->admitted) {
        d->taken = false;
    }
    if (rc < 0 && !is_routine(&v->session)) {
        d->refused++;
        d->refusal = v->session.reason;
        d->refusal_error = *err;
    }
    if (rc == -ESTALE) {
        d->stale = true;
        d->stale_session = v->session;
        d->stale_error = *err;
    }
    pthread_cond_broadcast(&d->changed);
    return link;
}

static void *visit(void *argument)
{
    struct visitor *v = argument;
    struct error err = {0};
    int rc = session_accept(v->link, &v->config, &v->session, &err);
    if (rc == 0 && !v->session.peer.stream && v->session.streams > 1)
        rc = gather_streams(v, &err);
    pthread_mutex_lock(&v->door->lock);
    struct link *link = conclude(v, rc, &err);
    pthread_mutex_unlock(&v->door->lock);
    link_destroy(&link);
    return NULL;
}

/* --- the acceptor --- */

/* A place for a new visitor: a free one, or that of the visitor who has waited longest, thrown out.
 * Called with the lock; may wait. NULL when the door was shut. */
static struct visitor *find_place(struct door *d)
{
    while (!d->shut) {
        struct visitor *oldest = NULL;
        for (size_t i = 0; i < DOOR_VISITORS_MAX; i++) {
            struct visitor *v = &d->visitors[i];
            if (v->state == VISITOR_DONE) {
                pthread_join(v->thread, NULL);
                v->state = VISITOR_NONE;
            }
            if (v->state == VISITOR_NONE)
                return v;
            if (!oldest || v->since < oldest->since)
                oldest = v;
        }
        oldest->thrown_out = true;
        if (oldest->link)
            link_shutdown(oldest->link);
        pthread_cond_broadcast(&d->changed);
        pthread_cond_wait(&d->changed, &d->lock);
    }
    return NULL;
}

/* Takes over the link. */
static void let_in(struct door *d, struct link *link)
{
    pthread_mutex_lock(&d->lock);
    struct visitor *v = find_place(d);
    if (v) {
        *v = (struct visitor){.door = d, .link = link, .since = clock_now()};
        v->config = d->config;
        v->config.admit = admit;
        v->config.join = join_session;
        v->config.admit_context = v;
        if (pthread_create(&v->thread, NULL, visit, v) == 0) {
            v->state = VISITOR_INSIDE;
            link = NULL;
        }
    }
    pthread_mutex_unlock(&d->lock);
    link_destroy(&link);
}

/* Waits a moment, or until something changes, when the host can't accept just now. */
static void pause_accepting(struct door *d)
{
    const struct timespec until = clock_to_timespec(clock_now() + MSEC(ACCEPT_RETRY_MS));
    pthread_mutex_lock(&d->lock);
    if (!d->shut)
        pthread_cond_timedwait(&d->changed, &d->lock, &until);
    pthread_mutex_unlock(&d->lock);
}

static void *accept_visitors(void *argument)
{
    struct door *d = argument;
    for (;;) {
        struct link *link = NULL;
        const int rc = listener_accept(d->listener, 0, &link, NULL);
        if (rc == -ECANCELED)
            return NULL;
        if (rc < 0)
            pause_accepting(d);
        else
            let_in(d, link);
    }
}

/* --- the owner --- */

int door_open(struct listener *listener, const struct session_config *config, struct door **out,
              struct error *err)
{
    struct door *d = calloc(1, sizeof(*d));
    if (!d) {
        listener_destroy(&listener);
        return error_set(err, -ENOMEM, "no memory for a listener");
    }
    d->listener = listener;
    d->config = *config;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&d->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&d->lock, NULL);
    const int rc = -pthread_create(&d->acceptor, NULL, accept_visitors, d);
    if (rc < 0) {
        pthread_mutex_destroy(&d->lock);
        pthread_cond_destroy(&d->changed);
        listener_destroy(&d->listener);
        free(d);
        return error_set(err, rc, "no thread for a listener: %s", strerror(-rc));
    }
    *out = d;
    return 0;
}

void door_set_local(struct door *door, const struct session_party *local)
{
    pthread_mutex_lock(&door->lock);
    door->config.local = *local;
    pthread_mutex_unlock(&door->lock);
}

void door_set_judge(struct door *door, door_judge judge, void *context)
{
    pthread_mutex_lock(&door->lock);
    door->judge = judge;
    door->judge_context = context;
    pthread_mutex_unlock(&door->lock);
}

/* Hands out what has arrived. Called with the lock; 1 when nothing has. */
static int fetch(struct door *d, struct link **link, struct session *session, struct error *err)
{
    if (d->stale) {
        d->stale = false;
        *session = d->stale_session;
        if (err)
            *err = d->stale_error;
        return -ESTALE;
    }
    if (d->shut || d->left) {
        d->left = false;
        return error_set(err, -ECANCELED, "%s: no longer listening", listener_uri(d->listener));
    }
    if (!d->arrived)
        return 1;
    *link = d->arrived;
    *session = d->arrived_session;
    d->arrived = NULL;
    return 0;
}

int door_wait(struct door *door, unsigned timeout_ms, struct link **link, struct session *session,
              struct error *err)
{
    const struct timespec until = clock_to_timespec(clock_now() + MSEC(timeout_ms));
    *link = NULL;
    pthread_mutex_lock(&door->lock);
    int rc = fetch(door, link, session, err);
    while (rc == 1) {
        const int waited = timeout_ms ? pthread_cond_timedwait(&door->changed, &door->lock, &until)
                                      : pthread_cond_wait(&door->changed, &door->lock);
        rc = fetch(door, link, session, err);
        if (rc == 1 && waited == ETIMEDOUT)
            rc = error_set(err, -ETIMEDOUT, "%s: no peer came in time",
                           listener_uri(door->listener));
    }
    pthread_mutex_unlock(&door->lock);
    return rc;
}

void door_release(struct door *door)
{
    pthread_mutex_lock(&door->lock);
    door->taken = false;
    pthread_mutex_unlock(&door->lock);
}

void door_leave(struct door *door)
{
    pthread_mutex_lock(&door->lock);
    struct link *link = door->arrived;
    door->arrived = NULL;
    door->stale = false;
    door->taken = false;
    door->left = true;
    pthread_cond_broadcast(&door->changed);
    pthread_mutex_unlock(&door->lock);
    link_destroy(&link);
}

void door_shut(struct door *door)
{
    pthread_mutex_lock(&door->lock);
    door->shut = true;
    for (size_t i = 0; i < DOOR_VISITORS_MAX; i++)
        if (door->visitors[i].link)
            link_shutdown(door->visitors[i].link);
    pthread_cond_broadcast(&door->changed);
    pthread_mutex_unlock(&door->lock);
    listener_shutdown(door->listener);
}

void door_destroy(struct door **door)
{
    struct door *d = *door;
    if (!d)
        return;
    door_shut(d);
    pthread_join(d->acceptor, NULL);
    for (size_t i = 0; i < DOOR_VISITORS_MAX; i++) {
        /* Nobody but this thread makes or joins visitors any more. */
        pthread_mutex_lock(&d->lock);
        const bool joinable = d->visitors[i].state != VISITOR_NONE;
        pthread_mutex_unlock(&d->lock);
        if (joinable)
            pthread_join(d->visitors[i].thread, NULL);
    }
    link_destroy(&d->arrived);
    listener_destroy(&d->listener);
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->changed);
    free(d);
    *door = NULL;
}

const char *door_uri(const struct door *door)
{
    return listener_uri(door->listener);
}

uint64_t door_last_refusal(struct door *door, enum session_reason *reason, struct error *text)
{
    pthread_mutex_lock(&door->lock);
    const uint64_t refused = door->refused;
    *reason = door->refusal;
    *text = door->refusal_error;
    pthread_mutex_unlock(&door->lock);
    return refused;
}
