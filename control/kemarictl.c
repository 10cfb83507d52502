/* The verbs: each finds its daemon, makes one call and prints what came back. */
#include "control/kemarictl.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "control/client.h"
#include "control/json.h"
#include "control/kemarictl_args.h"
#include "control/keygen.h"
#include "control/render.h"

#define SOCKETS_MAX  256
#define QUICK_ANSWER SEC(5)   /* of what the daemon answers by itself */
#define SLOW_ANSWER  SEC(120) /* of what needs the peer or the guest */
#define WATCH_PERIOD SEC(1)

/* Validity of certificates, in seconds. */
#define YEAR            (365 * 24 * 60 * 60L)
#define AUTHORITY_YEARS 20
#define HOST_YEARS      5
#define CLOCKS_DIFFER   (24 * 60 * 60L)

static enum kemarictl_exit complain(const struct invocation *inv, enum kemarictl_exit status,
                                    const char *text)
{
    fprintf(inv->err, "kemarictl: %s\n", text);
    return status;
}

/* Exit status of an error of control/client.h. */
static enum kemarictl_exit exit_of(int rc)
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

struct socket_list {
    unsigned count;
    char *names[SOCKETS_MAX]; /* of VMs */
};

static void free_sockets(struct socket_list *list)
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
static void find_sockets(const char *run_dir, struct socket_list *list)
{
    list->count = 0;
    DIR *dir = opendir(run_dir);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir)) && list->count < SOCKETS_MAX;) {
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
static char *socket_of(const char *run_dir, const char *machine)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s.sock", run_dir, machine) < 0)
        return NULL;
    return path;
}

/* The socket that the command line means; free *path. */
static enum kemarictl_exit choose_socket(const struct invocation *inv, char **path)
{
    struct socket_list list = {0};
    enum kemarictl_exit status = KEMARICTL_OK;
    *path = NULL;
    if (inv->socket) {
        *path = strdup(inv->socket);
    } else if (inv->machine) {
        *path = socket_of(inv->run_dir, inv->machine);
    } else {
        find_sockets(inv->run_dir, &list);
        if (list.count == 1)
            *path = socket_of(inv->run_dir, list.names[0]);
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
    free_sockets(&list);
    if (status == KEMARICTL_OK && !*path)
        return complain(inv, KEMARICTL_FAILED, "out of memory");
    return status;
}

static enum kemarictl_exit open_client(const struct invocation *inv, struct control_client **client)
{
    char *path;
    struct error err = {0};
    enum kemarictl_exit status = choose_socket(inv, &path);
    if (status != KEMARICTL_OK)
        return status;
    const int rc = control_client_connect(path, client, &err);
    free(path);
    return rc < 0 ? complain(inv, exit_of(rc), err.text) : KEMARICTL_OK;
}

/* A reply is too large for a stack that a test may make small. */
static struct control_reply *make_reply(void)
{
    struct control_reply *reply = calloc(1, sizeof(*reply));
    if (!reply)
        abort();
    return reply;
}

/* Calls and reports everything but an answer of the wanted kind. */
static enum kemarictl_exit call(const struct invocation *inv, struct control_client *client,
                                const struct control_request *request,
                                enum control_reply_kind wanted, struct control_reply *reply)
{
    const bool quick = request->verb == CONTROL_VERB_STATUS || request->verb == CONTROL_VERB_PING;
    struct error err = {0};
    const int rc =
        control_client_call(client, request, quick ? QUICK_ANSWER : SLOW_ANSWER, reply, &err);
    if (rc < 0)
        return complain(inv, exit_of(rc), err.text);
    if (reply->kind == CONTROL_REPLY_REFUSED) {
        fprintf(inv->err, "kemarictl: refused: %s\n", reply->text);
        return reply->code == -EPROTONOSUPPORT ? KEMARICTL_PROTOCOL : KEMARICTL_FAILED;
    }
    if (reply->kind != wanted)
        return complain(inv, KEMARICTL_PROTOCOL, "kemarid gave an answer to something else");
    return KEMARICTL_OK;
}

/* A request that is answered with "done". */
static enum kemarictl_exit command(const struct invocation *inv,
                                   const struct control_request *request)
{
    struct control_client *client = NULL;
    enum kemarictl_exit status = open_client(inv, &client);
    if (status != KEMARICTL_OK)
        return status;
    struct control_reply *reply = make_reply();
    status = call(inv, client, request, CONTROL_REPLY_DONE, reply);
    if (status == KEMARICTL_OK)
        fprintf(inv->out, "%s\n", reply->text);
    free(reply);
    control_client_close(&client);
    return status;
}

static void print_status(const struct invocation *inv, const struct control_status *status)
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
    enum kemarictl_exit status = open_client(inv, &client);
    if (status != KEMARICTL_OK)
        return status;
    struct control_reply *reply = make_reply();
    const bool clear = inv->watch && !inv->json && inv->colour;
    for (bool first = true; status == KEMARICTL_OK && (first || inv->watch); first = false) {
        if (!first)
            wait_period();
        status = call(inv, client, &request, CONTROL_REPLY_STATUS, reply);
        if (status != KEMARICTL_OK)
            break;
        if (clear)
            fputs("\033[H\033[J", inv->out);
        else if (!first && !inv->json)
            fputc('\n', inv->out);
        print_status(inv, &reply->status);
    }
    free(reply);
    control_client_close(&client);
    return status;
}

