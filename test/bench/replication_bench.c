/* What protection costs: pause, hold, commit, round trip and bytes, for dirty sets, vCPUs,
 * policies, links and memory sizes.
 *
 * Every number has its reference from the same run beside it: round trips of the same guest before
 * it was protected, and a plain memcpy of as many of its pages. Rows as in bench_csv.h, to the file
 * named on the command line.
 *
 * The load is the echo guest, which dirties `dirty` pages for each request: output and dirt come
 * together, so every reply costs one cut. It polls, so it always occupies one processor. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/prompt.h"
#include "test/bench/bench_client.h"
#include "test/bench/bench_csv.h"
#include "test/bench/bench_pair.h"

#define GIB ((uint64_t)1 << 30)

/* Where and how far apart the echo guest stamps pages: every second one, as no memcpy likes. */
#define AREA_BASE   ((uint64_t)16 << 20)
#define AREA_STRIDE 2

/* A run is cut into so many blocks, with a look at the reference after each: what changes on the
 * host meanwhile hits both. */
#define BLOCKS 20

static FILE *csv;
static bool quick;
static unsigned round_trips = 2000;
static nsec_t time_limit = SEC(5);

/* One guest: unprotected first, then protected. */
struct measured {
    struct bench_case c;
    struct bench_pair *pair;
    struct echo_client client;
};

static void say(const struct bench_case *c)
{
    fprintf(stderr, "bench: %s: %s, %s, %u vCPU, %llu MiB, %llu pages\n", c->scenario, c->link,
            c->policy, c->vcpus, (unsigned long long)(c->memory >> 20),
            (unsigned long long)c->dirty);
}

static struct histogram *empty_histogram(void)
{
    struct histogram *h = calloc(1, sizeof(*h));
    if (!h)
        bench_die("memory", NULL);
    return h;
}

static void run_client(struct measured *m, struct histogram *copies)
{
    struct histogram *times = empty_histogram();
    for (unsigned block = 0; block < BLOCKS; block++) {
        bench_client_run(&m->client, bench_pair_wire(m->pair), round_trips / BLOCKS,
                         time_limit / BLOCKS, times);
        if (copies)
            bench_pair_time_memcpy(m->pair, AREA_BASE >> PAGE_SHIFT, AREA_STRIDE, m->c.dirty,
                                   copies);
    }
    bench_csv_histogram(csv, &m->c, "round_trip", "ns", times);
    free(times);
}

static void measure_alone(struct measured *m)
{
    struct bench_case reference = m->c;
    m->c.link = "none";
    m->c.policy = "none";
    bench_client_run(&m->client, bench_pair_wire(m->pair), 20, time_limit, NULL);
    run_client(m, NULL);
    m->c = reference;
}

static void report_engine(const struct measured *m, const struct engine_stats *before)
{
    struct engine_stats *now = malloc(sizeof(*now));
    struct outbox_stats *outbox = malloc(sizeof(*outbox));
    if (!now || !outbox)
        bench_die("memory", NULL);
    engine_snapshot(bench_pair_engine(m->pair), now);
    outbox_snapshot(engine_outbox(bench_pair_engine(m->pair)), outbox);
    bench_csv_histogram(csv, &m->c, "pause", "ns", &now->pause);
    bench_csv_histogram(csv, &m->c, "commit", "ns", &now->commit);
    bench_csv_histogram(csv, &m->c, "hold", "ns", &outbox->hold);
    bench_csv_histogram(csv, &m->c, "epoch_pages", "pages", &now->dirty);
    const double pages = (double)(now->pages_sent - before->pages_sent);
    const double bytes = (double)(now->bytes_sent - before->bytes_sent);
    const double epochs = (double)(now->epochs_committed - before->epochs_committed);
    bench_csv_value(csv, &m->c, "bytes_per_epoch", "bytes", epochs > 0 ? bytes / epochs : 0);
    bench_csv_value(csv, &m->c, "bytes_per_dirty_byte", "ratio",
                    pages > 0 ? bytes / (pages * (double)PAGE_SIZE) : 0);
    free(outbox);
    free(now);
}

