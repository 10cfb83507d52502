/* Any machine state from a peer, for all devices that need no KVM and no thread.
 *
 * Property: what check() of every device accepts can be loaded, and what is saved then is accepted
 * again. The first byte chooses: the rest as an encoded section set, or as changes of a fresh one
 * (u16 offset and the byte that stands there). */
#include <event2/event.h>
#include <event2/thread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/wire.h"
#include "vmm/power.h"
#include "vmm/serial.h"
#include "vmm/virtio_devices.h"

#define MEMORY  ((uint64_t)2 << 20)
#define DEVICES 6
#define BYTES   65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct device devices[DEVICES];
static uint8_t fresh[BYTES]; /* the state of new devices, encoded */
static size_t fresh_size;

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void ignore_message(void *context, uint64_t address, uint32_t data)
{
    (void)context;
    (void)address;
    (void)data;
}

static void ignore_level(void *context, unsigned gsi, bool asserted)
{
    (void)context;
    (void)gsi;
    (void)asserted;
}

static void ignore_frame(void *context, unsigned index, const struct iovec *parts, int count)
{
    (void)context;
    (void)index;
    (void)parts;
    (void)count;
}

static void ignore_console(void *context, enum machine_console which, const uint8_t *data,
                           size_t size)
{
    (void)context;
    (void)which;
    (void)data;
    (void)size;
}

static void save_all(struct section_set *set)
{
    section_set_reset(set);
    for (unsigned i = 0; i < DEVICES; i++)
        require(devices[i].ops->save(devices[i].context, devices[i].instance, set, NULL) == 0);
}

static bool check_all(const struct section_set *set)
{
    for (unsigned i = 0; i < DEVICES; i++)
        if (devices[i].ops->check(devices[i].context, devices[i].instance, set, NULL) < 0)
            return false;
    return true;
}

static void set_up(struct section_set *set)
{
    static const struct irq_ops irq = {.message = ignore_message, .level = ignore_level};
    static const struct machine_output_ops output = {.network = ignore_frame,
                                                     .console = ignore_console};
    static struct device_env env = {.irq = {.ops = &irq}};
    log_set_level(LOG_LEVEL_ERROR);
    evthread_use_pthreads();
    require(gmem_create(&(struct gmem_config){.size = MEMORY}, &env.memory, NULL) == 0);
    env.lock = device_lock_create();
    env.events = event_base_new();
    struct bus *ports = bus_create();
    struct bus *mmio = bus_create();
    struct pci_host *pci;
    const struct virtio_net_options net = {.slot = 1, .output = &output};
    const struct virtio_console_options console = {.slot = 2, .output = &output};
    const struct serial_config serial = {.output = &output};
    require(pci_host_create(&env, ports, mmio, &pci, NULL) == 0);
    devices[0] = pci_host_device(pci);
    require(virtio_net_create(&env, pci, &net, &devices[1], NULL) == 0);
    require(virtio_console_create(&env, pci, &console, &devices[2], NULL) == 0);
    require(virtio_rng_create(&env, pci, 3, &devices[3], NULL) == 0);
    require(serial_create(&env, ports, &serial, &devices[4], NULL) == 0);
    require(power_create(&env, ports, &devices[5], NULL) == 0);
    save_all(set);
    const int size = section_set_encode(set, fresh, sizeof(fresh));
    require(size > 0 && check_all(set));
    fresh_size = (size_t)size;
}

static void start_anew(struct section_set *set)
{
    for (unsigned i = 0; i < DEVICES; i++)
        devices[i].ops->reset(devices[i].context);
    require(section_set_decode(set, fresh, fresh_size, NULL) == 0);
    for (unsigned i = 0; i < DEVICES; i++)
        devices[i].ops->load(devices[i].context, devices[i].instance, set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct section_set *set;
    if (!set) {
        set = section_set_create();
        set_up(set);
    }
    if (!size)
        return 0;
    static uint8_t changed[BYTES];
    const uint8_t *bytes = data + 1;
    size_t count = size - 1;
    if (data[0] & 1) {
        struct wire_reader r = {.bytes = bytes, .size = count};
        memcpy(changed, fresh, fresh_size);
        while (r.size - r.used >= 3) {
            const size_t at = wire_get_u16(&r) % fresh_size;
            changed[at] = wire_get_u8(&r);
        }
        bytes = changed;
        count = fresh_size;
    }
    if (section_set_decode(set, bytes, count, NULL) < 0 || !check_all(set))
        return 0;
    for (unsigned i = 0; i < DEVICES; i++)
        devices[i].ops->load(devices[i].context, devices[i].instance, set);
    save_all(set);
    require(check_all(set));
    start_anew(set);
    return 0;
}
