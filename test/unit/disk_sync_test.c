/* Two images are made equal while one of them is being written, and only what differs travels. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "disk/block_map.h"
#include "disk/mode_replicated.h"
#include "disk/replica.h"
#include "disk/sync_codec.h"
#include "disk/sync_digest.h"
#include "disk/sync_source.h"
#include "disk/sync_target.h"
#include "disk/tracker.h"
#include "test/support/memory_disk.h"
#include "test/support/memory_map.h"
#include "test/support/runner.h"

#define DISK_SIZE (600 * BLOCK_SIZE + 3 * 4096 + 512) /* a last block that is short */
#define QUEUE_MAX 4096

/* One host's copy. */
struct host {
    struct memory_disk disk;
    struct disk_volume *volume;
    struct memory_map file;
    struct divergence *map;
    struct disk_tracker *tracker;
};

/* Both, connected: what the source sends is handled by the target before send() returns. */
static struct pair {
    struct host source;
    struct host target;
    struct disk_log *log;
    struct disk_replicated *mode;
    struct disk_replica *replica;
    struct sync_source *from;
    struct sync_target *to;
    struct disk_geometry geometry;
    uint8_t *queue[QUEUE_MAX]; /* of answers */
    size_t sizes[QUEUE_MAX];
    size_t head, tail;
    uint64_t bytes; /* that crossed, both ways */
    uint64_t data_messages;
    int cut_after; /* messages; 0: never */
    _Atomic bool stop_writing;
} p;

static void create_host(struct host *h)
{
    memory_disk_init(&h->disk, DISK_SIZE);
    const struct disk_volume_config config = {.image = memory_disk_image(&h->disk), .index = 0};
    CU_ASSERT_EQUAL_FATAL(disk_volume_create(&config, &h->volume, NULL), 0);
    memset(&h->file, 0, sizeof(h->file));
    h->map = memory_map_open(&h->file, 0, DISK_SIZE);
    CU_ASSERT_EQUAL_FATAL(disk_tracker_create(h->map, &h->tracker, NULL), 0);
    disk_volume_set_watch(h->volume, &disk_tracker_ops, h->tracker);
}

static void destroy_host(struct host *h)
{
    disk_volume_destroy(&h->volume);
    disk_tracker_destroy(&h->tracker);
    divergence_close(&h->map, NULL);
    memory_disk_free(&h->disk);
}

static void on_room(void *context)
{
    (void)context;
    if (p.mode)
        disk_replicated_room(p.mode);
}

static void ignore(void *context)
{
    (void)context;
}

static void on_replica_failed(void *context, const struct error *why)
{
    (void)context;
    fprintf(stderr, "%s\n", why->text);
    CU_FAIL("the replica failed");
}

