/* NBD on the wire: golden bytes, written down from the specification, and what is refused. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/nbd_wire.h"
#include "test/support/runner.h"

static const struct nbd_export disk = {.name = "disk3", .size = 0x40000000};
static const struct nbd_export medium = {.name = "disk3", .size = 0x40000000, .read_only = true};

#define GO_DATA "\0\0\0\5disk3\0\1\0\3"
#define GO_SIZE (sizeof(GO_DATA) - 1)

static void check_bytes(const uint8_t *bytes, size_t size, const char *golden, size_t golden_size)
{
    CU_ASSERT_EQUAL_FATAL(size, golden_size);
    CU_ASSERT_EQUAL(memcmp(bytes, golden, size), 0);
}

#define CHECK_BYTES(bytes, size, golden) check_bytes(bytes, size, golden, sizeof(golden) - 1)

/* ---- negotiation ---- */

static void the_greeting_offers_fixed_newstyle(void)
{
    uint8_t bytes[NBD_GREETING_SIZE];
    nbd_encode_greeting(bytes);
    CHECK_BYTES(bytes, sizeof(bytes), "NBDMAGICIHAVEOPT\0\3");
}

static void a_client_that_wants_something_else_is_refused(void)
{
    struct error err = {0};
    for (uint32_t flags = 0; flags < 256; flags++) {
        const uint8_t bytes[] = {0, 0, 0, (uint8_t)flags};
        const int rc = nbd_decode_flags(bytes, &err);
        CU_ASSERT_EQUAL(rc, flags == 1 || flags == 3 ? 0 : -EBADMSG);
    }
    CU_ASSERT_EQUAL(nbd_decode_flags((const uint8_t[]){1, 0, 0, 1}, &err), -EBADMSG);
}

static void an_option_has_a_code_and_a_bounded_size(void)
{
    struct error err = {0};
    struct nbd_option option;
    uint8_t bytes[NBD_OPTION_SIZE + 1] = "IHAVEOPT\0\0\0\7\0\0\2\0";
    CU_ASSERT_EQUAL(nbd_decode_option(bytes, &option, &err), 0);
    CU_ASSERT_EQUAL(option.code, 7);
    CU_ASSERT_EQUAL(option.size, 512);
    bytes[15] = 1;
    CU_ASSERT_EQUAL(nbd_decode_option(bytes, &option, &err), -EBADMSG);
    for (size_t i = 0; i < 8; i++) {
        uint8_t wrong[] = "IHAVEOPT\0\0\0\7\0\0\0\0";
        wrong[i] ^= 0x20;
        CU_ASSERT_EQUAL(nbd_decode_option(wrong, &option, &err), -EBADMSG);
    }
}

