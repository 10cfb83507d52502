/* A protected guest in one process, with everything real except the host: two KVM machines behind
 * the checkpoint table, engine, standby, a link between them, and a wire to the guest's network.
 *
 * For measuring, so nothing can be handled: whatever goes wrong ends the program with a sentence.
 * One thread calls. */
#ifndef KEMARI_TEST_BENCH_PAIR_H
#define KEMARI_TEST_BENCH_PAIR_H

#include "checkpoint/engine.h"
#include "checkpoint/policy.h"

#define BENCH_STAGING ((size_t)128 << 20) /* bytes of each side */

struct bench_pair;

struct bench_pair_config {
    const char *program;   /* guest of test/guest: "echo" (has a network) or "pagewriter" */
    const char *arguments; /* its command line */
    uint64_t memory;       /* bytes */
    unsigned vcpus;
};

/* Ends the program. `err` may be NULL: errno. */
void bench_die(const char *what, const struct error *err) __attribute__((noreturn));

/* Makes both machines and lets the guest run alone, its output going out at once. Returns when it
 * has said "ready". */
struct bench_pair *bench_pair_create(const struct bench_pair_config *config);
void bench_pair_destroy(struct bench_pair **pair);

/* Makes `policy` the one in use. The first call connects the standby, over loopback TCP or inside
 * the process, and waits for the first commit. */
void bench_pair_follow_policy(struct bench_pair *pair, bool tcp, const struct policy *policy);

/* Cuts for output (or every 10 ms, for POLICY_INTERVAL), and for nothing else. */
struct policy bench_pair_policy(enum policy_kind kind);

struct engine *bench_pair_engine(struct bench_pair *pair); /* borrowed */
struct gmem *bench_pair_memory(struct bench_pair *pair);   /* the primary's; borrowed */
int bench_pair_wire(const struct bench_pair *pair);        /* frames with virtio-net header */

/* What a memcpy of the guest's pages `first`, `first + stride`, ... costs here and now, the guest
 * running: the best that a cut could do. Adds one sample, ns. */
void bench_pair_time_memcpy(struct bench_pair *pair, gfn_t first, size_t stride, size_t pages,
                            struct histogram *times);

#endif
