/* Boots a kernel in our machine, serial console on stdout, until the guest powers off.
 *
 *   boot-linux --kernel FILE [--initrd FILE] [--append TEXT] [--vcpus N] [--memory MIB]
 *              [--disk FILE] [--tap NAME] [--virtio-console] [--rng] [--timeout SECONDS]
 *              [--checkpoint-every MS] [--move-every MS]
 *
 * --checkpoint-every parks, saves and resumes; --move-every also carries the guest over into a new
 * machine (state through its encoded form, the same memory), which must go on where the old one was
 * stopped. Prints what it did on stderr.
 *
 * Exit status: 0 power-off, 1 wrong use or environment, 2 the guest failed, 3 time-out. */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "app/blk_volume.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/histogram.h"
#include "vmm/machine.h"
#include "vmm/tap.h"

struct options {
    struct machine_config machine;
    uint64_t memory_mib;
    const char *disks[MACHINE_DISKS_MAX]; /* images */
    struct disk_volume *volumes[MACHINE_DISKS_MAX];
    const char *tap;
    nsec_t timeout;
    nsec_t checkpoint_every;
    nsec_t move_every;
};

/* What the machine threads tell the main thread. */
struct runner {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool powered_off, failed; /* protected by lock */
    unsigned resets;          /* protected by lock */
    int tap;                  /* -1: frames are dropped */
};

static void on_network(void *context, unsigned index, const struct iovec *parts, int count)
{
    (void)index;
    const struct runner *r = context;
    if (r->tap >= 0 && writev(r->tap, parts, count) < 0 && errno != EAGAIN)
        fprintf(stderr, "boot-linux: tap: %s\n", strerror(errno));
}

static void on_console(void *context, enum machine_console which, const uint8_t *data, size_t size)
{
    (void)context;
    (void)which;
    fd_write_all(STDOUT_FILENO, data, size);
}

static void on_event(void *context, enum machine_event event, const char *detail)
{
    struct runner *r = context;
    static const char *const names[] = {"reset", "power-off", "failed", "panicked", "crash-loaded"};
    fprintf(stderr, "boot-linux: event %s%s%s\n", names[event], detail ? ": " : "",
            detail ? detail : "");
    pthread_mutex_lock(&r->lock);
    r->powered_off |= event == MACHINE_EVENT_POWER_OFF;
    r->failed |= event == MACHINE_EVENT_FAILED;
    r->resets += event == MACHINE_EVENT_RESET;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static const struct machine_output_ops output = {
    .network = on_network, .console = on_console, .event = on_event};

/* Waits for an end of the guest until `deadline`; true when it came. */
static bool wait_for_end(struct runner *r, nsec_t deadline)
{
    const struct timespec until = clock_to_timespec(deadline);
    pthread_mutex_lock(&r->lock);
    int rc = 0;
    while (!r->powered_off && !r->failed && rc == 0)
        rc = pthread_cond_timedwait(&r->changed, &r->lock, &until);
    const bool ended = r->powered_off || r->failed;
    pthread_mutex_unlock(&r->lock);
    return ended;
}

static int create(const struct options *o, const struct runner *r, struct machine **out,
                  struct error *err)
{
    int rc = machine_create(&o->machine, out, err);
    if (rc == 0 && r->tap >= 0)
        rc = machine_net_attach(*out, 0, r->tap, err);
    return rc;
}

/* Sends the state through its bytes, as a checkpoint does. */
static int recode(struct section_set *set, struct error *err)
{
    const size_t size = section_set_encoded_size(set);
    uint8_t *bytes = malloc(size);
    if (!bytes)
        return error_set(err, -ENOMEM, "out of memory");
    int rc = section_set_encode(set, bytes, size);
    if (rc >= 0)
        rc = section_set_decode(set, bytes, size, err);
    free(bytes);
    return rc;
}

static int move(const struct options *o, const struct runner *r, struct machine **machine,
                struct section_set *set, struct error *err)
{
    const nsec_t taken = clock_now();
    struct machine *next = NULL;
    if (r->tap >= 0)
        machine_net_attach(*machine, 0, -1, NULL);
    int rc = recode(set, err);
    if (rc == 0)
        rc = create(o, r, &next, err);
    if (rc == 0)
        rc = machine_check(next, set, err);
    if (rc == 0)
        rc = machine_load(next, set, clock_now() - taken, err);
    if (rc < 0) {
        machine_destroy(&next);
        return rc;
    }
    machine_destroy(machine);
    *machine = next;
    return 0;
}

struct statistics {
    struct histogram park, save;
};

static int checkpoint(const struct options *o, const struct runner *r, struct machine **machine,
                      struct section_set *set, struct statistics *s, struct error *err)
{
    const nsec_t start = clock_now();
    machine_park(*machine);
    const nsec_t parked = clock_now();
    section_set_reset(set);
    int rc = machine_save(*machine, set, err);
    histogram_add(&s->park, parked - start);
    histogram_add(&s->save, clock_now() - parked);
    if (rc == 0 && o->move_every)
        rc = move(o, r, machine, set, err);
    machine_resume(*machine);
    return rc;
}

static void report(const struct statistics *s)
{
    fprintf(stderr,
            "boot-linux: %llu checkpoints, park p50 %lld us p99 %lld us, save p50 %lld us p99 %lld "
            "us\n",
            (unsigned long long)s->park.count,
            (long long)histogram_percentile(&s->park, 0.5) / 1000,
            (long long)histogram_percentile(&s->park, 0.99) / 1000,
            (long long)histogram_percentile(&s->save, 0.5) / 1000,
            (long long)histogram_percentile(&s->save, 0.99) / 1000);
}

static int run(const struct options *o, struct runner *r, struct machine **machine,
               struct error *err)
{
    struct section_set *set = section_set_create();
    struct statistics *s = calloc(1, sizeof(*s));
    const nsec_t end = clock_now() + o->timeout;
    const nsec_t period = o->move_every ? o->move_every : o->checkpoint_every;
    int rc = set && s ? machine_boot(*machine, err) : error_set(err, -ENOMEM, "out of memory");
    if (rc == 0)
        machine_resume(*machine);
    while (rc == 0) {
        const nsec_t next = period && clock_now() + period < end ? clock_now() + period : end;
        if (wait_for_end(r, next) || next == end)
            break;
        rc = checkpoint(o, r, machine, set, s, err);
    }
    if (s && s->park.count)
        report(s);
    free(s);
    section_set_destroy(&set);
    return rc;
}

enum {
    OPT_KERNEL,
    OPT_INITRD,
    OPT_APPEND,
    OPT_VCPUS,
    OPT_MEMORY,
    OPT_DISK,
    OPT_TAP,
    OPT_CONSOLE,
    OPT_RNG,
    OPT_TIMEOUT,
    OPT_CHECKPOINT,
    OPT_MOVE
};

static const struct option long_options[] = {
    {"kernel", required_argument, NULL, OPT_KERNEL},
    {"initrd", required_argument, NULL, OPT_INITRD},
    {"append", required_argument, NULL, OPT_APPEND},
    {"vcpus", required_argument, NULL, OPT_VCPUS},
    {"memory", required_argument, NULL, OPT_MEMORY},
    {"disk", required_argument, NULL, OPT_DISK},
    {"tap", required_argument, NULL, OPT_TAP},
    {"virtio-console", no_argument, NULL, OPT_CONSOLE},
    {"rng", no_argument, NULL, OPT_RNG},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"checkpoint-every", required_argument, NULL, OPT_CHECKPOINT},
    {"move-every", required_argument, NULL, OPT_MOVE},
    {0},
};

