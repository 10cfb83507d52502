/* Arbiters through the one interface: who is told what, when, and how often. Waits are for
 * conditions; deadlines are generous and only end a test that has failed. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "heartbeat/arbiter.h"
#include "heartbeat/arbiter_kind.h"
#include "test/support/arbiter_listener.h"
#include "test/support/runner.h"

#define PATIENCE_S 30

static struct arbiter *create(const char *kind)
{
    struct arbiter *a;
    CU_ASSERT_EQUAL_FATAL(
        arbiter_create(&(struct arbiter_config){.kind = kind, .retry_delay = MSEC(1)}, &a, NULL),
        0);
    return a;
}

static const struct arbiter_request promote = {
    .vm = "redis",
    .who = "host-b/1f",
    .purpose = ARBITER_PROMOTE,
    .expected = 4,
    .next = 5,
    .why = "silent on every path",
};

static int ask(struct arbiter *a, struct listener *l)
{
    return arbiter_request(a, &promote, listen_to, l, NULL);
}

static void none_grants_at_once_on_its_own_thread(void)
{
    struct listener l = LISTENER_INIT;
    struct arbiter *a = create("none");
    CU_ASSERT_STRING_EQUAL(arbiter_kind_name(a), "none");
    CU_ASSERT_EQUAL(ask(a, &l), 0);
    CU_ASSERT_EQUAL(wait_for(&l, 1), 1);
    CU_ASSERT_EQUAL(l.last.result, ARBITER_GRANTED);
    CU_ASSERT_EQUAL(l.last.term, 5);
    CU_ASSERT_FALSE(pthread_equal(l.thread, pthread_self()));
    CU_ASSERT_EQUAL(arbiter_answer(a, 0, true, NULL), -ENOTSUP);
    arbiter_destroy(&a);
    CU_ASSERT_PTR_NULL(a);
    CU_ASSERT_EQUAL(l.count, 1);
}

static void unknown_kinds_are_refused_by_name(void)
{
    struct arbiter *a;
    struct error err = {0};
    CU_ASSERT_EQUAL(arbiter_create(&(struct arbiter_config){.kind = "zookeeper"}, &a, &err),
                    -EINVAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "zookeeper"));
}

static void malformed_requests_are_refused(void)
{
    struct listener l = LISTENER_INIT;
    struct arbiter *a = create("none");
    struct arbiter_request r = promote;
    char overlong[ARBITER_TEXT_MAX + 1];
    memset(overlong, 'x', sizeof(overlong));
    overlong[ARBITER_TEXT_MAX] = '\0';
    r.next = r.expected;
    CU_ASSERT_EQUAL(arbiter_request(a, &r, listen_to, &l, NULL), -EINVAL);
    r = promote;
    r.who = NULL;
    CU_ASSERT_EQUAL(arbiter_request(a, &r, listen_to, &l, NULL), -EINVAL);
    r.who = "";
    CU_ASSERT_EQUAL(arbiter_request(a, &r, listen_to, &l, NULL), -EINVAL);
    r.who = overlong;
    CU_ASSERT_EQUAL(arbiter_request(a, &r, listen_to, &l, NULL), -EINVAL);
    arbiter_destroy(&a);
    CU_ASSERT_EQUAL(l.count, 0);
}

static void a_manual_request_is_visible_and_waits_for_the_operator(void)
{
    struct listener l = LISTENER_INIT;
    struct arbiter *a = create("manual");
    struct arbiter_pending p;
    CU_ASSERT_FALSE(arbiter_pending(a, &p));
    CU_ASSERT_EQUAL(ask(a, &l), 0);
    CU_ASSERT_TRUE(arbiter_pending(a, &p));
    CU_ASSERT_EQUAL(p.number, 1);
    CU_ASSERT_STRING_EQUAL(p.vm, "redis");
    CU_ASSERT_STRING_EQUAL(p.who, "host-b/1f");
    CU_ASSERT_STRING_EQUAL(p.why, "silent on every path");
    CU_ASSERT_STRING_EQUAL(arbiter_purpose_name(p.purpose), "promote");
    CU_ASSERT_EQUAL(p.expected, 4);
    CU_ASSERT_EQUAL(p.next, 5);
    CU_ASSERT_TRUE(p.answerable);
    CU_ASSERT_EQUAL(ask(a, &l), -EBUSY);
    CU_ASSERT_EQUAL(arbiter_answer(a, 0, true, NULL), 0);
    CU_ASSERT_EQUAL(wait_for(&l, 1), 1);
    CU_ASSERT_EQUAL(l.last.result, ARBITER_GRANTED);
    CU_ASSERT_EQUAL(l.last.term, 5);
    CU_ASSERT_FALSE(arbiter_pending(a, &p));
    arbiter_destroy(&a);
}

static void a_denial_names_the_term_that_still_holds(void)
{
    struct listener l = LISTENER_INIT;
    struct arbiter *a = create("manual");
    CU_ASSERT_EQUAL(ask(a, &l), 0);
    CU_ASSERT_EQUAL(arbiter_answer(a, 1, false, NULL), 0);
    CU_ASSERT_EQUAL(wait_for(&l, 1), 1);
    CU_ASSERT_EQUAL(l.last.result, ARBITER_REFUSED);
    CU_ASSERT_EQUAL(l.last.term, 4);
    arbiter_destroy(&a);
}

static void an_answer_counts_for_its_request_only(void)
{
    struct listener l = LISTENER_INIT;
    struct arbiter *a = create("manual");
    struct error err = {0};
    CU_ASSERT_EQUAL(arbiter_answer(a, 0, true, &err), -ENOENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "no request is pending"));
    CU_ASSERT_EQUAL(ask(a, &l), 0);
    CU_ASSERT_EQUAL(arbiter_answer(a, 7, true, &err), -ENOENT);
    CU_ASSERT_EQUAL(arbiter_answer(a, 1, true, NULL), 0);
    CU_ASSERT_EQUAL(wait_for(&l, 1), 1);
    /* The operator's tool did not see our reply and repeats itself. */
    CU_ASSERT_EQUAL(arbiter_answer(a, 1, true, NULL), 0);
    CU_ASSERT_EQUAL(arbiter_answer(a, 1, false, &err), -EALREADY);
    /* None of this answers the next request. */
    CU_ASSERT_EQUAL(ask(a, &l), 0);
    CU_ASSERT_EQUAL(arbiter_answer(a, 1, true, NULL), 0);
    struct arbiter_pending p;
    CU_ASSERT_TRUE(arbiter_pending(a, &p));
    CU_ASSERT_EQUAL(p.number, 2);
    CU_ASSERT_EQUAL(arbiter_answer(a, 2, false, NULL), 0);
    CU_ASSERT_EQUAL(wait_for(&l, 2), 2);
    CU_ASSERT_EQUAL(l.last.result, ARBITER_REFUSED);
    arbiter_destroy(&a);
}

