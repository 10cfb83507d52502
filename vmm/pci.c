/* See pci.h.
 *
 * A function's configuration space is 256 bytes plus a mask of the bits the guest may write. All
 * rules follow from these two: a BAR's size is the mask of its address bits, a hostile write
 * changes masked bits or nothing, and saved state is legal exactly if the bits outside the mask are
 * ours.
 *
 * Which BARs are decoded is a pure function of all configuration spaces: after any change the host
 * releases every BAR and claims again in slot order. So two BARs on one address resolve the same
 * way on the primary and on a standby that loaded its state. Guests change BARs at boot only. */
#include "vmm/pci.h"

#include <assert.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/msix.h"
#include "vmm/state.h"

#define HOST_VENDOR            0x8086
#define HOST_DEVICE            0x0d57 /* the identity other small machines give their bridge */
#define HOST_CLASS             0x060000
#define ADDRESS_ENABLE         0x80000000u
#define ADDRESS_MASK           0x80fffffcu
#define CAPABILITIES_FROM      0x40
#define FUNCTION_STATE_VERSION 1

struct bar {
    uint32_t size;   /* 0: the BAR does not exist */
    uint32_t mapped; /* where it is claimed now; 0: nowhere */
    const struct bus_ops *ops;
    void *context;
};

struct pci_function {
    /* set at creation and while the shape is declared */
    struct pci_host *host;
    const char *name;
    uint8_t slot;
    struct bar bars[PCI_BARS];
    uint8_t initial[PCI_CONFIG_SIZE];
    uint8_t writable[PCI_CONFIG_SIZE];
    uint8_t last_capability;
    uint8_t next_free;
    uint8_t msix_at; /* offset of the MSI-X capability; 0: none */
    uint8_t window_at;
    uint8_t window_size;
    const struct bus_ops *window_ops;
    void *window_context;
    char section[SECTION_NAME_MAX];

    /* protected by the device lock */
    uint8_t config[PCI_CONFIG_SIZE];
    struct msix msix;
};

struct pci_host {
    const struct device_env *env;
    struct bus *ports;
    struct bus *mmio;
    struct pci_function *functions[PCI_SLOTS];
    struct pci_function *bridge; /* our own slot 0 */
    uint32_t next_home;
    uint32_t address; /* the register at 0xcf8 */
};

static uint32_t get_le32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static void put_le32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, sizeof(v));
}

static void put_le16(uint8_t *p, uint16_t v)
{
    memcpy(p, &v, sizeof(v));
}

static uint8_t bar_offset(unsigned index)
{
    return (uint8_t)(PCI_BASE_ADDRESS_0 + 4 * index);
}

/* --- decoding ------------------------------------------------------------------------------- */

static void unmap_bars(struct pci_function *f)
{
    for (unsigned i = 0; i < PCI_BARS; i++) {
        struct bar *bar = &f->bars[i];
        if (bar->mapped)
            bus_release(f->host->mmio, bar->mapped);
        bar->mapped = 0;
    }
}

static void map_bars(struct pci_function *f)
{
    if (!(f->config[PCI_COMMAND] & PCI_COMMAND_MEMORY))
        return;
    for (unsigned i = 0; i < PCI_BARS; i++) {
        struct bar *bar = &f->bars[i];
        const uint32_t base = get_le32(f->config + bar_offset(i)) & ~(bar->size - 1);
        if (!bar->size || base < PCI_WINDOW_START || base > PCI_WINDOW_END - bar->size)
            continue;
        if (bus_claim(f->host->mmio, f->name, base, bar->size, bar->ops, bar->context, NULL) == 0)
            bar->mapped = base;
    }
}

static void remap_all(struct pci_host *host)
{
    for (unsigned s = 0; s < PCI_SLOTS; s++)
        if (host->functions[s])
            unmap_bars(host->functions[s]);
    for (unsigned s = 0; s < PCI_SLOTS; s++)
        if (host->functions[s])
            map_bars(host->functions[s]);
}

static void refresh_msix(struct pci_function *f)
{
    if (!f->msix_at)
        return;
    uint16_t control;
    memcpy(&control, f->config + f->msix_at + PCI_MSIX_FLAGS, sizeof(control));
    msix_set_control(&f->msix, control & PCI_MSIX_FLAGS_ENABLE, control & PCI_MSIX_FLAGS_MASKALL);
}

