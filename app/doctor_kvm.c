/* Can guests run here, and can it be told what they change? */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "app/doctor_checks.h"
#include "app/doctor_facts.h"
#include "base/fd.h"
#include "dirtylog/dirtylog.h"
#include "qemu/command.h"
#include "vmm/cpuid.h"
#include "vmm/kvm.h"
#include "vmm/probe.h"
#include "vmm/vcpu_state.h"
#include "vmm/xcr0.h"

/* A stock QEMU may also run its guest by software. */
static bool wants_kvm(const struct config *config)
{
    return config->machine == CONFIG_MACHINE_KVM ||
           qemu_command_needs_kvm((const char *const *)config->qemu.list);
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

static int read_cpuid(const struct kvm_host *host, unsigned vcpus, struct doctor_facts *facts,
                      uint64_t *digest, struct error *err)
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
        doctor_facts_take_cpuid(table, facts);
    }
    free(table);
    return rc;
}

/* As a guest's begins on this host; not known where it can't be asked for. */
static void read_tsc(const struct kvm_host *host, struct doctor_facts *facts)
{
    int vm = ioctl(host->fd, KVM_CREATE_VM, 0);
    int vcpu = vm < 0 ? -1 : ioctl(vm, KVM_CREATE_VCPU, 0);
    uint32_t khz = 0;
    struct error err = {0};
    facts->tsc_khz = vcpu >= 0 && vcpu_tsc_settle_khz(vcpu, &khz, &err) == 0 ? khz : 0;
    facts->tsc_scaling = host->tsc_control;
    fd_close(&vcpu);
    fd_close(&vm);
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
    read_tsc(&host, &doctor->report->facts);
    if (read_cpuid(&host, doctor->config->vcpus, &doctor->report->facts, &digest, &err) < 0)
        doctor_say(doctor->report, "cpu", "", DOCTOR_KVM_LACKS, "%s", err.text);
    else
        doctor_say(doctor->report, "cpu", "", DOCTOR_CPU_NOT_COMPARED,
                   "not compared with the peer's; what a guest sees of this processor has the "
                   "digest %016llx",
                   (unsigned long long)digest);
    kvm_host_close(&host);
}

void doctor_check_kvm(const struct doctor *doctor)
{
    const bool usable = !wants_kvm(doctor->config) || check_probe(doctor->report);
    if (doctor->config->machine == CONFIG_MACHINE_QEMU)
        doctor_check_qemu(doctor, usable);
    else if (usable)
        check_own_machine(doctor);
}