static bool parse_option(struct options *o, int which, char *value)
{
    struct machine_config *m = &o->machine;
    switch (which) {
    case OPT_KERNEL:
        m->boot.kernel = value;
        return true;
    case OPT_INITRD:
        m->boot.initrd = value;
        return true;
    case OPT_APPEND:
        m->boot.command_line = value;
        return true;
    case OPT_VCPUS:
        m->vcpus = (unsigned)strtoul(value, NULL, 10);
        return true;
    case OPT_MEMORY:
        o->memory_mib = strtoull(value, NULL, 10);
        return true;
    case OPT_DISK:
        o->disks[m->disk_count++] = value;
        return m->disk_count < MACHINE_DISKS_MAX;
    case OPT_TAP:
        o->tap = value;
        return true;
    case OPT_CONSOLE:
        m->virtio_console = true;
        return true;
    case OPT_RNG:
        m->rng = true;
        return true;
    case OPT_TIMEOUT:
        o->timeout = SEC(strtoul(value, NULL, 10));
        return true;
    case OPT_CHECKPOINT:
        o->checkpoint_every = MSEC(strtoul(value, NULL, 10));
        return true;
    case OPT_MOVE:
        o->move_every = MSEC(strtoul(value, NULL, 10));
        return true;
    default:
        return false;
    }
}

static bool parse(int argc, char **argv, struct options *o)
{
    *o = (struct options){.memory_mib = 512, .timeout = SEC(300)};
    o->machine.vcpus = 1;
    o->machine.net_count = 1;
    o->machine.nets[0] = (struct machine_net_config){{0x52, 0x54, 0, 0x4b, 0x45, 1}};
    for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;)
        if (!parse_option(o, c, optarg))
            return false;
    return optind == argc && o->machine.boot.kernel;
}

static int open_disks(struct options *o, struct error *err)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < o->machine.disk_count; i++) {
        const struct disk_image_config config = {.path = o->disks[i]};
        struct disk_volume_config volume = {.index = i};
        rc = disk_image_open(&config, &volume.image, err);
        if (rc == 0)
            rc = disk_volume_create(&volume, &o->volumes[i], err);
        if (rc == 0)
            o->machine.disks[i] = blk_volume_backend(o->volumes[i]);
    }
    return rc;
}

static int execute(struct options *o, struct runner *r, struct error *err)
{
    struct gmem *memory = NULL;
    struct machine *machine = NULL;
    const struct gmem_config config = {.size = o->memory_mib << 20};
    int rc = open_disks(o, err);
    if (rc == 0)
        rc = gmem_create(&config, &memory, err);
    if (rc == 0 && o->tap)
        rc = r->tap = tap_open(o->tap, err);
    o->machine.memory = memory;
    if (rc >= 0)
        rc = create(o, r, &machine, err);
    if (rc == 0)
        rc = run(o, r, &machine, err);
    machine_destroy(&machine);
    gmem_destroy(&memory);
    for (unsigned i = 0; i < o->machine.disk_count; i++)
        disk_volume_destroy(&o->volumes[i]);
    fd_close(&r->tap);
    return rc;
}

int main(int argc, char **argv)
{
    struct options o;
    if (!parse(argc, argv, &o)) {
        fprintf(stderr, "boot-linux: wrong arguments, see test/kvm/boot_linux.c\n");
        return 1;
    }
    struct runner r = {.lock = PTHREAD_MUTEX_INITIALIZER, .tap = -1};
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&r.changed, &monotonic);
    o.machine.output = &output;
    o.machine.output_context = &r;
    struct error err = {0};
    if (execute(&o, &r, &err) < 0) {
        fprintf(stderr, "boot-linux: %s\n", err.text);
        return 1;
    }
    if (r.failed)
        return 2;
    if (!r.powered_off)
        fprintf(stderr, "boot-linux: time is up\n");
    return r.powered_off ? 0 : 3;
}
