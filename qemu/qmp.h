/* QMP: the machine protocol of a QEMU process, over one end of a socket pair. Lines of JSON; every
 * command has one answer, in order, with events in between.
 *
 * What QEMU sends is bounded and checked: a line longer than QMP_LINE_MAX, or one that is no
 * message, ends the connection for good.
 *
 * Threads: one at a time. */
#ifndef KEMARI_QEMU_QMP_H
#define KEMARI_QEMU_QMP_H

#include <jansson.h>

#include "base/error.h"
#include "base/types.h"

#define QMP_LINE_MAX (1u << 20) /* bytes */

struct qmp;

/* What a line is. */
enum qmp_kind { QMP_GREETING, QMP_RETURN, QMP_ERROR, QMP_EVENT };

struct qmp_message {
    enum qmp_kind kind;
    json_t *json;     /* owned */
    const char *text; /* of an error: its description; of an event: its name; inside `json` */
    json_t *data;     /* of a return: the value; of an event: its data, or NULL; inside `json` */
};

/* Pure. -EBADMSG when the line is none of the four. */
int qmp_decode(const char *line, size_t size, struct qmp_message *out, struct error *err);

/* `event` is called for each event, from inside the functions below. */
struct qmp_config {
    int fd; /* non-blocking, taken over in every case */
    void (*event)(void *context, const char *name, const json_t *data);
    void *context;
};

/* Waits for the greeting and negotiates. */
int qmp_open(const struct qmp_config *config, struct qmp **out, struct error *err);
void qmp_close(struct qmp **qmp);
int qmp_fd(const struct qmp *qmp); /* to wait for events; borrowed */

/* Sends all of a command but its last byte, when it is known before the moment in which it counts:
 * QEMU reads a command byte by byte, each in a turn of a loop with some system calls. Has no effect
 * until qmp_send() sends the same; one that is not the same takes it back. `arguments` (may be
 * NULL) is taken over. */
int qmp_prepare(struct qmp *qmp, const char *command, json_t *arguments, struct error *err);

/* Sends a command, or what is missing of it; `arguments` (may be NULL) is taken over. */
int qmp_send(struct qmp *qmp, const char *command, json_t *arguments, struct error *err);
/* Likewise, with a descriptor that QEMU gets a copy of; borrowed. */
int qmp_send_fd(struct qmp *qmp, const char *command, json_t *arguments, int fd, struct error *err);
/* The answer to the oldest command that has none. `*result`, if asked for, is the caller's. -EIO
 * when QEMU refuses, -ECONNRESET when it is gone, -ETIMEDOUT after `timeout`. */
int qmp_receive(struct qmp *qmp, json_t **result, nsec_t timeout, struct error *err);
/* Both. */
int qmp_call(struct qmp *qmp, const char *command, json_t *arguments, json_t **result,
             nsec_t timeout, struct error *err);

/* Takes what has arrived and calls event(); while no command is unanswered. Doesn't wait. */
int qmp_take_events(struct qmp *qmp, struct error *err);
/* Waits until event() has made `*flag` true. */
int qmp_wait_event(struct qmp *qmp, const bool *flag, nsec_t timeout, struct error *err);

#endif
