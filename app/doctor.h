/* kemarictl doctor: whether this host can protect a machine, asked before anything starts.
 *
 * Each check tries what the daemon would do, in the daemon's own way where there is one, and undoes
 * it. It says what it found under a reason from a fixed list; verdict and advice belong to the
 * reason, so they are the same wherever it is met (docs/operators/troubleshooting.md). */
#ifndef KEMARI_APP_DOCTOR_H
#define KEMARI_APP_DOCTOR_H

#include <stdio.h>

#include "app/config.h"
#include "app/peer_command.h"

#define DOCTOR_FINDINGS_MAX 128
#define DOCTOR_SUBJECT_MAX  24
#define DOCTOR_FOUND_MAX    640
#define DOCTOR_JSON_SCHEMA  1

/* In the order of how much they weigh. */
enum doctor_verdict {
    DOCTOR_OK,
    DOCTOR_UNKNOWN, /* could not be told here */
    DOCTOR_WARNING, /* it would work, not as well as it should */
    DOCTOR_PROBLEM, /* it would not work */
};

/* The names in doctor_report.c are for programs and never change; new ones are added. */
enum doctor_reason {
    DOCTOR_FINE,
    DOCTOR_CONFIG_REFUSED,
    DOCTOR_FILE_REFUSED,
    DOCTOR_NO_PAIR,
    DOCTOR_NOT_ROOT,
    DOCTOR_DAEMON_RUNS,
    DOCTOR_NOT_TRIED,
    DOCTOR_KVM_UNUSABLE,
    DOCTOR_KVM_NO_LINUX,
    DOCTOR_KVM_LACKS,
    DOCTOR_DIRTY_LOG_REFUSED,
    DOCTOR_CPU_NOT_COMPARED,
    DOCTOR_CPU_DIFFERS,
    DOCTOR_TSC_DIFFERS,
    DOCTOR_QEMU_REFUSED,
    DOCTOR_QEMU_MISSING,
    DOCTOR_QEMU_OLD,
    DOCTOR_QEMU_UNPROTECTABLE,
    DOCTOR_QEMU_FAILS,
    DOCTOR_REALTIME_OFF,
    DOCTOR_REALTIME_REFUSED,
    DOCTOR_LOCK_REFUSED,
    DOCTOR_MEMORY_SHORT,
    DOCTOR_MEMORY_TIGHT,
    DOCTOR_HUGE_PAGES_SHORT,
    DOCTOR_CLOCK_NOT_TSC,
    DOCTOR_CLOCKS_DIFFER,
    DOCTOR_VERSIONS_DIFFER,
    DOCTOR_MACHINE_DIFFERS,
    DOCTOR_PEER_SAYS_NO,
    DOCTOR_PEER_SILENT,
    DOCTOR_STATE_DIR_REFUSED,
    DOCTOR_STATE_DIR_FULL,
    DOCTOR_STATE_DIR_SMALL,
    DOCTOR_STATE_DIR_SLOW,
    DOCTOR_DISK_REFUSED,
    DOCTOR_DISK_BUSY,
    DOCTOR_TAP_MISSING,
    DOCTOR_TAP_BUSY,
    DOCTOR_TAP_REFUSED,
    DOCTOR_TAP_DOWN,
    DOCTOR_TAP_NO_BRIDGE,
    DOCTOR_NOT_ENCRYPTED,
    DOCTOR_TLS_REFUSED,
    DOCTOR_CERTIFICATE_EXPIRED,
    DOCTOR_CERTIFICATE_FUTURE,
    DOCTOR_CERTIFICATE_EXPIRING,
    DOCTOR_LISTEN_NOT_HERE,
    DOCTOR_LISTEN_IN_USE,
    DOCTOR_LISTEN_REFUSED,
    DOCTOR_RDMA_MISSING,
    DOCTOR_PEER_NOT_LISTENING,
    DOCTOR_PEER_UNREACHABLE,
    DOCTOR_HOST_UNREACHABLE,
    DOCTOR_PEER_FAR,
    DOCTOR_LINK_NARROW,
    DOCTOR_LINK_NOT_JUDGED,
    DOCTOR_PATH_REFUSED,
    DOCTOR_PATH_IN_USE,
    DOCTOR_PATH_NO_ROUTE,
    DOCTOR_PATHS_SINGLE,
    DOCTOR_ARBITER_NONE,
    DOCTOR_ARBITER_REFUSED,
    DOCTOR_ARBITER_UNREACHABLE,
    DOCTOR_ARBITER_NOT_RUN,
    DOCTOR_REASONS
};

