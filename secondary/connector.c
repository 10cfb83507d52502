#include "secondary/connector.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "transport/bundle.h"

#define CONNECT_TIMEOUT_MS 2000
/* Pause between attempts: at first a primary that comes up is found in a fraction of a second, and
 * one that stays away is not asked more often than every other second. */
#define RETRY_PAUSE     MSEC(200)
#define RETRY_PAUSE_MAX SEC(2)

struct connector {
    struct connector_config config; /* session.local.term: connector's thread */
    pthread_t thread;
    bool started;
    int cancel_fd; /* readable once destroy() was called */

    /* connector's thread */
    unsigned host;         /* the one that is asked */
    bool final[PEERS_MAX]; /* its last refusal was */

    pthread_mutex_t lock; /* protects all below */
    pthread_cond_t changed;
    bool stop;
    bool go;
    unsigned attempts; /* in a row, since the last order to go */
    nsec_t next_attempt;
    term_t term;
};

/* Reasons that a second attempt can't change, as both sides' configurations would have to. */
static bool is_final(int rc, enum session_reason reason)
{
    if (rc == -EKEYREJECTED)
        return true;
    if (rc != -ECONNREFUSED)
        return false;
    switch (reason) {
    case SESSION_VERSION:
    case SESSION_KEY:
    case SESSION_VM_NAME:
    case SESSION_LAYOUT:
    case SESSION_CPU:
    case SESSION_DEVICES:
        return true;
    default:
        return false;
    }
}

static int connect_once(struct connector *c, struct session *session, struct link **out,
                        struct error *err)
{
    const int rc = transport_connect(c->config.uris[c->host], c->config.tls, CONNECT_TIMEOUT_MS,
                                     c->cancel_fd, out, err);
    return rc < 0 ? rc : session_connect(*out, &c->config.session, session, err);
}

/* Connects the other streams of the session and makes one link of them all. After a failure *link
 * may be left, to be destroyed. */
static int join_streams(struct connector *c, const struct session *session, struct link **link,
                        struct error *err)
{
    struct link *links[SESSION_STREAMS_MAX] = {NULL};
    struct session_party *local = &c->config.session.local;
    struct session *joined = malloc(sizeof(*joined));
    if (!joined)
        return error_set(err, -ENOMEM, "no memory for a stream");
    memcpy(local->joins, session->id, sizeof(local->joins));
    int rc = 0;
    for (uint32_t i = 1; rc == 0 && i < session->streams; i++) {
        local->stream = i;
        rc = connect_once(c, joined, &links[i], err);
        if (rc < 0)
            error_prefix(err, "stream %u of %u", i + 1, session->streams);
    }
    local->stream = 0;
    free(joined);
    if (rc == 0) {
        links[0] = *link;
        *link = NULL;
        return bundle_create(links, session->streams, link, err);
    }
    for (uint32_t i = 1; i < SESSION_STREAMS_MAX; i++)
        link_destroy(&links[i]);
    return rc;
}

/* Notes the outcome with this host. True: none of them can let us in. */
static bool is_hopeless(struct connector *c, bool final)
{
    bool all = true;
    c->final[c->host] = final;
    for (unsigned i = 0; i < c->config.count; i++)
        all = all && c->final[i];
    return all;
}

/* One attempt. 0: connected or refused for good, the owner was told; else try again. */
static int attempt(struct connector *c, struct session *session)
{
    struct link *link = NULL;
    struct error err = {0};
    *session = (struct session){0};
    int rc = connect_once(c, session, &link, &err);
    if (rc == 0 && session->streams > 1)
        rc = join_streams(c, session, &link, &err);
    if (rc == 0) {
        /* Whatever was asked for until now is done; what follows asks for another link. */
        pthread_mutex_lock(&c->lock);
        c->go = false;
        pthread_mutex_unlock(&c->lock);
        c->config.connected(c->config.context, c->host, link, session);
        return 0;
    }
    link_destroy(&link);
    if (rc == -ECANCELED)
        return 0;
    const bool final = is_hopeless(c, is_final(rc, session->reason));
    c->config.failed(c->config.context, c->host, &err, session->reason, final);
    return final ? 0 : rc;
}