static void a_request_taken_back_is_never_answered(void)
{
    struct listener l = LISTENER_INIT;
    struct arbiter *a = create("manual");
    CU_ASSERT_FALSE(arbiter_cancel(a));
    CU_ASSERT_EQUAL(ask(a, &l), 0);
    CU_ASSERT_TRUE(arbiter_cancel(a));
    struct arbiter_pending p;
    CU_ASSERT_FALSE(arbiter_pending(a, &p));
    CU_ASSERT_EQUAL(arbiter_answer(a, 1, true, NULL), -ENOENT);
    /* The same question again is a new one. */
    CU_ASSERT_EQUAL(ask(a, &l), 0);
    CU_ASSERT_TRUE(arbiter_pending(a, &p));
    CU_ASSERT_EQUAL(p.number, 2);
    CU_ASSERT_EQUAL(arbiter_answer(a, 2, true, NULL), 0);
    CU_ASSERT_EQUAL(wait_for(&l, 1), 1);
    arbiter_destroy(&a);
    CU_ASSERT_EQUAL(l.count, 1);
}

static void a_request_without_an_answer_in_time_is_unknown(void)
{
    struct listener l = LISTENER_INIT;
    struct arbiter *a = create("manual");
    struct arbiter_request r = promote;
    r.timeout = MSEC(5);
    CU_ASSERT_EQUAL(arbiter_request(a, &r, listen_to, &l, NULL), 0);
    CU_ASSERT_EQUAL(wait_for(&l, 1), 1);
    CU_ASSERT_EQUAL(l.last.result, ARBITER_UNKNOWN);
    CU_ASSERT(l.last.text[0] != '\0');
    arbiter_destroy(&a);
}

