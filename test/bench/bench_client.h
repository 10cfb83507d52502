/* One request after the other to the echo guest, each waiting for its reply.
 *
 * Replies are judged as in the tests (test/support/echo_client.h): a number that comes from a guest
 * that contradicts itself is worth nothing, so the program ends. */
#ifndef KEMARI_TEST_BENCH_BENCH_CLIENT_H
#define KEMARI_TEST_BENCH_BENCH_CLIENT_H

#include "base/histogram.h"
#include "test/support/echo_client.h"

/* Adds up to `count` round trips to `times` (ns; NULL: not counted), and stops early after
 * `limit`. `wire` gives and takes frames with their virtio-net header. */
void bench_client_run(struct echo_client *client, int wire, unsigned count, nsec_t limit,
                      struct histogram *times);

#endif
