/* The part, as QEMU writes it since 2.3 (migration/ram.c, version 4 of "ram"); big-endian:
 *
 *   0x01, u32 id, "ram", u32 instance 0, u32 version 4,
 *   u64 all sizes | MEM_SIZE, then per block: name, u64 size,
 *   per page: u64 offset | PAGE, name, 4096 bytes,
 *   u64 EOS, 0x7e, u32 id
 *
 * where a name is its length in a byte and its characters. */
#include "qemu/firmware.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PART_BEGIN    0x01 /* QEMU_VM_SECTION_START */
#define PART_END      0x7e /* QEMU_VM_SECTION_FOOTER */
#define PART_ID       1
#define PART_VERSION  4
#define FLAG_MEM_SIZE 0x04
#define FLAG_PAGE     0x08
#define FLAG_EOS      0x10

#define NAME_SIZE     (1 + sizeof(FIRMWARE_BLOCK) - 1)
#define HEAD_SIZE     (1 + 4 + 4 + 4 + 4 + 8 + NAME_SIZE + 8)
#define TAIL_SIZE     (8 + 1 + 4)

int firmware_is_writable(const char *roms, size_t size, bool *writable, struct error *err)
{
    for (const char *line = roms; line; line = strchr(line, '\n')) {
        uint64_t address;
        char kind[4];
        line += *line == '\n';
        if (sscanf(line, "addr=%" SCNx64 " size=%*x mem=%3[a-z] ", &address, kind) != 2 ||
            address != FIRMWARE_END - size)
            continue;
        *writable = strcmp(kind, "rom") != 0;
        return 0;
    }
    return error_set(err, -EBADMSG, "info roms: the firmware of %zu bytes is not there", size);
}

static uint8_t *put(uint8_t *out, uint64_t value, unsigned bytes)
{
    for (unsigned i = bytes; i-- > 0;)
        *out++ = (uint8_t)(value >> (8 * i));
    return out;
}

static uint8_t *put_name(uint8_t *out, const char *name)
{
    const size_t length = strlen(name);
    out = put(out, length, 1);
    memcpy(out, name, length);
    return out + length;
}

size_t firmware_part_size(size_t size)
{
    return HEAD_SIZE + size / PAGE_SIZE * (8 + NAME_SIZE + PAGE_SIZE) + TAIL_SIZE;
}

void firmware_part_make(const uint8_t *bytes, size_t size, uint8_t *out)
{
    out = put(out, PART_BEGIN, 1);
    out = put(out, PART_ID, 4);
    out = put_name(out, "ram");
    out = put(out, 0, 4);
    out = put(out, PART_VERSION, 4);
    out = put(out, size | FLAG_MEM_SIZE, 8);
    out = put_name(out, FIRMWARE_BLOCK);
    out = put(out, size, 8);
    for (size_t at = 0; at < size; at += PAGE_SIZE) {
        out = put(out, at | FLAG_PAGE, 8);
        out = put_name(out, FIRMWARE_BLOCK);
        memcpy(out, bytes + at, PAGE_SIZE);
        out += PAGE_SIZE;
    }
    out = put(out, FLAG_EOS, 8);
    out = put(out, PART_END, 1);
    put(out, PART_ID, 4);
}
