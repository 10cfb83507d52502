/* The table of verbs. Each is a row in the file of its group (verb_*.c); a program that knows more
 * than this folder may, such as how a configuration is read, brings further ones. */
#include "control/kemarictl.h"

#include <stdlib.h>
#include <unistd.h>

#include "control/kemarictl_args.h"
#include "control/verbs.h"

#define VERBS_MAX 64

static const struct verb *const own_verbs[] = {
    &verb_status, &verb_failover, &verb_switchover, &verb_checkpoint, &verb_stop,   &verb_console,
    &verb_events, &verb_grant,    &verb_deny,       &verb_dump,       &verb_policy, &verb_keygen,
    &verb_list,   &verb_version,  &verb_protect,    &verb_unprotect,
};

int kemarictl_run(const struct verb *const *more, int argc, char **argv, FILE *out, FILE *err)
{
    const char *run_dir = getenv("KEMARI_RUN_DIR");
    struct invocation inv = {
        .run_dir = run_dir ? run_dir : KEMARICTL_RUN_DIR, .out = out, .err = err};
    inv.colour = isatty(fileno(out)) && !getenv("NO_COLOR");
    const struct verb *verbs[VERBS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_SIZE(own_verbs); i++)
        verbs[count++] = own_verbs[i];
    for (size_t i = 0; more && more[i] && count < VERBS_MAX; i++)
        verbs[count++] = more[i];
    if (!kemarictl_parse(&inv, verbs, count, argc, argv))
        return KEMARICTL_USAGE;
    if (inv.help) {
        kemarictl_print_help(&inv, verbs, count);
        return KEMARICTL_OK;
    }
    return (int)inv.verb->run(&inv);
}
