/* The other host: what its doctor says, what differs from here, and the link between the two. */
#include <inttypes.h>
#include <stdlib.h>

#include "app/doctor_checks.h"
#include "app/doctor_facts.h"
#include "control/client.h"

#define PEER_PATIENCE   SEC(90) /* of a doctor there, by ssh */
#define DAEMON_PATIENCE SEC(5)
#define GUEST_PAGE      4096

/* What a guest that runs here changes per second now; 0: none does. */
static uint64_t dirty_rate(const struct config *config)
{
    static const struct control_request request = {.verb = CONTROL_VERB_STATUS};
    struct control_client *client = NULL;
    struct control_reply *reply = calloc(1, sizeof(*reply));
    double pages = 0;
    if (reply && control_client_connect(config->control_socket, &client, NULL) == 0 &&
        control_client_call(client, &request, DAEMON_PATIENCE, reply, NULL) == 0 &&
        reply->kind == CONTROL_REPLY_STATUS)
        pages = reply->status.replication.dirty_pages_per_second;
    control_client_close(&client);
    free(reply);
    return pages > 0 && pages < 1e12 ? (uint64_t)(pages * GUEST_PAGE) : 0;
}

/* False when it says nothing. */
static bool ask(const struct doctor *doctor, const char *file, const struct doctor_peer *peer)
{
    const char *const words[] = {"doctor", "--json", file, NULL};
    struct doctor_facts *facts = malloc(sizeof(*facts));
    struct error err = {0};
    char reasons[DOCTOR_FOUND_MAX / 2];
    bool can_protect = false;
    int status;
    char *text = facts ? peer_command_run(peer->command, words, PEER_PATIENCE, &status) : NULL;
    const bool said =
        text && doctor_facts_parse(text, facts, &can_protect, reasons, sizeof(reasons), &err) == 0;
    if (!said)
        doctor_say(doctor->report, "peer-doctor", "", DOCTOR_PEER_SILENT, "%s: %s",
                   peer->command->words[0],
                   text ? err.text : "it failed, or printed nothing in time");
    else if (can_protect)
        doctor_say(doctor->report, "peer-doctor", "", DOCTOR_FINE, "the other host says yes");
    else
        doctor_say(doctor->report, "peer-doctor", "", DOCTOR_PEER_SAYS_NO,
                   "the other host says no: %s", reasons);
    if (said)
        doctor_facts_judge(&doctor->report->facts, facts, doctor->report);
    free(text);
    free(facts);
    return said;
}

void doctor_check_peer(const struct doctor *doctor, const struct tls_credentials *tls,
                       const char *file, const struct doctor_peer *peer)
{
    if (!ask(doctor, file, peer))
        return;
    const uint64_t rate = doctor->daemon_runs ? dirty_rate(doctor->config) : 0;
    doctor_check_link(doctor, tls, file, peer, rate > peer->need ? rate : peer->need);
}
