/* The secondary's side of disk synchronisation: answers one message at a time, on the thread that
 * receives; waits for disk I/O. See sync_source.h. */
#ifndef KEMARI_DISK_SYNC_TARGET_H
#define KEMARI_DISK_SYNC_TARGET_H

#include "disk/divergence.h"
#include "disk/sync_channel.h"
#include "disk/volume.h"

struct sync_target;

struct sync_target_config {
    struct disk_volume *volume;
    struct divergence *divergence;
};

/* Both are borrowed. 0 or -ENOMEM. */
int sync_target_create(const struct sync_target_config *config, struct sync_target **out,
                       struct error *err);
void sync_target_destroy(struct sync_target **target);

/* A link begins: the primary must ask first. */
void sync_target_restart(struct sync_target *target);

/* Carries out a message about this disk and answers over the channel. -EPROTO out of order,
 * -EBADMSG if it is not the primary's to send, errors of image, map and channel. ROUND is not among
 * them: it waits for what is being applied, and is divergence_points()'s. */
struct sync_message;
int sync_target_handle(struct sync_target *target, const struct sync_message *message,
                       const struct sync_channel *channel, struct error *err);

/* True when the last message could not be carried out because of the image. */
bool sync_target_failed(const struct sync_target *target);

/* The first complete state is here, and applied: the image becomes durable and a follower's, in
 * `term`. Nothing to do if it is one already. */
int sync_target_in_step(struct sync_target *target, term_t term, struct error *err);

#endif
