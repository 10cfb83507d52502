/* Inside of doctor: the checks, in groups, one file each. */
#ifndef KEMARI_APP_DOCTOR_CHECKS_H
#define KEMARI_APP_DOCTOR_CHECKS_H

#include "app/doctor.h"
#include "transport/tls.h"

struct doctor {
    const struct config *config;
    bool secrets_read; /* what the configuration names could be read, its secrets too */
    bool daemon_runs;  /* a kemarid serves this machine now: what it has, nobody else gets */
    struct doctor_report *report;
};

void doctor_check_kvm(const struct doctor *doctor); /* before there are threads */
/* What runs a stock QEMU. One is started, with the guest's configuration but none of its disks and
 * networks, and ended before the guest would run; unless KVM is needed and not usable. */
void doctor_check_qemu(const struct doctor *doctor, bool accelerated);
void doctor_check_host(const struct doctor *doctor);  /* priority, memory, clock, versions */
void doctor_check_files(const struct doctor *doctor); /* state directory, disks */

void doctor_check_taps(const struct doctor *doctor);
void doctor_check_arbiter(const struct doctor *doctor);

/* Credentials of the pair's links, to be destroyed by the caller; NULL where there are none. */
struct tls_credentials *doctor_check_tls(const struct doctor *doctor);
void doctor_check_links(const struct doctor *doctor, const struct tls_credentials *tls);

/* After all others, whose facts it compares. `file` is the configuration's name on both hosts. */
void doctor_check_peer(const struct doctor *doctor, const struct tls_credentials *tls,
                       const char *file, const struct doctor_peer *peer);
void doctor_check_link(const struct doctor *doctor, const struct tls_credentials *tls,
                       const char *file, const struct doctor_peer *peer, uint64_t need);

/* Of a link that was measured; `need`: bytes per second that the guest changes, 0: nobody knows. */
void doctor_judge_link(const struct config *config, nsec_t round_trip, nsec_t slowest,
                       uint64_t bytes_per_second, uint64_t need, struct doctor_report *report);

/* What memory there is against what is needed; pure. `huge_free`: bytes of free huge pages of 2
 * MiB.
 */
void doctor_judge_memory(const struct config *config, uint64_t available, uint64_t huge_free,
                         struct doctor_report *report);

/* Of the state directory's file system: bytes that are free to us, and what one durable record
 * took; pure. */
void doctor_judge_state_dir(const struct config *config, uint64_t bytes_free, nsec_t record,
                            uint64_t bytes_per_second, struct doctor_report *report);

#endif
