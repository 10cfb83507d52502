/* The process that keeps a dying process's memory: it must outlive every thread, and no more; and
 * takes along whom it was told to. */
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/quick_exit.h"
#include "test/support/runner.h"

/* Of the calling process; 0 when there is none. */
static pid_t only_child(void)
{
    int child = 0;
    FILE *file = fopen("/proc/thread-self/children", "r");
    if (file) {
        if (fscanf(file, "%d", &child) != 1)
            child = 0;
        fclose(file);
    }
    return child;
}

/* Until it waits for what it waits for. */
static void await_sleep(pid_t process)
{
    char path[64];
    char state = 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", process);
    while (state != 'S') {
        FILE *file = fopen(path, "r");
        if (!file || fscanf(file, "%*d %*s %c", &state) != 1)
            _exit(1);
        fclose(file);
    }
}

static void *stay(void *context)
{
    pthread_join(*(pthread_t *)context, NULL);
    /* The main thread is gone. */
    const char done = 1;
    if (write(STDOUT_FILENO, &done, 1) == 1)
        for (;;)
            pause();
    return NULL;
}

/* Arms, tells the holder's process number, and goes on in a second thread alone. */
static void victim(int out)
{
    static pthread_t main_thread;
    main_thread = pthread_self();
    struct error err = {0};
    pthread_t thread;
    if (dup2(out, STDOUT_FILENO) < 0 || quick_exit_arm(&err) < 0)
        _exit(1);
    const pid_t holder = only_child();
    await_sleep(holder);
    if (write(out, &holder, sizeof(holder)) != sizeof(holder) ||
        pthread_create(&thread, NULL, stay, &main_thread) != 0)
        _exit(1);
    pthread_exit(NULL);
}

static void it_lives_as_long_as_the_last_thread(void)
{
    /* What outlives its parent becomes ours, so that its end can be awaited. */
    CU_ASSERT_EQUAL_FATAL(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    int ends[2];
    CU_ASSERT_EQUAL_FATAL(pipe(ends), 0);
    const pid_t process = fork();
    if (process == 0)
        victim(ends[1]);
    close(ends[1]);
    pid_t holder = 0;
    char done = 0;
    CU_ASSERT_EQUAL(read(ends[0], &holder, sizeof(holder)), (ssize_t)sizeof(holder));
    CU_ASSERT_EQUAL(read(ends[0], &done, 1), 1);
    CU_ASSERT_FATAL(holder > 0);
    /* Readable when the process has ended: it must not, although the main thread has. */
    struct pollfd ended = {.fd = (int)syscall(SYS_pidfd_open, holder, 0), .events = POLLIN};
    CU_ASSERT_FATAL(ended.fd >= 0);
    CU_ASSERT_EQUAL(poll(&ended, 1, 100), 0);
    close(ended.fd);
    CU_ASSERT_EQUAL(kill(process, SIGKILL), 0);
    CU_ASSERT_EQUAL(waitpid(process, NULL, 0), process);
    CU_ASSERT_EQUAL(waitpid(holder, NULL, (int)__WALL), holder);
    close(ends[0]);
}

static void an_orderly_end_leaves_no_process(void)
{
    struct error err = {0};
    CU_ASSERT_EQUAL_FATAL(quick_exit_arm(&err), 0);
    CU_ASSERT_NOT_EQUAL(only_child(), 0);
    quick_exit_disarm();
    CU_ASSERT_EQUAL(only_child(), 0);
    quick_exit_disarm();
}

/* Until the process has so many descriptors. */
static void await_descriptors(pid_t process, unsigned count)
{
    char path[64];
    unsigned found = 0;
    snprintf(path, sizeof(path), "/proc/%d/fd", process);
    while (found != count) {
        found = 0;
        DIR *folder = opendir(path);
        if (!folder)
            _exit(1);
        for (const struct dirent *entry; (entry = readdir(folder));)
            found += entry->d_name[0] != '.';
        closedir(folder);
    }
}

struct family {
    pid_t holder, ward;
};

/* Has a child that is to follow, or, in the end, is not; tells both numbers and waits. */
static void guardian(int out, bool leave)
{
    struct error err = {0};
    if (quick_exit_arm(&err) < 0)
        _exit(1);
    struct family family = {.holder = only_child(), .ward = fork()};
    if (family.ward == 0)
        for (;;)
            pause();
    setpgid(family.ward, family.ward);
    quick_exit_take_along(family.ward);
    /* That of this process, the eventfd, and the child's. */
    await_descriptors(family.holder, 3);
    if (leave) {
        quick_exit_leave_alone(family.ward);
        await_descriptors(family.holder, 2);
    }
    if (write(out, &family, sizeof(family)) != sizeof(family))
        _exit(1);
    for (;;)
        pause();
}

/* Kills a guardian, and waits for its holder. */
static struct family after_the_guardian(bool leave)
{
    struct family family = {0};
    int ends[2];
    /* What outlives its parent becomes ours, so that its end can be awaited. */
    CU_ASSERT_EQUAL_FATAL(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    CU_ASSERT_EQUAL_FATAL(pipe(ends), 0);
    const pid_t process = fork();
    if (process == 0)
        guardian(ends[1], leave);
    close(ends[1]);
    CU_ASSERT_EQUAL(read(ends[0], &family, sizeof(family)), (ssize_t)sizeof(family));
    close(ends[0]);
    CU_ASSERT_FATAL(family.ward > 0);
    kill(process, SIGKILL);
    CU_ASSERT_EQUAL(waitpid(process, NULL, 0), process);
    CU_ASSERT_EQUAL(waitpid(family.holder, NULL, (int)__WALL), family.holder);
    return family;
}

static void a_ward_is_taken_along(void)
{
    const struct family family = after_the_guardian(false);
    int status = 0;
    CU_ASSERT_EQUAL(waitpid(family.ward, &status, 0), family.ward);
    CU_ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void one_that_was_left_alone_lives_on(void)
{
    const struct family family = after_the_guardian(true);
    CU_ASSERT_EQUAL(waitpid(family.ward, NULL, WNOHANG), 0);
    kill(family.ward, SIGTERM);
    int status = 0;
    CU_ASSERT_EQUAL(waitpid(family.ward, &status, 0), family.ward);
    CU_ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

static const struct test_case cases[] = {
    {"it lives as long as the last thread", it_lives_as_long_as_the_last_thread},
    {"an orderly end leaves no process", an_orderly_end_leaves_no_process},
    {"a ward is taken along", a_ward_is_taken_along},
    {"one that was left alone lives on", one_that_was_left_alone_lives_on},
};

int main(int argc, char **argv)
{
#ifdef __SANITIZE_THREAD__
    test_skip("ThreadSanitizer can't follow a process that shares memory and outlives threads");
#endif
    return test_run(argc, argv, "quick-exit", cases, ARRAY_SIZE(cases));
}
