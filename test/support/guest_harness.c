#include "test/support/guest_harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "test/support/runner.h"
#include "vmm/probe.h"

struct guest {
    struct gmem *memory;
    struct machine *machine;
    struct world *world;
    bool network, running;
};

void guest_require_kvm(void)
{
    struct kvm_probe probe;
    struct error err;
    if (kvm_probe(&probe, &err))
        test_skip(err.text);
    if (!probe.usable)
        test_skip(probe.reason);
}

int guest_create(const struct guest_config *config, struct guest **out, struct error *err)
{
    struct guest *g = calloc(1, sizeof(*g));
    if (!g)
        return error_set(err, -ENOMEM, "guest %s: out of memory", config->program);
    g->world = config->world;
    g->network = config->network;
    const struct gmem_config memory = {
        .size = config->memory ? config->memory : GUEST_MEMORY_DEFAULT,
    };
    char kernel[512];
    snprintf(kernel, sizeof(kernel), "%s/%s", KEMARI_GUEST_DIR, config->program);
    struct machine_config machine = {
        .boot = {.kernel = kernel, .command_line = config->arguments},
        .vcpus = config->vcpus ? config->vcpus : 1,
        .net_count = config->network ? 1 : 0,
        .nets = {{.mac = {0x52, 0x54, 0x00, 0x4b, 0x45, 0x01}}},
        .output = config->output ? config->output : &world_output,
        .output_context = config->output ? config->output_context : config->world,
    };
    int rc = gmem_create(&memory, &g->memory, err);
    machine.memory = g->memory;
    if (!rc && config->adjust)
        config->adjust(&machine);
    if (!rc)
        rc = machine_create(&machine, &g->machine, err);
    if (rc) {
        guest_destroy(&g);
        return rc;
    }
    *out = g;
    return 0;
}

void guest_destroy(struct guest **guest)
{
    struct guest *g = *guest;
    if (!g)
        return;
    if (g->machine && g->world)
        world_unplug(g->world, g->machine);
    machine_destroy(&g->machine);
    gmem_destroy(&g->memory);
    free(g);
    *guest = NULL;
}

int guest_boot(struct guest *g, struct error *err)
{
    const int rc = machine_boot(g->machine, err);
    if (rc)
        return rc;
    if (g->network && g->world)
        world_plug(g->world, g->machine);
    guest_resume(g);
    return 0;
}

struct machine *guest_machine(struct guest *g)
{
    return g->machine;
}

struct gmem *guest_memory(struct guest *g)
{
    return g->memory;
}

void guest_park(struct guest *g)
{
    if (g->running)
        machine_park(g->machine);
    g->running = false;
}

void guest_resume(struct guest *g)
{
    if (!g->running)
        machine_resume(g->machine);
    g->running = true;
}

/* The next stretch of a memory file that was ever written, from `at` on; false when there is none.
 * What was never written reads as zero and need not be touched. */
static bool next_data(int fd, off_t at, off_t end, off_t *start, off_t *stop)
{
    if (at >= end)
        return false;
    *start = lseek(fd, at, SEEK_DATA);
    if (*start < 0 || *start >= end)
        return false;
    *stop = lseek(fd, *start, SEEK_HOLE);
    if (*stop < 0 || *stop > end)
        *stop = end;
    return true;
}

void guest_copy_memory(const struct guest *from, struct guest *to)
{
    for (size_t i = 0; i < gmem_slot_count(from->memory); i++) {
        const struct gmem_slot *source = gmem_slot_at(from->memory, i);
        const struct gmem_slot *target = gmem_slot_at(to->memory, i);
        const off_t base = (off_t)source->file_offset, end = base + (off_t)source->size;
        if (fallocate(gmem_fd(to->memory), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      (off_t)target->file_offset, (off_t)target->size))
            memset(target->host, 0, target->size);
        off_t start = base, stop = base;
        for (; next_data(gmem_fd(from->memory), stop, end, &start, &stop);)
            memcpy(target->host + (start - base), source->host + (start - base),
                   (size_t)(stop - start));
        gmem_mark_dirty(to->memory, target->gpa, target->size);
    }
}

