/* A volume served by NBD, to somebody else's client (libnbd) and to one that breaks the rules. */
#include <errno.h>
#include <libnbd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "disk/mode_replicated.h"
#include "disk/nbd_server.h"
#include "disk/nbd_wire.h"
#include "test/support/memory_disk.h"
#include "test/support/runner.h"

#define SIZE  ((uint64_t)4 << 20)
#define BLOCK 4096u

static struct memory_disk disk;
static struct disk_volume *volume;
static struct nbd_server *server;
static struct nbd_handle *client;
static int wire; /* of a client without libnbd */

static int start(bool read_only)
{
    int ends[2];
    memory_disk_init(&disk, SIZE);
    disk.read_only = read_only;
    const struct disk_volume_config of_volume = {.image = memory_disk_image(&disk), .index = 3};
    CU_ASSERT_EQUAL_FATAL(disk_volume_create(&of_volume, &volume, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const struct nbd_server_config config = {.fd = ends[0], .volume = volume};
    CU_ASSERT_EQUAL_FATAL(nbd_server_open(&config, &server, NULL), 0);
    return ends[1];
}

static void stop(void)
{
    nbd_server_close(&server);
    disk_volume_destroy(&volume);
    memory_disk_free(&disk);
}

static void start_client(bool read_only)
{
    const int fd = start(read_only);
    client = nbd_create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(client);
    CU_ASSERT_EQUAL_FATAL(nbd_set_export_name(client, "disk3"), 0);
    CU_ASSERT_EQUAL_FATAL(nbd_connect_socket(client, fd), 0);
    /* What the library would not let through is for the server to refuse. */
    CU_ASSERT_EQUAL_FATAL(nbd_set_strict_mode(client, 0), 0);
    nbd_server_set_running(server, true);
}

static void stop_client(void)
{
    CU_ASSERT_EQUAL(nbd_shutdown(client, 0), 0);
    nbd_close(client);
    stop();
}

static void start_raw(void)
{
    wire = start(false);
    const struct timeval patience = {.tv_sec = 20};
    CU_ASSERT_EQUAL_FATAL(setsockopt(wire, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)),
                          0);
}

static void stop_raw(void)
{
    close(wire);
    stop();
}

static void fill(uint8_t *bytes, size_t size, uint8_t seed)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(seed + i * 7 + i / 256);
}

/* ---- somebody else's client ---- */

static void a_client_learns_what_the_disk_is(void)
{
    start_client(false);
    CU_ASSERT_EQUAL(nbd_get_size(client), SIZE);
    CU_ASSERT_EQUAL(nbd_is_read_only(client), 0);
    CU_ASSERT_EQUAL(nbd_can_flush(client), 1);
    CU_ASSERT_EQUAL(nbd_can_fua(client), 1);
    CU_ASSERT_EQUAL(nbd_can_trim(client), 1);
    CU_ASSERT_EQUAL(nbd_can_zero(client), 1);
    CU_ASSERT_EQUAL(nbd_can_fast_zero(client), 0);
    CU_ASSERT_EQUAL(nbd_can_df(client), 0);
    CU_ASSERT_EQUAL(nbd_can_multi_conn(client), 0);
    CU_ASSERT_EQUAL(nbd_get_block_size(client, LIBNBD_SIZE_MINIMUM), DISK_SECTOR);
    CU_ASSERT_EQUAL(nbd_get_block_size(client, LIBNBD_SIZE_MAXIMUM), DISK_DATA_MAX);
    CU_ASSERT_STRING_EQUAL(nbd_get_protocol(client), "newstyle-fixed");
    stop_client();
    start_client(true);
    CU_ASSERT_EQUAL(nbd_is_read_only(client), 1);
    uint8_t sector[DISK_SECTOR] = {0};
    CU_ASSERT_EQUAL(nbd_pwrite(client, sector, sizeof(sector), 0, 0), -1);
    CU_ASSERT_EQUAL(nbd_get_errno(), EPERM);
    stop_client();
}

