/* Protection ended by order, and taken up again; the latter is waited for, with its progress. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/json.h"
#include "control/kemarictl_call.h"
#include "control/render.h"
#include "control/verbs.h"

#define LOOK_PERIOD MSEC(250)

static enum kemarictl_exit run_unprotect(struct invocation *inv)
{
    return kemarictl_command(inv, &(struct control_request){.verb = CONTROL_VERB_UNPROTECT});
}

/* Why the guest will not be protected, however long one waits; NULL while it may be. */
static const char *hopeless(const struct control_status *s)
{
    if (s->role == CONTROL_ROLE_SECONDARY)
        return "the guest went to the other host meanwhile";
    if (s->state == CONTROL_STATE_STOPPED)
        return s->reason;
    if (s->unprotected_by_order)
        return "somebody ordered the end of protection again";
    return NULL;
}

/* On a terminal one line that is written over; elsewhere a line per reason. */
static void show_progress(const struct invocation *inv, const struct control_status *s,
                          char last[CONTROL_TEXT_MAX])
{
    const bool live = isatty(fileno(inv->err));
    if (!live && strcmp(last, s->reason) == 0)
        return;
    strcpy(last, s->reason);
    if (live)
        fputs("\r\033[K", inv->err);
    if (!live || !control_render_progress(s, inv->err))
        fputs(s->reason, inv->err);
    if (!live)
        fputc('\n', inv->err);
    fflush(inv->err);
}

static void pause_between_looks(void)
{
    const struct timespec period = clock_to_timespec(LOOK_PERIOD);
    nanosleep(&period, NULL);
}

/* Until the guest is protected, or can't be. Each look is a connection of its own, so that a daemon
 * that is busy is waited for like one that is quick. */
static enum kemarictl_exit wait_protected(const struct invocation *inv, struct control_reply *reply)
{
    static const struct control_request look = {.verb = CONTROL_VERB_STATUS};
    char last[CONTROL_TEXT_MAX] = "";
    for (;;) {
        struct control_client *client = NULL;
        enum kemarictl_exit status = kemarictl_open(inv, &client);
        if (status == KEMARICTL_OK)
            status = kemarictl_call(inv, client, &look, CONTROL_REPLY_STATUS, reply);
        control_client_close(&client);
        if (status != KEMARICTL_OK)
            return status;
        const bool done = reply->status.protected;
        const char *why = done ? NULL : hopeless(&reply->status);
        if (!done && !why)
            show_progress(inv, &reply->status, last);
        if ((done || why) && last[0] && isatty(fileno(inv->err)))
            fputs("\r\033[K", inv->err);
        if (done)
            return kemarictl_outcome(inv, 0, "the guest is protected");
        if (why)
            return kemarictl_outcome(inv, -1, why);
        pause_between_looks();
    }
}

static enum kemarictl_exit run_protect(struct invocation *inv)
{
    static const struct control_request request = {.verb = CONTROL_VERB_PROTECT};
    struct control_client *client = NULL;
    if (inv->no_wait)
        return kemarictl_command(inv, &request);
    enum kemarictl_exit status = kemarictl_open(inv, &client);
    if (status != KEMARICTL_OK)
        return status;
    struct control_reply *reply = kemarictl_make_reply();
    status = kemarictl_call(inv, client, &request, CONTROL_REPLY_DONE, reply);
    control_client_close(&client);
    if (status == KEMARICTL_OK)
        status = wait_protected(inv, reply);
    free(reply);
    return status;
}

const struct verb verb_unprotect = {
    .name = "unprotect",
    .takes = TAKES_JSON,
    .run = run_unprotect,
    .help =
        "Lets the guest go on without a standby, on purpose, until \"protect\". Its output is no "
        "longer held, nobody takes it over any more, and it is lost if this host fails.",
};

const struct verb verb_protect = {
    .name = "protect",
    .takes = TAKES_JSON | TAKES_NO_WAIT,
    .run = run_protect,
    .help = "Lets a secondary in again, and waits until the guest is protected. The guest runs on "
            "while its memory is copied.",
};
