/* What another process writes to guest memory is in the dirty log, every page of it, and little
 * else: a second memory that only ever gets the dirty pages stays equal, byte by byte. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "dirtylog/dirtylog.h"
#include "dirtylog/tracker.h"
#include "dirtylog/tracker_wire.h"
#include "test/support/runner.h"

#define MEMORY ((uint64_t)64 << 20)
#define EPOCHS 60
#define WRITES 500 /* that an epoch has at least */

struct tracked {
    struct gmem *memory;
    pid_t pid;
    struct dirtylog *log;
    struct dirty_set dirty;
    uint8_t *copy;
    uint64_t copied; /* pages, after the first epoch */
};

static void require(int rc, const struct error *err)
{
    if (rc)
        printf("%s\n", err->text);
    CU_ASSERT_EQUAL_FATAL(rc, 0);
}

static pid_t start_scribbler(const struct gmem *memory, bool with_library)
{
    struct error err = {0};
    int library = tracker_open(&err);
    require(library < 0 ? library : 0, &err);
    const pid_t pid = fork();
    if (pid == 0) {
        char preload[TRACKER_TEXT_MAX], file[TRACKER_TEXT_MAX], fd[16], size[32];
        fcntl(library, F_SETFD, 0);
        fcntl(gmem_fd(memory), F_SETFD, 0);
        if (with_library && tracker_preload_text(library, preload) == 0 &&
            tracker_memory_text(gmem_fd(memory), file) == 0) {
            setenv("LD_PRELOAD", preload, 1);
            setenv(TRACKER_ENVIRONMENT, file, 1);
        }
        snprintf(fd, sizeof(fd), "%d", gmem_fd(memory));
        snprintf(size, sizeof(size), "%llu", (unsigned long long)gmem_size(memory));
        execl(KEMARI_SCRIBBLER, KEMARI_SCRIBBLER, fd, size, NULL);
        _exit(127);
    }
    fd_close(&library);
    CU_ASSERT_FATAL(pid > 0);
    return pid;
}

static uint64_t writes_of(const struct gmem *memory)
{
    return __atomic_load_n((uint64_t *)(void *)gmem_page(memory, 0), __ATOMIC_ACQUIRE);
}

static void wait_writes(struct tracked *t, uint64_t count)
{
    const uint64_t goal = writes_of(t->memory) + count;
    while (writes_of(t->memory) < goal) {
        CU_ASSERT_EQUAL_FATAL(waitpid(t->pid, NULL, WNOHANG), 0);
        usleep(100);
    }
}

static void stop(struct tracked *t)
{
    int status = 0;
    kill(t->pid, SIGSTOP);
    CU_ASSERT_EQUAL_FATAL(waitpid(t->pid, &status, WUNTRACED), t->pid);
    CU_ASSERT_TRUE_FATAL(WIFSTOPPED(status));
}

static void open_tracked(struct tracked *t)
{
    struct error err = {0};
    *t = (struct tracked){0};
    require(gmem_create(&(struct gmem_config){.size = MEMORY}, &t->memory, &err), &err);
    t->copy = malloc(MEMORY);
    CU_ASSERT_PTR_NOT_NULL_FATAL(t->copy);
    CU_ASSERT_EQUAL_FATAL(dirty_set_init(&t->dirty, gmem_page_count(t->memory)), 0);
    t->pid = start_scribbler(t->memory, true);
    wait_writes(t, 1);
    require(dirtylog_pagemap_create(t->pid, t->memory, &t->log, &err), &err);
    require(dirtylog_start(t->log, &err), &err);
    stop(t);
    memcpy(t->copy, gmem_page(t->memory, 0), MEMORY);
}

static void close_tracked(struct tracked *t)
{
    kill(t->pid, SIGKILL);
    waitpid(t->pid, NULL, 0);
    dirtylog_destroy(&t->log);
    dirty_set_free(&t->dirty);
    free(t->copy);
    gmem_destroy(&t->memory);
}

