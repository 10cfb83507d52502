/* kemarid: protects one virtual machine on one host. See docs/man/kemarid.8. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "app/config.h"
#include "app/confine.h"
#include "app/journal.h"
#include "app/node.h"
#include "base/log.h"
#include "base/quick_exit.h"
#include "dirtylog/process_log.h"
#include "vmm/probe.h"

enum exit_status {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NO_LINUX = 3, /* --probe: KVM runs small guests only */
    EXIT_NO_KVM = 4,   /* --probe: no usable KVM */
};

static int fail(int status, const struct error *err)
{
    fprintf(stderr, "kemarid: %s\n", err->text);
    return status;
}

/* What the KVM of this host is good for, and its kernel for QEMU, for scripts and people. */
static int probe(void)
{
    struct kvm_probe result;
    enum process_log log;
    struct error err = {0};
    if (kvm_probe(&result, &err) < 0)
        return fail(EXIT_FAILED, &err);
    printf("usable=%s\nboots-linux=%s\nsupervisor-instructions-per-second=%llu\n"
           "protects-qemu=%s\nreason=%s\n",
           result.usable ? "yes" : "no", result.boots_linux ? "yes" : "no",
           (unsigned long long)result.supervisor_per_second,
           process_log_choose(PROCESS_LOG_AUTO, &log, NULL) == 0 ? "yes" : "no", result.reason);
    if (!result.usable)
        return EXIT_NO_KVM;
    return result.boots_linux ? EXIT_OK : EXIT_NO_LINUX;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--probe") == 0)
        return probe();
    signal(SIGPIPE, SIG_IGN);
    struct config config;
    enum config_action action = CONFIG_RUN;
    struct error err = {0};
    if (config_read(argc, argv, stdout, &config, &action, &err) < 0)
        return fail(EXIT_USAGE, &err);
    if (action == CONFIG_EXIT)
        return EXIT_OK;
    log_set_level(config.log_level);
    struct node *node = NULL;
    journal_begin(config.name);
    int rc = confine_process(&err);
    if (rc == 0)
        rc = confine_capabilities(&err);
    if (rc == 0)
        rc = quick_exit_arm(&err);
    if (rc == 0)
        rc = node_create(&config, &node, &err);
    if (rc == 0)
        rc = node_run(node, &err);
    node_destroy(&node);
    quick_exit_disarm();
    config_free(&config);
    return rc < 0 ? fail(EXIT_FAILED, &err) : EXIT_OK;
}
