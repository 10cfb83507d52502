#include "test/support/memory_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int map_read(void *io, uint64_t offset, uint8_t *bytes, size_t size)
{
    const struct memory_map *m = io;
    memcpy(bytes, m->bytes + offset, size);
    return 0;
}

static int map_write(void *io, uint64_t offset, const uint8_t *bytes, size_t size)
{
    struct memory_map *m = io;
    memcpy(m->bytes + offset, bytes, size);
    return 0;
}

static int map_sync(void *io)
{
    ((struct memory_map *)io)->syncs++;
    return 0;
}

static int map_reserve(void *io, uint64_t size)
{
    (void)io;
    return size > MEMORY_MAP_SIZE ? -ENOSPC : 0;
}

static int map_remove(void *io)
{
    struct memory_map *m = io;
    memset(m->bytes, 0, sizeof(m->bytes));
    return 0;
}

static void map_close(void *io)
{
    (void)io;
}

struct divergence_io memory_map_io(struct memory_map *map)
{
    static const struct divergence_io_ops ops = {.read = map_read,
                                                 .write = map_write,
                                                 .sync = map_sync,
                                                 .reserve = map_reserve,
                                                 .remove = map_remove,
                                                 .close = map_close};
    return (struct divergence_io){.ops = &ops, .context = map};
}

struct divergence *memory_map_open(struct memory_map *map, unsigned index, uint64_t disk_size)
{
    const struct divergence_config config = {
        .vm = "web", .index = index, .size = disk_size, .io = memory_map_io(map)};
    struct divergence *d;
    if (divergence_open(&config, &d, NULL) < 0)
        abort();
    return d;
}