/* --- configuration space -------------------------------------------------------------------- */

static bool in_window(const struct pci_function *f, unsigned offset)
{
    return f->window_ops && offset >= f->window_at &&
           offset < (unsigned)f->window_at + f->window_size;
}

static void function_read(struct pci_function *f, unsigned offset, uint8_t *data, uint32_t size)
{
    if (in_window(f, offset) && offset + size <= (unsigned)f->window_at + f->window_size)
        f->window_ops->read(f->window_context, offset - f->window_at, data, size);
    else
        memcpy(data, f->config + offset, size);
}

static void function_write(struct pci_function *f, unsigned offset, const uint8_t *data,
                           uint32_t size)
{
    if (in_window(f, offset) && offset + size <= (unsigned)f->window_at + f->window_size) {
        f->window_ops->write(f->window_context, offset - f->window_at, data, size);
        return;
    }
    uint8_t before[PCI_CONFIG_SIZE];
    memcpy(before, f->config, sizeof(before));
    for (uint32_t i = 0; i < size; i++) {
        const uint8_t mask = f->writable[offset + i];
        f->config[offset + i] = (uint8_t)((f->config[offset + i] & ~mask) | (data[i] & mask));
    }
    if (memcmp(before + PCI_COMMAND, f->config + PCI_COMMAND, 2) != 0 ||
        memcmp(before + PCI_BASE_ADDRESS_0, f->config + PCI_BASE_ADDRESS_0, 4 * PCI_BARS) != 0)
        remap_all(f->host);
    refresh_msix(f);
}

/* The function that the address register selects, and the register offset inside it. */
static struct pci_function *selected(const struct pci_host *host, unsigned *offset)
{
    const uint32_t a = host->address;
    *offset = a & 0xfc;
    const bool bus_0_function_0 = (a & 0x00ff0700) == 0;
    if (!(a & ADDRESS_ENABLE) || !bus_0_function_0)
        return NULL;
    return host->functions[(a >> 11) & 31];
}

/* The data window is 4 bytes, so offset + size stays inside one aligned word of the 256 bytes. */
static void data_read(void *context, uint64_t offset, uint8_t *data, uint32_t size)
{
    unsigned base;
    struct pci_function *f = selected(context, &base);
    if (f)
        function_read(f, base + (unsigned)offset, data, size);
    else
        memset(data, 0xff, size);
}

static void data_write(void *context, uint64_t offset, const uint8_t *data, uint32_t size)
{
    unsigned base;
    struct pci_function *f = selected(context, &base);
    if (f)
        function_write(f, base + (unsigned)offset, data, size);
}

/* Only a full 32-bit access reaches the address register; anything narrower is for other users of
 * these ports on real boards. */
static void address_read(void *context, uint64_t offset, uint8_t *data, uint32_t size)
{
    const struct pci_host *host = context;
    memset(data, 0xff, size);
    if (offset == 0 && size == 4)
        put_le32(data, host->address);
}

static void address_write(void *context, uint64_t offset, const uint8_t *data, uint32_t size)
{
    struct pci_host *host = context;
    if (offset == 0 && size == 4)
        host->address = get_le32(data) & ADDRESS_MASK;
}

static const struct bus_ops address_ops = {.read = address_read, .write = address_write};
static const struct bus_ops data_ops = {.read = data_read, .write = data_write};

/* --- shape ---------------------------------------------------------------------------------- */

static void set_initial(struct pci_function *f, unsigned offset, const void *bytes, size_t size)
{
    memcpy(f->initial + offset, bytes, size);
    memcpy(f->config + offset, bytes, size);
}

static void fill_header(struct pci_function *f, const struct pci_function_config *c)
{
    uint8_t h[PCI_CAPABILITY_LIST + 1] = {0};
    put_le16(h + PCI_VENDOR_ID, c->vendor);
    put_le16(h + PCI_DEVICE_ID, c->device);
    h[PCI_COMMAND] = PCI_COMMAND_MEMORY;
    h[PCI_REVISION_ID] = c->revision;
    h[PCI_CLASS_PROG] = (uint8_t)c->class_code;
    h[PCI_CLASS_PROG + 1] = (uint8_t)(c->class_code >> 8);
    h[PCI_CLASS_PROG + 2] = (uint8_t)(c->class_code >> 16);
    put_le16(h + PCI_SUBSYSTEM_VENDOR_ID, c->subsystem_vendor);
    put_le16(h + PCI_SUBSYSTEM_ID, c->subsystem);
    set_initial(f, 0, h, sizeof(h));
    const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE;
    pci_function_make_writable(f, PCI_COMMAND, &command, sizeof(command));
    const uint8_t any = 0xff;
    pci_function_make_writable(f, PCI_CACHE_LINE_SIZE, &any, 1);
    pci_function_make_writable(f, PCI_INTERRUPT_LINE, &any, 1);
}