static void what_was_written_is_read(void)
{
    static uint8_t out[DISK_DATA_MAX], in[DISK_DATA_MAX];
    start_client(false);
    const size_t sizes[] = {DISK_SECTOR, BLOCK, 10 * BLOCK + DISK_SECTOR, DISK_DATA_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        const uint64_t offset = SIZE - sizes[i];
        fill(out, sizes[i], (uint8_t)i);
        CU_ASSERT_EQUAL(nbd_pwrite(client, out, sizes[i], offset, 0), 0);
        CU_ASSERT_EQUAL(memcmp(disk.bytes + offset, out, sizes[i]), 0);
        memset(in, 0, sizeof(in));
        CU_ASSERT_EQUAL(nbd_pread(client, in, sizes[i], offset, 0), 0);
        CU_ASSERT_EQUAL(memcmp(in, out, sizes[i]), 0);
    }
    stop_client();
}

static void zeroes_and_discards_read_as_zeroes(void)
{
    start_client(false);
    memset(disk.bytes, 0xff, SIZE);
    CU_ASSERT_EQUAL(nbd_zero(client, BLOCK, 0, 0), 0);
    CU_ASSERT_EQUAL(nbd_zero(client, BLOCK, 2 * BLOCK, LIBNBD_CMD_FLAG_NO_HOLE), 0);
    CU_ASSERT_EQUAL(nbd_trim(client, BLOCK, 4 * BLOCK, 0), 0);
    for (unsigned i = 0; i < 6; i++)
        for (unsigned j = 0; j < BLOCK; j++)
            CU_ASSERT_EQUAL_FATAL(disk.bytes[i * BLOCK + j], i % 2 ? 0xff : 0);
    stop_client();
}

static void a_flush_and_a_durable_write_reach_the_medium(void)
{
    uint8_t sector[DISK_SECTOR] = {1};
    start_client(false);
    CU_ASSERT_EQUAL(nbd_pwrite(client, sector, sizeof(sector), 0, 0), 0);
    CU_ASSERT_EQUAL(disk.flushes, 0);
    CU_ASSERT_EQUAL(nbd_flush(client, 0), 0);
    CU_ASSERT_EQUAL(disk.flushes, 1);
    CU_ASSERT_EQUAL(nbd_pwrite(client, sector, sizeof(sector), 512, LIBNBD_CMD_FLAG_FUA), 0);
    CU_ASSERT_EQUAL(disk.flushes, 2);
    CU_ASSERT_EQUAL(nbd_trim(client, BLOCK, BLOCK, LIBNBD_CMD_FLAG_FUA), 0);
    CU_ASSERT_EQUAL(disk.flushes, 3);
    memory_disk_fail_flush(&disk, -EIO);
    CU_ASSERT_EQUAL(nbd_pwrite(client, sector, sizeof(sector), 512, LIBNBD_CMD_FLAG_FUA), -1);
    CU_ASSERT_EQUAL(nbd_get_errno(), EIO);
    stop_client();
}

static void errors_of_the_image_are_told(void)
{
    uint8_t block[BLOCK] = {0};
    struct disk_volume_stats stats;
    start_client(false);
    memory_disk_fail(&disk, BLOCK, 2 * BLOCK, -ENOSPC);
    CU_ASSERT_EQUAL(nbd_pwrite(client, block, BLOCK, BLOCK, 0), -1);
    CU_ASSERT_EQUAL(nbd_get_errno(), ENOSPC);
    memory_disk_fail(&disk, BLOCK, 2 * BLOCK, -EIO);
    CU_ASSERT_EQUAL(nbd_pread(client, block, BLOCK, BLOCK, 0), -1);
    CU_ASSERT_EQUAL(nbd_get_errno(), EIO);
    CU_ASSERT_EQUAL(nbd_pread(client, block, BLOCK, 0, 0), 0); /* and it goes on */
    CU_ASSERT_EQUAL(nbd_pread(client, block, BLOCK, SIZE, 0), -1);
    CU_ASSERT_EQUAL(nbd_get_errno(), EINVAL);
    CU_ASSERT_EQUAL(nbd_pwrite(client, block, BLOCK, SIZE - 512, 0), -1);
    CU_ASSERT_EQUAL(nbd_get_errno(), ENOSPC);
    disk_volume_snapshot(volume, &stats);
    CU_ASSERT_EQUAL(stats.write_errors, 1);
    CU_ASSERT_EQUAL(stats.read_errors, 1);
    CU_ASSERT_EQUAL(stats.reads, 1);
    stop_client();
}

