/* The dispatcher: one thread, at most one request, attempts repeated until a trustworthy answer,
 * the deadline or a cancellation. While nothing is asked it hands back what nobody wants and probes
 * the arbiter; a request interrupts both.
 *
 *              request                answer or deadline
 *    IDLE ───────────────► ASKING ─────────────────────────► TELLING ──► IDLE (or ASKING, when the
 *     ▲                      │                               callback asked the next question)
 *     └────── cancel ────────┘
 *
 * A question to an operator whose time is up has *lapsed*: it stays open for an answer, under its
 * number, until it is asked again, or another one is, or it is cancelled.
 *
 * `lock` is a leaf: neither ask() nor the callback runs under it. */
#include "heartbeat/arbiter.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/prompt.h"
#include "heartbeat/arbiter_kind.h"

#define ATTEMPT_TIMEOUT_DEFAULT SEC(5)
#define RETRY_DELAY_DEFAULT     MSEC(200)

static const struct arbiter_kind *const kinds[] = {
    &arbiter_kind_none,
    &arbiter_kind_manual,
    &arbiter_kind_command,
    &arbiter_kind_etcd,
};

struct arbiter {
    /* Set at creation. */
    const struct arbiter_kind *kind;
    void *state;
    nsec_t attempt_timeout;
    nsec_t retry_delay;
    int cancel_fd; /* eventfd, readable from a cancellation until the thread has seen it */
    int wake_fd;   /* eventfd, readable when an errand must end: a request, or quit */
    nsec_t probe_interval;
    char vm[ARBITER_TEXT_MAX];
    void (*reachable)(void *context, bool reachable, const char *text);
    void *reachable_context;
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t wanted;  /* a request, or quit */
    pthread_cond_t settled; /* `telling` or `asking` has ended */
    /* Protected by lock. */
    bool quit;
    bool waiting;   /* `pending` is valid and has no answer yet */
    bool lapsed;    /* the same, and its asker was told so; never both */
    bool asking;    /* the thread is inside an attempt or a pause for `pending` */
    bool telling;   /* the thread is inside a callback */
    uint64_t count; /* requests so far: number of the newest */
    struct arbiter_pending pending;
    nsec_t deadline; /* of the request */
    arbiter_callback callback;
    void *callback_owner;
    uint64_t answered; /* number of the request the operator answered last, and how */
    bool answered_granted;
    bool returning; /* `returned` is to be handed back */
    struct arbiter_pending returned;
    bool errand;      /* the thread is inside a probe or a handing back */
    nsec_t errand_at; /* when the next one is due */
    enum { HEALTH_UNKNOWN, HEALTH_REACHABLE, HEALTH_UNREACHABLE } health;
    char health_text[ERROR_TEXT_MAX];
};

const char *arbiter_purpose_name(enum arbiter_purpose purpose)
{
    static const char *const names[] = {
        [ARBITER_PROMOTE] = "promote",
        [ARBITER_SOLO] = "solo",
        [ARBITER_START] = "start",
        [ARBITER_HANDOVER] = "handover",
    };
    return names[purpose];
}

const char *arbiter_kind_name(const struct arbiter *a)
{
    return a->kind->name;
}

bool arbiter_wait(const struct arbiter_attempt *attempt, int fd)
{
    struct pollfd fds[] = {{.fd = fd, .events = POLLIN},
                           {.fd = attempt->cancel_fd, .events = POLLIN}};
    for (;;) {
        const nsec_t left = attempt->deadline - clock_now();
        const struct timespec timeout = clock_to_timespec(left > 0 ? left : 0);
        const int n = ppoll(fds, ARRAY_SIZE(fds), &timeout, NULL);
        if (n < 0 && errno == EINTR)
            continue;
        return n > 0 && !fds[1].revents && fds[0].revents;
    }
}

/* ---- The thread -------------------------------------------------------------------------- */

