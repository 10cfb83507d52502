#include <limits.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "control/kemarictl_call.h"
#include "control/keygen.h"
#include "control/verbs.h"

/* Validity of certificates, in seconds. */
#define YEAR            (365 * 24 * 60 * 60L)
#define AUTHORITY_YEARS 20
#define HOST_YEARS      5
#define CLOCKS_DIFFER   (24 * 60 * 60L)

static enum kemarictl_exit make_certificates(const struct invocation *inv)
{
    const char *directory = inv->words[1];
    char authority[PATH_MAX];
    struct error err = {0};
    const time_t now = time(NULL);
    const struct keygen_validity whole = {now - CLOCKS_DIFFER, now + AUTHORITY_YEARS * YEAR};
    const struct keygen_validity own = {now - CLOCKS_DIFFER, now + HOST_YEARS * YEAR};
    int rc = 0;
    for (unsigned i = 2; rc == 0 && i < inv->word_count; i++)
        rc = keygen_check_name(inv->words[i], &err);
    if (rc < 0)
        return kemarictl_complain(inv, KEMARICTL_USAGE, err.text);
    snprintf(authority, sizeof(authority), "%s/ca.pem", directory);
    if (access(authority, F_OK) != 0) {
        rc = keygen_authority(directory, &whole, &err);
        if (rc == 0)
            fprintf(inv->out, "authority: %s, ca.key (keep it off the hosts)\n", authority);
    }
    for (unsigned i = 2; rc == 0 && i < inv->word_count; i++) {
        rc = keygen_host(directory, inv->words[i], &own, &err);
        if (rc == 0)
            fprintf(inv->out, "host: %s/%s.pem, %s.key\n", directory, inv->words[i], inv->words[i]);
    }
    return rc < 0 ? kemarictl_complain(inv, KEMARICTL_FAILED, err.text) : KEMARICTL_OK;
}

static enum kemarictl_exit run_keygen(struct invocation *inv)
{
    struct error err = {0};
    const char *what = inv->word_count ? inv->words[0] : "";
    if (strcmp(what, "certificates") == 0 && inv->word_count > 2)
        return make_certificates(inv);
    if (strcmp(what, "secret") != 0 || inv->word_count != 2)
        return kemarictl_complain(
            inv, KEMARICTL_USAGE,
            "keygen: say \"secret FILE\", or \"certificates DIRECTORY HOST...\" (try "
            "--help)");
    if (keygen_secret(inv->words[1], &err) < 0)
        return kemarictl_complain(inv, KEMARICTL_FAILED, err.text);
    fprintf(inv->out, "secret: %s (the same file on both hosts)\n", inv->words[1]);
    return KEMARICTL_OK;
}

const struct verb verb_keygen = {
    .name = "keygen",
    .words = "secret FILE | certificates DIRECTORY HOST...",
    .run = run_keygen,
    .help = "Makes what the hosts of a pair authenticate each other with, for its owner only and "
            "never in "
            "place of a file that is there: a secret, or for each HOST (a DNS name or a numeric "
            "address) "
            "a "
            "certificate, and the authority for them where DIRECTORY has none. Needs no daemon.",
};
