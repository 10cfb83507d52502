#include "disk/nbd_wire.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/wire.h"

/* The spec's names in the comments. */
#define GREETING_MAGIC 0x4e42444d41474943u /* NBDMAGIC */
#define OPTION_MAGIC   0x49484156454f5054u /* IHAVEOPT */
#define ANSWER_MAGIC   0x0003e889045565a9u
#define REQUEST_MAGIC  0x25609513u
#define REPLY_MAGIC    0x67446698u

#define FIXED_NEWSTYLE 1u /* NBD_FLAG_FIXED_NEWSTYLE, NBD_FLAG_C_FIXED_NEWSTYLE */
#define NO_ZEROES      2u /* NBD_FLAG_NO_ZEROES, NBD_FLAG_C_NO_ZEROES */

/* NBD_OPT_ */
#define OPT_EXPORT_NAME 1u
#define OPT_ABORT       2u
#define OPT_GO          7u

/* NBD_REP_ */
#define REP_ACK         1u
#define REP_INFO        3u
#define REP_ERR_UNSUP   0x80000001u
#define REP_ERR_INVALID 0x80000003u
#define REP_ERR_UNKNOWN 0x80000006u

/* NBD_INFO_ */
#define INFO_EXPORT     0u
#define INFO_BLOCK_SIZE 3u

/* NBD_FLAG_, of an export */
#define HAS_FLAGS         (1u << 0)
#define READ_ONLY         (1u << 1)
#define SEND_FLUSH        (1u << 2)
#define SEND_FUA          (1u << 3)
#define SEND_TRIM         (1u << 5)
#define SEND_WRITE_ZEROES (1u << 6)

#define PREFERRED_BLOCK   4096u

/* NBD_CMD_ */
enum { CMD_READ = 0, CMD_WRITE = 1, CMD_DISC = 2, CMD_FLUSH = 3, CMD_TRIM = 4, CMD_ZEROES = 6 };

/* NBD_CMD_FLAG_ */
#define CMD_FUA     (1u << 0)
#define CMD_NO_HOLE (1u << 1)

static void put_u16(struct wire_writer *w, uint16_t v)
{
    v = htobe16(v);
    wire_put(w, &v, sizeof(v));
}

static void put_u32(struct wire_writer *w, uint32_t v)
{
    v = htobe32(v);
    wire_put(w, &v, sizeof(v));
}

static void put_u64(struct wire_writer *w, uint64_t v)
{
    v = htobe64(v);
    wire_put(w, &v, sizeof(v));
}

static uint16_t get_u16(struct wire_reader *r)
{
    uint16_t v;
    wire_get(r, &v, sizeof(v));
    return be16toh(v);
}

static uint32_t get_u32(struct wire_reader *r)
{
    uint32_t v;
    wire_get(r, &v, sizeof(v));
    return be32toh(v);
}

static uint64_t get_u64(struct wire_reader *r)
{
    uint64_t v;
    wire_get(r, &v, sizeof(v));
    return be64toh(v);
}

/* ---- negotiation ---- */

void nbd_encode_greeting(uint8_t out[NBD_GREETING_SIZE])
{
    struct wire_writer w = {.bytes = out, .size = NBD_GREETING_SIZE};
    put_u64(&w, GREETING_MAGIC);
    put_u64(&w, OPTION_MAGIC);
    put_u16(&w, FIXED_NEWSTYLE | NO_ZEROES);
}

int nbd_decode_flags(const uint8_t bytes[NBD_FLAGS_SIZE], struct error *err)
{
    struct wire_reader r = {.bytes = bytes, .size = NBD_FLAGS_SIZE};
    const uint32_t flags = get_u32(&r);
    if (!(flags & FIXED_NEWSTYLE) || flags & ~(FIXED_NEWSTYLE | NO_ZEROES))
        return error_set(err, -EBADMSG, "NBD: a client with flags %#x", flags);
    return 0;
}

int nbd_decode_option(const uint8_t bytes[NBD_OPTION_SIZE], struct nbd_option *out,
                      struct error *err)
{
    struct wire_reader r = {.bytes = bytes, .size = NBD_OPTION_SIZE};
    const bool is_option = get_u64(&r) == OPTION_MAGIC;
    out->code = get_u32(&r);
    out->size = get_u32(&r);
    if (!is_option)
        return error_set(err, -EBADMSG, "NBD: not an option");
    if (out->size > NBD_OPTION_DATA_MAX)
        return error_set(err, -EBADMSG, "NBD: option %u with %u bytes", out->code, out->size);
    return 0;
}

static void put_answer(struct wire_writer *w, const struct nbd_option *option, uint32_t type,
                       uint32_t size)
{
    put_u64(w, ANSWER_MAGIC);
    put_u32(w, option->code);
    put_u32(w, type);
    put_u32(w, size);
}

/* What a client is told of the export. The block sizes are told unasked: the spec allows it, and a
 * request that is too large ends the connection. */
static void put_export(struct wire_writer *w, const struct nbd_option *option,
                       const struct nbd_export *export)
{
    const uint32_t changes = SEND_FLUSH | SEND_FUA | SEND_TRIM | SEND_WRITE_ZEROES;
    put_answer(w, option, REP_INFO, 12);
    put_u16(w, INFO_EXPORT);
    put_u64(w, export->size);
    put_u16(w, (uint16_t)(HAS_FLAGS | (export->read_only ? READ_ONLY : changes)));
    put_answer(w, option, REP_INFO, 14);
    put_u16(w, INFO_BLOCK_SIZE);
    put_u32(w, DISK_SECTOR);
    put_u32(w, PREFERRED_BLOCK);
    put_u32(w, DISK_DATA_MAX);
    put_answer(w, option, REP_ACK, 0);
}

