#include "control/event_file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "control/json.h"
#include "control/schema.h"

/* Of one file, as lines. */
struct generation {
    char *bytes; /* EVENT_FILE_LIMIT of them */
    size_t size;
};

struct event_file {
    /* set at creation */
    char *path;
    char *old_path;
    uint64_t own_from; /* position of the first line of this process */

    /* the appending thread */
    int fd;         /* of `path`; -1: to be opened */
    size_t on_disk; /* its size */

    pthread_mutex_t lock; /* protects all below */
    struct generation older;
    struct generation newer;
    uint64_t forgotten; /* bytes before `older`: positions count on */
};

/* ---- one line ---- */

size_t event_line_encode(const struct control_event *event, char line[EVENT_LINE_MAX])
{
    struct control_event plain = *event;
    schema_copy_text(plain.kind, sizeof(plain.kind), event->kind);
    schema_copy_text(plain.text, sizeof(plain.text), event->text);
    for (unsigned i = 0; i < plain.field_count; i++) {
        schema_copy_text(plain.fields[i].key, sizeof(plain.fields[i].key), event->fields[i].key);
        schema_copy_text(plain.fields[i].value, sizeof(plain.fields[i].value),
                         event->fields[i].value);
    }
    char *json = control_json_event(&plain);
    if (!json)
        abort();
    /* Each byte of a text takes two at most: it fits. */
    const int length = snprintf(line, EVENT_LINE_MAX, "%s\n", json);
    free(json);
    return (size_t)length;
}

static bool take_number(const json_t *from, const char *key, json_int_t least, json_int_t *out)
{
    const json_t *value = json_object_get(from, key);
    *out = json_integer_value(value);
    return json_is_integer(value) && *out >= least;
}

static bool take_text(const json_t *value, char *out, size_t size)
{
    if (!json_is_string(value) || json_string_length(value) >= size)
        return false;
    schema_copy_text(out, size, json_string_value(value));
    return true;
}

static bool take_severity(const json_t *value, enum control_severity *out)
{
    for (unsigned i = 0; json_is_string(value) && i <= CONTROL_ERROR; i++)
        if (strcmp(json_string_value(value), control_severity_names[i]) == 0) {
            *out = (enum control_severity)i;
            return true;
        }
    return false;
}

static bool take_fields(json_t *fields, struct control_event *out)
{
    const char *key;
    json_t *value;
    if (!json_is_object(fields) || json_object_size(fields) > CONTROL_EVENT_FIELDS_MAX)
        return false;
    json_object_foreach(fields, key, value)
    {
        struct control_event_field *field = &out->fields[out->field_count++];
        if (strlen(key) >= sizeof(field->key) ||
            !take_text(value, field->value, sizeof(field->value)))
            return false;
        schema_copy_text(field->key, sizeof(field->key), key);
    }
    return true;
}

int event_line_decode(const char *line, size_t size, struct control_event *out)
{
    json_int_t id, monotonic, wall;
    *out = (struct control_event){0};
    if (size >= EVENT_LINE_MAX)
        return -EBADMSG;
    json_t *json = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
    const bool good = json_is_object(json) && take_number(json, "id", 1, &id) &&
                      take_number(json, "wall_ns", 0, &wall) &&
                      take_number(json, "monotonic_ns", 0, &monotonic) &&
                      take_severity(json_object_get(json, "severity"), &out->severity) &&
                      take_text(json_object_get(json, "kind"), out->kind, sizeof(out->kind)) &&
                      take_text(json_object_get(json, "text"), out->text, sizeof(out->text)) &&
                      take_fields(json_object_get(json, "fields"), out);
    json_decref(json);
    if (!good) {
        *out = (struct control_event){0};
        return -EBADMSG;
    }
    out->id = (uint64_t)id;
    out->wall_ns = wall;
    out->monotonic_ns = monotonic;
    return 0;
}

/* ---- both files in memory ---- */

/* The last EVENT_FILE_LIMIT bytes of that file, from the beginning of a line to the end of one. */
static void load(const char *path, struct generation *out)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return;
    const bool regular = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    const off_t skipped =
        regular && status.st_size > EVENT_FILE_LIMIT ? status.st_size - EVENT_FILE_LIMIT : 0;
    ssize_t n = regular ? 1 : 0;
    while (n > 0 && out->size < EVENT_FILE_LIMIT) {
        n = pread(fd, out->bytes + out->size, EVENT_FILE_LIMIT - out->size,
                  skipped + (off_t)out->size);
        out->size += n > 0 ? (size_t)n : 0;
    }
    fd_close(&fd);
    const char *last = memrchr(out->bytes, '\n', out->size);
    out->size = last ? (size_t)(last - out->bytes) + 1 : 0;
    if (!skipped || !out->size)
        return;
    const size_t cut = (size_t)((char *)memchr(out->bytes, '\n', out->size) - out->bytes) + 1;
    out->size -= cut;
    memmove(out->bytes, out->bytes + cut, out->size);
}

