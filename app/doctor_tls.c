/* What the pair's connections are secured with. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

#include "app/config_use.h"
#include "app/doctor_checks.h"

#define DAYS_LEFT_MIN 30

/* Whole days and seconds from now until then; false: no time that can be read. */
static bool time_until(const ASN1_TIME *then, int *days, int *seconds)
{
    return ASN1_TIME_diff(days, seconds, NULL, then) == 1;
}

static void judge_certificate(const struct doctor *doctor, const char *subject, const char *file,
                              const X509 *certificate)
{
    int days = 0, seconds = 0, since_days = 0, since_seconds = 0;
    if (!time_until(X509_get0_notAfter(certificate), &days, &seconds) ||
        !time_until(X509_get0_notBefore(certificate), &since_days, &since_seconds)) {
        doctor_say(doctor->report, "certificate", subject, DOCTOR_TLS_REFUSED,
                   "%s: when it is valid can't be read", file);
        return;
    }
    const bool expired = days < 0 || seconds < 0;
    const bool future = since_days > 0 || since_seconds > 0;
    doctor_say(doctor->report, "certificate", subject,
               expired                ? DOCTOR_CERTIFICATE_EXPIRED
               : future               ? DOCTOR_CERTIFICATE_FUTURE
               : days < DAYS_LEFT_MIN ? DOCTOR_CERTIFICATE_EXPIRING
                                      : DOCTOR_FINE,
               expired  ? "%s expired %d days ago"
               : future ? "%s is not valid before %d days from now"
                        : "%s is valid for %d days more",
               file,
               expired  ? -days
               : future ? since_days
                        : days);
}

static void check_certificate(const struct doctor *doctor, const char *subject, const char *path)
{
    FILE *file = fopen(path, "re");
    X509 *certificate = file ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
    if (certificate)
        judge_certificate(doctor, subject, path, certificate);
    else
        doctor_say(doctor->report, "certificate", subject, DOCTOR_TLS_REFUSED,
                   "%s: no certificate can be read from it", path);
    ERR_clear_error();
    X509_free(certificate);
    if (file)
        fclose(file);
}

struct tls_credentials *doctor_check_tls(const struct doctor *doctor)
{
    const struct config *config = doctor->config;
    struct tls_credentials *credentials = NULL;
    struct error err = {0};
    if (!config->listen.encrypted) {
        doctor_say(doctor->report, "tls", "", DOCTOR_NOT_ENCRYPTED,
                   "%s encrypts nothing: whoever is on that network reads the guest's memory",
                   config->listen.text);
        return NULL;
    }
    if (!doctor->secrets_read) {
        doctor_say(doctor->report, "tls", "", DOCTOR_NOT_TRIED,
                   "a file that the configuration names can't be read");
        return NULL;
    }
    if (config_tls_credentials(config, &credentials, &err) < 0)
        doctor_say(doctor->report, "tls", "", DOCTOR_TLS_REFUSED, "%s", err.text);
    else
        doctor_say(doctor->report, "tls", "", DOCTOR_FINE,
                   config->tls_cert_file ? "certificate, key and authorities load"
                                         : "a key is derived from the pair's secret");
    if (config->tls_cert_file) {
        check_certificate(doctor, "cert-file", config->tls_cert_file);
        check_certificate(doctor, "ca-file", config->tls_ca_file);
    }
    return credentials;
}
