/* News for a slow owner: in order, bounded, and never without the newest of its kind. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "heartbeat/teller.h"
#include "test/support/runner.h"

#define LOG_MAX 4096

/* An owner that is held inside its first callback until it is let go. */
struct owner {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool inside, go;
    size_t count;
    struct {
        enum telling_kind kind;
        term_t term;
    } log[LOG_MAX];
};

static void record(struct owner *o, enum telling_kind kind, term_t term)
{
    pthread_mutex_lock(&o->lock);
    o->log[o->count].kind = kind;
    o->log[o->count].term = term;
    o->count++;
    o->inside = true;
    pthread_cond_broadcast(&o->cond);
    while (!o->go)
        pthread_cond_wait(&o->cond, &o->lock);
    pthread_mutex_unlock(&o->lock);
}

static void on_suspect(void *owner, enum detector_reason reason, nsec_t at)
{
    (void)reason;
    record(owner, TELLING_SUSPECT, (term_t)at);
}

static void on_alive(void *owner, enum detector_reason reason)
{
    (void)reason;
    record(owner, TELLING_ALIVE, 0);
}

static void on_stopping(void *owner, enum detector_reason reason)
{
    (void)reason;
    record(owner, TELLING_STOPPING, 0);
}

static void on_stalled(void *owner, nsec_t stalled_for)
{
    record(owner, TELLING_STALLED, (term_t)stalled_for);
}

static void on_changed(void *owner, const struct heartbeat_peer *peer)
{
    record(owner, TELLING_PEER, peer->term);
}

static const struct heartbeat_ops ops = {on_suspect, on_alive, on_stopping, on_stalled, on_changed};

static struct teller *start(struct owner *o)
{
    struct teller *t;
    memset(o, 0, sizeof(*o));
    pthread_mutex_init(&o->lock, NULL);
    pthread_cond_init(&o->cond, NULL);
    CU_ASSERT_EQUAL_FATAL(teller_create(&ops, o, &t, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(teller_start(t, 0, NULL), 0);
    return t;
}

static void wait_inside(struct owner *o)
{
    pthread_mutex_lock(&o->lock);
    while (!o->inside)
        pthread_cond_wait(&o->cond, &o->lock);
    pthread_mutex_unlock(&o->lock);
}

static void let_go(struct owner *o)
{
    pthread_mutex_lock(&o->lock);
    o->go = true;
    pthread_cond_broadcast(&o->cond);
    pthread_mutex_unlock(&o->lock);
}

/* Waits until the last news told is that of `term`. */
static void wait_for_term(struct owner *o, term_t term)
{
    for (bool there = false; !there;) {
        pthread_mutex_lock(&o->lock);
        there = o->count && o->log[o->count - 1].term == term;
        pthread_mutex_unlock(&o->lock);
        sched_yield();
    }
}

static void post_peer(struct teller *t, term_t term)
{
    teller_post(t, &(struct telling){.kind = TELLING_PEER, .peer = {.term = term}});
}

static void news_come_in_order_and_complete(void)
{
    struct owner *o = malloc(sizeof(*o));
    struct teller *t = start(o);
    let_go(o);
    teller_post(t, &(struct telling){.kind = TELLING_ALIVE});
    teller_post(t, &(struct telling){.kind = TELLING_SUSPECT, .at = 5});
    teller_post(t, &(struct telling){.kind = TELLING_STOPPING});
    teller_post(t, &(struct telling){.kind = TELLING_STALLED, .stalled_for = 6});
    post_peer(t, 7);
    wait_for_term(o, 7);
    CU_ASSERT_EQUAL_FATAL(o->count, 5);
    CU_ASSERT_EQUAL(o->log[0].kind, TELLING_ALIVE);
    CU_ASSERT_EQUAL(o->log[1].kind, TELLING_SUSPECT);
    CU_ASSERT_EQUAL(o->log[1].term, 5);
    CU_ASSERT_EQUAL(o->log[2].kind, TELLING_STOPPING);
    CU_ASSERT_EQUAL(o->log[3].term, 6);
    CU_ASSERT_EQUAL(o->log[4].kind, TELLING_PEER);
    teller_destroy(&t);
    free(o);
}

static void a_slow_owner_misses_only_what_was_overtaken(void)
{
    struct owner *o = malloc(sizeof(*o));
    struct teller *t = start(o);
    teller_post(t, &(struct telling){.kind = TELLING_STOPPING});
    wait_inside(o);
    post_peer(t, 999); /* the only news of a higher term, then a storm of others */
    for (term_t i = 1; i <= 1000; i++) {
        teller_post(t, &(struct telling){.kind = TELLING_ALIVE});
        teller_post(t, &(struct telling){.kind = TELLING_SUSPECT, .at = (nsec_t)i});
    }
    let_go(o);
    wait_for_term(o, 1000);
    bool peer = false;
    term_t last = 0;
    for (size_t i = 0; i < o->count; i++) {
        peer |= o->log[i].kind == TELLING_PEER && o->log[i].term == 999;
        if (o->log[i].kind == TELLING_SUSPECT) {
            CU_ASSERT(o->log[i].term > last);
            last = o->log[i].term;
        }
    }
    CU_ASSERT_TRUE(peer);
    CU_ASSERT(o->count < 100);
    teller_destroy(&t);
    free(o);
}

static void absent_callbacks_are_passed_over(void)
{
    struct owner *o = malloc(sizeof(*o));
    const struct heartbeat_ops only_peer = {.peer_changed = on_changed};
    struct teller *t = start(o);
    teller_destroy(&t);
    CU_ASSERT_EQUAL_FATAL(teller_create(&only_peer, o, &t, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(teller_start(t, 0, NULL), 0);
    let_go(o);
    for (int kind = 0; kind < TELLING_PEER; kind++)
        teller_post(t, &(struct telling){.kind = (enum telling_kind)kind});
    post_peer(t, 3);
    wait_for_term(o, 3);
    CU_ASSERT_EQUAL(o->count, 1);
    teller_destroy(&t);
    CU_ASSERT_PTR_NULL(t);
    teller_destroy(&t);
    free(o);
}

static const struct test_case cases[] = {
    {"news come in order and complete", news_come_in_order_and_complete},
    {"a slow owner misses only what was overtaken", a_slow_owner_misses_only_what_was_overtaken},
    {"absent callbacks are passed over", absent_callbacks_are_passed_over},
};

TEST_MAIN("teller", cases)
