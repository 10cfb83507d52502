/* One loop: send what is due, hear what came, feed the detector, tell the owner, sleep until the
 * next deadline. Everything that decides is pure and lives elsewhere (packet, replay, detector).
 *
 * Other threads leave their wishes under `lock` and wake the loop through an eventfd; the loop
 * takes them all at once and publishes a status copy at the end of each turn. The owner is told
 * through the teller, on another thread: the loop waits for nobody. `lock` is a leaf and nothing
 * that takes time happens under it. It inherits priority, because a thread without
 * real-time priority may hold it when the loop wants it.
 *
 * Order within a turn: beats that wait in the sockets were sent before the hint that woke us, so
 * they are heard first; silence is judged last. */
#include "heartbeat/heartbeat.h"

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "heartbeat/carrier.h"
#include "heartbeat/path.h"
#include "heartbeat/privileges.h"
#include "heartbeat/replay.h"
#include "heartbeat/teller.h"

#define HINTS_MAX  16  /* waiting for the loop; a fuller queue forgets the oldest */
#define DRAIN_MAX  512 /* datagrams of one path in one turn: more than a socket queues */
#define STOP_BEATS 3   /* that tell of a stop, in case some are lost */

/* What other threads want from the loop. */
struct wishes {
    struct heartbeat_local local;
    bool local_set;
    bool send_now;
    bool stopping;
    bool quit;
    enum detector_event_kind hints[HINTS_MAX];
    size_t hint_count;
};

struct heartbeat {
    /* Set at creation. */
    struct teller *teller;
    struct packet_key key;
    uint64_t vm;
    uint64_t instance;
    nsec_t interval;
    bool want_realtime;
    bool want_memory_locked;
    bool want_last_words;
    unsigned speaker;
    int wake_fd;
    int carrier_fd;   /* -1: the kernel tells nothing */
    nsec_t gap_limit; /* a shorter gap between two turns can't have made the peer suspicious */
    size_t path_count;
    bool started;
    pthread_t thread;

    /* Written by the thread, read by any, in the reverse order. */
    _Atomic nsec_t awake_since;
    _Atomic nsec_t last_turn;
    _Atomic nsec_t heard_since; /* by the peer, without a gap longer than silence_limit */
    _Atomic nsec_t last_echo;   /* when our newest beat that came back was sent; 0: none yet */
    _Atomic nsec_t silence_limit;
    _Atomic nsec_t echo_limit; /* an older echo does not prove that the peer still hears us */

    pthread_mutex_t lock;
    pthread_cond_t announced_cond;
    /* Protected by lock. */
    struct wishes wishes;
    struct heartbeat_status published;
    bool announced; /* the beats that tell of the stop have left */

    /* Owned by the thread. */
    struct detector detector;
    struct replay replay;
    uint64_t next_challenge;
    struct heartbeat_peer peer;
    nsec_t next_send;
    nsec_t worst_stall;
    bool realtime;
    bool memory_locked;
    struct quick_exit_words last_words;
    struct path paths[PACKET_PATH_MAX];
};
_Static_assert(sizeof(struct heartbeat) <= HEARTBEAT_STATE_MAX,
               "what doctor tries to lock is enough");

static uint64_t random_number(void)
{
    uint64_t number = 0;
    while (!number)
        if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number))
            number = 0;
    return number;
}

static void wake(struct heartbeat *h)
{
    const uint64_t one = 1;
    const ssize_t ignored = write(h->wake_fd, &one, sizeof(one)); /* EAGAIN: awake already */
    (void)ignored;
}

/* ---- Telling the owner ------------------------------------------------------------------- */

static void tell_state(struct heartbeat *h, nsec_t now)
{
    static const int kinds[] = {
        [DETECTOR_UNHEARD] = -1, /* the owner began the session itself */
        [DETECTOR_ALIVE] = TELLING_ALIVE,
        [DETECTOR_SUSPECT] = TELLING_SUSPECT,
        [DETECTOR_STOPPED] = TELLING_STOPPING,
    };
    const int kind = kinds[h->detector.state];
    if (kind < 0)
        return;
    const struct telling telling = {
        .kind = (enum telling_kind)kind, .reason = h->detector.reason, .at = now};
    teller_post(h->teller, &telling);
}

