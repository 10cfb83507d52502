#include "test/support/beat_pair.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "heartbeat/privileges.h"

#define SECRET "secret of the pair"

/* ---- One side ---------------------------------------------------------------------------- */

static void note(struct beat_side *s, unsigned *counter, enum detector_reason reason)
{
    pthread_mutex_lock(&s->lock);
    (*counter)++;
    s->reason = reason;
    pthread_mutex_unlock(&s->lock);
}

static void on_suspect(void *owner, enum detector_reason reason, nsec_t at)
{
    struct beat_side *s = owner;
    CU_ASSERT(at <= clock_now());
    note(s, &s->suspected, reason);
}

static void on_alive(void *owner, enum detector_reason reason)
{
    struct beat_side *s = owner;
    note(s, &s->alive, reason);
}

static void on_stopping(void *owner, enum detector_reason reason)
{
    struct beat_side *s = owner;
    note(s, &s->stopping, reason);
}

static void on_stalled(void *owner, nsec_t stalled_for)
{
    struct beat_side *s = owner;
    CU_ASSERT(stalled_for > 0);
    pthread_mutex_lock(&s->lock);
    s->stalled++;
    pthread_mutex_unlock(&s->lock);
}

static void on_changed(void *owner, const struct heartbeat_peer *peer)
{
    struct beat_side *s = owner;
    pthread_mutex_lock(&s->lock);
    s->changed++;
    s->told = *peer;
    const nsec_t until = s->block_for ? clock_now() + s->block_for : 0;
    s->block_for = 0;
    pthread_mutex_unlock(&s->lock);
    while (clock_now() < until)
        poll(NULL, 0, 1);
}

static const struct heartbeat_ops ops = {
    .suspect = on_suspect,
    .alive = on_alive,
    .peer_stopping = on_stopping,
    .stalled = on_stalled,
    .peer_changed = on_changed,
};

int beat_side_create(struct beat_side *s, struct error *err)
{
    struct heartbeat_path paths[BEAT_PATHS_MAX];
    for (size_t i = 0; i < s->path_count; i++)
        paths[i] = (struct heartbeat_path){.bind = s->bind[i], .peer = s->peer[i]};
    const struct heartbeat_config config = {
        .vm = "redis",
        .secret = s->secret,
        .secret_size = strlen(s->secret),
        .paths = paths,
        .path_count = s->path_count,
        .interval = s->interval ? s->interval : BEAT_INTERVAL,
        .multiplier = s->multiplier,
        .eof_is_suspicion = s->eof_is_suspicion,
        .realtime = true,
        .lock_memory = true,
        .last_words = s->last_words,
    };
    return heartbeat_create(&config, &ops, s, &s->heartbeat, err);
}