/* An operator who answers after the attempt looked for the last time, and before it is told that
 * nobody did. */
struct late {
    struct arbiter *arbiter;
    uint64_t number; /* of the request that was answered */
    unsigned attempts;
};

static struct late late;

static void late_answer(void *state, uint64_t number, bool granted)
{
    (void)state;
    CU_ASSERT_TRUE(granted);
    late.number = number;
}

static void late_ask(void *state, const struct arbiter_attempt *attempt,
                     struct arbiter_answer *answer)
{
    (void)state;
    late.attempts++;
    if (late.number == attempt->number) {
        answer->result = ARBITER_GRANTED;
        answer->term = attempt->request.next;
        return;
    }
    CU_ASSERT_FALSE(arbiter_wait(attempt, -1));
    CU_ASSERT_EQUAL(arbiter_answer(late.arbiter, attempt->number, true, NULL), 0);
}

static void an_answer_that_was_accepted_counts_when_time_is_up(void)
{
    static const struct arbiter_kind kind = {
        .name = "late", .ask = late_ask, .answer = late_answer, .patient = true};
    const struct arbiter_config config = {.retry_delay = MSEC(1)};
    struct listener l = LISTENER_INIT;
    struct arbiter_request r = promote;
    late = (struct late){0};
    r.timeout = MSEC(5);
    CU_ASSERT_EQUAL_FATAL(arbiter_create_of_kind(&kind, &config, &late.arbiter, NULL), 0);
    CU_ASSERT_EQUAL(arbiter_request(late.arbiter, &r, listen_to, &l, NULL), 0);
    CU_ASSERT_EQUAL(wait_for(&l, 1), 1);
    CU_ASSERT_EQUAL(l.last.result, ARBITER_GRANTED);
    CU_ASSERT_EQUAL(l.last.term, 5);
    arbiter_destroy(&late.arbiter);
    CU_ASSERT_EQUAL(late.attempts, 2);
    CU_ASSERT_EQUAL(l.count, 1);
}

/* The next answer that `l` hears. */
static enum arbiter_result answer_to(struct arbiter *a, const struct arbiter_request *request,
                                     struct listener *l)
{
    const unsigned next = l->count + 1;
    CU_ASSERT_EQUAL(arbiter_request(a, request, listen_to, l, NULL), 0);
    CU_ASSERT_EQUAL(wait_for(l, next), next);
    return l->last.result;
}

/* What an operator is asked must not be withdrawn for a moment, again and again. */
static void a_question_to_an_operator_stays_open_between_its_attempts(void)
{
    struct listener l = LISTENER_INIT;
    struct arbiter *a = create("manual");
    struct arbiter_request r = promote;
    struct arbiter_pending p;
    r.timeout = MSEC(5);
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(answer_to(a, &r, &l), ARBITER_UNKNOWN);
        CU_ASSERT_TRUE_FATAL(arbiter_pending(a, &p));
        CU_ASSERT_EQUAL(p.number, 1);
    }
    CU_ASSERT_EQUAL(arbiter_answer(a, 1, true, NULL), 0);
    CU_ASSERT_EQUAL(answer_to(a, &r, &l), ARBITER_GRANTED);
    CU_ASSERT_FALSE(arbiter_pending(a, &p));
    arbiter_destroy(&a);
}

static void a_question_about_a_hand_over_ends_with_its_time(void)
{
    struct listener l = LISTENER_INIT;
    struct arbiter *a = create("manual");
    struct arbiter_request r = promote;
    struct arbiter_pending p;
    r.purpose = ARBITER_HANDOVER;
    r.timeout = MSEC(5);
    CU_ASSERT_EQUAL(answer_to(a, &r, &l), ARBITER_UNKNOWN);
    CU_ASSERT_FALSE(arbiter_pending(a, &p));
    CU_ASSERT_EQUAL(arbiter_answer(a, 0, true, NULL), -ENOENT);
    arbiter_destroy(&a);
}

