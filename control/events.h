/* The daemon's memory of what happened: a bounded ring of structured events.
 *
 * Any thread appends; the oldest are overwritten. Ids grow by one per event and are never reused,
 * so a reader that remembers the last id it saw notices exactly how many it missed.
 *
 * Threads: all functions may be called on any thread; one mutex inside, never held over a call out
 * of this module except the notify function. Appending copies about 1 KiB and never allocates or
 * waits for a reader. */
#ifndef KEMARI_CONTROL_EVENTS_H
#define KEMARI_CONTROL_EVENTS_H

#include "base/types.h"

#define CONTROL_EVENT_KIND_MAX   48
#define CONTROL_EVENT_TEXT_MAX   256
#define CONTROL_EVENT_FIELDS_MAX 12
#define CONTROL_EVENT_KEY_MAX    32
#define CONTROL_EVENT_VALUE_MAX  64

enum control_severity { CONTROL_INFO, CONTROL_WARNING, CONTROL_ERROR };

struct control_event_field {
    char key[CONTROL_EVENT_KEY_MAX]; /* [a-z0-9_]; a unit is its suffix: "pause_ns" */
    char value[CONTROL_EVENT_VALUE_MAX];
};

struct control_event {
    uint64_t id;         /* set by append; the first is 1 */
    int64_t wall_ns;     /* set by append, CLOCK_REALTIME */
    nsec_t monotonic_ns; /* set by append, CLOCK_MONOTONIC */
    enum control_severity severity;
    char kind[CONTROL_EVENT_KIND_MAX]; /* stable "area.what", [a-z0-9.-]: "failover.suspect" */
    char text[CONTROL_EVENT_TEXT_MAX]; /* one phrase for people */
    unsigned field_count;
    struct control_event_field fields[CONTROL_EVENT_FIELDS_MAX];
};

/* Starts an event; too long a text is cut. */
void control_event_init(struct control_event *event, enum control_severity severity,
                        const char *kind, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Adds one key and value; the ones that do not fit any more are left out. */
void control_event_add(struct control_event *event, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

struct control_events;

/* `capacity` events, at least 1. NULL when memory is out. */
struct control_events *control_events_create(size_t capacity);
void control_events_destroy(struct control_events **events);

/* Stamps id and times, stores a copy and returns the id. */
uint64_t control_events_append(struct control_events *events, const struct control_event *event);

/* For the common case without fields: init and append in one. */
uint64_t control_events_note(struct control_events *events, enum control_severity severity,
                             const char *kind, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Copies the oldest kept event with an id greater than `since`; false when there is none. Events
 * `since` + 1 .. out->id - 1 are lost. */
bool control_events_next(struct control_events *events, uint64_t since, struct control_event *out);

/* Id of the newest event, 0 when there was none. */
uint64_t control_events_last(struct control_events *events);

/* Waits for an event with an id greater than `since`: true when there is one, false when there is
 * none and control_events_release() was called. */
bool control_events_wait(struct control_events *events, uint64_t since);
/* From now on nobody waits any more. */
void control_events_release(struct control_events *events);

/* Calls `notify` after every append, on the appending thread; it must neither block nor append.
 * One listener; NULL removes it, and returns only when no call is running. */
void control_events_set_notify(struct control_events *events, void (*notify)(void *context),
                               void *context);

#endif
