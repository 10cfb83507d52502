/* Memory that an RDMA device knows: see transport/rdma_parts.h. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "transport/rdma_parts.h"

#define AREA "transport"

int rdma_region_create(struct rdma_link *l, struct region *r, size_t size, unsigned access,
                       struct error *err)
{
    r->bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r->bytes == MAP_FAILED) {
        r->bytes = NULL;
        return error_set(err, -ENOMEM, "out of memory for RDMA buffers");
    }
    r->size = size;
    r->mr = ibv_reg_mr(l->pd, r->bytes, size, access);
    if (r->mr)
        return 0;
    return error_set(err, -errno,
                     "%zu KiB can't be registered for RDMA: %s; raise the limit of locked memory",
                     size >> 10, strerror(errno));
}

void rdma_region_destroy(struct region *r)
{
    if (r->mr)
        ibv_dereg_mr(r->mr);
    if (r->bytes)
        munmap(r->bytes, r->size);
    *r = (struct region){0};
}

void rdma_link_make_mirror(struct rdma_link *l)
{
    struct error err = {0};
    if (!l->trusted || !l->peer_size || l->mirror.mr)
        return;
    if (rdma_region_create(l, &l->mirror, l->peer_size, 0, &err) < 0) {
        log_warning(AREA, "%s: %s", link_peer_name(&l->link), err.text);
        rdma_region_destroy(&l->mirror);
    }
}
