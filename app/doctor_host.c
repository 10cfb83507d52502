/* What this host grants: priority, memory, a clock; and its versions. */
#include <event2/event.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "app/doctor_checks.h"
#include "heartbeat/privileges.h"

#define MIB ((uint64_t)1 << 20)

static void check_realtime(const struct doctor *doctor)
{
    struct rlimit limit = {0};
    getrlimit(RLIMIT_RTPRIO, &limit);
    const int rc = doctor->config->realtime ? privileges_try_realtime() : 0;
    if (!doctor->config->realtime)
        doctor_say(doctor->report, "realtime", "", DOCTOR_REALTIME_OFF,
                   "the configuration says realtime = no");
    else if (rc < 0)
        doctor_say(doctor->report, "realtime", "", DOCTOR_REALTIME_REFUSED,
                   "SCHED_FIFO with priority %d: %s (RLIMIT_RTPRIO is %llu)", HEARTBEAT_PRIORITY,
                   strerror(-rc), (unsigned long long)limit.rlim_cur);
    else
        doctor_say(doctor->report, "realtime", "", DOCTOR_FINE,
                   "a thread got SCHED_FIFO with priority %d", HEARTBEAT_PRIORITY);
}

static void check_lock(const struct doctor *doctor)
{
    if (!doctor->config->realtime)
        return;
    const unsigned threads = 1 + doctor->config->host_count;
    const int rc = privileges_try_lock(threads);
    struct rlimit limit = {0};
    getrlimit(RLIMIT_MEMLOCK, &limit);
    if (rc < 0)
        doctor_say(doctor->report, "locked-memory", "", DOCTOR_LOCK_REFUSED,
                   "%u KiB for the heartbeat: %s (RLIMIT_MEMLOCK is %llu bytes)",
                   threads * (HEARTBEAT_STACK_SIZE + HEARTBEAT_STATE_MAX) / 1024, strerror(-rc),
                   (unsigned long long)limit.rlim_cur);
    else
        doctor_say(doctor->report, "locked-memory", "", DOCTOR_FINE,
                   "%u KiB could be locked for the heartbeat",
                   threads * (HEARTBEAT_STACK_SIZE + HEARTBEAT_STATE_MAX) / 1024);
}

/* The first number behind `key` (or at the file's beginning, when that is ""); false: none. */
static bool read_number(const char *path, const char *key, uint64_t *out)
{
    char line[128];
    bool found = false;
    FILE *file = fopen(path, "re");
    while (file && !found && fgets(line, sizeof(line), file))
        if (strncmp(line, key, strlen(key)) == 0) {
            unsigned long long number;
            found = sscanf(line + strlen(key), "%llu", &number) == 1;
            *out = found ? number : 0;
        }
    if (file)
        fclose(file);
    return found;
}

void doctor_judge_memory(const struct config *config, uint64_t available, uint64_t huge_free,
                         struct doctor_report *report)
{
    const uint64_t guest = config->huge_pages ? 0 : config->memory;
    const uint64_t must = guest + config->staging_cap + config->encoding_cache;
    const uint64_t may = must + config->outbox_cap;
    doctor_say(report, "memory", "",
               available < must  ? DOCTOR_MEMORY_SHORT
               : available < may ? DOCTOR_MEMORY_TIGHT
                                 : DOCTOR_FINE,
               "%llu MiB are available; guest, staging-cap and encoding-cache take %llu MiB, held "
               "output up to %llu MiB more",
               (unsigned long long)(available / MIB), (unsigned long long)(must / MIB),
               (unsigned long long)((may - must) / MIB));
    if (config->huge_pages)
        doctor_say(report, "huge-pages", "",
                   huge_free < config->memory ? DOCTOR_HUGE_PAGES_SHORT : DOCTOR_FINE,
                   "huge pages of 2 MiB: %llu are free, the guest takes %llu",
                   (unsigned long long)(huge_free / (2 * MIB)),
                   (unsigned long long)(config->memory / (2 * MIB)));
}

static void check_memory(const struct doctor *doctor)
{
    uint64_t available = 0, huge = 0;
    if (doctor->daemon_runs)
        return; /* it has it */
    if (!read_number("/proc/meminfo", "MemAvailable:", &available)) {
        doctor_say(doctor->report, "memory", "", DOCTOR_NOT_TRIED,
                   "/proc/meminfo doesn't tell what is available");
        return;
    }
    if (!read_number("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "", &huge))
        huge = 0; /* this kernel has none */
    doctor_judge_memory(doctor->config, available * 1024, huge * 2 * MIB, doctor->report);
}

static void check_clock(const struct doctor *doctor)
{
    char name[32] = "";
    FILE *file = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");
    const bool read = file && fgets(name, sizeof(name), file);
    if (file)
        fclose(file);
    name[strcspn(name, "\n")] = '\0';
    snprintf(doctor->report->facts.clock, sizeof(doctor->report->facts.clock), "%s", name);
    if (!read)
        doctor_say(doctor->report, "clock", "", DOCTOR_NOT_TRIED,
                   "/sys doesn't tell the clock source");
    else
        doctor_say(doctor->report, "clock", "",
                   strcmp(name, "tsc") == 0 ? DOCTOR_FINE : DOCTOR_CLOCK_NOT_TSC,
                   "the clock source is %s", name);
}

static void check_versions(const struct doctor *doctor)
{
    struct utsname kernel;
    if (uname(&kernel) < 0)
        return;
    doctor_say(doctor->report, "versions", "", DOCTOR_FINE, "kemari %s, Linux %s, libevent %s, %s",
               KEMARI_VERSION, kernel.release, event_get_version(),
               OpenSSL_version(OPENSSL_VERSION));
}

void doctor_check_host(const struct doctor *doctor)
{
    check_realtime(doctor);
    check_lock(doctor);
    check_memory(doctor);
    check_clock(doctor);
    check_versions(doctor);
}
