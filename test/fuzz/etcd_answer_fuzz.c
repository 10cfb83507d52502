/* Answers of etcd: nothing crashes, what is taken for a fact is about our key and complete. */
#include <stdlib.h>
#include <string.h>

#include "heartbeat/etcd_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int rc, const struct etcd_fact *fact)
{
    if (rc == 0 && (!fact->cluster || !fact->revision))
        abort();
    if (rc == 0 && fact->present &&
        (!fact->record.term || !fact->mod_revision || !fact->record.owner[0]))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct etcd_fact fact;
    bool swapped;
    char token[ETCD_TOKEN_MAX], text[ERROR_TEXT_MAX], value[ETCD_VALUE_MAX];
    check(etcd_decode_range((const char *)data, size, "/kemari/redis", &fact, NULL), &fact);
    check(etcd_decode_swap((const char *)data, size, "/kemari/redis", &fact, &swapped, NULL),
          &fact);
    etcd_decode_login((const char *)data, size, token, NULL);
    etcd_decode_error((const char *)data, size, text);
    struct etcd_record record;
    if (etcd_record_parse((const char *)data, size, &record, NULL) == 0 &&
        (etcd_record_format(&record, value) == 0 || memcmp(value, data, strlen(value)) != 0))
        abort();
    return 0;
}
