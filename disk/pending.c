#include "disk/pending.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* So many of the oldest changes are looked at for one that may begin: bounds the time of a look,
 * and what is under way. */
#define WINDOW 64

static bool is_flush(const struct pending_change *c)
{
    return c->record.op == DISK_FLUSH;
}

static bool overlap(const struct pending_change *c, unsigned disk, uint64_t offset, uint64_t size)
{
    const struct disk_record *r = &c->record;
    return r->disk == disk && r->offset < offset + size && offset < r->offset + r->length;
}

size_t pending_cost(const struct disk_record *record)
{
    return PENDING_COST + (record->op == DISK_WRITE ? (size_t)record->length : 0);
}

/* ---- life ---- */

void pending_init(struct pending *pending)
{
    *pending = (struct pending){0};
    pending->last = &pending->first;
}

void pending_ref(struct pending_change *change)
{
    change->refs++;
}

void pending_unref(struct pending_change *change)
{
    assert(change->refs > 0);
    if (--change->refs)
        return;
    free((uint8_t *)(uintptr_t)change->record.data);
    free(change);
}

struct pending_change *pending_add(struct pending *pending, const struct disk_record *record)
{
    struct pending_change *c = calloc(1, sizeof(*c));
    if (!c) /* a change that gets lost would be silent */
        abort();
    c->record = *record;
    c->number = ++pending->last_number;
    c->refs = 1;
    disk_record_encode(record, c->header);
    *pending->last = c;
    pending->last = &c->next;
    pending->cost += pending_cost(record);
    pending->untold_cost += pending_cost(record);
    if (!pending->unreleased)
        pending->unreleased = c;
    if (!pending->untold)
        pending->untold = c;
    return c;
}

/* Out of the list, of which `at` points to it. */
static void take_out(struct pending *pending, struct pending_change **at)
{
    struct pending_change *c = *at;
    *at = c->next;
    if (!*at)
        pending->last = at;
    pending->cost -= pending_cost(&c->record);
    /* Alone, changes come and go that nobody was told of. */
    if (pending->untold && pending->untold->number <= c->number)
        pending->untold_cost -= pending_cost(&c->record);
    if (pending->untold == c)
        pending->untold = c->next;
    if (pending->unreleased == c)
        pending->unreleased = c->next;
    pending_unref(c);
}

void pending_clear(struct pending *pending)
{
    while (pending->first)
        take_out(pending, &pending->first);
}

/* ---- on the way to the image ---- */

struct pending_change *pending_release(struct pending *pending, uint64_t number)
{
    struct pending_change *c = pending->unreleased;
    while (c && c->number != number)
        c = c->next;
    if (!c || c->released)
        return NULL;
    c->released = true;
    while (pending->unreleased && pending->unreleased->released)
        pending->unreleased = pending->unreleased->next;
    return c;
}

/* Nothing before it has to be done first. */
static bool is_free(const struct pending *pending, const struct pending_change *change)
{
    const struct disk_record *r = &change->record;
    for (const struct pending_change *c = pending->first; c != change; c = c->next)
        if (!c->done &&
            (is_flush(c) || is_flush(change) || overlap(c, r->disk, r->offset, r->length)))
            return false;
    return true;
}

struct pending_change *pending_next(const struct pending *pending)
{
    unsigned looked = 0;
    for (struct pending_change *c = pending->first; c && c->released && looked < WINDOW;
         c = c->next, looked++)
        if (!c->begun && !c->done && is_free(pending, c))
            return c;
    return NULL;
}

void pending_begin(struct pending_change *change)
{
    assert(change->released && !change->begun && !change->done);
    change->begun = true;
}

void pending_done(struct pending *pending, struct pending_change *change)
{
    assert(change->begun);
    change->begun = false;
    change->done = true;
    while (pending->first && pending->first->done) {
        pending->retired = pending->first->number;
        take_out(pending, &pending->first);
    }
}

void pending_failed(struct pending_change *change)
{
    assert(change->begun);
    change->begun = false;
}

void pending_withdraw(struct pending *pending, struct pending_change *change)
{
    assert(change->released && !change->begun && !change->done);
    struct pending_change **at = &pending->first;
    while (*at != change)
        at = &(*at)->next;
    take_out(pending, at);
}

bool pending_is_moving(const struct pending *pending)
{
    return pending->first && pending->first->released;
}

unsigned pending_count(const struct pending *pending, unsigned disk)
{
    unsigned count = 0;
    for (const struct pending_change *c = pending->first; c; c = c->next)
        count += c->record.disk == disk;
    return count;
}

unsigned pending_count_moving(const struct pending *pending, unsigned disk)
{
    unsigned count = 0;
    for (const struct pending_change *c = pending->first; c; c = c->next)
        count += c->record.disk == disk && c->released && !c->done;
    return count;
}

/* ---- the overlay ---- */

static void keep(struct pending_set *set, size_t *room, struct pending_change *c)
{
    if (set->count == *room) {
        *room = *room ? 2 * *room : 8;
        set->changes = realloc(set->changes, *room * sizeof(struct pending_change *));
        if (!set->changes)
            abort();
    }
    set->changes[set->count++] = c;
    pending_ref(c);
}

void pending_look(const struct pending *pending, unsigned disk, uint64_t offset, uint64_t size,
                  struct pending_set *out)
{
    size_t room = 0;
    *out = (struct pending_set){0};
    for (struct pending_change *c = pending->first; c; c = c->next)
        if (overlap(c, disk, offset, size))
            keep(out, &room, c);
}

void pending_patch(const struct pending_set *set, uint64_t offset, uint64_t size, uint8_t *data)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct disk_record *r = &set->changes[i]->record;
        const uint64_t from = r->offset > offset ? r->offset : offset;
        const uint64_t end = r->offset + r->length;
        const uint64_t to = end < offset + size ? end : offset + size;
        if (r->op == DISK_WRITE)
            memcpy(data + (from - offset), r->data + (from - r->offset), to - from);
        else
            memset(data + (from - offset), 0, to - from);
    }
}

void pending_drop(struct pending_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        pending_unref(set->changes[i]);
    free(set->changes);
    *set = (struct pending_set){0};
}

/* ---- the log ---- */

void pending_tell_again(struct pending *pending)
{
    pending->untold = pending->first;
    pending->untold_cost = pending->cost;
}

void pending_take(struct pending *pending, struct pending_set *out)
{
    size_t room = 0;
    *out = (struct pending_set){0};
    for (struct pending_change *c = pending->untold; c; c = c->next)
        keep(out, &room, c);
    pending->untold = NULL;
    pending->untold_cost = 0;
}