/* An answer that can't be trusted is no answer (DESIGN §6, issue "terms and arbiters"). */
static void distrust(const struct arbiter_request *request, struct arbiter_answer *answer)
{
    const bool lying = (answer->result == ARBITER_GRANTED && answer->term != request->next) ||
                       (answer->result == ARBITER_REFUSED && answer->term < request->expected);
    if (!lying)
        return;
    answer->result = ARBITER_UNKNOWN;
    snprintf(answer->text, sizeof(answer->text),
             "the arbiter's answer contradicts the question (term %llu) and is ignored",
             (unsigned long long)answer->term);
}

/* `p` must outlive it. */
static struct arbiter_attempt make_attempt(const struct arbiter *a, const struct arbiter_pending *p,
                                           nsec_t deadline, int cancel_fd)
{
    nsec_t until = a->kind->patient ? INT64_MAX : clock_now() + a->attempt_timeout;
    if (deadline < until)
        until = deadline;
    return (struct arbiter_attempt){
        .number = p->number,
        .request = {.vm = p->vm,
                    .who = p->who,
                    .why = p->why,
                    .purpose = p->purpose,
                    .held = p->held,
                    .expected = p->expected,
                    .next = p->next},
        .deadline = until,
        .cancel_fd = cancel_fd,
    };
}

/* Asks once, for a copy of `pending` taken under the lock. */
static void attempt_once(struct arbiter *a, const struct arbiter_pending *p, nsec_t deadline,
                         struct arbiter_answer *answer)
{
    const struct arbiter_attempt attempt = make_attempt(a, p, deadline, a->cancel_fd);
    *answer = (struct arbiter_answer){.result = ARBITER_UNKNOWN};
    a->kind->ask(a->state, &attempt, answer);
    distrust(&attempt.request, answer);
}

/* Without the lock, on the arbiter's thread. */
static void note_health(struct arbiter *a, bool reachable, const char *text)
{
    if (!a->kind->probe)
        return;
    pthread_mutex_lock(&a->lock);
    const bool news = a->health != (reachable ? HEALTH_REACHABLE : HEALTH_UNREACHABLE);
    a->health = reachable ? HEALTH_REACHABLE : HEALTH_UNREACHABLE;
    snprintf(a->health_text, sizeof(a->health_text), "%s", reachable ? "" : text);
    pthread_mutex_unlock(&a->lock);
    if (news && a->reachable)
        a->reachable(a->reachable_context, reachable, text);
}

static void pause_before_retry(struct arbiter *a, nsec_t deadline)
{
    const nsec_t until = clock_now() + a->retry_delay;
    const struct arbiter_attempt nothing = {
        .deadline = until < deadline ? until : deadline,
        .cancel_fd = a->cancel_fd,
    };
    arbiter_wait(&nothing, -1);
}

/* Repeats until there is something to tell; false when the request was cancelled. Called and
 * returns with the lock held. */
static bool pursue(struct arbiter *a, struct arbiter_answer *answer)
{
    a->asking = true;
    while (a->waiting && !a->quit) {
        const struct arbiter_pending copy = a->pending;
        const nsec_t deadline = a->deadline;
        a->pending.attempts++;
        pthread_mutex_unlock(&a->lock);
        attempt_once(a, &copy, deadline, answer);
        pthread_mutex_lock(&a->lock);
        const bool wanted = a->waiting && !a->quit;
        pthread_mutex_unlock(&a->lock);
        if (wanted)
            note_health(a, answer->result != ARBITER_UNKNOWN, answer->text);
        if (wanted && answer->result == ARBITER_UNKNOWN && clock_now() < deadline)
            pause_before_retry(a, deadline);
        pthread_mutex_lock(&a->lock);
        if (!a->waiting)
            break;
        answer->attempts = a->pending.attempts;
        memcpy(a->pending.last, answer->text, sizeof(a->pending.last));
        if (answer->result != ARBITER_UNKNOWN || clock_now() >= a->deadline)
            break;
    }
    a->asking = false;
    const bool told = a->waiting && !a->quit;
    a->waiting = false;
    /* A hand-over that nobody has allowed in time is given up, and its question with it. */
    a->lapsed = told && answer->result == ARBITER_UNKNOWN && a->kind->answer &&
                a->pending.purpose != ARBITER_HANDOVER;
    return told;
}

