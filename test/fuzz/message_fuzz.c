/* Any bytes as a control message. What is accepted must encode, and decode to the same again. */
#include <assert.h>
#include <string.h>

#include "transport/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct message message, again;
    struct error err = {0};
    const int rc = message_decode(data, size, &message, &err);
    assert(rc <= 0 && err.code == rc);
    if (rc < 0)
        return 0;
    uint8_t bytes[MESSAGE_SIZE_MAX];
    const int length = message_encode(&message, bytes, sizeof(bytes), NULL);
    assert(length > 0);
    assert(message_decode(bytes, (size_t)length, &again, NULL) == 0);
    assert(memcmp(&message, &again, sizeof(message)) == 0);
    return 0;
}
