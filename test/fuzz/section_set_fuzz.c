/* Any bytes as an encoded set of sections. What is accepted encodes to the same bytes. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/section.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct section_set *set;
    if (!set && !(set = section_set_create()))
        abort();
    struct error err = {0};
    const int rc = section_set_decode(set, data, size, &err);
    assert(rc <= 0 && err.code == rc);
    if (rc < 0) {
        assert(section_set_count(set) == 0);
        return 0;
    }
    for (size_t i = 0; i < section_set_count(set); i++) {
        const struct section *s = section_set_at(set, i);
        assert(s->version && section_set_find(set, s->name, s->instance) == s);
        assert(s->size <= SECTION_SIZE_MAX && section_set_data(set, s) != NULL);
    }
    assert(section_set_encoded_size(set) == size);
    uint8_t *back = malloc(size);
    assert(back && section_set_encode(set, back, size) == (int)size);
    assert(memcmp(back, data, size) == 0);
    free(back);
    return 0;
}
