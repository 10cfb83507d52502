/* What is found at the start. Everything that isn't exactly as it was left costs the trust in the
 * map, with a phrase that says why; only a file that can't be read is an error. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "disk/divergence_internal.h"

static void distrust(struct divergence *d, const char *why)
{
    d->trusted = false;
    if (!d->trouble[0])
        snprintf(d->trouble, sizeof(d->trouble), "%s", why);
}

static bool is_blank(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i])
            return false;
    return true;
}

struct headers {
    bool blank[2];
    bool good[2];
    struct lineage lineages[2];
};

static int read_headers(struct divergence *d, struct headers *h)
{
    uint8_t bytes[LINEAGE_SIZE];
    for (unsigned i = 0; i < 2; i++) {
        const struct divergence_io *io = &d->config.io;
        const int rc = io->ops->read(io->context, i * DIVERGENCE_PAGE_SIZE, bytes, sizeof(bytes));
        if (rc < 0)
            return rc;
        h->blank[i] = is_blank(bytes, sizeof(bytes));
        h->good[i] = lineage_decode(bytes, sizeof(bytes), &h->lineages[i], NULL) == 0 &&
                     h->lineages[i].sequence % 2 == i;
    }
    return 0;
}

/* The newer of the two, if any. Two good ones follow each other; the very first stands alone. */
static const struct lineage *choose(struct divergence *d, const struct headers *h)
{
    if (!h->good[0] && !h->good[1]) {
        if (!h->blank[0] || !h->blank[1])
            distrust(d, "the map is damaged");
        return NULL;
    }
    if (!h->good[0] || !h->good[1]) {
        const unsigned i = h->good[0] ? 0 : 1;
        if (!(h->blank[1 - i] && h->lineages[i].sequence == 1))
            distrust(d, "one of the map's two headers is damaged");
        return &h->lineages[i];
    }
    const struct lineage *newer =
        &h->lineages[h->lineages[0].sequence > h->lineages[1].sequence ? 0 : 1];
    const struct lineage *older = newer == &h->lineages[0] ? &h->lineages[1] : &h->lineages[0];
    if (newer->sequence - older->sequence != 1)
        distrust(d, "the map's two headers don't belong together");
    return newer;
}

static bool is_ours(const struct divergence *d, const struct lineage *l)
{
    return strcmp(l->vm, d->config.vm) == 0 && l->index == d->config.index &&
           l->size == d->config.size;
}

static void check_stamp(struct divergence *d)
{
    const struct image_stamp *then = &d->lineage.stamp;
    const struct image_stamp *now = &d->config.stamp;
    if (then->inode != now->inode)
        distrust(d, "the image is another file than the one that the map was made for");
    if (then->closed &&
        (then->modified_s != now->modified_s || then->modified_ns != now->modified_ns))
        distrust(d, "the image was changed while no kemarid used it");
}

static int read_pages(struct divergence *d)
{
    const struct divergence_io *io = &d->config.io;
    uint8_t bytes[MAP_PAGE_SIZE];
    for (uint64_t page = 0; page < d->pages; page++) {
        const int rc = io->ops->read(io->context, DIVERGENCE_PAGES_AT + page * MAP_PAGE_SIZE, bytes,
                                     sizeof(bytes));
        if (rc < 0)
            return rc;
        map_page_decode(&d->exact, page, d->lineage.nonce, bytes);
    }
    return 0;
}

int divergence_load(struct divergence *d, struct error *err)
{
    struct headers h;
    int rc = read_headers(d, &h);
    d->trusted = true;
    d->blank = rc == 0 && h.blank[0] && h.blank[1];
    const struct lineage *l = rc < 0 ? NULL : choose(d, &h);
    if (l && !is_ours(d, l)) {
        distrust(d, "the map is of another disk");
        l = NULL;
    }
    if (l) {
        d->known = true;
        d->lineage = *l;
        check_stamp(d);
        rc = read_pages(d);
    } else {
        distrust(d, "there is no map yet");
    }
    if (rc < 0)
        return error_set(err, rc, "divergence map of disk %u: can't be read: %s", d->config.index,
                         strerror(-rc));
    block_map_copy(&d->file, &d->exact);
    if (!d->known)
        block_map_fill(&d->file); /* pages that were never written mark everything */
    d->lineage.stamp = d->config.stamp;
    d->lineage.stamp.closed = false;
    return 0;
}
