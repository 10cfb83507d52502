/* See gmem.h for layout and rules. The marks are two-level: a summary bitmap with one bit per 64
 * pages' word lets gmem_take_marks() of an idle 16 GiB guest look at 8 KiB instead of 512 KiB. */
#include "gmem/gmem.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"

#define WORD_BITS 64

struct gmem {
    /* set at creation */
    int fd;
    uint64_t size;
    uint64_t pages;
    size_t slot_count;
    struct gmem_slot slots[GMEM_SLOTS_MAX];
    uint64_t first_index[GMEM_SLOTS_MAX]; /* dense index of a slot's first page */
    size_t words;
    size_t summary_words;

    /* any thread, atomically */
    uint64_t *marks;
    uint64_t *summary;
};

static int map_slots(struct gmem *mem, const struct gmem_config *config, struct error *err)
{
    const uint64_t low = config->size < GMEM_HOLE_START ? config->size : GMEM_HOLE_START;
    mem->slots[0] = (struct gmem_slot){.id = 0, .gpa = 0, .size = low};
    mem->slot_count = 1;
    if (config->size > low) {
        mem->slots[1] = (struct gmem_slot){
            .id = 1, .gpa = GMEM_HOLE_END, .size = config->size - low, .file_offset = low};
        mem->slot_count = 2;
    }
    const int flags = MAP_SHARED | (config->prefault ? MAP_POPULATE : 0);
    for (size_t i = 0; i < mem->slot_count; i++) {
        struct gmem_slot *s = &mem->slots[i];
        void *host =
            mmap(NULL, s->size, PROT_READ | PROT_WRITE, flags, mem->fd, (off_t)s->file_offset);
        if (host == MAP_FAILED)
            return error_set(err, -errno, "guest memory: can't map %llu MiB: %s",
                             (unsigned long long)(s->size >> 20), strerror(errno));
        s->host = host;
        mem->first_index[i] = s->file_offset >> PAGE_SHIFT;
        /* A crash of the VMM should not write the guest's memory into a core file. */
        madvise(host, s->size, MADV_DONTDUMP);
    }
    return 0;
}

int gmem_create(const struct gmem_config *config, struct gmem **out, struct error *err)
{
    *out = NULL;
    if (config->size < GMEM_SIZE_MIN || config->size > GMEM_SIZE_MAX ||
        config->size % GMEM_SIZE_MIN)
        return error_set(err, -EINVAL,
                         "guest memory of %llu bytes: must be a multiple of 2 MiB up to 1 TiB",
                         (unsigned long long)config->size);
    struct gmem *mem = calloc(1, sizeof(*mem));
    if (!mem)
        return error_set(err, -ENOMEM, "guest memory: out of memory");
    mem->size = config->size;
    mem->pages = config->size >> PAGE_SHIFT;
    mem->words = (mem->pages + WORD_BITS - 1) / WORD_BITS;
    mem->summary_words = (mem->words + WORD_BITS - 1) / WORD_BITS;
    mem->fd = memfd_create("kemari-guest", MFD_CLOEXEC | (config->huge_pages ? MFD_HUGETLB : 0));
    mem->marks = calloc(mem->words, sizeof(uint64_t));
    mem->summary = calloc(mem->summary_words, sizeof(uint64_t));
    int rc = 0;
    if (mem->fd < 0 || ftruncate(mem->fd, (off_t)config->size) < 0)
        rc = error_set(err, -errno, "guest memory: can't create %llu MiB%s: %s",
                       (unsigned long long)(config->size >> 20),
                       config->huge_pages ? " of huge pages" : "", strerror(errno));
    else if (!mem->marks || !mem->summary)
        rc = error_set(err, -ENOMEM, "guest memory: out of memory");
    else
        rc = map_slots(mem, config, err);
    if (rc < 0) {
        gmem_destroy(&mem);
        return rc;
    }
    *out = mem;
    return 0;
}

void gmem_destroy(struct gmem **mem)
{
    struct gmem *m = *mem;
    if (!m)
        return;
    for (size_t i = 0; i < m->slot_count; i++)
        if (m->slots[i].host)
            munmap(m->slots[i].host, m->slots[i].size);
    fd_close(&m->fd);
    free(m->marks);
    free(m->summary);
    free(m);
    *mem = NULL;
}

uint64_t gmem_size(const struct gmem *mem)
{
    return mem->size;
}

uint64_t gmem_page_count(const struct gmem *mem)
{
    return mem->pages;
}

int gmem_fd(const struct gmem *mem)
{
    return mem->fd;
}

size_t gmem_slot_count(const struct gmem *mem)
{
    return mem->slot_count;
}

const struct gmem_slot *gmem_slot_at(const struct gmem *mem, size_t index)
{
    return index < mem->slot_count ? &mem->slots[index] : NULL;
}

/* The slot that holds `gpa`, or NULL. */
static const struct gmem_slot *slot_of(const struct gmem *mem, gpa_t gpa)
{
    for (size_t i = 0; i < mem->slot_count; i++) {
        const struct gmem_slot *s = &mem->slots[i];
        if (gpa >= s->gpa && gpa - s->gpa < s->size)
            return s;
    }
    return NULL;
}

