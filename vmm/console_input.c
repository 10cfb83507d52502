#include "vmm/console_input.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_SIZE 4096u
#define CHUNK      64u

struct console_input {
    /* set at creation */
    struct device_lock *device_lock;
    size_t (*feed)(const struct device *, const uint8_t *, size_t);
    const struct device *device;
    struct event *wake;

    pthread_mutex_t lock; /* innermost: protects what follows */
    uint8_t bytes[QUEUE_SIZE];
    size_t count; /* also read without it */
};

/* Copies the head of the queue. Only the I/O thread takes bytes out, so they stay there. */
static size_t peek(struct console_input *in, uint8_t *chunk)
{
    pthread_mutex_lock(&in->lock);
    const size_t count = in->count < CHUNK ? in->count : CHUNK;
    memcpy(chunk, in->bytes, count);
    pthread_mutex_unlock(&in->lock);
    return count;
}

static void drop(struct console_input *in, size_t count)
{
    pthread_mutex_lock(&in->lock);
    __atomic_store_n(&in->count, in->count - count, __ATOMIC_RELAXED);
    memmove(in->bytes, in->bytes + count, in->count);
    pthread_mutex_unlock(&in->lock);
}

static void on_wake(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct console_input *in = context;
    uint8_t chunk[CHUNK];
    device_lock_acquire(in->device_lock);
    for (size_t count, taken; (count = peek(in, chunk)) > 0;) {
        taken = in->feed(in->device, chunk, count);
        drop(in, taken);
        if (taken < count)
            break;
    }
    device_lock_release(in->device_lock);
}

int console_input_create(const struct device_env *env,
                         size_t (*feed)(const struct device *, const uint8_t *, size_t),
                         const struct device *device, struct console_input **out, struct error *err)
{
    struct console_input *in = calloc(1, sizeof(*in));
    if (!in)
        return error_set(err, -ENOMEM, "console input: out of memory");
    in->device_lock = env->lock;
    in->feed = feed;
    in->device = device;
    pthread_mutex_init(&in->lock, NULL);
    in->wake = event_new(env->events, -1, EV_PERSIST, on_wake, in);
    if (!in->wake) {
        console_input_destroy(&in);
        return error_set(err, -ENOMEM, "console input: out of memory");
    }
    *out = in;
    return 0;
}

void console_input_destroy(struct console_input **input)
{
    if (!*input)
        return;
    if ((*input)->wake)
        event_free((*input)->wake);
    pthread_mutex_destroy(&(*input)->lock);
    free(*input);
    *input = NULL;
}

size_t console_input_put(struct console_input *in, const uint8_t *data, size_t size)
{
    pthread_mutex_lock(&in->lock);
    const size_t room = QUEUE_SIZE - in->count;
    const size_t taken = size < room ? size : room;
    memcpy(in->bytes + in->count, data, taken);
    __atomic_store_n(&in->count, in->count + taken, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&in->lock);
    if (taken)
        console_input_kick(in);
    return taken;
}

void console_input_kick(struct console_input *in)
{
    if (__atomic_load_n(&in->count, __ATOMIC_RELAXED) > 0)
        event_active(in->wake, EV_READ, 0);
}

void console_input_clear(struct console_input *in)
{
    pthread_mutex_lock(&in->lock);
    __atomic_store_n(&in->count, 0, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&in->lock);
}
