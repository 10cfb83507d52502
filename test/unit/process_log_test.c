/* What another process writes to guest memory is in the dirty log, every page of it, and little
 * else: a second memory that only ever gets the dirty pages stays equal, byte by byte. For each of
 * the logs that this kernel has, by one thread and by several. */
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
#include "dirtylog/process_log.h"
#include "dirtylog/sweep.h"
#include "dirtylog/tracker.h"
#include "dirtylog/tracker_wire.h"
#include "test/support/runner.h"

#define MEMORY ((uint64_t)192 << 20) /* more than a thread takes at a time */
#define EPOCHS 20
#define WRITES 500 /* that an epoch has at least */

/* Of the case that runs. */
static struct {
    enum process_log log;
    unsigned workers;
} now;

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

static int create_log(struct tracked *t, struct error *err)
{
    return now.log == PROCESS_LOG_SOFTDIRTY
               ? dirtylog_softdirty_create(t->pid, t->memory, now.workers, &t->log, err)
               : dirtylog_pagemap_create(t->pid, t->memory, now.workers, &t->log, err);
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
    t->pid = start_scribbler(t->memory, now.log == PROCESS_LOG_PAGEMAP);
    wait_writes(t, 1);
    require(create_log(t, &err), &err);
    require(dirtylog_start(t->log, &err), &err);
    stop(t);
    memcpy(t->copy, gmem_page(t->memory, 0), MEMORY);
}

static void close_tracked(struct tracked *t)
{
    if (t->pid > 0) {
        kill(t->pid, SIGKILL);
        waitpid(t->pid, NULL, 0);
    }
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

static void a_log_looked_at_while_the_process_runs_loses_nothing(void)
{
    struct tracked t;
    struct error err = {0};
    open_tracked(&t);
    for (unsigned epoch = 0; epoch < EPOCHS; epoch++) {
        kill(t.pid, SIGCONT);
        for (unsigned i = 0; i < 5; i++) {
            wait_writes(&t, WRITES / 5);
            require(dirtylog_look(t.log, &t.dirty, &err), &err);
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

/* Copies what looks tell at once, while the process goes on writing it. */
static void what_a_look_told_is_told_again_if_it_was_written_again(void)
{
    struct tracked t;
    struct error err = {0};
    open_tracked(&t);
    follow(&t);
    for (unsigned epoch = 0; epoch < EPOCHS / 4; epoch++) {
        kill(t.pid, SIGCONT);
        for (unsigned i = 0; i < 4; i++) {
            wait_writes(&t, WRITES / 4);
            require(dirtylog_look(t.log, &t.dirty, &err), &err);
            for (uint64_t p = dirty_set_next(&t.dirty, 0); p < t.dirty.page_count;
                 p = dirty_set_next(&t.dirty, p + 1))
                gmem_copy_page(t.memory, gmem_gfn_at(t.memory, p), t.copy + (p << PAGE_SHIFT));
            dirty_set_clear(&t.dirty);
        }
        stop(&t);
        follow(&t);
    }
    close_tracked(&t);
}

static void a_page_that_is_not_mapped_any_more_counts_as_written(void)
{
    struct tracked t;
    struct error err = {0};
    open_tracked(&t);
    follow(&t);
    /* Taken out of both page tables, as memory pressure does, with other contents. */
    CU_ASSERT_EQUAL_FATAL(fallocate(gmem_fd(t.memory), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                    9 * PAGE_SIZE, PAGE_SIZE),
                          0);
    require(dirtylog_collect(t.log, &t.dirty, &err), &err);
    CU_ASSERT_TRUE(dirty_set_has(&t.dirty, 9));
    follow(&t);
    /* And once only. */
    require(dirtylog_collect(t.log, &t.dirty, &err), &err);
    CU_ASSERT_EQUAL(dirty_set_count(&t.dirty), 0);
    close_tracked(&t);
}

static void a_process_without_the_library_is_refused(void)
{
    struct tracked t = {0};
    struct error err = {0};
    require(gmem_create(&(struct gmem_config){.size = MEMORY}, &t.memory, &err), &err);
    t.pid = start_scribbler(t.memory, false);
    wait_writes(&t, 1);
    CU_ASSERT_EQUAL(create_log(&t, &err), -EPERM);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "isn't registered for tracking"));
    CU_ASSERT_PTR_NULL(t.log);
    close_tracked(&t);
}

static void a_process_without_the_memory_is_refused(void)
{
    struct tracked t = {.pid = getppid()};
    struct error err = {0};
    require(gmem_create(&(struct gmem_config){.size = MEMORY}, &t.memory, &err), &err);
    CU_ASSERT_EQUAL(create_log(&t, &err), -ENXIO);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "maps 0 of 201326592 bytes"));
    CU_ASSERT_PTR_NULL(t.log);
    gmem_destroy(&t.memory);
}

static void a_process_that_has_ended_is_an_error(void)
{
    struct tracked t;
    struct error err = {0};
    open_tracked(&t);
    kill(t.pid, SIGKILL);
    waitpid(t.pid, NULL, 0);
    t.pid = 0;
    CU_ASSERT_EQUAL(dirtylog_collect(t.log, &t.dirty, &err), -ESRCH);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "No such process"));
    close_tracked(&t);
}

/* ---- which log ---- */

static bool has(enum process_log log, struct error *err)
{
    enum process_log chosen;
    return process_log_choose(log, &chosen, err) == 0;
}

