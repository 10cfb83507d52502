/* What doctor compares between two hosts, as numbers and words: written into the report as JSON by
 * the one, read and judged by the other. */
#ifndef KEMARI_APP_DOCTOR_FACTS_H
#define KEMARI_APP_DOCTOR_FACTS_H

#include <jansson.h>

#include "app/config.h"
#include "app/doctor.h"

struct cpuid_table;

/* Of this host, before any check. */
void doctor_facts_begin(const struct config *config, struct doctor_facts *facts);

/* What a guest sees of the processor. */
void doctor_facts_take_cpuid(const struct cpuid_table *table, struct doctor_facts *facts);

/* A new reference. */
json_t *doctor_facts_json(const struct doctor_facts *facts);

/* Of a report in JSON, from another host: pure and bounded. `peer` gets the facts, and whether that
 * host can protect; *reasons, of `size` bytes, names its problems. -EBADMSG when it is no report,
 * or one of a kemarictl that tells no facts. */
int doctor_facts_parse(const char *text, struct doctor_facts *peer, bool *can_protect,
                       char *reasons, size_t size, struct error *err);

/* Pure: says in the report what differs. */
void doctor_facts_judge(const struct doctor_facts *own, const struct doctor_facts *peer,
                        struct doctor_report *report);

#endif
