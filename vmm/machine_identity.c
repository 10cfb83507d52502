/* The identity: what must be equal on both hosts for a state of one to run on the other. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/machine_internal.h"
#include "vmm/virtio_devices.h"

#define IDENTITY_MAX 16384

struct text {
    char *bytes; /* IDENTITY_MAX */
    size_t used;
    bool full;
};

static void put(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(t->bytes + t->used, IDENTITY_MAX - t->used, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= IDENTITY_MAX - t->used)
        t->full = true;
    else
        t->used += (size_t)n;
}

static void put_boot(struct text *t, const struct machine *m)
{
    put(t, "kernel=%s\n", boot_image_digest(m->source.kernel));
    put(t, "initrd=%s\n", m->source.initrd ? boot_image_digest(m->source.initrd) : "none");
    put(t, "command-line=%s\n", m->command_line);
}

static void put_cpu(struct text *t, const struct machine *m)
{
    put(t, "vcpus=%u\n", m->config.vcpus);
    put(t, "memory=%llu\n", (unsigned long long)gmem_size(m->config.memory));
    put(t, "cpuid=%016llx\n", (unsigned long long)cpuid_digest(m->cpuid));
    put(t, "xsave=%zu\n", m->layout.xsave_size);
    put(t, "kvm.triple-fault-event=%d\n", m->host.triple_fault_event);
    put(t, "msrs=");
    for (uint32_t i = 0; i < m->layout.msrs.count; i++)
        put(t, "%s%x", i ? "," : "", m->layout.msrs.indices[i]);
    put(t, "\n");
}

static void put_devices(struct text *t, const struct machine *m)
{
    static const char *const on_panic[] = {[MACHINE_PANIC_RESTART] = "restart",
                                           [MACHINE_PANIC_STOP] = "stop",
                                           [MACHINE_PANIC_IGNORE] = "ignore"};
    put(t, "on-panic=%s\n", on_panic[m->config.on_panic]);
    for (size_t i = 0; i < m->device_count; i++)
        put(t, "device.%zu=%s.%u\n", i, m->devices[i].ops->name, m->devices[i].instance);
    for (unsigned i = 0; i < m->config.net_count; i++) {
        const uint8_t *mac = m->config.nets[i].mac;
        put(t, "net.%u.mac=%02x:%02x:%02x:%02x:%02x:%02x\n", i, mac[0], mac[1], mac[2], mac[3],
            mac[4], mac[5]);
    }
    for (unsigned i = 0; i < m->config.disk_count; i++) {
        put(t, "disk.%u.size=%llu\n", i, (unsigned long long)m->config.disks[i].size);
        put(t, "disk.%u.read-only=%d\n", i, m->config.disks[i].read_only);
    }
}

/* The sections of a machine as it is now, with their versions and sizes: a peer of another build
 * differs here. */
static int put_sections(struct text *t, struct machine *m, struct error *err)
{
    struct section_set *set = section_set_create();
    if (!set)
        return error_set(err, -ENOMEM, "machine: out of memory");
    const int rc = machine_save(m, set, err);
    for (size_t i = 0; rc == 0 && i < section_set_count(set); i++) {
        const struct section *s = section_set_at(set, i);
        if (s->instance == 0)
            put(t, "section.%s=%u,%u\n", s->name, s->version, s->size);
    }
    section_set_destroy(&set);
    return rc;
}

int machine_compose_identity(struct machine *m, struct error *err)
{
    struct text t = {.bytes = calloc(1, IDENTITY_MAX)};
    if (!t.bytes)
        return error_set(err, -ENOMEM, "machine: out of memory");
    m->identity = t.bytes;
    put_boot(&t, m);
    put_cpu(&t, m);
    put_devices(&t, m);
    const int rc = put_sections(&t, m, err);
    if (rc == 0 && t.full)
        return error_set(err, -E2BIG, "machine: identity exceeds %d bytes", IDENTITY_MAX);
    return rc;
}
