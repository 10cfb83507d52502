#include "test/support/failover_pair.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "app/kvm_machine.h"
#include "base/clock.h"
#include "base/fd.h"
#include "test/support/memory_map.h"
#include "test/support/runner.h"
#include "transport/inproc.h"
#include "transport/session.h"

#define OUTBOX_CAP    ((size_t)4 << 20)
#define TERM          1
#define PROTECTED_MAX SEC(60)
#define VNET_HEADER   12

struct side {
    struct memory_disk *disk;
    struct memory_map *map; /* of the disk */
    struct disk_store *store;
    struct kvm_machine *machine;
    struct slab *slab;
};

struct failover_pair {
    /* set at creation */
    struct failover_pair_config config;
    struct world *world;
    int wire[2]; /* [0] ours, [1] the guest's, duplicated for each machine */
    int stop[2];
    pthread_t outside; /* moves what arrives on the wire into the world */

    /* the test's thread */
    struct side primary;
    struct side standby_side;
    struct engine *engine;
    struct standby *standby;

    pthread_mutex_t lock; /* protects all below */
    pthread_cond_t changed;
    unsigned protections;
};

static void require(int rc, const struct error *err)
{
    if (rc < 0)
        printf("  %s\n", err->text);
    CU_ASSERT_EQUAL_FATAL(rc, 0);
}

/* ---- the outside ---- */

static void *outside_main(void *context)
{
    struct failover_pair *p = context;
    uint8_t bytes[VNET_HEADER + WORLD_FRAME_MAX];
    struct pollfd sources[] = {{.fd = p->wire[0], .events = POLLIN},
                               {.fd = p->stop[0], .events = POLLIN}};
    while (poll(sources, ARRAY_SIZE(sources), -1) > 0) {
        ssize_t n;
        if (sources[0].revents & POLLIN && (n = read(p->wire[0], bytes, sizeof(bytes))) > 0)
            world_put_frame(p->world, bytes, (size_t)n);
        if (sources[1].revents)
            break;
    }
    return NULL;
}

/* At once: who has waited until all that the guest said was released has it all. */
static void on_console(void *context, enum machine_console which, const uint8_t *data, size_t size)
{
    const struct failover_pair *p = context;
    (void)which;
    world_put_console(p->world, data, size);
}

static int open_network(void *context, unsigned index, struct error *err)
{
    const struct failover_pair *p = context;
    (void)index;
    (void)err;
    return dup(p->wire[1]);
}

static void on_machine_event(void *context, enum machine_event event, const char *detail)
{
    const struct failover_pair *p = context;
    printf("  guest event %d: %s\n", event, detail ? detail : "");
    world_put_event(p->world, event);
}

bool failover_pair_send(struct failover_pair *pair, const uint8_t *frame, size_t size)
{
    uint8_t bytes[VNET_HEADER + WORLD_FRAME_MAX] = {0};
    memcpy(bytes + VNET_HEADER, frame, size);
    return send(pair->wire[0], bytes, VNET_HEADER + size, MSG_DONTWAIT) > 0;
}

struct engine *failover_pair_engine(struct failover_pair *pair)
{
    return pair->engine;
}

void failover_pair_type(struct failover_pair *pair, char c)
{
    CU_ASSERT_EQUAL(
        kvm_machine_type(pair->primary.machine, MACHINE_CONSOLE_SERIAL, (uint8_t *)&c, 1), 1);
}

struct world *failover_pair_world(struct failover_pair *pair)
{
    return pair->world;
}

/* ---- events ---- */

