/* etcd decides: a transaction on one key per VM (heartbeat/etcd_codec.h), through the v3 JSON
 * gateway of any of several endpoints.
 *
 *        known fact ──► judge ──► REFUSE, DISTRUST: say so (from a fresh reading only)
 *        (or a read)      │
 *             ▲           └─► SWAP: put "term next owner who" if the key is unchanged since the
 * fact │                        │ done: granted └── what the key says ◄──┘ changed
 *
 * Only linearizable requests are made. Every grant, a repeated one too, is a write that compares
 * the key's revision: whatever of ours is still on its way (an attempt given up, a request handed
 * back) compares an older revision and can't be carried out any more.
 *
 * Why a lost answer is harmless: who was granted `next` and did not hear of it finds its own name
 * in the key and is granted again; everybody else finds a higher term and is refused.
 *
 * What is not believed, and so no answer: anything but status 200; what the codec can't read;
 * another cluster than the one that spoke first; a store whose revision went back (restored from a
 * backup, it may have forgotten a grant); a term below the one we hold, or none at all where there
 * must be one.
 *
 * An attempt tries the endpoints in turn, beginning with the one that answered last; each gets an
 * equal share of the time that is left. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "heartbeat/arbiter_kind.h"
#include "heartbeat/etcd_codec.h"
#include "heartbeat/etcd_http.h"

#define SWAPS_MAX 4 /* of one attempt; more means that somebody changes the key all the time */
#define URL_MAX   (ARBITER_URL_MAX + 32)

struct etcd {
    /* set at creation */
    char *endpoints[ARBITER_ENDPOINTS_MAX];
    size_t endpoint_count;
    char *key_prefix;
    char *user; /* or NULL */
    char *password;
    char *files[3]; /* of TLS, each or NULL */
    struct etcd_http *http;

    /* arbiter's thread */
    size_t current;             /* endpoint that answered last */
    char token[ETCD_TOKEN_MAX]; /* "" before the login */
    uint64_t cluster;           /* 0: none has spoken */
    uint64_t revision;          /* highest seen */
    char key[ETCD_KEY_MAX];     /* that `fact` is about, "" for none */
    struct etcd_fact fact;      /* what the key said last */
    bool existed;               /* the key, at some time */
};

/* ---- creation ---- */

static void etcd_destroy(void *state)
{
    struct etcd *e = state;
    etcd_http_destroy(&e->http);
    for (size_t i = 0; i < ARBITER_ENDPOINTS_MAX; i++)
        free(e->endpoints[i]);
    for (size_t i = 0; i < ARRAY_SIZE(e->files); i++)
        free(e->files[i]);
    free(e->key_prefix);
    free(e->user);
    if (e->password)
        explicit_bzero(e->password, strlen(e->password));
    free(e->password);
    explicit_bzero(e->token, sizeof(e->token));
    free(e);
}

static int check_endpoint(const char *url, struct error *err)
{
    const bool scheme = strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0;
    const char *host = scheme ? strstr(url, "://") + 3 : url;
    if (!scheme || !*host || strlen(url) >= ARBITER_URL_MAX || strpbrk(host, "/?#@ \t"))
        return error_set(err, -EINVAL,
                         "arbiter etcd: endpoint \"%.100s\" is not http://HOST:PORT or "
                         "https://HOST:PORT",
                         url);
    return 0;
}

static bool copy(char **out, const char *text)
{
    *out = text ? strdup(text) : NULL;
    return !text || *out;
}

static int check_config(const struct arbiter_etcd_config *c, struct error *err)
{
    if (!c->endpoints || !c->endpoints[0])
        return error_set(err, -EINVAL, "arbiter etcd: needs endpoints");
    for (size_t i = 0; c->endpoints[i]; i++) {
        if (i == ARBITER_ENDPOINTS_MAX)
            return error_set(err, -EINVAL, "arbiter etcd: more than %d endpoints",
                             ARBITER_ENDPOINTS_MAX);
        const int rc = check_endpoint(c->endpoints[i], err);
        if (rc < 0)
            return rc;
    }
    if (!c->user != !c->password)
        return error_set(err, -EINVAL, "arbiter etcd: a user needs a password, and a password one");
    return 0;
}