int pci_function_create(struct pci_host *host, const struct pci_function_config *config,
                        struct pci_function **out, struct error *err)
{
    *out = NULL;
    if (config->slot >= PCI_SLOTS || host->functions[config->slot])
        return error_set(err, -EEXIST, "PCI slot %u: taken or out of range, wanted by %s",
                         config->slot, config->name);
    struct pci_function *f = calloc(1, sizeof(*f));
    if (!f)
        return error_set(err, -ENOMEM, "%s: out of memory", config->name);
    f->host = host;
    f->name = config->name;
    f->slot = config->slot;
    f->next_free = CAPABILITIES_FROM;
    f->msix.irq = &host->env->irq;
    snprintf(f->section, sizeof(f->section), "%s.pci", config->name);
    fill_header(f, config);
    host->functions[config->slot] = f;
    *out = f;
    return 0;
}

void pci_function_destroy(struct pci_function **function)
{
    struct pci_function *f = *function;
    if (!f)
        return;
    unmap_bars(f);
    f->host->functions[f->slot] = NULL;
    free(f);
    *function = NULL;
}

int pci_function_add_bar(struct pci_function *f, unsigned index, uint32_t size,
                         const struct bus_ops *ops, void *context, struct error *err)
{
    struct pci_host *host = f->host;
    assert(index < PCI_BARS && !f->bars[index].size && size >= 4096 && !(size & (size - 1)));
    const uint64_t home = ((uint64_t)host->next_home + size - 1) & ~(uint64_t)(size - 1);
    if (home + size > PCI_WINDOW_END)
        return error_set(err, -ENOSPC, "%s: the PCI window has no room for %u bytes", f->name,
                         size);
    host->next_home = (uint32_t)home + size;
    f->bars[index] = (struct bar){.size = size, .ops = ops, .context = context};
    const uint32_t value = (uint32_t)home; /* type bits 0: memory, 32 bits, not prefetchable */
    const uint32_t mask = ~(size - 1);
    set_initial(f, bar_offset(index), &value, sizeof(value));
    pci_function_make_writable(f, bar_offset(index), &mask, sizeof(mask));
    remap_all(host);
    return 0;
}

int pci_function_add_msix(struct pci_function *f, unsigned bar, unsigned vectors, struct error *err)
{
    assert(vectors >= 1 && vectors <= MSIX_VECTORS_MAX && !f->msix_at);
    const int rc = pci_function_add_bar(f, bar, MSIX_BAR_SIZE, &msix_bar_ops, &f->msix, err);
    if (rc < 0)
        return rc;
    f->msix.vectors = vectors;
    msix_reset(&f->msix);
    uint8_t body[PCI_CAP_MSIX_SIZEOF - 2];
    put_le16(body, (uint16_t)(vectors - 1));
    put_le32(body + PCI_MSIX_TABLE - 2, bar);
    put_le32(body + PCI_MSIX_PBA - 2, MSIX_PENDING_OFFSET | bar);
    f->msix_at = pci_function_add_capability(f, PCI_CAP_ID_MSIX, body, sizeof(body));
    const uint16_t mask = PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL;
    pci_function_make_writable(f, (uint8_t)(f->msix_at + PCI_MSIX_FLAGS), &mask, sizeof(mask));
    return 0;
}

uint8_t pci_function_add_capability(struct pci_function *f, uint8_t id, const void *body,
                                    uint8_t size)
{
    const uint8_t at = f->next_free;
    assert((unsigned)at + 2 + size <= PCI_CONFIG_SIZE - 4);
    const uint8_t header[2] = {id, 0};
    set_initial(f, at, header, sizeof(header));
    set_initial(f, at + 2u, body, size);
    const unsigned link =
        f->last_capability ? f->last_capability + PCI_CAP_LIST_NEXT : PCI_CAPABILITY_LIST;
    set_initial(f, link, &at, 1);
    const uint8_t status = PCI_STATUS_CAP_LIST;
    set_initial(f, PCI_STATUS, &status, 1);
    f->last_capability = at;
    f->next_free = (uint8_t)((at + 2u + size + 3u) & ~3u);
    return at;
}

