#include "disk/lineage.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "base/wire.h"
#include "disk/block_map.h"

#define MAGIC        "KMRIdmap"
#define MAGIC_SIZE   8
#define CHECK_OFFSET (LINEAGE_SIZE - 8)

const char *image_state_name(enum image_state state)
{
    static const char *const names[] = {
        [IMAGE_OWNER] = "owner",
        [IMAGE_FOLLOWER] = "follower",
        [IMAGE_SYNCING] = "syncing",
        [IMAGE_OUTDATED] = "outdated",
    };
    return (unsigned)state < ARRAY_SIZE(names) && names[state] ? names[state] : "?";
}

bool lineage_has(const struct lineage *lineage, uint64_t generation)
{
    for (size_t i = 0; i < LINEAGE_GENERATIONS; i++)
        if (generation && lineage->generations[i] == generation)
            return true;
    return false;
}

void lineage_begin(struct lineage *lineage, uint64_t generation)
{
    memmove(lineage->generations + 1, lineage->generations,
            (LINEAGE_GENERATIONS - 1) * sizeof(generation));
    lineage->generations[0] = generation;
}

/* Why this is no lineage, or NULL. */
static const char *flaw(const struct lineage *l)
{
    static const uint8_t no_disk[LINEAGE_DISK_SIZE];
    if (!l->vm[0] || strnlen(l->vm, sizeof(l->vm)) == sizeof(l->vm))
        return "no name of a machine";
    for (const char *c = l->vm; *c; c++)
        if (*c <= ' ' || *c > '~')
            return "an unprintable name of a machine";
    for (size_t i = strlen(l->vm); i < sizeof(l->vm); i++)
        if (l->vm[i])
            return "bytes behind the name of the machine";
    if (l->size == 0 || l->size > BLOCK_DISK_MAX)
        return "an impossible size";
    if (memcmp(l->disk, no_disk, sizeof(no_disk)) == 0 || !l->point || !l->nonce || !l->sequence)
        return "an identifier of zero";
    if (l->state < IMAGE_OWNER || l->state > IMAGE_OUTDATED)
        return "an unknown state";
    if (!l->generations[0])
        return "no generation";
    for (size_t i = 1; i < LINEAGE_GENERATIONS; i++)
        if (l->generations[i] && !l->generations[i - 1])
            return "a gap between its generations";
    return NULL;
}

static void put_stamp(struct wire_writer *w, const struct image_stamp *s)
{
    wire_put_u64(w, s->inode);
    wire_put_u64(w, (uint64_t)s->modified_s);
    wire_put_u64(w, (uint64_t)s->modified_ns);
    wire_put_u8(w, s->closed);
}

void lineage_encode(const struct lineage *lineage, uint8_t out[LINEAGE_SIZE])
{
    assert(!flaw(lineage));
    struct wire_writer w = {.bytes = out, .size = CHECK_OFFSET};
    memset(out, 0, LINEAGE_SIZE);
    wire_put(&w, MAGIC, MAGIC_SIZE);
    wire_put_u32(&w, LINEAGE_VERSION);
    wire_put_u32(&w, BLOCK_SHIFT);
    wire_put(&w, lineage->vm, sizeof(lineage->vm));
    wire_put_u32(&w, lineage->index);
    wire_put_u32(&w, (uint32_t)lineage->state);
    wire_put_u64(&w, lineage->size);
    wire_put(&w, lineage->disk, sizeof(lineage->disk));
    wire_put_u64(&w, lineage->term);
    wire_put_u64(&w, lineage->point);
    wire_put_u64(&w, lineage->next_point);
    wire_put_u64(&w, lineage->nonce);
    wire_put_u64(&w, lineage->sequence);
    for (size_t i = 0; i < LINEAGE_GENERATIONS; i++)
        wire_put_u64(&w, lineage->generations[i]);
    put_stamp(&w, &lineage->stamp);
    assert(!w.bad);
    w = (struct wire_writer){.bytes = out + CHECK_OFFSET, .size = 8};
    wire_put_u64(&w, XXH3_64bits(out, CHECK_OFFSET));
}

static bool get_stamp(struct wire_reader *r, struct image_stamp *s)
{
    s->inode = wire_get_u64(r);
    s->modified_s = (int64_t)wire_get_u64(r);
    s->modified_ns = (int64_t)wire_get_u64(r);
    const uint8_t closed = wire_get_u8(r);
    s->closed = closed == 1;
    return closed <= 1;
}

static int refuse(struct lineage *out, struct error *err, const char *why)
{
    memset(out, 0, sizeof(*out));
    return error_set(err, -EBADMSG, "record of a disk: %s", why);
}

int lineage_decode(const uint8_t *bytes, size_t size, struct lineage *out, struct error *err)
{
    memset(out, 0, sizeof(*out));
    if (size != LINEAGE_SIZE)
        return refuse(out, err, "it is not of the right length");
    if (memcmp(bytes, MAGIC, MAGIC_SIZE) != 0)
        return refuse(out, err, "it does not begin as one");
    struct wire_reader r = {.bytes = bytes + CHECK_OFFSET, .size = 8};
    if (wire_get_u64(&r) != XXH3_64bits(bytes, CHECK_OFFSET))
        return refuse(out, err, "its checksum does not match its content");
    r = (struct wire_reader){.bytes = bytes, .size = CHECK_OFFSET, .used = MAGIC_SIZE};
    if (wire_get_u32(&r) != LINEAGE_VERSION)
        return refuse(out, err, "another version of Kemari made it");
    if (wire_get_u32(&r) != BLOCK_SHIFT)
        return refuse(out, err, "it counts blocks of another size");
    wire_get(&r, out->vm, sizeof(out->vm));
    out->index = wire_get_u32(&r);
    out->state = (enum image_state)wire_get_u32(&r);
    out->size = wire_get_u64(&r);
    wire_get(&r, out->disk, sizeof(out->disk));
    out->term = wire_get_u64(&r);
    out->point = wire_get_u64(&r);
    out->next_point = wire_get_u64(&r);
    out->nonce = wire_get_u64(&r);
    out->sequence = wire_get_u64(&r);
    for (size_t i = 0; i < LINEAGE_GENERATIONS; i++)
        out->generations[i] = wire_get_u64(&r);
    if (!get_stamp(&r, &out->stamp))
        return refuse(out, err, "a flag is neither set nor unset");
    while (r.used < r.size)
        if (wire_get_u8(&r) != 0)
            return refuse(out, err, "bytes behind its end");
    const char *why = flaw(out);
    return why ? refuse(out, err, why) : 0;
}
