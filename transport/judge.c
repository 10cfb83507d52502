/* May these two be a pair? Pure; the rules stand in transport/session.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "transport/party.h"

#define LINE_SHOWN   120 /* bytes of an identity line in a phrase */
#define LINE_CONTEXT 20  /* of them before the difference, when that is far into the line */
#define PHRASE_MAX   (2 * LINE_SHOWN + 64)

static enum session_reason refuse(enum session_reason reason, struct error *text,
                                  const char *phrase)
{
    error_set(text, -ECONNREFUSED, "%s", phrase);
    return reason;
}

/* --- terms and roles --- */

/* DESIGN §2: lower terms are refused. A primary is stale when anybody knows a higher term than its
 * own; a secondary may come with any term that isn't higher than its primary's. */
static enum session_reason judge_terms(const struct session_party *local,
                                       const struct session_party *remote, struct error *text)
{
    char phrase[PHRASE_MAX];
    if (local->role == SESSION_PRIMARY && remote->term > local->term) {
        snprintf(phrase, sizeof(phrase),
                 "peer knows term %" PRIu64 ", this primary has term %" PRIu64
                 " only: this host is stale",
                 remote->term, local->term);
        return refuse(SESSION_HIGHER_TERM, text, phrase);
    }
    if (remote->role == SESSION_PRIMARY && local->term > remote->term) {
        snprintf(phrase, sizeof(phrase),
                 "peer is a primary of term %" PRIu64 ", this host knows term %" PRIu64
                 ": the peer is stale",
                 remote->term, local->term);
        return refuse(SESSION_LOWER_TERM, text, phrase);
    }
    if (local->role == remote->role)
        return refuse(SESSION_ROLE, text,
                      local->role == SESSION_PRIMARY ? "peer is a primary, and so is this host"
                                                     : "peer is a secondary, and so is this host");
    return SESSION_OK;
}

/* --- memory --- */

static enum session_reason judge_layout(const struct session_party *local,
                                        const struct session_party *remote, struct error *text)
{
    char phrase[PHRASE_MAX];
    if (local->memory_size != remote->memory_size) {
        snprintf(phrase, sizeof(phrase), "peer has %" PRIu64 " bytes of memory, this host %" PRIu64,
                 remote->memory_size, local->memory_size);
        return refuse(SESSION_LAYOUT, text, phrase);
    }
    if (local->slot_count != remote->slot_count) {
        snprintf(phrase, sizeof(phrase), "peer has %u memory slots, this host %u",
                 remote->slot_count, local->slot_count);
        return refuse(SESSION_LAYOUT, text, phrase);
    }
    for (uint32_t i = 0; i < local->slot_count; i++) {
        const struct session_slot *l = &local->slots[i];
        const struct session_slot *r = &remote->slots[i];
        if (l->gpa == r->gpa && l->size == r->size)
            continue;
        snprintf(phrase, sizeof(phrase),
                 "peer has memory slot %u at 0x%" PRIx64 "+0x%" PRIx64 ", this host at 0x%" PRIx64
                 "+0x%" PRIx64,
                 i, r->gpa, r->size, l->gpa, l->size);
        return refuse(SESSION_LAYOUT, text, phrase);
    }
    return SESSION_OK;
}

/* --- identity --- */

struct line {
    const char *text;
    size_t length;     /* without the newline; 0: there is no line */
    size_t key_length; /* up to '=' */
};

/* Cuts the next line off `*cursor`. */
static struct line next_line(const char **cursor)
{
    struct line line = {.text = *cursor, .length = strcspn(*cursor, "\n")};
    line.key_length = strcspn(line.text, "=\n");
    *cursor += line.length;
    if (**cursor == '\n')
        (*cursor)++;
    return line;
}

static bool starts_with(const char *key, size_t length, const char *prefix)
{
    return length >= strlen(prefix) && memcmp(key, prefix, strlen(prefix)) == 0;
}

enum session_reason session_reason_of_key(const char *key, size_t length)
{
    static const char *const cpu[] = {"vcpu", "cpu", "msr", "tsc", "xsave"};
    static const char *const layout[] = {"memory", "slot"};
    for (size_t i = 0; i < ARRAY_SIZE(layout); i++)
        if (starts_with(key, length, layout[i]))
            return SESSION_LAYOUT;
    for (size_t i = 0; i < ARRAY_SIZE(cpu); i++)
        if (starts_with(key, length, cpu[i]))
            return SESSION_CPU;
    return SESSION_DEVICES;
}

