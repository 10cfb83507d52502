#include "control/events.h"

#include <assert.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

/* Event `id` lives in slot (id - 1) % capacity; kept are ids (last - capacity, last]. */
struct control_events {
    size_t capacity; /* set at creation */
    pthread_mutex_t lock;
    pthread_cond_t appended;

    /* Protected by `lock`. */
    uint64_t last;
    bool released;
    void (*notify)(void *context);
    void *notify_context;
    struct control_event slots[];
};

void control_event_init(struct control_event *event, enum control_severity severity,
                        const char *kind, const char *format, ...)
{
    *event = (struct control_event){.severity = severity};
    snprintf(event->kind, sizeof(event->kind), "%s", kind);
    va_list args;
    va_start(args, format);
    vsnprintf(event->text, sizeof(event->text), format, args);
    va_end(args);
}

void control_event_add(struct control_event *event, const char *key, const char *format, ...)
{
    if (event->field_count == CONTROL_EVENT_FIELDS_MAX)
        return;
    struct control_event_field *field = &event->fields[event->field_count++];
    snprintf(field->key, sizeof(field->key), "%s", key);
    va_list args;
    va_start(args, format);
    vsnprintf(field->value, sizeof(field->value), format, args);
    va_end(args);
}

struct control_events *control_events_create(size_t capacity)
{
    assert(capacity > 0);
    struct control_events *events =
        calloc(1, sizeof(*events) + capacity * sizeof(struct control_event));
    if (!events)
        return NULL;
    events->capacity = capacity;
    pthread_mutex_init(&events->lock, NULL);
    pthread_cond_init(&events->appended, NULL);
    return events;
}

void control_events_destroy(struct control_events **events)
{
    if (!*events)
        return;
    pthread_cond_destroy(&(*events)->appended);
    pthread_mutex_destroy(&(*events)->lock);
    free(*events);
    *events = NULL;
}

uint64_t control_events_append(struct control_events *events, const struct control_event *event)
{
    struct timespec wall;
    pthread_mutex_lock(&events->lock);
    clock_gettime(CLOCK_REALTIME, &wall);
    struct control_event *slot = &events->slots[events->last % events->capacity];
    *slot = *event;
    slot->id = ++events->last;
    slot->wall_ns = SEC(wall.tv_sec) + wall.tv_nsec;
    slot->monotonic_ns = clock_now();
    const uint64_t id = slot->id;
    pthread_cond_broadcast(&events->appended);
    /* Under the lock, so that set_notify(NULL) can promise that no call is running. */
    if (events->notify)
        events->notify(events->notify_context);
    pthread_mutex_unlock(&events->lock);
    return id;
}

uint64_t control_events_note(struct control_events *events, enum control_severity severity,
                             const char *kind, const char *format, ...)
{
    struct control_event event;
    control_event_init(&event, severity, kind, "%s", "");
    va_list args;
    va_start(args, format);
    vsnprintf(event.text, sizeof(event.text), format, args);
    va_end(args);
    return control_events_append(events, &event);
}

bool control_events_next(struct control_events *events, uint64_t since, struct control_event *out)
{
    pthread_mutex_lock(&events->lock);
    const bool found = since < events->last;
    if (found) {
        const uint64_t gone = events->last > events->capacity ? events->last - events->capacity : 0;
        *out = events->slots[(since > gone ? since : gone) % events->capacity];
    }
    pthread_mutex_unlock(&events->lock);
    return found;
}

uint64_t control_events_last(struct control_events *events)
{
    pthread_mutex_lock(&events->lock);
    const uint64_t last = events->last;
    pthread_mutex_unlock(&events->lock);
    return last;
}

bool control_events_wait(struct control_events *events, uint64_t since)
{
    pthread_mutex_lock(&events->lock);
    while (events->last <= since && !events->released)
        pthread_cond_wait(&events->appended, &events->lock);
    const bool found = events->last > since;
    pthread_mutex_unlock(&events->lock);
    return found;
}

void control_events_release(struct control_events *events)
{
    pthread_mutex_lock(&events->lock);
    events->released = true;
    pthread_cond_broadcast(&events->appended);
    pthread_mutex_unlock(&events->lock);
}

void control_events_set_notify(struct control_events *events, void (*notify)(void *context),
                               void *context)
{
    pthread_mutex_lock(&events->lock);
    events->notify = notify;
    events->notify_context = context;
    pthread_mutex_unlock(&events->lock);
}
