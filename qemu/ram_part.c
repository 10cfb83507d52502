#include "qemu/ram_part.h"

#include <errno.h>
#include <string.h>

#define PART_MORE     0x02 /* QEMU_VM_SECTION_PART */
#define PART_LAST     0x03 /* QEMU_VM_SECTION_END */
#define PART_END      0x7e /* QEMU_VM_SECTION_FOOTER */
#define PART_VERSION  4

#define FLAG_ZERO     0x02
#define FLAG_MEM_SIZE 0x04
#define FLAG_PAGE     0x08
#define FLAG_EOS      0x10
#define FLAG_CONTINUE 0x20
#define FLAGS         ((uint64_t)PAGE_SIZE - 1)

static bool has(const struct ram_walk *w, uint64_t bytes)
{
    return bytes <= w->size - w->at;
}

static bool peek(const struct ram_walk *w, unsigned bytes, uint64_t *value)
{
    *value = 0;
    if (!has(w, bytes))
        return false;
    for (unsigned i = 0; i < bytes; i++)
        *value = *value << 8 | w->bytes[w->at + i];
    return true;
}

static bool get(struct ram_walk *w, unsigned bytes, uint64_t *value)
{
    if (!peek(w, bytes, value))
        return false;
    w->at += bytes;
    return true;
}

static bool expect(struct ram_walk *w, unsigned bytes, uint64_t wanted)
{
    uint64_t value;
    return get(w, bytes, &value) && value == wanted;
}

static bool get_name(struct ram_walk *w, char out[RAM_NAME_MAX + 1])
{
    uint64_t length;
    if (!get(w, 1, &length) || length == 0 || !has(w, length))
        return false;
    memcpy(out, w->bytes + w->at, length);
    out[length] = '\0';
    w->at += length;
    return strlen(out) == length;
}

/* Behind the kind of the first part and its id. */
static bool get_list(struct ram_walk *w)
{
    uint64_t total, size, address;
    char name[RAM_NAME_MAX + 1];
    if (!get_name(w, name) || strcmp(name, "ram") != 0 || !expect(w, 4, 0) ||
        !expect(w, 4, PART_VERSION) || !get(w, 8, &total) || (total & FLAGS) != FLAG_MEM_SIZE)
        return false;
    for (total &= ~FLAGS; total; total -= size) {
        if (!get_name(w, name) || !get(w, 8, &size) || !get(w, 8, &address) || size == 0 ||
            size > total)
            return false;
        if (w->listed)
            w->listed(w->context, name, size);
    }
    return true;
}

static bool begin_part(struct ram_walk *w)
{
    uint64_t kind, id;
    if (!get(w, 1, &kind) || !get(w, 4, &id))
        return false;
    w->in_part = true;
    w->ended = kind == PART_LAST;
    if (w->begun)
        return id == w->id && (kind == PART_MORE || kind == PART_LAST);
    w->id = (uint32_t)id;
    return kind == RAM_PART_BEGIN;
}

static bool get_page(struct ram_walk *w, uint64_t header)
{
    const uint64_t flags = header & FLAGS, kind = flags & ~(uint64_t)FLAG_CONTINUE;
    char name[RAM_NAME_MAX + 1];
    w->at += 8;
    if (flags & FLAG_CONTINUE ? !w->has_block : !get_name(w, name))
        return false;
    w->has_block = true;
    if (kind == FLAG_ZERO)
        return expect(w, 1, 0);
    if (kind != FLAG_PAGE || !has(w, PAGE_SIZE))
        return false;
    w->at += PAGE_SIZE;
    return true;
}

/* All pages that belong with the first one. */
static bool get_pages(struct ram_walk *w, uint64_t header)
{
    const uint64_t stretch = header / RAM_PIECE_SIZE;
    do
        if (!get_page(w, header))
            return false;
    while (peek(w, 8, &header) && header / RAM_PIECE_SIZE == stretch && (header & FLAG_CONTINUE));
    return true;
}

static bool get_piece(struct ram_walk *w)
{
    uint64_t header;
    if (!w->in_part && !begin_part(w))
        return false;
    if (!w->begun)
        return w->begun = get_list(w);
    if (!peek(w, 8, &header))
        return false;
    if (header != FLAG_EOS)
        return get_pages(w, header);
    w->at += 8;
    w->in_part = false;
    return expect(w, 1, PART_END) && expect(w, 4, w->id);
}

int ram_walk_next(struct ram_walk *walk, struct error *err)
{
    const size_t from = walk->at;
    if (walk->ended && !walk->in_part)
        return 0;
    if (get_piece(walk))
        return 1;
    return error_set(err, -EBADMSG,
                     "state of QEMU: what it says of memory at byte %zu of %zu can't be read", from,
                     walk->size);
}