static void create_pair(void)
{
    memset(&p, 0, sizeof(p));
    create_host(&p.source);
    create_host(&p.target);
    divergence_own(p.source.map, 1);
    const struct disk_log_config log = {
        .cap = DISK_LOG_CAP, .room = on_room, .press = ignore, .context = NULL};
    CU_ASSERT_EQUAL_FATAL(disk_log_create(&log, &p.log, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(disk_replicated_create(p.log, &p.mode, NULL), 0);
    disk_volume_set_mode(p.source.volume, &disk_mode_replicated_ops, p.mode);
    const struct disk_replica_config replica = {.volumes = &p.target.volume,
                                                .count = 1,
                                                .cap = DISK_REPLICA_CAP,
                                                .failed = on_replica_failed};
    CU_ASSERT_EQUAL_FATAL(disk_replica_create(&replica, &p.replica, NULL), 0);
    const struct sync_source_config from = {.volume = p.source.volume, .divergence = p.source.map};
    CU_ASSERT_EQUAL_FATAL(sync_source_create(&from, &p.from, NULL), 0);
    const struct sync_target_config to = {.volume = p.target.volume, .divergence = p.target.map};
    CU_ASSERT_EQUAL_FATAL(sync_target_create(&to, &p.to, NULL), 0);
    p.geometry = (struct disk_geometry){.count = 1, .sizes = {DISK_SIZE}};
}

static void drop_answers(void)
{
    while (p.head != p.tail)
        free(p.queue[p.head++ % QUEUE_MAX]);
}

static void destroy_pair(void)
{
    drop_answers();
    sync_source_destroy(&p.from);
    sync_target_destroy(&p.to);
    disk_replica_destroy(&p.replica);
    destroy_host(&p.source);
    destroy_host(&p.target);
    disk_replicated_destroy(&p.mode);
    disk_log_destroy(&p.log);
}

/* ---- the channels ---- */

static int answer_send(void *channel, const uint8_t *payload, size_t size, struct error *err)
{
    (void)channel;
    (void)err;
    uint8_t *copy = malloc(size);
    if (!copy || p.tail - p.head == QUEUE_MAX)
        abort();
    memcpy(copy, payload, size);
    p.queue[p.tail % QUEUE_MAX] = copy;
    p.sizes[p.tail++ % QUEUE_MAX] = size;
    p.bytes += size;
    return 0;
}

static int source_send(void *channel, const uint8_t *payload, size_t size, struct error *err)
{
    static const struct sync_channel_ops ops = {.send = answer_send};
    const struct sync_channel back = {.ops = &ops};
    struct sync_message m;
    (void)channel;
    if (p.cut_after && --p.cut_after == 0)
        return error_set(err, -EPIPE, "cut");
    CU_ASSERT_EQUAL_FATAL(sync_decode(payload, size, &p.geometry, &m, err), 0);
    p.bytes += size;
    p.data_messages += m.kind == SYNC_DATA;
    return sync_target_handle(p.to, &m, &back, err);
}

static int source_receive(void *channel, uint8_t *payload, size_t size, struct error *err)
{
    (void)channel;
    if (p.head == p.tail)
        return error_set(err, -EPIPE, "nothing was answered");
    const size_t length = p.sizes[p.head % QUEUE_MAX];
    CU_ASSERT_TRUE_FATAL(length <= size);
    memcpy(payload, p.queue[p.head % QUEUE_MAX], length);
    free(p.queue[p.head++ % QUEUE_MAX]);
    return (int)length;
}

/* What was logged goes to the other side, as the records of an epoch do. */
static int source_drain(void *channel, struct error *err)
{
    struct iovec parts[64];
    int count;
    (void)channel;
    struct disk_batch *batch = disk_log_take(p.log);
    while (batch && (count = disk_batch_payload(batch, parts, 64)) > 0) {
        uint8_t *payload = malloc(DISK_PAYLOAD_MAX);
        size_t size = 0;
        for (int i = 0; payload && i < count; i++) {
            memcpy(payload + size, parts[i].iov_base, parts[i].iov_len);
            size += parts[i].iov_len;
        }
        const int rc = payload ? disk_replica_stage(p.replica, payload, size, err) : -ENOMEM;
        free(payload);
        if (rc < 0)
            return rc;
    }
    disk_replica_commit(p.replica);
    disk_batch_release(p.log, batch);
    return 0;
}

static int source_pause(void *channel, nsec_t until, struct error *err)
{
    (void)channel;
    (void)until;
    (void)err;
    return 0;
}

static const struct sync_channel_ops channel_ops = {
    .send = source_send, .receive = source_receive, .drain = source_drain, .pause = source_pause};

static int synchronise(struct error *err)
{
    static const struct sync_channel channel = {.ops = &channel_ops};
    drop_answers();
    p.bytes = 0;
    p.data_messages = 0;
    if (!disk_log_is_on(p.log))
        disk_log_start(p.log);
    disk_replicated_settle(p.mode);
    return sync_source_run(p.from, &channel, err);
}

/* The first state is committed. */
static void become_equal(void)
{
    CU_ASSERT_EQUAL(source_drain(NULL, NULL), 0);
    CU_ASSERT_EQUAL(disk_replica_finish(p.replica, NULL), 0);
    CU_ASSERT_EQUAL(memcmp(p.source.disk.bytes, p.target.disk.bytes, DISK_SIZE), 0);
    CU_ASSERT_EQUAL(sync_target_in_step(p.to, 1, NULL), 0);
    CU_ASSERT_EQUAL(sync_source_finish(p.from, NULL), 0);
    disk_log_stop(p.log);
}

/* ---- the guest ---- */

static void free_request(struct disk_request *r)
{
    free(r->io.data);
    free(r);
}

struct done {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
    int result;
};

static void on_done(struct disk_request *r)
{
    struct done *d = r->context;
    pthread_mutex_lock(&d->lock);
    d->done = true;
    d->result = r->io.result;
    pthread_cond_signal(&d->changed);
    pthread_mutex_unlock(&d->lock);
    free_request(r);
}

static int guest_change(struct host *h, enum disk_op op, uint64_t offset, uint64_t size, int byte)
{
    struct done d = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0};
    struct disk_request *r = calloc(1, sizeof(*r));
    if (!r)
        abort();
    r->io = (struct disk_io){.op = op, .offset = offset, .size = size};
    if (op == DISK_WRITE) {
        r->io.data = malloc(size);
        if (!r->io.data)
            abort();
        memset(r->io.data, byte, size);
    }
    r->done = on_done;
    r->context = &d;
    disk_volume_submit(h->volume, r);
    pthread_mutex_lock(&d.lock);
    while (!d.done)
        pthread_cond_wait(&d.changed, &d.lock);
    pthread_mutex_unlock(&d.lock);
    return d.result;
}

static void guest_write(struct host *h, uint64_t offset, uint64_t size, int byte)
{
    CU_ASSERT_EQUAL(guest_change(h, DISK_WRITE, offset, size, byte), 0);
}

static unsigned next_random(unsigned *state)
{
    *state = *state * 1103515245u + 12345u;
    return *state >> 8;
}

static void *writer_main(void *context)
{
    unsigned state = *(const unsigned *)context;
    while (!atomic_load(&p.stop_writing)) {
        const uint64_t sectors = 1 + next_random(&state) % 300;
        const uint64_t at = next_random(&state) % (DISK_SIZE / 512 - sectors);
        const enum disk_op op = next_random(&state) % 8 ? DISK_WRITE : DISK_WRITE_ZEROES;
        guest_change(&p.source, op, at * 512, sectors * 512, (int)next_random(&state) & 0xff);
    }
    return NULL;
}

/* ---- tests ---- */

static void a_new_pair_is_compared_whole_and_made_equal(void)
{
    create_pair();
    guest_write(&p.source, 5 * BLOCK_SIZE, 4096, 1);
    guest_write(&p.source, DISK_SIZE - 512, 512, 2);
    memset(p.target.disk.bytes + 100 * BLOCK_SIZE, 9, BLOCK_SIZE); /* what it held before */
    CU_ASSERT_EQUAL(synchronise(NULL), 0);
    become_equal();
    struct sync_progress progress;
    sync_source_snapshot(p.from, &progress);
    CU_ASSERT_TRUE(progress.full);
    CU_ASSERT_FALSE(progress.active);
    CU_ASSERT_EQUAL(progress.bytes_done, progress.bytes_total);
    CU_ASSERT_EQUAL(progress.bytes_differed, 4096 + 512 + BLOCK_SIZE);
    CU_ASSERT_EQUAL(p.data_messages, 3);
    destroy_pair();
}

static void only_what_was_written_since_is_compared(void)
{
    create_pair();
    CU_ASSERT_EQUAL(synchronise(NULL), 0);
    become_equal();
    CU_ASSERT_TRUE(p.bytes > 600 * SYNC_DIGEST_SIZE);
    guest_write(&p.source, 10 * BLOCK_SIZE + 512, 512, 7);
    CU_ASSERT_EQUAL(synchronise(NULL), 0);
    struct sync_progress progress;
    sync_source_snapshot(p.from, &progress);
    CU_ASSERT_FALSE(progress.full);
    CU_ASSERT_EQUAL(progress.bytes_total, BLOCK_SIZE);
    CU_ASSERT_EQUAL(progress.bytes_differed, 4096);
    CU_ASSERT_TRUE(p.bytes < 8192);
    become_equal();
    destroy_pair();
}

static void what_the_other_side_wrote_is_overwritten(void)
{
    create_pair();
    guest_write(&p.source, 3 * BLOCK_SIZE, BLOCK_SIZE, 0x33);
    CU_ASSERT_EQUAL(synchronise(NULL), 0);
    become_equal();
    /* A primary whose standby took over: it wrote something nobody was told of. Here the roles of
     * the hosts stay, and so the one that wrote last is the target. */
    CU_ASSERT_FALSE(divergence_write_begin(p.target.map, 3 * BLOCK_SIZE, 512));
    CU_ASSERT_EQUAL(divergence_wait(p.target.map, 3 * BLOCK_SIZE, 512), 0);
    memset(p.target.disk.bytes + 3 * BLOCK_SIZE, 0x44, 512);
    CU_ASSERT_EQUAL(synchronise(NULL), 0);
    CU_ASSERT_TRUE(p.bytes < 64u << 10);
    become_equal();
    destroy_pair();
}

static void a_guest_that_writes_meanwhile_ends_with_equal_images(void)
{
    for (unsigned seed = 1; seed <= 3; seed++) {
        create_pair();
        for (uint64_t b = 0; b < 600; b += 3)
            memset(p.source.disk.bytes + b * BLOCK_SIZE, (int)b, BLOCK_SIZE);
        pthread_t writers[2];
        unsigned seeds[2] = {seed, seed + 1000};
        for (unsigned i = 0; i < 2; i++)
            pthread_create(&writers[i], NULL, writer_main, &seeds[i]);
        CU_ASSERT_EQUAL(synchronise(NULL), 0);
        atomic_store(&p.stop_writing, true);
        /* Epochs go on: a writer may wait for room in the log, which only a cut makes. */
        for (unsigned i = 0; i < 2; i++)
            while (pthread_tryjoin_np(writers[i], NULL) == EBUSY)
                CU_ASSERT_EQUAL_FATAL(source_drain(NULL, NULL), 0);
        become_equal();
        destroy_pair();
    }
}

static void a_cut_synchronisation_goes_on_where_it_was(void)
{
    create_pair();
    for (uint64_t b = 0; b < 600; b++)
        memset(p.source.disk.bytes + b * BLOCK_SIZE, (int)b | 1, BLOCK_SIZE);
    p.cut_after = 30;
    CU_ASSERT_EQUAL(synchronise(NULL), -EPIPE);
    disk_log_stop(p.log);
    struct divergence_status status;
    divergence_snapshot(p.target.map, &status);
    CU_ASSERT_EQUAL(status.lineage.state, IMAGE_SYNCING);
    CU_ASSERT_EQUAL(pairing_may_start(&status.lineage, 99, "i", "m", NULL), -ESTALE);
    divergence_snapshot(p.source.map, &status);
    CU_ASSERT_EQUAL(status.marked, 601); /* all still to be compared, as no barrier was reached */
    sync_target_restart(p.to);
    CU_ASSERT_EQUAL(synchronise(NULL), 0);
    struct sync_progress progress;
    sync_source_snapshot(p.from, &progress);
    CU_ASSERT_FALSE(progress.full); /* by the marks, and what was sent is not sent again */
    CU_ASSERT_TRUE(progress.bytes_differed < 600 * BLOCK_SIZE);
    become_equal();
    divergence_snapshot(p.target.map, &status);
    CU_ASSERT_EQUAL(status.lineage.state, IMAGE_FOLLOWER);
    destroy_pair();
}

static void a_split_is_for_an_operator_to_decide(void)
{
    create_pair();
    CU_ASSERT_EQUAL(synchronise(NULL), 0);
    become_equal();
    divergence_own(p.source.map, 2);
    divergence_own(p.target.map, 2);
    guest_write(&p.source, 0, 512, 1);
    guest_write(&p.target, 0, 512, 2);
    struct error err = {0};
    CU_ASSERT_EQUAL(synchronise(&err), -ESTALE);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "both hosts have gone on alone"));
    CU_ASSERT_EQUAL(p.target.disk.bytes[0], 2); /* untouched */
    destroy_pair();
}

