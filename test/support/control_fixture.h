/* A control server on a thread of its own, in front of a daemon that only pretends. */
#ifndef KEMARI_TEST_SUPPORT_CONTROL_FIXTURE_H
#define KEMARI_TEST_SUPPORT_CONTROL_FIXTURE_H

#include <pthread.h>

#include "control/message.h"
#include "control/server.h"

#define FIXTURE_EVENTS 64

struct control_fixture {
    char directory[64]; /* mode 0755, removed with the fixture */
    char path[96];      /* of the socket: directory/web.sock */
    struct control_events *events;
    struct control_console *console; /* of a guest that echoes, three bytes at a time */
    bool guest_is_away;              /* set before the server is asked: it has no console */
    struct control_server *server;
    struct event_base *base;
    pthread_t thread;
    /* What the pretended daemon does. `failover` is only noted: the test completes it. `stop` is
     * completed and ends the loop. `grant` is done for term 0 and 7, stale for others; `deny`
     * always finds no question. The policy is "interval" of 25ms; `set_policy` repeats the first of
     * its settings, and refuses more than one. */
    bool stopped; /* by the verb; of the server's thread */
    pthread_mutex_t lock;
    pthread_cond_t asked;
    control_token_t failover_token; /* under `lock` */
};

/* Aborts the program when it cannot. `group` as in control_server_config. */
void control_fixture_start(struct control_fixture *f, gid_t group);

/* Ends the loop as a daemon does, flush included, and removes everything. Fine after `stop`. */
void control_fixture_stop(struct control_fixture *f);

/* Ends the loop, and starts it again: between them the caller is the server's thread. */
void control_fixture_pause(struct control_fixture *f);
void control_fixture_resume(struct control_fixture *f);

/* Waits for the next failover request and returns its token. */
control_token_t control_fixture_wait_failover(struct control_fixture *f);

#endif
