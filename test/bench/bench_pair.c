#include "test/bench/bench_pair.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "app/kvm_machine.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/histogram.h"
#include "secondary/standby.h"
#include "transport/inproc.h"
#include "transport/transport.h"
#include "transport/session.h"

#define OUTBOX_CAP ((size_t)16 << 20)
#define TERM       1
#define WAIT_S     60

/* One side's machine and its ways out: the guest's end of the wire, and a pipe for the console. */
struct side {
    struct kvm_machine *machine;
    struct slab *slab;
    int network; /* guest's end */
    int wire;    /* our end */
    int console[2];
};

struct bench_pair {
    struct side sides[2];
    struct engine *engine;
    struct standby *standby;
    uint8_t *copy_target;

    pthread_mutex_t lock; /* protects all below */
    pthread_cond_t changed;
    bool is_protected;
};

void bench_die(const char *what, const struct error *err)
{
    fprintf(stderr, "bench: %s: %s\n", what, err ? err->text : strerror(errno));
    exit(1);
}

static void on_machine_event(void *context, enum machine_event event, const char *detail)
{
    (void)context;
    fprintf(stderr, "bench: the guest ended (event %d): %s\n", event, detail ? detail : "");
    exit(1);
}

static int open_network(void *context, unsigned index, struct error *err)
{
    const struct side *side = context;
    (void)index;
    (void)err;
    return dup(side->network);
}

static void on_engine_event(void *context, enum engine_event event, const struct error *why)
{
    struct bench_pair *pair = context;
    if (event != ENGINE_EVENT_PROTECTED)
        bench_die("the link was lost", why);
    pthread_mutex_lock(&pair->lock);
    pair->is_protected = true;
    pthread_cond_broadcast(&pair->changed);
    pthread_mutex_unlock(&pair->lock);
}

static void on_standby_event(void *context, enum standby_event event, const struct error *why)
{
    (void)context;
    if (event == STANDBY_EVENT_BROKEN)
        bench_die("the standby", why);
}

static void side_create(struct side *side, const struct bench_pair_config *config)
{
    char kernel[512];
    snprintf(kernel, sizeof(kernel), "%s/%s", KEMARI_GUEST_DIR, config->program);
    int wire[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, wire) < 0 ||
        pipe(side->console) < 0)
        bench_die("socket pair", NULL);
    side->network = wire[0];
    side->wire = wire[1];
    const struct kvm_machine_config machine = {
        .machine = {.boot = {.kernel = kernel, .command_line = config->arguments},
                    .vcpus = config->vcpus,
                    .net_count = strcmp(config->program, "echo") == 0,
                    .nets = {{.mac = {0x52, 0x54, 0x00, 0x4b, 0x45, 0x01}}}},
        .memory = {.size = config->memory},
        .outlet = {.open_network = open_network, .console_fd = side->console[1], .context = side},
        .event = on_machine_event,
        .context = side,
    };
    struct error err = {0};
    if (kvm_machine_create(&machine, &side->machine, &err) < 0 ||
        slab_create(BENCH_STAGING, &side->slab, &err) < 0)
        bench_die("machine", &err);
}

static void side_destroy(struct side *side)
{
    kvm_machine_destroy(&side->machine);
    slab_destroy(&side->slab);
    fd_close(&side->network);
    fd_close(&side->wire);
    fd_close(&side->console[0]);
    fd_close(&side->console[1]);
}

/* Reads the console until the guest has said "ready". */
static void wait_ready(const struct side *side)
{
    char text[4096] = "";
    size_t used = 0;
    while (!strstr(text, "ready") && used < sizeof(text) - 1) {
        const ssize_t n = read(side->console[0], text + used, sizeof(text) - 1 - used);
        if (n <= 0)
            bench_die("console", NULL);
        used += (size_t)n;
        text[used] = '\0';
    }
}

struct policy bench_pair_policy(enum policy_kind kind)
{
    return (struct policy){.kind = kind,
                           .interval = MSEC(10),
                           .max_interval = SEC(1), /* longer than a round of the guest */
                           .window = 2,
                           .dirty_budget = 1u << 20,
                           .staging_cap = SLAB_SIZE_MAX};
}

