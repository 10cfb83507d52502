#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "app/doctor.h"
#include "app/doctor_facts.h"

/* Every reason is explained in docs/operators/troubleshooting.md. */
const struct doctor_cure doctor_cures[DOCTOR_REASONS] = {
    [DOCTOR_FINE] = {"ok", DOCTOR_OK, ""},
    [DOCTOR_CONFIG_REFUSED] = {"config-refused", DOCTOR_PROBLEM,
                               "correct the configuration at that place"},
    [DOCTOR_FILE_REFUSED] = {"file-refused", DOCTOR_PROBLEM,
                             "put the file there, readable for kemarid; secrets and keys belong to "
                             "root with mode 0600"},
    [DOCTOR_NO_PAIR] = {"no-pair", DOCTOR_PROBLEM,
                        "give listen, peer, secret-file and a heartbeat path"},
    [DOCTOR_NOT_ROOT] = {"not-root", DOCTOR_WARNING,
                         "run doctor as the user that kemarid runs as: what is said of permissions "
                         "holds for you only"},
    [DOCTOR_DAEMON_RUNS] = {"daemon-runs", DOCTOR_UNKNOWN,
                            "kemarictl status knows more about a machine that runs; for a whole "
                            "examination stop its daemon"},
    [DOCTOR_NOT_TRIED] = {"not-tried", DOCTOR_UNKNOWN,
                          "mend what is said first, then run doctor again"},
    [DOCTOR_KVM_UNUSABLE] =
        {"kvm-unusable", DOCTOR_PROBLEM,
         "enable virtualisation in the firmware, load kvm_intel or kvm_amd, and "
         "run as root or a member of the group kvm"},
    [DOCTOR_KVM_NO_LINUX] = {"kvm-no-linux", DOCTOR_PROBLEM,
                             "use hardware, or a virtual machine with nested virtualisation: this "
                             "KVM runs guests by software"},
    [DOCTOR_KVM_LACKS] = {"kvm-lacks", DOCTOR_PROBLEM, "use Linux 5.17 or newer on both hosts"},
    [DOCTOR_DIRTY_LOG_REFUSED] = {"dirty-log-refused", DOCTOR_PROBLEM,
                                  "use Linux 5.17 or newer, with machine type qemu 6.7 or one with "
                                  "soft-dirty bits"},
    [DOCTOR_CPU_NOT_COMPARED] =
        {"cpu-not-compared", DOCTOR_UNKNOWN,
         "run doctor on the other host and compare: the handshake refuses a difference"},
    [DOCTOR_CPU_DIFFERS] = {"cpu-differs", DOCTOR_PROBLEM,
                            "use hosts with equal processors, microcode and kernels"},
    [DOCTOR_TSC_DIFFERS] = {"tsc-differs", DOCTOR_PROBLEM,
                            "use hosts whose clocks of the processor are as fast, or whose "
                            "hardware scales the TSC"},
    [DOCTOR_QEMU_REFUSED] = {"qemu-refused", DOCTOR_PROBLEM,
                             "let the option qemu say what docs/qemu.md allows, and the rest by "
                             "options of their own"},
    [DOCTOR_QEMU_MISSING] =
        {"qemu-missing", DOCTOR_PROBLEM,
         "install the package qemu-system-x86, or correct the first word of the "
         "option qemu"},
    [DOCTOR_QEMU_OLD] = {"qemu-old", DOCTOR_PROBLEM, "use QEMU 7.2 or newer on both hosts"},
    [DOCTOR_QEMU_UNPROTECTABLE] = {"qemu-unprotectable", DOCTOR_PROBLEM,
                                   "leave that device out: a checkpoint can't have what it holds"},
    [DOCTOR_QEMU_FAILS] = {"qemu-fails", DOCTOR_PROBLEM,
                           "mend what QEMU itself says; kemarid would not get further"},
    [DOCTOR_REALTIME_OFF] = {"realtime-off", DOCTOR_WARNING,
                             "set realtime = yes: a busy host is suspected sooner without"},
    [DOCTOR_REALTIME_REFUSED] = {"realtime-refused", DOCTOR_WARNING,
                                 "run kemarid by its unit (LimitRTPRIO=99), or give it "
                                 "CAP_SYS_NICE"},
    [DOCTOR_LOCK_REFUSED] = {"memory-lock-refused", DOCTOR_WARNING,
                             "run kemarid by its unit (LimitMEMLOCK=infinity), or give it "
                             "CAP_IPC_LOCK"},
    [DOCTOR_MEMORY_SHORT] = {"memory-short", DOCTOR_PROBLEM,
                             "free memory, or lower memory, staging-cap or encoding-cache"},
    [DOCTOR_MEMORY_TIGHT] =
        {"memory-tight", DOCTOR_WARNING,
         "free memory, or lower outbox-cap or staging-cap: the kernel would end "
         "processes when the guest's output is held for long"},
    [DOCTOR_HUGE_PAGES_SHORT] = {"huge-pages-short", DOCTOR_PROBLEM,
                                 "raise vm.nr_hugepages (pages of 2 MiB), best at boot"},
    [DOCTOR_CLOCK_NOT_TSC] = {"clock-not-tsc", DOCTOR_WARNING,
                              "find out from the kernel's log why the TSC was given up: each look "
                              "at the clock is slow"},
    [DOCTOR_CLOCKS_DIFFER] = {"clocks-differ", DOCTOR_WARNING,
                              "let both kernels use the same clock source"},
    [DOCTOR_VERSIONS_DIFFER] = {"versions-differ", DOCTOR_WARNING,
                                "bring both hosts to one version (docs/upgrade.md)"},
    [DOCTOR_MACHINE_DIFFERS] = {"machine-differs", DOCTOR_PROBLEM,
                                "make the two configurations and images agree: the handshake "
                                "refuses a difference"},
    [DOCTOR_PEER_SAYS_NO] = {"peer-says-no", DOCTOR_PROBLEM,
                             "run doctor there and do what it says"},
    [DOCTOR_PEER_SILENT] = {"peer-silent", DOCTOR_UNKNOWN,
                            "try by hand what --peer says, followed by: doctor --json FILE"},
    [DOCTOR_STATE_DIR_REFUSED] = {"state-dir-refused", DOCTOR_PROBLEM,
                                  "let kemarid write there, or name another state-dir"},
    [DOCTOR_STATE_DIR_FULL] = {"state-dir-full", DOCTOR_PROBLEM,
                               "free space there: kemarid records each term before it acts"},
    [DOCTOR_STATE_DIR_SMALL] =
        {"state-dir-small", DOCTOR_WARNING,
         "free space there if kemarictl dump is to have room for the guest's "
         "memory"},
    [DOCTOR_STATE_DIR_SLOW] = {"state-dir-slow", DOCTOR_WARNING,
                               "use a faster disk for state-dir: a failover waits for one record"},
    [DOCTOR_DISK_REFUSED] = {"disk-refused", DOCTOR_PROBLEM,
                             "make the image, or correct the option"},
    [DOCTOR_DISK_BUSY] = {"disk-busy", DOCTOR_PROBLEM,
                          "end what uses the image, or give this machine one of its own"},
    [DOCTOR_TAP_MISSING] = {"tap-missing", DOCTOR_PROBLEM,
                            "make it: ip tuntap add dev TAP mode tap vnet_hdr"},
    [DOCTOR_TAP_BUSY] = {"tap-busy", DOCTOR_PROBLEM,
                         "end what uses the tap, or give this machine one of its own"},
    [DOCTOR_TAP_REFUSED] = {"tap-refused", DOCTOR_PROBLEM,
                            "run as root or its owner, and make it a tap without multi_queue"},
    [DOCTOR_TAP_DOWN] = {"tap-down", DOCTOR_WARNING, "ip link set TAP up: its frames are refused"},
    [DOCTOR_TAP_NO_BRIDGE] = {"tap-no-bridge", DOCTOR_WARNING,
                              "ip link set TAP master BRIDGE, unless this host routes for the "
                              "guest"},
    [DOCTOR_NOT_ENCRYPTED] = {"not-encrypted", DOCTOR_WARNING,
                              "use tls:// or rdma+tls:// in listen and peer"},
    [DOCTOR_TLS_REFUSED] = {"tls-refused", DOCTOR_PROBLEM,
                            "make certificates with kemarictl keygen certificates"},
    [DOCTOR_CERTIFICATE_EXPIRED] = {"certificate-expired", DOCTOR_PROBLEM,
                                    "make a new one with kemarictl keygen certificates"},
    [DOCTOR_CERTIFICATE_FUTURE] = {"certificate-not-yet-valid", DOCTOR_PROBLEM,
                                   "set this host's clock, or make a new one"},
    [DOCTOR_CERTIFICATE_EXPIRING] = {"certificate-expiring", DOCTOR_WARNING,
                                     "make a new one in time: without it a host that was away "
                                     "can't come back"},
    [DOCTOR_LISTEN_NOT_HERE] = {"listen-not-here", DOCTOR_PROBLEM,
                                "listen is this host's own address, peer the other's: the same way "
                                "round in both files?"},
    [DOCTOR_LISTEN_IN_USE] = {"listen-in-use", DOCTOR_PROBLEM,
                              "end what listens there, or use another port on both hosts"},
    [DOCTOR_LISTEN_REFUSED] = {"listen-refused", DOCTOR_PROBLEM, "use another address or port"},
    [DOCTOR_RDMA_MISSING] = {"rdma-missing", DOCTOR_PROBLEM,
                             "load the device's driver and rdma_ucm, use the address of that "
                             "device, or tls://"},
    [DOCTOR_PEER_NOT_LISTENING] = {"peer-not-listening", DOCTOR_UNKNOWN,
                                   "run doctor there, too; it listens once its kemarid is started"},
    [DOCTOR_PEER_UNREACHABLE] = {"peer-unreachable", DOCTOR_PROBLEM,
                                 "switch the other host on; mend cable, address or firewall"},
    [DOCTOR_HOST_UNREACHABLE] = {"host-unreachable", DOCTOR_WARNING,
                                 "mend the way to it: it could not take the peer's place"},
    [DOCTOR_PEER_FAR] = {"peer-far", DOCTOR_WARNING,
                         "use a faster way, or a longer heartbeat interval: each output waits for "
                         "a round trip, and this one takes longer than the interval"},
    [DOCTOR_LINK_NARROW] = {"link-narrow", DOCTOR_WARNING,
                            "use a faster link, or expect the guest to be slowed down "
                            "(docs/operators/sizing.md)"},
    [DOCTOR_LINK_NOT_JUDGED] = {"link-not-judged", DOCTOR_UNKNOWN,
                                "say with --need what the guest changes per second "
                                "(docs/operators/sizing.md)"},
    [DOCTOR_PATH_REFUSED] = {"path-refused", DOCTOR_PROBLEM,
                             "the first half of a path is this host's own address"},
    [DOCTOR_PATH_IN_USE] = {"path-in-use", DOCTOR_PROBLEM, "each machine needs ports of its own"},
    [DOCTOR_PATH_NO_ROUTE] = {"path-no-route", DOCTOR_PROBLEM,
                              "make a route to that address, or correct it"},
    [DOCTOR_PATHS_SINGLE] = {"paths-single", DOCTOR_WARNING,
                             "add a path over another network: one cable that fails looks like a "
                             "dead host"},
    [DOCTOR_ARBITER_NONE] = {"arbiter-none", DOCTOR_WARNING,
                             "choose etcd, command or manual before production"},
    [DOCTOR_ARBITER_REFUSED] = {"arbiter-refused", DOCTOR_PROBLEM,
                                "correct what the configuration says of the arbiter"},
    [DOCTOR_ARBITER_UNREACHABLE] = {"arbiter-unreachable", DOCTOR_PROBLEM,
                                    "repair it or the way to it: nobody could begin or take over"},
    [DOCTOR_ARBITER_NOT_RUN] = {"arbiter-not-run", DOCTOR_UNKNOWN,
                                "try the agent by a drill: kemarictl drill run kill"},
};

