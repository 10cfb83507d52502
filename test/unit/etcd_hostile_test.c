/* The arbiter `etcd` against servers that a real etcd is not: slow, garbled, lying, cut in the
 * wrong moment. None of it may ever be taken for a grant or a refusal, and what is true must come
 * through in the end. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "heartbeat/arbiter.h"
#include "heartbeat/etcd_codec.h"
#include "test/support/arbiter_listener.h"
#include "test/support/fake_http.h"
#include "test/support/runner.h"

#define HEADER "\"header\":{\"cluster_id\":\"7\",\"revision\":\"9\"}"
#define KEY64  "L2tlbWFyaS9yZWRpcw==" /* /kemari/redis */
#define TERM4  "dGVybSA0IG93bmVyIGE=" /* term 4 owner a */
#define TERM5  "dGVybSA1IG93bmVyIGE=" /* term 5 owner a */
#define PAIR_AT(value, revision)                                                                   \
    "\"kvs\":[{\"key\":\"" KEY64 "\",\"mod_revision\":\"" revision "\",\"value\":\"" value         \
    "\"}],\"count\":\"1\""
#define PAIR(value) PAIR_AT(value, "8")

static struct arbiter *create(const char *url, const char *second, bool user)
{
    struct arbiter *a = NULL;
    const char *const endpoints[] = {url, second, NULL};
    const struct arbiter_config config = {
        .kind = "etcd",
        .etcd = {.endpoints = endpoints, .user = user ? "u" : NULL, .password = user ? "p" : NULL},
        .attempt_timeout = MSEC(500),
        .retry_delay = MSEC(1),
    };
    CU_ASSERT_EQUAL_FATAL(arbiter_create(&config, &a, NULL), 0);
    return a;
}

