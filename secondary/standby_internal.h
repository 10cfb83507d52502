/* Inside of the standby: standby.c (life, what is applied, promotion), standby_receive.c (what
 * comes from the primary, on the receiving thread). */
#ifndef KEMARI_SECONDARY_STANDBY_INTERNAL_H
#define KEMARI_SECONDARY_STANDBY_INTERNAL_H

#include <pthread.h>

#include "secondary/stage.h"
#include "secondary/standby.h"

/* Whole epochs that wait for the applying thread; a primary has fewer in flight. */
#define STANDBY_QUEUE_MAX 16

struct standby {
    /* set at creation */
    struct standby_config config;
    const struct checkpoint_machine_ops *ops;
    void *machine;
    struct gmem *memory;
    struct checkpoint_disks disks;
    pthread_t applier;
    bool applier_started;

    /* owner's thread */
    struct link *link;
    pthread_t receiver;

    /* receiving thread */
    struct stage *stage;
    term_t term;
    epoch_t last_begun; /* on this link; 0 before the first */
    bool synchronised;  /* a full synchronisation was completed on this link */
    bool ready_told;
    bool policy_begun;           /* the epoch that arrives brings another policy: */
    struct policy policy_coming; /* that one */

    pthread_mutex_t telling; /* keeps READY and UNFIT in order; taken before `lock` */
    pthread_mutex_t lock;    /* protects all below */
    pthread_cond_t changed;
    struct link *told;   /* the link, for those who are neither owner nor receiver; NULL: none */
    unsigned told_users; /* that are sending on it */
    bool disks_failed;   /* since the last full synchronisation began */
    bool stop;
    bool kept;     /* see standby_keep() */
    bool released; /* the primary goes on without what this link brings */
    bool parting;  /* this side has said goodbye on this link */
    struct staged_epoch queue[STANDBY_QUEUE_MAX]; /* oldest first */
    size_t queue_count;
    bool applying;
    struct section_set *state; /* of the last applied epoch with state */
    nsec_t state_at;           /* when it was received */
    struct standby_stats stats;
};

/* standby.c */
/* With the lock held: waits until everything that was queued is in memory. */
void standby_wait_applied(struct standby *s);
/* For the applying thread; waits for a place in the queue. */
void standby_enqueue(struct standby *s, const struct staged_epoch *epoch);

/* standby_receive.c */
/* The receiving thread: until the link ends, or isn't ours to read any more. */
void *standby_receive(void *standby);
/* What is committed can't be applied to a disk of this host: it protects nothing any more, whoever
 * finds out first (DESIGN §5: never silent divergence). On the thread that applies. */
void standby_on_disks_failed(void *standby, const struct error *why);
/* The link may be used by standby_on_disks_failed(), or (NULL) not any more. */
void standby_show_link(struct standby *s, struct link *link);

#endif
