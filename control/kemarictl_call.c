#include "control/kemarictl_call.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/json.h"

enum kemarictl_exit kemarictl_complain(const struct invocation *inv, enum kemarictl_exit status,
                                       const char *text)
{
    fprintf(inv->err, "kemarictl: %s\n", text);
    return status;
}

enum kemarictl_exit kemarictl_exit_of(int rc)
{
    switch (rc) {
    case -ENOENT:
    case -ECONNREFUSED:
    case -ETIMEDOUT:
    case -ECONNRESET:
        return KEMARICTL_NO_DAEMON;
    case -EBADMSG:
    case -EPROTONOSUPPORT:
        return KEMARICTL_PROTOCOL;
    default:
        return KEMARICTL_FAILED;
    }
}

void kemarictl_free_machines(struct kemarictl_machines *list)
{
    for (unsigned i = 0; i < list->count; i++)
        free(list->names[i]);
    list->count = 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* NAME of every NAME.sock in the run directory, sorted. */
void kemarictl_find_machines(const char *run_dir, struct kemarictl_machines *list)
{
    list->count = 0;
    DIR *dir = opendir(run_dir);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir)) && list->count < KEMARICTL_MACHINES_MAX;) {
        const char *dot = strrchr(entry->d_name, '.');
        if (!dot || dot == entry->d_name || strcmp(dot, ".sock") != 0)
            continue;
        char *name = strndup(entry->d_name, (size_t)(dot - entry->d_name));
        if (name)
            list->names[list->count++] = name;
    }
    closedir(dir);
    qsort(list->names, list->count, sizeof(list->names[0]), compare_names);
}

/* Path of the socket of one machine; free it. */
char *kemarictl_socket_of(const char *run_dir, const char *machine)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s.sock", run_dir, machine) < 0)
        return NULL;
    return path;
}

enum kemarictl_exit kemarictl_choose_socket(const struct invocation *inv, char **path)
{
    struct kemarictl_machines list = {0};
    enum kemarictl_exit status = KEMARICTL_OK;
    *path = NULL;
    if (inv->socket) {
        *path = strdup(inv->socket);
    } else if (inv->machine) {
        *path = kemarictl_socket_of(inv->run_dir, inv->machine);
    } else {
        kemarictl_find_machines(inv->run_dir, &list);
        if (list.count == 1)
            *path = kemarictl_socket_of(inv->run_dir, list.names[0]);
        else if (list.count == 0)
            status = KEMARICTL_NO_DAEMON;
        else
            status = KEMARICTL_USAGE;
    }
    if (status == KEMARICTL_NO_DAEMON)
        fprintf(inv->err, "kemarictl: no kemarid runs here: %s has no socket\n", inv->run_dir);
    else if (status == KEMARICTL_USAGE)
        fprintf(inv->err,
                "kemarictl: %u machines run here, choose one with -m NAME (see "
                "\"kemarictl list\")\n",
                list.count);
    kemarictl_free_machines(&list);
    if (status == KEMARICTL_OK && !*path)
        return kemarictl_complain(inv, KEMARICTL_FAILED, "out of memory");
    return status;
}

enum kemarictl_exit kemarictl_open(const struct invocation *inv, struct control_client **client)
{
    char *path;
    struct error err = {0};
    enum kemarictl_exit status = kemarictl_choose_socket(inv, &path);
    if (status != KEMARICTL_OK)
        return status;
    const int rc = control_client_connect(path, client, &err);
    free(path);
    return rc < 0 ? kemarictl_complain(inv, kemarictl_exit_of(rc), err.text) : KEMARICTL_OK;
}

/* A reply is too large for a stack that a test may make small. */
struct control_reply *kemarictl_make_reply(void)
{
    struct control_reply *reply = calloc(1, sizeof(*reply));
    if (!reply)
        abort();
    return reply;
}

static void print_outcome(const struct invocation *inv, int rc, const char *text)
{
    char *json = control_json_outcome(inv->verb->name, rc, text);
    fprintf(inv->out, "%s\n", json ? json : "");
    free(json);
}

enum kemarictl_exit kemarictl_outcome(const struct invocation *inv, int rc, const char *text)
{
    if (rc < 0)
        kemarictl_complain(inv, KEMARICTL_FAILED, text);
    if (inv->json)
        print_outcome(inv, rc, text);
    else if (rc == 0)
        fprintf(inv->out, "%s\n", text);
    return rc < 0 ? KEMARICTL_FAILED : KEMARICTL_OK;
}

/* Calls and reports everything but an answer of the wanted kind. */
enum kemarictl_exit kemarictl_call(const struct invocation *inv, struct control_client *client,
                                   const struct control_request *request,
                                   enum control_reply_kind wanted, struct control_reply *reply)
{
    const bool quick = request->verb == CONTROL_VERB_STATUS || request->verb == CONTROL_VERB_PING;
    struct error err = {0};
    const int rc =
        control_client_call(client, request, quick ? KEMARICTL_QUICK : KEMARICTL_SLOW, reply, &err);
    if (rc < 0)
        return kemarictl_complain(inv, kemarictl_exit_of(rc), err.text);
    if (reply->kind == CONTROL_REPLY_REFUSED) {
        fprintf(inv->err, "kemarictl: refused: %s\n", reply->text);
        if (inv->json && wanted == CONTROL_REPLY_DONE)
            print_outcome(inv, reply->code, reply->text);
        return reply->code == -EPROTONOSUPPORT ? KEMARICTL_PROTOCOL : KEMARICTL_FAILED;
    }
    if (reply->kind != wanted)
        return kemarictl_complain(inv, KEMARICTL_PROTOCOL,
                                  "kemarid gave an answer to something else");
    return KEMARICTL_OK;
}

/* A request that is answered with "done". */
enum kemarictl_exit kemarictl_command(const struct invocation *inv,
                                      const struct control_request *request)
{
    struct control_client *client = NULL;
    enum kemarictl_exit status = kemarictl_open(inv, &client);
    if (status != KEMARICTL_OK)
        return status;
    struct control_reply *reply = kemarictl_make_reply();
    status = kemarictl_call(inv, client, request, CONTROL_REPLY_DONE, reply);
    if (status == KEMARICTL_OK)
        status = kemarictl_outcome(inv, 0, reply->text);
    free(reply);
    control_client_close(&client);
    return status;
}
