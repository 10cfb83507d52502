/* Any bytes as a message of an RDMA carrier, and as an offer. What is accepted must be possible
 * and, except for data, encode to the same bytes. */
#include <assert.h>
#include <string.h>

#include "transport/rdma_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rdma_message m;
    struct error err = {0};
    int rc = rdma_message_decode(data, size, &m, &err);
    assert(rc <= 0 && err.code == rc);
    if (rc == 0 && m.type == RDMA_MESSAGE_DATA) {
        assert(m.data.size > 0 && m.data.size <= RDMA_MESSAGE_MAX);
        assert(m.data.bytes + m.data.size == data + size);
    } else if (rc == 0) {
        static uint8_t back[RDMA_SLOT_SIZE];
        assert(rdma_message_encode(&m, back) == size && memcmp(back, data, size) == 0);
    }
    rc = rdma_offer_check(data, size, false, NULL);
    assert(rc <= 0);
    return 0;
}
