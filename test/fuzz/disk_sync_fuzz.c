/* Messages of a disk's synchronisation: what decodes encodes to the very same bytes, and a target
 * carries out what it is told without leaving its image. */
#include <stdlib.h>
#include <string.h>

#include "disk/sync_codec.h"
#include "disk/sync_target.h"
#include "test/support/memory_disk.h"
#include "test/support/memory_map.h"

#define DISK_SIZE (3 * BLOCK_SIZE + 512)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int discard(void *channel, const uint8_t *payload, size_t size, struct error *err)
{
    const struct disk_geometry geometry = {.count = 1, .sizes = {DISK_SIZE}};
    struct sync_message m;
    (void)channel;
    if (sync_decode(payload, size, &geometry, &m, err) < 0)
        abort(); /* an answer is always legal */
    return 0;
}

static void check(const uint8_t *bytes, size_t size, struct sync_target *target)
{
    static uint8_t again[SYNC_PAYLOAD_MAX];
    static const struct sync_channel_ops ops = {.send = discard};
    const struct sync_channel channel = {.ops = &ops};
    const struct disk_geometry geometry = {.count = 1, .sizes = {DISK_SIZE}};
    struct sync_message m;
    if (sync_decode(bytes, size, &geometry, &m, NULL) < 0)
        return;
    if (sync_encode(&m, again, sizeof(again)) != size || memcmp(again, bytes, size) != 0)
        abort();
    sync_target_handle(target, &m, &channel, NULL);
}

/* Several messages, each behind its length (16 bits). */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct memory_disk disk;
    static struct memory_map file;
    struct disk_volume *volume;
    struct sync_target *target;
    memset(&file, 0, sizeof(file));
    memory_disk_init(&disk, DISK_SIZE);
    const struct disk_volume_config config = {.image = memory_disk_image(&disk), .index = 0};
    struct divergence *map = memory_map_open(&file, 0, DISK_SIZE);
    if (disk_volume_create(&config, &volume, NULL) < 0)
        abort();
    const struct sync_target_config to = {.volume = volume, .divergence = map};
    if (sync_target_create(&to, &target, NULL) < 0)
        abort();
    while (size >= 2) {
        const size_t wanted = (size_t)data[0] | (size_t)data[1] << 8;
        const size_t length = wanted < size - 2 ? wanted : size - 2;
        check(data + 2, length, target);
        data += 2 + length;
        size -= 2 + length;
    }
    sync_target_destroy(&target);
    disk_volume_destroy(&volume);
    divergence_close(&map, NULL);
    memory_disk_free(&disk);
    return 0;
}