static void a_machine_that_stands_changes_nothing(void)
{
    uint8_t block[BLOCK] = {1};
    start_client(false);
    nbd_server_set_running(server, false);
    CU_ASSERT_EQUAL(nbd_pwrite(client, block, BLOCK, 0, 0), -1);
    CU_ASSERT_EQUAL(nbd_get_errno(), EPERM);
    CU_ASSERT_EQUAL(nbd_trim(client, BLOCK, 0, 0), -1);
    CU_ASSERT_EQUAL(nbd_zero(client, BLOCK, 0, 0), -1);
    CU_ASSERT_EQUAL(disk.bytes[0], 0);
    CU_ASSERT_EQUAL(nbd_flush(client, 0), 0);
    CU_ASSERT_EQUAL(disk.flushes, 0); /* nobody asked for it */
    CU_ASSERT_EQUAL(nbd_pread(client, block, BLOCK, 0, 0), 0);
    nbd_server_set_running(server, true);
    CU_ASSERT_EQUAL(nbd_pwrite(client, block, BLOCK, 0, 0), 0);
    CU_ASSERT_EQUAL(nbd_flush(client, 0), 0);
    CU_ASSERT_EQUAL(disk.flushes, 1);
    stop_client();
}

/* Any number at once, answered in any order. */
static void many_requests_are_under_way(void)
{
    enum { COUNT = 600 };
    static uint8_t out[COUNT][DISK_SECTOR], in[COUNT][DISK_SECTOR];
    start_client(false);
    for (unsigned i = 0; i < COUNT; i++) {
        fill(out[i], DISK_SECTOR, (uint8_t)i);
        CU_ASSERT_FATAL(nbd_aio_pwrite(client, out[i], DISK_SECTOR, i * DISK_SECTOR,
                                       NBD_NULL_COMPLETION, 0) > 0);
    }
    while (nbd_aio_in_flight(client) > 0)
        CU_ASSERT_FATAL(nbd_poll(client, -1) >= 0);
    for (unsigned i = 0; i < COUNT; i++)
        CU_ASSERT_FATAL(
            nbd_aio_pread(client, in[i], DISK_SECTOR, i * DISK_SECTOR, NBD_NULL_COMPLETION, 0) > 0);
    while (nbd_aio_in_flight(client) > 0)
        CU_ASSERT_FATAL(nbd_poll(client, -1) >= 0);
    CU_ASSERT_EQUAL(memcmp(in, out, sizeof(in)), 0);
    int64_t cookie;
    while ((cookie = nbd_aio_peek_command_completed(client)) > 0)
        CU_ASSERT_EQUAL(nbd_aio_command_completed(client, (uint64_t)cookie), 1);
    stop_client();
}

static void another_export_is_not_served(void)
{
    const int fd = start(false);
    client = nbd_create();
    CU_ASSERT_EQUAL_FATAL(nbd_set_export_name(client, "disk4"), 0);
    CU_ASSERT_EQUAL(nbd_connect_socket(client, fd), -1);
    nbd_close(client);
    stop();
}

static void on_bell(void *context)
{
    unsigned *rings = context;
    (*rings)++;
}

