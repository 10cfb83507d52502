/* Any bytes as a state of QEMU, of either kind: what is accepted has memory that is walked to its
 * end, and whatever it is, it comes back from its sections as it was. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct section_set *set;
    struct error err = {0};
    if (!set && !(set = section_set_create()))
        abort();
    for (int with_memory = 0; with_memory < 2; with_memory++) {
        const int rc = stream_check(data, size, with_memory, &err);
        assert(rc == 0 || rc == err.code);
        if (rc == 0 && with_memory)
            (void)stream_has_block(data, size, "vga.vram");
    }
    section_set_reset(set);
    if (size == 0 || stream_to_sections(data, size, set, &err) < 0)
        return 0;
    uint8_t *back = malloc(size);
    assert(back && stream_from_sections(set, back, &err) == (int)size);
    assert(memcmp(back, data, size) == 0);
    free(back);
    return 0;
}
