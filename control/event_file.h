/* Events on disk: what `kemarictl events --since TIME` reads over restarts of the daemon.
 *
 * Two files, PATH and PATH.1: one JSON document per line (docs/status-json.md), the newest at the
 * end of PATH. A PATH that would grow beyond EVENT_FILE_LIMIT becomes PATH.1, whose content is
 * forgotten. Both are kept in memory, too, so that reading never waits for a disk.
 *
 * What is found in the files is not trusted: a line that is no event is skipped, half a line at the
 * end is cut off, of a file that is too long the end counts.
 *
 * Threads: one may append while others read; a lock inside, not held during I/O. */
#ifndef KEMARI_CONTROL_EVENT_FILE_H
#define KEMARI_CONTROL_EVENT_FILE_H

#include "base/error.h"
#include "control/events.h"

#define EVENT_FILE_LIMIT (512u << 10) /* bytes of each of the two */
#define EVENT_LINE_MAX   4096         /* bytes of a line with its end */

struct event_file;

/* Pure. One line with its end, into `line`; returns its length. What is not printable ASCII becomes
 * '?'. */
size_t event_line_encode(const struct control_event *event, char line[EVENT_LINE_MAX]);
/* Pure. A line without its end; -EBADMSG for what is no event. */
int event_line_decode(const char *line, size_t size, struct control_event *out);

/* Reads what is there. A file that can't be read is not an error here, but when it is appended to.
 * NULL when memory is out. */
struct event_file *event_file_open(const char *path);
void event_file_close(struct event_file **file);

/* Writes one event, which has its id and times. After an error the file is as before, and the next
 * append tries again; the event is kept in memory only. */
int event_file_append(struct event_file *file, const struct control_event *event,
                      struct error *err);

/* The next event behind *position, which begins with 0 and is moved behind it; false at the end.
 * `own`: it was appended by this process, so that its id is one of this process's events. */
bool event_file_next(struct event_file *file, uint64_t *position, struct control_event *out,
                     bool *own);

#endif
