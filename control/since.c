#include "control/since.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Of a span of time, by its last letter; 0: it has none. */
static int64_t unit_of(const char *rest)
{
    static const struct {
        const char *letter;
        int64_t seconds;
    } units[] = {{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};
    for (size_t i = 0; i < ARRAY_SIZE(units); i++)
        if (strcmp(units[i].letter, rest) == 0)
            return units[i].seconds;
    return 0;
}

/* The whole text in one of the formats; those without a date are of the day in *tm. */
static bool parse_date(const char *text, struct tm *tm)
{
    static const char *const formats[] = {
        "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d",
        "%H:%M:%S",          "%H:%M"};
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        struct tm tried = *tm;
        tried.tm_hour = tried.tm_min = tried.tm_sec = 0;
        tried.tm_isdst = -1;
        const char *end = strptime(text, formats[i], &tried);
        if (end && *end == '\0') {
            *tm = tried;
            return true;
        }
    }
    return false;
}

int since_parse(const char *text, int64_t now_wall_ns, struct since *out, struct error *err)
{
    const time_t now = (time_t)(now_wall_ns / SEC(1));
    struct tm tm;
    char *rest = (char *)text;
    unsigned long long number = 0;
    *out = (struct since){0};
    errno = 0;
    if (*text >= '0' && *text <= '9')
        number = strtoull(text, &rest, 10);
    const bool counted = rest != text && errno == 0;
    if (counted && *rest == '\0') {
        out->id = number;
        return 0;
    }
    const int64_t unit = counted ? unit_of(rest) : 0;
    if (unit && number <= (uint64_t)(now / unit)) {
        out->wall_ns = now_wall_ns - (int64_t)number * SEC(unit);
        /* 0 would be none. */
        out->wall_ns += out->wall_ns == 0;
        return 0;
    }
    localtime_r(&now, &tm);
    if (!unit && parse_date(text, &tm)) {
        const time_t seconds = mktime(&tm);
        if (seconds > 0 && seconds < INT64_MAX / SEC(1)) {
            out->wall_ns = SEC(seconds);
            return 0;
        }
    }
    return error_set(err, -EINVAL,
                     "--since %.80s: neither a number of an event nor a time, such as \"2h\", "
                     "\"10:30\" or \"2025-01-31 10:30\"",
                     text);
}
