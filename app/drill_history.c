#include "app/drill_history.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define REPORT_MAX ((size_t)1 << 20)
#define SUFFIX     ".json"

static void make_path(char out[PATH_MAX], const char *state_dir, const char *id, const char *suffix)
{
    snprintf(out, PATH_MAX, "%s/drills/%s%s", state_dir, id, suffix);
}

int drill_history_lock(const char *state_dir, struct error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/drills", state_dir);
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    make_path(path, state_dir, "lock", "");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    const int rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
    fd_close(&fd);
    return error_set(err, rc, "%s", rc == -EBUSY ? "another drill is running here" : strerror(-rc));
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_report(const char *name)
{
    const size_t length = strlen(name);
    return length > strlen(SUFFIX) && name[0] != '.' &&
           strcmp(name + length - strlen(SUFFIX), SUFFIX) == 0;
}

int drill_history_list(const char *state_dir, char ***ids, struct error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/drills", state_dir);
    *ids = NULL;
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT ? 0 : error_set(err, -errno, "%s: %s", path, strerror(errno));
    int count = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char **grown =
            is_report(entry->d_name) ? reallocarray(*ids, (size_t)count + 1, sizeof(**ids)) : NULL;
        if (!grown)
            continue;
        *ids = grown;
        grown[count] = strndup(entry->d_name, strlen(entry->d_name) - strlen(SUFFIX));
        count += grown[count] != NULL;
    }
    closedir(dir);
    if (count)
        qsort(*ids, (size_t)count, sizeof(**ids), compare_names);
    return count;
}

void drill_history_free(char **ids, int count)
{
    for (int i = 0; i < count; i++)
        free(ids[i]);
    free(ids);
}

static void remove_old(const char *state_dir)
{
    char **ids;
    char path[PATH_MAX];
    const int count = drill_history_list(state_dir, &ids, NULL);
    for (int i = 0; i + DRILL_HISTORY_KEPT < count; i++) {
        make_path(path, state_dir, ids[i], SUFFIX);
        unlink(path);
        make_path(path, state_dir, ids[i], ".svg");
        unlink(path);
    }
    drill_history_free(ids, count);
}

int drill_history_save(const char *state_dir, const struct drill_report *report, struct error *err)
{
    char path[PATH_MAX];
    char *json = drill_report_json(report, false);
    char *picture = NULL;
    size_t size;
    make_path(path, state_dir, report->id, SUFFIX);
    int rc = json ? fd_replace_file(path, json, strlen(json)) : -ENOMEM;
    FILE *stream = rc == 0 ? open_memstream(&picture, &size) : NULL;
    if (stream) {
        drill_report_svg(report, stream);
        fclose(stream);
        make_path(path, state_dir, report->id, ".svg");
        rc = fd_replace_file(path, picture, strlen(picture));
    }
    free(json);
    free(picture);
    remove_old(state_dir);
    return rc < 0 ? error_set(err, rc, "%s: %s", path, strerror(-rc)) : 0;
}

static int load_file(const char *path, struct drill_report *report, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    char *text = calloc(1, REPORT_MAX + 1);
    size_t used = 0;
    ssize_t n = 0;
    while (text && used < REPORT_MAX && (n = read(fd, text + used, REPORT_MAX - used)) > 0)
        used += (size_t)n;
    fd_close(&fd);
    int rc = text ? drill_report_parse(text, report, err) : error_set(err, -ENOMEM, "no memory");
    if (text && rc < 0)
        rc = error_prefix(err, "%s", path);
    free(text);
    return rc;
}

int drill_history_load(const char *state_dir, const char *id, struct drill_report *report,
                       struct error *err)
{
    char path[PATH_MAX];
    char **ids;
    const int count = drill_history_list(state_dir, &ids, err);
    if (count < 0)
        return count;
    const char *wanted = id ? NULL : count ? ids[count - 1] : NULL;
    for (int i = 0; id && i < count; i++)
        if (strcmp(ids[i], id) == 0)
            wanted = ids[i];
    int rc;
    if (wanted) {
        make_path(path, state_dir, wanted, SUFFIX);
        rc = load_file(path, report, err);
    } else if (id) {
        rc = error_set(err, -ENOENT, "there is no report %s in %s/drills", id, state_dir);
    } else {
        rc = error_set(err, -ENOENT, "there was no drill yet: %s/drills has no report", state_dir);
    }
    drill_history_free(ids, count);
    return rc;
}
