#include "control/history.h"

#include <string.h>

#include "control/render.h"

#define UNKNOWN    -1.0
#define PAGE_BYTES 4096.0
#define LABEL      12

static void push(double *values, unsigned count, double value)
{
    if (count == HISTORY_SAMPLES)
        memmove(values, values + 1, (HISTORY_SAMPLES - 1) * sizeof(*values));
    values[count == HISTORY_SAMPLES ? HISTORY_SAMPLES - 1 : count] = value;
}

static double sent_per_second(const struct history *h, const struct control_status *s, nsec_t now)
{
    if (!h->has_last || h->last_pid != s->pid || now <= h->last_at ||
        s->replication.bytes_sent < h->last_sent)
        return UNKNOWN;
    return (double)(s->replication.bytes_sent - h->last_sent) * 1e9 / (double)(now - h->last_at);
}

void history_add(struct history *h, const struct control_status *s, nsec_t now)
{
    double values[HISTORY_SERIES_COUNT];
    for (int i = 0; i < HISTORY_SERIES_COUNT; i++)
        values[i] = UNKNOWN;
    if (s) {
        values[HISTORY_EPOCHS] = s->replication.epochs_per_second;
        values[HISTORY_DIRTY] = s->replication.dirty_pages_per_second * PAGE_BYTES;
        values[HISTORY_SENT] = sent_per_second(h, s, now);
        values[HISTORY_LAG] = (double)s->replication.lag_ns;
        values[HISTORY_OUTBOX] = (double)s->outbox.bytes;
        values[HISTORY_THROTTLE] = s->replication.throttle_percent;
        h->last_pid = s->pid;
        h->last_sent = s->replication.bytes_sent;
        h->last_at = now;
    }
    h->has_last = s != NULL;
    for (int i = 0; i < HISTORY_SERIES_COUNT; i++)
        push(h->values[i], h->count, values[i]);
    if (h->count < HISTORY_SAMPLES)
        h->count++;
}

static void draw_bar(double value, double largest, bool utf8, FILE *out)
{
    static const char *const blocks[] = {"\u2581", "\u2582", "\u2583", "\u2584",
                                         "\u2585", "\u2586", "\u2587", "\u2588"};
    static const char *const letters[] = {".", ":", "-", "=", "+", "*", "#", "@"};
    const int steps = (int)ARRAY_SIZE(blocks);
    if (value < 0) {
        fputc(' ', out);
        return;
    }
    const int step = largest > 0 ? (int)(value / largest * (steps - 1) + 0.5) : 0;
    fputs((utf8 ? blocks : letters)[step], out);
}

static const char *format_value(enum history_series series, double value,
                                char out[CONTROL_AMOUNT_MAX])
{
    switch (series) {
    case HISTORY_DIRTY:
    case HISTORY_SENT:
    case HISTORY_OUTBOX:
        return control_format_bytes((uint64_t)value, out);
    case HISTORY_LAG:
        return control_format_time((uint64_t)value, out);
    case HISTORY_EPOCHS:
    case HISTORY_THROTTLE:
    case HISTORY_SERIES_COUNT:
        break;
    }
    return control_format_rate(value, out);
}

static void render_series(const struct history *h, enum history_series series, bool utf8, FILE *out)
{
    static const char *const labels[HISTORY_SERIES_COUNT] = {
        [HISTORY_EPOCHS] = "epochs/s", [HISTORY_DIRTY] = "dirty/s",
        [HISTORY_SENT] = "sent/s",     [HISTORY_LAG] = "lag",
        [HISTORY_OUTBOX] = "outbox",   [HISTORY_THROTTLE] = "throttle %",
    };
    const double *values = h->values[series];
    char now[CONTROL_AMOUNT_MAX], most[CONTROL_AMOUNT_MAX];
    double largest = 0;
    for (unsigned i = 0; i < h->count; i++)
        largest = values[i] > largest ? values[i] : largest;
    if (largest <= 0)
        return;
    fprintf(out, "  %-*s ", LABEL, labels[series]);
    for (unsigned i = 0; i < h->count; i++)
        draw_bar(values[i], largest, utf8, out);
    const double newest = values[h->count - 1];
    fprintf(out, " %s (max %s)\n", newest < 0 ? "unknown" : format_value(series, newest, now),
            format_value(series, largest, most));
}

void history_render(const struct history *h, bool utf8, FILE *out)
{
    for (enum history_series series = 0; series < HISTORY_SERIES_COUNT && h->count > 1; series++)
        render_series(h, series, utf8, out);
}