void beat_side_start(struct beat_side *s, enum packet_role role, term_t term)
{
    struct error err = {0};
    if (beat_side_create(s, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        CU_FAIL_FATAL("no heartbeat");
    }
    const struct heartbeat_local local = {.role = role, .term = term, .guest_alive = true};
    heartbeat_set_local(s->heartbeat, &local);
    CU_ASSERT_EQUAL_FATAL(heartbeat_start(s->heartbeat, NULL), 0);
}

/* ---- The relay --------------------------------------------------------------------------- */

static void relay_one(struct beat_relay *r, size_t lane)
{
    uint8_t bytes[256];
    const ssize_t size = recv(r->lanes[lane].fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (size < 0)
        return;
    pthread_mutex_lock(&r->lock);
    const bool drop = r->drop[lane];
    if (r->recorded < BEAT_RECORD_MAX && size == PACKET_SIZE) {
        r->record[r->recorded].lane = lane;
        r->record[r->recorded].size = (size_t)size;
        memcpy(r->record[r->recorded].bytes, bytes, (size_t)size);
        r->recorded++;
    }
    pthread_mutex_unlock(&r->lock);
    const struct address *to = &r->lanes[lane].to;
    if (!drop)
        sendto(r->lanes[lane].fd, bytes, (size_t)size, 0, &to->any, to->size);
}

/* It stands for a network, which waits for no processor: the sides that it is between don't either. */
static void *relay_run(void *argument)
{
    struct beat_relay *r = argument;
    (void)privileges_take_realtime();
    struct pollfd fds[2 * BEAT_PATHS_MAX + 1];
    for (size_t i = 0; i < r->lane_count; i++)
        fds[i] = (struct pollfd){.fd = r->lanes[i].fd, .events = POLLIN};
    fds[r->lane_count] = (struct pollfd){.fd = r->quit_pipe[0], .events = POLLIN};
    for (;;) {
        poll(fds, r->lane_count + 1, -1);
        if (fds[r->lane_count].revents)
            return NULL;
        for (size_t i = 0; i < r->lane_count; i++)
            if (fds[i].revents)
                relay_one(r, i);
    }
}

void beat_relay_drop(struct beat_relay *r, size_t lane, bool drop)
{
    pthread_mutex_lock(&r->lock);
    r->drop[lane] = drop;
    pthread_mutex_unlock(&r->lock);
}

size_t beat_relay_replay(struct beat_relay *r, size_t lane)
{
    size_t count = 0;
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->recorded; i++) {
        const struct address *to = &r->lanes[lane].to;
        if (r->record[i].lane != lane)
            continue;
        sendto(r->lanes[lane].fd, r->record[i].bytes, r->record[i].size, 0, &to->any, to->size);
        count++;
    }
    pthread_mutex_unlock(&r->lock);
    return count;
}

static void lane_open(struct beat_lane *lane, const char *own, const char *to)
{
    struct address address;
    CU_ASSERT_EQUAL_FATAL(address_resolve(own, &address, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(address_resolve(to, &lane->to, NULL), 0);
    lane->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(bind(lane->fd, &address.any, address.size), 0);
}

/* ---- A pair ------------------------------------------------------------------------------ */

static void side_init(struct beat_side *s)
{
    memset(s, 0, sizeof(*s));
    s->secret = SECRET;
    s->multiplier = 100; /* 0.5 s: calm on a loaded machine */
    s->eof_is_suspicion = true;
    pthread_mutex_init(&s->lock, NULL);
}

struct beat_pair *beat_pair_prepare(size_t path_count)
{
    struct beat_pair *p = calloc(1, sizeof(*p));
    const unsigned id = (unsigned)getpid();
    char relay_a[40], relay_b[40];
    side_init(&p->a);
    side_init(&p->b);
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&p->relay.lock, &attr);
    pthread_mutexattr_destroy(&attr);
    p->a.path_count = p->b.path_count = path_count;
    for (size_t i = 0; i < path_count; i++) {
        const unsigned net = 1 + (id >> 8) % 254, host = id & 255;
        const unsigned port = 7400 + (unsigned)i;
        snprintf(p->a.bind[i], sizeof(p->a.bind[i]), "127.%u.%u.1:%u", net, host, port);
        snprintf(p->b.bind[i], sizeof(p->b.bind[i]), "127.%u.%u.2:%u", net, host, port);
        snprintf(relay_a, sizeof(relay_a), "127.%u.%u.3:%u", net, host, port);
        snprintf(relay_b, sizeof(relay_b), "127.%u.%u.4:%u", net, host, port);
        strcpy(p->a.peer[i], relay_a);
        strcpy(p->b.peer[i], relay_b);
        lane_open(&p->relay.lanes[2 * i], relay_a, p->b.bind[i]);
        lane_open(&p->relay.lanes[2 * i + 1], relay_b, p->a.bind[i]);
    }
    p->relay.lane_count = 2 * path_count;
    CU_ASSERT_EQUAL_FATAL(pipe(p->relay.quit_pipe), 0);
    return p;
}

void beat_relay_start(struct beat_relay *r)
{
    pthread_create(&r->thread, NULL, relay_run, r);
}

struct beat_pair *beat_pair_create(size_t path_count)
{
    struct beat_pair *p = beat_pair_prepare(path_count);
    beat_relay_start(&p->relay);
    return p;
}

void beat_pair_destroy(struct beat_pair *p)
{
    heartbeat_destroy(&p->a.heartbeat);
    heartbeat_destroy(&p->b.heartbeat);
    fd_close(&p->relay.quit_pipe[1]);
    pthread_join(p->relay.thread, NULL);
    fd_close(&p->relay.quit_pipe[0]);
    for (size_t i = 0; i < p->relay.lane_count; i++)
        fd_close(&p->relay.lanes[i].fd);
    free(p);
}

static bool all_heard(const struct heartbeat_status *status)
{
    bool heard = status->state == DETECTOR_ALIVE;
    for (size_t i = 0; i < status->path_count; i++)
        heard = heard && status->paths[i].heard;
    return heard;
}

struct beat_pair *beat_pair_alive(size_t path_count)
{
    struct beat_pair *p = beat_pair_create(path_count);
    beat_side_start(&p->a, PACKET_ROLE_PRIMARY, 4);
    beat_side_start(&p->b, PACKET_ROLE_SECONDARY, 4);
    BEAT_WAIT(&p->a, all_heard(&status));
    BEAT_WAIT(&p->b, all_heard(&status));
    return p;
}
