/* The daemon that a drill strikes: the process behind a control socket of this host, with all that
 * is needed to bring it back as it was started. */
#ifndef KEMARI_APP_DRILL_TARGET_H
#define KEMARI_APP_DRILL_TARGET_H

#include <limits.h>
#include <sys/types.h>

#include "app/config.h"

struct drill_target {
    char socket[PATH_MAX];
    pid_t pid;
    int pidfd;
    int netns;
    int exe;
    int out; /* its standard output and error */
    int err;
    char cwd[PATH_MAX];
    char **argv; /* NULL-terminated, into `words` */
    char **envp;
    char *words;
    char *environment;
    struct config config;     /* as read from its command line */
    char state_dir[PATH_MAX]; /* absolute */
    char unit[NAME_MAX];      /* of systemd, which brings it back; empty: nobody does */
};

/* Finds the daemon (by the credentials of its socket) and reads how it was started; close it with
 * the other. -errno with a sentence; nothing is owned then. */
int drill_target_open(const char *socket, struct drill_target *out, struct error *err);
void drill_target_close(struct drill_target *target);

/* Never another process that has got its number meanwhile. */
int drill_target_signal(const struct drill_target *target, int number, struct error *err);
/* False when it has not ended within the time. */
bool drill_target_wait_end(const struct drill_target *target, nsec_t timeout);

/* Why it could not be started again with another host owning the guest; 0 when it could. */
int drill_target_check(const struct drill_target *target, struct error *err);

/* Starts it again, as a secondary unless its role is auto, by systemd where that had started it.
 * The new process belongs to nobody; whether it comes up is seen at its socket. */
int drill_target_restart(const struct drill_target *target, struct error *err);

#endif
