#include "heartbeat/term.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/fd.h"

#define HEADLINE "kemari-term 1"

struct term_store {
    char *path;                 /* of the record */
    int lock_fd;                /* flock()ed while open */
    struct term_record current; /* known to be durable */
    struct term_record tried;   /* of a failed write, which may be on the disk all the same */
    bool names_standbys;
};

static const char *const ownership_names[] = {
    [TERM_STANDBY] = "standby",
    [TERM_OWNER] = "owner",
    [TERM_LOST] = "lost",
};

const char *term_ownership_name(enum term_ownership ownership)
{
    return ownership_names[ownership];
}

bool term_vm_name_valid(const char *vm)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const size_t length = strnlen(vm, TERM_VM_NAME_MAX);
    return length > 0 && length < TERM_VM_NAME_MAX && vm[0] != '.' && strspn(vm, allowed) == length;
}

bool term_standby_name_valid(const char *standby)
{
    const size_t length = strnlen(standby, TERM_STANDBY_MAX);
    if (length == 0 || length == TERM_STANDBY_MAX)
        return false;
    for (size_t i = 0; i < length; i++)
        if (standby[i] <= ' ' || standby[i] > '~')
            return false;
    return true;
}

/* ---- Codec ------------------------------------------------------------------------------- */

size_t term_record_encode(const struct term_record *record, char out[TERM_RECORD_MAX])
{
    int used = snprintf(out, TERM_RECORD_MAX, HEADLINE "\nvm %s\nterm %" PRIu64 "\nownership %s\n",
                        record->vm, record->term, term_ownership_name(record->ownership));
    if (record->standby[0])
        used += sprintf(out + used, "standby %s\n", record->standby);
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256((const uint8_t *)out, (size_t)used, digest);
    char *p = out + used;
    p += sprintf(p, "sha256 ");
    for (size_t i = 0; i < sizeof(digest); i++)
        p += sprintf(p, "%02x", digest[i]);
    *p++ = '\n';
    return (size_t)(p - out);
}

/* The ownership of that name, or 0. */
static int ownership_of(const char *name)
{
    for (int i = TERM_STANDBY; i <= TERM_LOST; i++)
        if (strcmp(ownership_names[i], name) == 0)
            return i;
    return 0;
}

int term_record_decode(const char *bytes, size_t size, struct term_record *out, struct error *err)
{
    /* Reads loosely, then demands to be byte for byte what encode() makes of it: so the checksum,
     * the spelling of numbers and what follows the end are all verified by one comparison. */
    char text[TERM_RECORD_MAX + 1];
    char again[TERM_RECORD_MAX];
    char ownership[16] = "";
    struct term_record record = {0};
    if (size > TERM_RECORD_MAX)
        return error_set(err, -EBADMSG, "longer than a term record can be");
    memcpy(text, bytes, size);
    text[size] = '\0';
    const int fields =
        sscanf(text, HEADLINE " vm %63s term %" SCNu64 " ownership %15s standby %63s", record.vm,
               &record.term, ownership, record.standby);
    if (fields < 3)
        return error_set(err, -EBADMSG, "not a term record");
    const int value = ownership_of(ownership);
    if (!value || !term_vm_name_valid(record.vm) ||
        (fields == 4 && !term_standby_name_valid(record.standby)))
        return error_set(err, -EBADMSG, "not a term record");
    record.ownership = (enum term_ownership)value;
    if (term_record_encode(&record, again) != size || memcmp(again, bytes, size) != 0)
        return error_set(err, -EBADMSG, "its checksum does not match its content");
    *out = record;
    return 0;
}

/* ---- Store ------------------------------------------------------------------------------- */

static int take_lock(struct term_store *store, const char *directory, const char *vm,
                     struct error *err)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s.lock", directory, vm) < 0)
        return error_set(err, -ENOMEM, "out of memory");
    int rc = 0;
    store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (store->lock_fd < 0)
        rc = error_set(err, -errno, "state directory %s: cannot open %s: %s", directory, path,
                       strerror(errno));
    else if (flock(store->lock_fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
        rc = error_set(err, -EBUSY, "state directory %s: VM %s is in use by another kemarid",
                       directory, vm);
    free(path);
    return rc;
}

/* Reads the whole record, or nothing when there is none. */
static int read_record(const char *path, char bytes[TERM_RECORD_MAX + 1], size_t *size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        *size = 0;
        return errno == ENOENT ? 0 : -errno;
    }
    ssize_t n;
    *size = 0;
    do {
        n = read(fd, bytes + *size, TERM_RECORD_MAX + 1 - *size);
        if (n > 0)
            *size += (size_t)n;
    } while ((n > 0 && *size <= TERM_RECORD_MAX) || (n < 0 && errno == EINTR));
    const int rc = n < 0 ? -errno : 0;
    fd_close(&fd);
    /* A file without a byte is no missing file: something truncated it. */
    return rc == 0 && *size == 0 ? -EBADMSG : rc;
}

