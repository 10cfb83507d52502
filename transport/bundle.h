/* Several connections as one link: large payloads travel on all of them at once, a slice on each,
 * everything else on the first.
 *
 * A link's order is kept: a frame's header and a payload below BUNDLE_SLICE_MIN go on the first
 * member; a larger payload of P bytes is cut into slices of P / count, rounded up to whole pages,
 * slice i on member i. Both ends know P from the header, so nothing is added to the stream, and the
 * receiver's slices land in place. A frame is complete when all its slices are: commits stay
 * ordered, and back-pressure is each connection's own. The frame's digest covers the whole
 * (link.c). When a member fails the link fails, as one connection would. */
#ifndef KEMARI_TRANSPORT_BUNDLE_H
#define KEMARI_TRANSPORT_BUNDLE_H

#include "transport/link.h"

#define BUNDLE_MAX 8
#define BUNDLE_SLICE_MIN                                                                           \
    (64u << 10) /* payload bytes; below it, hand-overs cost more than they save */

/* Makes one link of 2 to BUNDLE_MAX established ones that are between frames, in the same order at
 * both ends. Takes them over, also on failure, and sets them to NULL. Each but the first gets a
 * thread for either direction. */
int bundle_create(struct link *members[], unsigned count, struct link **out, struct error *err);

#endif