struct doctor_cure {
    const char *reason; /* "realtime-refused" */
    enum doctor_verdict verdict;
    const char *advice; /* what to do about it; "" when nothing is to be done */
};

extern const struct doctor_cure doctor_cures[DOCTOR_REASONS];

struct doctor_finding {
    const char *check;                /* "kvm", "disk", ...; static */
    char subject[DOCTOR_SUBJECT_MAX]; /* the option where there are several: "disk.0"; else "" */
    enum doctor_reason reason;
    char found[DOCTOR_FOUND_MAX]; /* one phrase */
};

#define DOCTOR_WORD_MAX  96
#define DOCTOR_CPUID_MAX 256

/* One leaf: what cpuid answers to function and index. */
struct doctor_leaf {
    uint32_t function, index;
    uint32_t registers[4]; /* eax, ebx, ecx, edx */
};

/* What the hosts of a pair compare (app/doctor_facts.h). Zero and "": not known. */
struct doctor_facts {
    char version[DOCTOR_WORD_MAX];
    char kernel[DOCTOR_WORD_MAX];
    char clock[DOCTOR_WORD_MAX];
    char machine[DOCTOR_WORD_MAX];
    char listen[DOCTOR_WORD_MAX];
    char peer[DOCTOR_WORD_MAX];
    uint64_t memory; /* bytes */
    uint64_t vcpus;
    uint64_t tsc_khz;            /* of a guest's */
    bool tsc_scaling;            /* a guest's can be another than that */
    uint64_t heartbeat_interval; /* ns */
    unsigned disk_count;
    uint64_t disks[CONFIG_DISKS_MAX]; /* bytes */
    unsigned leaf_count;
    struct doctor_leaf leaves[DOCTOR_CPUID_MAX];
};

/* What was found, in the order of the checks. Zeroed before the first. */
struct doctor_report {
    char vm[CONFIG_NAME_MAX]; /* "" when the configuration can't be read */
    unsigned count;
    struct doctor_finding findings[DOCTOR_FINDINGS_MAX];
    struct doctor_facts facts;
};

/* How the other host is asked, and what the guest needs. */
struct doctor_peer {
    const struct peer_command *command; /* NULL: not asked */
    uint64_t need;                      /* bytes per second that the guest changes; 0: not told */
};

/* Reads the configuration and makes every check; ends within some 30 s unless a file system hangs,
 * and with a peer within some two minutes. Starts no guest and changes nothing. To be called before
 * there are threads. */
void doctor_examine(const char *file, const struct doctor_peer *peer, struct doctor_report *report);

/* The other end of the measurement of the link, on the peer: says on `out` where it listens, takes
 * one connection, answers every frame, and ends with it, or when none comes. 0 or -errno. */
int doctor_answer(const char *file, FILE *out, struct error *err);

/* ---- the report: doctor_report.c, pure ---- */

void doctor_say(struct doctor_report *report, const char *check, const char *subject,
                enum doctor_reason reason, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* Instead of what was said of that check; or besides, when nothing was. */
void doctor_say_instead(struct doctor_report *report, const char *check, enum doctor_reason reason,
                        const char *format, ...) __attribute__((format(printf, 4, 5)));

unsigned doctor_count(const struct doctor_report *report, enum doctor_verdict verdict);

/* No problem was found. */
bool doctor_can_protect(const struct doctor_report *report);

void doctor_print_text(const struct doctor_report *report, const char *file, bool colour,
                       FILE *out);
/* To be freed; NULL when memory is out. */
char *doctor_print_json(const struct doctor_report *report, const char *file);

#endif
