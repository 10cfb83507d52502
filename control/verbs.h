/* The verbs of kemarictl that live in this folder, one file per group. */
#ifndef KEMARI_CONTROL_VERBS_H
#define KEMARI_CONTROL_VERBS_H

#include "control/kemarictl_args.h"

extern const struct verb verb_status;

/* verb_orders.c */
extern const struct verb verb_failover;
extern const struct verb verb_switchover;
extern const struct verb verb_checkpoint;
extern const struct verb verb_stop;
extern const struct verb verb_grant;
extern const struct verb verb_deny;
extern const struct verb verb_dump;

/* verb_protection.c */
extern const struct verb verb_protect;
extern const struct verb verb_unprotect;

extern const struct verb verb_console;
extern const struct verb verb_events;
extern const struct verb verb_policy;
extern const struct verb verb_keygen;

/* verb_list.c */
extern const struct verb verb_list;
extern const struct verb verb_version;

#endif