static void feed(struct heartbeat *h, const struct detector_event *event, nsec_t now)
{
    const struct detector_actions actions = detector_step(&h->detector, event, now);
    if (actions.stalled) {
        if (actions.stalled_for > h->worst_stall)
            h->worst_stall = actions.stalled_for;
        teller_post(h->teller,
                    &(struct telling){.kind = TELLING_STALLED, .stalled_for = actions.stalled_for});
    }
    if (actions.changed)
        tell_state(h, now);
}

/* ---- Hearing ----------------------------------------------------------------------------- */

static void take_peer(struct heartbeat *h, const struct packet *beat)
{
    const struct heartbeat_peer peer = {
        .instance = beat->instance,
        .role = beat->role,
        .term = beat->term,
        .epoch = beat->epoch,
        .guest_alive = (beat->flags & PACKET_FLAG_GUEST_ALIVE) != 0,
        .stopping = (beat->flags & PACKET_FLAG_STOPPING) != 0,
    };
    const bool changed = peer.instance != h->peer.instance || peer.role != h->peer.role ||
                         peer.term != h->peer.term || peer.guest_alive != h->peer.guest_alive ||
                         peer.stopping != h->peer.stopping;
    h->peer = peer;
    if (changed)
        teller_post(h->teller, &(struct telling){.kind = TELLING_PEER, .peer = peer});
}

/* The peer has heard our beat that this one echoes, when it had been sent or later; what it says
 * proves nothing else about what it hears. */
static void note_echo(struct heartbeat *h, const struct path *path, nsec_t now)
{
    const nsec_t detection = detector_detection_time(&h->detector);
    const nsec_t echo = (nsec_t)path->own_echo;
    const nsec_t last = atomic_load(&h->last_echo);
    /* As gap_limit, but by the slower side's interval. */
    atomic_store(&h->silence_limit, detection - detection / h->detector.config.multiplier);
    atomic_store(&h->echo_limit, detection + path->status.round_trip);
    if (echo <= last)
        return;
    if (echo - last > atomic_load(&h->silence_limit))
        atomic_store(&h->heard_since, now);
    atomic_store(&h->last_echo, echo);
}

static void hear(struct heartbeat *h, struct path *path, const uint8_t *bytes, size_t size,
                 nsec_t now)
{
    struct packet beat;
    const enum packet_verdict verdict = packet_decode(bytes, size, &h->key, h->vm, &beat);
    if (verdict != PACKET_OK) {
        path_count_refused(path, verdict);
        return;
    }
    const uint64_t newest = h->replay.paths[path->index].newest;
    const enum replay_verdict judged =
        replay_judge(&h->replay, path->index, &beat, h->next_challenge);
    path_count_judged(path, &beat, judged, newest);
    if (judged == REPLAY_ADOPTED) {
        h->next_challenge = random_number();
        for (size_t i = 0; i < h->path_count; i++)
            path_forget_times(&h->paths[i]);
    } else if (judged != REPLAY_FRESH) {
        return;
    }
    if (beat.flags & PACKET_FLAG_EXITED) {
        feed(h, &(struct detector_event){.kind = DETECTOR_EVENT_EXIT}, now);
        return;
    }
    path_take_times(path, &beat, now);
    take_peer(h, &beat);
    const struct detector_event event = {
        .kind = DETECTOR_EVENT_BEAT,
        .path = path->index,
        .instance = beat.instance,
        .interval = USEC(beat.interval_us),
        .stopping = (beat.flags & PACKET_FLAG_STOPPING) != 0,
    };
    feed(h, &event, now);
    note_echo(h, path, now);
}

