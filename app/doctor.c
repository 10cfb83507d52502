#include "app/doctor.h"

#include <unistd.h>

#include "app/doctor_checks.h"
#include "app/doctor_facts.h"
#include "control/client.h"

static bool daemon_runs(const struct config *config)
{
    struct control_client *client;
    if (control_client_connect(config->control_socket, &client, NULL) < 0)
        return false;
    control_client_close(&client);
    return true;
}

static void check_config(const struct doctor *doctor, const char *file, const struct error *files)
{
    const struct config *config = doctor->config;
    doctor_say(doctor->report, "config", "", DOCTOR_FINE, "%s: machine %s", file, config->name);
    if (files->code)
        doctor_say(doctor->report, "files", "", DOCTOR_FILE_REFUSED, "%s", files->text);
    else
        doctor_say(
            doctor->report, "files", "", DOCTOR_FINE,
            "kernel, disks, secrets and keys are there, and nobody else can read the secrets");
    if (!config->listen.text)
        doctor_say(doctor->report, "pair", "", DOCTOR_NO_PAIR,
                   "no other host is configured, the guest would run unprotected");
    if (geteuid() != 0)
        doctor_say(doctor->report, "user", "", DOCTOR_NOT_ROOT, "doctor runs as user %u",
                   (unsigned)geteuid());
    if (doctor->daemon_runs)
        doctor_say(doctor->report, "daemon", "", DOCTOR_DAEMON_RUNS,
                   "a kemarid serves %s already and uses its memory, disks, taps and addresses",
                   config->control_socket);
}

static void check_pair(const struct doctor *doctor, const char *file,
                       const struct doctor_peer *peer)
{
    struct tls_credentials *tls = doctor_check_tls(doctor);
    doctor_check_links(doctor, tls);
    doctor_check_arbiter(doctor);
    if (peer->command)
        doctor_check_peer(doctor, tls, file, peer);
    tls_credentials_destroy(&tls);
}

void doctor_examine(const char *file, const struct doctor_peer *peer, struct doctor_report *report)
{
    struct config config;
    struct error err = {0}, files;
    *report = (struct doctor_report){0};
    if (config_examine(file, &config, &files, &err) < 0) {
        doctor_say(report, "config", "", DOCTOR_CONFIG_REFUSED, "%s", err.text);
        return;
    }
    snprintf(report->vm, sizeof(report->vm), "%s", config.name);
    doctor_facts_begin(&config, &report->facts);
    const struct doctor doctor = {.config = &config,
                                  .secrets_read = files.code == 0,
                                  .daemon_runs = daemon_runs(&config),
                                  .report = report};
    check_config(&doctor, file, &files);
    doctor_check_kvm(&doctor);
    doctor_check_host(&doctor);
    doctor_check_files(&doctor);
    doctor_check_taps(&doctor);
    if (config.listen.text)
        check_pair(&doctor, file, peer);
    config_free(&config);
}
