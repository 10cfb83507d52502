/* The other end of the control socket, blocking, for kemarictl and tests. One thread per client. */
#ifndef KEMARI_CONTROL_CLIENT_H
#define KEMARI_CONTROL_CLIENT_H

#include "control/message.h"

struct control_client;

/* -ENOENT or -ECONNREFUSED when nobody serves `path`, -EACCES when we may not ask. */
int control_client_connect(const char *path, struct control_client **out, struct error *err);
void control_client_close(struct control_client **client);

/* Sends a request and waits up to `timeout` for its (first) reply; timeout <= 0: for ever. A
 * refusal is a reply, not an error. -ETIMEDOUT, -ECONNRESET when the daemon hung up, -EBADMSG or
 * -EPROTONOSUPPORT when we don't understand it. After an error only close() makes sense. */
int control_client_call(struct control_client *client, const struct control_request *request,
                        nsec_t timeout, struct control_reply *reply, struct error *err);

/* The next reply of a stream. */
int control_client_next(struct control_client *client, nsec_t timeout, struct control_reply *reply,
                        struct error *err);

#endif