static void drain(struct heartbeat *h, struct path *path, nsec_t now)
{
    for (int i = 0; i < DRAIN_MAX; i++) {
        uint8_t bytes[PACKET_SIZE];
        const ssize_t size = path_receive(path, bytes, sizeof(bytes));
        if (size < 0)
            return;
        hear(h, path, bytes, (size_t)size, now);
    }
}

/* Silence that need not be waited for. */
static void drain_carrier(struct heartbeat *h, nsec_t now)
{
    uint8_t bytes[CARRIER_MESSAGES_MAX];
    ssize_t size;
    while (h->carrier_fd >= 0 && (size = carrier_receive(h->carrier_fd, bytes)) >= 0) {
        struct carrier_event event;
        for (size_t used = 0; carrier_decode(bytes, (size_t)size, &used, &event);)
            for (unsigned i = 0; i < h->path_count; i++) {
                if (event.carrier)
                    path_find_interface(&h->paths[i]);
                else if (h->paths[i].interface == event.interface)
                    feed(h, &(struct detector_event){.kind = DETECTOR_EVENT_DEAF, .path = i}, now);
            }
    }
}

/* ---- Sending ----------------------------------------------------------------------------- */

static void send_beats(struct heartbeat *h, const struct wishes *wishes)
{
    const struct heartbeat_local *local = &wishes->local;
    struct packet beat = {
        .flags = (uint16_t)((local->guest_alive ? PACKET_FLAG_GUEST_ALIVE : 0) |
                            (wishes->stopping ? PACKET_FLAG_STOPPING : 0)),
        .role = local->role,
        .interval_us = (uint32_t)(h->interval / USEC(1)),
        .vm = h->vm,
        .instance = h->instance,
        .challenge = h->replay.challenge,
        .echo_challenge = h->replay.peer_challenge,
        .term = local->term,
        .epoch = local->epoch,
    };
    h->last_words.count = h->want_last_words ? h->path_count : 0;
    for (size_t i = 0; i < h->path_count; i++) {
        path_send(&h->paths[i], &beat, &h->key);
        if (h->want_last_words)
            path_make_last_word(&h->paths[i], beat, &h->key, &h->last_words.words[i]);
    }
    if (h->want_last_words)
        quick_exit_say(h->speaker, &h->last_words);
}

static void send_due(struct heartbeat *h, const struct wishes *wishes, nsec_t now)
{
    if (now < h->next_send && !wishes->send_now)
        return;
    send_beats(h, wishes);
    h->next_send += h->interval;
    if (h->next_send <= now || wishes->send_now)
        h->next_send = now + h->interval;
}

static void send_stop(struct heartbeat *h, const struct wishes *wishes)
{
    for (int i = 0; i < STOP_BEATS; i++)
        send_beats(h, wishes);
    pthread_mutex_lock(&h->lock);
    h->announced = true;
    pthread_cond_broadcast(&h->announced_cond);
    pthread_mutex_unlock(&h->lock);
}

/* ---- The loop ---------------------------------------------------------------------------- */

static void take_wishes(struct heartbeat *h, struct wishes *out)
{
    pthread_mutex_lock(&h->lock);
    *out = h->wishes;
    h->wishes.send_now = false;
    h->wishes.hint_count = 0;
    pthread_mutex_unlock(&h->lock);
}

static void publish(struct heartbeat *h, nsec_t now)
{
    const nsec_t detection = detector_detection_time(&h->detector);
    pthread_mutex_lock(&h->lock);
    struct heartbeat_status *s = &h->published;
    s->state = h->detector.state;
    s->reason = h->detector.reason;
    s->since = h->detector.since;
    s->detection_time = detection;
    s->suspicions = h->detector.suspicions;
    s->stalls = h->detector.stalls;
    s->worst_stall = h->worst_stall;
    s->realtime = h->realtime;
    s->memory_locked = h->memory_locked;
    s->peer = h->peer;
    s->path_count = h->path_count;
    for (size_t i = 0; i < h->path_count; i++) {
        const struct path *path = &h->paths[i];
        s->paths[i] = path->status;
        s->paths[i].heard = h->detector.paths[i].heard;
        s->paths[i].peer_hears_us = path->own_echo_at && now - path->own_echo_at <= detection;
    }
    pthread_mutex_unlock(&h->lock);
}

