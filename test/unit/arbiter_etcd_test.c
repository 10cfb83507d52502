/* The arbiter `etcd` against a real etcd: terms, lost answers, requests handed back, reachability,
 * users. What a real etcd does not do is in etcd_hostile_test.c. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "heartbeat/arbiter.h"
#include "test/support/arbiter_listener.h"
#include "test/support/etcd_server.h"
#include "test/support/runner.h"

static struct etcd_server *server;
static char vm[32]; /* another one in every test */

static struct arbiter *create_at(const char *const *endpoints, const char *user,
                                 const char *password)
{
    struct arbiter *a = NULL;
    const struct arbiter_config config = {
        .kind = "etcd",
        .etcd = {.endpoints = endpoints, .user = user, .password = password},
        .attempt_timeout = SEC(2),
        .retry_delay = MSEC(5),
    };
    CU_ASSERT_EQUAL_FATAL(arbiter_create(&config, &a, NULL), 0);
    return a;
}

static struct arbiter *create(void)
{
    const char *const endpoints[] = {etcd_server_url(server), NULL};
    return create_at(endpoints, NULL, NULL);
}

/* A name for the VM that no test has used. */
static void new_vm(void)
{
    static unsigned count;
    snprintf(vm, sizeof(vm), "vm-%u", ++count);
}

static void set_key(const char *value)
{
    char words[256], line[64];
    snprintf(words, sizeof(words), "put /kemari/%s '%s'", vm, value);
    CU_ASSERT_TRUE_FATAL(etcd_server_ctl(server, words, line, sizeof(line)));
}

static void expect_key(const char *value)
{
    char words[256], line[256];
    snprintf(words, sizeof(words), "get --print-value-only /kemari/%s", vm);
    CU_ASSERT_TRUE_FATAL(etcd_server_ctl(server, words, line, sizeof(line)));
    CU_ASSERT_STRING_EQUAL(line, value);
}

static struct arbiter_request request(enum arbiter_purpose purpose, const char *who,
                                      term_t expected)
{
    return (struct arbiter_request){.vm = vm,
                                    .who = who,
                                    .purpose = purpose,
                                    .expected = expected,
                                    .next = expected + 1,
                                    .why = "a test",
                                    .timeout = SEC(20)};
}

