/* What bench-link measures with, shared by its halves: the links (link_bench.c) and the bare
 * sockets they are compared with (raw_socket.c). */
#ifndef KEMARI_BENCH_LINK_BENCH_H
#define KEMARI_BENCH_LINK_BENCH_H

#include "base/error.h"
#include "base/histogram.h"
#include "base/types.h"

#define BULK_SIZE        (1u << 20) /* bytes of a frame's payload */
#define PING_SIZE        24         /* about what an EpochAck and its likes have */
#define BENCH_TIMEOUT_MS 10000

/* Wall time, and processor time of both ends together: the second is steadier on a busy machine. */
struct cost {
    nsec_t wall;
    nsec_t cpu;
};

/* How much is measured, and where. */
struct extent {
    const char *address;
    bool rdma;
    int rounds, pings;
    int frames;       /* of a round */
    int window;       /* frames of memory: sent, and received, from the front again after so many */
    const char *only; /* the ways whose name begins so; NULL: all */
};

extern struct extent extent;

/* Ends the program. */
void die(const char *what, const struct error *err) __attribute__((noreturn));

struct cost cost_now(void);
struct cost cost_since(struct cost start);

/* Frame number `frame` in what is sent, and where it is received. */
uint8_t *frame_sent(int frame);
uint8_t *frame_landed(int frame);

/* What a plain socket makes of extent.frames frames: write() of a frame at a time at one end,
 * read() into the same amount of memory at the other. */
struct cost raw_bulk(void);

/* The same with the limit of unsent bytes that links have (transport/tcp.c). */
struct cost raw_bulk_set_alike(void);

/* The same with MSG_ZEROCOPY, where each frame's end is waited for before the next is sent. */
struct cost raw_bulk_zero_copy(void);

/* Adds extent.pings round trips of a header and PING_SIZE bytes. */
void raw_ping(struct histogram *times);

#endif
