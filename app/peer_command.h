/* The other host's kemarictl, as the operator says it is run: "ssh HOST kemarictl -m NAME". */
#ifndef KEMARI_APP_PEER_COMMAND_H
#define KEMARI_APP_PEER_COMMAND_H

#include <sys/types.h>

#include "base/error.h"
#include "base/types.h"

#define PEER_COMMAND_WORDS_MAX 24

struct peer_command {
    char *text;                          /* owned */
    char *words[PEER_COMMAND_WORDS_MAX]; /* into it */
    unsigned count;
};

/* Splits the command at blanks. */
int peer_command_parse(const char *command, struct peer_command *peer, struct error *err);
void peer_command_free(struct peer_command *peer);

/* Runs it with those words (NULL-terminated) and gives what it printed, to be freed; NULL when it
 * printed too much, took longer than the time, or failed. With `exit_status` an end with another
 * status than 0 is none of these, and told there. */
char *peer_command_run(const struct peer_command *peer, const char *const *words, nsec_t timeout,
                       int *exit_status);

/* One that runs meanwhile, with its standard output in a pipe. */
struct peer_process {
    pid_t pid;
    int output;
};

int peer_command_start(const struct peer_command *peer, const char *const *words,
                       struct peer_process *out, struct error *err);

/* The next line of its output without the end of it; false when none comes within the time, or a
 * longer one. */
bool peer_process_line(const struct peer_process *process, nsec_t timeout, char *line, size_t size);

/* Ends it, by SIGTERM if it does not by itself with its output closed. */
void peer_process_end(struct peer_process *process);

#endif
