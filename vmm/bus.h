/* Address decoding for the port and MMIO spaces.
 *
 * Handlers run under the machine's device lock, on the vCPU thread that made the access. An access
 * that no range claims reads as all ones and ignores writes, as on real hardware. */
#ifndef KEMARI_VMM_BUS_H
#define KEMARI_VMM_BUS_H

#include "base/error.h"
#include "base/types.h"

struct bus;

struct bus_ops {
    /* `offset` is relative to the range, offset + size never exceeds it; size is 1, 2, 4 or 8.
     * `data` is little-endian guest bytes. */
    void (*read)(void *context, uint64_t offset, uint8_t *data, uint32_t size);
    void (*write)(void *context, uint64_t offset, const uint8_t *data, uint32_t size);
};

struct bus *bus_create(void);
void bus_destroy(struct bus **bus);

/* Claims [base, base+size). -EEXIST when it overlaps a claimed range, -EINVAL when it is empty or
 * wraps. `name` (static string) appears in messages. */
int bus_claim(struct bus *bus, const char *name, uint64_t base, uint64_t size,
              const struct bus_ops *ops, void *context, struct error *err);

/* Releases the range that starts at `base`; nothing happens if there is none. */
void bus_release(struct bus *bus, uint64_t base);

void bus_read(struct bus *bus, uint64_t address, uint8_t *data, uint32_t size);
void bus_write(struct bus *bus, uint64_t address, const uint8_t *data, uint32_t size);

#endif