static int load(struct term_store *store, const char *vm, struct error *err)
{
    char bytes[TERM_RECORD_MAX + 1];
    size_t size;
    struct error detail = {.text = "it is empty"};
    int rc = read_record(store->path, bytes, &size);
    if (rc == 0 && size)
        rc = term_record_decode(bytes, size, &store->current, &detail);
    if (rc == -EBADMSG)
        return error_set(err, rc,
                         "term record %s is damaged: %s; find out the VM's term on the other host "
                         "or at the arbiter, then remove the file to start as a new standby",
                         store->path, detail.text);
    if (rc < 0)
        return error_set(err, rc, "term record %s: cannot read: %s", store->path, strerror(-rc));
    if (size && strcmp(store->current.vm, vm) != 0)
        return error_set(err, -EINVAL, "term record %s belongs to VM %s, not to %s", store->path,
                         store->current.vm, vm);
    return 0;
}

int term_store_open(const char *directory, const char *vm, struct term_store **out,
                    struct error *err)
{
    *out = NULL;
    if (!term_vm_name_valid(vm))
        return error_set(err, -EINVAL,
                         "VM name \"%.80s\": use up to %d letters, digits, '.', '_' and '-'", vm,
                         TERM_VM_NAME_MAX - 1);
    struct term_store *store = calloc(1, sizeof(*store));
    if (!store)
        return error_set(err, -ENOMEM, "out of memory");
    store->lock_fd = -1;
    store->current.ownership = TERM_STANDBY;
    snprintf(store->current.vm, sizeof(store->current.vm), "%s", vm);
    int rc = asprintf(&store->path, "%s/%s.term", directory, vm) < 0 ? -ENOMEM : 0;
    if (rc == 0)
        rc = take_lock(store, directory, vm, err);
    if (rc == 0)
        rc = load(store, vm, err);
    if (rc < 0) {
        term_store_close(&store);
        return rc;
    }
    *out = store;
    return 0;
}

void term_store_close(struct term_store **store)
{
    struct term_store *s = *store;
    if (!s)
        return;
    *store = NULL;
    fd_close(&s->lock_fd);
    free(s->path);
    free(s);
}

struct term_record term_store_current(const struct term_store *store)
{
    return store->current;
}

static bool same(const struct term_record *a, const struct term_record *b)
{
    return a->term == b->term && a->ownership == b->ownership &&
           strcmp(a->standby, b->standby) == 0;
}

/* The picture in term.h. */
static bool step_allowed(const struct term_record *from, const struct term_record *to)
{
    if (to->term != from->term)
        return to->term > from->term;
    if (from->ownership == TERM_OWNER && to->ownership == TERM_OWNER)
        return true; /* another standby */
    if (from->ownership == TERM_OWNER || from->ownership == TERM_STANDBY)
        return to->ownership == TERM_LOST && to->term > 0;
    return to->ownership == TERM_STANDBY;
}

static int write_record(struct term_store *store, const struct term_record *next, struct error *err)
{
    const struct term_record *now = &store->current;
    const bool retry = store->tried.term && same(next, &store->tried);
    if (same(next, now) && !store->tried.term)
        return 0;
    if (!step_allowed(now, next) ||
        (store->tried.term && !retry && !step_allowed(&store->tried, next)))
        return error_set(err, -ESTALE,
                         "term record %s: refused to go from term %" PRIu64 " (%s) to %" PRIu64
                         " (%s)",
                         store->path, now->term, term_ownership_name(now->ownership), next->term,
                         term_ownership_name(next->ownership));
    char bytes[TERM_RECORD_MAX];
    const size_t size = term_record_encode(next, bytes);
    const int rc = fd_replace_file(store->path, bytes, size);
    if (rc < 0) {
        store->tried = *next;
        return error_set(err, rc, "term record %s: cannot write: %s", store->path, strerror(-rc));
    }
    store->current = *next;
    store->tried.term = 0;
    return 0;
}

int term_store_advance(struct term_store *store, term_t term, enum term_ownership ownership,
                       struct error *err)
{
    struct term_record next = store->current;
    if (ownership != TERM_OWNER)
        next.standby[0] = '\0';
    else if (next.term != term || next.ownership != TERM_OWNER)
        snprintf(next.standby, sizeof(next.standby), "%s",
                 store->names_standbys ? TERM_STANDBY_NONE : "");
    next.term = term;
    next.ownership = ownership;
    return write_record(store, &next, err);
}

void term_store_name_standbys(struct term_store *store)
{
    store->names_standbys = true;
}

int term_store_own(struct term_store *store, term_t term, const char *standby, struct error *err)
{
    struct term_record next = store->current;
    next.term = term;
    next.ownership = TERM_OWNER;
    if (*standby && !term_standby_name_valid(standby))
        return error_set(err, -EINVAL, "term record %s: \"%.80s\" is no name of a standby",
                         store->path, standby);
    snprintf(next.standby, sizeof(next.standby), "%s", standby);
    return write_record(store, &next, err);
}

int term_store_bind(struct term_store *store, const char *standby, struct error *err)
{
    const struct term_record *now = &store->current;
    return now->ownership == TERM_OWNER ? term_store_own(store, now->term, standby, err) : 0;
}