uint8_t *gmem_page(const struct gmem *mem, gfn_t gfn)
{
    return gfn > (UINT64_MAX >> PAGE_SHIFT) ? NULL : gmem_view(mem, gfn << PAGE_SHIFT, PAGE_SIZE);
}

bool gmem_index_of(const struct gmem *mem, gfn_t gfn, uint64_t *index)
{
    if (gfn > (UINT64_MAX >> PAGE_SHIFT))
        return false;
    const struct gmem_slot *s = slot_of(mem, gfn << PAGE_SHIFT);
    if (!s)
        return false;
    *index = mem->first_index[s->id] + gfn - (s->gpa >> PAGE_SHIFT);
    return true;
}

gfn_t gmem_gfn_at(const struct gmem *mem, uint64_t index)
{
    assert(index < mem->pages);
    const size_t id = mem->slot_count > 1 && index >= mem->first_index[1] ? 1 : 0;
    return (mem->slots[id].gpa >> PAGE_SHIFT) + index - mem->first_index[id];
}

uint8_t *gmem_view(const struct gmem *mem, gpa_t gpa, size_t size)
{
    const struct gmem_slot *s = slot_of(mem, gpa);
    if (!s || size > s->size - (gpa - s->gpa))
        return NULL;
    return s->host + (gpa - s->gpa);
}

#define WORD_BYTES sizeof(uint64_t)

void gmem_store(uint8_t *view, const void *data, size_t size)
{
    const uint8_t *from = data;
    for (; size && (uintptr_t)view % WORD_BYTES; size--)
        __atomic_store_n(view++, *from++, __ATOMIC_RELAXED);
    for (; size >= WORD_BYTES; size -= WORD_BYTES, view += WORD_BYTES, from += WORD_BYTES) {
        uint64_t word;
        memcpy(&word, from, sizeof(word));
        __atomic_store_n((uint64_t *)(void *)view, word, __ATOMIC_RELAXED);
    }
    for (; size; size--)
        __atomic_store_n(view++, *from++, __ATOMIC_RELAXED);
}

void gmem_copy_page(const struct gmem *mem, gfn_t gfn, uint8_t *out)
{
    const uint8_t *page = gmem_page(mem, gfn);
    assert(page);
    for (size_t i = 0; i < PAGE_SIZE; i += WORD_BYTES) {
        const uint64_t word =
            __atomic_load_n((const uint64_t *)(const void *)(page + i), __ATOMIC_RELAXED);
        memcpy(out + i, &word, sizeof(word));
    }
}

int gmem_read(const struct gmem *mem, gpa_t gpa, void *data, size_t size)
{
    const uint8_t *view = gmem_view(mem, gpa, size);
    if (!view)
        return -EFAULT;
    memcpy(data, view, size);
    return 0;
}

int gmem_write(struct gmem *mem, gpa_t gpa, const void *data, size_t size)
{
    uint8_t *view = gmem_view(mem, gpa, size);
    if (!view)
        return -EFAULT;
    gmem_store(view, data, size);
    gmem_mark_dirty(mem, gpa, size);
    return 0;
}

void gmem_mark_dirty(struct gmem *mem, gpa_t gpa, size_t size)
{
    uint64_t first;
    if (size == 0 || !gmem_index_of(mem, gpa >> PAGE_SHIFT, &first))
        return;
    const uint64_t count = (((gpa & (PAGE_SIZE - 1)) + size - 1) >> PAGE_SHIFT) + 1;
    for (uint64_t i = first; i < first + count && i < mem->pages; i++) {
        const uint64_t word = i / WORD_BITS;
        __atomic_fetch_or(&mem->marks[word], 1ull << (i % WORD_BITS), __ATOMIC_RELEASE);
        __atomic_fetch_or(&mem->summary[word / WORD_BITS], 1ull << (word % WORD_BITS),
                          __ATOMIC_RELEASE);
    }
}

void gmem_take_marks_each(struct gmem *mem, void (*take)(void *context, size_t word, uint64_t bits),
                          void *context)
{
    for (size_t s = 0; s < mem->summary_words; s++) {
        if (!__atomic_load_n(&mem->summary[s], __ATOMIC_RELAXED))
            continue;
        /* Summary first: a mark that lands in between sets its summary bit again and is taken by
         * this pass or by the next one, never dropped. */
        uint64_t pending = __atomic_exchange_n(&mem->summary[s], 0, __ATOMIC_ACQUIRE);
        while (pending) {
            const size_t word = s * WORD_BITS + (size_t)__builtin_ctzll(pending);
            pending &= pending - 1;
            const uint64_t bits = __atomic_exchange_n(&mem->marks[word], 0, __ATOMIC_ACQUIRE);
            if (bits)
                take(context, word, bits);
        }
    }
}

static void or_word(void *context, size_t word, uint64_t bits)
{
    ((uint64_t *)context)[word] |= bits;
}

void gmem_take_marks(struct gmem *mem, uint64_t *bitmap)
{
    gmem_take_marks_each(mem, or_word, bitmap);
}
