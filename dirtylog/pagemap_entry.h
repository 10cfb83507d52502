/* An entry of /proc/PID/pagemap, and what it says about writes (Linux,
 * Documentation/admin-guide/mm/pagemap.rst and soft-dirty.rst). */
#ifndef KEMARI_DIRTYLOG_PAGEMAP_ENTRY_H
#define KEMARI_DIRTYLOG_PAGEMAP_ENTRY_H

#include <stdbool.h>
#include <stdint.h>

#define PAGEMAP_PRESENT    (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED    (UINT64_C(1) << 62) /* also: on its way to another place in memory */
#define PAGEMAP_SOFT_DIRTY (UINT64_C(1) << 55)

/* False for a page of a shared file that the process has not in its page table. The kernel takes
 * such pages out of it at will (memory pressure, huge pages made or split), and their soft-dirty
 * bits are gone then. */
static inline bool pagemap_entry_is_there(uint64_t entry)
{
    return entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED);
}

/* Whether a page that was there and clean when the bits were cleared may have been written since.
 */
static inline bool pagemap_entry_written(uint64_t entry)
{
    return (entry & PAGEMAP_SOFT_DIRTY) || !pagemap_entry_is_there(entry);
}

#endif