struct bench_pair *bench_pair_create(const struct bench_pair_config *config)
{
    struct bench_pair *pair = calloc(1, sizeof(*pair));
    if (!pair)
        bench_die("pair", NULL);
    pthread_mutex_init(&pair->lock, NULL);
    pthread_cond_init(&pair->changed, NULL);
    for (int i = 0; i < 2; i++)
        side_create(&pair->sides[i], config);
    const struct engine_config engine = {
        .machine = kvm_machine_ops(pair->sides[0].machine),
        .slab = pair->sides[0].slab,
        .outbox_cap = OUTBOX_CAP,
        .policy = bench_pair_policy(POLICY_PIPELINED),
        .first_epoch = 1,
        .open = true,
        .event = on_engine_event,
        .context = pair,
    };
    const struct standby_config standby = {
        .machine = kvm_machine_ops(pair->sides[1].machine),
        .slab = pair->sides[1].slab,
        .event = on_standby_event,
        .context = pair,
    };
    struct error err = {0};
    if (engine_create(&engine, &pair->engine, &err) < 0 ||
        standby_create(&standby, &pair->standby, &err) < 0 ||
        kvm_machine_boot(pair->sides[0].machine, &err) < 0 ||
        engine.machine.ops->output_open(engine.machine.context, &err) < 0)
        bench_die("pair", &err);
    engine_start_guest(pair->engine);
    wait_ready(&pair->sides[0]);
    return pair;
}

void bench_pair_destroy(struct bench_pair **pair)
{
    struct bench_pair *p = *pair;
    engine_destroy(&p->engine);
    standby_destroy(&p->standby);
    for (int i = 0; i < 2; i++)
        side_destroy(&p->sides[i]);
    if (p->copy_target)
        munmap(p->copy_target, BENCH_STAGING);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p);
    *pair = NULL;
}

static void connect_links(bool tcp, struct link *ends[2])
{
    struct error err = {0};
    struct listener *listener = NULL;
    if (!tcp) {
        if (inproc_pair("bench", ends, &err) < 0)
            bench_die("link", &err);
    } else if (transport_listen("tcp://127.0.0.1:0", NULL, &listener, &err) < 0 ||
               transport_connect(listener_uri(listener), NULL, 1000, -1, &ends[0], &err) < 0 ||
               listener_accept(listener, 1000, &ends[1], &err) < 0) {
        bench_die("link", &err);
    }
    listener_destroy(&listener);
}

void bench_pair_follow_policy(struct bench_pair *pair, bool tcp, const struct policy *policy)
{
    engine_set_policy(pair->engine, policy);
    if (pair->is_protected)
        return;
    struct link *ends[2];
    connect_links(tcp, ends);
    struct error err = {0};
    if (standby_follow(pair->standby, ends[1], TERM, &err) < 0 ||
        engine_protect(pair->engine, ends[0], TERM, BENCH_STAGING,
                       SESSION_CAP_ENCODED | SESSION_CAP_RELATIVE_STATE, &err) < 0)
        bench_die("protect", &err);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    int rc = 0;
    pthread_mutex_lock(&pair->lock);
    while (!pair->is_protected && rc == 0)
        rc = pthread_cond_timedwait(&pair->changed, &pair->lock, &until);
    pthread_mutex_unlock(&pair->lock);
    errno = rc;
    if (rc)
        bench_die("first synchronisation", NULL);
}

struct engine *bench_pair_engine(struct bench_pair *pair)
{
    return pair->engine;
}

struct gmem *bench_pair_memory(struct bench_pair *pair)
{
    const struct checkpoint_machine machine = kvm_machine_ops(pair->sides[0].machine);
    return machine.ops->memory(machine.context);
}

int bench_pair_wire(const struct bench_pair *pair)
{
    return pair->sides[0].wire;
}

void bench_pair_time_memcpy(struct bench_pair *pair, gfn_t first, size_t stride, size_t pages,
                            struct histogram *times)
{
    struct gmem *memory = bench_pair_memory(pair);
    if (!pair->copy_target)
        pair->copy_target = mmap(NULL, BENCH_STAGING, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (pair->copy_target == MAP_FAILED)
        bench_die("memory", NULL);
    const nsec_t start = clock_now();
    for (size_t i = 0; i < pages; i++)
        memcpy(pair->copy_target + i * PAGE_SIZE, gmem_page(memory, first + i * stride), PAGE_SIZE);
    histogram_add(times, clock_now() - start);
}
