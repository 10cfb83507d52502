#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "control/json.h"
#include "control/kemarictl_call.h"
#include "control/render.h"
#include "control/verbs.h"

/* One row; of a socket whose daemon is dead or mute it is said. */
static enum kemarictl_exit list_one(struct invocation *inv, const char *machine)
{
    static const struct control_request request = {.verb = CONTROL_VERB_STATUS};
    char *path = kemarictl_socket_of(inv->run_dir, machine);
    struct control_client *client = NULL;
    struct control_reply *reply = kemarictl_make_reply();
    struct error err = {0};
    enum kemarictl_exit status = KEMARICTL_OK;
    int rc = path ? control_client_connect(path, &client, &err) : -ENOMEM;
    if (rc == 0)
        rc = control_client_call(client, &request, KEMARICTL_QUICK, reply, &err);
    if (rc < 0)
        status = kemarictl_exit_of(rc);
    else if (reply->kind != CONTROL_REPLY_STATUS)
        status = KEMARICTL_FAILED;
    if (status != KEMARICTL_OK)
        fprintf(inv->err, "kemarictl: %s: %s\n", machine, rc < 0 ? err.text : reply->text);
    else if (inv->json)
        kemarictl_print_status(inv, &reply->status);
    else
        control_render_row(&reply->status, inv->colour, inv->out);
    free(reply);
    free(path);
    control_client_close(&client);
    return status;
}

static enum kemarictl_exit run_list(struct invocation *inv)
{
    struct kemarictl_machines list;
    kemarictl_find_machines(inv->run_dir, &list);
    if (!inv->json)
        control_render_row(NULL, inv->colour, inv->out);
    inv->watch = true; /* one line per machine */
    enum kemarictl_exit worst = KEMARICTL_OK;
    for (unsigned i = 0; i < list.count; i++) {
        const enum kemarictl_exit status = list_one(inv, list.names[i]);
        worst = status > worst ? status : worst;
    }
    kemarictl_free_machines(&list);
    return worst;
}

/* `daemon` NULL: none was asked. */
static void print_version(const struct invocation *inv, const struct control_reply *daemon)
{
    if (inv->json) {
        char *text = control_json_version(daemon);
        fprintf(inv->out, "%s\n", text ? text : "");
        free(text);
        return;
    }
    fprintf(inv->out, "kemarictl %s\n", KEMARI_VERSION);
    if (daemon)
        fprintf(inv->out, "kemarid %s, machine %s, process %" PRIu32 "\n", daemon->daemon_version,
                daemon->vm, daemon->pid);
}

static enum kemarictl_exit run_version(struct invocation *inv)
{
    static const struct control_request request = {.verb = CONTROL_VERB_PING};
    struct control_client *client = NULL;
    struct control_reply *reply = NULL;
    enum kemarictl_exit status = KEMARICTL_OK;
    if (inv->socket || inv->machine) {
        reply = kemarictl_make_reply();
        status = kemarictl_open(inv, &client);
        if (status == KEMARICTL_OK)
            status = kemarictl_call(inv, client, &request, CONTROL_REPLY_PONG, reply);
        control_client_close(&client);
    }
    print_version(inv, status == KEMARICTL_OK ? reply : NULL);
    free(reply);
    return status;
}

const struct verb verb_list = {
    .name = "list",
    .takes = TAKES_JSON,
    .run = run_list,
    .help = "Shows all machines of this host, one per line. Exit status 0 when all of them answer.",
};

const struct verb verb_version = {
    .name = "version",
    .takes = TAKES_JSON,
    .run = run_version,
    .help = "Shows the version of kemarictl, and with -m or -s of the daemon.",
};