static int etcd_create(const struct arbiter_config *config, void **state, struct error *err)
{
    const struct arbiter_etcd_config *c = &config->etcd;
    int rc = check_config(c, err);
    if (rc < 0)
        return rc;
    struct etcd *e = calloc(1, sizeof(*e));
    if (!e)
        return error_set(err, -ENOMEM, "arbiter etcd: out of memory");
    bool complete = copy(&e->key_prefix, c->key_prefix ? c->key_prefix : "/kemari/") &&
                    copy(&e->user, c->user) && copy(&e->password, c->password) &&
                    copy(&e->files[0], c->ca_file) && copy(&e->files[1], c->cert_file) &&
                    copy(&e->files[2], c->key_file);
    for (; complete && c->endpoints[e->endpoint_count]; e->endpoint_count++)
        complete = copy(&e->endpoints[e->endpoint_count], c->endpoints[e->endpoint_count]);
    const struct etcd_tls tls = {.ca = e->files[0], .cert = e->files[1], .key = e->files[2]};
    rc = complete ? etcd_http_create(&tls, &e->http, err)
                  : error_set(err, -ENOMEM, "arbiter etcd: out of memory");
    if (rc < 0) {
        etcd_destroy(e);
        return rc;
    }
    *state = e;
    return 0;
}

/* ---- one exchange ---- */

static int post(struct etcd *e, size_t endpoint, const char *path, const char *body,
                nsec_t deadline, int cancel_fd, struct etcd_reply *reply, struct error *err)
{
    char url[URL_MAX];
    snprintf(url, sizeof(url), "%s%s", e->endpoints[endpoint], path);
    const struct etcd_call call = {
        .url = url, .body = body, .token = e->token, .deadline = deadline, .cancel_fd = cancel_fd};
    return etcd_http_post(e->http, &call, reply, err);
}

static int status_error(const struct etcd_reply *reply, struct error *err)
{
    char text[ERROR_TEXT_MAX];
    etcd_decode_error(reply->body, reply->size, text);
    return error_set(err, -EPROTO, "answers with status %ld%s%s", reply->status, *text ? ": " : "",
                     text);
}

static int login(struct etcd *e, size_t endpoint, nsec_t deadline, int cancel_fd, struct error *err)
{
    e->token[0] = '\0';
    char *body = etcd_encode_login(e->user, e->password);
    if (!body)
        return error_set(err, -EINVAL, "user or password are not UTF-8");
    struct etcd_reply reply;
    int rc = post(e, endpoint, "/v3/auth/authenticate", body, deadline, cancel_fd, &reply, err);
    explicit_bzero(body, strlen(body));
    free(body);
    if (rc == 0)
        rc = reply.status == 200 ? etcd_decode_login(reply.body, reply.size, e->token, err)
                                 : status_error(&reply, err);
    return rc < 0 ? error_prefix(err, "login of %.60s", e->user) : 0;
}

/* One endpoint; logs in where that is needed, again when the token is no longer good. */
static int exchange(struct etcd *e, size_t endpoint, const char *path, const char *body,
                    nsec_t deadline, int cancel_fd, struct etcd_reply *reply, struct error *err)
{
    for (bool fresh = false;; fresh = true) {
        int rc = 0;
        if (e->user && (fresh || !*e->token))
            rc = login(e, endpoint, deadline, cancel_fd, err);
        if (rc == 0)
            rc = post(e, endpoint, path, body, deadline, cancel_fd, reply, err);
        if (rc < 0)
            return rc;
        if (reply->status == 200)
            return 0;
        if (reply->status != 401 || !e->user || fresh)
            return status_error(reply, err);
    }
}

/* Reads what an answer of `path` says. */
struct question {
    const char *path;
    const char *body;
    bool swap;
    /* the answer */
    struct etcd_fact fact;
    bool swapped;
};

static int read_reply(struct etcd *e, const struct etcd_reply *reply, struct question *q,
                      struct error *err)
{
    const int rc =
        q->swap ? etcd_decode_swap(reply->body, reply->size, e->key, &q->fact, &q->swapped, err)
                : etcd_decode_range(reply->body, reply->size, e->key, &q->fact, err);
    if (rc < 0)
        return rc;
    if (e->cluster && q->fact.cluster != e->cluster)
        return error_set(err, -EBADMSG, "belongs to another cluster (%" PRIx64 ", not %" PRIx64 ")",
                         q->fact.cluster, e->cluster);
    if (q->fact.revision < e->revision)
        return error_set(err, -EBADMSG,
                         "went back in time (revision %" PRIu64 " after %" PRIu64
                         "): it may have forgotten a grant",
                         q->fact.revision, e->revision);
    e->cluster = q->fact.cluster;
    e->revision = q->fact.revision;
    return 0;
}

