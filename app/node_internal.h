/* Inside of the node: node.c (life), node_machine.c (what runs the guest), node_role.c (the role's
 * thread and its events), node_control.c (the operator). */
#ifndef KEMARI_APP_NODE_INTERNAL_H
#define KEMARI_APP_NODE_INTERNAL_H

#include <pthread.h>
#include <time.h>

#include "app/kvm_machine.h"
#include "app/node.h"
#include "app/qemu_machine.h"
#include "control/console.h"
#include "control/message.h"
#include "control/server.h"
#include "disk/store.h"
#include "primary/primary.h"
#include "secondary/secondary.h"
#include "transport/tls.h"

struct event;
struct event_file;

#define NODE_MADE_MAX 4

_Static_assert(CONFIG_HOSTS_MAX + 1 <= PEERS_MAX, "every host of the list has a heartbeat");

struct node {
    /* set at creation */
    const struct config *config;
    struct made {
        const char *path;
        int (*remove)(const char *path); /* unlink() or rmdir() */
    } made[NODE_MADE_MAX];               /* on disk, by us: removed if the role never ran */
    size_t made_count;
    bool ran;
    char who[ARBITER_TEXT_MAX];
    nsec_t started;
    int console_fd;
    bool console_fd_owned;
    struct disk_store *disks;
    struct kvm_machine *kvm;   /* one of the two */
    struct qemu_adapter *qemu; /* the other is NULL */
    struct checkpoint_machine ops;
    struct slab *slab;
    struct term_store *terms;
    struct arbiter *arbiter;
    struct tls_credentials *tls;  /* NULL: no tls:// address */
    struct door *door;            /* NULL: no `listen` */
    const char *hosts[PEERS_MAX]; /* addresses of the others, in the order of the list */
    struct peers peers;           /* likewise */
    struct node_ear {             /* owner of that heartbeat's callbacks */
        struct node *node;
        unsigned host;
    } ears[PEERS_MAX];
    struct session_config session;
    struct control_events *events;
    struct control_console *console;
    _Atomic int console_spoke; /* enum machine_console: the last one that said something */

    /* main thread */
    struct event_base *base;
    struct control_server *server;
    bool service;                   /* a service manager listens */
    struct metrics_server *metrics; /* NULL: not configured; runs while the role's thread does */
    struct event *signals[2];
    struct event *sampler;
    struct event *announcer; /* activated by the role's thread after a promotion */
    size_t announcements;
    struct event *role_ended; /* activated by the role's thread */
    struct sample {           /* of the counters behind the rates in status */
        nsec_t at;
        uint64_t epochs;
        uint64_t dirty;
        uint64_t sync_pages;
        uint64_t refused; /* connections, as last told in an event */
    } sample;
    bool unreachable; /* the control socket is gone and can't be made anew, as last told */

    struct node_checkpoint {
        struct event *look;    /* NULL: none was ever ordered */
        control_token_t token; /* 0: none is waited for */
        epoch_t wanted;
        nsec_t deadline;
        struct engine_stats stats; /* scratch: too large for a stack */
    } checkpoint;

    struct node_freeze {
        nsec_t duration; /* of the freeze that is under way; 0: none is */
        timer_t wake;
    } freeze;

    struct node_dump {
        pthread_t thread;
        bool started; /* `thread` is to be joined; main thread */
        bool active;  /* under the lock */
        /* set before the thread starts */
        struct engine *engine;
        control_token_t token;
        char name[CONTROL_NAME_MAX];
    } dump;

    struct node_history {
        struct event_file *file;
        pthread_t thread;
        bool started; /* `thread` is to be joined; main thread */
        bool trouble; /* as last told; its thread */
    } history;

    pthread_t role_thread;

    pthread_mutex_t lock;               /* protects all below */
    struct primary *primary;            /* the role that runs, or NULL */
    struct secondary *secondary;        /* likewise */
    struct node_news {                  /* of a host, for a role that is just being made */
        enum detector_reason suspected; /* DETECTOR_REASON_START: it is not */
    } news[PEERS_MAX];
    term_t owner;       /* the highest term that any host said to own */
    struct node_rates { /* per second, of the last one or so */
        double epochs;
        double dirty; /* pages */
        double sync;  /* pages */
    } rates;
    uint64_t panics;   /* that the guest reported on this host */
    bool guest_off;    /* before the role could be told */
    bool guest_failed; /* likewise: it went off because it can't go on */
    bool stopping;
    const char *stop_why;
    control_token_t stop_token;
    control_token_t switch_token;     /* of a switchover that was ordered here; 0: none */
    control_token_t protection_token; /* of an order about protection; 0: none */
    bool took_over;
    struct secondary_takeover takeover;
    nsec_t running_at; /* when the promoted guest was let go */
    int result;        /* of the role */
    struct error failure;
};

