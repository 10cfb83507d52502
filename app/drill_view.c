#include "app/drill_view.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "control/client.h"
#include "control/json.h"

#define PEER_PATIENCE SEC(10) /* a connection over ssh included */
#define ANSWER_MAX    ((size_t)4 << 20)

/* ---- reading ---- */

static void take_text(const json_t *object, const char *key, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(object, key));
    snprintf(out, size, "%s", text ? text : "");
}

static uint64_t take_number(const json_t *object, const char *key)
{
    const json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (uint64_t)value : 0;
}

static void take_takeover(const json_t *json, struct drill_takeover *out)
{
    out->happened = json_is_true(json_object_get(json, "happened"));
    out->term = take_number(json, "term");
    take_text(json, "cause", out->cause, sizeof(out->cause));
    out->suspect = take_number(json, "suspect_ns");
    out->grant = take_number(json, "grant_ns");
    out->load = take_number(json, "load_ns");
    out->network = take_number(json, "network_ns");
    out->run = take_number(json, "run_ns");
    out->first_output = take_number(json, "first_output_ns");
}

bool drill_view_parse(const char *text, struct drill_view *v)
{
    *v = (struct drill_view){0};
    json_t *json = json_loads(text, 0, NULL);
    const json_t *replication = json_object_get(json, "replication");
    v->there = json_is_object(replication);
    take_text(json, "vm", v->vm, sizeof(v->vm));
    take_text(json, "role", v->role, sizeof(v->role));
    take_text(json, "state", v->state, sizeof(v->state));
    take_text(json, "reason", v->reason, sizeof(v->reason));
    take_text(json_object_get(json, "guest"), "state", v->guest, sizeof(v->guest));
    v->protected = json_is_true(json_object_get(json, "protected"));
    v->term = take_number(json, "term");
    v->pid = take_number(json, "pid");
    const json_t *arbiter = json_object_get(json, "arbiter");
    take_text(arbiter, "kind", v->arbiter, sizeof(v->arbiter));
    take_text(arbiter, "state", v->arbiter_state, sizeof(v->arbiter_state));
    v->held_frames = take_number(json_object_get(json, "outbox"), "frames");
    v->hold_max = take_number(json_object_get(replication, "hold"), "max_ns");
    v->bytes_sent = take_number(replication, "bytes_sent");
    const json_t *disks = json_object_get(json, "disks");
    for (size_t i = 0; i < json_array_size(disks); i++)
        v->disk_bytes_sent += take_number(json_array_get(disks, i), "sync_sent_bytes");
    take_takeover(json_object_get(json, "takeover"), &v->takeover);
    json_decref(json);
    return v->there;
}

bool drill_view_owns(const struct drill_view *v)
{
    return v->there && strcmp(v->guest, "running") == 0 &&
           (strcmp(v->role, "primary") == 0 || strcmp(v->role, "solo") == 0);
}

/* ---- asking here ---- */

void drill_view_local(const char *socket, nsec_t timeout, struct drill_view *view)
{
    static const struct control_request request = {.verb = CONTROL_VERB_STATUS};
    struct control_client *client = NULL;
    struct control_reply *reply = calloc(1, sizeof(*reply));
    char *text = NULL;
    *view = (struct drill_view){0};
    if (reply && control_client_connect(socket, &client, NULL) == 0 &&
        control_client_call(client, &request, timeout, reply, NULL) == 0 &&
        reply->kind == CONTROL_REPLY_STATUS)
        text = control_json_status(&reply->status, true);
    if (text)
        drill_view_parse(text, view);
    free(text);
    free(reply);
    control_client_close(&client);
}

/* ---- asking there ---- */

int drill_peer_parse(const char *command, struct drill_peer *peer, struct error *err)
{
    *peer = (struct drill_peer){.text = strdup(command)};
    char *rest = peer->text;
    for (char *word; rest && (word = strsep(&rest, " \t"));) {
        if (!*word)
            continue;
        if (peer->count == DRILL_PEER_MAX) {
            drill_peer_free(peer);
            return error_set(err, -E2BIG, "--peer has more than %d words", DRILL_PEER_MAX);
        }
        peer->words[peer->count++] = word;
    }
    return peer->count ? 0 : error_set(err, -EINVAL, "--peer names no command");
}

void drill_peer_free(struct drill_peer *peer)
{
    free(peer->text);
    *peer = (struct drill_peer){0};
}

static void become_command(const struct drill_peer *peer, const char *const *words, int output)
{
    char *argv[DRILL_PEER_MAX + 16] = {0};
    unsigned count = 0;
    for (; count < peer->count; count++)
        argv[count] = peer->words[count];
    for (; *words && count < ARRAY_SIZE(argv) - 1; words++)
        argv[count++] = (char *)*words;
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (dup2(null, STDIN_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0 &&
        dup2(null, STDERR_FILENO) >= 0)
        execvp(argv[0], argv);
    _exit(127);
}

/* All there is until the end of the stream, or NULL when that is too late or too much. */
static char *read_until_end(int fd, nsec_t deadline)
{
    char *text = calloc(1, ANSWER_MAX + 1);
    size_t used = 0;
    while (text && used < ANSWER_MAX) {
        const nsec_t left = deadline - clock_now();
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        if (left <= 0 || poll(&readable, 1, (int)(left / MSEC(1)) + 1) == 0)
            break;
        const ssize_t n = read(fd, text + used, ANSWER_MAX - used);
        if (n == 0)
            return text;
        if (n < 0 && errno != EINTR)
            break;
        used += n > 0 ? (size_t)n : 0;
    }
    free(text);
    return NULL;
}

char *drill_peer_run(const struct drill_peer *peer, const char *const *words, nsec_t timeout)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return NULL;
    const pid_t child = fork();
    if (child == 0)
        become_command(peer, words, ends[1]);
    fd_close(&ends[1]);
    char *text = child > 0 ? read_until_end(ends[0], clock_now() + timeout) : NULL;
    fd_close(&ends[0]);
    int status = 0;
    if (child > 0 && !text)
        kill(child, SIGKILL);
    if (child > 0 && (waitpid(child, &status, 0) != child || status != 0)) {
        free(text);
        text = NULL;
    }
    return text;
}

void drill_view_peer(const struct drill_peer *peer, struct drill_view *view)
{
    static const char *const words[] = {"status", "--json", NULL};
    char *text = drill_peer_run(peer, words, PEER_PATIENCE);
    *view = (struct drill_view){0};
    if (text)
        drill_view_parse(text, view);
    free(text);
}
