/* The control socket of a daemon.
 *
 * Runs in the daemon's main event loop on one Unix socket, mode 0660. Every client is root, our own
 * user, or a member of the configured group (SO_PEERCRED and SO_PEERGROUPS), anybody else is
 * refused with a sentence. Nothing a client does costs more than its own bounded buffers: a
 * malformed request closes that client, and a follower of events that does not read is dropped
 * once it has missed one.
 *
 * Creating a server makes the process ignore SIGPIPE.
 *
 * Threads: everything here runs on the thread of `base`, except control_server_complete(). */
#ifndef KEMARI_CONTROL_SERVER_H
#define KEMARI_CONTROL_SERVER_H

#include <sys/types.h>

#include "base/error.h"
#include "control/events.h"
#include "control/policy.h"
#include "control/status.h"

#define CONTROL_CLIENTS_MAX 32

struct event_base;
struct control_server;
struct control_console_reply; /* control/message.h */
struct event_file;            /* control/event_file.h */

/* Identifies a request that is to be answered; never 0, never used twice. */
typedef uint64_t control_token_t;

/* What the daemon does for its operator; implemented by app/. Called on the server's thread.
 *
 * A slot with a token starts something. It must lead to exactly one control_server_complete() with
 * that token, from inside the call or later from any thread; until then that client waits. It must
 * not block: the heartbeat does not depend on this thread, but `status` does. */
struct control_ops {
    /* Fills `status`, which is zeroed. Must not wait for a lock that is held over I/O. */
    void (*status)(void *context, struct control_status *status);

    /* The other host becomes the primary (asked of the primary or of the secondary). Refused with
     * -EBUSY or -EPERM and a reason when that would lose anything or the roles don't allow it. */
    void (*failover)(void *context, control_token_t token);

    /* The guest goes to the other host by agreement, wherever it is ordered; the roles are swapped.
     * Refused with -EBUSY and a sentence that says why and where the guest is. */
    void (*switchover)(void *context, control_token_t token);

    /* The guest goes on without a standby, in a term of its own, so that nobody is promoted from
     * what a standby held; and the end of that. On the host that runs it: -EPERM elsewhere, -EBUSY
     * in the middle of something, -EALREADY when it is so already. */
    void (*unprotect)(void *context, control_token_t token);
    void (*protect)(void *context, control_token_t token);

    /* Administrative end of this daemon: the guest stops for good, the peer is told that this is no
     * failure. Completed before the loop ends, so that the operator gets the answer. */
    void (*stop)(void *context, control_token_t token);

    /* The operator's answer to the manual arbiter's question for `term` (0: the open question,
     * whichever). -ENOENT when nothing is asked, -ESTALE when the question is about another term.
     */
    void (*grant)(void *context, control_token_t token, term_t term);
    void (*deny)(void *context, control_token_t token, term_t term);

    /* Writes the memory of a guest that was stopped for good to a new file of that name. -EBUSY
     * while the guest runs. */
    void (*dump)(void *context, control_token_t token, const char *name);

    /* Takes a checkpoint now. Done when one that was cut after the call has committed; -EPERM where
     * the guest does not run, -EBUSY while it is not protected or another one is waited for. */
    void (*checkpoint)(void *context, control_token_t token);

    /* What the guest said behind `since`, into `out`, which is zeroed; and types, which must not
     * wait: *typed says how much of it there was room for. -EPERM with a sentence where the guest
     * does not run. */
    int (*console)(void *context, uint64_t since, const uint8_t *typed, size_t typed_size,
                   struct control_console_reply *out, struct error *err);

    /* For drills: the whole process stands still for that long and then goes on, whatever becomes
     * of the client meanwhile; answered before. -EINVAL when it is nothing or too long. */
    void (*freeze)(void *context, control_token_t token, uint64_t duration_ns);

    /* Fills in the policy that holds, `policy` is zeroed; as `status`. */
    void (*policy)(void *context, struct control_policy *policy);
    /* Changes what `change` names and nothing else, or nothing at all: -EINVAL when a setting is
     * unknown or the policy would not be legal as a whole, -EPERM when this host is not the one
     * that runs the guest. */
    void (*set_policy)(void *context, control_token_t token, const struct control_policy *change);
};

struct control_server_config {
    const char *path; /* of the socket; its directory must exist and be writable */
    gid_t group;      /* whose members may connect; (gid_t)-1: nobody but root and ourselves */
    const char *vm;   /* name, for `version` */
    const struct control_ops *ops; /* borrowed */
    void *context;                 /* of the ops */
    struct control_events *events; /* borrowed; the server is its listener */
    struct event_file *event_file; /* borrowed; NULL: only `events` can be read */
};

/* Binds, listens and answers from the next turn of the loop on. A socket left by a dead daemon is
 * replaced; one that answers is not: -EADDRINUSE, "another kemarid already serves PATH". On error
 * nothing is left behind. `config` and its strings are copied. */
int control_server_create(struct event_base *base, const struct control_server_config *config,
                          struct control_server **out, struct error *err);

/* To be called now and then: a socket whose file is gone (somebody emptied the directory) is made
 * anew; clients that are connected stay. 0 when it is where it was, 1 when it was made anew; an
 * error leaves everything as it is, to be tried again. Not when something else stands in its place:
 * that is a successor's. */
int control_server_renew(struct control_server *server, struct error *err);

/* Removes the socket and drops the clients. No completion may be running or come later. */
void control_server_destroy(struct control_server **server);

/* Ends the request `token`: rc 0 answers "done" with the phrase, a negative errno "refused".
 * Any thread. A token whose client has left meanwhile, or 0, is ignored. `text` is copied. */
void control_server_complete(struct control_server *server, control_token_t token, int rc,
                             const char *text);

/* Sends finished requests their answers, waiting at most `timeout` for clients to take them, and
 * drops all clients but readers of events. For the end of a daemon, after the loop was left. */
void control_server_flush(struct control_server *server, nsec_t timeout);

#endif
