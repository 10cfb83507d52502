/* The verbs that order something and are answered with a phrase. */
#include <string.h>
#include <unistd.h>

#include "control/kemarictl_call.h"
#include "control/verbs.h"

static bool confirmed(const struct invocation *inv)
{
    char line[16] = "";
    fprintf(
        inv->err,
        "The guest will go on at this host, and stop for good at the other. Fail over now? [y/N] ");
    fflush(inv->err);
    return fgets(line, sizeof(line), stdin) && (line[0] == 'y' || line[0] == 'Y');
}

static enum kemarictl_exit run_failover(struct invocation *inv)
{
    static const struct control_request request = {.verb = CONTROL_VERB_FAILOVER};
    if (!inv->yes && !isatty(STDIN_FILENO))
        return kemarictl_complain(
            inv, KEMARICTL_USAGE,
            "failover asks for confirmation; without a terminal it needs --yes");
    if (!inv->yes && !confirmed(inv))
        return kemarictl_complain(inv, KEMARICTL_FAILED, "nothing was done");
    return kemarictl_command(inv, &request);
}

static enum kemarictl_exit run_switchover(struct invocation *inv)
{
    return kemarictl_command(inv, &(struct control_request){.verb = CONTROL_VERB_SWITCHOVER});
}

static enum kemarictl_exit run_checkpoint(struct invocation *inv)
{
    return kemarictl_command(inv, &(struct control_request){.verb = CONTROL_VERB_CHECKPOINT});
}

static enum kemarictl_exit run_stop(struct invocation *inv)
{
    return kemarictl_command(inv, &(struct control_request){.verb = CONTROL_VERB_STOP});
}

static enum kemarictl_exit run_grant(struct invocation *inv)
{
    return kemarictl_command(
        inv, &(struct control_request){.verb = CONTROL_VERB_GRANT, .term = inv->term});
}

static enum kemarictl_exit run_deny(struct invocation *inv)
{
    return kemarictl_command(
        inv, &(struct control_request){.verb = CONTROL_VERB_DENY, .term = inv->term});
}

static enum kemarictl_exit run_dump(struct invocation *inv)
{
    struct control_request request = {.verb = CONTROL_VERB_DUMP};
    if (inv->word_count != 1)
        return kemarictl_complain(inv, KEMARICTL_USAGE, "dump: say \"FILE\" (try --help)");
    if (strlen(inv->words[0]) >= sizeof(request.file))
        return kemarictl_complain(inv, KEMARICTL_USAGE, "the name of the file is too long");
    strcpy(request.file, inv->words[0]);
    return kemarictl_command(inv, &request);
}

const struct verb verb_failover = {
    .name = "failover",
    .takes = TAKES_YES | TAKES_JSON,
    .run = run_failover,
    .help = "Takes the guest over to this host, now. Asks first, unless --yes is given.",
};

const struct verb verb_switchover = {
    .name = "switchover",
    .takes = TAKES_JSON,
    .run = run_switchover,
    .help = "Moves the guest to the other host by agreement, from either host; the roles are "
            "swapped and "
            "protection goes on.",
};

const struct verb verb_checkpoint = {
    .name = "checkpoint",
    .takes = TAKES_JSON,
    .run = run_checkpoint,
    .help = "Takes a checkpoint now, and returns when the secondary holds it.",
};

const struct verb verb_stop = {
    .name = "stop",
    .takes = TAKES_JSON,
    .run = run_stop,
    .help =
        "Ends the daemon and its guest for good; the other host does not take it for a failure.",
};

const struct verb verb_grant = {
    .name = "grant",
    .takes = TAKES_TERM | TAKES_JSON,
    .run = run_grant,
    .help = "Answers the manual arbiter: this host may go on alone. Make sure first that the other "
            "host "
            "does not run the guest.",
};

const struct verb verb_deny = {
    .name = "deny",
    .takes = TAKES_TERM | TAKES_JSON,
    .run = run_deny,
    .help =
        "Answers the manual arbiter: this host must not go on. A primary stops its guest for good.",
};

const struct verb verb_dump = {
    .name = "dump",
    .takes = TAKES_JSON,
    .words = "FILE",
    .run = run_dump,
    .help =
        "Writes the memory of a guest that was stopped for good to a new file FILE in the daemon's "
        "state directory, as an ELF core.",
};
