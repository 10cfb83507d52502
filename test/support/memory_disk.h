/* A disk in memory that does what a test wants: short transfers, failures, delays. An engine for
 * disk_image_create(). The test keeps it: closing the image leaves the bytes and the rules. */
#ifndef KEMARI_TEST_SUPPORT_MEMORY_DISK_H
#define KEMARI_TEST_SUPPORT_MEMORY_DISK_H

#include <pthread.h>

#include "disk/image.h"

struct memory_disk {
    uint8_t *bytes;
    uint64_t size;
    uint64_t step_max; /* bytes of one step; 0: no limit. Set before use */
    bool no_holes;     /* punching and zeroing aren't supported. Set before use */
    bool read_only;    /* Set before use */
    pthread_t worker;

    pthread_mutex_t lock; /* protects all below */
    pthread_cond_t changed;
    struct disk_io *first;
    struct disk_io **last;
    bool held;    /* nothing is begun */
    bool closing; /* the image goes */
    int error;    /* of every step that touches [bad_from, bad_to), or of flushes with bad_flush */
    uint64_t bad_from;
    uint64_t bad_to;
    bool bad_flush;
    unsigned busy;     /* requests submitted and not done */
    unsigned busy_max; /* most of them at once */
    unsigned flushes;
    unsigned done;
};

void memory_disk_init(struct memory_disk *disk, uint64_t size);
void memory_disk_free(struct memory_disk *disk);

/* An image on it; once at a time. Aborts when out of memory. */
struct disk_image *memory_disk_image(struct memory_disk *disk);

/* While held, requests wait inside of the disk. */
void memory_disk_hold(struct memory_disk *disk, bool held);
/* Steps that touch the range fail with `error` (-errno); 0: nothing fails any more. */
void memory_disk_fail(struct memory_disk *disk, uint64_t from, uint64_t to, int error);
void memory_disk_fail_flush(struct memory_disk *disk, int error);
/* Waits until so many requests are inside. False after five seconds. */
bool memory_disk_wait_busy(struct memory_disk *disk, unsigned count);

#endif