static void tell(struct arbiter *a, const struct arbiter_answer *answer)
{
    const arbiter_callback callback = a->callback;
    void *owner = a->callback_owner;
    a->telling = true;
    pthread_mutex_unlock(&a->lock);
    callback(owner, answer);
    pthread_mutex_lock(&a->lock);
    a->telling = false;
}

/* What is done while nothing is asked; returns when the next errand is due. Called and returns with
 * the lock held. */
static void run_errand(struct arbiter *a)
{
    struct arbiter_pending copy = {0};
    const bool returning = a->returning;
    if (returning)
        copy = a->returned;
    else
        memcpy(copy.vm, a->vm, sizeof(copy.vm));
    a->returning = false;
    a->errand = true;
    uint64_t count;
    const ssize_t ignored = read(a->wake_fd, &count, sizeof(count));
    (void)ignored;
    pthread_mutex_unlock(&a->lock);
    struct error err = {0};
    const struct arbiter_attempt attempt = make_attempt(a, &copy, INT64_MAX, a->wake_fd);
    const int rc = returning ? a->kind->give_back(a->state, &attempt, &err)
                             : a->kind->probe(a->state, &attempt, &err);
    if (rc != -ECANCELED)
        note_health(a, rc == 0, rc == 0 ? "answers" : err.text);
    pthread_mutex_lock(&a->lock);
    a->errand = false;
    if (returning && rc < 0 && !a->waiting && !a->returning) {
        a->returning = true;
        a->returned = copy;
    }
    a->errand_at = a->returning        ? clock_now() + a->retry_delay
                   : a->probe_interval ? clock_now() + a->probe_interval
                                       : INT64_MAX;
}

/* Until a request comes, a cancellation or the time of the next errand. Lock held. */
static void idle(struct arbiter *a)
{
    if (a->errand_at == INT64_MAX) {
        pthread_cond_wait(&a->wanted, &a->lock);
        return;
    }
    const struct timespec until = clock_to_timespec(a->errand_at);
    pthread_cond_timedwait(&a->wanted, &a->lock, &until);
}