bool guest_same_memory(const struct guest *a, const struct guest *b, gfn_t *gfn)
{
    const struct guest *pair[] = {a, b};
    for (size_t i = 0; i < gmem_slot_count(a->memory); i++) {
        const struct gmem_slot *x = gmem_slot_at(a->memory, i);
        const struct gmem_slot *y = gmem_slot_at(b->memory, i);
        const off_t base = (off_t)x->file_offset, end = base + (off_t)x->size;
        for (size_t side = 0; side < 2; side++) {
            off_t start = base, stop = base;
            while (next_data(gmem_fd(pair[side]->memory), stop, end, &start, &stop))
                for (off_t at = start - base; at < stop - base; at += (off_t)PAGE_SIZE)
                    if (memcmp(x->host + at, y->host + at, PAGE_SIZE)) {
                        *gfn = (x->gpa + (gpa_t)at) >> PAGE_SHIFT;
                        return false;
                    }
        }
    }
    return true;
}

/* Through bytes, as on the wire. */
static int recode(struct section_set *set, struct error *err)
{
    const size_t size = section_set_encoded_size(set);
    uint8_t *bytes = malloc(size);
    if (!bytes)
        return error_set(err, -ENOMEM, "out of memory");
    int rc = section_set_encode(set, bytes, size);
    if (rc >= 0)
        rc = section_set_decode(set, bytes, size, err);
    free(bytes);
    return rc;
}

static int carry(struct guest *from, struct guest *to, struct section_set *state, struct error *err)
{
    guest_park(from);
    const nsec_t taken = clock_now();
    section_set_reset(state);
    int rc = machine_save(from->machine, state, err);
    if (!rc)
        rc = recode(state, err);
    if (!rc)
        rc = machine_check(to->machine, state, err);
    if (rc)
        return rc;
    guest_copy_memory(from, to);
    return machine_load(to->machine, state, clock_now() - taken, err);
}

int guest_transfer(struct guest *from, struct guest *to, struct section_set *state,
                   struct error *err)
{
    if (state)
        return carry(from, to, state, err);
    struct section_set *own = section_set_create();
    if (!own)
        return error_set(err, -ENOMEM, "out of memory");
    const int rc = carry(from, to, own, err);
    section_set_destroy(&own);
    return rc;
}

int guest_move(struct guest *from, struct guest *to, struct error *err)
{
    const int rc = guest_transfer(from, to, NULL, err);
    if (rc)
        return rc;
    if (to->network && to->world)
        world_plug(to->world, to->machine);
    guest_resume(to);
    return 0;
}

static bool section_is_equal(const struct section_set *a, const struct section *x,
                             const struct section_set *b)
{
    const struct section *y = section_set_find(b, x->name, x->instance);
    return y && x->version == y->version && x->size == y->size &&
           memcmp(section_set_data(a, x), section_set_data(b, y), x->size) == 0;
}

size_t guest_compare_states(const struct section_set *a, const struct section_set *b, char *text,
                            size_t size)
{
    size_t count = 0, used = 0;
    text[0] = '\0';
    for (int side = 0; side < 2; side++) {
        const struct section_set *x = side ? b : a, *y = side ? a : b;
        for (size_t i = 0; i < section_set_count(x); i++) {
            const struct section *section = section_set_at(x, i);
            const bool missing = !section_set_find(y, section->name, section->instance);
            if (side ? !missing : section_is_equal(x, section, y))
                continue;
            count++;
            const int n = snprintf(text + used, size - used, "%s%s/%u", used ? " " : "",
                                   section->name, section->instance);
            if (n > 0 && (size_t)n < size - used)
                used += (size_t)n;
        }
    }
    return count;
}
