/* Claims: what becomes of an arbiter's answer, and of a question that is taken back. The arbiter is
 * of a kind of our own, which answers or is silent as the test says, and notes what it is handed
 * back. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "heartbeat/arbiter_kind.h"
#include "heartbeat/claim.h"
#include "test/support/runner.h"

#define PATIENCE_S 30

struct court {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool silent; /* set before the question */
    unsigned questions;
    unsigned returns;
    term_t returned_expected;
    term_t returned_next;
    unsigned answers; /* heard by the claim's owner */
    uint64_t number;
    enum arbiter_result result;
    term_t term;
};

static struct court court = {.lock = PTHREAD_MUTEX_INITIALIZER,
                             .changed = PTHREAD_COND_INITIALIZER};

static void court_note(unsigned *counter)
{
    (*counter)++;
    pthread_cond_broadcast(&court.changed);
    pthread_mutex_unlock(&court.lock);
}

static void court_ask(void *state, const struct arbiter_attempt *attempt,
                      struct arbiter_answer *answer)
{
    (void)state;
    pthread_mutex_lock(&court.lock);
    const bool silent = court.silent;
    court_note(&court.questions);
    if (silent) {
        arbiter_wait(attempt, -1);
        return;
    }
    answer->result = ARBITER_GRANTED;
    answer->term = attempt->request.next;
}

static int court_give_back(void *state, const struct arbiter_attempt *attempt, struct error *err)
{
    (void)state;
    (void)err;
    pthread_mutex_lock(&court.lock);
    court.returned_expected = attempt->request.expected;
    court.returned_next = attempt->request.next;
    court_note(&court.returns);
    return 0;
}

static const struct arbiter_kind court_kind = {
    .name = "court", .ask = court_ask, .give_back = court_give_back};

static void note_answer(void *context, uint64_t number, enum arbiter_result result, term_t term,
                        const char *text)
{
    (void)context;
    (void)text;
    pthread_mutex_lock(&court.lock);
    court.number = number;
    court.result = result;
    court.term = term;
    court_note(&court.answers);
}

static void wait_for(const unsigned *counter, unsigned value)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    int rc = 0;
    pthread_mutex_lock(&court.lock);
    while (*counter < value && rc == 0)
        rc = pthread_cond_timedwait(&court.changed, &court.lock, &until);
    CU_ASSERT(*counter >= value);
    pthread_mutex_unlock(&court.lock);
}

struct scene {
    char directory[32];
    struct term_store *terms;
    struct arbiter *arbiter;
    struct claim *claim;
};

static void scene_begin(struct scene *s, bool silent)
{
    court.silent = silent;
    court.questions = court.returns = court.answers = 0;
    strcpy(s->directory, "/tmp/kemari-claim-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(s->directory));
    CU_ASSERT_EQUAL_FATAL(term_store_open(s->directory, "redis", &s->terms, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(term_store_advance(s->terms, 4, TERM_STANDBY, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(
        arbiter_create_of_kind(&court_kind, &(struct arbiter_config){0}, &s->arbiter, NULL), 0);
    const struct claim_config config = {.vm = "redis",
                                        .who = "host-b/1f",
                                        .purpose = ARBITER_PROMOTE,
                                        .arbiter = s->arbiter,
                                        .terms = s->terms,
                                        .answered = note_answer};
    CU_ASSERT_EQUAL_FATAL(claim_create(&config, &s->claim, NULL), 0);
}

static void scene_end(struct scene *s)
{
    claim_destroy(&s->claim);
    arbiter_destroy(&s->arbiter);
    term_store_close(&s->terms);
    char path[64];
    snprintf(path, sizeof(path), "%s/redis.term", s->directory);
    unlink(path);
    snprintf(path, sizeof(path), "%s/redis.lock", s->directory);
    unlink(path);
    CU_ASSERT_EQUAL(rmdir(s->directory), 0);
}

static enum claim_outcome settle(struct scene *s)
{
    struct error err = {0};
    return claim_settle(s->claim, court.number, court.result, court.term, "", &err);
}

static void a_grant_is_on_disk_when_it_counts(void)
{
    struct scene s;
    scene_begin(&s, false);
    CU_ASSERT_EQUAL(claim_ask(s.claim, 4, "test", NULL), 0);
    wait_for(&court.answers, 1);
    CU_ASSERT_EQUAL(term_store_current(s.terms).term, 4);
    CU_ASSERT_EQUAL(settle(&s), CLAIM_GRANTED);
    CU_ASSERT_EQUAL(term_store_current(s.terms).term, 5);
    CU_ASSERT_EQUAL(term_store_current(s.terms).ownership, TERM_OWNER);
    CU_ASSERT_EQUAL(settle(&s), CLAIM_STALE);
    scene_end(&s);
    CU_ASSERT_EQUAL(court.returns, 0);
}

static void a_question_taken_back_hands_back_what_it_may_have_been_granted(void)
{
    struct scene s;
    scene_begin(&s, true);
    CU_ASSERT_EQUAL(claim_ask(s.claim, 4, "test", NULL), 0);
    wait_for(&court.questions, 1);
    claim_cancel(s.claim);
    wait_for(&court.returns, 1);
    CU_ASSERT_EQUAL(court.returned_expected, 4);
    CU_ASSERT_EQUAL(court.returned_next, 5);
    CU_ASSERT_EQUAL(court.answers, 0);
    scene_end(&s);
}

static void a_grant_not_yet_settled_is_handed_back_too(void)
{
    struct scene s;
    scene_begin(&s, false);
    CU_ASSERT_EQUAL(claim_ask(s.claim, 4, "test", NULL), 0);
    wait_for(&court.answers, 1);
    claim_cancel(s.claim);
    wait_for(&court.returns, 1);
    CU_ASSERT_EQUAL(settle(&s), CLAIM_STALE);
    CU_ASSERT_EQUAL(term_store_current(s.terms).term, 4);
    scene_end(&s);
}

static const struct test_case cases[] = {
    {"a grant is on disk when it counts", a_grant_is_on_disk_when_it_counts},
    {"a question taken back hands back what it may have been granted",
     a_question_taken_back_hands_back_what_it_may_have_been_granted},
    {"a grant not yet settled is handed back too", a_grant_not_yet_settled_is_handed_back_too},
};

int main(int argc, char **argv)
{
    return test_run(argc, argv, "claim", cases, ARRAY_SIZE(cases));
}
