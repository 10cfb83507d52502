/* Guest memory: the slots, their translation, and the record of what *we* wrote.
 *
 * KVM's dirty log sees only what the guest's vCPUs write. Every write by this process (virtio, the
 * loader, the secondary's apply) must go through gmem_write() or be followed by gmem_mark_dirty(),
 * or a checkpoint would miss it: dirty = KVM's log + the VMM's own writes (DESIGN §4.2).
 *
 * Layout: RAM below 3 GiB is slot 0 at gpa 0; the rest, if any, is slot 1 at 4 GiB. Each slot is a
 * shared mapping of one memfd, so another process can map the same memory.
 *
 * Threads: the layout never changes after creation, so translation needs no lock. Marking is an
 * atomic OR and may happen on any thread. */
#ifndef KEMARI_GMEM_GMEM_H
#define KEMARI_GMEM_GMEM_H

#include "base/error.h"
#include "base/types.h"

#define GMEM_HOLE_START ((gpa_t)3 << 30) /* device window [3 GiB, 4 GiB) */
#define GMEM_HOLE_END   ((gpa_t)4 << 30)
#define GMEM_SLOTS_MAX  2
#define GMEM_SIZE_MIN   ((uint64_t)2 << 20)
#define GMEM_SIZE_MAX   ((uint64_t)1 << 40)

struct gmem;

struct gmem_slot {
    uint32_t id;          /* index, and the KVM memory slot number */
    gpa_t gpa;            /* page aligned */
    uint64_t size;        /* bytes, a multiple of PAGE_SIZE */
    uint8_t *host;        /* our mapping */
    uint64_t file_offset; /* of the slot inside gmem_fd() */
};

struct gmem_config {
    uint64_t size;   /* bytes of RAM, a multiple of 2 MiB, GMEM_SIZE_MIN..GMEM_SIZE_MAX */
    bool huge_pages; /* back by hugetlbfs pages of 2 MiB; fails if there are not enough */
    bool prefault;   /* touch every page now, so that a later write never waits for the host */
};

int gmem_create(const struct gmem_config *config, struct gmem **out, struct error *err);
void gmem_destroy(struct gmem **mem);

uint64_t gmem_size(const struct gmem *mem); /* bytes of RAM */
uint64_t gmem_page_count(const struct gmem *mem);
int gmem_fd(const struct gmem *mem); /* the memfd, borrowed */

size_t gmem_slot_count(const struct gmem *mem);
const struct gmem_slot *gmem_slot_at(const struct gmem *mem, size_t index);

/* The page at `gfn`, PAGE_SIZE bytes, or NULL when no RAM is there. Does not mark. */
uint8_t *gmem_page(const struct gmem *mem, gfn_t gfn);

/* Copies the page, which must be RAM, while others may write it: every aligned 8 bytes are of one
 * moment, the page as a whole need not be. A page that is still is better copied by memcpy(). */
void gmem_copy_page(const struct gmem *mem, gfn_t gfn, uint8_t *out);

/* Translates between gfn and the dense page index 0..gmem_page_count()-1. A gfn without RAM gives
 * false. */
bool gmem_index_of(const struct gmem *mem, gfn_t gfn, uint64_t *index);
gfn_t gmem_gfn_at(const struct gmem *mem, uint64_t index);

/* Copies between guest memory and a buffer: 0 or -EFAULT when any byte lies outside RAM (nothing
 * is copied then). The write marks its pages dirty after the copy. */
int gmem_read(const struct gmem *mem, gpa_t gpa, void *data, size_t size);
int gmem_write(struct gmem *mem, gpa_t gpa, const void *data, size_t size);

/* Direct view of [gpa, gpa+size), which must lie in one slot; NULL otherwise. Whoever writes
 * through it calls gmem_mark_dirty() *after* the last write: a mark taken by a concurrent collect
 * before the write would lose it. */
uint8_t *gmem_view(const struct gmem *mem, gpa_t gpa, size_t size);
/* memcpy() into a view of guest memory that somebody may be copying: a copy made meanwhile is torn,
 * and made again because of the mark that the caller sets afterwards, but nothing is undefined. */
void gmem_store(uint8_t *view, const void *data, size_t size);
void gmem_mark_dirty(struct gmem *mem, gpa_t gpa, size_t size);

/* ORs the marks into `bitmap` (one bit per dense page index, gmem_page_count() bits rounded up to
 * 64) and clears them. */
void gmem_take_marks(struct gmem *mem, uint64_t *bitmap);

/* The same, but hands each word of the bitmap that has marks (`bits` is never 0) to `take`. */
void gmem_take_marks_each(struct gmem *mem, void (*take)(void *context, size_t word, uint64_t bits),
                          void *context);

#endif
