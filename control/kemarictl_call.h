/* What verbs share: finding the daemon that the command line means, asking it, and saying what went
 * wrong, in one sentence and with the exit status that goes with it. */
#ifndef KEMARI_CONTROL_KEMARICTL_CALL_H
#define KEMARI_CONTROL_KEMARICTL_CALL_H

#include "control/client.h"
#include "control/kemarictl_args.h"

/* How long an answer may take. */
#define KEMARICTL_QUICK        SEC(5)   /* of what the daemon answers by itself */
#define KEMARICTL_SLOW         SEC(120) /* of what needs the peer or the guest */

#define KEMARICTL_MACHINES_MAX 256

struct kemarictl_machines {
    unsigned count;
    char *names[KEMARICTL_MACHINES_MAX]; /* owned */
};

/* NAME of every NAME.sock in the run directory, sorted; free with the other. */
void kemarictl_find_machines(const char *run_dir, struct kemarictl_machines *list);
void kemarictl_free_machines(struct kemarictl_machines *list);

/* Path of the socket of one machine, to be freed; NULL when memory is out. */
char *kemarictl_socket_of(const char *run_dir, const char *machine);

/* Prints the sentence and returns `status`. */
enum kemarictl_exit kemarictl_complain(const struct invocation *inv, enum kemarictl_exit status,
                                       const char *text);

/* Exit status of an error of control/client.h. */
enum kemarictl_exit kemarictl_exit_of(int rc);

/* Path of the socket that the command line means, to be freed; or complains. */
enum kemarictl_exit kemarictl_choose_socket(const struct invocation *inv, char **path);

/* Connects to the daemon that the command line means, or complains. */
enum kemarictl_exit kemarictl_open(const struct invocation *inv, struct control_client **client);

/* An empty reply, to be freed; too large for a stack that a test may make small. Never NULL. */
struct control_reply *kemarictl_make_reply(void);

/* Asks, and complains of everything but an answer of the wanted kind. */
enum kemarictl_exit kemarictl_call(const struct invocation *inv, struct control_client *client,
                                   const struct control_request *request,
                                   enum control_reply_kind wanted, struct control_reply *reply);

/* Says what became of an order: 0, or negative and not done. As JSON on inv->out with inv->json;
 * else the phrase, there or as a complaint. Returns the exit status that goes with it. */
enum kemarictl_exit kemarictl_outcome(const struct invocation *inv, int rc, const char *text);

/* Connects, sends a request that is answered with "done", and says the outcome. */
enum kemarictl_exit kemarictl_command(const struct invocation *inv,
                                      const struct control_request *request);

/* The status as text, or as JSON with inv->json (one line with inv->watch). verb_status.c */
void kemarictl_print_status(const struct invocation *inv, const struct control_status *status);

#endif
