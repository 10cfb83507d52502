/* Sections: the machine's state as a list of named, versioned, opaque byte strings.
 *
 * The machine writes and reads them (vmm/), the checkpoint carries them unread, the secondary
 * proves them loadable by asking its own machine. A set owns one buffer that is reused from epoch
 * to epoch, so that saving inside the pause allocates nothing once warm.
 *
 * Not thread safe: one owner at a time; ownership moves by pointer. */
#ifndef KEMARI_BASE_SECTION_H
#define KEMARI_BASE_SECTION_H

#include "base/error.h"
#include "base/types.h"

#define SECTION_NAME_MAX  32              /* including the terminating zero */
#define SECTION_COUNT_MAX 512             /* sections in a set */
#define SECTION_SIZE_MAX  (1u << 20)      /* bytes of one section */
#define SECTION_SET_MAX   (32u << 20)     /* bytes of all sections of a set */

struct section {
    char name[SECTION_NAME_MAX]; /* "vcpu.regs", "virtio-net"; [a-z0-9.-] */
    uint32_t instance;           /* vCPU number, device slot, ... */
    uint32_t version;            /* of the layout of `data`; 0 is invalid */
    uint32_t size;               /* bytes */
    size_t offset;               /* of the data inside the set's buffer */
};

struct section_set;

struct section_set *section_set_create(void);
void section_set_destroy(struct section_set **set);

/* Empties the set and keeps its buffer. */
void section_set_reset(struct section_set *set);

/* Appends a section and returns `size` zeroed bytes to fill, valid until the next add. NULL when
 * a limit above is exceeded or memory is out; the set is unchanged then. */
uint8_t *section_set_add(struct section_set *set, const char *name, uint32_t instance,
                         uint32_t version, size_t size);

size_t section_set_count(const struct section_set *set);
const struct section *section_set_at(const struct section_set *set, size_t index);
const uint8_t *section_set_data(const struct section_set *set, const struct section *section);

/* The section of that name and instance, or NULL. */
const struct section *section_set_find(const struct section_set *set, const char *name,
                                       uint32_t instance);

/* Serialised form: see docs/protocol.md, "State". Encode returns the number of bytes written or
 * -ENOSPC; decode validates every count, name and size before it stores anything and rejects
 * duplicates; on error the set is empty. */
size_t section_set_encoded_size(const struct section_set *set);
int section_set_encode(const struct section_set *set, uint8_t *out, size_t size);
int section_set_decode(struct section_set *set, const uint8_t *bytes, size_t size,
                       struct error *err);

#endif
