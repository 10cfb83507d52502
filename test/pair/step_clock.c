/* For LD_PRELOAD: the time of day is ahead of what it really is by the seconds in the first eight
 * bytes of the file named by KEMARI_TEST_CLOCK (a signed number of this machine's order, mapped, so
 * that a test steps the clock of a daemon that runs). All other clocks are as they are.
 *
 * The kernel's timers stay on its own CLOCK_REALTIME: a deadline that was computed from the time of
 * day is wrong by the step, which is what a test wants to see. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *ahead;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

static void __attribute__((constructor)) set_up(void)
{
    /* A pointer to a function and one to an object: POSIX says that this works. */
    *(void **)&real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("KEMARI_TEST_CLOCK");
    const int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (!real_clock_gettime || fd < 0)
        abort();
    const void *map = mmap(NULL, sizeof(*ahead), PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        abort();
    ahead = map;
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    if (!real_clock_gettime)
        *(void **)&real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    const int rc = real_clock_gettime(clock, out);
    if (rc == 0 && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        out->tv_sec += *ahead;
    return rc;
}

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *out = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
    return 0;
}
