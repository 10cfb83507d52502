/* What the guest said on its consoles lately: a ring of bytes that any thread writes and readers
 * with positions of their own read. Positions count bytes since the daemon's start.
 *
 * Threads: all functions may be called on any thread; one mutex inside. Writing copies and never
 * waits for a reader. */
#ifndef KEMARI_CONTROL_CONSOLE_H
#define KEMARI_CONTROL_CONSOLE_H

#include "base/types.h"

#define CONTROL_CONSOLE_KEPT ((size_t)16 << 10)
#define CONTROL_CONSOLE_PART 4096 /* bytes of one answer */
#define CONTROL_TYPED_MAX    256  /* bytes of one request */

struct control_console;

/* NULL when memory is out. */
struct control_console *control_console_create(void);
void control_console_destroy(struct control_console **console);

void control_console_write(struct control_console *console, const void *data, size_t size);

/* Copies what follows `since` (or the oldest that is kept, when that is later) and sets *next to
 * the position behind it. Returns how many bytes; 0 when there is nothing new. */
size_t control_console_read(struct control_console *console, uint64_t since, void *out, size_t size,
                            uint64_t *next);

#endif
