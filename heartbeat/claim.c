#include "heartbeat/claim.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct claim {
    struct claim_config config; /* set at creation */

    pthread_mutex_t lock;         /* protects all below */
    uint64_t open;                /* number of the question whose answer counts; 0: none */
    uint64_t last;                /* number of the last question */
    struct arbiter_request asked; /* the last question; only terms and purpose are valid */
    struct claim_status status;
};

int claim_create(const struct claim_config *config, struct claim **out, struct error *err)
{
    struct claim *claim = calloc(1, sizeof(*claim));
    *out = claim;
    if (!claim)
        return error_set(err, -ENOMEM, "claim: out of memory");
    claim->config = *config;
    pthread_mutex_init(&claim->lock, NULL);
    return 0;
}

void claim_destroy(struct claim **claim)
{
    if (!*claim)
        return;
    claim_cancel(*claim);
    pthread_mutex_destroy(&(*claim)->lock);
    free(*claim);
    *claim = NULL;
}

static void on_answer(void *owner, const struct arbiter_answer *answer)
{
    struct claim *claim = owner;
    pthread_mutex_lock(&claim->lock);
    const uint64_t number = claim->open;
    pthread_mutex_unlock(&claim->lock);
    claim->config.answered(claim->config.context, number, answer->result, answer->term,
                           answer->text);
}

static int ask(struct claim *claim, struct arbiter_request request, const char *why,
               struct error *err)
{
    request.vm = claim->config.vm;
    request.who = claim->config.who;
    request.timeout = claim->config.timeout;
    pthread_mutex_lock(&claim->lock);
    claim->open = ++claim->last;
    claim->asked = request;
    pthread_mutex_unlock(&claim->lock);
    request.why = why;
    return arbiter_request(claim->config.arbiter, &request, on_answer, claim, err);
}

int claim_ask(struct claim *claim, term_t term, const char *why, struct error *err)
{
    const struct arbiter_request request = {
        .purpose = claim->config.purpose, .expected = term, .next = term + 1};
    return ask(claim, request, why, err);
}

int claim_reserve(struct claim *claim, term_t term, const char *why, struct error *err)
{
    const struct arbiter_request request = {
        .purpose = ARBITER_HANDOVER, .expected = term, .next = term + 1};
    return ask(claim, request, why, err);
}

int claim_begin(struct claim *claim, term_t recorded, struct error *err)
{
    const term_t next = recorded ? recorded : 1;
    const struct arbiter_request request = {
        .purpose = ARBITER_START, .expected = next - 1, .next = next, .held = recorded != 0};
    return ask(claim, request, "the primary begins", err);
}

void claim_cancel(struct claim *claim)
{
    pthread_mutex_lock(&claim->lock);
    const bool had = claim->open != 0;
    const struct arbiter_request asked = claim->asked;
    claim->open = 0;
    pthread_mutex_unlock(&claim->lock);
    arbiter_cancel(claim->config.arbiter);
    /* A term that was claimed to begin stays with this host: nobody needs it back. */
    if (had && asked.purpose != ARBITER_START)
        arbiter_give_back(claim->config.arbiter, &asked);
}

enum claim_outcome claim_settle(struct claim *claim, uint64_t number, enum arbiter_result result,
                                term_t term, const char *text, struct error *err)
{
    pthread_mutex_lock(&claim->lock);
    const bool current = number != 0 && number == claim->open;
    const bool handover = claim->asked.purpose == ARBITER_HANDOVER;
    if (current) {
        claim->open = 0;
        claim->status.answered = true;
        claim->status.result = result;
        snprintf(claim->status.text, sizeof(claim->status.text), "%s", text);
    }
    pthread_mutex_unlock(&claim->lock);
    if (!current)
        return CLAIM_STALE;
    if (result == ARBITER_REFUSED)
        return CLAIM_REFUSED;
    if (result == ARBITER_UNKNOWN)
        return CLAIM_UNANSWERED;
    if (!handover && term_store_advance(claim->config.terms, term, TERM_OWNER, err) < 0)
        return CLAIM_UNANSWERED;
    return CLAIM_GRANTED;
}

void claim_forget(struct claim *claim)
{
    pthread_mutex_lock(&claim->lock);
    claim->status.answered = false;
    pthread_mutex_unlock(&claim->lock);
}

void claim_snapshot(struct claim *claim, struct claim_status *out)
{
    pthread_mutex_lock(&claim->lock);
    *out = claim->status;
    pthread_mutex_unlock(&claim->lock);
}