static void measure_protected(struct measured *m)
{
    say(&m->c);
    struct engine *engine = bench_pair_engine(m->pair);
    bench_client_run(&m->client, bench_pair_wire(m->pair), 20, time_limit, NULL);
    struct engine_stats *before = malloc(sizeof(*before));
    if (!before)
        bench_die("memory", NULL);
    engine_snapshot(engine, before);
    engine_reset_histograms(engine);
    struct histogram *copies = empty_histogram();
    run_client(m, copies);
    report_engine(m, before);
    bench_csv_histogram(csv, &m->c, "memcpy", "ns", copies);
    free(copies);
    free(before);
}

static void start(struct measured *m)
{
    char arguments[128];
    snprintf(arguments, sizeof(arguments), "dirty=%llu base=%llu stride=%llu",
             (unsigned long long)m->c.dirty, (unsigned long long)AREA_BASE,
             (unsigned long long)(AREA_STRIDE * PAGE_SIZE));
    const struct bench_pair_config config = {
        .program = "echo", .arguments = arguments, .memory = m->c.memory, .vcpus = m->c.vcpus};
    m->pair = bench_pair_create(&config);
}

/* Unprotected and under each of the policies in turn, on one guest. */
static void measure(const struct bench_case *c, unsigned policies)
{
    struct measured m = {.c = *c};
    start(&m);
    measure_alone(&m);
    for (int kind = POLICY_PIPELINED; kind <= POLICY_INTERVAL; kind++) {
        if (!(policies & 1u << kind))
            continue;
        const struct policy policy = bench_pair_policy((enum policy_kind)kind);
        m.c.policy = policy_kind_name(policy.kind);
        bench_pair_follow_policy(m.pair, strcmp(c->link, "tcp") == 0, &policy);
        measure_protected(&m);
    }
    bench_pair_destroy(&m.pair);
}

static void measure_load(void)
{
    static const uint64_t dirty[] = {1, 256, 2000, 10000};
    for (unsigned vcpus = 1; vcpus <= 4; vcpus += 3)
        for (size_t i = 0; i < ARRAY_SIZE(dirty); i++)
            measure(&(struct bench_case){"load", "tcp", "", vcpus, GIB / 4, dirty[i]},
                    1u << POLICY_PIPELINED);
}

static void measure_policies(void)
{
    measure(&(struct bench_case){"policies", "tcp", "", 1, GIB / 4, 256}, 7);
    measure(&(struct bench_case){"policies", "inproc", "", 1, GIB / 4, 256}, 7);
}

/* What the host can give without swapping, bytes. */
static uint64_t available_memory(void)
{
    unsigned long long kib = 0;
    char line[128];
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return kib << 10;
}

/* Both machines touch all of their memory in the first synchronisation. */
static void measure_growth(void)
{
    static const uint64_t sizes[] = {GIB, 4 * GIB, 8 * GIB, 16 * GIB};
    for (size_t i = 0; i < (quick ? 1 : ARRAY_SIZE(sizes)); i++)
        if (2 * sizes[i] + 2 * GIB < available_memory())
            measure(&(struct bench_case){"growth", "tcp", "", 1, sizes[i], 256},
                    1u << POLICY_PIPELINED);
        else
            fprintf(stderr, "bench: not enough free memory for two machines of %llu GiB\n",
                    (unsigned long long)(sizes[i] / GIB));
}

static const struct scenario {
    const char *name;
    void (*run)(void);
} scenarios[] = {
    {"load", measure_load}, {"policies", measure_policies}, {"growth", measure_growth}};

static int usage(void)
{
    fprintf(stderr, "usage: bench-replication [--quick] [--only load|policies|growth] FILE.csv\n");
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"quick", no_argument, NULL, 'q'}, {"only", required_argument, NULL, 'o'}, {0}};
    const char *only = NULL;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == '?')
            return usage();
        if (option == 'o')
            only = optarg;
        else
            quick = true;
    }
    if (optind != argc - 1)
        return usage();
    csv = fopen(argv[optind], "w");
    if (!csv)
        bench_die(argv[optind], NULL);
    log_set_level(LOG_LEVEL_ERROR);
    /* As the threads it measures: the reference must not be of another class. */
    prompt_thread("bench");
    if (quick) {
        round_trips = 200;
        time_limit = SEC(1);
    }
    bench_csv_header(csv);
    for (size_t i = 0; i < ARRAY_SIZE(scenarios); i++)
        if (!only || strcmp(only, scenarios[i].name) == 0)
            scenarios[i].run();
    return fclose(csv) == 0 ? 0 : 1;
}
