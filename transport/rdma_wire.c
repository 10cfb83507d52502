#include "transport/rdma_wire.h"

#include <assert.h>
#include <errno.h>

#include "base/wire.h"

#define OFFER_MAGIC 0x41444d4bu /* "KMDA" read as little-endian */

#define OFFER_TLS   1u /* flag */

void rdma_offer_encode(bool encrypted, uint8_t out[RDMA_OFFER_SIZE])
{
    struct wire_writer w = {.bytes = out, .size = RDMA_OFFER_SIZE};
    wire_put_u32(&w, OFFER_MAGIC);
    wire_put_u16(&w, RDMA_WIRE_VERSION);
    wire_put_u16(&w, RDMA_SLOTS);
    wire_put_u16(&w, RDMA_CONTROL_SLOTS);
    wire_put_u16(&w, encrypted ? OFFER_TLS : 0);
    wire_put_u32(&w, RDMA_SLOT_SIZE);
    assert(!w.bad && w.used == RDMA_OFFER_SIZE);
}

static const char *scheme(bool encrypted)
{
    return encrypted ? "rdma+tls" : "rdma";
}

int rdma_offer_check(const uint8_t *bytes, size_t size, bool encrypted, struct error *err)
{
    struct wire_reader r = {.bytes = bytes, .size = size};
    const uint32_t magic = wire_get_u32(&r);
    const uint16_t version = wire_get_u16(&r);
    if (r.bad || magic != OFFER_MAGIC)
        return error_set(err, -EPROTO, "the peer does not speak Kemari over RDMA");
    if (version != RDMA_WIRE_VERSION)
        return error_set(err, -EPROTONOSUPPORT, "the peer speaks version %u over RDMA, we %u",
                         version, RDMA_WIRE_VERSION);
    uint8_t mine[RDMA_OFFER_SIZE], other[RDMA_OFFER_SIZE];
    rdma_offer_encode(encrypted, mine);
    rdma_offer_encode(!encrypted, other);
    if (size >= sizeof(other) && memcmp(bytes, other, sizeof(other)) == 0)
        return error_set(err, -EPROTO,
                         "the peer speaks %s:// and this host %s://: write the same scheme on both "
                         "hosts",
                         scheme(!encrypted), scheme(encrypted));
    if (size < sizeof(mine) || memcmp(bytes, mine, sizeof(mine)) != 0)
        return error_set(err, -EPROTO, "the peer's receive slots are not what this version has");
    return 0;
}

static bool is_ring(uint64_t address, uint32_t size)
{
    return address && size >= RDMA_RING_MIN && size <= RDMA_RING_MAX && !(size & (size - 1)) &&
           address <= UINT64_MAX - size;
}

static uint32_t body_size(const struct rdma_message *m)
{
    switch (m->type) {
    case RDMA_MESSAGE_DATA:
        return m->data.size;
    case RDMA_MESSAGE_CREDIT:
    case RDMA_MESSAGE_RING:
        return 16;
    case RDMA_MESSAGE_ALIVE:
        return 0;
    }
    return UINT32_MAX;
}

size_t rdma_message_encode(const struct rdma_message *m, uint8_t *out)
{
    const uint32_t size = body_size(m);
    assert(size <= RDMA_MESSAGE_MAX);
    struct wire_writer w = {.bytes = out, .size = RDMA_SLOT_SIZE};
    wire_put_u32(&w, m->type);
    wire_put_u32(&w, size);
    if (m->type == RDMA_MESSAGE_CREDIT) {
        wire_put_u64(&w, m->credit.segments);
        wire_put_u64(&w, m->credit.bytes);
    } else if (m->type == RDMA_MESSAGE_RING) {
        assert(is_ring(m->ring.address, m->ring.size));
        wire_put_u64(&w, m->ring.address);
        wire_put_u32(&w, m->ring.key);
        wire_put_u32(&w, m->ring.size);
    }
    return w.used;
}

static int decode_body(struct wire_reader *r, uint32_t size, struct rdma_message *out)
{
    switch (out->type) {
    case RDMA_MESSAGE_DATA:
        out->data.bytes = r->bytes + r->used;
        out->data.size = size;
        return size > 0 ? 0 : -EBADMSG;
    case RDMA_MESSAGE_CREDIT:
        out->credit.segments = wire_get_u64(r);
        out->credit.bytes = wire_get_u64(r);
        return size == 16 ? 0 : -EBADMSG;
    case RDMA_MESSAGE_RING:
        out->ring.address = wire_get_u64(r);
        out->ring.key = wire_get_u32(r);
        out->ring.size = wire_get_u32(r);
        return size == 16 && is_ring(out->ring.address, out->ring.size) ? 0 : -EBADMSG;
    case RDMA_MESSAGE_ALIVE:
        return size == 0 ? 0 : -EBADMSG;
    }
    return -EBADMSG;
}

int rdma_message_decode(const uint8_t *bytes, size_t size, struct rdma_message *out,
                        struct error *err)
{
    memset(out, 0, sizeof(*out));
    struct wire_reader r = {.bytes = bytes, .size = size};
    const uint32_t type = wire_get_u32(&r);
    const uint32_t length = wire_get_u32(&r);
    if (r.bad || size > RDMA_SLOT_SIZE || length != size - r.used)
        return error_set(err, -EBADMSG, "an RDMA message of %zu bytes has no such size", size);
    out->type = (enum rdma_message_type)type;
    if (decode_body(&r, length, out) < 0) {
        memset(out, 0, sizeof(*out));
        return error_set(err, -EBADMSG, "an RDMA message of type %u and %u bytes is not possible",
                         type, length);
    }
    return 0;
}