static struct arbiter_answer ask(struct arbiter *a, nsec_t timeout)
{
    struct listener l = LISTENER_INIT;
    const struct arbiter_request r = {.vm = "redis",
                                      .who = "b",
                                      .purpose = ARBITER_PROMOTE,
                                      .expected = 4,
                                      .next = 5,
                                      .why = "a test",
                                      .timeout = timeout};
    CU_ASSERT_EQUAL_FATAL(arbiter_request(a, &r, listen_to, &l, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(wait_for(&l, 1), 1);
    return l.last;
}

/* What is said to a read and to a transaction. */
struct script {
    int status;
    const char *range;
    const char *txn;
};

static long say(void *context, const char *path, const char *body, char *reply)
{
    const struct script *s = context;
    (void)body;
    return fake_http_reply(reply, s->status, strstr(path, "txn") ? s->txn : s->range);
}

static void expect(const struct script *script, enum arbiter_result result)
{
    struct fake_http *server = fake_http_start(say, (void *)script);
    struct arbiter *a = create(fake_http_url(server), NULL, false);
    /* What is no answer is asked for again and again: it ends with the request only. */
    const struct arbiter_answer answer = ask(a, result == ARBITER_UNKNOWN ? MSEC(50) : SEC(20));
    if (answer.result != result)
        fprintf(stderr, "range %s txn %s: %s\n", script->range, script->txn, answer.text);
    CU_ASSERT_EQUAL(answer.result, result);
    arbiter_destroy(&a);
    fake_http_stop(&server);
}

#define GOOD_RANGE "{" HEADER "," PAIR(TERM4) "}"
#define GOOD_PUT                                                                                   \
    "{" HEADER ",\"succeeded\":true,\"responses\":[{\"response_put\":{\"header\":{}}}]}"

static void the_true_answers_are_understood(void)
{
    expect(&(struct script){200, GOOD_RANGE, GOOD_PUT}, ARBITER_GRANTED);
    expect(&(struct script){200, "{" HEADER "," PAIR(TERM5) "}", ""}, ARBITER_REFUSED);
    expect(&(struct script){200, GOOD_RANGE,
                            "{" HEADER ",\"responses\":[{\"response_range\":{" PAIR(TERM5) "}}]}"},
           ARBITER_REFUSED);
}

static void an_answer_that_is_none_of_the_true_ones_is_no_answer(void)
{
    static const struct script scripts[] = {
        {200, "", ""},
        {200, "garbage", GOOD_PUT},
        {200, "[]", GOOD_PUT},
        {200, "{}", GOOD_PUT},
        {200, "{" HEADER "}", GOOD_PUT},
        {200, "{" HEADER "," PAIR(TERM4) "} and more", GOOD_PUT},
        {200, "{" PAIR(TERM5) "}", GOOD_PUT},
        {200, "{" HEADER "," HEADER "," PAIR(TERM5) "}", GOOD_PUT},
        {200, "{" HEADER "," PAIR_AT(TERM5, "0") "}", GOOD_PUT},
        {200, "{" HEADER "," PAIR_AT(TERM5, "10") "}", GOOD_PUT},
        {200, "{" HEADER "," PAIR_AT(TERM5, "-1") "}", GOOD_PUT},
        {200, "{" HEADER "," PAIR("dGVybSA1") "}", GOOD_PUT},
        {200, "{" HEADER "," PAIR("====") "}", GOOD_PUT},
        {200, "{" HEADER "," PAIR("dGVybSA1IG93bmVyIGF=") "}", GOOD_PUT},
        {200, "{" HEADER ",\"count\":\"2\"}", GOOD_PUT},
        {200,
         "{" HEADER ",\"kvs\":[{\"key\":\"YQ==\",\"mod_revision\":\"8\",\"value\":\"" TERM5
         "\"}],\"count\":\"1\"}",
         GOOD_PUT},
        {200, GOOD_RANGE, "{" HEADER ",\"succeeded\":true}"},
        {200, GOOD_RANGE,
         "{" HEADER ",\"succeeded\":\"true\",\"responses\":[{\"response_put\":{}}]}"},
        {200, GOOD_RANGE, "{\"succeeded\":true,\"responses\":[{\"response_put\":{}}]}"},
        {200, GOOD_RANGE,
         "{" HEADER ",\"succeeded\":true,\"responses\":[{\"response_range\":{" PAIR(TERM5) "}}]}"},
        {200, GOOD_RANGE, "{" HEADER ",\"responses\":[{\"response_put\":{}}]}"},
        {200, GOOD_RANGE,
         "{\"header\":{\"cluster_id\":\"8\",\"revision\":\"10\"},\"succeeded\":true,"
         "\"responses\":[{\"response_put\":{}}]}"},
        {200, GOOD_RANGE,
         "{\"header\":{\"cluster_id\":\"7\",\"revision\":\"8\"},\"succeeded\":true,"
         "\"responses\":[{\"response_put\":{}}]}"},
        /* The key never changes, yet no transaction succeeds. */
        {200, GOOD_RANGE, "{" HEADER ",\"responses\":[{\"response_range\":{" PAIR(TERM4) "}}]}"},
        {204, GOOD_RANGE, GOOD_PUT},
        {302, GOOD_RANGE, GOOD_PUT},
        {401, GOOD_RANGE, GOOD_PUT},
        {500, GOOD_RANGE, GOOD_PUT},
    };
    for (size_t i = 0; i < ARRAY_SIZE(scripts); i++)
        expect(&scripts[i], ARBITER_UNKNOWN);
}

static long say_too_much(void *context, const char *path, const char *body, char *reply)
{
    (void)context, (void)path, (void)body;
    char *text = malloc(FAKE_HTTP_MAX);
    if (!text)
        abort();
    memset(text, ' ', 100000);
    strcpy(text + 100000, GOOD_RANGE);
    const long size = fake_http_reply(reply, 200, text);
    free(text);
    return size;
}

static long say_half(void *context, const char *path, const char *body, char *reply)
{
    (void)context, (void)path, (void)body;
    return fake_http_reply(reply, 200, "{" HEADER "," PAIR(TERM5) "}") - 5;
}

static long cut(void *context, const char *path, const char *body, char *reply)
{
    (void)context, (void)path, (void)body, (void)reply;
    return 0;
}

static long be_silent(void *context, const char *path, const char *body, char *reply)
{
    (void)context, (void)path, (void)body, (void)reply;
    return -1;
}

static void endless_truncated_cut_and_silent_answers_are_none(void)
{
    const fake_http_handler handlers[] = {say_too_much, say_half, cut, be_silent};
    for (size_t i = 0; i < ARRAY_SIZE(handlers); i++) {
        struct fake_http *server = fake_http_start(handlers[i], NULL);
        struct arbiter *a = create(fake_http_url(server), NULL, false);
        CU_ASSERT_EQUAL(ask(a, MSEC(20)).result, ARBITER_UNKNOWN);
        arbiter_destroy(&a);
        fake_http_stop(&server);
    }
}

static void a_silent_endpoint_costs_its_share_and_the_next_one_answers(void)
{
    struct script script = {200, GOOD_RANGE, GOOD_PUT};
    struct fake_http *first = fake_http_start(be_silent, NULL);
    struct fake_http *second = fake_http_start(say, &script);
    struct arbiter *a = create(fake_http_url(first), fake_http_url(second), false);
    CU_ASSERT_EQUAL(ask(a, SEC(20)).result, ARBITER_GRANTED);
    arbiter_destroy(&a);
    fake_http_stop(&first);
    fake_http_stop(&second);
}

static void a_request_taken_back_does_not_wait_for_a_silent_server(void)
{
    struct fake_http *server = fake_http_start(be_silent, NULL);
    struct arbiter *a = NULL;
    const char *const endpoints[] = {fake_http_url(server), NULL};
    /* Longer than the test may last. */
    const struct arbiter_config config = {
        .kind = "etcd", .etcd = {.endpoints = endpoints}, .attempt_timeout = SEC(3600)};
    CU_ASSERT_EQUAL_FATAL(arbiter_create(&config, &a, NULL), 0);
    struct listener l = LISTENER_INIT;
    const struct arbiter_request r = {
        .vm = "redis", .who = "b", .expected = 4, .next = 5, .why = "a test"};
    CU_ASSERT_EQUAL_FATAL(arbiter_request(a, &r, listen_to, &l, NULL), 0);
    CU_ASSERT_TRUE(arbiter_cancel(a));
    CU_ASSERT_EQUAL(l.count, 0);
    arbiter_destroy(&a);
    fake_http_stop(&server);
}

/* A store of one key that carries transactions out and loses the answer to some. */
struct store {
    atomic_uint losses; /* answers still to be lost */
    unsigned revision;
    char value64[256];
    unsigned changes;
};

static long keep(void *context, const char *path, const char *body, char *reply)
{
    struct store *s = context;
    char text[1024], header[96], pair[512], compare[64];
    bool put = false;
    if (strstr(path, "txn")) {
        snprintf(compare, sizeof(compare), "\"mod_revision\":\"%u\"", s->revision);
        put = strstr(body, compare) != NULL;
    }
    if (put) {
        const char *value = strstr(body, "\"value\":\"") + 9;
        snprintf(s->value64, sizeof(s->value64), "%.*s", (int)strcspn(value, "\""), value);
        s->revision++;
        s->changes++;
    }
    snprintf(header, sizeof(header), "\"header\":{\"cluster_id\":\"7\",\"revision\":\"%u\"}",
             s->revision);
    snprintf(pair, sizeof(pair),
             "\"kvs\":[{\"key\":\"" KEY64 "\",\"mod_revision\":\"%u\",\"value\":\"%s\"}],"
             "\"count\":\"1\"",
             s->revision, s->value64);
    if (put)
        snprintf(text, sizeof(text),
                 "{%s,\"succeeded\":true,\"responses\":[{\"response_put\":{}}]}", header);
    else if (strstr(path, "txn"))
        snprintf(text, sizeof(text), "{%s,\"responses\":[{\"response_range\":{%s}}]}", header,
                 pair);
    else
        snprintf(text, sizeof(text), "{%s,%s}", header, pair);
    if (strstr(path, "txn") && s->losses) {
        s->losses--;
        return 0;
    }
    return fake_http_reply(reply, 200, text);
}

static void a_grant_whose_answer_was_lost_is_heard_at_last(void)
{
    for (unsigned losses = 0; losses < 4; losses++) {
        struct store store = {.losses = losses, .revision = 8, .value64 = TERM4};
        struct fake_http *server = fake_http_start(keep, &store);
        struct arbiter *a = create(fake_http_url(server), NULL, false);
        const struct arbiter_answer answer = ask(a, SEC(20));
        CU_ASSERT_EQUAL(answer.result, ARBITER_GRANTED);
        CU_ASSERT_EQUAL(answer.term, 5);
        arbiter_destroy(&a);
        fake_http_stop(&server);
        CU_ASSERT_STRING_EQUAL(store.value64, "dGVybSA1IG93bmVyIGI=");
        CU_ASSERT(store.changes >= 1);
    }
}

/* Tokens are good for two requests. */
struct guard {
    struct script script;
    unsigned logins;
    unsigned uses;
};

static long guard(void *context, const char *path, const char *body, char *reply)
{
    struct guard *g = context;
    if (strstr(path, "authenticate")) {
        g->logins++;
        g->uses = 0;
        return fake_http_reply(reply, 200, "{\"token\":\"t\"}");
    }
    if (++g->uses > 2)
        return fake_http_reply(reply, 401, "{\"error\":\"etcdserver: invalid auth token\"}");
    return say(&g->script, path, body, reply);
}

static void a_token_that_is_no_longer_good_is_renewed(void)
{
    struct guard g = {.script = {200, GOOD_RANGE, GOOD_PUT}};
    struct fake_http *server = fake_http_start(guard, &g);
    struct arbiter *a = create(fake_http_url(server), NULL, true);
    for (int i = 0; i < 4; i++)
        CU_ASSERT_EQUAL(ask(a, SEC(20)).result, ARBITER_GRANTED);
    arbiter_destroy(&a);
    fake_http_stop(&server);
    CU_ASSERT(g.logins >= 2);
}

static void every_truncation_of_an_answer_is_refused(void)
{
    static const char *const texts[] = {GOOD_RANGE, GOOD_PUT,
                                        "{" HEADER
                                        ",\"responses\":[{\"response_range\":{" PAIR(TERM5) "}}]}"};
    struct etcd_fact fact;
    bool swapped;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        for (size_t size = 0; size < strlen(texts[i]); size++) {
            char *copy = malloc(size + 1); /* exact, for the sanitizer */
            memcpy(copy, texts[i], size);
            CU_ASSERT(etcd_decode_range(copy, size, "/kemari/redis", &fact, NULL) < 0);
            CU_ASSERT(etcd_decode_swap(copy, size, "/kemari/redis", &fact, &swapped, NULL) < 0);
            free(copy);
        }
}

static const struct test_case cases[] = {
    {"the true answers are understood", the_true_answers_are_understood},
    {"an answer that is none of the true ones is no answer",
     an_answer_that_is_none_of_the_true_ones_is_no_answer},
    {"endless, truncated, cut and silent answers are none",
     endless_truncated_cut_and_silent_answers_are_none},
    {"a silent endpoint costs its share and the next one answers",
     a_silent_endpoint_costs_its_share_and_the_next_one_answers},
    {"a request taken back does not wait for a silent server",
     a_request_taken_back_does_not_wait_for_a_silent_server},
    {"a grant whose answer was lost is heard at last",
     a_grant_whose_answer_was_lost_is_heard_at_last},
    {"a token that is no longer good is renewed", a_token_that_is_no_longer_good_is_renewed},
    {"every truncation of an answer is refused", every_truncation_of_an_answer_is_refused},
};

TEST_MAIN("etcd-hostile", cases)