/* Endpoint after endpoint, until one gives an answer that can be believed. */
static int consult(struct etcd *e, const struct arbiter_attempt *attempt, struct question *q,
                   struct error *err)
{
    const size_t first = e->current;
    int rc = q->body ? 0 : error_set(err, -EINVAL, "the question can't be put");
    if (rc < 0)
        return rc;
    for (size_t tried = 0; tried < e->endpoint_count; tried++) {
        const size_t at = (first + tried) % e->endpoint_count;
        const nsec_t now = clock_now();
        const nsec_t share = (attempt->deadline - now) / (nsec_t)(e->endpoint_count - tried);
        struct etcd_reply reply;
        *err = (struct error){0};
        rc = exchange(e, at, q->path, q->body, now + share, attempt->cancel_fd, &reply, err);
        if (rc == 0)
            rc = read_reply(e, &reply, q, err);
        if (rc == 0) {
            e->current = at;
            return 0;
        }
        error_prefix(err, "%s", e->endpoints[at]);
        if (rc == -ECANCELED)
            break;
    }
    return rc;
}

/* ---- the key ---- */

/* Facts are about one key: another VM's are forgotten. False when the name is too long. */
static bool select_key(struct etcd *e, const char *vm)
{
    char key[ETCD_KEY_MAX];
    if (snprintf(key, sizeof(key), "%s%s", e->key_prefix, vm) >= (int)sizeof(key))
        return false;
    if (strcmp(key, e->key) != 0) {
        memcpy(e->key, key, sizeof(key));
        e->fact = (struct etcd_fact){0};
        e->existed = false;
    }
    return true;
}

static int read_key(struct etcd *e, const struct arbiter_attempt *attempt, struct error *err)
{
    char *body = etcd_encode_range(e->key);
    struct question q = {.path = "/v3/kv/range", .body = body};
    const int rc = consult(e, attempt, &q, err);
    free(body);
    if (rc < 0)
        return rc;
    e->fact = q.fact;
    e->existed = e->existed || q.fact.present;
    return 0;
}

/* *swapped, or the fact is what the key says now. */
static int swap_key(struct etcd *e, const struct arbiter_attempt *attempt,
                    const struct etcd_record *record, bool *swapped, struct error *err)
{
    char value[ETCD_VALUE_MAX];
    char *body = etcd_record_format(record, value)
                     ? etcd_encode_swap(e->key, e->fact.mod_revision, value)
                     : NULL;
    struct question q = {.path = "/v3/kv/txn", .body = body, .swap = true};
    const int rc = consult(e, attempt, &q, err);
    free(body);
    if (rc < 0)
        return rc;
    e->fact = q.fact;
    *swapped = q.swapped;
    e->existed = e->existed || q.swapped || q.fact.present;
    if (q.swapped) {
        e->fact.present = true;
        e->fact.mod_revision = q.fact.revision;
        e->fact.record = *record;
    }
    return 0;
}

/* ---- decisions ---- */

enum verdict { VERDICT_SWAP, VERDICT_REFUSE, VERDICT_DISTRUST };

static enum verdict judge_absent(const struct arbiter_request *r, const char *key,
                                 struct error *err)
{
    if (r->purpose == ARBITER_START && r->expected == 0)
        return VERDICT_SWAP;
    error_set(err, -ENODATA,
              "etcd has no key %.100s, but this host knows of term %llu: if that is right, put it "
              "there (docs/failure.md)",
              key, (unsigned long long)(r->held ? r->next : r->expected));
    return VERDICT_DISTRUST;
}

static enum verdict judge(const struct arbiter_request *r, const char *key,
                          const struct etcd_fact *fact, struct error *err)
{
    if (!fact->present)
        return judge_absent(r, key, err);
    const term_t current = fact->record.term;
    /* An earlier process of this host was granted it and recorded that: nobody else has it. */
    const bool ours = r->held || strcmp(fact->record.owner, r->who) == 0;
    if ((current == r->next && ours) || (current == r->expected && !r->held))
        return VERDICT_SWAP;
    if (current >= r->next)
        return VERDICT_REFUSE;
    error_set(err, -EBADMSG, "etcd says term %llu, but this host knows of term %llu",
              (unsigned long long)current, (unsigned long long)(r->held ? r->next : r->expected));
    return VERDICT_DISTRUST;
}

