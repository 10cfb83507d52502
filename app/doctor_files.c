/* The state directory and the disks. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "app/doctor_checks.h"
#include "base/clock.h"
#include "base/fd.h"
#include "disk/image.h"

#define MIB          ((uint64_t)1 << 20)
#define ROOM_MIN     (64 * MIB)
#define RECORD_SLOW  MSEC(50)
#define RECORD_SIZE  4096
#define RECORDS      5
#define STREAM_SIZE  (16 * MIB)
#define STREAM_PIECE MIB

/* The directory, or where it would be made. */
static bool find_directory(const char *path, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s", path);
    while (access(out, F_OK) < 0 && errno == ENOENT && strcmp(out, "/") != 0 &&
           strcmp(out, ".") != 0) {
        char copy[PATH_MAX];
        memcpy(copy, out, sizeof(copy));
        snprintf(out, PATH_MAX, "%s", dirname(copy));
    }
    return access(out, R_OK | W_OK | X_OK) == 0;
}

/* A file without a name, or one whose name is gone before anything is written: whatever happens
 * nothing stays. */
static int open_probe_file(const char *directory)
{
    char name[PATH_MAX];
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
        return fd < 0 ? -errno : fd;
    if (snprintf(name, sizeof(name), "%s/.kemari-doctor-XXXXXX", directory) >= (int)sizeof(name))
        return -ENAMETOOLONG;
    fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    unlink(name);
    return fd;
}

/* Writes and makes durable; how long that took, or -errno. */
static nsec_t time_write(int fd, const void *data, size_t piece, size_t total)
{
    const nsec_t start = clock_now();
    for (size_t done = 0; done < total; done += piece) {
        const int rc = fd_write_all(fd, data, piece);
        if (rc < 0)
            return rc;
    }
    return fdatasync(fd) < 0 ? -errno : clock_now() - start;
}

static int compare_times(const void *a, const void *b)
{
    const nsec_t x = *(const nsec_t *)a, y = *(const nsec_t *)b;
    return (x > y) - (x < y);
}

/* Half of the records took at most *record. */
static int measure(const char *directory, nsec_t *record, uint64_t *bytes_per_second)
{
    nsec_t times[RECORDS];
    uint8_t *data = calloc(1, STREAM_PIECE);
    int fd = data ? open_probe_file(directory) : -ENOMEM;
    int rc = fd < 0 ? fd : 0;
    for (unsigned i = 0; rc == 0 && i < RECORDS; i++) {
        times[i] = time_write(fd, data, RECORD_SIZE, RECORD_SIZE);
        rc = times[i] < 0 ? (int)times[i] : 0;
    }
    if (rc == 0) {
        qsort(times, RECORDS, sizeof(times[0]), compare_times);
        *record = times[RECORDS / 2];
        const nsec_t stream = time_write(fd, data, STREAM_PIECE, STREAM_SIZE);
        rc = stream < 0 ? (int)stream : 0;
        *bytes_per_second = stream > 0 ? (uint64_t)((double)STREAM_SIZE * 1e9 / (double)stream) : 0;
    }
    fd_close(&fd);
    free(data);
    return rc;
}

void doctor_judge_state_dir(const struct config *config, uint64_t bytes_free, nsec_t record,
                            uint64_t bytes_per_second, struct doctor_report *report)
{
    const enum doctor_reason reason = bytes_free < ROOM_MIN         ? DOCTOR_STATE_DIR_FULL
                                      : record > RECORD_SLOW        ? DOCTOR_STATE_DIR_SLOW
                                      : bytes_free < config->memory ? DOCTOR_STATE_DIR_SMALL
                                                                    : DOCTOR_FINE;
    doctor_say(report, "state-dir", "", reason,
               "%s: %llu MiB are free, a record is durable after %.1f ms, %llu MiB/s",
               config->state_dir, (unsigned long long)(bytes_free / MIB),
               (double)record / (double)MSEC(1), (unsigned long long)(bytes_per_second / MIB));
}

static void check_state_dir(const struct doctor *doctor)
{
    const char *path = doctor->config->state_dir;
    char directory[PATH_MAX];
    struct statvfs room;
    nsec_t record = 0;
    uint64_t rate = 0;
    if (!find_directory(path, directory) || statvfs(directory, &room) < 0) {
        doctor_say(doctor->report, "state-dir", "", DOCTOR_STATE_DIR_REFUSED, "%s: %s: %s", path,
                   directory, strerror(errno));
        return;
    }
    const uint64_t bytes_free = (uint64_t)room.f_bavail * room.f_frsize;
    const int rc = bytes_free < ROOM_MIN ? 0 : measure(directory, &record, &rate);
    if (rc < 0)
        doctor_say(doctor->report, "state-dir", "", DOCTOR_STATE_DIR_REFUSED,
                   "%s: writing to %s: %s", path, directory, strerror(-rc));
    else
        doctor_judge_state_dir(doctor->config, bytes_free, record, rate, doctor->report);
}

static void check_disk(const struct doctor *doctor, unsigned index)
{
    const struct config_disk *disk = &doctor->config->disks[index];
    const struct disk_image_config config = {
        .path = disk->path, .read_only = disk->read_only, .shared = disk->shared};
    struct disk_image *image;
    struct error err = {0};
    char subject[DOCTOR_SUBJECT_MAX];
    snprintf(subject, sizeof(subject), "disk.%u", index);
    const int rc = disk_image_open(&config, &image, &err);
    if (rc < 0) {
        const bool own = rc == -EBUSY && doctor->daemon_runs;
        doctor_say(doctor->report, "disk", subject,
                   own            ? DOCTOR_DAEMON_RUNS
                   : rc == -EBUSY ? DOCTOR_DISK_BUSY
                                  : DOCTOR_DISK_REFUSED,
                   "%s", err.text);
        return;
    }
    doctor_say(doctor->report, "disk", subject, DOCTOR_FINE,
               "%s: %llu MiB, by %s; the other host's must have the same size", disk->path,
               (unsigned long long)(disk_image_size(image) / MIB), disk_image_engine_name(image));
    if (!disk->shared)
        doctor->report->facts.disks[index] = disk_image_size(image);
    disk_image_close(&image);
}

void doctor_check_files(const struct doctor *doctor)
{
    check_state_dir(doctor);
    doctor->report->facts.disk_count = doctor->config->disk_count;
    for (unsigned i = 0; i < doctor->config->disk_count; i++)
        check_disk(doctor, i);
}
