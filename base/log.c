#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static enum log_level threshold = LOG_LEVEL_INFO;
static void (*sink)(int priority, const char *area, const char *message);

static const struct {
    const char *name;
    int priority; /* syslog(3) severity */
} levels[] = {
    [LOG_LEVEL_ERROR] = {"error", 3},
    [LOG_LEVEL_WARNING] = {"warning", 4},
    [LOG_LEVEL_INFO] = {"info", 6},
    [LOG_LEVEL_DEBUG] = {"debug", 7},
};

void log_set_level(enum log_level level)
{
    threshold = level;
}

void log_set_sink(void (*to)(int priority, const char *area, const char *message))
{
    sink = to;
}

static void write_line(enum log_level level, const char *area, const char *message)
{
    char line[1024];
    size_t used = 0;
    if (getenv("JOURNAL_STREAM"))
        used = (size_t)snprintf(line, sizeof(line), "<%d>", levels[level].priority);
    const int length = snprintf(line + used, sizeof(line) - used - 1, "%s %s: %s",
                                levels[level].name, area, message);
    used += length > 0 ? (size_t)length : 0;
    if (used > sizeof(line) - 2)
        used = sizeof(line) - 2;
    line[used++] = '\n';
    /* A log that can't be written must not stop a guest. */
    ssize_t ignored = write(STDERR_FILENO, line, used);
    (void)ignored;
}

void log_line(enum log_level level, const char *area, const char *format, ...)
{
    if (level > threshold)
        return;
    const int saved_errno = errno;
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (sink)
        sink(levels[level].priority, area, message);
    else
        write_line(level, area, message);
    errno = saved_errno;
}
