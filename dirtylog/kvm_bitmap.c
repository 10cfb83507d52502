/* KVM's dirty bitmap with manual protect.
 *
 * KVM_GET_DIRTY_LOG copies the bitmap and leaves it; KVM_CLEAR_DIRTY_LOG clears exactly the bits we
 * took and write-protects those pages again. A page dirtied between the two calls has its bit
 * cleared with its content not yet copied: harmless, since both callers copy the pages after
 * collect() returns. Every slot is a multiple of 2 MiB, so its bitmap is a run of whole words of
 * the dense bitmap, which is read once and fast: for a large guest with few dirty pages that is
 * most of the work. */
#include "dirtylog/dirtylog.h"

#include <assert.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define WORD_BITS 64

/* Clearing a span that has up to this many clean words inside is cheaper than two system calls. */
#define CLEAR_GAP_WORDS 64

struct kvm_bitmap {
    int vm_fd;
    struct gmem *memory;
    uint64_t *scratch; /* dense bitmap of one collect */
};

static int set_logging(struct kvm_bitmap *log, bool on, struct error *err)
{
    for (size_t i = 0; i < gmem_slot_count(log->memory); i++) {
        const struct gmem_slot *s = gmem_slot_at(log->memory, i);
        struct kvm_userspace_memory_region region = {
            .slot = s->id,
            .flags = on ? KVM_MEM_LOG_DIRTY_PAGES : 0,
            .guest_phys_addr = s->gpa,
            .memory_size = s->size,
            .userspace_addr = (uintptr_t)s->host,
        };
        if (ioctl(log->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
            return error_set(err, -errno, "dirty log: KVM_SET_USER_MEMORY_REGION of slot %u: %s",
                             s->id, strerror(errno));
    }
    return 0;
}

static void kvm_bitmap_stop(void *context)
{
    set_logging(context, false, NULL);
}

static int kvm_bitmap_start(void *context, struct error *err)
{
    const int rc = set_logging(context, true, err);
    if (rc < 0)
        kvm_bitmap_stop(context);
    return rc;
}

static int clear_span(struct kvm_bitmap *log, const struct gmem_slot *s, uint64_t *bits,
                      size_t first, size_t last, struct error *err)
{
    struct kvm_clear_dirty_log clear = {
        .slot = s->id,
        .first_page = first * WORD_BITS,
        .num_pages = (uint32_t)((last - first + 1) * WORD_BITS),
        .dirty_bitmap = bits + first,
    };
    if (ioctl(log->vm_fd, KVM_CLEAR_DIRTY_LOG, &clear) < 0)
        return error_set(err, -errno, "dirty log: KVM_CLEAR_DIRTY_LOG of slot %u: %s", s->id,
                         strerror(errno));
    return 0;
}

/* The first word at or after `from` that is not 0, or `words`. */
static size_t next_dirty(const uint64_t *bits, size_t from, size_t words)
{
    size_t i = from;
    while (i < words && !bits[i]) {
        i++;
        /* A cache line at a time where there is nothing. */
        while (i % 8 == 0 && i + 8 <= words &&
               !(bits[i] | bits[i + 1] | bits[i + 2] | bits[i + 3] | bits[i + 4] | bits[i + 5] |
                 bits[i + 6] | bits[i + 7]))
            i += 8;
    }
    return i;
}

/* Takes the dirty pages of a slot whose bitmap was read and clears them, span by span. */
static int take_slot(struct kvm_bitmap *log, const struct gmem_slot *s, uint64_t *bits,
                     size_t words, struct dirty_set *set, struct error *err)
{
    const size_t offset = (s->file_offset >> PAGE_SHIFT) / WORD_BITS;
    size_t next = next_dirty(bits, 0, words);
    while (next < words) {
        const size_t first = next;
        size_t last;
        do {
            last = next;
            next = next_dirty(bits, next + 1, words);
        } while (next < words && next - last <= CLEAR_GAP_WORDS);
        /* Into the caller's set before the clear: should that fail, nothing is forgotten. */
        dirty_set_or(set, offset + first, bits + first, last - first + 1);
        const int rc = clear_span(log, s, bits, first, last, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int kvm_bitmap_collect(void *context, struct dirty_set *set, struct error *err)
{
    struct kvm_bitmap *log = context;
    for (size_t i = 0; i < gmem_slot_count(log->memory); i++) {
        const struct gmem_slot *s = gmem_slot_at(log->memory, i);
        const size_t words = (s->size >> PAGE_SHIFT) / WORD_BITS;
        uint64_t *bits = log->scratch + (s->file_offset >> PAGE_SHIFT) / WORD_BITS;
        struct kvm_dirty_log get = {.slot = s->id, .dirty_bitmap = bits};
        if (ioctl(log->vm_fd, KVM_GET_DIRTY_LOG, &get) < 0)
            return error_set(err, -errno, "dirty log: KVM_GET_DIRTY_LOG of slot %u: %s", s->id,
                             strerror(errno));
        const int rc = take_slot(log, s, bits, words, set, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void kvm_bitmap_destroy(void *context)
{
    struct kvm_bitmap *log = context;
    free(log->scratch);
    free(log);
}

static const struct dirtylog_ops kvm_bitmap_ops = {
    .name = "kvm-bitmap",
    .start = kvm_bitmap_start,
    .collect = kvm_bitmap_collect,
    .stop = kvm_bitmap_stop,
    .destroy = kvm_bitmap_destroy,
};

int dirtylog_kvm_create(int vm_fd, struct gmem *memory, struct dirtylog **out, struct error *err)
{
    *out = NULL;
    /* Without INITIALLY_SET every slot would be write-protected at once when logging starts. */
    struct kvm_enable_cap cap = {
        .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
        .args = {KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET},
    };
    const int supported = ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
    if (supported > 0)
        cap.args[0] &= (unsigned)supported;
    if (supported <= 0 || ioctl(vm_fd, KVM_ENABLE_CAP, &cap) < 0)
        return error_set(err, -ENOTSUP,
                         "dirty log: this kernel's KVM has no manual dirty-log protection "
                         "(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, Linux 5.1): use a newer kernel");
    struct kvm_bitmap *log = calloc(1, sizeof(*log));
    uint64_t *scratch = calloc(gmem_page_count(memory) / WORD_BITS, sizeof(uint64_t));
    if (!log || !scratch) {
        free(log);
        free(scratch);
        return error_set(err, -ENOMEM, "dirty log: out of memory");
    }
    *log = (struct kvm_bitmap){.vm_fd = vm_fd, .memory = memory, .scratch = scratch};
    return dirtylog_create(&kvm_bitmap_ops, log, memory, out, err);
}