static void an_answer_to_a_question_that_is_over_is_not_one_to_the_next(void)
{
    struct listener l = LISTENER_INIT;
    struct arbiter *a = create("manual");
    struct arbiter_request r = promote;
    struct arbiter_pending p;
    r.timeout = MSEC(5);
    CU_ASSERT_EQUAL(answer_to(a, &r, &l), ARBITER_UNKNOWN);
    CU_ASSERT_EQUAL(arbiter_answer(a, 1, true, NULL), 0);
    r.next = 6;
    CU_ASSERT_EQUAL(answer_to(a, &r, &l), ARBITER_UNKNOWN);
    CU_ASSERT_TRUE(arbiter_pending(a, &p));
    CU_ASSERT_EQUAL(p.number, 2);
    CU_ASSERT_EQUAL(arbiter_answer(a, 2, true, NULL), 0);
    CU_ASSERT_FALSE(arbiter_cancel(a));
    CU_ASSERT_FALSE(arbiter_pending(a, &p));
    CU_ASSERT_EQUAL(answer_to(a, &r, &l), ARBITER_UNKNOWN);
    arbiter_destroy(&a);
}

static void destroying_an_arbiter_that_waits_ends_at_once_and_tells_nobody(void)
{
    struct listener l = LISTENER_INIT;
    struct arbiter *a = create("manual");
    CU_ASSERT_EQUAL(ask(a, &l), 0);
    arbiter_destroy(&a);
    arbiter_destroy(&a);
    CU_ASSERT_EQUAL(l.count, 0);
}

static void requests_and_cancels_in_any_order_lose_nothing(void)
{
    struct listener l = LISTENER_INIT;
    struct arbiter *a = create("manual");
    unsigned expected = 0;
    for (uint64_t i = 1; i <= 2000; i++) {
        CU_ASSERT_EQUAL_FATAL(ask(a, &l), 0);
        if (i % 3 == 0) {
            CU_ASSERT_EQUAL(arbiter_answer(a, i, true, NULL), 0);
            if (i % 2 == 0) {
                /* Races with the answer: either it came, or it was taken back. */
                if (!arbiter_cancel(a))
                    expected++;
            } else {
                expected++;
                CU_ASSERT_EQUAL_FATAL(wait_for(&l, expected), expected);
            }
        } else {
            CU_ASSERT_TRUE(arbiter_cancel(a));
        }
        CU_ASSERT_EQUAL(l.count, expected);
    }
    arbiter_destroy(&a);
    CU_ASSERT_EQUAL(l.count, expected);
}

/* Asks the next question from inside the callback, until term 10. */
struct chain {
    struct listener listener;
    struct arbiter *arbiter;
};

static void ask_next(void *owner, const struct arbiter_answer *answer)
{
    struct chain *c = owner;
    struct arbiter_request r = promote;
    r.expected = answer->term;
    r.next = answer->term + 1;
    if (answer->term < 10)
        CU_ASSERT_EQUAL(arbiter_request(c->arbiter, &r, ask_next, c, NULL), 0);
    listen_to(&c->listener, answer);
}

static void a_callback_may_ask_the_next_question(void)
{
    struct chain c = {.listener = LISTENER_INIT, .arbiter = create("none")};
    CU_ASSERT_EQUAL(arbiter_request(c.arbiter, &promote, ask_next, &c, NULL), 0);
    CU_ASSERT_EQUAL(wait_for(&c.listener, 6), 6);
    arbiter_destroy(&c.arbiter);
    CU_ASSERT_EQUAL(c.listener.last.term, 10);
}

/* A callback that takes its time. */
struct slow {
    struct listener listener; /* `count` tells that the callback has begun */
    atomic_bool done;
};

