#include "test/support/rdma_stranger.h"

#include <errno.h>
#include <netdb.h>
#include <rdma/rdma_cma.h>
#include <rdma/rdma_verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/rdma_wire.h"

#define SLOTS      16
#define OTHER_BYTE 0xa5

struct rdma_stranger {
    struct rdma_cm_id *id;
    struct ibv_mr *mr;
    uint8_t slots[SLOTS][RDMA_SLOT_SIZE];
};

static struct rdma_addrinfo *resolve(const char *uri)
{
    char host[64] = "", port[8] = "";
    struct rdma_addrinfo *info = NULL;
    const struct rdma_addrinfo hints = {.ai_port_space = RDMA_PS_TCP};
    if (sscanf(uri, "rdma://%63[^:]:%7s", host, port) != 2 ||
        rdma_getaddrinfo(host, port, &hints, &info) < 0)
        return NULL;
    return info;
}

static bool make_endpoint(struct rdma_stranger *s, struct rdma_addrinfo *info)
{
    struct ibv_qp_init_attr attributes = {
        .cap = {.max_send_wr = 4, .max_recv_wr = SLOTS, .max_send_sge = 1, .max_recv_sge = 1},
        .qp_type = IBV_QPT_RC,
        .sq_sig_all = 1,
    };
    if (rdma_create_ep(&s->id, info, NULL, &attributes) < 0)
        return false;
    s->mr = rdma_reg_msgs(s->id, s->slots, sizeof(s->slots));
    for (size_t i = 0; s->mr && i < SLOTS; i++)
        if (rdma_post_recv(s->id, s->slots[i], s->slots[i], RDMA_SLOT_SIZE, s->mr) < 0)
            return false;
    return s->mr != NULL;
}

struct rdma_stranger *rdma_stranger_connect(const char *uri)
{
    struct rdma_stranger *s = calloc(1, sizeof(*s));
    struct rdma_addrinfo *info = s ? resolve(uri) : NULL;
    uint8_t offer[RDMA_OFFER_SIZE];
    rdma_offer_encode(false, offer);
    struct rdma_conn_param parameters = {
        .private_data = offer, .private_data_len = sizeof(offer), .retry_count = 7};
    const bool done = info && make_endpoint(s, info) && rdma_connect(s->id, &parameters) == 0;
    if (!done)
        fprintf(stderr, "a stranger at %s: %s\n", uri, strerror(errno));
    if (info)
        rdma_freeaddrinfo(info);
    if (!done)
        rdma_stranger_destroy(&s);
    return s;
}

bool rdma_stranger_write(struct rdma_stranger *s, const void *address, uint32_t key)
{
    struct ibv_wc wc;
    uint8_t *bytes = s->slots[SLOTS - 1];
    memset(bytes, OTHER_BYTE, RDMA_SLOT_SIZE);
    return rdma_post_write(s->id, NULL, bytes, RDMA_SLOT_SIZE, s->mr, IBV_SEND_SIGNALED,
                           (uintptr_t)address, key) == 0 &&
           rdma_get_send_comp(s->id, &wc) > 0 && wc.status == IBV_WC_SUCCESS;
}

unsigned rdma_stranger_rings(struct rdma_stranger *s)
{
    unsigned rings = 0;
    struct ibv_wc wc;
    while (ibv_poll_cq(s->id->recv_cq, 1, &wc) > 0) {
        struct rdma_message m;
        const uint8_t *bytes = (const uint8_t *)(uintptr_t)wc.wr_id;
        if (wc.status == IBV_WC_SUCCESS && rdma_message_decode(bytes, wc.byte_len, &m, NULL) == 0 &&
            m.type == RDMA_MESSAGE_RING)
            rings++;
    }
    return rings;
}

void rdma_stranger_destroy(struct rdma_stranger **stranger)
{
    struct rdma_stranger *s = *stranger;
    if (!s)
        return;
    if (s->mr)
        rdma_dereg_mr(s->mr);
    if (s->id)
        rdma_destroy_ep(s->id);
    free(s);
    *stranger = NULL;
}

int rdma_stranger_regions(void)
{
    FILE *resources = popen("rdma resource show mr", "r");
    if (!resources)
        return -1;
    char line[512];
    int count = 0;
    while (fgets(line, sizeof(line), resources))
        count++;
    return pclose(resources) == 0 ? count : -1;
}