static void a_bell_rings_when_it_is_flushed_and_holds_nothing(void)
{
    int ends[2];
    unsigned rings = 0;
    uint8_t sector[DISK_SECTOR] = {0};
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const struct nbd_server_config config = {.fd = ends[0], .rung = on_bell, .context = &rings};
    CU_ASSERT_EQUAL_FATAL(nbd_server_open(&config, &server, NULL), 0);
    client = nbd_create();
    CU_ASSERT_EQUAL_FATAL(nbd_set_export_name(client, "bell"), 0);
    CU_ASSERT_EQUAL_FATAL(nbd_connect_socket(client, ends[1]), 0);
    CU_ASSERT_EQUAL(nbd_get_size(client), DISK_SECTOR);
    CU_ASSERT_EQUAL(nbd_pread(client, sector, sizeof(sector), 0, 0), -1);
    CU_ASSERT_EQUAL(nbd_pwrite(client, sector, sizeof(sector), 0, 0), -1);
    CU_ASSERT_EQUAL(rings, 0);
    for (unsigned i = 1; i < 4; i++) {
        CU_ASSERT_EQUAL(nbd_flush(client, 0), 0);
        CU_ASSERT_EQUAL(rings, i);
    }
    CU_ASSERT_EQUAL(nbd_shutdown(client, 0), 0);
    nbd_close(client);
    nbd_server_close(&server);
}