/* Stopped: the dirty pages and nothing else are copied, then all is compared. */
static void follow(struct tracked *t)
{
    struct error err = {0};
    require(dirtylog_collect(t->log, &t->dirty, &err), &err);
    for (uint64_t i = dirty_set_next(&t->dirty, 0); i < t->dirty.page_count;
         i = dirty_set_next(&t->dirty, i + 1)) {
        memcpy(t->copy + (i << PAGE_SHIFT), gmem_page(t->memory, i), PAGE_SIZE);
        t->copied++;
    }
    dirty_set_clear(&t->dirty);
    CU_ASSERT_EQUAL_FATAL(memcmp(t->copy, gmem_page(t->memory, 0), MEMORY), 0);
}

static void pages_written_by_another_process_are_in_the_log(void)
{
    struct tracked t;
    open_tracked(&t);
    follow(&t);
    t.copied = 0;
    const uint64_t before = writes_of(t.memory);
    for (unsigned epoch = 0; epoch < EPOCHS; epoch++) {
        kill(t.pid, SIGCONT);
        wait_writes(&t, WRITES);
        stop(&t);
        follow(&t);
    }
    CU_ASSERT(t.copied > EPOCHS);
    /* Each write dirties a page at most, and the counter's page is written in every epoch. */
    CU_ASSERT(t.copied <= writes_of(t.memory) - before + EPOCHS + 3);
    close_tracked(&t);
}

static void a_log_collected_while_the_process_runs_loses_nothing(void)
{
    struct tracked t;
    struct error err = {0};
    open_tracked(&t);
    for (unsigned epoch = 0; epoch < EPOCHS; epoch++) {
        kill(t.pid, SIGCONT);
        for (unsigned i = 0; i < 5; i++) {
            wait_writes(&t, WRITES / 5);
            require(dirtylog_collect(t.log, &t.dirty, &err), &err);
        }
        stop(&t);
        follow(&t);
    }
    close_tracked(&t);
}

static void our_own_writes_are_in_the_log(void)
{
    struct tracked t;
    struct error err = {0};
    open_tracked(&t);
    follow(&t);
    CU_ASSERT_EQUAL(gmem_write(t.memory, 5 * PAGE_SIZE + 7, "ours", 4), 0);
    require(dirtylog_collect(t.log, &t.dirty, &err), &err);
    CU_ASSERT_EQUAL(dirty_set_count(&t.dirty), 1);
    CU_ASSERT_TRUE(dirty_set_has(&t.dirty, 5));
    follow(&t);
    close_tracked(&t);
}

static void a_process_without_the_library_is_refused(void)
{
    struct tracked t = {0};
    struct error err = {0};
    require(gmem_create(&(struct gmem_config){.size = MEMORY}, &t.memory, &err), &err);
    t.pid = start_scribbler(t.memory, false);
    wait_writes(&t, 1);
    CU_ASSERT_EQUAL(dirtylog_pagemap_create(t.pid, t.memory, &t.log, &err), -EPERM);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "isn't registered for tracking"));
    CU_ASSERT_PTR_NULL(t.log);
    close_tracked(&t);
}

static void a_process_without_the_memory_is_refused(void)
{
    struct gmem *memory = NULL;
    struct dirtylog *log = NULL;
    struct error err = {0};
    require(gmem_create(&(struct gmem_config){.size = MEMORY}, &memory, &err), &err);
    CU_ASSERT_EQUAL(dirtylog_pagemap_create(getppid(), memory, &log, &err), -ENXIO);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "maps 0 of 67108864 bytes"));
    gmem_destroy(&memory);
}

static const struct test_case cases[] = {
    {"pages written by another process are in the log",
     pages_written_by_another_process_are_in_the_log},
    {"a log collected while the process runs loses nothing",
     a_log_collected_while_the_process_runs_loses_nothing},
    {"our own writes are in the log", our_own_writes_are_in_the_log},
    {"a process without the library is refused", a_process_without_the_library_is_refused},
    {"a process without the memory is refused", a_process_without_the_memory_is_refused},
};

int main(int argc, char **argv)
{
    struct error reason = {0};
    if (dirtylog_pagemap_probe(&reason) < 0)
        test_skip(reason.text);
    return test_run(argc, argv, "pagemap", cases, ARRAY_SIZE(cases));
}