static void listen_slowly(void *owner, const struct arbiter_answer *answer)
{
    struct slow *s = owner;
    listen_to(&s->listener, answer);
    const nsec_t until = clock_now() + MSEC(20);
    while (clock_now() < until)
        sched_yield();
    atomic_store(&s->done, true);
}

static void cancelling_waits_for_a_callback_that_runs(void)
{
    struct slow s = {.listener = LISTENER_INIT};
    struct arbiter *a = create("none");
    CU_ASSERT_EQUAL(arbiter_request(a, &promote, listen_slowly, &s, NULL), 0);
    CU_ASSERT_EQUAL(wait_for(&s.listener, 1), 1);
    CU_ASSERT_FALSE(arbiter_cancel(a));
    CU_ASSERT_TRUE(atomic_load(&s.done));
    arbiter_destroy(&a);
}

/* ---- An arbiter that lies and flaps ------------------------------------------------------ */

static const struct arbiter_answer script[] = {
    {.result = ARBITER_GRANTED, .term = 0},  /* garbage */
    {.result = ARBITER_GRANTED, .term = 4},  /* what nobody asked for */
    {.result = ARBITER_REFUSED, .term = 3},  /* a term that is over: it went backwards */
    {.result = ARBITER_UNKNOWN},             /* unreachable */
    {.result = ARBITER_GRANTED, .term = 50}, /* somebody else's grant */
    {.result = ARBITER_REFUSED, .term = 9},  /* at last: somebody won */
};
static unsigned script_line;

static void scripted_ask(void *state, const struct arbiter_attempt *attempt,
                         struct arbiter_answer *answer)
{
    (void)state;
    (void)attempt;
    *answer = script[script_line++ % ARRAY_SIZE(script)];
}

static void answers_that_can_not_be_trusted_are_no_answers(void)
{
    static const struct arbiter_kind scripted = {.name = "scripted", .ask = scripted_ask};
    const struct arbiter_config config = {.retry_delay = USEC(100)};
    struct listener l = LISTENER_INIT;
    struct arbiter *a;
    script_line = 0;
    CU_ASSERT_EQUAL_FATAL(arbiter_create_of_kind(&scripted, &config, &a, NULL), 0);
    CU_ASSERT_EQUAL(ask(a, &l), 0);
    CU_ASSERT_EQUAL(wait_for(&l, 1), 1);
    CU_ASSERT_EQUAL(l.last.result, ARBITER_REFUSED);
    CU_ASSERT_EQUAL(l.last.term, 9);
    CU_ASSERT_EQUAL(l.last.attempts, ARRAY_SIZE(script));
    arbiter_destroy(&a);
    CU_ASSERT_EQUAL(l.count, 1);
}

/* ---- Kind command ------------------------------------------------------------------------ */

/* A fence agent for a test: a shell script in a directory of its own. */
struct agent {
    char directory[64];
    char script[96];
    char output[96]; /* what the script may write; $1 */
    const char *argv[3];
};

static struct agent agent_of(const char *body)
{
    struct agent g = {.directory = "/tmp/kemari-agent-XXXXXX"};
    char text[1024];
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(g.directory));
    snprintf(g.script, sizeof(g.script), "%s/agent", g.directory);
    snprintf(g.output, sizeof(g.output), "%s/output", g.directory);
    const int size = snprintf(text, sizeof(text), "#!/bin/sh\n%s\n", body);
    CU_ASSERT_EQUAL_FATAL(fd_replace_file(g.script, text, (size_t)size), 0);
    CU_ASSERT_EQUAL_FATAL(chmod(g.script, 0700), 0);
    return g;
}

static struct arbiter *create_command(struct agent *g, nsec_t attempt_timeout)
{
    struct arbiter *a;
    g->argv[0] = g->script;
    g->argv[1] = g->output;
    g->argv[2] = NULL;
    const struct arbiter_config config = {.kind = "command",
                                          .command = g->argv,
                                          .attempt_timeout = attempt_timeout,
                                          .retry_delay = MSEC(1)};
    CU_ASSERT_EQUAL_FATAL(arbiter_create(&config, &a, NULL), 0);
    return a;
}