static void an_image_that_fails_ends_it_with_a_sentence(void)
{
    struct error err = {0};
    create_pair();
    memory_disk_fail(&p.source.disk, 7 * BLOCK_SIZE, 8 * BLOCK_SIZE, -EIO);
    CU_ASSERT_EQUAL(synchronise(&err), -EIO);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "block 7"));
    memory_disk_fail(&p.source.disk, 0, 0, 0);
    memory_disk_fail(&p.target.disk, 7 * BLOCK_SIZE, 8 * BLOCK_SIZE, -ENOSPC);
    memset(p.source.disk.bytes + 7 * BLOCK_SIZE, 1, 512);
    CU_ASSERT_EQUAL(synchronise(NULL), -ENOSPC);
    destroy_pair();
}

static void a_primary_that_does_not_keep_to_the_protocol_changes_nothing(void)
{
    static const struct sync_channel_ops ops = {.send = answer_send};
    const struct sync_channel back = {.ops = &ops};
    uint8_t piece[SYNC_PIECE_SIZE] = {1};
    create_pair();
    const struct sync_message data = {
        .kind = SYNC_DATA, .data_mask = 1, .items = piece, .items_size = sizeof(piece)};
    CU_ASSERT_EQUAL(sync_target_handle(p.to, &data, &back, NULL), -EPROTO);
    const struct sync_message answer = {.kind = SYNC_READY};
    CU_ASSERT_EQUAL(sync_target_handle(p.to, &answer, &back, NULL), -EBADMSG);
    CU_ASSERT_EQUAL(p.target.disk.bytes[0], 0);
    destroy_pair();
}

