/* Can guests run here, and can it be told what they change? */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/doctor_checks.h"
#include "base/fd.h"
#include "dirtylog/dirtylog.h"
#include "qemu/command.h"
#include "vmm/cpuid.h"
#include "vmm/kvm.h"
#include "vmm/probe.h"
#include "vmm/xcr0.h"

/* A stock QEMU may also run its guest by software. */
static bool wants_kvm(const struct config *config)
{
    if (config->machine == CONFIG_MACHINE_KVM)
        return true;
    for (size_t i = 0; config->qemu.list[i]; i++)
        if (strstr(config->qemu.list[i], "kvm"))
            return true;
    return false;
}

/* False when nothing else about KVM makes sense. */
static bool check_probe(struct doctor_report *report)
{
    struct kvm_probe probe;
    struct error err = {0};
    if (kvm_probe(&probe, &err) < 0) {
        doctor_say(report, "kvm", "", DOCTOR_KVM_UNUSABLE, "the probe failed: %s", err.text);
        return false;
    }
    doctor_say(report, "kvm", "",
               !probe.usable        ? DOCTOR_KVM_UNUSABLE
               : !probe.boots_linux ? DOCTOR_KVM_NO_LINUX
                                    : DOCTOR_FINE,
               "%s (%llu supervisor instructions per second)", probe.reason,
               (unsigned long long)probe.supervisor_per_second);
    return probe.usable;
}

/* A VM of 2 MiB without a processor, whose changes are asked for once. */
static int try_dirty_log(const struct kvm_host *host, struct error *err)
{
    const struct gmem_config config = {.size = GMEM_SIZE_MIN};
    struct gmem *memory = NULL;
    struct dirtylog *log = NULL;
    struct dirty_set set = {0};
    int vm = -1;
    int rc = gmem_create(&config, &memory, err);
    if (rc == 0)
        rc = kvm_vm_create(host, memory, &vm, err);
    if (rc == 0)
        rc = dirtylog_kvm_create(vm, memory, &log, err);
    if (rc == 0)
        rc = dirty_set_init(&set, gmem_page_count(memory));
    if (rc == 0)
        rc = dirtylog_start(log, err);
    if (rc == 0)
        rc = dirtylog_collect(log, &set, err);
    if (log)
        dirtylog_stop(log);
    dirty_set_free(&set);
    dirtylog_destroy(&log);
    fd_close(&vm);
    gmem_destroy(&memory);
    return rc;
}

static int read_cpuid(const struct kvm_host *host, unsigned vcpus, uint64_t *digest,
                      struct error *err)
{
    struct cpuid_table *table = malloc(sizeof(*table));
    if (!table)
        return error_set(err, -ENOMEM, "out of memory");
    const int rc = cpuid_read_host(host, table, err);
    if (rc >= 0 && !xcr0_is_followed(host))
        cpuid_drop_xsave(table);
    if (rc >= 0) {
        cpuid_adapt(table, vcpus, 0, host->tsc_deadline);
        *digest = cpuid_digest(table);
    }
    free(table);
    return rc;
}

static void check_own_machine(const struct doctor *doctor)
{
    struct kvm_host host;
    struct error err = {0};
    uint64_t digest = 0;
    if (kvm_host_open(&host, &err) < 0) {
        doctor_say(doctor->report, "kvm-features", "", DOCTOR_KVM_LACKS, "%s", err.text);
        return;
    }
    doctor_say(doctor->report, "kvm-features", "", DOCTOR_FINE, "KVM has all that is needed");
    if (try_dirty_log(&host, &err) < 0)
        doctor_say(doctor->report, "dirty-log", "", DOCTOR_DIRTY_LOG_REFUSED, "%s", err.text);
    else
        doctor_say(doctor->report, "dirty-log", "", DOCTOR_FINE,
                   "KVM's bitmap with manual protection works");
    if (read_cpuid(&host, doctor->config->vcpus, &digest, &err) < 0)
        doctor_say(doctor->report, "cpu", "", DOCTOR_KVM_LACKS, "%s", err.text);
    else
        doctor_say(doctor->report, "cpu", "", DOCTOR_CPU_NOT_COMPARED,
                   "not compared with the peer's; what a guest sees of this processor has the "
                   "digest %016llx",
                   (unsigned long long)digest);
    kvm_host_close(&host);
}

/* As execvp() looks for it. */
static bool find_program(const char *name, char out[PATH_MAX])
{
    const char *path = getenv("PATH");
    if (strchr(name, '/')) {
        snprintf(out, PATH_MAX, "%s", name);
        return access(out, X_OK) == 0;
    }
    for (const char *at = path ? path : "/bin:/usr/bin"; *at;) {
        const size_t length = strcspn(at, ":");
        snprintf(out, PATH_MAX, "%.*s/%s", (int)length, at, name);
        if (access(out, X_OK) == 0)
            return true;
        at += length + (at[length] == ':');
    }
    return false;
}

static void check_qemu(const struct doctor *doctor)
{
    const struct config *c = doctor->config;
    const struct qemu_command command = {.words = (const char *const *)c->qemu.list,
                                         .memory = c->memory,
                                         .vcpus = c->vcpus,
                                         .kernel = c->kernel,
                                         .initrd = c->initrd,
                                         .command_line = c->cmdline,
                                         .net_device = c->qemu_net_device,
                                         .net_count = c->net_count};
    struct error err = {0};
    char program[PATH_MAX];
    if (qemu_command_check(&command, &err) < 0)
        doctor_say(doctor->report, "qemu", "", DOCTOR_QEMU_REFUSED, "%s", err.text);
    else if (!find_program(c->qemu.list[0], program))
        doctor_say(doctor->report, "qemu", "", DOCTOR_QEMU_REFUSED,
                   "there is no program %s that can be executed", c->qemu.list[0]);
    else
        doctor_say(doctor->report, "qemu", "", DOCTOR_FINE,
                   "%s, and its command line is one that can be protected", program);
    if (dirtylog_pagemap_probe(&err) < 0)
        doctor_say(doctor->report, "dirty-log", "", DOCTOR_DIRTY_LOG_REFUSED, "%s", err.text);
    else
        doctor_say(doctor->report, "dirty-log", "", DOCTOR_FINE,
                   "this kernel tells what another process writes");
    doctor_say(doctor->report, "cpu", "", DOCTOR_CPU_NOT_COMPARED,
               "QEMU isn't started to ask what its processors can do; the handshake compares it");
}

void doctor_check_kvm(const struct doctor *doctor)
{
    const bool usable = !wants_kvm(doctor->config) || check_probe(doctor->report);
    if (doctor->config->machine == CONFIG_MACHINE_QEMU)
        check_qemu(doctor);
    else if (usable)
        check_own_machine(doctor);
}