static void agent_remove(struct agent *g)
{
    unlink(g->script);
    unlink(g->output);
    CU_ASSERT_EQUAL(rmdir(g->directory), 0);
}

static void a_command_that_succeeds_grants_and_was_told_everything(void)
{
    struct listener l = LISTENER_INIT;
    struct agent g = agent_of("echo \"$KEMARI_VM,$KEMARI_WHO,$KEMARI_PURPOSE,$KEMARI_TERM,"
                              "$KEMARI_NEXT_TERM,$KEMARI_WHY,$KEMARI_STALE\" > \"$1\"");
    setenv("KEMARI_STALE", "from the daemon's own environment", 1);
    struct arbiter *a = create_command(&g, SEC(PATIENCE_S));
    CU_ASSERT_EQUAL(ask(a, &l), 0);
    CU_ASSERT_EQUAL(wait_for(&l, 1), 1);
    unsetenv("KEMARI_STALE");
    CU_ASSERT_EQUAL(l.last.result, ARBITER_GRANTED);
    CU_ASSERT_EQUAL(l.last.term, 5);
    CU_ASSERT_EQUAL(l.last.attempts, 1);
    char line[256] = "";
    FILE *f = fopen(g.output, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT_PTR_NOT_NULL(fgets(line, sizeof(line), f));
    fclose(f);
    CU_ASSERT_STRING_EQUAL(line, "redis,host-b/1f,promote,4,5,silent on every path,\n");
    arbiter_destroy(&a);
    agent_remove(&g);
}

static void a_command_that_exits_with_10_refuses(void)
{
    struct listener l = LISTENER_INIT;
    struct agent g = agent_of("exit 10");
    struct arbiter *a = create_command(&g, SEC(PATIENCE_S));
    CU_ASSERT_EQUAL(ask(a, &l), 0);
    CU_ASSERT_EQUAL(wait_for(&l, 1), 1);
    CU_ASSERT_EQUAL(l.last.result, ARBITER_REFUSED);
    CU_ASSERT_EQUAL(l.last.term, 4);
    arbiter_destroy(&a);
    agent_remove(&g);
}

static void a_command_that_fails_is_run_again_until_it_answers(void)
{
    /* Fails by status, then by signal, then grants: counts its runs in the output file. */
    struct listener l = LISTENER_INIT;
    struct agent g = agent_of("echo >> \"$1\"; case $(wc -l < \"$1\") in 1) exit 1;; "
                              "2) kill -9 $$;; *) exit 0;; esac");
    struct arbiter *a = create_command(&g, SEC(PATIENCE_S));
    CU_ASSERT_EQUAL(ask(a, &l), 0);
    CU_ASSERT_EQUAL(wait_for(&l, 1), 1);
    CU_ASSERT_EQUAL(l.last.result, ARBITER_GRANTED);
    CU_ASSERT_EQUAL(l.last.attempts, 3);
    arbiter_destroy(&a);
    agent_remove(&g);
}

static void a_command_that_hangs_is_killed_with_its_children(void)
{
    struct listener l = LISTENER_INIT;
    struct agent g = agent_of("sleep 1000 & echo $! > \"$1.new\"; mv \"$1.new\" \"$1\"; wait");
    struct arbiter *a = create_command(&g, SEC(1000));
    CU_ASSERT_EQUAL(ask(a, &l), 0);
    /* Until the script has told its child's number. */
    long child = 0;
    const nsec_t deadline = clock_now() + SEC(PATIENCE_S);
    while (!child && clock_now() < deadline) {
        FILE *f = fopen(g.output, "r");
        if (f && fscanf(f, "%ld", &child) != 1)
            child = 0;
        if (f)
            fclose(f);
        sched_yield();
    }
    CU_ASSERT_FATAL(child > 0);
    CU_ASSERT_TRUE(arbiter_cancel(a)); /* returns long before 1000 s */
    char stat_path[64], state = 'R';
    snprintf(stat_path, sizeof(stat_path), "/proc/%ld/stat", child);
    while (state != 'Z' && clock_now() < deadline) { /* gone, or a zombie that init will reap */
        FILE *f = fopen(stat_path, "r");
        if (!f || fscanf(f, "%*d %*s %c", &state) != 1)
            state = 'Z';
        if (f)
            fclose(f);
        sched_yield();
    }
    CU_ASSERT_EQUAL(state, 'Z');
    CU_ASSERT_EQUAL(l.count, 0);
    arbiter_destroy(&a);
    agent_remove(&g);
}

static void a_command_over_its_time_limit_is_no_answer(void)
{
    struct listener l = LISTENER_INIT;
    struct agent g = agent_of("sleep 1000");
    struct arbiter *a = create_command(&g, MSEC(20));
    struct arbiter_request r = promote;
    r.timeout = MSEC(100);
    CU_ASSERT_EQUAL(arbiter_request(a, &r, listen_to, &l, NULL), 0);
    CU_ASSERT_EQUAL(wait_for(&l, 1), 1);
    CU_ASSERT_EQUAL(l.last.result, ARBITER_UNKNOWN);
    CU_ASSERT_PTR_NOT_NULL(strstr(l.last.text, "did not end in time"));
    arbiter_destroy(&a);
    agent_remove(&g);
}

static void a_command_that_can_not_be_run_is_refused_at_creation(void)
{
    static const char *const none[] = {NULL};
    static const char *const relative[] = {"agent", NULL};
    static const char *const missing[] = {"/nonexistent/agent", NULL};
    static const char *const *const bad[] = {NULL, none, relative, missing};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct arbiter *a;
        struct error err = {0};
        const struct arbiter_config config = {.kind = "command", .command = bad[i]};
        CU_ASSERT(arbiter_create(&config, &a, &err) < 0);
        CU_ASSERT_PTR_NULL(a);
        CU_ASSERT(err.text[0] != '\0');
    }
}

