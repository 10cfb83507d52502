/* A process that QEMU runs in ends with the one that started it, and not with a thread of that. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "qemu/process.h"
#include "test/support/runner.h"

static int start(const char *program, struct process *process, struct error *err)
{
    char name[32], *arguments[] = {name, "1000", NULL};
    const char *const environment[] = {NULL};
    struct process_config config = {.arguments = arguments, .environment = environment};
    snprintf(name, sizeof(name), "%s", program);
    for (unsigned i = 0; i < ARRAY_SIZE(config.fds); i++)
        config.fds[i] = -1;
    return process_start(&config, process, err);
}

static bool has_ended(const struct process *process, int timeout_ms)
{
    struct pollfd ended = {.fd = process->pid_fd, .events = POLLIN};
    return poll(&ended, 1, timeout_ms) == 1;
}

/* Starts one, tells its number, and waits to be killed. */
static void parent(int out)
{
    struct process process;
    struct error err;
    if (start("sleep", &process, &err) < 0 ||
        write(out, &process.pid, sizeof(process.pid)) != sizeof(process.pid))
        _exit(1);
    for (;;)
        pause();
}

static void it_is_killed_when_its_parent_is(void)
{
    int ends[2];
    pid_t child = 0;
    /* What outlives its parent becomes ours, so that its end can be awaited. */
    CU_ASSERT_EQUAL_FATAL(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    CU_ASSERT_EQUAL_FATAL(pipe(ends), 0);
    const pid_t process = fork();
    if (process == 0)
        parent(ends[1]);
    close(ends[1]);
    CU_ASSERT_EQUAL(read(ends[0], &child, sizeof(child)), (ssize_t)sizeof(child));
    close(ends[0]);
    CU_ASSERT_FATAL(child > 0);
    kill(process, SIGKILL);
    CU_ASSERT_EQUAL(waitpid(process, NULL, 0), process);
    int status = 0;
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    CU_ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void *start_and_end(void *context)
{
    struct error err;
    CU_ASSERT_EQUAL(start("sleep", context, &err), 0);
    return NULL;
}

static void it_outlives_the_thread_that_started_it(void)
{
    struct process process;
    pthread_t thread;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, start_and_end, &process), 0);
    pthread_join(thread, NULL);
    CU_ASSERT_FALSE(has_ended(&process, 0));
    close(process.leash_fd);
    process.leash_fd = -1;
    CU_ASSERT_TRUE(has_ended(&process, 10000));
    char end[64];
    process_describe_end(&process, end, sizeof(end));
    CU_ASSERT_STRING_EQUAL(end, "QEMU was ended by signal 9");
    process_end(&process);
}

static void a_program_that_is_not_there_is_told(void)
{
    struct process process;
    struct error err = {0};
    CU_ASSERT_TRUE(start("no-such-program", &process, &err) < 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "no-such-program can't be started"));
    CU_ASSERT_EQUAL(process.pid, 0);
    CU_ASSERT_EQUAL(process.leash_fd, -1);
}

static const struct test_case cases[] = {
    {"it is killed when its parent is", it_is_killed_when_its_parent_is},
    {"it outlives the thread that started it", it_outlives_the_thread_that_started_it},
    {"a program that is not there is told", a_program_that_is_not_there_is_told},
};

int main(int argc, char **argv)
{
    return test_run(argc, argv, "qemu-process", cases, ARRAY_SIZE(cases));
}