static void the_better_log_that_the_kernel_has_is_chosen(void)
{
    enum process_log chosen;
    struct error err = {0}, why = {0};
    const bool pagemap = has(PROCESS_LOG_PAGEMAP, &why),
               softdirty = has(PROCESS_LOG_SOFTDIRTY, &why);
    const int rc = process_log_choose(PROCESS_LOG_AUTO, &chosen, &err);
    if (!pagemap && !softdirty) {
        CU_ASSERT_EQUAL(rc, -ENOTSUP);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "no PAGEMAP_SCAN"));
        return;
    }
    CU_ASSERT_EQUAL(rc, 0);
    CU_ASSERT_EQUAL(chosen, pagemap ? PROCESS_LOG_PAGEMAP : PROCESS_LOG_SOFTDIRTY);
}

static void a_log_that_the_kernel_has_not_is_refused(void)
{
    static const struct {
        enum process_log log;
        const char *says;
    } logs[] = {{PROCESS_LOG_PAGEMAP, "(Linux 6.7)"}, {PROCESS_LOG_SOFTDIRTY, "soft-dirty bits"}};
    for (size_t i = 0; i < ARRAY_SIZE(logs); i++) {
        struct error err = {0};
        enum process_log chosen;
        const int rc = process_log_choose(logs[i].log, &chosen, &err);
        printf("%s: %s\n", process_log_name(logs[i].log), rc == 0 ? "yes" : err.text);
        CU_ASSERT(rc == 0 || (rc == -ENOTSUP && strstr(err.text, logs[i].says)));
        CU_ASSERT_EQUAL(chosen, logs[i].log);
    }
}

/* A kernel without the bits refuses for that reason. */
static void memory_of_huge_pages_has_no_soft_dirty_bits(void)
{
    struct gmem *memory = NULL;
    struct dirtylog *log = NULL;
    struct error err = {0};
    const struct gmem_config config = {.size = GMEM_SIZE_MIN, .huge_pages = true};
    if (gmem_create(&config, &memory, &err) < 0) {
        printf("left out: %s ", err.text);
        return;
    }
    CU_ASSERT_EQUAL(dirtylog_softdirty_create(getpid(), memory, 1, &log, &err), -ENOTSUP);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(err.text, has(PROCESS_LOG_SOFTDIRTY, NULL) ? "hugetlbfs" : "soft-dirty"));
    CU_ASSERT_PTR_NULL(log);
    gmem_destroy(&memory);
}

/* ---- all of it for each log ---- */

#define WITH(how, threads, name)                                                                   \
    static void how##_##threads##_##name(void)                                                     \
    {                                                                                              \
        now.log = PROCESS_LOG_##how;                                                               \
        now.workers = threads;                                                                     \
        if (has(now.log, NULL))                                                                    \
            name();                                                                                \
        else                                                                                       \
            printf("left out: this kernel has no " #how " ");                                      \
    }
#define WITH_ALL(name)                                                                             \
    WITH(PAGEMAP, 1, name) WITH(PAGEMAP, 3, name) WITH(SOFTDIRTY, 1, name) WITH(SOFTDIRTY, 3, name)

WITH_ALL(pages_written_by_another_process_are_in_the_log)
WITH_ALL(a_log_looked_at_while_the_process_runs_loses_nothing)
WITH_ALL(what_a_look_told_is_told_again_if_it_was_written_again)
WITH_ALL(our_own_writes_are_in_the_log)
WITH_ALL(a_process_without_the_memory_is_refused)
WITH_ALL(a_process_that_has_ended_is_an_error)
WITH(PAGEMAP, 1, a_process_without_the_library_is_refused)
WITH(SOFTDIRTY, 1, a_page_that_is_not_mapped_any_more_counts_as_written)

#define ROW(how, threads, says, name)                                                              \
    {                                                                                              \
#how ", " #threads " threads: " says, how##_##threads##_##name                             \
    }
#define ROWS(says, name)                                                                           \
    ROW(PAGEMAP, 1, says, name), ROW(PAGEMAP, 3, says, name), ROW(SOFTDIRTY, 1, says, name),       \
        ROW(SOFTDIRTY, 3, says, name)

static const struct test_case cases[] = {
    ROWS("pages written by another process are in the log",
         pages_written_by_another_process_are_in_the_log),
    ROWS("a log looked at while the process runs loses nothing",
         a_log_looked_at_while_the_process_runs_loses_nothing),
    ROWS("what a look told is told again if it was written again",
         what_a_look_told_is_told_again_if_it_was_written_again),
    ROWS("our own writes are in the log", our_own_writes_are_in_the_log),
    ROWS("a process without the memory is refused", a_process_without_the_memory_is_refused),
    ROWS("a process that has ended is an error", a_process_that_has_ended_is_an_error),
    ROW(PAGEMAP, 1, "a process without the library is refused",
        a_process_without_the_library_is_refused),
    ROW(SOFTDIRTY, 1, "a page that is not mapped any more counts as written",
        a_page_that_is_not_mapped_any_more_counts_as_written),
    {"the better log that the kernel has is chosen", the_better_log_that_the_kernel_has_is_chosen},
    {"a log that the kernel has not is refused", a_log_that_the_kernel_has_not_is_refused},
    {"memory of huge pages has no soft-dirty bits", memory_of_huge_pages_has_no_soft_dirty_bits},
};

TEST_MAIN("process-log", cases)