/* node_role.c */
void *node_role_main(void *context); /* of the role's thread; context is the node */
extern const struct heartbeat_ops node_heartbeat_ops; /* owner is a struct node_ear */
void node_machine_event(void *context, enum machine_event event, const char *detail);
/* Of the disks: any thread. */
void node_disk_event(void *context, enum disk_store_event event, const char *text);
void node_note(void *context, bool warning, const char *kind, const char *text);
/* What a primary on this node is made of; app/node_role.c changes it for a promotion. */
struct primary_config node_primary_config(struct node *node);
struct secondary_config node_secondary_config(struct node *node);
/* Ends the role in an orderly way. Any thread. */
void node_stop_role(struct node *node, const char *why); /* a literal */

/* node_machine.c */
int node_build_machine(struct node *node, struct error *err); /* and its disks and staging memory */
struct outlet *node_outlet(const struct node *node);          /* of the machine that was built */
int node_boot(struct node *node, struct error *err); /* on the side that starts the guest */
void node_destroy_machine(struct node *node);
/* Otherwise the guest runs alone, on purpose. */
bool node_is_pair(const struct config *config);
enum disk_protection node_disk_protection(const struct config *config, unsigned index);

/* node.c */
void node_note_made(struct node *node, const char *path, int (*remove)(const char *path));

/* node_switchover.c: slots of struct control_ops and of both roles' configuration */
void node_switchover(void *context, control_token_t token);
void node_switchover_failed(void *context, const char *why);
void node_switchover_done(void *context, nsec_t pause, term_t term);
/* After PRIMARY_END_HANDED, and after PRIMARY_END_REFUSED with role auto: the primary is gone,
 * node->secondary follows. Role's thread. */
int node_follow_heir(struct node *node, struct error *err);
int node_follow_owner(struct node *node, struct error *err);

/* node_protection.c: likewise */
void node_unprotect(void *context, control_token_t token);
void node_protect(void *context, control_token_t token);
void node_protection_ordered(void *context, int rc, const char *text);

/* node_dump.c */
void node_dump(void *context, control_token_t token, const char *name); /* context is the node */
/* Waits for a dump that is being written: before the role or the server goes. Main thread. */
void node_finish_dump(struct node *node);

/* node_checkpoint.c: the second before the loop's base goes */
void node_checkpoint(void *context, control_token_t token);
void node_forget_checkpoint(struct node *node);

/* node_console.c: the first of kvm_machine_config, the second of control_ops */
void node_hear_console(void *context, enum machine_console which, const uint8_t *data, size_t size);
int node_console(void *context, uint64_t since, const uint8_t *typed, size_t typed_size,
                 struct control_console_reply *out, struct error *err);

/* node_freeze.c */
void node_freeze(void *context, control_token_t token, uint64_t duration_ns);

/* node_policy.c */
struct policy node_policy_of(const struct config *config);
/* Pure. `now` with the changes, or -EINVAL with the reason; `reserved` is this host's staging
 * memory, bytes. */
int node_policy_change(const struct policy *now, uint64_t reserved,
                       const struct control_policy *change, struct policy *out, struct error *err);
/* Appends all settings of a policy to a zeroed *out. */
void node_policy_describe(const struct policy *policy, struct control_policy *out);
/* Slots of struct control_ops. */
void node_policy_get(void *context, struct control_policy *out);
void node_policy_set(void *context, control_token_t token, const struct control_policy *change);

/* node_service.c */
void node_service_ready(struct node *node);    /* once the role runs */
void node_service_beat(struct node *node);     /* about once a second */
void node_service_stopping(struct node *node); /* the role has ended */
/* For how long this process may stand still before its service manager ends it; INT64_MAX: for
 * ever. */
nsec_t node_service_patience(void);

/* node_history.c: reads what earlier runs left; starts to write, once nothing can fail any more;
 * writes what is left and ends. Main thread. */
int node_build_history(struct node *node, struct error *err);
void node_start_history(struct node *node);
void node_end_history(struct node *node);

/* node_metrics.c: binds the address; answers once node->metrics is started */
int node_build_metrics(struct node *node, struct error *err);

/* node_control.c */
extern const struct control_ops node_control_ops; /* context is the node */
/* Refreshes the rates shown in status; main thread, about once a second. */
void node_sample(struct node *node);
/* Sees to it that operators find us; likewise. */
void node_keep_socket(struct node *node);

#endif
