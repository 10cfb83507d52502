#include <stdlib.h>
#include <time.h>

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

static void wait_period(void)
{
    const struct timespec period = {.tv_sec = WATCH_PERIOD / SEC(1)};
    nanosleep(&period, NULL);
}

static enum kemarictl_exit run_status(struct invocation *inv)
{
    static const struct control_request request = {.verb = CONTROL_VERB_STATUS};
    struct control_client *client = NULL;
    enum kemarictl_exit status = kemarictl_open(inv, &client);
    if (status != KEMARICTL_OK)
        return status;
    struct control_reply *reply = kemarictl_make_reply();
    const bool clear = inv->watch && !inv->json && inv->colour;
    for (bool first = true; status == KEMARICTL_OK && (first || inv->watch); first = false) {
        if (!first)
            wait_period();
        status = kemarictl_call(inv, client, &request, CONTROL_REPLY_STATUS, reply);
        if (status != KEMARICTL_OK)
            break;
        if (clear)
            fputs("\033[H\033[J", inv->out);
        else if (!first && !inv->json)
            fputc('\n', inv->out);
        kemarictl_print_status(inv, &reply->status);
    }
    free(reply);
    control_client_close(&client);
    return status;
}

const struct verb verb_status = {
    .name = "status",
    .takes = TAKES_JSON | TAKES_WATCH,
    .run = run_status,
    .help =
        "Shows whether the guest is protected, or exactly why not, and what the daemon is doing.",
};
