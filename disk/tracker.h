/* Marks what the guest changes in a divergence map, before it reaches the image: the watch of a
 * volume (volume.h). A change to blocks that are marked goes on at once, on its own thread; the
 * others wait for the tracker's thread, which makes all marks that are wanted durable with one
 * write.
 *
 * Changes from the peer are not marked: the peer's own map counts them, from before they reached
 * its image until both images have them durably (divergence.h, rounds).
 *
 * Its thread also tidies the map, ten seconds after something was marked. */
#ifndef KEMARI_DISK_TRACKER_H
#define KEMARI_DISK_TRACKER_H

#include "disk/divergence.h"
#include "disk/volume.h"

extern const struct disk_watch_ops disk_tracker_ops; /* of a struct disk_tracker */

struct disk_tracker;

/* The map is borrowed. 0 or -errno. */
int disk_tracker_create(struct divergence *map, struct disk_tracker **out, struct error *err);
/* No volume uses it any more. */
void disk_tracker_destroy(struct disk_tracker **tracker);

#endif
