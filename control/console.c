#include "control/console.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Byte `n` lives at n % KEPT; kept are bytes [written - KEPT, written). */
struct control_console {
    pthread_mutex_t lock;
    /* Protected by `lock`. */
    uint64_t written;
    uint8_t bytes[CONTROL_CONSOLE_KEPT];
};

struct control_console *control_console_create(void)
{
    struct control_console *console = calloc(1, sizeof(*console));
    if (console)
        pthread_mutex_init(&console->lock, NULL);
    return console;
}

void control_console_destroy(struct control_console **console)
{
    if (!*console)
        return;
    pthread_mutex_destroy(&(*console)->lock);
    free(*console);
    *console = NULL;
}

void control_console_write(struct control_console *console, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    pthread_mutex_lock(&console->lock);
    /* Of more than is kept the end counts. */
    if (size > CONTROL_CONSOLE_KEPT) {
        console->written += size - CONTROL_CONSOLE_KEPT;
        bytes += size - CONTROL_CONSOLE_KEPT;
        size = CONTROL_CONSOLE_KEPT;
    }
    const size_t at = (size_t)(console->written % CONTROL_CONSOLE_KEPT);
    const size_t first = size < CONTROL_CONSOLE_KEPT - at ? size : CONTROL_CONSOLE_KEPT - at;
    memcpy(console->bytes + at, bytes, first);
    memcpy(console->bytes, bytes + first, size - first);
    console->written += size;
    pthread_mutex_unlock(&console->lock);
}

size_t control_console_read(struct control_console *console, uint64_t since, void *out, size_t size,
                            uint64_t *next)
{
    pthread_mutex_lock(&console->lock);
    const uint64_t oldest =
        console->written > CONTROL_CONSOLE_KEPT ? console->written - CONTROL_CONSOLE_KEPT : 0;
    /* A position of another daemon's life begins anew. */
    const uint64_t from = since < oldest || since > console->written ? oldest : since;
    const uint64_t left = console->written - from;
    const size_t count = left < size ? (size_t)left : size;
    const size_t at = (size_t)(from % CONTROL_CONSOLE_KEPT);
    const size_t first = count < CONTROL_CONSOLE_KEPT - at ? count : CONTROL_CONSOLE_KEPT - at;
    memcpy(out, console->bytes + at, first);
    memcpy((uint8_t *)out + first, console->bytes, count - first);
    *next = from + count;
    pthread_mutex_unlock(&console->lock);
    return count;
}
