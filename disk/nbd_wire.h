/* NBD, as far as a server for one disk needs it: fixed newstyle negotiation with NBD_OPT_GO alone,
 * and simple replies (the protocol: doc/proto.md of the NBD project, "the spec" here). Big-endian.
 *
 *   server: greeting            client: flags
 *   client: option, its data    server: option replies ...        until NBD_OPT_GO is answered
 *   client: request[, payload]  server: reply[, data]             in any order, by cookie
 *
 * Pure functions. Whatever can't be understood is an error that ends the connection; what is
 * understood and can't be done is answered with an error of NBD's. */
#ifndef KEMARI_DISK_NBD_WIRE_H
#define KEMARI_DISK_NBD_WIRE_H

#include "base/error.h"
#include "disk/io.h"

#define NBD_GREETING_SIZE   18
#define NBD_FLAGS_SIZE      4
#define NBD_OPTION_SIZE     16
#define NBD_OPTION_DATA_MAX 512 /* bytes; of a longer one nothing is known here */
#define NBD_REQUEST_SIZE    28
#define NBD_REPLY_SIZE      16
#define NBD_ANSWER_MAX      96 /* bytes, to one option */

/* What is served. */
struct nbd_export {
    const char *name;
    uint64_t size; /* bytes, a multiple of DISK_SECTOR */
    bool read_only;
};

/* ---- negotiation ---- */

void nbd_encode_greeting(uint8_t out[NBD_GREETING_SIZE]);
/* -EBADMSG when the client does not know fixed newstyle, or asks for what wasn't offered. */
int nbd_decode_flags(const uint8_t bytes[NBD_FLAGS_SIZE], struct error *err);

struct nbd_option {
    uint32_t code;
    uint32_t size; /* of its data, at most NBD_OPTION_DATA_MAX */
};

int nbd_decode_option(const uint8_t bytes[NBD_OPTION_SIZE], struct nbd_option *out,
                      struct error *err);

enum nbd_next {
    NBD_NEXT_OPTION,  /* the client goes on choosing */
    NBD_NEXT_REQUEST, /* it has chosen the export */
    NBD_NEXT_END,     /* it goes */
};

/* The answer to an option with `data`, put to `out`, `*size` bytes of it. An option that no answer
 * is defined for ends the connection, by the spec. */
enum nbd_next nbd_answer_option(const struct nbd_option *option, const uint8_t *data,
                                const struct nbd_export *export, uint8_t out[NBD_ANSWER_MAX],
                                size_t *size);

/* ---- requests ---- */

enum nbd_error {
    NBD_OK = 0,
    NBD_EPERM = 1,
    NBD_EIO = 5,
    NBD_ENOMEM = 12,
    NBD_EINVAL = 22,
    NBD_ENOSPC = 28,
};

struct nbd_request {
    uint64_t cookie;  /* for the reply */
    uint32_t payload; /* bytes that follow, at most DISK_DATA_MAX */
    bool ends;        /* the client goes; nothing else of the request has a meaning */

    enum nbd_error error; /* NBD_OK: `op` to `size` are valid for an image like the export */
    enum disk_op op;
    bool may_unmap;
    bool fua; /* not done before it is on the medium */
    uint64_t offset;
    uint64_t size;
};

/* -EBADMSG: not a request, or one with a longer payload. */
int nbd_decode_request(const uint8_t bytes[NBD_REQUEST_SIZE], const struct nbd_export *export,
                       struct nbd_request *out, struct error *err);

/* The error of NBD's for a result of an image, 0 or -errno. */
enum nbd_error nbd_error_of(int result);

/* In front of the data of a read that succeeded. */
void nbd_encode_reply(uint64_t cookie, enum nbd_error error, uint8_t out[NBD_REPLY_SIZE]);

#endif