void pci_function_make_writable(struct pci_function *f, uint8_t offset, const void *mask,
                                uint8_t size)
{
    assert((unsigned)offset + size <= PCI_CONFIG_SIZE);
    memcpy(f->writable + offset, mask, size);
}

void pci_function_set_config_window(struct pci_function *f, uint8_t offset, uint8_t size,
                                    const struct bus_ops *ops, void *context)
{
    f->window_at = offset;
    f->window_size = size;
    f->window_ops = ops;
    f->window_context = context;
}

const uint8_t *pci_function_config(const struct pci_function *f)
{
    return f->config;
}

void pci_function_signal(struct pci_function *f, unsigned vector)
{
    msix_signal(&f->msix, vector);
}

/* --- state of a function -------------------------------------------------------------------- */

struct function_state {
    uint8_t config[PCI_CONFIG_SIZE];
    uint64_t address[MSIX_VECTORS_MAX];
    uint32_t data[MSIX_VECTORS_MAX];
    uint32_t control[MSIX_VECTORS_MAX];
    uint64_t pending;
};

static const struct state_field function_fields[] = {
    STATE_BYTES(struct function_state, config),
    STATE_ARRAY(struct function_state, address, STATE_ANY64),
    STATE_ARRAY(struct function_state, data, STATE_ANY32),
    STATE_ARRAY(struct function_state, control, 0, PCI_MSIX_ENTRY_CTRL_MASKBIT),
    STATE_UINT(struct function_state, pending, 0, (1ull << MSIX_VECTORS_MAX) - 1),
};

/* Could vector `v` have sent its message? Then it can't be pending, and loading it must not
 * interrupt a guest that is not there yet. */
