/* Command line of the operator's tool: `kemarictl [GLOBAL OPTION]... VERB [OPTION]...`.
 *
 * A verb is a row of a table; it says what it takes, so that --help and the refusal of everything
 * else follow. Options may stand before or after the verb. */
#ifndef KEMARI_CONTROL_KEMARICTL_ARGS_H
#define KEMARI_CONTROL_KEMARICTL_ARGS_H

#include "base/types.h"
#include "control/kemarictl.h"

#define KEMARICTL_RUN_DIR "/run/kemari"

/* Which options a verb takes. */
enum {
    TAKES_JSON = 1 << 0,
    TAKES_WATCH = 1 << 1, /* --count, too */
    TAKES_YES = 1 << 2,
    TAKES_FOLLOW = 1 << 3,
    TAKES_SINCE = 1 << 4,
    TAKES_TERM = 1 << 5,
    TAKES_DRILL = 1 << 6, /* --force, --seconds, --state-dir, --svg */
    TAKES_NO_WAIT = 1 << 7,
    TAKES_PEER = 1 << 8,
    TAKES_DOCTOR = 1 << 9, /* --need, --answer */
};

#define INVOCATION_WORDS_MAX 16

struct verb;

/* One command line, as parsed; strings are borrowed from argv and the environment. */
struct invocation {
    const struct verb *verb;
    const char *socket;
    const char *machine;
    const char *run_dir;
    bool help;
    bool json;
    bool watch;
    bool yes;
    bool follow;
    bool no_wait;
    uint64_t count;    /* 0: without end */
    const char *since; /* of events: a number or a time, see since.h; NULL: not given */
    uint64_t term;
    const char *peer;
    bool force;
    uint64_t seconds; /* 0: not given */
    const char *state_dir;
    const char *svg;
    const char *need; /* of doctor: bytes per second */
    bool answer;
    const char *words[INVOCATION_WORDS_MAX]; /* behind the verb */
    unsigned word_count;
    FILE *out;
    FILE *err;
    bool colour;
};

/* One row of the table; constant. */
struct verb {
    const char *name;
    unsigned takes;    /* TAKES_ bits */
    const char *words; /* what may stand behind it, for --help; NULL: nothing may */
    /* Does it: prints to the invocation's streams, judges its words. */
    enum kemarictl_exit (*run)(struct invocation *invocation);
    const char *help; /* one paragraph */
};

/* Fills in what argv says. False, after a sentence on inv->err, when it makes no sense. With --help
 * given nothing else is needed. */
bool kemarictl_parse(struct invocation *inv, const struct verb *const *verbs, size_t verb_count,
                     int argc, char **argv);

/* Help of inv->verb, or of all when there is none, to inv->out. */
void kemarictl_print_help(const struct invocation *inv, const struct verb *const *verbs,
                          size_t verb_count);

#endif
