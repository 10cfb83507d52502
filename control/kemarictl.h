/* The operator's tool, as a function, so that tests run it in this process. */
#ifndef KEMARI_CONTROL_KEMARICTL_H
#define KEMARI_CONTROL_KEMARICTL_H

#include <stdio.h>

/* Exit status, the same for every verb. */
enum kemarictl_exit {
    KEMARICTL_OK = 0,
    KEMARICTL_FAILED = 1,    /* the daemon refused, or it went wrong; the sentence says why */
    KEMARICTL_USAGE = 2,     /* the command line makes no sense */
    KEMARICTL_NO_DAEMON = 3, /* nobody serves that socket, or answers, or stays */
    KEMARICTL_PROTOCOL = 4,  /* somebody does, and says what we don't understand */
};

struct verb;

/* Runs one command line; prints to `out` and `err`. `more` are verbs beside those of this folder,
 * up to a NULL; may be NULL. Returns an enum kemarictl_exit. */
int kemarictl_run(const struct verb *const *more, int argc, char **argv, FILE *out, FILE *err);

#endif
