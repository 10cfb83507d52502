/* What people read. */
#ifndef KEMARI_CONTROL_RENDER_H
#define KEMARI_CONTROL_RENDER_H

#include <stdio.h>

#include "control/events.h"
#include "control/status.h"

/* One screen; says PROTECTED, or NOT PROTECTED and why, on its first line. */
void control_render_status(const struct control_status *status, bool colour, FILE *out);

/* How far the synchronisation of memory, or else of a disk, is, without a newline; false when none
 * is under way. */
bool control_render_progress(const struct control_status *status, FILE *out);

/* One line: local time, severity, kind, text, key=value. */
void control_render_event(const struct control_event *event, bool colour, FILE *out);

/* One line of `kemarictl list`; the heading when `status` is NULL. */
void control_render_row(const struct control_status *status, bool colour, FILE *out);

#define CONTROL_AMOUNT_MAX 32

/* "1.5 MiB", "141 us", "2h 13m", "1.2k"; three significant digits, written to `out`, returned. */
const char *control_format_bytes(uint64_t bytes, char out[CONTROL_AMOUNT_MAX]);
const char *control_format_time(uint64_t ns, char out[CONTROL_AMOUNT_MAX]);
const char *control_format_rate(double per_second, char out[CONTROL_AMOUNT_MAX]);

#endif
