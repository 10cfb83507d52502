/* kemarictl doctor: can this host protect that machine? */
#include <stdlib.h>

#include "app/doctor.h"
#include "app/verbs.h"
#include "control/kemarictl_call.h"

static enum kemarictl_exit run_doctor(struct invocation *inv)
{
    if (inv->word_count != 1)
        return kemarictl_complain(inv, KEMARICTL_USAGE, "doctor: say \"doctor FILE\" (try --help)");
    const char *file = inv->words[0];
    struct doctor_report *report = calloc(1, sizeof(*report));
    if (!report)
        return kemarictl_complain(inv, KEMARICTL_FAILED, "out of memory");
    doctor_examine(file, report);
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

const struct verb verb_doctor = {
    .name = "doctor",
    .takes = TAKES_JSON,
    .words = "FILE",
    .run = run_doctor,
    .help = "Examines whether this host can protect the machine of a configuration, before it is "
            "started. Tries what kemarid would need and says of each whether it is there, and what "
            "to do where it isn't; the last line says yes or no. To be run on both hosts, as root. "
            "Starts no guest, changes nothing, and needs no daemon. Exit status 0 means yes, 1 no.",
};