static struct arbiter_answer ask_for(struct arbiter *a, const struct arbiter_request *r)
{
    struct listener l = LISTENER_INIT;
    CU_ASSERT_EQUAL_FATAL(arbiter_request(a, r, listen_to, &l, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(wait_for(&l, 1), 1);
    return l.last;
}

static struct arbiter_answer ask(struct arbiter *a, enum arbiter_purpose purpose, const char *who,
                                 term_t expected)
{
    const struct arbiter_request r = request(purpose, who, expected);
    return ask_for(a, &r);
}

static void the_first_start_creates_term_1_and_a_second_one_is_refused(void)
{
    new_vm();
    struct arbiter *a = create(), *b = create();
    struct arbiter_answer answer = ask(a, ARBITER_START, "host-a/1", 0);
    CU_ASSERT_EQUAL(answer.result, ARBITER_GRANTED);
    CU_ASSERT_EQUAL(answer.term, 1);
    expect_key("term 1 owner host-a/1");
    answer = ask(b, ARBITER_START, "host-b/1", 0);
    CU_ASSERT_EQUAL(answer.result, ARBITER_REFUSED);
    CU_ASSERT_EQUAL(answer.term, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(answer.text, "host-a/1"));
    arbiter_destroy(&a);
    arbiter_destroy(&b);
}

static void of_two_that_ask_for_the_same_term_one_is_granted(void)
{
    new_vm();
    struct arbiter *a = create(), *b = create();
    CU_ASSERT_EQUAL(ask(a, ARBITER_START, "host-a/1", 0).result, ARBITER_GRANTED);
    for (term_t term = 1; term < 20; term++) {
        struct listener la = LISTENER_INIT, lb = LISTENER_INIT;
        const struct arbiter_request ra = request(ARBITER_SOLO, "host-a/1", term);
        const struct arbiter_request rb = request(ARBITER_PROMOTE, "host-b/1", term);
        CU_ASSERT_EQUAL_FATAL(arbiter_request(a, &ra, listen_to, &la, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(arbiter_request(b, &rb, listen_to, &lb, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(wait_for(&la, 1) + wait_for(&lb, 1), 2);
        CU_ASSERT_EQUAL((la.last.result == ARBITER_GRANTED) + (lb.last.result == ARBITER_GRANTED),
                        1);
        CU_ASSERT_EQUAL((la.last.result == ARBITER_REFUSED) + (lb.last.result == ARBITER_REFUSED),
                        1);
        CU_ASSERT_EQUAL(la.last.term, term + 1);
        CU_ASSERT_EQUAL(lb.last.term, term + 1);
    }
    arbiter_destroy(&a);
    arbiter_destroy(&b);
}

static void what_was_granted_is_granted_again_to_the_same_process_alone(void)
{
    new_vm();
    set_key("term 5 owner host-a/1");
    struct arbiter *a = create();
    CU_ASSERT_EQUAL(ask(a, ARBITER_SOLO, "host-a/1", 4).result, ARBITER_GRANTED);
    CU_ASSERT_EQUAL(ask(a, ARBITER_SOLO, "host-a/1", 4).result, ARBITER_GRANTED);
    const struct arbiter_answer answer = ask(a, ARBITER_PROMOTE, "host-a/2", 4);
    CU_ASSERT_EQUAL(answer.result, ARBITER_REFUSED);
    CU_ASSERT_EQUAL(answer.term, 5);
    arbiter_destroy(&a);
}

static void a_restarted_primary_keeps_its_recorded_term_unless_it_is_over(void)
{
    new_vm();
    struct arbiter *a = create();
    set_key("term 5 owner host-a/1");
    struct arbiter_request r = request(ARBITER_START, "host-a/2", 4);
    r.held = true;
    CU_ASSERT_EQUAL(ask_for(a, &r).result, ARBITER_GRANTED);
    expect_key("term 5 owner host-a/2");
    set_key("term 6 owner host-b/1");
    const struct arbiter_answer answer = ask_for(a, &r);
    CU_ASSERT_EQUAL(answer.result, ARBITER_REFUSED);
    CU_ASSERT_EQUAL(answer.term, 6);
    expect_key("term 6 owner host-b/1");
    arbiter_destroy(&a);
}

/* Each value is one of an etcd that knows less than the asker, or nothing readable. */
static void an_etcd_that_lost_its_memory_gives_no_answer(void)
{
    static const char *const values[] = {NULL,
                                         "term 3 owner host-a/1",
                                         "term 04 owner host-a/1",
                                         "nonsense",
                                         "term 4",
                                         "term 18446744073709551616 owner x"};
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        new_vm();
        if (values[i])
            set_key(values[i]);
        struct arbiter *a = create();
        struct arbiter_request r = request(ARBITER_PROMOTE, "host-b/1", 4);
        r.timeout = MSEC(30);
        struct arbiter_answer answer = ask_for(a, &r);
        CU_ASSERT_EQUAL(answer.result, ARBITER_UNKNOWN);
        /* On a busy machine etcd may have said nothing yet when the time was over. */
        while (!values[i] && !strstr(answer.text, "has no key") && r.timeout < SEC(20)) {
            r.timeout *= 2;
            answer = ask_for(a, &r);
            CU_ASSERT_EQUAL(answer.result, ARBITER_UNKNOWN);
        }
        if (!values[i])
            CU_ASSERT_PTR_NOT_NULL(strstr(answer.text, "has no key"));
        if (values[i])
            expect_key(values[i]);
        arbiter_destroy(&a);
    }
}

static bool key_becomes(const char *value)
{
    char words[256], line[256] = "";
    snprintf(words, sizeof(words), "get --print-value-only /kemari/%s", vm);
    for (const nsec_t until = clock_now() + SEC(20); clock_now() < until; usleep(10000))
        if (etcd_server_ctl(server, words, line, sizeof(line)) && strcmp(line, value) == 0)
            return true;
    fprintf(stderr, "the key says \"%s\"\n", line);
    return false;
}

static void a_term_handed_back_is_free_for_the_peer(void)
{
    new_vm();
    set_key("term 4 owner host-a/1");
    struct arbiter *b = create();
    const struct arbiter_request r = request(ARBITER_PROMOTE, "host-b/1", 4);
    CU_ASSERT_EQUAL(ask_for(b, &r).result, ARBITER_GRANTED);
    arbiter_give_back(b, &r);
    CU_ASSERT_TRUE(key_becomes("term 4 owner returned-by:host-b/1"));
    struct arbiter *a = create();
    CU_ASSERT_EQUAL(ask(a, ARBITER_SOLO, "host-a/1", 4).result, ARBITER_GRANTED);
    CU_ASSERT_EQUAL(ask_for(b, &r).result, ARBITER_REFUSED);
    arbiter_destroy(&a);
    arbiter_destroy(&b);
}

static void handing_back_takes_nothing_from_others(void)
{
    new_vm();
    set_key("term 5 owner host-a/1");
    struct arbiter *b = create();
    const struct arbiter_request r = request(ARBITER_PROMOTE, "host-b/1", 4);
    arbiter_give_back(b, &r);
    /* The next answer comes after it. */
    CU_ASSERT_EQUAL(ask_for(b, &r).result, ARBITER_REFUSED);
    arbiter_destroy(&b);
    expect_key("term 5 owner host-a/1");
}

static void the_next_endpoint_answers_when_one_is_dead(void)
{
    new_vm();
    set_key("term 4 owner host-a/1");
    const char *const endpoints[] = {"http://127.0.0.1:1", etcd_server_url(server), NULL};
    struct arbiter *a = create_at(endpoints, NULL, NULL);
    const struct arbiter_answer answer = ask(a, ARBITER_PROMOTE, "host-b/1", 4);
    CU_ASSERT_EQUAL(answer.result, ARBITER_GRANTED);
    CU_ASSERT_EQUAL(answer.attempts, 1);
    arbiter_destroy(&a);
}

struct health {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned lost, back;
};

static void on_reachable(void *context, bool reachable, const char *text)
{
    struct health *h = context;
    (void)text;
    pthread_mutex_lock(&h->lock);
    h->lost += !reachable;
    h->back += reachable;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

static bool wait_health(struct health *h, unsigned lost, unsigned back)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 30;
    pthread_mutex_lock(&h->lock);
    int rc = 0;
    while ((h->lost < lost || h->back < back) && rc == 0)
        rc = pthread_cond_timedwait(&h->changed, &h->lock, &until);
    const bool reached = h->lost == lost && h->back == back;
    pthread_mutex_unlock(&h->lock);
    return reached;
}

static void its_owner_hears_when_it_is_lost_and_back_and_asks_in_vain_meanwhile(void)
{
    struct health h = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0};
    new_vm();
    set_key("term 4 owner host-a/1");
    const char *const endpoints[] = {etcd_server_url(server), NULL};
    struct arbiter *a = NULL;
    const struct arbiter_config config = {.kind = "etcd",
                                          .etcd = {.endpoints = endpoints},
                                          .attempt_timeout = MSEC(300),
                                          .retry_delay = MSEC(5),
                                          .probe_interval = MSEC(10),
                                          .vm = vm,
                                          .reachable = on_reachable,
                                          .context = &h};
    CU_ASSERT_EQUAL_FATAL(arbiter_create(&config, &a, NULL), 0);
    CU_ASSERT_TRUE(wait_health(&h, 0, 1));
    char text[ERROR_TEXT_MAX];
    CU_ASSERT_TRUE(arbiter_reachable(a, text));
    etcd_server_freeze(server, true);
    CU_ASSERT_TRUE(wait_health(&h, 1, 1));
    CU_ASSERT_FALSE(arbiter_reachable(a, text));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "no answer in time"));
    struct arbiter_request r = request(ARBITER_PROMOTE, "host-b/1", 4);
    r.timeout = MSEC(50);
    CU_ASSERT_EQUAL(ask_for(a, &r).result, ARBITER_UNKNOWN);
    struct listener l = LISTENER_INIT;
    r.timeout = 0;
    CU_ASSERT_EQUAL_FATAL(arbiter_request(a, &r, listen_to, &l, NULL), 0);
    etcd_server_freeze(server, false);
    /* Some of the attempts may be carried out now: the answer is the same. */
    CU_ASSERT_EQUAL(wait_for(&l, 1), 1);
    CU_ASSERT_EQUAL(l.last.result, ARBITER_GRANTED);
    CU_ASSERT_TRUE(wait_health(&h, 1, 2));
    arbiter_destroy(&a);
}

static void a_key_that_disappears_is_an_alarm(void)
{
    struct health h = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0};
    char words[128], line[64];
    new_vm();
    set_key("term 4 owner host-a/1");
    const char *const endpoints[] = {etcd_server_url(server), NULL};
    struct arbiter *a = NULL;
    const struct arbiter_config config = {.kind = "etcd",
                                          .etcd = {.endpoints = endpoints},
                                          .probe_interval = MSEC(10),
                                          .vm = vm,
                                          .reachable = on_reachable,
                                          .context = &h};
    CU_ASSERT_EQUAL_FATAL(arbiter_create(&config, &a, NULL), 0);
    CU_ASSERT_TRUE(wait_health(&h, 0, 1));
    snprintf(words, sizeof(words), "del /kemari/%s", vm);
    CU_ASSERT_TRUE(etcd_server_ctl(server, words, line, sizeof(line)));
    CU_ASSERT_TRUE(wait_health(&h, 1, 1));
    set_key("term 4 owner host-a/1");
    CU_ASSERT_TRUE(wait_health(&h, 1, 2));
    arbiter_destroy(&a);
}

static void without_the_right_password_there_is_no_answer(void)
{
    static const char *const setup[] = {
        "user add root:secret", "user grant-role root root",
        "role add kemari",      "role grant-permission kemari readwrite --prefix=true /kemari/",
        "user add kemari:word", "user grant-role kemari kemari",
        "auth enable"};
    char line[128];
    new_vm();
    set_key("term 4 owner host-a/1");
    for (size_t i = 0; i < ARRAY_SIZE(setup); i++)
        etcd_server_ctl(server, setup[i], line, sizeof(line));
    const char *const endpoints[] = {etcd_server_url(server), NULL};
    struct arbiter_request r = request(ARBITER_PROMOTE, "host-b/1", 4);
    r.timeout = MSEC(50);
    struct arbiter *a = create();
    CU_ASSERT_EQUAL(ask_for(a, &r).result, ARBITER_UNKNOWN);
    arbiter_destroy(&a);
    a = create_at(endpoints, "kemari", "wrong");
    CU_ASSERT_EQUAL(ask_for(a, &r).result, ARBITER_UNKNOWN);
    arbiter_destroy(&a);
    r.timeout = SEC(20);
    a = create_at(endpoints, "kemari", "word");
    CU_ASSERT_EQUAL(ask_for(a, &r).result, ARBITER_GRANTED);
    arbiter_destroy(&a);
    CU_ASSERT_TRUE(etcd_server_ctl(server, "--user root:secret auth disable", line, sizeof(line)));
}

static struct arbiter_answer ask_by_tls(const struct etcd_server *tls, const char *ca,
                                        const char *cert, nsec_t timeout)
{
    char files[3][128];
    snprintf(files[0], sizeof(files[0]), "%s/%s", etcd_server_folder(tls), ca);
    snprintf(files[1], sizeof(files[1]), "%s/%s", etcd_server_folder(tls), cert);
    snprintf(files[2], sizeof(files[2]), "%s/host.key", etcd_server_folder(tls));
    const char *const endpoints[] = {etcd_server_url(tls), NULL};
    struct arbiter *a = NULL;
    const struct arbiter_config config = {.kind = "etcd",
                                          .etcd = {.endpoints = endpoints,
                                                   .ca_file = *ca ? files[0] : NULL,
                                                   .cert_file = *cert ? files[1] : NULL,
                                                   .key_file = *cert ? files[2] : NULL},
                                          .retry_delay = MSEC(5)};
    CU_ASSERT_EQUAL_FATAL(arbiter_create(&config, &a, NULL), 0);
    struct arbiter_request r = request(ARBITER_START, "host-a/1", 0);
    r.timeout = timeout;
    const struct arbiter_answer answer = ask_for(a, &r);
    arbiter_destroy(&a);
    return answer;
}

static void by_tls_both_ends_must_prove_who_they_are(void)
{
    new_vm();
    struct etcd_server *tls = etcd_server_start_tls();
    CU_ASSERT_EQUAL(ask_by_tls(tls, "", "host.pem", MSEC(50)).result, ARBITER_UNKNOWN);
    CU_ASSERT_EQUAL(ask_by_tls(tls, "ca.pem", "", MSEC(50)).result, ARBITER_UNKNOWN);
    CU_ASSERT_EQUAL(ask_by_tls(tls, "ca.pem", "host.pem", SEC(20)).result, ARBITER_GRANTED);
    etcd_server_stop(&tls);
}

static void wrong_settings_are_refused_with_a_sentence(void)
{
    static const char *const bad[][2] = {{"127.0.0.1:2379", NULL},  {"ftp://127.0.0.1:2379", NULL},
                                         {"http://", NULL},         {"http://a:1/path", NULL},
                                         {"http://user@a:1", NULL}, {NULL, NULL}};
    struct arbiter *a;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct error err = {0};
        const struct arbiter_config config = {.kind = "etcd", .etcd = {.endpoints = bad[i]}};
        CU_ASSERT_EQUAL(arbiter_create(&config, &a, &err), -EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "endpoint"));
    }
}