static void on_engine_event(void *context, enum engine_event event, const struct error *why)
{
    struct failover_pair *p = context;
    (void)why;
    pthread_mutex_lock(&p->lock);
    p->protections += event == ENGINE_EVENT_PROTECTED;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

static void on_standby_event(void *context, enum standby_event event, const struct error *why)
{
    (void)context;
    (void)event;
    (void)why;
}

/* ---- machines ---- */

static void create_disk(const struct failover_pair *p, struct side *side)
{
    if (!p->config.disk_size)
        return;
    side->disk = calloc(1, sizeof(*side->disk));
    CU_ASSERT_PTR_NOT_NULL_FATAL(side->disk);
    memory_disk_init(side->disk, p->config.disk_size);
    side->map = calloc(1, sizeof(*side->map));
    CU_ASSERT_PTR_NOT_NULL_FATAL(side->map);
    const struct disk_store_config config = {.count = 1,
                                             .vm = "guest",
                                             .disks = {{.image = memory_disk_image(side->disk),
                                                        .map = memory_map_io(side->map),
                                                        .protection = DISK_REPLICATED}}};
    struct error err = {0};
    require(disk_store_open(&config, &side->store, &err), &err);
}

static void side_create(struct failover_pair *p, struct side *side)
{
    char kernel[512];
    snprintf(kernel, sizeof(kernel), "%s/%s", KEMARI_GUEST_DIR, p->config.program);
    create_disk(p, side);
    const struct kvm_machine_config config = {
        .machine = {.boot = {.kernel = kernel, .command_line = p->config.arguments},
                    .vcpus = p->config.vcpus,
                    .net_count = p->config.network,
                    .on_panic = p->config.on_panic,
                    .panic_limit = p->config.panic_limit,
                    .nets = {{.mac = {0x52, 0x54, 0x00, 0x4b, 0x45, 0x01}}}},
        .memory = {.size = p->config.memory},
        .disks = side->store,
        .outlet = {.open_network = open_network,
                   .console_fd = -1,
                   .console = on_console,
                   .context = p},
        .event = on_machine_event,
        .context = p,
    };
    struct error err = {0};
    require(kvm_machine_create(&config, &side->machine, &err), &err);
    require(slab_create(p->config.staging, &side->slab, &err), &err);
}

static void side_destroy(struct side *side)
{
    if (side->slab)
        CU_ASSERT_EQUAL(slab_free_count(side->slab), slab_chunk_count(side->slab));
    if (side->disk)
        memory_disk_hold(side->disk, false); /* or nobody could wait for it */
    kvm_machine_destroy(&side->machine);
    slab_destroy(&side->slab);
    disk_store_close(&side->store);
    if (side->disk)
        memory_disk_free(side->disk);
    free(side->disk);
    free(side->map);
    side->map = NULL;
    side->disk = NULL;
}

static void start_engine(struct failover_pair *p, epoch_t first_epoch, bool open)
{
    const struct engine_config config = {
        .machine = kvm_machine_ops(p->primary.machine),
        .slab = p->primary.slab,
        .outbox_cap = OUTBOX_CAP,
        .policy = p->config.policy,
        .first_epoch = first_epoch,
        .open = open,
        .realtime = true,
        .event = on_engine_event,
        .context = p,
    };
    struct error err = {0};
    require(config.machine.ops->output_open(config.machine.context, &err), &err);
    require(engine_create(&config, &p->engine, &err), &err);
    engine_start_guest(p->engine);
}

/* ---- life ---- */

struct failover_pair *failover_pair_create(const struct failover_pair_config *config)
{
    struct failover_pair *p = calloc(1, sizeof(*p));
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    p->config = *config;
    if (!p->config.staging)
        p->config.staging = SLAB_SIZE_MIN;
    p->world = world_create();
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&p->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    CU_ASSERT_EQUAL_FATAL(
        socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, p->wire), 0);
    CU_ASSERT_EQUAL_FATAL(pipe(p->stop), 0);
    pthread_create(&p->outside, NULL, outside_main, p);
    side_create(p, &p->primary);
    struct error err = {0};
    require(kvm_machine_boot(p->primary.machine, &err), &err);
    start_engine(p, 1, false);
    return p;
}

static void stop_standby(struct failover_pair *p)
{
    standby_destroy(&p->standby);
    side_destroy(&p->standby_side);
}

void failover_pair_destroy(struct failover_pair **pair)
{
    struct failover_pair *p = *pair;
    engine_destroy(&p->engine);
    stop_standby(p);
    side_destroy(&p->primary);
    CU_ASSERT_EQUAL(write(p->stop[1], "s", 1), 1);
    pthread_join(p->outside, NULL);
    for (int i = 0; i < 2; i++) {
        fd_close(&p->wire[i]);
        fd_close(&p->stop[i]);
    }
    world_destroy(&p->world);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p);
    *pair = NULL;
}