/* ---- the tracker ---- */

static void a_write_waits_for_its_mark(void)
{
    create_pair();
    guest_write(&p.source, 0, 512, 1);
    struct divergence_status status;
    divergence_snapshot(p.source.map, &status);
    CU_ASSERT_EQUAL(status.marked, 1);
    const unsigned syncs = p.source.file.syncs;
    for (int i = 0; i < 20; i++)
        guest_write(&p.source, (uint64_t)i * 4096, 4096, i);
    CU_ASSERT_EQUAL(p.source.file.syncs, syncs); /* one extent */
    /* What comes from the peer is its affair. */
    uint8_t sector[512] = {5};
    struct disk_request r = {
        .io = {.op = DISK_WRITE, .offset = 500 * BLOCK_SIZE, .size = 512, .data = sector}};
    CU_ASSERT_EQUAL(disk_volume_perform(p.source.volume, &r), 0);
    divergence_snapshot(p.source.map, &status);
    CU_ASSERT_EQUAL(status.marked, 2);
    destroy_pair();
}

/* ---- the codec ---- */

static size_t sample(enum sync_kind kind, uint8_t *out)
{
    static uint8_t items[SYNC_PIECES_MAX * (8 + SYNC_BLOCK_PIECES * SYNC_DIGEST_SIZE)];
    struct sync_message m = {.kind = kind, .items = items};
    memset(items, 0, sizeof(items));
    m.lineage = (struct lineage){.vm = "web",
                                 .size = DISK_SIZE,
                                 .disk = {1},
                                 .state = IMAGE_OWNER,
                                 .point = 1,
                                 .generations = {1},
                                 .nonce = 1,
                                 .sequence = 1};
    m.known = m.trusted = kind == SYNC_STATE;
    m.cookie = kind == SYNC_FLUSH || kind == SYNC_ROUND || kind == SYNC_DURABLE ? 0x0102 : 0;
    m.point = 3;
    if (kind == SYNC_DIGESTS || kind == SYNC_PIECES) {
        const size_t item = 8 + (kind == SYNC_PIECES ? SYNC_BLOCK_PIECES : 1) * SYNC_DIGEST_SIZE;
        m.count = 2;
        items[0] = 4;
        items[item] = 5;
        m.items_size = 2 * item;
    }
    if (kind == SYNC_MARKS || kind == SYNC_DIFFER)
        m.count = (uint32_t)(m.items_size = 3);
    if (kind == SYNC_DIFFER_PIECES)
        m.count = (uint32_t)(m.items_size = 4) / 2;
    if (kind == SYNC_MARKS || kind == SYNC_DATA)
        m.block = 8;
    if (kind == SYNC_DATA) {
        m.data_mask = 0x8001;
        m.zero_mask = 2;
        m.items_size = 2 * SYNC_PIECE_SIZE;
    }
    return sync_encode(&m, out, SYNC_PAYLOAD_MAX);
}

