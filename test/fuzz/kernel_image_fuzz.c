/* Any bytes as a kernel, of a file and for a memory of any size: what is accepted fits into both,
 * and the boot parameters can be made of it. Input: u64 size of the file, u64 end of low memory,
 * bytes. */
#include <stdlib.h>

#include "base/wire.h"
#include "vmm/boot.h"
#include "vmm/boot_params.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_segment(const struct kernel_segment *s, uint64_t file_size, uint64_t low_memory)
{
    require(s->memory_size > 0 && s->file_size <= s->memory_size);
    require(s->file_offset <= file_size && s->file_size <= file_size - s->file_offset);
    require(s->gpa >= BOOT_LOW_END && s->gpa < low_memory);
    require(s->memory_size <= low_memory - s->gpa);
}

static void check_image(const struct kernel_image *k, uint64_t file_size, uint64_t low_memory)
{
    bool entered = false;
    require(k->segment_count >= 1 && k->segment_count <= KERNEL_SEGMENTS_MAX);
    for (size_t i = 0; i < k->segment_count; i++) {
        const struct kernel_segment *s = &k->segments[i];
        check_segment(s, file_size, low_memory);
        require(k->end >= s->gpa + s->memory_size);
        entered |= k->entry >= s->gpa && k->entry - s->gpa < s->memory_size;
        for (size_t j = 0; j < i; j++)
            require(s->gpa >= k->segments[j].gpa + k->segments[j].memory_size ||
                    k->segments[j].gpa >= s->gpa + s->memory_size);
    }
    require(entered && k->end <= low_memory && k->setup_size <= sizeof(k->setup));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct kernel_image image;
    static struct boot_params params;
    struct wire_reader r = {.bytes = data, .size = size};
    const uint64_t file_size = wire_get_u64(&r);
    const uint64_t low_memory = wire_get_u64(&r);
    size_t count = size - r.used;
    if (r.bad)
        return 0;
    count = count < KERNEL_HEADER_MAX ? count : KERNEL_HEADER_MAX;
    if (file_size < count ||
        kernel_image_parse(data + r.used, count, file_size, low_memory, &image, NULL) < 0)
        return 0;
    check_image(&image, file_size, low_memory);
    const struct boot_params_input input = {.kernel = &image, .memory_size = (uint64_t)64 << 20};
    boot_params_build(&input, &params);
    return 0;
}
