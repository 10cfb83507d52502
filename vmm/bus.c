/* A sorted array of ranges and a binary search. Ranges don't overlap, so the range with the
 * greatest base not above an address is the only one that can hold it. */
#include "vmm/bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct range {
    const char *name;
    uint64_t base;
    uint64_t last; /* inclusive: a range may end at the top of the address space */
    const struct bus_ops *ops;
    void *context;
};

struct bus {
    struct range *ranges; /* by ascending base */
    size_t count;
    size_t capacity;
};

struct bus *bus_create(void)
{
    return calloc(1, sizeof(struct bus));
}

void bus_destroy(struct bus **bus)
{
    if (!*bus)
        return;
    free((*bus)->ranges);
    free(*bus);
    *bus = NULL;
}

/* Number of ranges whose base is <= address. */
static size_t upper_bound(const struct bus *bus, uint64_t address)
{
    size_t low = 0, high = bus->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (bus->ranges[middle].base <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int make_room(struct bus *bus)
{
    if (bus->count < bus->capacity)
        return 0;
    const size_t capacity = bus->capacity ? 2 * bus->capacity : 16;
    struct range *ranges = realloc(bus->ranges, capacity * sizeof(*ranges));
    if (!ranges)
        return -ENOMEM;
    bus->ranges = ranges;
    bus->capacity = capacity;
    return 0;
}

int bus_claim(struct bus *bus, const char *name, uint64_t base, uint64_t size,
              const struct bus_ops *ops, void *context, struct error *err)
{
    const uint64_t last = base + size - 1;
    if (size == 0 || last < base)
        return error_set(err, -EINVAL, "bus: range of %s is empty or wraps", name);
    const size_t at = upper_bound(bus, base);
    const struct range *below = at > 0 ? &bus->ranges[at - 1] : NULL;
    const struct range *above = at < bus->count ? &bus->ranges[at] : NULL;
    const struct range *other = below && below->last >= base   ? below
                                : above && above->base <= last ? above
                                                               : NULL;
    if (other)
        return error_set(err, -EEXIST, "bus: %s at 0x%llx overlaps %s", name,
                         (unsigned long long)base, other->name);
    if (make_room(bus) < 0)
        return error_set(err, -ENOMEM, "bus: out of memory");
    memmove(&bus->ranges[at + 1], &bus->ranges[at], (bus->count - at) * sizeof(*bus->ranges));
    bus->ranges[at] =
        (struct range){.name = name, .base = base, .last = last, .ops = ops, .context = context};
    bus->count++;
    return 0;
}

void bus_release(struct bus *bus, uint64_t base)
{
    const size_t at = upper_bound(bus, base);
    if (at == 0 || bus->ranges[at - 1].base != base)
        return;
    memmove(&bus->ranges[at - 1], &bus->ranges[at], (bus->count - at) * sizeof(*bus->ranges));
    bus->count--;
}

/* The range that holds all of [address, address+size), or NULL. */
static const struct range *find(const struct bus *bus, uint64_t address, uint32_t size)
{
    const size_t at = upper_bound(bus, address);
    if (at == 0)
        return NULL;
    const struct range *r = &bus->ranges[at - 1];
    return address <= r->last && size - 1 <= r->last - address ? r : NULL;
}

void bus_read(struct bus *bus, uint64_t address, uint8_t *data, uint32_t size)
{
    memset(data, 0xff, size);
    const struct range *r = find(bus, address, size);
    if (r)
        r->ops->read(r->context, address - r->base, data, size);
}

void bus_write(struct bus *bus, uint64_t address, const uint8_t *data, uint32_t size)
{
    const struct range *r = find(bus, address, size);
    if (r)
        r->ops->write(r->context, address - r->base, data, size);
}
