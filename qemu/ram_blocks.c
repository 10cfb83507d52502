#include "qemu/ram_blocks.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "qemu/command.h"
#include "qemu/firmware.h"

static bool ends_with(const char *text, const char *end)
{
    const size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static bool begins_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static bool is_same_everywhere(const char *name)
{
    return strcmp(name, FIRMWARE_BLOCK) == 0 || strcmp(name, "pc.rom") == 0 ||
           begins_with(name, "/rom@") || ends_with(name, ".rom");
}

/* What is summed up while the list is read. */
struct tally {
    bool found;       /* the guest's memory */
    uint64_t carried; /* bytes of all others */
    char greatest[RAM_BLOCK_NAME_MAX];
    uint64_t greatest_size;
};

static int add_firmware(uint64_t used, struct ram_blocks *out, struct error *err)
{
    if (used > FIRMWARE_MAX || used % PAGE_SIZE)
        return error_set(err, -EBADMSG, "list of RAM blocks: firmware of %" PRIu64 " bytes", used);
    out->firmware = (size_t)used;
    return 0;
}

static int add_block(const char *name, uint64_t used, uint64_t memory, struct tally *tally,
                     struct ram_blocks *out, struct error *err)
{
    if (ends_with(name, QEMU_MEMORY)) {
        tally->found = used == memory;
        return tally->found ? 0
                            : error_set(err, -ENOTSUP,
                                        "QEMU uses %" PRIu64 " bytes of memory instead of %" PRIu64,
                                        used, memory);
    }
    if (out->count == RAM_BLOCKS_MAX || strlen(name) >= RAM_BLOCK_NAME_MAX)
        return error_set(
            err, -ENOTSUP,
            "the machine has more RAM blocks than the %u that are looked after, or one "
            "of a longer name (%.80s)",
            RAM_BLOCKS_MAX, name);
    memcpy(out->names[out->count++], name, strlen(name) + 1);
    out->own |= !is_same_everywhere(name);
    /* Of sizes that can't be summed up one alone is too much. */
    tally->carried += used < UINT32_MAX ? used : UINT32_MAX;
    if (used > tally->greatest_size) {
        tally->greatest_size = used;
        memcpy(tally->greatest, out->names[out->count - 1], RAM_BLOCK_NAME_MAX);
    }
    return strcmp(name, FIRMWARE_BLOCK) == 0 ? add_firmware(used, out, err) : 0;
}

static int judge(const struct tally *tally, const struct ram_blocks *blocks, struct error *err)
{
    if (!tally->found)
        return error_set(err, -ENOTSUP,
                         "the machine does not use the memory it was given: is its type one "
                         "with RAM?");
    if (blocks->own && tally->carried > RAM_CARRIED_MAX)
        return error_set(err, -ENOTSUP,
                         "the machine has %" PRIu64 " bytes of memory of its own, of which a "
                         "checkpoint carries up to %u: leave out the device that RAM block %s "
                         "belongs to, or give it less (vgamem_mb=)",
                         tally->carried, RAM_CARRIED_MAX, tally->greatest);
    return 0;
}

int ram_blocks_read(const char *list, uint64_t memory, struct ram_blocks *out, struct error *err)
{
    struct tally tally = {0};
    bool header = true;
    *out = (struct ram_blocks){0};
    for (const char *line = list; *line;) {
        const char *end = strchr(line, '\n');
        const size_t length = end ? (size_t)(end - line) : strlen(line);
        char text[512], name[256], page[32], unit[16];
        uint64_t offset, used, total;
        if (length >= sizeof(text))
            return error_set(err, -EBADMSG, "list of RAM blocks: a line of %zu bytes", length);
        memcpy(text, line, length);
        text[length] = '\0';
        line += length + (end != NULL);
        if (text[strspn(text, " \r")] == '\0')
            continue;
        if (header) {
            header = false;
            if (strstr(text, "Block Name"))
                continue;
        }
        if (sscanf(text, " %255s %31s %15s %" SCNx64 " %" SCNx64 " %" SCNx64, name, page, unit,
                   &offset, &used, &total) != 6)
            return error_set(err, -EBADMSG, "list of RAM blocks: can't read \"%.80s\"", text);
        const int rc = add_block(name, used, memory, &tally, out, err);
        if (rc < 0)
            return rc;
    }
    return judge(&tally, out, err);
}
