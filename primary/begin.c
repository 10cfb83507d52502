/* Before the guest begins: with an arbiter that remembers, this host must be told that it owns the
 * guest. */
#include <errno.h>

#include "base/log.h"
#include "primary/primary_internal.h"

/* Another host owns the guest. */
static bool end_refused(struct primary *p, const char *why)
{
    struct error err = {0};
    const struct term_record record = term_store_current(p->config.terms);
    if (record.ownership == TERM_OWNER &&
        term_store_advance(p->config.terms, record.term, TERM_LOST, &err) < 0)
        log_error("primary", "can't record that term %llu is lost: %s",
                  (unsigned long long)record.term, err.text);
    const struct checkpoint_disks *disks = &p->config.engine.machine.disks;
    if (disks->ops)
        disks->ops->outdate(disks->context, record.term);
    primary_note(p, true, "primary.refused", why);
    p->ended = true;
    p->end = PRIMARY_END_REFUSED;
    return false;
}

static bool ask_to_begin(struct primary *p)
{
    struct error err = {0};
    if (claim_begin(p->claim, term_store_current(p->config.terms).term, &err) == 0)
        return true;
    log_error("primary", "can't ask the arbiter: %s", err.text);
    p->ended = true;
    p->end = PRIMARY_END_FAILED;
    return false;
}

/* True when the guest may begin. While an arbiter with a memory has not said that this host owns
 * the guest, it does not even run: what it would do could not be committed in any term. Nobody
 * waits at the door yet, and the only news that count are the answer, a peer that owns a higher
 * term, and the operator. */
bool primary_begin_term(struct primary *p)
{
    struct error err = {0};
    if (!ask_to_begin(p))
        return false;
    for (;;) {
        struct letter letter;
        if (!mailbox_wait(p->mailbox, &letter, INT64_MAX))
            continue;
        if (letter.kind == LETTER_STOP) {
            p->ended = true;
            p->end = PRIMARY_END_STOPPED;
            return false;
        }
        if (letter.kind == LETTER_FSM && letter.event == PRIMARY_EVENT_SUPERSEDED)
            return end_refused(p, letter.text);
        if (letter.kind == LETTER_UNPROTECT || letter.kind == LETTER_PROTECT)
            primary_refuse_order(p, "the guest has not begun: the arbiter is asked first");
        if (letter.kind == LETTER_SWITCHOVER && p->config.switchover_failed)
            p->config.switchover_failed(p->config.context,
                                        "the guest has not begun: the arbiter is asked first");
        if (letter.kind != LETTER_ANSWER)
            continue;
        switch (claim_settle(p->claim, letter.answer.number, letter.answer.result,
                             letter.answer.term, letter.text, &err)) {
        case CLAIM_GRANTED:
            pthread_mutex_lock(&p->lock);
            p->status.term = letter.answer.term;
            p->status.beginning = false;
            pthread_mutex_unlock(&p->lock);
            return true;
        case CLAIM_REFUSED:
            return end_refused(p, letter.text);
        case CLAIM_UNANSWERED:
            if (!ask_to_begin(p))
                return false;
            break;
        case CLAIM_STALE:
            break;
        }
    }
}