static void wait_protected(struct failover_pair *p, unsigned protections)
{
    const struct timespec until = clock_to_timespec(clock_now() + PROTECTED_MAX);
    int rc = 0;
    pthread_mutex_lock(&p->lock);
    while (p->protections < protections && rc == 0)
        rc = pthread_cond_timedwait(&p->changed, &p->lock, &until);
    pthread_mutex_unlock(&p->lock);
    CU_ASSERT_EQUAL_FATAL(rc, 0);
}

void failover_pair_protect(struct failover_pair *pair, struct protocol_fault *fault)
{
    struct failover_pair *p = pair;
    side_create(p, &p->standby_side);
    const struct standby_config config = {
        .machine = kvm_machine_ops(p->standby_side.machine),
        .slab = p->standby_side.slab,
        .event = on_standby_event,
        .context = p,
    };
    struct error err = {0};
    require(standby_create(&config, &p->standby, &err), &err);
    struct link *ends[2];
    require(inproc_pair("failover", ends, &err), &err);
    if (p->config.frame_delay_ms) {
        ends[0] = fault_link_wrap(&ends[0], 1);
        fault_link_add(ends[0], (struct fault_rule){.direction = FAULT_SEND,
                                                    .kind = FAULT_DELAY,
                                                    .at_frame = 1,
                                                    .delay_ms = p->config.frame_delay_ms});
    }
    if (fault)
        protocol_fault_wrap(fault, &ends[fault->primary_side ? 0 : 1]);
    const unsigned before = p->protections;
    require(standby_follow(p->standby, ends[1], TERM, &err), &err);
    require(engine_protect(p->engine, ends[0], TERM, p->config.staging,
                           SESSION_CAP_ENCODED | SESSION_CAP_RELATIVE_STATE, &err),
            &err);
    if (!fault)
        wait_protected(p, before + 1);
}

void failover_pair_kill_primary(struct failover_pair *pair)
{
    engine_fence(pair->engine);
    engine_destroy(&pair->engine);
    side_destroy(&pair->primary);
}

void failover_pair_settle(struct failover_pair *pair)
{
    engine_stop_guest(pair->engine);
    /* A write that was under way goes on, into the image and then into the log. */
    struct disk_store_stats stats = {0};
    const nsec_t deadline = clock_now() + PROTECTED_MAX;
    do {
        CU_ASSERT_EQUAL_FATAL(engine_flush(pair->engine, deadline), 0);
        if (pair->primary.store)
            failover_pair_disk_stats(pair, &stats);
    } while (stats.log.used_bytes > 0 && clock_now() < deadline);
    CU_ASSERT_EQUAL(stats.log.used_bytes, 0);
    const struct checkpoint_disks disks = kvm_machine_ops(pair->standby_side.machine).disks;
    struct error err = {0};
    if (disks.ops)
        require(disks.ops->finish(disks.context, &err), &err);
}

struct memory_disk *failover_pair_disk(struct failover_pair *pair)
{
    return pair->primary.disk;
}

struct memory_disk *failover_pair_standby_disk(struct failover_pair *pair)
{
    return pair->standby_side.disk;
}

void failover_pair_engine_stats(struct failover_pair *pair, struct engine_stats *out)
{
    engine_snapshot(pair->engine, out);
}

void failover_pair_standby_stats(struct failover_pair *pair, struct standby_stats *out)
{
    standby_snapshot(pair->standby, out);
}

void failover_pair_disk_stats(struct failover_pair *pair, struct disk_store_stats *out)
{
    disk_store_snapshot(pair->primary.store, out);
}

void failover_pair_promote(struct failover_pair *pair, struct standby_takeover *takeover)
{
    struct error err = {0};
    require(standby_promote(pair->standby, takeover, &err), &err);
    standby_destroy(&pair->standby);
    pair->primary = pair->standby_side;
    pair->standby_side = (struct side){0};
    const struct checkpoint_machine machine = kvm_machine_ops(pair->primary.machine);
    start_engine(pair, takeover->epoch + 1, true);
    machine.ops->announce(machine.context);
}