/* Name, then the numbers of the informations that are wished for, which are not looked at. */
static uint32_t judge_go(const uint8_t *data, size_t size, const struct nbd_export *export)
{
    struct wire_reader r = {.bytes = data, .size = size};
    const uint32_t length = get_u32(&r);
    const uint8_t *name = wire_get_view(&r, length);
    const uint16_t count = get_u16(&r);
    wire_get_view(&r, (size_t)count * sizeof(uint16_t));
    if (!wire_done(&r))
        return REP_ERR_INVALID;
    const bool ours = length == strlen(export->name) && memcmp(name, export->name, length) == 0;
    return ours ? REP_ACK : REP_ERR_UNKNOWN;
}

enum nbd_next nbd_answer_option(const struct nbd_option *option, const uint8_t *data,
                                const struct nbd_export *export, uint8_t out[NBD_ANSWER_MAX],
                                size_t *size)
{
    struct wire_writer w = {.bytes = out, .size = NBD_ANSWER_MAX};
    enum nbd_next next = NBD_NEXT_OPTION;
    const uint32_t judged = option->code == OPT_GO      ? judge_go(data, option->size, export)
                            : option->code == OPT_ABORT ? REP_ACK
                                                        : REP_ERR_UNSUP;
    if (option->code == OPT_EXPORT_NAME) {
        next = NBD_NEXT_END;
    } else if (option->code == OPT_GO && judged == REP_ACK) {
        put_export(&w, option, export);
        next = NBD_NEXT_REQUEST;
    } else {
        put_answer(&w, option, judged, 0);
        next = option->code == OPT_ABORT ? NBD_NEXT_END : NBD_NEXT_OPTION;
    }
    *size = w.used;
    return next;
}

/* ---- requests ---- */

static bool is_change(enum disk_op op)
{
    return op == DISK_WRITE || op == DISK_DISCARD || op == DISK_WRITE_ZEROES;
}

/* `command` and `flags` into what an image does: false when that is nothing. */
static bool translate(uint16_t command, uint16_t flags, struct nbd_request *out)
{
    static const enum disk_op ops[] = {
        [CMD_READ] = DISK_READ,    [CMD_WRITE] = DISK_WRITE,         [CMD_FLUSH] = DISK_FLUSH,
        [CMD_TRIM] = DISK_DISCARD, [CMD_ZEROES] = DISK_WRITE_ZEROES,
    };
    if (command >= ARRAY_SIZE(ops) || !ops[command])
        return false;
    out->op = ops[command];
    out->fua = flags & CMD_FUA && is_change(out->op);
    out->may_unmap = out->op == DISK_WRITE_ZEROES && !(flags & CMD_NO_HOLE);
    /* FUA may come with any command, and means nothing with those that change nothing. */
    return !(flags & ~(CMD_FUA | (out->op == DISK_WRITE_ZEROES ? CMD_NO_HOLE : 0u)));
}

static enum nbd_error judge(const struct nbd_request *r, const struct nbd_export *export)
{
    if (export->read_only && r->op != DISK_READ)
        return NBD_EPERM;
    if (r->op == DISK_FLUSH)
        return r->offset || r->size ? NBD_EINVAL : NBD_OK;
    if (r->size == 0 || r->size % DISK_SECTOR || r->offset % DISK_SECTOR)
        return NBD_EINVAL;
    if (r->offset > export->size || r->size > export->size - r->offset)
        return is_change(r->op) ? NBD_ENOSPC : NBD_EINVAL;
    return r->op == DISK_READ && r->size > DISK_DATA_MAX ? NBD_EINVAL : NBD_OK;
}

int nbd_decode_request(const uint8_t bytes[NBD_REQUEST_SIZE], const struct nbd_export *export,
                       struct nbd_request *out, struct error *err)
{
    struct wire_reader r = {.bytes = bytes, .size = NBD_REQUEST_SIZE};
    const bool is_request = get_u32(&r) == REQUEST_MAGIC;
    const uint16_t flags = get_u16(&r);
    const uint16_t command = get_u16(&r);
    *out = (struct nbd_request){.ends = command == CMD_DISC};
    out->cookie = get_u64(&r);
    out->offset = get_u64(&r);
    out->size = get_u32(&r);
    if (!is_request)
        return error_set(err, -EBADMSG, "NBD: not a request");
    if (command == CMD_WRITE && out->size > DISK_DATA_MAX)
        return error_set(err, -EBADMSG, "NBD: a write of %llu bytes",
                         (unsigned long long)out->size);
    out->payload = command == CMD_WRITE ? (uint32_t)out->size : 0;
    out->error = translate(command, flags, out) ? judge(out, export) : NBD_EINVAL;
    return 0;
}

enum nbd_error nbd_error_of(int result)
{
    switch (result) {
    case 0:
        return NBD_OK;
    case -EPERM:
    case -EROFS:
        return NBD_EPERM;
    case -ENOMEM:
        return NBD_ENOMEM;
    case -EINVAL:
        return NBD_EINVAL;
    case -ENOSPC:
    case -EDQUOT:
        return NBD_ENOSPC;
    default:
        return NBD_EIO;
    }
}

void nbd_encode_reply(uint64_t cookie, enum nbd_error error, uint8_t out[NBD_REPLY_SIZE])
{
    struct wire_writer w = {.bytes = out, .size = NBD_REPLY_SIZE};
    put_u32(&w, REPLY_MAGIC);
    put_u32(&w, error);
    put_u64(&w, cookie);
}
