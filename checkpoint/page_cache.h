/* What the standby holds of each page, as far as a bounded memory of it goes: whole versions of the
 * pages that change often, digests of others, nothing of the rest.
 *
 * What "holds" means. A link is ordered, an epoch is applied after all before it, and whatever goes
 * wrong (an aborted epoch, a refusal, a new standby) ends the link; the next one begins with all of
 * memory. So of everything *sent on this link*, in order, the standby will have applied all that
 * comes before a frame when it decodes that frame, and the version to refer to is the last one that
 * was given to this link, acknowledged or not. Hence: page_cache_forget() when a link begins, and a
 * page_cache_put() for every page that is put into a frame, in that order. A link on which sending
 * failed is never used again.
 *
 * Both parts are set-associative, so that a look-up is a few compares and nothing needs memory by
 * the size of the guest. A page that comes back keeps its place against those seen once.
 *
 * Owned by one thread. */
#ifndef KEMARI_CHECKPOINT_PAGE_CACHE_H
#define KEMARI_CHECKPOINT_PAGE_CACHE_H

#include "base/error.h"
#include "base/types.h"
#include "transport/digest.h"

struct page_cache;

#define PAGE_CACHE_SIZE_MIN     ((size_t)1 << 20)
#define PAGE_CACHE_SIZE_MAX     ((size_t)16 << 30)
#define PAGE_CACHE_SIZE_DEFAULT ((size_t)48 << 20)

/* `size` bytes in all, for a guest of `page_count` pages. */
int page_cache_create(size_t size, uint64_t page_count, struct page_cache **out, struct error *err);
void page_cache_destroy(struct page_cache **cache);

/* Nothing is known of the standby. Its digests are under `seed` from now on. */
void page_cache_forget(struct page_cache *cache, uint64_t seed);

/* The version that the standby holds, PAGE_SIZE bytes, or NULL. The caller may bring it up to date
 * in place, which is a put. Valid until the next put. */
uint8_t *page_cache_version(struct page_cache *cache, gfn_t gfn);

/* True when the standby holds a page of this digest; asked when there is no version. */
bool page_cache_holds(struct page_cache *cache, gfn_t gfn, const uint8_t digest[DIGEST_128_SIZE]);

/* The standby will hold `page`, whose digest this is. `keep`: as a version, if there is room for
 * one or a lesser one to give up; else its digest only. */
void page_cache_put(struct page_cache *cache, gfn_t gfn, const uint8_t *page,
                    const uint8_t digest[DIGEST_128_SIZE], bool keep);

/* The standby will hold something else, and it isn't worth knowing what. */
void page_cache_drop(struct page_cache *cache, gfn_t gfn);

#endif