static bool confirmed(const struct invocation *inv)
{
    char line[16] = "";
    fprintf(
        inv->err,
        "The guest will go on at this host, and stop for good at the other. Fail over now? [y/N] ");
    fflush(inv->err);
    return fgets(line, sizeof(line), stdin) && (line[0] == 'y' || line[0] == 'Y');
}

static enum kemarictl_exit run_failover(struct invocation *inv)
{
    static const struct control_request request = {.verb = CONTROL_VERB_FAILOVER};
    if (!inv->yes && !isatty(STDIN_FILENO))
        return complain(inv, KEMARICTL_USAGE,
                        "failover asks for confirmation; without a terminal it needs --yes");
    if (!inv->yes && !confirmed(inv))
        return complain(inv, KEMARICTL_FAILED, "nothing was done");
    return command(inv, &request);
}

static enum kemarictl_exit run_switchover(struct invocation *inv)
{
    return command(inv, &(struct control_request){.verb = CONTROL_VERB_SWITCHOVER});
}

static enum kemarictl_exit run_stop(struct invocation *inv)
{
    return command(inv, &(struct control_request){.verb = CONTROL_VERB_STOP});
}

static enum kemarictl_exit run_grant(struct invocation *inv)
{
    return command(inv, &(struct control_request){.verb = CONTROL_VERB_GRANT, .term = inv->term});
}

static enum kemarictl_exit run_deny(struct invocation *inv)
{
    return command(inv, &(struct control_request){.verb = CONTROL_VERB_DENY, .term = inv->term});
}

static enum kemarictl_exit run_dump(struct invocation *inv)
{
    struct control_request request = {.verb = CONTROL_VERB_DUMP};
    if (strlen(inv->file) >= sizeof(request.file))
        return complain(inv, KEMARICTL_USAGE, "the name of the file is too long");
    strcpy(request.file, inv->file);
    return command(inv, &request);
}

/* "KEY=VALUE" as one more setting; false when the word is none. */
static bool add_setting(struct control_policy *policy, const char *word)
{
    const char *equals = strchr(word, '=');
    struct control_setting *setting = &policy->settings[policy->count];
    if (policy->count == CONTROL_SETTINGS_MAX || !equals || equals == word ||
        (size_t)(equals - word) >= sizeof(setting->key) ||
        strlen(equals + 1) >= sizeof(setting->value))
        return false;
    memcpy(setting->key, word, (size_t)(equals - word));
    setting->key[equals - word] = '\0';
    strcpy(setting->value, equals + 1);
    policy->count++;
    return true;
}

static enum kemarictl_exit get_policy(const struct invocation *inv)
{
    static const struct control_request request = {.verb = CONTROL_VERB_POLICY};
    struct control_client *client = NULL;
    enum kemarictl_exit status = open_client(inv, &client);
    if (status != KEMARICTL_OK)
        return status;
    struct control_reply *reply = make_reply();
    status = call(inv, client, &request, CONTROL_REPLY_POLICY, reply);
    if (status == KEMARICTL_OK && inv->json) {
        char *text = control_json_policy(&reply->policy);
        fprintf(inv->out, "%s\n", text ? text : "");
        free(text);
    }
    for (unsigned i = 0; status == KEMARICTL_OK && !inv->json && i < reply->policy.count; i++)
        fprintf(inv->out, "%s=%s\n", reply->policy.settings[i].key,
                reply->policy.settings[i].value);
    free(reply);
    control_client_close(&client);
    return status;
}

