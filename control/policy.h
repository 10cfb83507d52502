/* A policy as operators write it: keys and values of the configuration's [replication]. What they
 * mean is known to the daemon (app/node_policy.c). */
#ifndef KEMARI_CONTROL_POLICY_H
#define KEMARI_CONTROL_POLICY_H

#include "control/status.h"

#define CONTROL_SETTINGS_MAX 16

struct control_setting {
    char key[CONTROL_NAME_MAX];
    char value[CONTROL_NAME_MAX];
};

/* Plain data, copied by assignment. */
struct control_policy {
    unsigned count; /* <= CONTROL_SETTINGS_MAX */
    struct control_setting settings[CONTROL_SETTINGS_MAX];
};

#endif
