/* Faults of the network, as rules of nft(8) in the network namespace of the daemon.
 *
 * The rules match only what belongs to this pair and only while an element of the set `armed`
 * exists, and the elements have a timeout: the kernel itself takes them away, so that the fault
 * ends even if nobody is left to end it. What remains then does nothing and is replaced by the next
 * drill. */
#ifndef KEMARI_APP_DRILL_FILTER_H
#define KEMARI_APP_DRILL_FILTER_H

#include <stdio.h>

#include "app/config.h"
#include "app/drill.h"

#define DRILL_TABLE_MAX 64

/* Name of the table, "kemari-drill-NAME". */
void drill_filter_table(const struct config *config, char out[DRILL_TABLE_MAX]);

/* Writes the program that arms the scenario for so many seconds. Resolves the arbiter's names.
 * -ENOTSUP with the reason when what is to be cut can't be found among packets. */
int drill_filter_write(const struct config *config, const struct drill_scenario *scenario,
                       unsigned seconds, FILE *out, struct error *err);

/* Writes the program that takes everything back. */
void drill_filter_write_end(const struct config *config, FILE *out);

/* Whether nft is there. */
bool drill_filter_available(void);

/* Runs a program in the namespace (a descriptor of /proc/PID/ns/net). */
int drill_filter_run(int netns, const char *program, struct error *err);

#endif
