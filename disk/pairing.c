#include "disk/pairing.h"

#include <errno.h>
#include <string.h>

static enum pairing decide(enum pairing pairing, struct error *why, const char *phrase)
{
    error_set(why, pairing_is_refusal(pairing) ? -ESTALE : -ENODATA, "%s", phrase);
    return pairing;
}

bool pairing_is_refusal(enum pairing pairing)
{
    return pairing >= PAIRING_REFUSE_SOURCE;
}

static bool share_a_point(const struct lineage *a, const struct lineage *b)
{
    return a->point == b->point || (a->next_point && a->next_point == b->point) ||
           (b->next_point && a->point == b->next_point) ||
           (a->next_point && a->next_point == b->next_point);
}

static bool share_a_generation(const struct lineage *a, const struct lineage *b)
{
    for (size_t i = 0; i < LINEAGE_GENERATIONS; i++)
        if (lineage_has(b, a->generations[i]))
            return true;
    return false;
}

enum pairing pairing_decide(const struct pairing_side *primary,
                            const struct pairing_side *secondary, struct error *why)
{
    const struct lineage *p = primary->lineage;
    const struct lineage *s = secondary->lineage;
    if (p && (p->state == IMAGE_SYNCING || p->state == IMAGE_OUTDATED))
        return decide(PAIRING_REFUSE_SOURCE, why, "the primary's image is not the newest itself");
    if (!p)
        return decide(PAIRING_FULL, why, "the primary has no map that can be believed");
    if (!s)
        return decide(PAIRING_FULL, why, "the secondary has no map that can be believed");
    if (p->size != s->size)
        return decide(PAIRING_REFUSE_SIZE, why, "the images are not of one size");
    if (memcmp(p->disk, s->disk, sizeof(p->disk)) != 0 || !share_a_generation(p, s))
        return decide(PAIRING_FULL, why, "the secondary's image was of another disk");
    if (!lineage_has(p, s->generations[0])) {
        if (lineage_has(s, p->generations[0]))
            return decide(PAIRING_REFUSE_NEWER, why,
                          "the secondary's image has gone on from where the primary's stands");
        return decide(PAIRING_REFUSE_SPLIT, why,
                      "both hosts have gone on alone since their images were equal");
    }
    if (!primary->trusted)
        return decide(PAIRING_FULL, why, "the primary's map is damaged or not of this image");
    if (!secondary->trusted)
        return decide(PAIRING_FULL, why, "the secondary's map is damaged or not of this image");
    if (!share_a_point(p, s))
        return decide(PAIRING_FULL, why,
                      "the maps do not count from a point in common: one of them is old");
    return decide(PAIRING_MARKED, why, "both maps count from a point in common");
}

int pairing_may_start(const struct lineage *lineage, term_t owned, const char *path,
                      const char *map, struct error *err)
{
    if (!lineage || lineage->state == IMAGE_OWNER)
        return 0;
    /* Promoted, and ended before it wrote anything: the term is newer than the record. */
    if (lineage->state == IMAGE_FOLLOWER && owned > lineage->term)
        return 0;
    const char *what =
        lineage->state == IMAGE_SYNCING    ? "is only partly synchronised and can't be used"
        : lineage->state == IMAGE_OUTDATED ? "is outdated: the other host's copy is newer"
                                           : "follows the other host's and may be behind it";
    return error_set(
        err, -ESTALE,
        "disk image %.150s %s; start this host with role = secondary, or, if the other "
        "copy is lost for good, remove %.150s to use this one as it is",
        path, what, map);
}
