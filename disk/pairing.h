/* What is to be done when the copy of a disk on one host meets the copy on the other: a decision
 * table, pure and the same on both sides.
 *
 * The primary's copy is always the one that counts: the arbiter made it the primary (DESIGN §6).
 * The table decides how much of it must travel, and finds the cases in which no software should
 * decide.
 *
 *   secondary's copy \ primary's   same          primary has it    primary's newest    none in
 *                                  newest        in its list       is in secondary's   common
 *   ------------------------------ ------------- ----------------- ------------------- ---------
 *   a point in common              MARKED        MARKED            see below           FULL
 *   no point in common             FULL          FULL              see below           FULL
 *
 *   The secondary's copy has gone on from the primary's ("see below"), or both have gone on from a
 *   common generation, by themselves: something was said to clients on either side that the other
 *   does not know. REFUSE_NEWER, REFUSE_SPLIT: an operator gives one of them up.
 *   A damaged, missing or foreign map counts as "none in common": FULL. */
#ifndef KEMARI_DISK_PAIRING_H
#define KEMARI_DISK_PAIRING_H

#include "disk/lineage.h"

enum pairing {
    PAIRING_MARKED = 1,    /* compare what is marked in either map */
    PAIRING_FULL,          /* compare everything */
    PAIRING_REFUSE_SOURCE, /* the primary's copy is itself unusable */
    PAIRING_REFUSE_NEWER,  /* the secondary's copy went on from the primary's */
    PAIRING_REFUSE_SPLIT,  /* both went on from a common state */
    PAIRING_REFUSE_SIZE,   /* not of one size */
};

struct pairing_side {
    const struct lineage *lineage; /* NULL: none, or none that can be believed */
    bool trusted;                  /* its map is whole, and of this image */
};

/* `why` gets one phrase in every case: the reason of a full comparison or a refusal too. */
enum pairing pairing_decide(const struct pairing_side *primary,
                            const struct pairing_side *secondary, struct error *why);

bool pairing_is_refusal(enum pairing pairing);

/* May a guest be started from this copy by a daemon whose role is primary, and that owns `term` by
 * its record of terms (0: none)? 0, or -ESTALE with one sentence that names `path`, the image, and
 * `map`, the file to remove if the other copy is lost for good. */
int pairing_may_start(const struct lineage *lineage, term_t owned, const char *path,
                      const char *map, struct error *err);

#endif