static void *run(void *argument)
{
    struct arbiter *a = argument;
    struct arbiter_answer answer;
    prompt_thread("arbiter");
    pthread_mutex_lock(&a->lock);
    while (!a->quit) {
        if (!a->waiting) {
            if (clock_now() >= a->errand_at)
                run_errand(a);
            else
                idle(a);
            continue;
        }
        if (pursue(a, &answer))
            tell(a, &answer);
        pthread_cond_broadcast(&a->settled);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

/* ---- Creation ---------------------------------------------------------------------------- */

static const struct arbiter_kind *find_kind(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        if (strcmp(kinds[i]->name, name) == 0)
            return kinds[i];
    return NULL;
}

static int start_thread(struct arbiter *a, struct error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int rc = pthread_create(&a->thread, NULL, run, a);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc)
        return error_set(err, -rc, "arbiter: no thread: %s", strerror(rc));
    return 0;
}

/* Reverse of arbiter_create() without the thread. */
static void release(struct arbiter *a)
{
    if (a->kind->destroy)
        a->kind->destroy(a->state);
    fd_close(&a->cancel_fd);
    fd_close(&a->wake_fd);
    pthread_cond_destroy(&a->settled);
    pthread_cond_destroy(&a->wanted);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

/* All that needs no clean-up but memory. */
static void configure(struct arbiter *a, const struct arbiter_kind *kind,
                      const struct arbiter_config *config)
{
    a->kind = kind;
    a->attempt_timeout = config->attempt_timeout ? config->attempt_timeout
                         : kind->attempt_timeout ? kind->attempt_timeout
                                                 : ATTEMPT_TIMEOUT_DEFAULT;
    a->retry_delay = config->retry_delay ? config->retry_delay : RETRY_DELAY_DEFAULT;
    a->probe_interval = kind->probe && config->vm ? config->probe_interval : 0;
    snprintf(a->vm, sizeof(a->vm), "%s", config->vm ? config->vm : "");
    a->reachable = config->reachable;
    a->reachable_context = config->context;
    a->errand_at = a->probe_interval ? clock_now() : INT64_MAX;
}

int arbiter_create_of_kind(const struct arbiter_kind *kind, const struct arbiter_config *config,
                           struct arbiter **out, struct error *err)
{
    *out = NULL;
    void *state = NULL;
    int rc = kind->create ? kind->create(config, &state, err) : 0;
    if (rc < 0)
        return rc;
    struct arbiter *a = calloc(1, sizeof(*a));
    if (!a)
        abort(); /* at start, a few hundred bytes */
    a->state = state;
    configure(a, kind, config);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->wanted, &monotonic);
    pthread_cond_init(&a->settled, NULL);
    pthread_condattr_destroy(&monotonic);
    a->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    a->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = a->cancel_fd < 0 || a->wake_fd < 0
             ? error_set(err, -errno, "arbiter: no eventfd: %s", strerror(errno))
             : start_thread(a, err);
    if (rc < 0) {
        release(a);
        return rc;
    }
    *out = a;
    return 0;
}

int arbiter_create(const struct arbiter_config *config, struct arbiter **out, struct error *err)
{
    const struct arbiter_kind *kind = find_kind(config->kind);
    *out = NULL;
    if (!kind)
        return error_set(err, -EINVAL,
                         "arbiter \"%.60s\": no such kind (none, manual, command, etcd)",
                         config->kind);
    return arbiter_create_of_kind(kind, config, out, err);
}

/* Gets the thread out of what watches the descriptor. Lock held. */
static void interrupt(int fd)
{
    const uint64_t one = 1;
    const ssize_t ignored = write(fd, &one, sizeof(one));
    (void)ignored;
}

void arbiter_destroy(struct arbiter **arbiter)
{
    struct arbiter *a = *arbiter;
    if (!a)
        return;
    *arbiter = NULL;
    pthread_mutex_lock(&a->lock);
    a->quit = true;
    interrupt(a->cancel_fd);
    interrupt(a->wake_fd);
    pthread_cond_broadcast(&a->wanted);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    release(a);
}

/* ---- Asking ------------------------------------------------------------------------------ */

static bool copy_text(char out[ARBITER_TEXT_MAX], const char *text)
{
    return text && text[0] && snprintf(out, ARBITER_TEXT_MAX, "%s", text) < ARBITER_TEXT_MAX;
}

/* Lock held. */
static bool is_lapsed(const struct arbiter *a, const struct arbiter_pending *p)
{
    const struct arbiter_pending *last = &a->pending;
    return a->lapsed && p->purpose == last->purpose && p->expected == last->expected &&
           p->next == last->next && strcmp(p->vm, last->vm) == 0 && strcmp(p->who, last->who) == 0;
}

int arbiter_request(struct arbiter *a, const struct arbiter_request *request,
                    arbiter_callback callback, void *owner, struct error *err)
{
    struct arbiter_pending p = {
        .purpose = request->purpose,
        .held = request->held,
        .expected = request->expected,
        .next = request->next,
        .since = clock_now(),
        .answerable = a->kind->answer != NULL,
    };
    if (!copy_text(p.vm, request->vm) || !copy_text(p.who, request->who) ||
        !copy_text(p.why, request->why))
        return error_set(err, -EINVAL, "arbiter: vm, who and why must be 1 to %d bytes",
                         ARBITER_TEXT_MAX - 1);
    if (request->next <= request->expected || request->timeout < 0)
        return error_set(err, -EINVAL, "arbiter: term %llu does not follow %llu",
                         (unsigned long long)request->next, (unsigned long long)request->expected);
    pthread_mutex_lock(&a->lock);
    const bool busy = a->waiting || a->asking;
    if (!busy) {
        p.number = is_lapsed(a, &p) ? a->count : ++a->count;
        a->lapsed = false;
        a->pending = p;
        const bool answered = p.number == a->answered;
        a->deadline = request->timeout && !answered ? p.since + request->timeout : INT64_MAX;
        a->callback = callback;
        a->callback_owner = owner;
        a->waiting = true;
        a->returning = false;
        if (a->errand)
            interrupt(a->wake_fd);
        pthread_cond_broadcast(&a->wanted);
    }
    pthread_mutex_unlock(&a->lock);
    return busy ? error_set(err, -EBUSY, "arbiter: a request is pending already") : 0;
}

bool arbiter_cancel(struct arbiter *a)
{
    pthread_mutex_lock(&a->lock);
    const bool had = a->waiting;
    a->waiting = false;
    a->lapsed = false;
    if (!pthread_equal(pthread_self(), a->thread)) {
        if (a->asking)
            interrupt(a->cancel_fd);
        while (a->asking || a->telling)
            pthread_cond_wait(&a->settled, &a->lock);
        uint64_t count;
        const ssize_t ignored = read(a->cancel_fd, &count, sizeof(count));
        (void)ignored;
    }
    pthread_mutex_unlock(&a->lock);
    return had;
}

void arbiter_give_back(struct arbiter *a, const struct arbiter_request *request)
{
    struct arbiter_pending p = {.expected = request->expected, .next = request->next};
    if (!a->kind->give_back || !copy_text(p.vm, request->vm) || !copy_text(p.who, request->who))
        return;
    pthread_mutex_lock(&a->lock);
    a->returning = true;
    a->returned = p;
    a->errand_at = 0;
    pthread_cond_broadcast(&a->wanted);
    pthread_mutex_unlock(&a->lock);
}

bool arbiter_remembers(const struct arbiter *a)
{
    return a->kind->give_back != NULL;
}

bool arbiter_reachable(struct arbiter *a, char text[ERROR_TEXT_MAX])
{
    pthread_mutex_lock(&a->lock);
    const bool reachable = a->health != HEALTH_UNREACHABLE;
    memcpy(text, a->health_text, ERROR_TEXT_MAX);
    pthread_mutex_unlock(&a->lock);
    return reachable;
}

bool arbiter_pending(struct arbiter *a, struct arbiter_pending *out)
{
    pthread_mutex_lock(&a->lock);
    const bool pending = a->waiting || a->lapsed;
    if (pending)
        *out = a->pending;
    pthread_mutex_unlock(&a->lock);
    return pending;
}

/* ---- The operator's answer --------------------------------------------------------------- */

/* Decides under the lock whether the answer may be passed on; 1: yes, 0: it was before. */
static int accept_answer(struct arbiter *a, uint64_t *number, bool granted, struct error *err)
{
    const bool open = a->waiting || a->lapsed;
    if (!*number && open)
        *number = a->pending.number;
    if (*number && *number == a->answered) {
        if (granted == a->answered_granted)
            return 0;
        return error_set(err, -EALREADY, "request %llu was %s before", (unsigned long long)*number,
                         a->answered_granted ? "granted" : "denied");
    }
    if (!open)
        return error_set(err, -ENOENT, "no request is pending");
    if (*number != a->pending.number)
        return error_set(err, -ENOENT, "request %llu is not pending; request %llu is",
                         (unsigned long long)*number, (unsigned long long)a->pending.number);
    a->answered = *number;
    a->answered_granted = granted;
    /* The operator is told that it counts, so it does, also when the attempt under way has just
     * run out of time: the next one finds it. */
    a->deadline = INT64_MAX;
    return 1;
}

int arbiter_answer(struct arbiter *a, uint64_t number, bool granted, struct error *err)
{
    if (!a->kind->answer)
        return error_set(err, -ENOTSUP, "arbiter \"%s\" takes no answers from an operator",
                         a->kind->name);
    pthread_mutex_lock(&a->lock);
    const int rc = accept_answer(a, &number, granted, err);
    pthread_mutex_unlock(&a->lock);
    if (rc <= 0)
        return rc;
    a->kind->answer(a->state, number, granted);
    return 0;
}