static enum kemarictl_exit run_policy(struct invocation *inv)
{
    const char *what = inv->word_count ? inv->words[0] : "";
    if (strcmp(what, "get") == 0 && inv->word_count == 1)
        return get_policy(inv);
    if (strcmp(what, "set") != 0 || inv->word_count < 2 || inv->json)
        return complain(inv, KEMARICTL_USAGE,
                        "policy: say \"get\", or \"set KEY=VALUE...\" (try --help)");
    struct control_request request = {.verb = CONTROL_VERB_SET_POLICY};
    for (unsigned i = 1; i < inv->word_count; i++)
        if (!add_setting(&request.policy, inv->words[i])) {
            fprintf(inv->err, "kemarictl: policy: \"%s\" is not KEY=VALUE\n", inv->words[i]);
            return KEMARICTL_USAGE;
        }
    return command(inv, &request);
}

/* Prints one event and says when some before it are gone. */
static void print_event(const struct invocation *inv, uint64_t seen,
                        const struct control_event *event)
{
    if (event->id > seen + 1)
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
    const struct control_request request = {
        .verb = CONTROL_VERB_EVENTS, .since = inv->since, .follow = inv->follow};
    struct control_client *client = NULL;
    enum kemarictl_exit status = open_client(inv, &client);
    if (status != KEMARICTL_OK)
        return status;
    struct control_reply *reply = make_reply();
    struct error err = {0};
    uint64_t seen = inv->since;
    const nsec_t timeout = inv->follow ? 0 : QUICK_ANSWER;
    int rc = control_client_call(client, &request, timeout, reply, &err);
    while (rc == 0 && reply->kind == CONTROL_REPLY_EVENT && !ferror(inv->out)) {
        print_event(inv, seen, &reply->event);
        seen = reply->event.id;
        rc = control_client_next(client, timeout, reply, &err);
    }
    if (rc < 0)
        status = complain(inv, exit_of(rc), err.text);
    else if (reply->kind == CONTROL_REPLY_REFUSED)
        status = complain(inv, KEMARICTL_FAILED, reply->text);
    free(reply);
    control_client_close(&client);
    return status;
}

/* One row; a socket whose daemon is dead or mute is shown as such. */
static void list_one(struct invocation *inv, const char *machine)
{
    static const struct control_request request = {.verb = CONTROL_VERB_STATUS};
    char *path = socket_of(inv->run_dir, machine);
    struct control_client *client = NULL;
    struct control_reply *reply = make_reply();
    struct error err = {0};
    int rc = path ? control_client_connect(path, &client, &err) : -ENOMEM;
    if (rc == 0)
        rc = control_client_call(client, &request, QUICK_ANSWER, reply, &err);
    if (rc < 0)
        fprintf(inv->err, "kemarictl: %s: %s\n", machine, err.text);
    else if (reply->kind != CONTROL_REPLY_STATUS)
        fprintf(inv->err, "kemarictl: %s: %s\n", machine, reply->text);
    else if (inv->json)
        print_status(inv, &reply->status);
    else
        control_render_row(&reply->status, inv->colour, inv->out);
    free(reply);
    free(path);
    control_client_close(&client);
}

static enum kemarictl_exit run_list(struct invocation *inv)
{
    struct socket_list list;
    find_sockets(inv->run_dir, &list);
    if (!inv->json)
        control_render_row(NULL, inv->colour, inv->out);
    inv->watch = true; /* one line per machine */
    for (unsigned i = 0; i < list.count; i++)
        list_one(inv, list.names[i]);
    free_sockets(&list);
    return KEMARICTL_OK;
}

static enum kemarictl_exit make_certificates(const struct invocation *inv)
{
    const char *directory = inv->words[1];
    char authority[PATH_MAX];
    struct error err = {0};
    const time_t now = time(NULL);
    const struct keygen_validity whole = {now - CLOCKS_DIFFER, now + AUTHORITY_YEARS * YEAR};
    const struct keygen_validity own = {now - CLOCKS_DIFFER, now + HOST_YEARS * YEAR};
    int rc = 0;
    for (unsigned i = 2; rc == 0 && i < inv->word_count; i++)
        rc = keygen_check_name(inv->words[i], &err);
    if (rc < 0)
        return complain(inv, KEMARICTL_USAGE, err.text);
    snprintf(authority, sizeof(authority), "%s/ca.pem", directory);
    if (access(authority, F_OK) != 0) {
        rc = keygen_authority(directory, &whole, &err);
        if (rc == 0)
            fprintf(inv->out, "authority: %s, ca.key (keep it off the hosts)\n", authority);
    }
    for (unsigned i = 2; rc == 0 && i < inv->word_count; i++) {
        rc = keygen_host(directory, inv->words[i], &own, &err);
        if (rc == 0)
            fprintf(inv->out, "host: %s/%s.pem, %s.key\n", directory, inv->words[i], inv->words[i]);
    }
    return rc < 0 ? complain(inv, KEMARICTL_FAILED, err.text) : KEMARICTL_OK;
}

