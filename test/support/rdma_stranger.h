/* Somebody who connects over RDMA by verbs of his own, holds no key, and writes where he pleases.
 */
#ifndef KEMARI_TEST_SUPPORT_RDMA_STRANGER_H
#define KEMARI_TEST_SUPPORT_RDMA_STRANGER_H

#include "base/types.h"

struct rdma_stranger;

/* To a listener's "rdma://host:port", with a right offer. NULL: says why on standard error. */
struct rdma_stranger *rdma_stranger_connect(const char *uri);

/* Writes one-sided to this address of the other side, with the key; false: it did not work. */
bool rdma_stranger_write(struct rdma_stranger *stranger, const void *address, uint32_t key);

/* How many rings he was told of so far. */
unsigned rdma_stranger_rings(struct rdma_stranger *stranger);

void rdma_stranger_destroy(struct rdma_stranger **stranger);

/* Memory regions registered with this host's RDMA devices, by whomever; -1: can't be told. */
int rdma_stranger_regions(void);

#endif