int main(int argc, char **argv)
{
    server = etcd_server_start();
    if (!server)
        test_skip("no etcd (packages etcd-server and etcd-client) on this machine");
    static const struct test_case tests[] = {
        {"the first start creates term 1 and a second one is refused",
         the_first_start_creates_term_1_and_a_second_one_is_refused},
        {"of two that ask for the same term one is granted",
         of_two_that_ask_for_the_same_term_one_is_granted},
        {"what was granted is granted again to the same process alone",
         what_was_granted_is_granted_again_to_the_same_process_alone},
        {"a restarted primary keeps its recorded term unless it is over",
         a_restarted_primary_keeps_its_recorded_term_unless_it_is_over},
        {"an etcd that lost its memory gives no answer",
         an_etcd_that_lost_its_memory_gives_no_answer},
        {"a term handed back is free for the peer", a_term_handed_back_is_free_for_the_peer},
        {"handing back takes nothing from others", handing_back_takes_nothing_from_others},
        {"the next endpoint answers when one is dead", the_next_endpoint_answers_when_one_is_dead},
        {"its owner hears when it is lost and back and asks in vain meanwhile",
         its_owner_hears_when_it_is_lost_and_back_and_asks_in_vain_meanwhile},
        {"a key that disappears is an alarm", a_key_that_disappears_is_an_alarm},
        {"without the right password there is no answer",
         without_the_right_password_there_is_no_answer},
        {"by tls both ends must prove who they are", by_tls_both_ends_must_prove_who_they_are},
        {"wrong settings are refused with a sentence", wrong_settings_are_refused_with_a_sentence},
    };
    const int status = test_run(argc, argv, "arbiter-etcd", tests, ARRAY_SIZE(tests));
    etcd_server_stop(&server);
    return status;
}