static void sleep_until_due(struct heartbeat *h)
{
    struct pollfd fds[PACKET_PATH_MAX + 2];
    for (size_t i = 0; i < h->path_count; i++)
        fds[i] = (struct pollfd){.fd = h->paths[i].fd, .events = POLLIN};
    fds[h->path_count] = (struct pollfd){.fd = h->wake_fd, .events = POLLIN};
    fds[h->path_count + 1] = (struct pollfd){.fd = h->carrier_fd, .events = POLLIN};
    const nsec_t tick = detector_next_tick(&h->detector);
    const nsec_t due = h->next_send < tick ? h->next_send : tick;
    const nsec_t left = due - clock_now();
    const struct timespec timeout = clock_to_timespec(left > 0 ? left : 0);
    if (ppoll(fds, h->path_count + 2, &timeout, NULL) > 0 && fds[h->path_count].revents) {
        uint64_t count;
        const ssize_t ignored = read(h->wake_fd, &count, sizeof(count));
        (void)ignored;
    }
}

static void note_turn(struct heartbeat *h, nsec_t now)
{
    if (now - atomic_load(&h->last_turn) > h->gap_limit)
        atomic_store(&h->awake_since, now);
    atomic_store(&h->last_turn, now);
}

nsec_t heartbeat_awake_since(struct heartbeat *h)
{
    const nsec_t last = atomic_load(&h->last_turn);
    const nsec_t since = atomic_load(&h->awake_since);
    const nsec_t now = clock_now();
    return now - last > h->gap_limit ? now : since;
}

nsec_t heartbeat_trusted_since(struct heartbeat *h)
{
    const nsec_t awake = heartbeat_awake_since(h);
    const nsec_t last = atomic_load(&h->last_echo);
    const nsec_t heard = atomic_load(&h->heard_since);
    const nsec_t limit = atomic_load(&h->silence_limit);
    const nsec_t now = clock_now();
    const nsec_t audible = now - last > atomic_load(&h->echo_limit) ? now : heard;
    const nsec_t doubtful = audible < now - limit ? audible : now - limit;
    return doubtful > awake ? doubtful : awake;
}

static bool turn(struct heartbeat *h, bool *stop_sent)
{
    note_turn(h, clock_now());
    struct wishes wishes;
    take_wishes(h, &wishes);
    if (wishes.stopping && !*stop_sent) {
        send_stop(h, &wishes);
        *stop_sent = true;
    }
    if (wishes.quit)
        return false;
    send_due(h, &wishes, clock_now());
    const nsec_t now = clock_now();
    for (size_t i = 0; i < h->path_count; i++)
        drain(h, &h->paths[i], now);
    drain_carrier(h, now);
    for (size_t i = 0; i < wishes.hint_count; i++)
        feed(h, &(struct detector_event){.kind = wishes.hints[i]}, now);
    feed(h, &(struct detector_event){.kind = DETECTOR_EVENT_TICK}, now);
    publish(h, now);
    sleep_until_due(h);
    return true;
}

/* The loop's stack; empty when it can't be told. */
static void stack_of_this_thread(void **base, size_t *size)
{
    pthread_attr_t attr;
    *base = NULL;
    *size = 0;
    if (pthread_getattr_np(pthread_self(), &attr) != 0)
        return;
    pthread_attr_getstack(&attr, base, size);
    pthread_attr_destroy(&attr);
}