static const char *const verdicts[] = {
    [DOCTOR_OK] = "ok",
    [DOCTOR_UNKNOWN] = "unknown",
    [DOCTOR_WARNING] = "warning",
    [DOCTOR_PROBLEM] = "problem",
};

void doctor_say(struct doctor_report *report, const char *check, const char *subject,
                enum doctor_reason reason, const char *format, ...)
{
    if (report->count == DOCTOR_FINDINGS_MAX)
        return;
    struct doctor_finding *finding = &report->findings[report->count++];
    va_list args;
    finding->check = check;
    finding->reason = reason;
    snprintf(finding->subject, sizeof(finding->subject), "%s", subject);
    va_start(args, format);
    vsnprintf(finding->found, sizeof(finding->found), format, args);
    va_end(args);
}

void doctor_say_instead(struct doctor_report *report, const char *check, enum doctor_reason reason,
                        const char *format, ...)
{
    char found[DOCTOR_FOUND_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(found, sizeof(found), format, args);
    va_end(args);
    for (unsigned i = 0; i < report->count; i++) {
        struct doctor_finding *finding = &report->findings[i];
        if (strcmp(finding->check, check) == 0) {
            finding->reason = reason;
            memcpy(finding->found, found, sizeof(found));
            return;
        }
    }
    doctor_say(report, check, "", reason, "%s", found);
}

unsigned doctor_count(const struct doctor_report *report, enum doctor_verdict verdict)
{
    unsigned count = 0;
    for (unsigned i = 0; i < report->count; i++)
        count += doctor_cures[report->findings[i].reason].verdict == verdict;
    return count;
}

bool doctor_can_protect(const struct doctor_report *report)
{
    return doctor_count(report, DOCTOR_PROBLEM) == 0;
}

static void print_finding(const struct doctor_finding *finding, bool colour, FILE *out)
{
    static const char *const colours[] = {
        [DOCTOR_OK] = "\33[32m",
        [DOCTOR_UNKNOWN] = "",
        [DOCTOR_WARNING] = "\33[33m",
        [DOCTOR_PROBLEM] = "\33[31m",
    };
    const struct doctor_cure *cure = &doctor_cures[finding->reason];
    fprintf(out, "%s%-8s%s %-14s ", colour ? colours[cure->verdict] : "", verdicts[cure->verdict],
            colour ? "\33[0m" : "", finding->subject[0] ? finding->subject : finding->check);
    if (finding->reason == DOCTOR_FINE)
        fprintf(out, "%s\n", finding->found);
    else
        fprintf(out, "%s: %s; %s\n", cure->reason, finding->found, cure->advice);
}

static void print_reasons(const struct doctor_report *report, FILE *out)
{
    const char *separator = "";
    for (unsigned i = 0; i < report->count; i++) {
        const struct doctor_finding *finding = &report->findings[i];
        if (doctor_cures[finding->reason].verdict != DOCTOR_PROBLEM)
            continue;
        fprintf(out, "%s%s (%s)", separator, doctor_cures[finding->reason].reason,
                finding->subject[0] ? finding->subject : finding->check);
        separator = ", ";
    }
}

void doctor_print_text(const struct doctor_report *report, const char *file, bool colour, FILE *out)
{
    const char *name = report->vm[0] ? report->vm : file;
    for (unsigned i = 0; i < report->count; i++)
        print_finding(&report->findings[i], colour, out);
    if (doctor_can_protect(report)) {
        fprintf(out, "yes: this host can protect %s; warnings: %u, not known: %u\n", name,
                doctor_count(report, DOCTOR_WARNING), doctor_count(report, DOCTOR_UNKNOWN));
        return;
    }
    fprintf(out, "no: this host can't protect %s: ", name);
    print_reasons(report, out);
    fputc('\n', out);
}

char *doctor_print_json(const struct doctor_report *report, const char *file)
{
    json_t *checks = json_array();
    for (unsigned i = 0; i < report->count; i++) {
        const struct doctor_finding *finding = &report->findings[i];
        const struct doctor_cure *cure = &doctor_cures[finding->reason];
        json_array_append_new(
            checks, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "check", finding->check, "subject",
                              finding->subject, "verdict", verdicts[cure->verdict], "reason",
                              cure->reason, "found", finding->found, "advice", cure->advice));
    }
    json_t *json =
        json_pack("{s:i, s:s, s:s, s:b, s:i, s:i, s:i, s:o, s:o}", "schema", DOCTOR_JSON_SCHEMA,
                  "file", file, "vm", report->vm, "can_protect", doctor_can_protect(report),
                  "problems", (int)doctor_count(report, DOCTOR_PROBLEM), "warnings",
                  (int)doctor_count(report, DOCTOR_WARNING), "unknown",
                  (int)doctor_count(report, DOCTOR_UNKNOWN), "checks", checks, "facts",
                  doctor_facts_json(&report->facts));
    char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    json_decref(json);
    return text;
}
