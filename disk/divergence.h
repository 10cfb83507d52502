/* The divergence map of one disk image: which blocks may differ from the other host's copy. It is
 * durable, survives a crash at any moment, and errs on one side only: blocks that differ are always
 * marked, blocks that are marked need not differ.
 *
 *   file = two headers (struct lineage, written in turn), then pages of bits (disk/map_page.h)
 *
 * A write marks its blocks, durably, before it may reach the image. To keep that cheap (DRBD's idea
 * of an activity log) an *extent* of 4 MiB is marked at a time in the file, the exact block only in
 * memory: a write to an extent that is marked already costs a lock and a few bit operations, the
 * first write to another one costs one 4 KiB write and one fdatasync(), shared by all that wait at
 * the same time. divergence_tidy(), about every ten seconds, rewrites the file from the exact bits.
 * So the price of a crash is a comparison of digests for at most the extents written in the last
 * seconds, never data that travels for nothing.
 *
 *          divergence_write_begin ── true ──────────► write the image ─► divergence_write_end
 *                    │ false                              ▲
 *                    └──► divergence_wait (blocks) ───────┘
 *
 * While two hosts are in step, blocks are unmarked in rounds: what was written before divergence_
 * round_begin() is unmarked by divergence_round_end(), called when both images have all of it
 * durably. A round gives the map a new point (disk/lineage.h), so an older copy of the file is
 * recognised by the other side's.
 *
 * A file that can't be written is removed: without one everything is compared. When not even that
 * succeeds, writes to the disk fail.
 *
 * Threads: all functions from any thread. One lock inside, a leaf, not held during I/O. */
#ifndef KEMARI_DISK_DIVERGENCE_H
#define KEMARI_DISK_DIVERGENCE_H

#include "disk/block_map.h"
#include "disk/pairing.h"

#define DIVERGENCE_EXTENT_BLOCKS 64 /* marked at a time in the file */

/* Where a map is kept; tests bring their own. All return 0 or -errno. */
struct divergence_io_ops {
    /* Fills all of `bytes`, with zeroes beyond the end. */
    int (*read)(void *io, uint64_t offset, uint8_t *bytes, size_t size);
    int (*write)(void *io, uint64_t offset, const uint8_t *bytes, size_t size);
    int (*sync)(void *io);
    /* Room for so many bytes, so that no later write lacks it. */
    int (*reserve)(void *io, uint64_t size);
    /* Nothing of it is to be found at the next open, durably. */
    int (*remove)(void *io);
    void (*close)(void *io);
};

struct divergence_io {
    const struct divergence_io_ops *ops;
    void *context;
};

/* The file at `path`, created when missing, and locked: -EBUSY when another process uses it, -errno
 * with one sentence. */
int divergence_file_open(const char *path, struct divergence_io *out, struct error *err);

struct divergence;

struct divergence_config {
    const char *vm;
    unsigned index;           /* of the disk */
    uint64_t size;            /* bytes of the image */
    struct image_stamp stamp; /* of the image as it is found: divergence_stamp() */
    struct divergence_io io;  /* taken over, also on error */
};

/* What identifies the image behind `fd`, as it is now. 0 or -errno. */
int divergence_stamp(int fd, struct image_stamp *out);

/* Reads what is there. A missing, damaged or foreign map is no error: see divergence_side(). */
int divergence_open(const struct divergence_config *config, struct divergence **out,
                    struct error *err);

/* Closes, and removes what was created and never used; with `stamp`, of an image that is durable
 * and not written any more, in an orderly way, so that what happens to the image in between is
 * noticed. */
void divergence_close(struct divergence **divergence, const struct image_stamp *stamp);

struct divergence_status {
    bool known;   /* there is a lineage */
    bool trusted; /* the map is whole, and of this image */
    bool failed;  /* the file can't be written: everything will be compared */
    struct lineage lineage;
    uint64_t marked;              /* blocks */
    uint64_t blocks;              /* in all */
    uint64_t file_writes;         /* group commits so far: what the write path has cost */
    char trouble[ERROR_TEXT_MAX]; /* why it is not trusted, or what failed */
};

void divergence_snapshot(struct divergence *divergence, struct divergence_status *out);
/* For pairing_decide(): `lineage` is filled and pointed to when there is one. */
struct pairing_side divergence_side(struct divergence *divergence, struct lineage *lineage);

/* ---- the write path ---- */

/* A guest's write (or discard) of [offset, offset + size), which lies in the disk, is about to
 * begin. True: it may. False: divergence_wait() first. */
bool divergence_write_begin(struct divergence *divergence, uint64_t offset, uint64_t size);
/* Until the marks of that write are durable: 0, or -errno when the write must fail. */
int divergence_wait(struct divergence *divergence, uint64_t offset, uint64_t size);

/* ---- whose image it is ---- */

/* The guest runs on it from now on, in `term`: a new generation begins with the first write. The
 * same again is a new generation, too: a primary that goes on without its standby. */
void divergence_own(struct divergence *divergence, term_t term);

/* Durably: a newer state of the disk exists elsewhere, in `term`. Of what is SYNCING, or unknown,
 * nothing better is recorded. 0 or -errno. */
int divergence_outdate(struct divergence *divergence, term_t term, struct error *err);

/* Of the source of a synchronisation: durably marks `blocks` beside its own, or everything (NULL)
 * with a new point. Begins the generation that divergence_own() announced. `out` is what the target
 * is to be told, with the next point in it, for divergence_round_end(). */
int divergence_source(struct divergence *divergence, const struct block_map *blocks,
                      struct lineage *out, struct error *err);

/* Of its target: durably becomes SYNCING, a copy of what `source` describes: its disk, generations
 * and points. Its own marks are dropped: the source has them. */
int divergence_target(struct divergence *divergence, const struct lineage *source,
                      struct error *err);

/* Of the target, whose image is durable: in step. */
int divergence_in_step(struct divergence *divergence, term_t term, struct error *err);

/* All exact marks, copied to a map of equal size. */
void divergence_marks(struct divergence *divergence, struct block_map *out);
/* Of the running round: blocks that have become equal on both sides, durably. What was written
 * since the round began stays marked. The file follows by and by. */
void divergence_unmark(struct divergence *divergence, uint64_t first, uint64_t count);

/* ---- upkeep ---- */

/* Rewrites the file from the exact marks, where they are fewer. 0 or -errno. */
int divergence_tidy(struct divergence *divergence);

/* Unmarking in rounds, see above. round_begin() returns how many blocks the round is about, 0:
 * there is nothing to do, and no round. round_end() with the point that the other side has
 * accepted; round_drop() keeps all marks. A synchronisation is a round as well. */
uint64_t divergence_round_begin(struct divergence *divergence);
int divergence_round_end(struct divergence *divergence, uint64_t point, struct error *err);
void divergence_round_drop(struct divergence *divergence);
/* On the standby, durably: `current` is the primary's point, and `next` may be any moment. */
int divergence_points(struct divergence *divergence, uint64_t current, uint64_t next,
                      struct error *err);

/* A random identifier, never 0. Aborts when the kernel has none. */
uint64_t divergence_random(void);

#endif
