/* The events of a node leave it: to a file in the state directory, and to the journal where a
 * service manager keeps one.
 *
 * A thread of its own follows the ring, so that no disk that hangs is waited for by anybody else.
 * When it falls behind by more than the ring holds, the oldest are not written. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/journal.h"
#include "app/node_internal.h"
#include "base/log.h"
#include "control/event_file.h"

/* Told once, and once more when it is over. */
static void tell(struct node *node, bool written, const struct error *err)
{
    struct node_history *h = &node->history;
    if (written == !h->trouble)
        return;
    h->trouble = !written;
    if (!written)
        log_warning("app", "events are not written: %s", err->text);
    control_events_note(node->events, written ? CONTROL_INFO : CONTROL_WARNING,
                        written ? "history.written" : "history.unwritten", "%.200s",
                        written ? "events are written to disk again" : err->text);
}

static void send_to_journal(struct node *node, const struct control_event *event)
{
    const char *role = "none";
    term_t term = 0;
    if (!journal_is_used())
        return;
    pthread_mutex_lock(&node->lock);
    if (node->primary) {
        struct primary_status status;
        primary_snapshot(node->primary, &status);
        role = "primary";
        term = status.term;
    } else if (node->secondary) {
        struct secondary_status status;
        secondary_snapshot(node->secondary, &status);
        role = "secondary";
        term = status.term;
    }
    pthread_mutex_unlock(&node->lock);
    journal_send_event(event, role, term);
}

static void *history_main(void *context)
{
    struct node *node = context;
    struct control_event event;
    uint64_t seen = 0;
    while (control_events_wait(node->events, seen)) {
        if (!control_events_next(node->events, seen, &event))
            continue;
        struct error err = {0};
        seen = event.id;
        send_to_journal(node, &event);
        const int rc = event_file_append(node->history.file, &event, &err);
        tell(node, rc == 0, &err);
    }
    return NULL;
}

int node_build_history(struct node *node, struct error *err)
{
    struct node_history *h = &node->history;
    char *path = NULL;
    if (asprintf(&path, "%s/%s.events", node->config->state_dir, node->config->name) < 0)
        return error_set(err, -ENOMEM, "out of memory");
    h->file = event_file_open(path);
    free(path);
    return h->file ? 0 : error_set(err, -ENOMEM, "out of memory");
}

void node_start_history(struct node *node)
{
    struct node_history *h = &node->history;
    h->started = pthread_create(&h->thread, NULL, history_main, node) == 0;
    if (!h->started)
        node_note(node, true, "history.unwritten", "can't start the thread that writes events");
}

void node_end_history(struct node *node)
{
    struct node_history *h = &node->history;
    if (h->started) {
        control_events_release(node->events);
        pthread_join(h->thread, NULL);
    }
    h->started = false;
    event_file_close(&h->file);
}