static void every_message_comes_back_and_no_part_of_one_does(void)
{
    static const enum sync_kind kinds[] = {
        SYNC_ASK,    SYNC_START,         SYNC_DIGESTS, SYNC_PIECES, SYNC_DATA,
        SYNC_FLUSH,  SYNC_ROUND,         SYNC_STATE,   SYNC_MARKS,  SYNC_READY,
        SYNC_DIFFER, SYNC_DIFFER_PIECES, SYNC_DURABLE};
    const struct disk_geometry geometry = {.count = 1, .sizes = {DISK_SIZE}};
    uint8_t *bytes = malloc(SYNC_PAYLOAD_MAX);
    uint8_t *again = malloc(SYNC_PAYLOAD_MAX);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    CU_ASSERT_PTR_NOT_NULL_FATAL(again);
    struct sync_message m;
    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
        const size_t size = sample(kinds[k], bytes);
        CU_ASSERT_EQUAL(sync_decode(bytes, size, &geometry, &m, NULL), 0);
        CU_ASSERT_EQUAL(m.kind, kinds[k]);
        CU_ASSERT_EQUAL(sync_encode(&m, again, SYNC_PAYLOAD_MAX), size);
        CU_ASSERT_EQUAL(memcmp(bytes, again, size), 0);
        CU_ASSERT_STRING_NOT_EQUAL(sync_kind_name(kinds[k]), "?");
        for (size_t cut = 0; cut < size; cut++)
            CU_ASSERT_EQUAL(sync_decode(bytes, cut, &geometry, &m, NULL), -EBADMSG);
        CU_ASSERT_EQUAL(sync_decode(bytes, size + 1, &geometry, &m, NULL), -EBADMSG);
        bytes[1] = 1; /* a disk that isn't there */
        CU_ASSERT_EQUAL(sync_decode(bytes, size, &geometry, &m, NULL), -EBADMSG);
    }
    free(bytes);
    free(again);
}

