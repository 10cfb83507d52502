/* An operator is the arbiter: `kemarictl grant` says that the other host does not and will not run
 * the guest, `kemarictl deny` that it does. The request waits as long as that takes.
 *
 * An answer is kept with the number of the request it belongs to, so one that comes too late can't
 * be taken for the answer to the next question. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fd.h"
#include "heartbeat/arbiter_kind.h"

struct manual {
    int answered_fd; /* readable when an answer was given */
    pthread_mutex_t lock;
    /* Protected by lock. */
    uint64_t number; /* of the request answered last, 0 = none */
    bool granted;
};

static int manual_create(const struct arbiter_config *config, void **state, struct error *err)
{
    (void)config;
    struct manual *m = calloc(1, sizeof(*m));
    if (!m)
        return error_set(err, -ENOMEM, "arbiter: out of memory");
    m->answered_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (m->answered_fd < 0) {
        free(m);
        return error_set(err, -errno, "arbiter: no eventfd: %s", strerror(errno));
    }
    pthread_mutex_init(&m->lock, NULL);
    *state = m;
    return 0;
}

static void manual_destroy(void *state)
{
    struct manual *m = state;
    fd_close(&m->answered_fd);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

static void manual_answer(void *state, uint64_t number, bool granted)
{
    struct manual *m = state;
    const uint64_t one = 1;
    pthread_mutex_lock(&m->lock);
    m->number = number;
    m->granted = granted;
    pthread_mutex_unlock(&m->lock);
    const ssize_t ignored = write(m->answered_fd, &one, sizeof(one));
    (void)ignored;
}

/* True when `number` was answered; `granted` says how. */
static bool look_up(struct manual *m, uint64_t number, bool *granted)
{
    pthread_mutex_lock(&m->lock);
    const bool answered = m->number == number;
    *granted = m->granted;
    pthread_mutex_unlock(&m->lock);
    return answered;
}

static void manual_ask(void *state, const struct arbiter_attempt *attempt,
                       struct arbiter_answer *answer)
{
    struct manual *m = state;
    bool granted;
    snprintf(answer->text, sizeof(answer->text), "no operator has answered");
    while (!look_up(m, attempt->number, &granted)) {
        if (!arbiter_wait(attempt, m->answered_fd))
            return;
        uint64_t count;
        const ssize_t ignored = read(m->answered_fd, &count, sizeof(count));
        (void)ignored;
    }
    answer->result = granted ? ARBITER_GRANTED : ARBITER_REFUSED;
    answer->term = granted ? attempt->request.next : attempt->request.expected;
    snprintf(answer->text, sizeof(answer->text), "%s by the operator",
             granted ? "granted" : "denied");
}

const struct arbiter_kind arbiter_kind_manual = {
    .name = "manual",
    .create = manual_create,
    .ask = manual_ask,
    .answer = manual_answer,
    .patient = true,
    .destroy = manual_destroy,
};
