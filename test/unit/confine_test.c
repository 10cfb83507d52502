/* The filter of system calls: what is forbidden fails, in what is executed, too; all else works. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app/confine.h"
#include "base/types.h"
#include "test/support/runner.h"

/* In a process of its own, since a filter is for good: its exit status, 200 without a filter. */
static int confined(int (*run)(void))
{
    const pid_t child = fork();
    if (child == 0)
        _exit(confine_process(NULL) < 0 ? 200 : run());
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

/* All with arguments that the kernel would refuse otherwise than by EPERM, or carry out for root.
 */
static int count_allowed(void)
{
    const struct timeval now = {.tv_sec = 0, .tv_usec = -1};
    int allowed = 0;
    allowed += !(syscall(SYS_settimeofday, &now, NULL) < 0 && errno == EPERM);
    allowed += !(mount("", "/nowhere", "tmpfs", 0, NULL) < 0 && errno == EPERM);
    allowed += !(syscall(SYS_unshare, 0) < 0 && errno == EPERM);
    allowed += !(syscall(SYS_bpf, -1, NULL, 0) < 0 && errno == EPERM);
    allowed += !(syscall(SYS_finit_module, -1, "", 0) < 0 && errno == EPERM);
    allowed +=
        !(syscall(SYS_process_vm_writev, getpid(), NULL, 0, NULL, 0, 0) < 0 && errno == EPERM);
    allowed += !(chroot("/") < 0 && errno == EPERM);
    return allowed;
}

static int execute_chroot(void)
{
    const char *const shell = "exec 2>/dev/null; chroot / /bin/true && exit 1; exit 0";
    execl("/bin/sh", "sh", "-c", shell, (char *)NULL);
    return 2;
}

static int gain_nothing(void)
{
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 && system("exit 7") == 7 << 8 ? 0 : 1;
}

static void without_the_filter_they_are_not_all_refused(void)
{
    CU_ASSERT(count_allowed() > 0);
}

static void forbidden_calls_are_refused(void)
{
    CU_ASSERT_EQUAL(confined(count_allowed), 0);
}

static void what_is_executed_is_confined_too(void)
{
    CU_ASSERT_EQUAL(confined(execute_chroot), 0);
}

static void programs_run_and_gain_no_privileges(void)
{
    CU_ASSERT_EQUAL(confined(gain_nothing), 0);
}

/* Of this thread, as /proc says. */
static uint64_t capabilities(const char *set)
{
    char line[128];
    unsigned long long mask = 0;
    FILE *status = fopen("/proc/thread-self/status", "r");
    while (status && fgets(line, sizeof(line), status))
        if (strncmp(line, set, strlen(set)) == 0)
            mask = strtoull(line + strlen(set), NULL, 16);
    if (status)
        fclose(status);
    return mask;
}

/* CHOWN, DAC_OVERRIDE, FOWNER, KILL, NET_ADMIN, NET_RAW, IPC_LOCK, SYS_NICE */
#define KEPT      UINT64_C(0x80702b)
#define KEPT_TEXT "80702b"

static void *look(void *excess)
{
    static const char *const sets[] = {"CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"};
    for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
        *(uint64_t *)excess |= capabilities(sets[i]) & ~KEPT;
    return NULL;
}

static int gave_up_the_rest(void)
{
    const uint64_t before = capabilities("CapEff:");
    pthread_t thread;
    uint64_t excess = 0;
    if (confine_capabilities(NULL) < 0)
        return 1;
    look(&excess);
    if (pthread_create(&thread, NULL, look, &excess) != 0 || pthread_join(thread, NULL) != 0)
        return 2;
    if (excess)
        return 3;
    if (capabilities("CapEff:") != (before & KEPT))
        return 4;
    /* What is executed has no more, even as root. */
    return system("test $((0x$(sed -n 's/^CapEff:.//p' /proc/self/status) & ~0x" KEPT_TEXT
                  ")) = 0") == 0
               ? 0
               : 5;
}

static void capabilities_that_nobody_needs_are_given_up(void)
{
    CU_ASSERT_EQUAL(confined(gave_up_the_rest), 0);
}

static const struct test_case cases[] = {
    {"capabilities that nobody needs are given up", capabilities_that_nobody_needs_are_given_up},
    {"without the filter they are not all refused", without_the_filter_they_are_not_all_refused},
    {"forbidden calls are refused", forbidden_calls_are_refused},
    {"what is executed is confined, too", what_is_executed_is_confined_too},
    {"programs run and gain no privileges", programs_run_and_gain_no_privileges},
};

TEST_MAIN("confine", cases)