static void a_message_has_its_golden_bytes(void)
{
    static const uint8_t golden[] = {7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0,
                                     0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0};
    uint8_t bytes[64];
    CU_ASSERT_EQUAL(sample(SYNC_ROUND, bytes), sizeof(golden));
    CU_ASSERT_EQUAL(memcmp(bytes, golden, sizeof(golden)), 0);
}

static void blocks_and_pieces_beyond_the_disk_are_refused(void)
{
    const struct disk_geometry geometry = {.count = 1, .sizes = {DISK_SIZE}};
    static uint8_t piece[SYNC_PIECE_SIZE];
    uint8_t *bytes = malloc(SYNC_PAYLOAD_MAX);
    struct sync_message m = {.kind = SYNC_DATA, .block = 600, .data_mask = 1u << 3};
    struct sync_message out;
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    m.items = piece;
    m.items_size = sizeof(piece);
    size_t size = sync_encode(&m, bytes, SYNC_PAYLOAD_MAX);
    CU_ASSERT_EQUAL(sync_decode(bytes, size, &geometry, &out, NULL), 0); /* the short one */
    m.data_mask = 1u << 4;
    size = sync_encode(&m, bytes, SYNC_PAYLOAD_MAX);
    CU_ASSERT_EQUAL(sync_decode(bytes, size, &geometry, &out, NULL), -EBADMSG);
    m.block = 601;
    m.data_mask = 1;
    size = sync_encode(&m, bytes, SYNC_PAYLOAD_MAX);
    CU_ASSERT_EQUAL(sync_decode(bytes, size, &geometry, &out, NULL), -EBADMSG);
    size = sample(SYNC_DIGESTS, bytes);
    bytes[8] = 5; /* the same block twice */
    CU_ASSERT_EQUAL(sync_decode(bytes, size, &geometry, &out, NULL), -EBADMSG);
    free(bytes);
}

static const struct test_case cases[] = {
    {"a new pair is compared whole and made equal", a_new_pair_is_compared_whole_and_made_equal},
    {"only what was written since is compared", only_what_was_written_since_is_compared},
    {"what the other side wrote is overwritten", what_the_other_side_wrote_is_overwritten},
    {"a guest that writes meanwhile ends with equal images",
     a_guest_that_writes_meanwhile_ends_with_equal_images},
    {"a cut synchronisation goes on where it was", a_cut_synchronisation_goes_on_where_it_was},
    {"a split is for an operator to decide", a_split_is_for_an_operator_to_decide},
    {"an image that fails ends it with a sentence", an_image_that_fails_ends_it_with_a_sentence},
    {"a primary that does not keep to the protocol changes nothing",
     a_primary_that_does_not_keep_to_the_protocol_changes_nothing},
    {"a write waits for its mark", a_write_waits_for_its_mark},
    {"every message comes back and no part of one does",
     every_message_comes_back_and_no_part_of_one_does},
    {"a message has its golden bytes", a_message_has_its_golden_bytes},
    {"blocks and pieces beyond the disk are refused",
     blocks_and_pieces_beyond_the_disk_are_refused},
};

TEST_MAIN("disk-sync", cases)
