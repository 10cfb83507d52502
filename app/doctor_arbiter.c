/* Who would say "go on alone", and whether they answer now. */
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "app/config_use.h"
#include "app/doctor_checks.h"
#include "base/fd.h"

#define ATTEMPT_USUAL   SEC(2)
#define ATTEMPT_LONGEST SEC(8) /* somebody waits for the report */
#define GRACE           SEC(1)

struct finding {
    int told; /* eventfd */
    bool reachable;
    char text[ERROR_TEXT_MAX];
};

/* On the arbiter's thread, once, since nothing is probed twice in our time. */
static void on_reachable(void *context, bool reachable, const char *text)
{
    struct finding *f = context;
    const uint64_t one = 1;
    f->reachable = reachable;
    snprintf(f->text, sizeof(f->text), "%s", text);
    const ssize_t ignored = write(f->told, &one, sizeof(one));
    (void)ignored;
}

static void probe(const struct doctor *doctor)
{
    struct finding finding = {.told = eventfd(0, EFD_CLOEXEC)};
    struct arbiter_config config = config_arbiter(doctor->config);
    struct arbiter *arbiter = NULL;
    struct error err = {0};
    nsec_t attempt = config.attempt_timeout ? config.attempt_timeout : ATTEMPT_USUAL;
    attempt = attempt > ATTEMPT_LONGEST ? ATTEMPT_LONGEST : attempt;
    config.attempt_timeout = attempt;
    config.probe_interval = SEC(3600);
    config.reachable = on_reachable;
    config.context = &finding;
    if (arbiter_create(&config, &arbiter, &err) < 0) {
        doctor_say(doctor->report, "arbiter", "", DOCTOR_ARBITER_REFUSED, "%s", err.text);
    } else {
        struct pollfd told = {.fd = finding.told, .events = POLLIN};
        const int rc = poll(&told, 1, (int)((attempt + GRACE) / MSEC(1)));
        arbiter_destroy(&arbiter);
        const bool reachable = rc == 1 && finding.reachable;
        doctor_say(doctor->report, "arbiter", "",
                   reachable ? DOCTOR_FINE : DOCTOR_ARBITER_UNREACHABLE, "%s: %s",
                   doctor->config->arbiter_endpoints.text, rc == 1 ? finding.text : "no answer");
    }
    fd_close(&finding.told);
}

void doctor_check_arbiter(const struct doctor *doctor)
{
    const struct config *config = doctor->config;
    switch (config->arbiter) {
    case CONFIG_ARBITER_ETCD:
        if (doctor->secrets_read)
            probe(doctor);
        else
            doctor_say(doctor->report, "arbiter", "", DOCTOR_NOT_TRIED,
                       "a file that the configuration names can't be read");
        break;
    case CONFIG_ARBITER_COMMAND:
        doctor_say(doctor->report, "arbiter", "", DOCTOR_ARBITER_NOT_RUN,
                   "%s is not run by doctor, it would fence the other host",
                   config->arbiter_command.list[0]);
        break;
    case CONFIG_ARBITER_MANUAL:
        doctor_say(doctor->report, "arbiter", "", DOCTOR_FINE,
                   "an operator answers with kemarictl grant, until then output is held");
        break;
    case CONFIG_ARBITER_NONE:
        doctor_say(doctor->report, "arbiter", "", DOCTOR_ARBITER_NONE,
                   "type = none: both hosts could run the guest at once");
        break;
    }
}
