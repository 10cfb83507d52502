/* A list of what is forbidden, not of what is allowed: the daemon runs libibverbs drivers, libcurl,
 * OpenSSL, QEMU and the operator's fence agents, and a list of what those may need would be wrong
 * at the worst moment, in the middle of a failover. The calls fail instead of killing, since an
 * agent may try one without needing it.
 *
 * ptrace() is not among them: leak checkers use it on their own process, and without
 * CAP_SYS_PTRACE, which is given up (confine_capabilities.c), it reaches no process of another
 * user.
 */
#include "app/confine.h"

#include <errno.h>
#include <seccomp.h>
#include <string.h>

#include "base/types.h"

static const int forbidden[] = {
    /* the kernel itself */
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
    SCMP_SYS(reboot),
    SCMP_SYS(syslog),
    SCMP_SYS(acct),
    SCMP_SYS(quotactl),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(modify_ldt),
    SCMP_SYS(vhangup),
    /* mounts and namespaces */
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(move_mount),
    SCMP_SYS(open_tree),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsmount),
    SCMP_SYS(mount_setattr),
    SCMP_SYS(setns),
    SCMP_SYS(unshare),
    SCMP_SYS(open_by_handle_at),
    /* the clock and the name of the host */
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(adjtimex),
    SCMP_SYS(clock_adjtime),
    SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname),
    /* memory of other processes, and keys */
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(keyctl),
};

int confine_process(struct error *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (!filter)
        return error_set(err, -ENOMEM, "out of memory");
    /* A fence agent of another architecture is not confined, but lives. */
    int rc = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ALLOW);
    for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(forbidden); i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), forbidden[i], 0);
    if (rc == 0)
        rc = seccomp_load(filter);
    seccomp_release(filter);
    return rc == 0 ? 0 : error_set(err, rc, "the filter of system calls: %s", strerror(-rc));
}