static void *run(void *argument)
{
    struct heartbeat *h = argument;
    void *stack;
    size_t stack_size;
    stack_of_this_thread(&stack, &stack_size);
    pthread_setname_np(pthread_self(), "heartbeat");
    if (h->want_realtime)
        h->realtime = privileges_take_realtime() == 0;
    if (h->want_memory_locked && stack_size)
        h->memory_locked = mlock(stack, stack_size) == 0 && mlock(h, sizeof(*h)) == 0;
    h->detector.last_run = h->next_send = clock_now();
    atomic_store(&h->awake_since, h->next_send);
    atomic_store(&h->last_turn, h->next_send);
    bool stop_sent = false;
    while (turn(h, &stop_sent))
        ;
    /* The C library keeps stacks of ended threads for the next one. */
    if (h->want_memory_locked && stack_size)
        munlock(stack, stack_size);
    return NULL;
}

/* ---- Creation and other threads ---------------------------------------------------------- */

static void init_lock(struct heartbeat *h)
{
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&h->lock, &attr);
    pthread_mutexattr_destroy(&attr);
    pthread_cond_init(&h->announced_cond, NULL);
}

static int init_detector(struct heartbeat *h, const struct heartbeat_config *config,
                         struct error *err)
{
    const struct detector_config detector = {
        .path_count = (unsigned)config->path_count,
        .interval = config->interval ? config->interval : DETECTOR_INTERVAL_DEFAULT,
        .multiplier = config->multiplier ? config->multiplier : DETECTOR_MULTIPLIER_DEFAULT,
        .eof_is_suspicion = config->eof_is_suspicion,
        .stall_threshold = config->stall_threshold,
    };
    if (config->path_count < 1 || config->path_count > PACKET_PATH_MAX)
        return error_set(err, -EINVAL, "heartbeat: %zu paths, must be 1 to %d", config->path_count,
                         PACKET_PATH_MAX);
    if (!detector_config_valid(&detector))
        return error_set(err, -EINVAL,
                         "heartbeat: interval must be 1 ms to 60 s and multiplier 1 to %u",
                         DETECTOR_MULTIPLIER_MAX);
    h->interval = detector.interval;
    /* The last beat left up to one interval before the last turn. */
    h->gap_limit = (nsec_t)(detector.multiplier > 1 ? detector.multiplier - 1 : 1) * h->interval;
    h->silence_limit = h->gap_limit;
    detector_init(&h->detector, &detector, clock_now());
    return 0;
}

static int open_paths(struct heartbeat *h, const struct heartbeat_config *config, struct error *err)
{
    for (unsigned i = 0; i < config->path_count; i++) {
        const int rc = path_open(&h->paths[i], i, &config->paths[i], err);
        if (rc < 0)
            return rc;
        h->path_count++;
    }
    h->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (h->wake_fd < 0)
        return error_set(err, -errno, "heartbeat: no eventfd: %s", strerror(errno));
    h->carrier_fd = carrier_open();
    return 0;
}

int heartbeat_create(const struct heartbeat_config *config, const struct heartbeat_ops *ops,
                     void *owner, struct heartbeat **out, struct error *err)
{
    _Static_assert(DETECTOR_PATH_MAX == PACKET_PATH_MAX, "one number of paths");
    *out = NULL;
    struct heartbeat *h = calloc(1, sizeof(*h));
    if (!h)
        return error_set(err, -ENOMEM, "heartbeat: out of memory");
    h->vm = packet_vm_id(config->vm);
    h->instance = random_number();
    h->next_challenge = random_number();
    h->want_realtime = config->realtime;
    h->want_memory_locked = config->lock_memory;
    h->want_last_words = config->last_words;
    h->speaker = config->speaker;
    h->wake_fd = -1;
    h->carrier_fd = -1;
    replay_init(&h->replay, h->instance, random_number());
    init_lock(h);
    int rc = teller_create(ops, owner, &h->teller, err);
    if (rc == 0)
        rc = init_detector(h, config, err);
    if (rc == 0)
        rc = packet_key_derive(&h->key, config->secret, config->secret_size, config->vm, err);
    if (rc == 0)
        rc = open_paths(h, config, err);
    if (rc < 0) {
        heartbeat_destroy(&h);
        return rc;
    }
    publish(h, clock_now());
    *out = h;
    return 0;
}

