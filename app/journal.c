#define SD_JOURNAL_SUPPRESS_LOCATION
#include "app/journal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "base/log.h"

#define FIELDS_MAX (8 + CONTROL_EVENT_FIELDS_MAX)
#define FIELD_MAX  (CONTROL_EVENT_TEXT_MAX + 32)

static const char *machine; /* NULL: there is no journal */

/* systemd.exec(5): JOURNAL_STREAM is "device:inode" of the stream that was connected. What a shell
 * has redirected since is another one. */
static bool is_connected(int fd)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat status;
    char ours[64];
    if (!stream || fstat(fd, &status) < 0)
        return false;
    snprintf(ours, sizeof(ours), "%llu:%llu", (unsigned long long)status.st_dev,
             (unsigned long long)status.st_ino);
    return strcmp(ours, stream) == 0;
}

/* A log that can't be written must not stop a guest: errors are of no interest. */
static void send_line(int priority, const char *area, const char *message)
{
    sd_journal_send("MESSAGE=%s", message, "PRIORITY=%d", priority, "SYSLOG_IDENTIFIER=kemarid",
                    "KEMARI_VM=%s", machine, "KEMARI_AREA=%s", area, NULL);
}

void journal_begin(const char *vm)
{
    if (!is_connected(STDERR_FILENO))
        return;
    machine = vm;
    log_set_sink(send_line);
}

bool journal_is_used(void)
{
    return machine != NULL;
}

struct entry {
    size_t count;
    struct iovec parts[FIELDS_MAX];
    char texts[FIELDS_MAX][FIELD_MAX];
};

static void add(struct entry *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct entry *e, const char *format, ...)
{
    char *text = e->texts[e->count];
    va_list args;
    va_start(args, format);
    vsnprintf(text, FIELD_MAX, format, args);
    va_end(args);
    e->parts[e->count++] = (struct iovec){.iov_base = text, .iov_len = strlen(text)};
}

/* "granted_ns" is KEMARI_GRANTED_NS; the journal takes capitals, digits and '_' only. */
static void add_field(struct entry *e, const struct control_event_field *field)
{
    char name[CONTROL_EVENT_KEY_MAX];
    snprintf(name, sizeof(name), "%s", field->key);
    for (char *p = name; *p; p++)
        *p = isalnum((unsigned char)*p) ? (char)toupper((unsigned char)*p) : '_';
    add(e, "KEMARI_%s=%s", name, field->value);
}

void journal_send_event(const struct control_event *event, const char *role, term_t term)
{
    static const int priorities[] = {
        [CONTROL_INFO] = 6, [CONTROL_WARNING] = 4, [CONTROL_ERROR] = 3};
    struct entry e;
    bool has_term = false;
    e.count = 0;
    add(&e, "MESSAGE=%s", event->text);
    add(&e, "PRIORITY=%d", priorities[event->severity]);
    add(&e, "SYSLOG_IDENTIFIER=kemarid");
    add(&e, "KEMARI_VM=%s", machine);
    add(&e, "KEMARI_EVENT=%s", event->kind);
    add(&e, "KEMARI_EVENT_ID=%llu", (unsigned long long)event->id);
    add(&e, "KEMARI_ROLE=%s", role);
    for (unsigned i = 0; i < event->field_count; i++) {
        has_term = has_term || strcmp(event->fields[i].key, "term") == 0;
        add_field(&e, &event->fields[i]);
    }
    /* An event that is about a term says so itself. */
    if (!has_term && term)
        add(&e, "KEMARI_TERM=%llu", (unsigned long long)term);
    sd_journal_sendv(e.parts, (int)e.count);
}
