/* The journal of the service guest, on its first disk (service_protocol.h). */
#ifndef KEMARI_GUEST_SERVICE_JOURNAL_H
#define KEMARI_GUEST_SERVICE_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

/* Finds the disk; without one every call below is refused. */
void journal_init(void);

/* Writes and flushes a record; waits for both. Its number, or 0: there is no room, or no disk. */
uint64_t journal_append(uint64_t token);

/* The chain word of a record, as the disk has it. False: there is no such record, or the sector
 * holds something else, which is said on the console. */
bool journal_read(uint64_t number, uint64_t *chain);

#endif
