/* Structured log lines on stderr: "<level> <area>: <message>". systemd's journal reads the
 * "<N>" priority prefix that is written where JOURNAL_STREAM is set.
 * Any thread may log; a line is written with one write(2), so lines never interleave. */
#ifndef KEMARI_BASE_LOG_H
#define KEMARI_BASE_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Lines above this level are dropped. Set once at start, before threads exist. */
void log_set_level(enum log_level level);

/* From now on lines go there instead; `priority` as in syslog(3), `message` without an end of line.
 * Set once at start, before threads exist. */
void log_set_sink(void (*sink)(int priority, const char *area, const char *message));

/* `area` names the folder or concern ("primary", "heartbeat"). */
void log_line(enum log_level level, const char *area, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(area, ...)   log_line(LOG_LEVEL_ERROR, area, __VA_ARGS__)
#define log_warning(area, ...) log_line(LOG_LEVEL_WARNING, area, __VA_ARGS__)
#define log_info(area, ...)    log_line(LOG_LEVEL_INFO, area, __VA_ARGS__)
#define log_debug(area, ...)   log_line(LOG_LEVEL_DEBUG, area, __VA_ARGS__)

#endif