static void grant(const struct arbiter_request *r, const struct etcd *e,
                  struct arbiter_answer *answer)
{
    answer->result = ARBITER_GRANTED;
    answer->term = r->next;
    snprintf(answer->text, sizeof(answer->text), "granted by etcd at %s", e->endpoints[e->current]);
}

static void refuse(const struct etcd *e, struct arbiter_answer *answer)
{
    answer->result = ARBITER_REFUSED;
    answer->term = e->fact.record.term;
    snprintf(answer->text, sizeof(answer->text), "etcd: term %llu belongs to %s",
             (unsigned long long)e->fact.record.term, e->fact.record.owner);
}

static int decide(struct etcd *e, const struct arbiter_attempt *attempt,
                  struct arbiter_answer *answer, struct error *err)
{
    const struct arbiter_request *r = &attempt->request;
    struct etcd_record record = {.term = r->next};
    snprintf(record.owner, sizeof(record.owner), "%s", r->who);
    if (!select_key(e, r->vm))
        return error_set(err, -EINVAL, "the key is too long");
    /* A known fact saves the reading in the moment that counts; it is only good for a swap, which
     * compares, never for a refusal. */
    bool fresh = false;
    for (unsigned i = 0; i < SWAPS_MAX;) {
        *err = (struct error){0};
        const enum verdict verdict = judge(r, e->key, &e->fact, err);
        bool swapped = false;
        int rc = 0;
        if (verdict != VERDICT_SWAP && fresh) {
            if (verdict == VERDICT_REFUSE)
                refuse(e, answer);
            return verdict == VERDICT_REFUSE ? 0 : err->code;
        }
        if (verdict == VERDICT_SWAP && (e->fact.cluster || fresh)) {
            rc = swap_key(e, attempt, &record, &swapped, err);
            i++;
        } else {
            rc = read_key(e, attempt, err);
        }
        if (rc < 0)
            return rc;
        if (swapped) {
            grant(r, e, answer);
            return 0;
        }
        fresh = true;
    }
    return error_set(err, -EBUSY, "the key %.100s keeps changing", e->key);
}

static void etcd_ask(void *state, const struct arbiter_attempt *attempt,
                     struct arbiter_answer *answer)
{
    struct error err = {0};
    if (decide(state, attempt, answer, &err) < 0)
        snprintf(answer->text, sizeof(answer->text), "%s", err.text);
}

static int etcd_probe(void *state, const struct arbiter_attempt *attempt, struct error *err)
{
    struct etcd *e = state;
    if (!select_key(e, attempt->request.vm))
        return error_set(err, -EINVAL, "the key is too long");
    const int rc = read_key(e, attempt, err);
    if (rc == 0 && !e->fact.present && e->existed)
        return error_set(err, -ENODATA, "etcd has lost the key %.100s", e->key);
    return rc;
}

/* Back to `expected`, if `next` is in the key under our name. */
static int etcd_give_back(void *state, const struct arbiter_attempt *attempt, struct error *err)
{
    struct etcd *e = state;
    const struct arbiter_request *r = &attempt->request;
    struct etcd_record record = {.term = r->expected};
    snprintf(record.owner, sizeof(record.owner), "returned-by:%.*s", (int)sizeof(record.owner) - 13,
             r->who);
    if (!select_key(e, r->vm))
        return error_set(err, -EINVAL, "the key is too long");
    int rc = read_key(e, attempt, err);
    bool swapped = false;
    while (rc == 0 && !swapped && e->fact.present && e->fact.record.term == r->next &&
           strcmp(e->fact.record.owner, r->who) == 0)
        rc = swap_key(e, attempt, &record, &swapped, err);
    return rc;
}

const struct arbiter_kind arbiter_kind_etcd = {
    .name = "etcd",
    .attempt_timeout = SEC(2),
    .create = etcd_create,
    .ask = etcd_ask,
    .probe = etcd_probe,
    .give_back = etcd_give_back,
    .destroy = etcd_destroy,
};
