#include "checkpoint/page_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define WAYS 8
/* Part of the memory that goes to digests. */
#define DIGEST_SHARE 8
#define NO_PAGE      UINT64_MAX
/* How often a version is passed over before it must go. */
#define WORTH_NEW 1
#define WORTH_MAX 3

struct version_set {
    gfn_t gfns[WAYS];
    uint8_t worth[WAYS];
};

struct digest_set {
    gfn_t gfns[WAYS];
    uint8_t digests[WAYS][DIGEST_128_SIZE];
    unsigned next; /* the way that is given up next */
};

struct page_cache {
    uint64_t seed;
    struct version_set *versions;
    size_t version_sets;
    uint8_t *pages; /* WAYS per set */
    struct digest_set *digests;
    size_t digest_sets;
};

/* At least one set, and no more than the guest has pages for. */
static size_t sets_for(size_t bytes, size_t bytes_per_set, uint64_t page_count)
{
    const size_t wanted = (size_t)((page_count + WAYS - 1) / WAYS);
    const size_t fit = bytes / bytes_per_set;
    const size_t sets = fit < wanted ? fit : wanted;
    return sets ? sets : 1;
}

int page_cache_create(size_t size, uint64_t page_count, struct page_cache **out, struct error *err)
{
    *out = NULL;
    if (size < PAGE_CACHE_SIZE_MIN || size > PAGE_CACHE_SIZE_MAX)
        return error_set(err, -EINVAL, "page cache of %zu bytes: must be %zu MiB to %zu MiB", size,
                         PAGE_CACHE_SIZE_MIN >> 20, PAGE_CACHE_SIZE_MAX >> 20);
    struct page_cache *c = calloc(1, sizeof(*c));
    if (!c)
        return error_set(err, -ENOMEM, "page cache: out of memory");
    const size_t for_digests = size / DIGEST_SHARE;
    c->digest_sets = sets_for(for_digests, sizeof(*c->digests), page_count);
    c->version_sets =
        sets_for(size - for_digests, sizeof(*c->versions) + WAYS * PAGE_SIZE, page_count);
    c->versions = calloc(c->version_sets, sizeof(*c->versions));
    c->digests = calloc(c->digest_sets, sizeof(*c->digests));
    /* Comes into being page by page, as it is used. */
    c->pages = mmap(NULL, c->version_sets * WAYS * PAGE_SIZE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (c->pages == MAP_FAILED)
        c->pages = NULL;
    if (!c->versions || !c->digests || !c->pages) {
        page_cache_destroy(&c);
        return error_set(err, -ENOMEM, "page cache: can't allocate %zu MiB", size >> 20);
    }
    page_cache_forget(c, 0);
    *out = c;
    return 0;
}

void page_cache_destroy(struct page_cache **cache)
{
    struct page_cache *c = *cache;
    if (!c)
        return;
    if (c->pages)
        munmap(c->pages, c->version_sets * WAYS * PAGE_SIZE);
    free(c->versions);
    free(c->digests);
    free(c);
    *cache = NULL;
}

void page_cache_forget(struct page_cache *cache, uint64_t seed)
{
    cache->seed = seed;
    for (size_t i = 0; i < cache->version_sets; i++)
        for (size_t way = 0; way < WAYS; way++)
            cache->versions[i].gfns[way] = NO_PAGE;
    for (size_t i = 0; i < cache->digest_sets; i++)
        for (size_t way = 0; way < WAYS; way++)
            cache->digests[i].gfns[way] = NO_PAGE;
}

static size_t set_of(gfn_t gfn, size_t sets)
{
    /* Neighbours go to different sets; so do pages at the same place of large powers of two. */
    return (size_t)((gfn + (gfn >> 20)) % sets);
}

static size_t way_of(const gfn_t gfns[WAYS], gfn_t gfn)
{
    size_t way = 0;
    while (way < WAYS && gfns[way] != gfn)
        way++;
    return way;
}

static uint8_t *page_at(const struct page_cache *c, size_t set, size_t way)
{
    return c->pages + (set * WAYS + way) * PAGE_SIZE;
}

uint8_t *page_cache_version(struct page_cache *cache, gfn_t gfn)
{
    const size_t index = set_of(gfn, cache->version_sets);
    struct version_set *set = &cache->versions[index];
    const size_t way = way_of(set->gfns, gfn);
    if (way == WAYS)
        return NULL;
    set->worth[way] = WORTH_MAX;
    return page_at(cache, index, way);
}

bool page_cache_holds(struct page_cache *cache, gfn_t gfn, const uint8_t digest[DIGEST_128_SIZE])
{
    const struct digest_set *set = &cache->digests[set_of(gfn, cache->digest_sets)];
    const size_t way = way_of(set->gfns, gfn);
    return way < WAYS && memcmp(set->digests[way], digest, DIGEST_128_SIZE) == 0;
}

static void put_digest(struct page_cache *cache, gfn_t gfn, const uint8_t digest[DIGEST_128_SIZE])
{
    struct digest_set *set = &cache->digests[set_of(gfn, cache->digest_sets)];
    size_t way = way_of(set->gfns, gfn);
    if (way == WAYS)
        way = way_of(set->gfns, NO_PAGE);
    if (way == WAYS)
        way = set->next++ % WAYS;
    set->gfns[way] = gfn;
    memcpy(set->digests[way], digest, DIGEST_128_SIZE);
}

/* A way for a new version: an empty one or one of no worth; else all lose some, and none is free
 * this time. */
static size_t way_for_version(struct version_set *set)
{
    size_t way = way_of(set->gfns, NO_PAGE);
    for (size_t i = 0; i < WAYS && way == WAYS; i++)
        if (set->worth[i] == 0)
            way = i;
    for (size_t i = 0; i < WAYS && way == WAYS; i++)
        set->worth[i]--;
    return way;
}

void page_cache_put(struct page_cache *cache, gfn_t gfn, const uint8_t *page,
                    const uint8_t digest[DIGEST_128_SIZE], bool keep)
{
    const size_t index = set_of(gfn, cache->version_sets);
    struct version_set *set = &cache->versions[index];
    size_t way = way_of(set->gfns, gfn);
    if (way == WAYS && keep) {
        way = way_for_version(set);
        if (way < WAYS) {
            if (set->gfns[way] != NO_PAGE) {
                uint8_t leaving[DIGEST_128_SIZE];
                digest_of_128(page_at(cache, index, way), PAGE_SIZE, cache->seed, leaving);
                put_digest(cache, set->gfns[way], leaving);
            }
            set->gfns[way] = gfn;
            set->worth[way] = WORTH_NEW;
        }
    }
    if (way < WAYS)
        memcpy(page_at(cache, index, way), page, PAGE_SIZE);
    else
        put_digest(cache, gfn, digest);
}

void page_cache_drop(struct page_cache *cache, gfn_t gfn)
{
    struct version_set *versions = &cache->versions[set_of(gfn, cache->version_sets)];
    struct digest_set *digests = &cache->digests[set_of(gfn, cache->digest_sets)];
    const size_t version = way_of(versions->gfns, gfn);
    const size_t digest = way_of(digests->gfns, gfn);
    if (version < WAYS)
        versions->gfns[version] = NO_PAGE;
    if (digest < WAYS)
        digests->gfns[digest] = NO_PAGE;
}
