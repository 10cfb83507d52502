#include "test/support/world.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"

#define VIRTIO_HEADER   12
#define WIRE_BUFFER     (1 << 20) /* bytes of frames the wire holds */
#define SEND_TIMEOUT_MS 5000
#define TAIL            400 /* bytes of console text shown when a wait fails */

struct frame {
    nsec_t seen;
    size_t size;
    uint8_t bytes[WORLD_FRAME_MAX];
};

struct world {
    /* Set at creation. */
    int wire[2]; /* [0] ours, [1] the machine's */

    /* Owned by whoever plugs (one thread at a time). */
    struct machine *plugged;

    pthread_mutex_t lock; /* protects the rest */
    pthread_cond_t changed;
    char *console;
    size_t console_size;
    struct frame *frames; /* ring */
    size_t frames_first, frames_count;
    unsigned events[MACHINE_EVENT_COUNT];
};

static void require(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "world: %s: %s\n", what, strerror(errno));
    abort();
}

struct world *world_create(void)
{
    struct world *w = calloc(1, sizeof(*w));
    require(w != NULL, "memory");
    w->console = malloc(WORLD_CONSOLE_MAX + 1);
    w->frames = malloc(WORLD_FRAMES_MAX * sizeof(*w->frames));
    require(w->console && w->frames, "memory");
    w->console[0] = '\0';
    require(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, w->wire) == 0,
            "socketpair");
    const int size = WIRE_BUFFER;
    for (int i = 0; i < 2; i++)
        require(setsockopt(w->wire[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0,
                "socket buffer");
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&w->lock, NULL);
    return w;
}

void world_destroy(struct world **world)
{
    struct world *w = *world;
    if (!w)
        return;
    world_plug(w, NULL);
    fd_close(&w->wire[0]);
    fd_close(&w->wire[1]);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w->console);
    free(w->frames);
    free(w);
    *world = NULL;
}

