/* The process that keeps a dying process's memory: it must outlive every thread, and no more. */
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

static const struct test_case cases[] = {
    {"it lives as long as the last thread", it_lives_as_long_as_the_last_thread},
    {"an orderly end leaves no process", an_orderly_end_leaves_no_process},
};

int main(int argc, char **argv)
{
#ifdef __SANITIZE_THREAD__
    test_skip("ThreadSanitizer can't follow a process that shares memory and outlives threads");
#endif
    return test_run(argc, argv, "quick-exit", cases, ARRAY_SIZE(cases));
}
