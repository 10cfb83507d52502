#include <errno.h>
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "control/history.h"
#include "control/json.h"
#include "control/kemarictl_call.h"
#include "control/render.h"
#include "control/verbs.h"

#define WATCH_PERIOD SEC(1)

void kemarictl_print_status(const struct invocation *inv, const struct control_status *status)
{
    if (!inv->json) {
        control_render_status(status, inv->colour, inv->out);
    } else {
        char *text = control_json_status(status, inv->watch);
        fprintf(inv->out, "%s\n", text ? text : "");
        free(text);
    }
    fflush(inv->out);
}

static enum kemarictl_exit ask_once(const struct invocation *inv, struct control_reply *reply)
{
    static const struct control_request request = {.verb = CONTROL_VERB_STATUS};
    struct control_client *client = NULL;
    enum kemarictl_exit status = kemarictl_open(inv, &client);
    if (status == KEMARICTL_OK)
        status = kemarictl_call(inv, client, &request, CONTROL_REPLY_STATUS, reply);
    control_client_close(&client);
    return status;
}

static void wait_period(void)
{
    const struct timespec period = {.tv_sec = WATCH_PERIOD / SEC(1)};
    nanosleep(&period, NULL);
}

/* Until interrupted, or --count is reached, or nobody reads any more. A daemon that goes away is
 * said to be away, and shown again when it is back: it may be restarted while someone watches. */
static enum kemarictl_exit watch(const struct invocation *inv, struct control_reply *reply)
{
    const bool live = !inv->json && inv->colour;
    const bool utf8 = inv->colour && strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    struct history history = {0};
    enum kemarictl_exit status = KEMARICTL_OK;
    for (uint64_t n = 0; !ferror(inv->out) && (!inv->count || n < inv->count); n++) {
        if (n)
            wait_period();
        if (live)
            fputs("\033[H\033[J", inv->out);
        else if (n && !inv->json)
            fputc('\n', inv->out);
        status = ask_once(inv, reply);
        if (status != KEMARICTL_OK && status != KEMARICTL_NO_DAEMON)
            return status;
        history_add(&history, status == KEMARICTL_OK ? &reply->status : NULL, clock_now());
        if (status == KEMARICTL_OK)
            kemarictl_print_status(inv, &reply->status);
        if (!inv->json)
            history_render(&history, utf8, inv->out);
        fflush(inv->out);
    }
    return status;
}

static enum kemarictl_exit run_status(struct invocation *inv)
{
    if (inv->count && !inv->watch)
        return kemarictl_complain(inv, KEMARICTL_USAGE, "--count needs --watch (try --help)");
    struct control_reply *reply = kemarictl_make_reply();
    enum kemarictl_exit status = ask_once(inv, reply);
    if (status == KEMARICTL_OK && inv->watch)
        status = watch(inv, reply);
    else if (status == KEMARICTL_OK)
        kemarictl_print_status(inv, &reply->status);
    free(reply);
    return status;
}

const struct verb verb_status = {
    .name = "status",
    .takes = TAKES_JSON | TAKES_WATCH,
    .run = run_status,
    .help =
        "Shows whether the guest is protected, or exactly why not, and what the daemon is doing.",
};