/* Where two lines part; lines that are there both and long (lists of MSRs) are shown from there. */
static size_t first_difference(const struct line *a, const struct line *b)
{
    size_t i = 0;
    while (i < a->length && i < b->length && a->text[i] == b->text[i])
        i++;
    return i;
}

static void print_line(char *out, size_t size, const struct line *line, size_t difference)
{
    if (line->length == 0) {
        snprintf(out, size, "nothing there");
    } else if (line->length <= LINE_SHOWN) {
        snprintf(out, size, "%.*s", (int)line->length, line->text);
    } else if (line->key_length > LINE_SHOWN / 2 || difference < LINE_SHOWN / 2) {
        snprintf(out, size, "%.*s...", LINE_SHOWN, line->text);
    } else {
        const size_t from = difference - LINE_CONTEXT;
        const size_t room = LINE_SHOWN - line->key_length;
        const size_t rest = line->length - from;
        snprintf(out, size, "%.*s=...%.*s%s", (int)line->key_length, line->text,
                 (int)(rest < room ? rest : room), line->text + from, rest > room ? "..." : "");
    }
}

static bool has_key(const char *identity, const struct line *line)
{
    while (*identity) {
        const struct line other = next_line(&identity);
        if (other.key_length == line->key_length &&
            memcmp(other.text, line->text, line->key_length) == 0)
            return true;
    }
    return false;
}

static enum session_reason reason_of_line(const struct line *line)
{
    return line->length ? session_reason_of_key(line->text, line->key_length) : SESSION_DEVICES;
}

/* Two lines that differ may have different keys, when one side has a line more: then the line that
 * the other side doesn't have at all is what differs, and the second becomes "nothing there".
 * Symmetric in the sides. */
static enum session_reason reason_of_lines(const struct session_party *local, struct line *l,
                                           const struct session_party *remote, struct line *r)
{
    const bool l_alone = l->length && !has_key(remote->identity, l);
    const bool r_alone = r->length && !has_key(local->identity, r);
    if (l_alone && !r_alone)
        *r = (struct line){.text = ""};
    if (r_alone && !l_alone)
        *l = (struct line){.text = ""};
    const enum session_reason first = reason_of_line(l->length ? l : r);
    const enum session_reason second = reason_of_line(r->length ? r : l);
    return first < second ? first : second;
}

static enum session_reason judge_identity(const struct session_party *local,
                                          const struct session_party *remote, struct error *text)
{
    const char *here = local->identity;
    const char *there = remote->identity;
    while (*here || *there) {
        struct line l = next_line(&here);
        struct line r = next_line(&there);
        if (l.length == r.length && memcmp(l.text, r.text, l.length) == 0)
            continue;
        char ours[LINE_SHOWN + 16];
        char theirs[LINE_SHOWN + 16];
        char phrase[PHRASE_MAX];
        const enum session_reason reason = reason_of_lines(local, &l, remote, &r);
        const size_t difference = first_difference(&l, &r);
        print_line(ours, sizeof(ours), &l, difference);
        print_line(theirs, sizeof(theirs), &r, difference);
        snprintf(phrase, sizeof(phrase), "peer has %s, this host %s", theirs, ours);
        return refuse(reason, text, phrase);
    }
    return SESSION_OK;
}

/* --- all of it --- */

enum session_reason session_judge(const struct session_party *local,
                                  const struct session_party *remote, struct error *text)
{
    char phrase[PHRASE_MAX];
    if (local->major != remote->major) {
        snprintf(phrase, sizeof(phrase), "peer speaks protocol %u.%u, this host %u.%u",
                 remote->major, remote->minor, local->major, local->minor);
        return refuse(SESSION_VERSION, text, phrase);
    }
    if (strcmp(local->vm_name, remote->vm_name) != 0) {
        snprintf(phrase, sizeof(phrase), "peer protects the machine \"%s\", this host \"%s\"",
                 remote->vm_name, local->vm_name);
        return refuse(SESSION_VM_NAME, text, phrase);
    }
    enum session_reason reason = judge_terms(local, remote, text);
    if (reason == SESSION_OK)
        reason = judge_layout(local, remote, text);
    if (reason == SESSION_OK)
        reason = judge_identity(local, remote, text);
    return reason;
}