/* What the machine was told is done is in the log of the epoch. */
static void a_write_is_in_the_log_before_it_is_answered(void)
{
    struct disk_log *log;
    struct disk_replicated *mode;
    uint8_t block[BLOCK] = {1};
    const struct disk_log_config config = {.cap = SIZE};
    CU_ASSERT_EQUAL_FATAL(disk_log_create(&config, &log, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(disk_replicated_create(log, &mode, NULL), 0);
    start_client(false);
    disk_volume_set_mode(volume, &disk_mode_replicated_ops, mode);
    disk_log_start(log);
    for (unsigned i = 1; i <= 20; i++) {
        struct disk_log_stats stats;
        CU_ASSERT_EQUAL(nbd_pwrite(client, block, BLOCK, i * BLOCK, LIBNBD_CMD_FLAG_FUA), 0);
        disk_log_snapshot(log, &stats);
        CU_ASSERT_EQUAL(stats.records, 2 * i); /* with its flush */
        CU_ASSERT_EQUAL(stats.bytes, i * BLOCK);
    }
    disk_log_stop(log);
    stop_client();
    disk_replicated_destroy(&mode);
    disk_log_destroy(&log);
}

/* ---- one that breaks the rules ---- */

#define HELLO   "\0\0\0\3"
#define OPTION  "IHAVEOPT\0\0\0\5\0\0\0\0"
#define GO      "IHAVEOPT\0\0\0\7\0\0\0\xb\0\0\0\5disk3\0\0"
#define REQUEST "\x25\x60\x95\x13\0\0\0\1cookie!!\0\0\0\0\0\0\0\0\0\0\2\0"
#define BEGIN   HELLO OPTION GO

static void say(const void *bytes, size_t size)
{
    CU_ASSERT_EQUAL_FATAL(send(wire, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

static void hear(size_t size)
{
    uint8_t bytes[4096];
    while (size) {
        const ssize_t count = recv(wire, bytes, size < sizeof(bytes) ? size : sizeof(bytes), 0);
        CU_ASSERT_FATAL(count > 0);
        size -= (size_t)count;
    }
}

/* Everything that is still said, until the end. */
static void hear_end(void)
{
    uint8_t bytes[4096];
    ssize_t count;
    while ((count = recv(wire, bytes, sizeof(bytes), 0)) > 0)
        ;
    CU_ASSERT(count == 0 || errno == ECONNRESET);
}

static void begin_raw(void)
{
    start_raw();
    nbd_server_set_running(server, true);
    say(BEGIN, sizeof(BEGIN) - 1);
    hear(NBD_GREETING_SIZE + 20 + 20 + 12 + 20 + 14 + 20);
}

static void a_connection_may_end_anywhere(void)
{
    static const char session[] = BEGIN REQUEST;
    uint8_t bytes[sizeof(session) - 1 + DISK_SECTOR] = {0};
    memcpy(bytes, session, sizeof(session) - 1);
    for (size_t size = 0; size <= sizeof(bytes); size++) {
        start_raw();
        nbd_server_set_running(server, true);
        say(bytes, size);
        CU_ASSERT_EQUAL(shutdown(wire, SHUT_WR), 0);
        hear_end();
        stop_raw();
    }
}

static void a_session_may_come_byte_by_byte(void)
{
    static const char session[] = BEGIN REQUEST;
    uint8_t bytes[sizeof(session) - 1 + DISK_SECTOR];
    memset(bytes, 0x5a, sizeof(bytes));
    memcpy(bytes, session, sizeof(session) - 1);
    start_raw();
    nbd_server_set_running(server, true);
    for (size_t i = 0; i < sizeof(bytes); i++)
        say(bytes + i, 1);
    hear(NBD_GREETING_SIZE + 20 + 20 + 12 + 20 + 14 + 20 + NBD_REPLY_SIZE);
    CU_ASSERT_EQUAL(disk.bytes[DISK_SECTOR - 1], 0x5a);
    stop_raw();
}

static void nonsense_ends_the_connection(void)
{
    static const char *const nonsense[] = {
        "\x25\x60\x95\x12\0\0\0\0cookie!!\0\0\0\0\0\0\0\0\0\0\2\0",   /* no request */
        "\x25\x60\x95\x13\0\0\0\1cookie!!\0\0\0\0\0\0\0\0\0\x08\2\0", /* too long a write */
        "\x25\x60\x95\x13\0\0\0\2cookie!!\0\0\0\0\0\0\0\0\0\0\0\0",   /* and by agreement */
    };
    for (size_t i = 0; i < ARRAY_SIZE(nonsense); i++) {
        begin_raw();
        say(nonsense[i], NBD_REQUEST_SIZE);
        hear_end();
        stop_raw();
    }
    static const char *const choices[] = {
        "\0\0\0\4", HELLO "JHAVEOPT\0\0\0\7\0\0\0\0", HELLO "IHAVEOPT\0\0\0\7\0\1\0\0",
        HELLO "IHAVEOPT\0\0\0\1\0\0\0\0", HELLO "IHAVEOPT\0\0\0\2\0\0\0\0"};
    for (size_t i = 0; i < ARRAY_SIZE(choices); i++) {
        start_raw();
        say(choices[i], i ? 20 : 4);
        hear_end();
        stop_raw();
    }
}

/* Whoever never listens is not read any more; what was taken ends all the same. */
static void one_that_does_not_listen_gets_a_bounded_amount(void)
{
    uint8_t request[NBD_REQUEST_SIZE + 1] =
        "\x25\x60\x95\x13\0\0\0\0cookie!!\0\0\0\0\0\0\0\0\0\x08\0\0";
    begin_raw();
    unsigned taken = 0;
    struct pollfd writable = {.fd = wire, .events = POLLOUT};
    /* Reads of half a MiB, until the server takes no more for a while. */
    while (poll(&writable, 1, 200) > 0 &&
           send(wire, request, NBD_REQUEST_SIZE, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        taken++;
    CU_ASSERT(taken > 16);
    pthread_mutex_lock(&disk.lock);
    const unsigned done = disk.done;
    pthread_mutex_unlock(&disk.lock);
    CU_ASSERT(done <= 17 + 8); /* 8 MiB, and what the socket holds */
    stop_raw();
}

/* A write to a place of its own. */
static void make_write(unsigned i, uint8_t bytes[NBD_REQUEST_SIZE + DISK_SECTOR])
{
    const uint32_t at = i * DISK_SECTOR;
    memset(bytes, 0, NBD_REQUEST_SIZE + DISK_SECTOR);
    memcpy(bytes, REQUEST, NBD_REQUEST_SIZE);
    bytes[20] = (uint8_t)(at >> 24);
    bytes[21] = (uint8_t)(at >> 16);
    bytes[22] = (uint8_t)(at >> 8);
}

static void a_disk_that_hangs_stops_the_reading(void)
{
    enum { TAKEN = 128, MANY = 4000 };
    uint8_t bytes[NBD_REQUEST_SIZE + DISK_SECTOR];
    unsigned count = 0;
    begin_raw();
    memory_disk_hold(&disk, true);
    for (; count < TAKEN; count++) {
        make_write(count, bytes);
        say(bytes, sizeof(bytes));
    }
    CU_ASSERT_TRUE(memory_disk_wait_busy(&disk, TAKEN));
    /* Until the socket is full and the server has taken nothing for a while. */
    struct pollfd writable = {.fd = wire, .events = POLLOUT};
    for (; count < MANY && poll(&writable, 1, 200) > 0; count++) {
        make_write(count, bytes);
        if (send(wire, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            break;
    }
    CU_ASSERT(count > TAKEN && count < MANY);
    memory_disk_hold(&disk, false);
    hear(count * NBD_REPLY_SIZE);
    pthread_mutex_lock(&disk.lock);
    CU_ASSERT_EQUAL(disk.busy_max, TAKEN);
    pthread_mutex_unlock(&disk.lock);
    stop_raw();
}

/* The machine dies in the middle of things. */
static void what_is_under_way_is_waited_for(void)
{
    begin_raw();
    memory_disk_hold(&disk, true);
    uint8_t bytes[NBD_REQUEST_SIZE + DISK_SECTOR];
    memset(bytes, 0x77, sizeof(bytes));
    memcpy(bytes, REQUEST, NBD_REQUEST_SIZE);
    say(bytes, sizeof(bytes));
    CU_ASSERT_TRUE(memory_disk_wait_busy(&disk, 1));
    CU_ASSERT_TRUE(nbd_server_is_busy(server));
    close(wire);
    memory_disk_hold(&disk, false);
    nbd_server_close(&server);
    CU_ASSERT_EQUAL(disk.bytes[0], 0x77);
    disk_volume_destroy(&volume);
    memory_disk_free(&disk);
}

static const struct test_case cases[] = {
    {"a client learns what the disk is", a_client_learns_what_the_disk_is},
    {"what was written is read", what_was_written_is_read},
    {"zeroes and discards read as zeroes", zeroes_and_discards_read_as_zeroes},
    {"a flush and a durable write reach the medium", a_flush_and_a_durable_write_reach_the_medium},
    {"errors of the image are told", errors_of_the_image_are_told},
    {"a machine that stands changes nothing", a_machine_that_stands_changes_nothing},
    {"many requests are under way", many_requests_are_under_way},
    {"another export is not served", another_export_is_not_served},
    {"a bell rings when it is flushed, and holds nothing",
     a_bell_rings_when_it_is_flushed_and_holds_nothing},
    {"a write is in the log before it is answered", a_write_is_in_the_log_before_it_is_answered},
    {"a connection may end anywhere", a_connection_may_end_anywhere},
    {"a session may come byte by byte", a_session_may_come_byte_by_byte},
    {"nonsense ends the connection", nonsense_ends_the_connection},
    {"one that does not listen gets a bounded amount",
     one_that_does_not_listen_gets_a_bounded_amount},
    {"a disk that hangs stops the reading", a_disk_that_hangs_stops_the_reading},
    {"what is under way is waited for", what_is_under_way_is_waited_for},
};

TEST_MAIN("nbd-server", cases)
