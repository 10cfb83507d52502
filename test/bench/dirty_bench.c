/* usage: bench-dirty [MIB...]
 *
 * What it costs to ask which pages another process has written, by size of the memory, number of
 * pages written and number of threads that ask, for each log that this kernel has: median of RUNS,
 * in microseconds. The process has written all of its memory once, and then before each asking so
 * many pages, spread evenly; beside it what such a write costs that process, since a page that was
 * told is protected again. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "dirtylog/process_log.h"
#include "dirtylog/sweep.h"
#include "dirtylog/tracker_wire.h"

#define RUNS 41
#define MIB  ((uint64_t)1 << 20)

static const uint64_t written[] = {0, 100, 2000, 20000};

struct writer {
    pid_t pid;
    int orders, answers; /* a number of pages to write; nanoseconds that it took */
};

static void die(const char *what, const struct error *err)
{
    fprintf(stderr, "bench-dirty: %s: %s\n", what, err ? err->text : strerror(errno));
    exit(1);
}

/* As the tracker library does in QEMU. */
static void track(void *memory, uint64_t size)
{
    struct uffdio_api api = {.api = UFFD_API, .features = TRACKER_FEATURES};
    struct uffdio_register range = {.range = {(uintptr_t)memory, size},
                                    .mode = UFFDIO_REGISTER_MODE_WP};
    const int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0 || ioctl(fd, UFFDIO_REGISTER, &range) < 0)
        die("userfaultfd", NULL);
}

static void write_pages(uint8_t *memory, uint64_t size, uint64_t count)
{
    const uint64_t step = count ? (size >> PAGE_SHIFT) / count : 0;
    for (uint64_t i = 0; i < count; i++)
        __atomic_fetch_add(memory + ((i * step) << PAGE_SHIFT), 1, __ATOMIC_RELAXED);
}

static void writer_main(const struct gmem *guest, enum process_log log, int orders, int answers)
{
    const uint64_t size = gmem_size(guest);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* What the parent has mapped would be the same memory twice. */
    for (size_t i = 0; i < gmem_slot_count(guest); i++)
        munmap(gmem_slot_at(guest, i)->host, gmem_slot_at(guest, i)->size);
    uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, gmem_fd(guest), 0);
    if (memory == MAP_FAILED)
        die("mmap", NULL);
    if (log == PROCESS_LOG_PAGEMAP)
        track(memory, size);
    uint64_t count = size >> PAGE_SHIFT;
    do {
        const nsec_t begin = clock_now();
        write_pages(memory, size, count);
        const nsec_t took = clock_now() - begin;
        if (write(answers, &took, sizeof(took)) != sizeof(took))
            _exit(1);
    } while (read(orders, &count, sizeof(count)) == sizeof(count));
    _exit(0);
}

static nsec_t wait_written(const struct writer *writer)
{
    nsec_t took;
    if (read(writer->answers, &took, sizeof(took)) != sizeof(took))
        die("the writing process", NULL);
    return took;
}

static struct writer start_writer(const struct gmem *guest, enum process_log log)
{
    int orders[2], answers[2];
    struct writer writer;
    if (pipe2(orders, O_CLOEXEC) < 0 || pipe2(answers, O_CLOEXEC) < 0)
        die("pipe", NULL);
    writer.pid = fork();
    if (writer.pid < 0)
        die("fork", NULL);
    if (writer.pid == 0) {
        close(orders[1]);
        writer_main(guest, log, orders[0], answers[1]);
    }
    close(orders[0]);
    close(answers[1]);
    writer.orders = orders[1];
    writer.answers = answers[0];
    wait_written(&writer);
    return writer;
}

static int compare(const void *a, const void *b)
{
    const nsec_t x = *(const nsec_t *)a, y = *(const nsec_t *)b;
    return x < y ? -1 : x > y;
}

static double median_us(nsec_t *times)
{
    qsort(times, RUNS, sizeof(*times), compare);
    return (double)times[RUNS / 2] / 1e3;
}

static void measure(const struct writer *writer, struct dirtylog *log, struct dirty_set *set,
                    uint64_t pages, double *collect_us, double *write_us)
{
    nsec_t collects[RUNS], writes[RUNS];
    struct error err = {0};
    for (unsigned i = 0; i < RUNS; i++) {
        if (write(writer->orders, &pages, sizeof(pages)) != sizeof(pages))
            die("the writing process", NULL);
        writes[i] = wait_written(writer);
        dirty_set_clear(set);
        const nsec_t begin = clock_now();
        if (dirtylog_collect(log, set, &err) < 0)
            die("collect", &err);
        collects[i] = clock_now() - begin;
        if (dirty_set_count(set) != pages)
            die("the log has another number of pages than were written", &err);
    }
    *collect_us = median_us(collects);
    *write_us = median_us(writes);
}

static void measure_size(enum process_log how, uint64_t size)
{
    struct gmem *guest = NULL;
    struct dirty_set set;
    struct error err = {0};
    if (gmem_create(&(struct gmem_config){.size = size}, &guest, &err) < 0)
        die("memory", &err);
    if (dirty_set_init(&set, gmem_page_count(guest)) < 0)
        die("memory", NULL);
    const struct writer writer = start_writer(guest, how);
    for (unsigned workers = 1; workers <= SWEEP_WORKERS_MAX; workers *= 2) {
        struct dirtylog *log = NULL;
        const int rc = how == PROCESS_LOG_PAGEMAP
                           ? dirtylog_pagemap_create(writer.pid, guest, workers, &log, &err)
                           : dirtylog_softdirty_create(writer.pid, guest, workers, &log, &err);
        if (rc < 0 || dirtylog_start(log, &err) < 0 || dirtylog_collect(log, &set, &err) < 0)
            die("log", &err);
        printf("%-10s %6llu %8u", process_log_name(how), (unsigned long long)(size / MIB), workers);
        for (size_t i = 0; i < ARRAY_SIZE(written); i++) {
            double collect_us, write_us;
            measure(&writer, log, &set, written[i], &collect_us, &write_us);
            printf(" %8.0f", collect_us);
            if (written[i])
                printf(" (%4.2f)", write_us / (double)written[i]);
        }
        printf("\n");
        fflush(stdout);
        dirtylog_destroy(&log);
    }
    kill(writer.pid, SIGKILL);
    waitpid(writer.pid, NULL, 0);
    close(writer.orders);
    close(writer.answers);
    dirty_set_free(&set);
    gmem_destroy(&guest);
}

int main(int argc, char **argv)
{
    static const uint64_t usual[] = {256, 512, 1024, 2048, 4096};
    printf("log           MiB  threads  0 pages  100 pages       2000 pages      20000 pages, us "
           "(us of a write)\n");
    for (enum process_log how = PROCESS_LOG_PAGEMAP; how <= PROCESS_LOG_SOFTDIRTY; how++) {
        enum process_log chosen;
        struct error err = {0};
        if (process_log_choose(how, &chosen, &err) < 0) {
            printf("%s is left out: %s\n", process_log_name(how), err.text);
            continue;
        }
        for (int i = 1; i < argc; i++)
            measure_size(how, strtoull(argv[i], NULL, 10) * MIB);
        for (size_t i = 0; argc == 1 && i < ARRAY_SIZE(usual); i++)
            measure_size(how, usual[i] * MIB);
    }
    return 0;
}