const char *session_reason_name(enum session_reason reason)
{
    static const char *const names[] = {
        [SESSION_OK] = "ok",
        [SESSION_VERSION] = "version",
        [SESSION_KEY] = "key",
        [SESSION_VM_NAME] = "vm-name",
        [SESSION_LOWER_TERM] = "lower-term",
        [SESSION_HIGHER_TERM] = "higher-term",
        [SESSION_ROLE] = "role",
        [SESSION_LAYOUT] = "layout",
        [SESSION_CPU] = "cpu",
        [SESSION_DEVICES] = "devices",
        [SESSION_BUSY] = "busy",
        [SESSION_STRANGER] = "stranger",
        [SESSION_TURN] = "turn",
    };
    return (unsigned)reason < ARRAY_SIZE(names) ? names[reason] : "?";
}

/* --- one party alone --- */

static int check_slots(const struct session_party *p, struct error *err)
{
    if (p->slot_count == 0 || p->slot_count > SESSION_SLOTS_MAX)
        return error_set(err, -EINVAL, "%u memory slots, legal are 1 to %d", p->slot_count,
                         SESSION_SLOTS_MAX);
    uint64_t total = 0;
    gpa_t end = 0;
    for (uint32_t i = 0; i < p->slot_count; i++) {
        const struct session_slot *s = &p->slots[i];
        const bool aligned = s->gpa % PAGE_SIZE == 0 && s->size % PAGE_SIZE == 0;
        if (!aligned || s->size == 0 || s->gpa < end || s->size > UINT64_MAX - s->gpa)
            return error_set(err, -EINVAL,
                             "memory slot %u is empty, out of order or not of whole pages", i);
        end = s->gpa + s->size;
        total += s->size; /* disjoint ranges: can't exceed 2^64 */
    }
    if (total != p->memory_size)
        return error_set(err, -EINVAL, "memory slots of %" PRIu64 " bytes in a memory of %" PRIu64,
                         total, p->memory_size);
    return 0;
}

static int check_identity(const struct session_party *p, struct error *err)
{
    for (const char *c = p->identity; *c; c++)
        if ((*c < ' ' || *c > '~') && *c != '\n')
            return error_set(err, -EINVAL, "identity with an unprintable byte 0x%02x",
                             (unsigned)(unsigned char)*c);
    const char *cursor = p->identity;
    while (*cursor) {
        const struct line line = next_line(&cursor);
        if (line.key_length == 0 || line.key_length == line.length || cursor[-1] != '\n')
            return error_set(err, -EINVAL, "identity line \"%.*s\" isn't key=value",
                             (int)(line.length < LINE_SHOWN ? line.length : LINE_SHOWN), line.text);
    }
    return 0;
}

int party_validate(const struct session_party *p, struct error *err)
{
    if (strnlen(p->vm_name, SESSION_NAME_MAX) == SESSION_NAME_MAX ||
        strnlen(p->identity, SESSION_IDENTITY_MAX) == SESSION_IDENTITY_MAX)
        return error_set(err, -EINVAL, "machine name or identity without an end");
    static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    if (p->vm_name[0] == '\0' || p->vm_name[strspn(p->vm_name, legal)] != '\0')
        return error_set(err, -EINVAL,
                         "machine name \"%s\" is empty or has others than letters, digits, "
                         "dot, dash, underscore",
                         p->vm_name);
    if (p->role != SESSION_PRIMARY && p->role != SESSION_SECONDARY)
        return error_set(err, -EINVAL, "unknown role %d", (int)p->role);
    if (p->role == SESSION_PRIMARY && p->term == 0)
        return error_set(err, -EINVAL, "a primary without a term");
    if (p->streams == 0 || p->streams > SESSION_STREAMS_MAX || p->stream >= SESSION_STREAMS_MAX)
        return error_set(err, -EINVAL, "stream %u of %u, at most %d are legal", p->stream,
                         p->streams, SESSION_STREAMS_MAX);
    if (p->staging_cap == 0)
        return error_set(err, -EINVAL, "a staging cap of zero bytes");
    const int rc = check_slots(p, err);
    return rc < 0 ? rc : check_identity(p, err);
}
