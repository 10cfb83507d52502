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

static int judge(const char *name, uint64_t used, uint64_t memory, bool *found, struct error *err)
{
    if (ends_with(name, QEMU_MEMORY)) {
        *found = used == memory;
        return *found ? 0
                      : error_set(err, -ENOTSUP,
                                  "QEMU uses %" PRIu64 " bytes of memory instead of %" PRIu64, used,
                                  memory);
    }
    return is_same_everywhere(name)
               ? 0
               : error_set(err, -ENOTSUP,
                           "the machine has memory of its own that no checkpoint would have (RAM "
                           "block %.80s): leave out the device it belongs to",
                           name);
}

int ram_blocks_check(const char *list, uint64_t memory, size_t *firmware, struct error *err)
{
    bool found = false, header = true;
    *firmware = 0;
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
        const int rc = judge(name, used, memory, &found, err);
        if (rc < 0)
            return rc;
        if (strcmp(name, FIRMWARE_BLOCK) != 0)
            continue;
        if (used > FIRMWARE_MAX || used % PAGE_SIZE)
            return error_set(err, -EBADMSG, "list of RAM blocks: firmware of %" PRIu64 " bytes",
                             used);
        *firmware = (size_t)used;
    }
    return found ? 0
                 : error_set(err, -ENOTSUP,
                             "the machine does not use the memory it was given: is its type one "
                             "with RAM?");
}
