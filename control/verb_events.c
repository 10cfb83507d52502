#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "control/json.h"
#include "control/kemarictl_call.h"
#include "control/render.h"
#include "control/since.h"
#include "control/verbs.h"

/* Prints one event and says when some before it are gone. */
static void print_event(const struct invocation *inv, bool by_number, uint64_t seen,
                        const struct control_event *event)
{
    if (by_number && event->id > seen + 1)
        fprintf(inv->err, "kemarictl: %" PRIu64 " events before this one are no longer kept\n",
                event->id - seen - 1);
    if (inv->json) {
        char *text = control_json_event(event);
        fprintf(inv->out, "%s\n", text ? text : "");
        free(text);
    } else {
        control_render_event(event, inv->colour, inv->out);
    }
    fflush(inv->out);
}

static enum kemarictl_exit run_events(struct invocation *inv)
{
    struct control_request request = {.verb = CONTROL_VERB_EVENTS, .follow = inv->follow};
    struct control_client *client = NULL;
    struct since since = {0};
    struct error wrong = {0};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (inv->since && since_parse(inv->since, SEC(now.tv_sec) + now.tv_nsec, &since, &wrong) < 0)
        return kemarictl_complain(inv, KEMARICTL_USAGE, wrong.text);
    request.since = since.id;
    request.since_wall_ns = since.wall_ns;
    enum kemarictl_exit status = kemarictl_open(inv, &client);
    if (status != KEMARICTL_OK)
        return status;
    struct control_reply *reply = kemarictl_make_reply();
    struct error err = {0};
    uint64_t seen = since.id;
    const nsec_t timeout = inv->follow ? 0 : KEMARICTL_QUICK;
    int rc = control_client_call(client, &request, timeout, reply, &err);
    while (rc == 0 && reply->kind == CONTROL_REPLY_EVENT && !ferror(inv->out)) {
        /* A daemon that knows numbers only says more than was asked for. */
        if (reply->event.wall_ns >= since.wall_ns)
            print_event(inv, !since.wall_ns, seen, &reply->event);
        seen = reply->event.id;
        rc = control_client_next(client, timeout, reply, &err);
    }
    if (rc < 0)
        status = kemarictl_complain(inv, kemarictl_exit_of(rc), err.text);
    else if (reply->kind == CONTROL_REPLY_REFUSED)
        status = kemarictl_complain(inv, KEMARICTL_FAILED, reply->text);
    free(reply);
    control_client_close(&client);
    return status;
}

const struct verb verb_events = {
    .name = "events",
    .takes = TAKES_JSON | TAKES_FOLLOW | TAKES_SINCE,
    .run = run_events,
    .help = "Shows what happened since the daemon started, as far as it is kept. With a time, also "
            "what "
            "happened before, from the file in its state directory.",
};