/* With the lock held. */
static void put_off(struct connector *c, nsec_t until)
{
    if (c->next_attempt < until)
        c->next_attempt = until;
}

/* With the lock held. */
static void pause_until(struct connector *c, nsec_t when)
{
    const struct timespec until = clock_to_timespec(when);
    int rc = 0;
    while (!c->stop && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&c->changed, &c->lock, &until);
}

nsec_t connector_pause(unsigned failures)
{
    nsec_t pause = RETRY_PAUSE;
    for (unsigned i = 1; i < failures && pause < RETRY_PAUSE_MAX; i++)
        pause += pause / 2;
    return pause < RETRY_PAUSE_MAX ? pause : RETRY_PAUSE_MAX;
}

static void *connector_main(void *context)
{
    struct connector *c = context;
    struct session *session = malloc(sizeof(*session));
    if (!session)
        abort();
    pthread_mutex_lock(&c->lock);
    while (!c->stop) {
        if (!c->go) {
            pthread_cond_wait(&c->changed, &c->lock);
            continue;
        }
        /* A primary that takes us in and closes at once is not asked more often either; of several
         * hosts each has its turn at once. */
        const bool round_begins = c->attempts % c->config.count == 0;
        if (round_begins && clock_now() < c->next_attempt) {
            pause_until(c, c->next_attempt);
            continue;
        }
        c->go = false;
        put_off(c, clock_now() + RETRY_PAUSE);
        c->config.session.local.term = c->term;
        pthread_mutex_unlock(&c->lock);
        const int rc = attempt(c, session);
        pthread_mutex_lock(&c->lock);
        if (rc < 0) {
            c->host = (c->host + 1) % c->config.count;
            if (++c->attempts % c->config.count == 0)
                put_off(c, clock_now() + connector_pause(c->attempts / c->config.count));
            c->go = true;
        }
    }
    pthread_mutex_unlock(&c->lock);
    free(session);
    return NULL;
}

int connector_create(const struct connector_config *config, struct connector **out,
                     struct error *err)
{
    *out = NULL;
    struct connector *c = calloc(1, sizeof(*c));
    if (!c)
        return error_set(err, -ENOMEM, "connector: out of memory");
    c->config = *config;
    c->cancel_fd = eventfd(0, EFD_CLOEXEC);
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    c->started = c->cancel_fd >= 0 && pthread_create(&c->thread, NULL, connector_main, c) == 0;
    if (!c->started) {
        connector_destroy(&c);
        return error_set(err, -EAGAIN, "connector: can't start a thread");
    }
    *out = c;
    return 0;
}

void connector_destroy(struct connector **connector)
{
    struct connector *c = *connector;
    if (!c)
        return;
    const uint64_t one = 1;
    if (c->started && write(c->cancel_fd, &one, sizeof(one)) == sizeof(one)) {
        pthread_mutex_lock(&c->lock);
        c->stop = true;
        pthread_cond_broadcast(&c->changed);
        pthread_mutex_unlock(&c->lock);
        pthread_join(c->thread, NULL);
    }
    fd_close(&c->cancel_fd);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c);
    *connector = NULL;
}

void connector_go(struct connector *connector, term_t term)
{
    pthread_mutex_lock(&connector->lock);
    connector->go = true;
    connector->attempts = 0;
    connector->term = term;
    pthread_cond_broadcast(&connector->changed);
    pthread_mutex_unlock(&connector->lock);
}

void connector_rest(struct connector *connector, nsec_t until)
{
    pthread_mutex_lock(&connector->lock);
    put_off(connector, until);
    pthread_mutex_unlock(&connector->lock);
}