static bool vector_is_open(const struct pci_function *f, const struct function_state *s, unsigned v)
{
    uint16_t control;
    memcpy(&control, s->config + f->msix_at + PCI_MSIX_FLAGS, sizeof(control));
    return (control & (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL)) == PCI_MSIX_FLAGS_ENABLE &&
           !(s->control[v] & PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

static int check_function(const void *object, const void *context, struct error *err)
{
    const struct function_state *s = object;
    const struct pci_function *f = context;
    for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++)
        if ((s->config[i] ^ f->initial[i]) & ~f->writable[i])
            return error_set(err, -EINVAL,
                             "state: %s in PCI slot %u: configuration byte 0x%02x differs", f->name,
                             f->slot, i);
    for (unsigned v = 0; v < MSIX_VECTORS_MAX; v++) {
        const bool exists = v < f->msix.vectors;
        const bool pending = s->pending >> v & 1;
        if ((s->address[v] & 3) || (exists && pending && vector_is_open(f, s, v)) ||
            (!exists && (s->address[v] || s->data[v] || s->control[v] || pending)))
            return error_set(err, -EINVAL, "state: %s in PCI slot %u: bad MSI-X vector %u", f->name,
                             f->slot, v);
    }
    return 0;
}

static struct state_table function_table(const struct pci_function *f)
{
    return (struct state_table){f->section, FUNCTION_STATE_VERSION, function_fields,
                                ARRAY_SIZE(function_fields), check_function};
}

void pci_function_reset(struct pci_function *f)
{
    memcpy(f->config, f->initial, sizeof(f->config));
    msix_reset(&f->msix);
    remap_all(f->host);
}

int pci_function_save(const struct pci_function *f, uint32_t instance, struct section_set *set,
                      struct error *err)
{
    struct function_state s = {.pending = f->msix.pending};
    memcpy(s.config, f->config, sizeof(s.config));
    memcpy(s.address, f->msix.address, sizeof(s.address));
    memcpy(s.data, f->msix.data, sizeof(s.data));
    memcpy(s.control, f->msix.control, sizeof(s.control));
    const struct state_table table = function_table(f);
    return state_save(&table, instance, &s, set, err);
}

int pci_function_check(const struct pci_function *f, uint32_t instance,
                       const struct section_set *set, struct error *err)
{
    struct function_state s;
    const struct state_table table = function_table(f);
    return state_decode(&table, instance, &s, f, set, err);
}

void pci_function_load(struct pci_function *f, uint32_t instance, const struct section_set *set)
{
    struct function_state s;
    const struct state_table table = function_table(f);
    const int rc = state_decode(&table, instance, &s, f, set, NULL);
    assert(rc == 0);
    (void)rc;
    memcpy(f->config, s.config, sizeof(s.config));
    memcpy(f->msix.address, s.address, sizeof(s.address));
    memcpy(f->msix.data, s.data, sizeof(s.data));
    memcpy(f->msix.control, s.control, sizeof(s.control));
    f->msix.pending = s.pending;
    remap_all(f->host);
    refresh_msix(f);
}

/* --- the host bridge ------------------------------------------------------------------------ */

static const struct state_field host_fields[] = {
    STATE_UINT(struct pci_host, address, 0, ADDRESS_MASK),
};

static int check_host(const void *object, const void *context, struct error *err)
{
    const struct pci_host *s = object;
    (void)context;
    if (s->address & ~ADDRESS_MASK)
        return error_set(err, -EINVAL, "state: pci-host: field address is out of range");
    return 0;
}

static const struct state_table host_table = {"pci-host", 1, host_fields, ARRAY_SIZE(host_fields),
                                              check_host};

static void host_reset(void *context)
{
    struct pci_host *host = context;
    host->address = 0;
    pci_function_reset(host->bridge);
}

static int host_save(const void *context, uint32_t instance, struct section_set *set,
                     struct error *err)
{
    const struct pci_host *host = context;
    const int rc = state_save(&host_table, instance, host, set, err);
    return rc < 0 ? rc : pci_function_save(host->bridge, instance, set, err);
}

static int host_check(const void *context, uint32_t instance, const struct section_set *set,
                      struct error *err)
{
    const struct pci_host *host = context;
    struct pci_host scratch;
    const int rc = state_decode(&host_table, instance, &scratch, host, set, err);
    return rc < 0 ? rc : pci_function_check(host->bridge, instance, set, err);
}

static void host_load(void *context, uint32_t instance, const struct section_set *set)
{
    struct pci_host *host = context;
    struct pci_host scratch;
    const int rc = state_decode(&host_table, instance, &scratch, host, set, NULL);
    assert(rc == 0);
    (void)rc;
    host->address = scratch.address;
    pci_function_load(host->bridge, instance, set);
}

static void host_destroy(void *context)
{
    struct pci_host *host = context;
    pci_function_destroy(&host->bridge);
    for (unsigned s = 0; s < PCI_SLOTS; s++)
        assert(!host->functions[s]);
    bus_release(host->ports, PCI_CONFIG_ADDRESS);
    bus_release(host->ports, PCI_CONFIG_DATA);
    free(host);
}

static const struct device_ops host_ops = {
    .name = "pci-host",
    .reset = host_reset,
    .save = host_save,
    .check = host_check,
    .load = host_load,
    .destroy = host_destroy,
};

int pci_host_create(const struct device_env *env, struct bus *ports, struct bus *mmio,
                    struct pci_host **out, struct error *err)
{
    *out = NULL;
    struct pci_host *host = calloc(1, sizeof(*host));
    if (!host)
        return error_set(err, -ENOMEM, "PCI host: out of memory");
    host->env = env;
    host->ports = ports;
    host->mmio = mmio;
    host->next_home = PCI_WINDOW_START;
    const struct pci_function_config bridge = {
        .name = "pci-host", .vendor = HOST_VENDOR, .device = HOST_DEVICE, .class_code = HOST_CLASS};
    int rc = pci_function_create(host, &bridge, &host->bridge, err);
    if (rc < 0)
        goto free_host;
    rc = bus_claim(ports, "pci address", PCI_CONFIG_ADDRESS, 4, &address_ops, host, err);
    if (rc < 0)
        goto destroy_bridge;
    rc = bus_claim(ports, "pci data", PCI_CONFIG_DATA, 4, &data_ops, host, err);
    if (rc < 0)
        goto release_address;
    *out = host;
    return 0;

release_address:
    bus_release(ports, PCI_CONFIG_ADDRESS);
destroy_bridge:
    pci_function_destroy(&host->bridge);
free_host:
    free(host);
    return rc;
}

struct device pci_host_device(struct pci_host *host)
{
    return (struct device){.ops = &host_ops, .context = host};
}