static enum kemarictl_exit run_keygen(struct invocation *inv)
{
    struct error err = {0};
    const char *what = inv->word_count ? inv->words[0] : "";
    if (strcmp(what, "certificates") == 0 && inv->word_count > 2)
        return make_certificates(inv);
    if (strcmp(what, "secret") != 0 || inv->word_count != 2)
        return complain(inv, KEMARICTL_USAGE,
                        "keygen: say \"secret FILE\", or \"certificates DIRECTORY HOST...\" (try "
                        "--help)");
    if (keygen_secret(inv->words[1], &err) < 0)
        return complain(inv, KEMARICTL_FAILED, err.text);
    fprintf(inv->out, "secret: %s (the same file on both hosts)\n", inv->words[1]);
    return KEMARICTL_OK;
}

static enum kemarictl_exit run_version(struct invocation *inv)
{
    static const struct control_request request = {.verb = CONTROL_VERB_PING};
    fprintf(inv->out, "kemarictl %s\n", KEMARI_VERSION);
    if (!inv->socket && !inv->machine)
        return KEMARICTL_OK;
    struct control_client *client = NULL;
    enum kemarictl_exit status = open_client(inv, &client);
    if (status != KEMARICTL_OK)
        return status;
    struct control_reply *reply = make_reply();
    status = call(inv, client, &request, CONTROL_REPLY_PONG, reply);
    if (status == KEMARICTL_OK)
        fprintf(inv->out, "kemarid %s, machine %s, process %" PRIu32 "\n", reply->daemon_version,
                reply->vm, reply->pid);
    free(reply);
    control_client_close(&client);
    return status;
}

static const struct verb verbs[] = {
    {"status", TAKES_JSON | TAKES_WATCH, run_status,
     "Shows whether the guest is protected, or exactly why not, and what the daemon is doing."},
    {"failover", TAKES_YES, run_failover,
     "Takes the guest over to this host, now. Asks first, unless --yes is given."},
    {"switchover", 0, run_switchover,
     "Moves the guest to the other host by agreement, from either host; the roles are swapped and "
     "protection goes on."},
    {"stop", 0, run_stop,
     "Ends the daemon and its guest for good; the other host does not take it for a failure."},
    {"events", TAKES_JSON | TAKES_FOLLOW | TAKES_SINCE, run_events,
     "Shows what happened since the daemon started, as far as it is kept."},
    {"grant", TAKES_TERM, run_grant,
     "Answers the manual arbiter: this host may go on alone. Make sure first that the other host "
     "does not run the guest."},
    {"deny", TAKES_TERM, run_deny,
     "Answers the manual arbiter: this host must not go on. A primary stops its guest for good."},
    {"dump", TAKES_FILE, run_dump,
     "Writes the memory of a guest that was stopped for good to a new file FILE in the daemon's "
     "state directory, as an ELF core."},
    {"policy", TAKES_POLICY | TAKES_JSON, run_policy,
     "Shows when checkpoints are taken, or changes it on the host that runs the guest, all of it "
     "or "
     "nothing. Keys are those of the configuration: policy, interval, window, max-interval, "
     "staging-cap, dirty-budget. The secondary takes the policy over with the guest; a restart of "
     "both daemons comes back to what is configured."},
    {"keygen", TAKES_KEYGEN, run_keygen,
     "Makes what the hosts of a pair authenticate each other with, for its owner only and never in "
     "place of a file that is there: a secret, or for each HOST (a DNS name or a numeric address) "
     "a "
     "certificate, and the authority for them where DIRECTORY has none. Needs no daemon."},
    {"list", TAKES_JSON, run_list, "Shows all machines of this host, one per line."},
    {"version", 0, run_version, "Shows the version of kemarictl, and with -m or -s of the daemon."},
};

int kemarictl_run(int argc, char **argv, FILE *out, FILE *err)
{
    const char *run_dir = getenv("KEMARI_RUN_DIR");
    struct invocation inv = {
        .run_dir = run_dir ? run_dir : KEMARICTL_RUN_DIR, .out = out, .err = err};
    inv.colour = isatty(fileno(out)) && !getenv("NO_COLOR");
    if (!kemarictl_parse(&inv, verbs, ARRAY_SIZE(verbs), argc, argv))
        return KEMARICTL_USAGE;
    if (inv.help) {
        kemarictl_print_help(&inv, verbs, ARRAY_SIZE(verbs));
        return KEMARICTL_OK;
    }
    return (int)inv.verb->run(&inv);
}
