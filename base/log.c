#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static enum log_level threshold = LOG_LEVEL_INFO;

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

void log_line(enum log_level level, const char *area, const char *format, ...)
{
    if (level > threshold)
        return;
    const int saved_errno = errno;
    char line[1024];
    size_t used = 0;
    if (getenv("JOURNAL_STREAM"))
        used = (size_t)snprintf(line, sizeof(line), "<%d>", levels[level].priority);
    used += (size_t)snprintf(line + used, sizeof(line) - used, "%s %s: ", levels[level].name, area);
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line + used, sizeof(line) - used - 1, format, args);
    va_end(args);
    if (length > 0)
        used += (size_t)length;
    if (used > sizeof(line) - 2)
        used = sizeof(line) - 2;
    line[used++] = '\n';
    /* A log that can't be written must not stop a guest. */
    ssize_t ignored = write(STDERR_FILENO, line, used);
    (void)ignored;
    errno = saved_errno;
}