void world_put_frame(struct world *w, const uint8_t *frame, size_t size)
{
    if (size < VIRTIO_HEADER || size - VIRTIO_HEADER > WORLD_FRAME_MAX)
        return;
    pthread_mutex_lock(&w->lock);
    if (w->frames_count < WORLD_FRAMES_MAX) {
        struct frame *f = &w->frames[(w->frames_first + w->frames_count++) % WORLD_FRAMES_MAX];
        f->seen = clock_now();
        f->size = size - VIRTIO_HEADER;
        memcpy(f->bytes, frame + VIRTIO_HEADER, f->size);
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
}

void world_put_console(struct world *w, const uint8_t *data, size_t size)
{
    pthread_mutex_lock(&w->lock);
    require(size <= WORLD_CONSOLE_MAX - w->console_size, "the guest says too much");
    for (size_t i = 0; i < size; i++) /* a zero byte would hide what follows */
        w->console[w->console_size++] = data[i] ? (char)data[i] : '?';
    w->console[w->console_size] = '\0';
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

void world_put_event(struct world *w, enum machine_event event)
{
    pthread_mutex_lock(&w->lock);
    w->events[event]++;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static void on_network(void *context, unsigned index, const struct iovec *parts, int count)
{
    (void)index;
    uint8_t frame[VIRTIO_HEADER + WORLD_FRAME_MAX];
    size_t size = 0;
    for (int i = 0; i < count; i++) {
        if (parts[i].iov_len > sizeof(frame) - size)
            return;
        memcpy(frame + size, parts[i].iov_base, parts[i].iov_len);
        size += parts[i].iov_len;
    }
    world_put_frame(context, frame, size);
}

static void on_console(void *context, enum machine_console which, const uint8_t *data, size_t size)
{
    (void)which;
    world_put_console(context, data, size);
}

static void on_event(void *context, enum machine_event event, const char *detail)
{
    if (event == MACHINE_EVENT_FAILED)
        fprintf(stderr, "world: machine failed: %s\n", detail ? detail : "no detail");
    world_put_event(context, event);
}

const struct machine_output_ops world_output = {
    .network = on_network,
    .console = on_console,
    .event = on_event,
};

void world_plug(struct world *w, struct machine *machine)
{
    if (w->plugged)
        (void)machine_net_attach(w->plugged, 0, -1, NULL);
    w->plugged = machine;
    struct error err;
    if (machine && machine_net_attach(machine, 0, w->wire[1], &err)) {
        fprintf(stderr, "world: %s\n", err.text);
        abort();
    }
}

void world_unplug(struct world *w, const struct machine *machine)
{
    if (w->plugged == machine)
        world_plug(w, NULL);
}

int world_wire_fd(const struct world *w)
{
    return w->wire[1];
}

bool world_send(struct world *w, const uint8_t *frame, size_t size)
{
    uint8_t header[VIRTIO_HEADER] = {0};
    struct iovec parts[] = {
        {.iov_base = header, .iov_len = sizeof(header)},
        {.iov_base = (void *)(uintptr_t)frame, .iov_len = size},
    };
    struct pollfd room = {.fd = w->wire[0], .events = POLLOUT};
    while (writev(w->wire[0], parts, 2) != (ssize_t)(sizeof(header) + size))
        if (errno != EAGAIN || poll(&room, 1, SEND_TIMEOUT_MS) != 1)
            return false;
    return true;
}

/* Waits for a change until `deadline`; false when it has passed. Holds the lock. */
static bool wait_change(struct world *w, nsec_t deadline)
{
    const struct timespec until = clock_to_timespec(deadline);
    return pthread_cond_timedwait(&w->changed, &w->lock, &until) == 0;
}

size_t world_receive(struct world *w, uint8_t *frame, unsigned timeout_ms, nsec_t *seen)
{
    const nsec_t deadline = clock_now() + MSEC(timeout_ms);
    size_t size = 0;
    pthread_mutex_lock(&w->lock);
    while (w->frames_count == 0 && wait_change(w, deadline))
        ;
    if (w->frames_count) {
        const struct frame *f = &w->frames[w->frames_first];
        size = f->size;
        memcpy(frame, f->bytes, size);
        if (seen)
            *seen = f->seen;
        w->frames_first = (w->frames_first + 1) % WORLD_FRAMES_MAX;
        w->frames_count--;
    }
    pthread_mutex_unlock(&w->lock);
    return size;
}

void world_drop_frames(struct world *w)
{
    pthread_mutex_lock(&w->lock);
    w->frames_count = 0;
    pthread_mutex_unlock(&w->lock);
}

static const char *find_complaint(const struct world *w)
{
    static const char *const words[] = {"CORRUPT", "BACKWARDS", "LOST", "EXCEPTION", "FAIL"};
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        const char *at = strstr(w->console, words[i]);
        if (at && strchr(at, '\n')) /* said to its end */
            return at;
    }
    return NULL;
}

bool world_wait_console(struct world *w, const char *text, size_t *from, unsigned timeout_ms)
{
    const nsec_t deadline = clock_now() + MSEC(timeout_ms);
    const size_t start = from ? *from : 0;
    const char *at = NULL;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        at = start <= w->console_size ? strstr(w->console + start, text) : NULL;
        if (at || find_complaint(w) || !wait_change(w, deadline))
            break;
    }
    if (at && from)
        *from = (size_t)(at - w->console) + strlen(text);
    if (!at)
        fprintf(stderr, "world: waited in vain for \"%s\"; the console ends with:\n%s\n", text,
                w->console + (w->console_size > TAIL ? w->console_size - TAIL : 0));
    pthread_mutex_unlock(&w->lock);
    return at != NULL;
}

size_t world_console_size(struct world *w)
{
    pthread_mutex_lock(&w->lock);
    const size_t size = w->console_size;
    pthread_mutex_unlock(&w->lock);
    return size;
}

size_t world_console_text(struct world *w, size_t from, char *text, size_t size)
{
    pthread_mutex_lock(&w->lock);
    size_t count = from < w->console_size ? w->console_size - from : 0;
    if (count > size - 1)
        count = size - 1;
    memcpy(text, w->console + from, count);
    text[count] = '\0';
    pthread_mutex_unlock(&w->lock);
    return count;
}

bool world_complaint(struct world *w, char *line, size_t size)
{
    pthread_mutex_lock(&w->lock);
    const char *at = find_complaint(w);
    if (at)
        snprintf(line, size, "%.*s", (int)strcspn(at, "\n"), at);
    pthread_mutex_unlock(&w->lock);
    return at != NULL;
}

bool world_wait_event(struct world *w, enum machine_event event, unsigned count,
                      unsigned timeout_ms)
{
    const nsec_t deadline = clock_now() + MSEC(timeout_ms);
    pthread_mutex_lock(&w->lock);
    while (w->events[event] < count && wait_change(w, deadline))
        ;
    const bool reached = w->events[event] >= count;
    pthread_mutex_unlock(&w->lock);
    return reached;
}