struct event_file *event_file_open(const char *path)
{
    struct event_file *file = calloc(1, sizeof(*file));
    if (!file)
        return NULL;
    file->fd = -1;
    pthread_mutex_init(&file->lock, NULL);
    file->path = strdup(path);
    if (asprintf(&file->old_path, "%s.1", path) < 0)
        file->old_path = NULL;
    file->older.bytes = malloc(EVENT_FILE_LIMIT);
    file->newer.bytes = malloc(EVENT_FILE_LIMIT);
    if (!file->path || !file->old_path || !file->older.bytes || !file->newer.bytes) {
        event_file_close(&file);
        return NULL;
    }
    load(file->old_path, &file->older);
    load(file->path, &file->newer);
    file->own_from = file->older.size + file->newer.size;
    return file;
}

void event_file_close(struct event_file **file)
{
    struct event_file *f = *file;
    if (!f)
        return;
    fd_close(&f->fd);
    free(f->older.bytes);
    free(f->newer.bytes);
    free(f->path);
    free(f->old_path);
    pthread_mutex_destroy(&f->lock);
    free(f);
    *file = NULL;
}

static void remember(struct event_file *f, const char *line, size_t size)
{
    pthread_mutex_lock(&f->lock);
    if (f->newer.size + size > EVENT_FILE_LIMIT) {
        const struct generation spare = f->older;
        f->forgotten += spare.size;
        f->older = f->newer;
        f->newer = (struct generation){.bytes = spare.bytes};
    }
    memcpy(f->newer.bytes + f->newer.size, line, size);
    f->newer.size += size;
    pthread_mutex_unlock(&f->lock);
}

/* The line at that position, copied; its size with its end, 0 when there is none. */
static size_t copy_line(struct event_file *f, uint64_t *position, char line[EVENT_LINE_MAX])
{
    size_t size = 0;
    pthread_mutex_lock(&f->lock);
    if (*position < f->forgotten)
        *position = f->forgotten;
    uint64_t at = *position - f->forgotten;
    const struct generation *g = at < f->older.size ? &f->older : &f->newer;
    at -= g == &f->newer ? f->older.size : 0;
    if (at < g->size) {
        const char *start = g->bytes + at;
        const char *end = memchr(start, '\n', g->size - at);
        size = (size_t)(end - start) + 1;
        memcpy(line, start, size < EVENT_LINE_MAX ? size : EVENT_LINE_MAX);
        *position += size;
    }
    pthread_mutex_unlock(&f->lock);
    return size;
}

bool event_file_next(struct event_file *file, uint64_t *position, struct control_event *out,
                     bool *own)
{
    char line[EVENT_LINE_MAX];
    size_t size;
    while ((size = copy_line(file, position, line)) > 0)
        if (size <= EVENT_LINE_MAX && event_line_decode(line, size - 1, out) == 0) {
            *own = *position > file->own_from;
            return true;
        }
    return false;
}

/* ---- on disk ---- */

static int open_for_writing(struct event_file *f)
{
    struct stat status;
    f->fd =
        open(f->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (f->fd < 0)
        return -errno;
    int rc = fstat(f->fd, &status) < 0 ? -errno : S_ISREG(status.st_mode) ? 0 : -EINVAL;
    f->on_disk = rc == 0 ? (size_t)status.st_size : 0;
    return rc;
}

/* A daemon that was killed may have left half a line. */
static int end_line(struct event_file *f)
{
    char last = '\n';
    int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    if (f->on_disk && pread(fd, &last, 1, (off_t)f->on_disk - 1) != 1)
        last = '\n';
    fd_close(&fd);
    if (last == '\n')
        return 0;
    const int rc = fd_write_all(f->fd, "\n", 1);
    f->on_disk += rc == 0;
    return rc;
}

/* The file may have been removed, or moved away by whoever rotates logs. */
static bool is_gone(const struct event_file *f)
{
    struct stat ours, there;
    return fstat(f->fd, &ours) < 0 || stat(f->path, &there) < 0 || ours.st_ino != there.st_ino ||
           ours.st_dev != there.st_dev;
}

static int make_ready(struct event_file *f, size_t size)
{
    int rc = 0;
    if (f->fd >= 0 && is_gone(f))
        fd_close(&f->fd);
    if (f->fd < 0) {
        rc = open_for_writing(f);
        if (rc == 0)
            rc = end_line(f);
    }
    if (rc == 0 && f->on_disk && f->on_disk + size > EVENT_FILE_LIMIT) {
        rc = rename(f->path, f->old_path) < 0 ? -errno : 0;
        fd_close(&f->fd);
        if (rc == 0)
            rc = open_for_writing(f);
    }
    return rc;
}

int event_file_append(struct event_file *file, const struct control_event *event, struct error *err)
{
    char line[EVENT_LINE_MAX];
    const size_t size = event_line_encode(event, line);
    remember(file, line, size);
    int rc = make_ready(file, size);
    if (rc == 0) {
        rc = fd_write_all(file->fd, line, size);
        /* Half a line is taken back, as far as the file system can. */
        if (rc < 0 && ftruncate(file->fd, (off_t)file->on_disk) < 0)
            fd_close(&file->fd);
    }
    if (rc == 0) {
        file->on_disk += size;
        return 0;
    }
    if (file->fd >= 0)
        fd_close(&file->fd);
    return error_set(err, rc, "%s: %s", file->path, strerror(-rc));
}