static const struct test_case cases[] = {
    {"none grants at once on its own thread and warns", none_grants_at_once_on_its_own_thread},
    {"unknown kinds are refused by name", unknown_kinds_are_refused_by_name},
    {"malformed requests are refused", malformed_requests_are_refused},
    {"a manual request is visible and waits for the operator",
     a_manual_request_is_visible_and_waits_for_the_operator},
    {"a denial names the term that still holds", a_denial_names_the_term_that_still_holds},
    {"an answer counts for its request only", an_answer_counts_for_its_request_only},
    {"a request taken back is never answered", a_request_taken_back_is_never_answered},
    {"a request without an answer in time is unknown",
     a_request_without_an_answer_in_time_is_unknown},
    {"an answer that was accepted counts when time is up",
     an_answer_that_was_accepted_counts_when_time_is_up},
    {"a question to an operator stays open between its attempts",
     a_question_to_an_operator_stays_open_between_its_attempts},
    {"a question about a hand-over ends with its time",
     a_question_about_a_hand_over_ends_with_its_time},
    {"an answer to a question that is over is not one to the next",
     an_answer_to_a_question_that_is_over_is_not_one_to_the_next},
    {"destroying an arbiter that waits ends at once and tells nobody",
     destroying_an_arbiter_that_waits_ends_at_once_and_tells_nobody},
    {"requests and cancels in any order lose nothing",
     requests_and_cancels_in_any_order_lose_nothing},
    {"a callback may ask the next question", a_callback_may_ask_the_next_question},
    {"cancelling waits for a callback that runs", cancelling_waits_for_a_callback_that_runs},
    {"answers that cannot be trusted are no answers",
     answers_that_can_not_be_trusted_are_no_answers},
    {"a command that succeeds grants and was told everything",
     a_command_that_succeeds_grants_and_was_told_everything},
    {"a command that exits with 10 refuses", a_command_that_exits_with_10_refuses},
    {"a command that fails is run again until it answers",
     a_command_that_fails_is_run_again_until_it_answers},
    {"a command that hangs is killed with its children",
     a_command_that_hangs_is_killed_with_its_children},
    {"a command over its time limit is no answer", a_command_over_its_time_limit_is_no_answer},
    {"a command that cannot be run is refused at creation",
     a_command_that_can_not_be_run_is_refused_at_creation},
};

TEST_MAIN("arbiter", cases)
