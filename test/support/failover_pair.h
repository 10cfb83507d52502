/* A protected guest in one process, of which only the host is missing: KVM machines behind the
 * checkpoint table, engine, standby, a link with a fault in it, and one outside that sees what
 * leaves either machine. Machines come and go; the outside stays.
 *
 *   pair = failover_pair_create(&config);          the guest runs alone, its output held
 *   failover_pair_protect(pair, &fault);           a standby follows, until the fault
 *   ... until protocol_fault_hit(&fault) ...
 *   failover_pair_kill_primary(pair);
 *   failover_pair_promote(pair, &takeover);        the standby goes on, output open
 *   failover_pair_protect(pair, NULL);             with the next standby, and so on
 *
 * What can't be done fails the CUnit test, fatally. One thread calls. LINKS failover_pair. */
#ifndef KEMARI_TEST_SUPPORT_FAILOVER_PAIR_H
#define KEMARI_TEST_SUPPORT_FAILOVER_PAIR_H

#include "checkpoint/engine.h"
#include "disk/store.h"
#include "secondary/standby.h"
#include "test/support/memory_disk.h"
#include "test/support/protocol_fault.h"
#include "test/support/world.h"
#include "vmm/machine.h"

struct failover_pair;

struct failover_pair_config {
    const char *program;   /* of test/guest */
    const char *arguments; /* its command line */
    uint64_t memory;       /* bytes */
    unsigned vcpus;
    bool network;
    struct policy policy;
    uint64_t disk_size;      /* bytes of a replicated disk, in memory, on each side; 0: none */
    size_t staging;          /* bytes on each side; 0: SLAB_SIZE_MIN */
    unsigned frame_delay_ms; /* a slow link: every frame of the primary takes so long */
    enum machine_panic_policy on_panic;
    struct panic_limit panic_limit;
};

struct failover_pair *failover_pair_create(const struct failover_pair_config *config);
void failover_pair_destroy(struct failover_pair **pair);

/* A new standby follows. `fault`, if not NULL, is laid into the link, outlives it, and says on
 * which side; otherwise returns when the guest is protected. */
void failover_pair_protect(struct failover_pair *pair, struct protocol_fault *fault);

/* The primary is gone, and its machine with it. */
void failover_pair_kill_primary(struct failover_pair *pair);

/* The guest stands still, all it said is committed, and its standby has applied what it holds. */
void failover_pair_settle(struct failover_pair *pair);

/* Disks, of whoever is primary or standby now. Borrowed. */
struct memory_disk *failover_pair_disk(struct failover_pair *pair);
struct memory_disk *failover_pair_standby_disk(struct failover_pair *pair);

void failover_pair_engine_stats(struct failover_pair *pair, struct engine_stats *out);
void failover_pair_standby_stats(struct failover_pair *pair, struct standby_stats *out);
void failover_pair_disk_stats(struct failover_pair *pair, struct disk_store_stats *out);

/* The standby takes over, and runs with its output open. */
void failover_pair_promote(struct failover_pair *pair, struct standby_takeover *takeover);

/* Of the primary that runs now. Borrowed; gone with it. */
struct engine *failover_pair_engine(struct failover_pair *pair);

/* Types at the serial console of the guest that runs. */
void failover_pair_type(struct failover_pair *pair, char c);

/* Everything that became visible outside. Borrowed. */
struct world *failover_pair_world(struct failover_pair *pair);

/* Sends an Ethernet frame (without virtio-net header) towards whoever has the network open. False
 * when the wire is full. */
bool failover_pair_send(struct failover_pair *pair, const uint8_t *frame, size_t size);

#endif