static enum nbd_next answer(uint32_t code, const void *data, size_t data_size,
                            const struct nbd_export *export, uint8_t *out, size_t *size)
{
    /* Of exactly that size, so that a sanitizer sees a read behind it. */
    uint8_t *copy = malloc(data_size ? data_size : 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(copy);
    memcpy(copy, data, data_size);
    const struct nbd_option option = {.code = code, .size = (uint32_t)data_size};
    const enum nbd_next next = nbd_answer_option(&option, copy, export, out, size);
    free(copy);
    return next;
}

static void the_export_is_described_and_chosen(void)
{
    uint8_t out[NBD_ANSWER_MAX];
    size_t size;
    CU_ASSERT_EQUAL(answer(7, GO_DATA, GO_SIZE, &disk, out, &size), NBD_NEXT_REQUEST);
    CHECK_BYTES(out, size,
                "\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\7\0\0\0\3\0\0\0\x0c"
                "\0\0\0\0\0\0\x40\0\0\0\0\x6d"
                "\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\7\0\0\0\3\0\0\0\x0e"
                "\0\3\0\0\2\0\0\0\x10\0\0\x08\0\0"
                "\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\7\0\0\0\1\0\0\0\0");
    CU_ASSERT_EQUAL(answer(7, GO_DATA, GO_SIZE, &medium, out, &size), NBD_NEXT_REQUEST);
    CU_ASSERT_EQUAL(out[31], 3); /* flags: read-only */
}

static void an_unknown_or_broken_choice_is_answered(void)
{
    uint8_t out[NBD_ANSWER_MAX];
    size_t size;
    CU_ASSERT_EQUAL(answer(7, "\0\0\0\5disk4\0\0", 11, &disk, out, &size), NBD_NEXT_OPTION);
    CHECK_BYTES(out, size, "\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\7\x80\0\0\6\0\0\0\0");
    CU_ASSERT_EQUAL(answer(7, "\0\0\0\0\0\0", 6, &disk, out, &size), NBD_NEXT_OPTION);
    CU_ASSERT_EQUAL(out[15], 6);
    for (size_t i = 0; i < GO_SIZE; i++) {
        CU_ASSERT_EQUAL(answer(7, GO_DATA, i, &disk, out, &size), NBD_NEXT_OPTION);
        CHECK_BYTES(out, size, "\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\7\x80\0\0\3\0\0\0\0");
    }
    CU_ASSERT_EQUAL(answer(7, GO_DATA "x", GO_SIZE + 1, &disk, out, &size), NBD_NEXT_OPTION);
    CU_ASSERT_EQUAL(answer(7, "\xff\xff\xff\xff\0\0", 6, &disk, out, &size), NBD_NEXT_OPTION);
    CU_ASSERT_EQUAL(out[15], 3);
}

static void other_options_are_unsupported(void)
{
    uint8_t out[NBD_ANSWER_MAX];
    size_t size;
    for (uint32_t code = 3; code < 32; code++) {
        if (code == 7)
            continue;
        CU_ASSERT_EQUAL(answer(code, "", 0, &disk, out, &size), NBD_NEXT_OPTION);
        const uint8_t unsupported[] = {0, 0, 0, (uint8_t)code, 0x80, 0, 0, 1, 0, 0, 0, 0};
        CU_ASSERT_EQUAL_FATAL(size, 20);
        CU_ASSERT_EQUAL(memcmp(out + 8, unsupported, sizeof(unsupported)), 0);
    }
    CU_ASSERT_EQUAL(answer(2, "", 0, &disk, out, &size), NBD_NEXT_END);
    CHECK_BYTES(out, size, "\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\2\0\0\0\1\0\0\0\0");
    CU_ASSERT_EQUAL(answer(1, "disk3", 5, &disk, out, &size), NBD_NEXT_END);
    CU_ASSERT_EQUAL(size, 0);
}

/* ---- requests ---- */

static struct nbd_request decode(const void *bytes, const struct nbd_export *export)
{
    struct nbd_request request;
    struct error err = {0};
    CU_ASSERT_EQUAL(nbd_decode_request(bytes, export, &request, &err), 0);
    return request;
}

static void requests_are_read_as_the_specification_has_them(void)
{
    struct nbd_request r = decode("\x25\x60\x95\x13\0\1\0\1"
                                  "cookie!!\0\0\0\0\1\2\x04\0\0\0\2\0",
                                  &disk);
    CU_ASSERT_EQUAL(r.error, NBD_OK);
    CU_ASSERT_EQUAL(r.op, DISK_WRITE);
    CU_ASSERT_EQUAL(r.cookie, 0x636f6f6b69652121);
    CU_ASSERT_EQUAL(r.offset, 0x1020400);
    CU_ASSERT_EQUAL(r.size, 512);
    CU_ASSERT_EQUAL(r.payload, 512);
    CU_ASSERT_TRUE(r.fua);
    CU_ASSERT_FALSE(r.ends);
    r = decode("\x25\x60\x95\x13\0\0\0\0cookie!!\0\0\0\0\0\0\0\0\0\x08\0\0", &disk);
    CU_ASSERT(r.error == NBD_OK && r.op == DISK_READ && r.size == 512 << 10 && r.payload == 0);
    CU_ASSERT_FALSE(r.fua);
    r = decode("\x25\x60\x95\x13\0\0\0\3cookie!!\0\0\0\0\0\0\0\0\0\0\0\0", &disk);
    CU_ASSERT(r.error == NBD_OK && r.op == DISK_FLUSH);
    r = decode("\x25\x60\x95\x13\0\0\0\4cookie!!\0\0\0\0\0\0\0\0\x40\0\0\0", &disk);
    CU_ASSERT(r.error == NBD_OK && r.op == DISK_DISCARD && r.size == 0x40000000);
    r = decode("\x25\x60\x95\x13\0\0\0\6cookie!!\0\0\0\0\0\0\2\0\0\0\4\0", &disk);
    CU_ASSERT(r.error == NBD_OK && r.op == DISK_WRITE_ZEROES && r.may_unmap && !r.fua);
    r = decode("\x25\x60\x95\x13\0\3\0\6cookie!!\0\0\0\0\0\0\2\0\0\0\4\0", &disk);
    CU_ASSERT(r.error == NBD_OK && r.op == DISK_WRITE_ZEROES && !r.may_unmap && r.fua);
    CU_ASSERT_TRUE(decode("\x25\x60\x95\x13\0\0\0\2cookie!!\0\0\0\0\0\0\0\0\0\0\0\0", &disk).ends);
}

static struct nbd_request build(uint16_t flags, uint16_t command, uint64_t offset, uint32_t size,
                                const struct nbd_export *export)
{
    uint8_t bytes[NBD_REQUEST_SIZE] = {0x25, 0x60, 0x95, 0x13};
    bytes[4] = (uint8_t)(flags >> 8);
    bytes[5] = (uint8_t)flags;
    bytes[6] = (uint8_t)(command >> 8);
    bytes[7] = (uint8_t)command;
    for (unsigned i = 0; i < 8; i++)
        bytes[16 + i] = (uint8_t)(offset >> (56 - 8 * i));
    for (unsigned i = 0; i < 4; i++)
        bytes[24 + i] = (uint8_t)(size >> (24 - 8 * i));
    return decode(bytes, export);
}

static void what_cannot_be_done_is_an_error_of_the_request(void)
{
    const uint64_t end = disk.size;
    static const struct {
        uint16_t flags, command;
        uint64_t offset;
        uint32_t size;
        bool read_only;
        enum nbd_error error;
    } cases[] = {
        {0, 0, 0, 0, false, NBD_EINVAL},                   /* nothing */
        {0, 0, 0, 511, false, NBD_EINVAL},                 /* no whole sectors */
        {0, 0, 1, 512, false, NBD_EINVAL},                 /* nor at one */
        {0, 0, 0, DISK_DATA_MAX + 512, false, NBD_EINVAL}, /* more than was offered */
        {0, 0, 0x40000000, 512, false, NBD_EINVAL},        /* outside */
        {0, 0, UINT64_MAX - 511, 512, false, NBD_EINVAL},  /* far outside */
        {0, 1, 0x40000000, 512, false, NBD_ENOSPC},        /* the spec's error for changes */
        {0, 1, 0x40000000 - 512, 1024, false, NBD_ENOSPC}, /* half outside */
        {0, 4, 0, 0x40000200, false, NBD_ENOSPC},          /* discard */
        {0, 6, 512, 0xfffffe00, false, NBD_ENOSPC},        /* zeroes */
        {0, 1, 0, 512, true, NBD_EPERM},                   /* read-only */
        {0, 3, 0, 0, true, NBD_EPERM},                     /* likewise */
        {0, 3, 0, 512, false, NBD_EINVAL},                 /* a flush of a part */
        {2, 1, 0, 512, false, NBD_EINVAL},                 /* NO_HOLE of a write */
        {16, 6, 0, 512, false, NBD_EINVAL},                /* FAST_ZERO, not offered */
        {4, 0, 0, 512, false, NBD_EINVAL},                 /* DF */
        {0, 5, 0, 512, false, NBD_EINVAL},                 /* CACHE */
        {0, 7, 0, 512, false, NBD_EINVAL},                 /* BLOCK_STATUS */
        {0, 0xffff, 0, 512, false, NBD_EINVAL},            /* no command */
        {0, 0, 0x40000000 - 512, 512, true, NBD_OK},       /* the last sector */
        {1, 0, 0, 512, true, NBD_OK},                      /* FUA of a read */
    };
    CU_ASSERT_EQUAL_FATAL(end, 0x40000000);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct nbd_request r = build(cases[i].flags, cases[i].command, cases[i].offset,
                                           cases[i].size, cases[i].read_only ? &medium : &disk);
        CU_ASSERT_EQUAL(r.error, cases[i].error);
        CU_ASSERT_EQUAL(r.payload, cases[i].command == 1 ? cases[i].size : 0);
    }
}

