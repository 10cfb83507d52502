/* kemarictl doctor: can this host protect that machine? */
#include <signal.h>
#include <stdlib.h>

#include "app/config_value.h"
#include "app/doctor.h"
#include "app/verbs.h"
#include "control/kemarictl_call.h"

#define NEED_MAX ((uint64_t)1 << 40) /* bytes per second */

static enum kemarictl_exit answer(const struct invocation *inv, const char *file)
{
    struct error err = {0};
    return doctor_answer(file, inv->out, &err) < 0
               ? kemarictl_complain(inv, KEMARICTL_FAILED, err.text)
               : KEMARICTL_OK;
}

static enum kemarictl_exit examine(const struct invocation *inv, const char *file,
                                   const struct doctor_peer *peer)
{
    struct doctor_report *report = calloc(1, sizeof(*report));
    if (!report)
        return kemarictl_complain(inv, KEMARICTL_FAILED, "out of memory");
    doctor_examine(file, peer, report);
    if (inv->json) {
        char *text = doctor_print_json(report, file);
        fprintf(inv->out, "%s\n", text ? text : "");
        free(text);
    } else {
        doctor_print_text(report, file, inv->colour, inv->out);
    }
    const bool yes = doctor_can_protect(report);
    free(report);
    return yes ? KEMARICTL_OK : KEMARICTL_FAILED;
}

static enum kemarictl_exit try_doctor(struct invocation *inv)
{
    struct doctor_peer peer = {0};
    struct peer_command command = {0};
    struct error err = {0};
    if (inv->word_count != 1)
        return kemarictl_complain(inv, KEMARICTL_USAGE, "doctor: say \"doctor FILE\" (try --help)");
    if (inv->answer)
        return answer(inv, inv->words[0]);
    if (inv->need && !inv->peer)
        return kemarictl_complain(inv, KEMARICTL_USAGE,
                                  "doctor: --need makes sense with --peer only");
    if ((inv->need && config_parse_bytes(inv->need, 1, NEED_MAX, &peer.need, &err) < 0) ||
        (inv->peer && peer_command_parse(inv->peer, &command, &err) < 0))
        return kemarictl_complain(inv, KEMARICTL_USAGE, err.text);
    if (inv->peer)
        peer.command = &command;
    const enum kemarictl_exit status = examine(inv, inv->words[0], &peer);
    peer_command_free(&command);
    return status;
}

static enum kemarictl_exit run_doctor(struct invocation *inv)
{
    /* A QEMU that is tried, or the other host, may end in the middle of a sentence. */
    void (*before)(int) = signal(SIGPIPE, SIG_IGN);
    const enum kemarictl_exit status = try_doctor(inv);
    signal(SIGPIPE, before);
    return status;
}

const struct verb verb_doctor = {
    .name = "doctor",
    .takes = TAKES_JSON | TAKES_PEER | TAKES_DOCTOR,
    .words = "FILE",
    .run = run_doctor,
    .help = "Examines whether this host can protect the machine of a configuration, before it is "
            "started. Tries what kemarid would need and says of each whether it is there, and what "
            "to do where it isn't; the last line says yes or no. To be run on both hosts, as root; "
            "with --peer it runs the other host's, too, compares the two, and measures the link "
            "against what the guest changes. "
            "Starts no guest, changes nothing, and needs no daemon. Exit status 0 means yes, 1 no.",
};