int heartbeat_start(struct heartbeat *h, struct error *err)
{
    assert(!h->started && h->wishes.local_set);
    const int told = teller_start(h->teller, h->want_realtime ? HEARTBEAT_PRIORITY - 1 : 0, err);
    if (told < 0)
        return told;
    pthread_attr_t attr;
    sigset_t all, before;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, HEARTBEAT_STACK_SIZE);
    /* The process's signals are not for this thread. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int rc = pthread_create(&h->thread, &attr, run, h);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (rc)
        return error_set(err, -rc, "heartbeat: no thread: %s", strerror(rc));
    h->started = true;
    return 0;
}

void heartbeat_destroy(struct heartbeat **heartbeat)
{
    struct heartbeat *h = *heartbeat;
    if (!h)
        return;
    *heartbeat = NULL;
    if (h->started) {
        pthread_mutex_lock(&h->lock);
        h->wishes.quit = true;
        pthread_mutex_unlock(&h->lock);
        wake(h);
        pthread_join(h->thread, NULL);
    }
    teller_destroy(&h->teller);
    for (size_t i = 0; i < h->path_count; i++)
        path_close(&h->paths[i]);
    fd_close(&h->wake_fd);
    fd_close(&h->carrier_fd);
    pthread_cond_destroy(&h->announced_cond);
    pthread_mutex_destroy(&h->lock);
    if (h->memory_locked)
        munlock(h, sizeof(*h));
    OPENSSL_cleanse(&h->key, sizeof(h->key));
    free(h);
}

void heartbeat_set_local(struct heartbeat *h, const struct heartbeat_local *local)
{
    pthread_mutex_lock(&h->lock);
    h->wishes.local = *local;
    h->wishes.local_set = true;
    pthread_mutex_unlock(&h->lock);
}

void heartbeat_set_local_now(struct heartbeat *h, const struct heartbeat_local *local)
{
    pthread_mutex_lock(&h->lock);
    h->wishes.local = *local;
    h->wishes.local_set = true;
    h->wishes.send_now = true;
    pthread_mutex_unlock(&h->lock);
    wake(h);
}

void heartbeat_announce_stop(struct heartbeat *h)
{
    pthread_mutex_lock(&h->lock);
    h->wishes.stopping = true;
    wake(h);
    while (h->started && !h->announced)
        pthread_cond_wait(&h->announced_cond, &h->lock);
    pthread_mutex_unlock(&h->lock);
}

static void hint(struct heartbeat *h, enum detector_event_kind kind)
{
    pthread_mutex_lock(&h->lock);
    struct wishes *w = &h->wishes;
    if (w->hint_count == HINTS_MAX)
        memmove(w->hints, w->hints + 1, (--w->hint_count) * sizeof(w->hints[0]));
    w->hints[w->hint_count++] = kind;
    pthread_mutex_unlock(&h->lock);
    wake(h);
}

void heartbeat_hint_session(struct heartbeat *h)
{
    hint(h, DETECTOR_EVENT_SESSION);
}

void heartbeat_hint_eof(struct heartbeat *h)
{
    hint(h, DETECTOR_EVENT_EOF);
}

void heartbeat_hint_reset(struct heartbeat *h)
{
    hint(h, DETECTOR_EVENT_RESET);
}

void heartbeat_hint_goodbye(struct heartbeat *h)
{
    hint(h, DETECTOR_EVENT_GOODBYE);
}

void heartbeat_hint_exit(struct heartbeat *h)
{
    hint(h, DETECTOR_EVENT_EXIT);
}

void heartbeat_snapshot(struct heartbeat *h, struct heartbeat_status *out)
{
    pthread_mutex_lock(&h->lock);
    *out = h->published;
    pthread_mutex_unlock(&h->lock);
}