static void what_is_no_request_ends_the_connection(void)
{
    struct nbd_request request;
    struct error err = {0};
    uint8_t bytes[NBD_REQUEST_SIZE + 1] =
        "\x25\x60\x95\x13\0\0\0\1cookie!!\0\0\0\0\0\0\0\0\0\x08\2\0";
    CU_ASSERT_EQUAL(nbd_decode_request(bytes, &disk, &request, &err), -EBADMSG); /* too long */
    bytes[26] = 0;
    CU_ASSERT_EQUAL(nbd_decode_request(bytes, &disk, &request, &err), 0);
    for (size_t i = 0; i < 4; i++) {
        bytes[i] ^= 1;
        CU_ASSERT_EQUAL(nbd_decode_request(bytes, &disk, &request, &err), -EBADMSG);
        bytes[i] ^= 1;
    }
}

static void a_reply_has_cookie_and_error(void)
{
    uint8_t bytes[NBD_REPLY_SIZE];
    nbd_encode_reply(0x636f6f6b69652121, nbd_error_of(-EIO), bytes);
    CHECK_BYTES(bytes, sizeof(bytes), "\x67\x44\x66\x98\0\0\0\5cookie!!");
    CU_ASSERT_EQUAL(nbd_error_of(0), 0);
    CU_ASSERT_EQUAL(nbd_error_of(-ENOSPC), 28);
    CU_ASSERT_EQUAL(nbd_error_of(-ESTALE), 5);
}

static const struct test_case cases[] = {
    {"the greeting offers fixed newstyle", the_greeting_offers_fixed_newstyle},
    {"a client that wants something else is refused",
     a_client_that_wants_something_else_is_refused},
    {"an option has a code and a bounded size", an_option_has_a_code_and_a_bounded_size},
    {"the export is described and chosen", the_export_is_described_and_chosen},
    {"an unknown or broken choice is answered", an_unknown_or_broken_choice_is_answered},
    {"other options are unsupported", other_options_are_unsupported},
    {"requests are read as the specification has them",
     requests_are_read_as_the_specification_has_them},
    {"what cannot be done is an error of the request",
     what_cannot_be_done_is_an_error_of_the_request},
    {"what is no request ends the connection", what_is_no_request_ends_the_connection},
    {"a reply has cookie and error", a_reply_has_cookie_and_error},
};

TEST_MAIN("nbd-wire", cases)
