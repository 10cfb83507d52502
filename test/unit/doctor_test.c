/* kemarictl doctor: its list of reasons, its report, and what it says of this host. */
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "app/doctor_checks.h"
#include "dirtylog/process_log.h"
#include "disk/image.h"
#include "test/support/doctor_fixture.h"
#include "test/support/kemarictl_words.h"
#include "test/support/runner.h"
#include "vmm/probe.h"

#define MIB ((uint64_t)1 << 20)

/* A pair on the loopback interface, of which nothing runs; `machine` and `vm` are lines for these
 * sections. */
static void write_config(const char *vm, const char *machine)
{
    char text[2048];
    snprintf(text, sizeof(text),
             "[vm]\nname = web\nrole = primary\nrun-dir = %s\n%s\n[machine]\n%s\n"
             "[replication]\nlisten = tls://127.0.0.1:17480\npeer = tls://127.0.0.2:17480\n"
             "[heartbeat]\npath.0 = 127.0.0.1:17481,127.0.0.2:17481\nsecret-file = %s\n"
             "[arbiter]\ntype = manual\n",
             doctor_directory, vm, machine, doctor_secret);
    doctor_write_file(doctor_config, text, 0600);
    doctor_write_file(doctor_secret, "sixteen bytes and more", 0600);
}

static void write_usual(const char *machine)
{
    char vm[128], lines[512];
    snprintf(vm, sizeof(vm), "state-dir = %s", doctor_state_dir);
    snprintf(lines, sizeof(lines), "type = kvm\nkernel = /bin/sh\n%s", machine);
    write_config(vm, lines);
}

/* ---- reasons and reports ---- */

static bool names_reason(const char *documentation, const char *reason)
{
    char row[96];
    snprintf(row, sizeof(row), "\n| `%s` |", reason);
    return strstr(documentation, row) != NULL;
}

static void every_reason_has_a_name_a_cure_and_a_row_in_the_documentation(void)
{
    static char documentation[1 << 16];
    FILE *file = fopen(SOURCE_DIR "/docs/operators/troubleshooting.md", "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    documentation[fread(documentation, 1, sizeof(documentation) - 1, file)] = '\0';
    fclose(file);
    for (unsigned i = 0; i < DOCTOR_REASONS; i++) {
        const struct doctor_cure *cure = &doctor_cures[i];
        CU_ASSERT_PTR_NOT_NULL_FATAL(cure->reason);
        CU_ASSERT_EQUAL(strspn(cure->reason, "abcdefghijklmnopqrstuvwxyz-"), strlen(cure->reason));
        CU_ASSERT_EQUAL(cure->verdict == DOCTOR_OK, i == DOCTOR_FINE);
        CU_ASSERT_EQUAL(cure->advice[0] == '\0', i == DOCTOR_FINE);
        for (unsigned j = 0; j < i; j++)
            CU_ASSERT_STRING_NOT_EQUAL(cure->reason, doctor_cures[j].reason);
        if (i == DOCTOR_FINE || names_reason(documentation, cure->reason))
            continue;
        CU_FAIL("a reason has no row");
        printf("\n  troubleshooting.md has no row for %s\n", cure->reason);
    }
}

static bool is_reason(const char *name, size_t length)
{
    for (unsigned i = 0; i < DOCTOR_REASONS; i++)
        if (strlen(doctor_cures[i].reason) == length &&
            strncmp(doctor_cures[i].reason, name, length) == 0)
            return true;
    return false;
}

static void the_documentation_has_no_row_of_a_reason_that_is_none(void)
{
    static char documentation[1 << 16];
    FILE *file = fopen(SOURCE_DIR "/docs/operators/troubleshooting.md", "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    documentation[fread(documentation, 1, sizeof(documentation) - 1, file)] = '\0';
    fclose(file);
    const char *row = strstr(documentation, "| reason | means | do |");
    CU_ASSERT_PTR_NOT_NULL_FATAL(row);
    unsigned rows = 0;
    while ((row = strstr(row, "\n| `"))) {
        row += strlen("\n| `");
        const size_t length = strcspn(row, "`");
        rows++;
        if (is_reason(row, length))
            continue;
        CU_FAIL("a row has no reason");
        printf("\n  troubleshooting.md has a row for %.*s\n", (int)length, row);
    }
    CU_ASSERT_EQUAL(rows, DOCTOR_REASONS - 1);
}

static void warnings_do_not_forbid_and_a_problem_does(void)
{
    static struct doctor_report report;
    report = (struct doctor_report){.vm = "web"};
    CU_ASSERT_TRUE(doctor_can_protect(&report));
    doctor_say(&report, "clock", "", DOCTOR_CLOCK_NOT_TSC, "it is hpet");
    doctor_say(&report, "cpu", "", DOCTOR_CPU_NOT_COMPARED, "not compared");
    CU_ASSERT_TRUE(doctor_can_protect(&report));
    doctor_say(&report, "disk", "disk.1", DOCTOR_DISK_BUSY, "%s is in use", "a.img");
    CU_ASSERT_FALSE(doctor_can_protect(&report));
    CU_ASSERT_EQUAL(doctor_count(&report, DOCTOR_WARNING), 1);
    CU_ASSERT_EQUAL(doctor_count(&report, DOCTOR_UNKNOWN), 1);
    CU_ASSERT_EQUAL(doctor_count(&report, DOCTOR_PROBLEM), 1);
}

static char *print(const struct doctor_report *report)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    doctor_print_text(report, "web.ini", false, out);
    fclose(out);
    return text;
}

static void the_report_ends_with_yes_or_no_and_why(void)
{
    static struct doctor_report report;
    report = (struct doctor_report){.vm = "web"};
    doctor_say(&report, "clock", "", DOCTOR_FINE, "it is tsc");
    char *text = print(&report);
    CU_ASSERT_STRING_EQUAL(text, "ok       clock          it is tsc\n"
                                 "yes: this host can protect web; warnings: 0, not known: 0\n");
    free(text);
    doctor_say(&report, "disk", "disk.1", DOCTOR_DISK_BUSY, "a.img is in use");
    doctor_say(&report, "pair", "", DOCTOR_NO_PAIR, "none");
    text = print(&report);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(text, "\nproblem  disk.1         disk-busy: a.img is in use; end "));
    CU_ASSERT_PTR_NOT_NULL(
        strstr(text, "\nno: this host can't protect web: disk-busy (disk.1), no-pair (pair)\n"));
    free(text);
}

static void the_json_is_as_documented(void)
{
    static struct doctor_report report;
    report = (struct doctor_report){.vm = "web"};
    doctor_say(&report, "disk", "disk.1", DOCTOR_DISK_BUSY, "a.img is in use");
    char *text = doctor_print_json(&report, "web.ini");
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    CU_ASSERT_STRING_EQUAL(
        text,
        "{\n  \"schema\": 1,\n  \"file\": \"web.ini\",\n  \"vm\": \"web\",\n"
        "  \"can_protect\": false,\n  \"problems\": 1,\n  \"warnings\": 0,\n  \"unknown\": 0,\n"
        "  \"checks\": [\n    {\n      \"check\": \"disk\",\n      \"subject\": \"disk.1\",\n"
        "      \"verdict\": \"problem\",\n      \"reason\": \"disk-busy\",\n"
        "      \"found\": \"a.img is in use\",\n"
        "      \"advice\": \"end what uses the image, or give this machine one of its own\"\n"
        "    }\n  ],\n  \"facts\": {\n    \"version\": \"\",\n    \"kernel\": \"\",\n"
        "    \"clock\": \"\",\n    \"machine\": \"\",\n    \"listen\": \"\",\n    \"peer\": \"\",\n"
        "    \"memory\": 0,\n    \"vcpus\": 0,\n    \"tsc_khz\": 0,\n"
        "    \"heartbeat_interval_ns\": 0,\n    \"tsc_scaling\": false,\n    \"disks\": [],\n"
        "    \"cpuid\": []\n  }\n}");
    free(text);
}

static void a_report_that_is_full_takes_no_more(void)
{
    static struct doctor_report report;
    report = (struct doctor_report){.vm = "web"};
    for (unsigned i = 0; i < DOCTOR_FINDINGS_MAX + 2; i++)
        doctor_say(&report, "clock", "", DOCTOR_FINE, "%u", i);
    CU_ASSERT_EQUAL(report.count, DOCTOR_FINDINGS_MAX);
}

/* ---- judgements ---- */

static enum doctor_reason memory_reason(const struct config *config, uint64_t available,
                                        uint64_t huge, unsigned index)
{
    static struct doctor_report report;
    report = (struct doctor_report){.count = 0};
    doctor_judge_memory(config, available, huge, &report);
    CU_ASSERT_EQUAL(report.count, config->huge_pages ? 2 : 1);
    return report.findings[index].reason;
}

static void memory_is_enough_when_all_of_it_fits(void)
{
    struct config c = {.memory = 1000 * MIB,
                       .staging_cap = 100 * MIB,
                       .encoding_cache = 10 * MIB,
                       .outbox_cap = 50 * MIB};
    CU_ASSERT_EQUAL(memory_reason(&c, 1110 * MIB - 1, 0, 0), DOCTOR_MEMORY_SHORT);
    CU_ASSERT_EQUAL(memory_reason(&c, 1110 * MIB, 0, 0), DOCTOR_MEMORY_TIGHT);
    CU_ASSERT_EQUAL(memory_reason(&c, 1160 * MIB - 1, 0, 0), DOCTOR_MEMORY_TIGHT);
    CU_ASSERT_EQUAL(memory_reason(&c, 1160 * MIB, 0, 0), DOCTOR_FINE);
    c.huge_pages = true;
    CU_ASSERT_EQUAL(memory_reason(&c, 160 * MIB, 998 * MIB, 0), DOCTOR_FINE);
    CU_ASSERT_EQUAL(memory_reason(&c, 160 * MIB, 998 * MIB, 1), DOCTOR_HUGE_PAGES_SHORT);
    CU_ASSERT_EQUAL(memory_reason(&c, 160 * MIB, 1000 * MIB, 1), DOCTOR_FINE);
}

static enum doctor_reason state_reason(uint64_t bytes_free, nsec_t record)
{
    static struct doctor_report report;
    const struct config config = {.state_dir = (char *)"/x", .memory = 1000 * MIB};
    report = (struct doctor_report){.count = 0};
    doctor_judge_state_dir(&config, bytes_free, record, MIB, &report);
    CU_ASSERT_EQUAL(report.count, 1);
    return report.findings[0].reason;
}

static void a_state_directory_has_room_and_is_quick(void)
{
    CU_ASSERT_EQUAL(state_reason(MIB, MSEC(1)), DOCTOR_STATE_DIR_FULL);
    CU_ASSERT_EQUAL(state_reason(999 * MIB, MSEC(1)), DOCTOR_STATE_DIR_SMALL);
    CU_ASSERT_EQUAL(state_reason(1000 * MIB, MSEC(1)), DOCTOR_FINE);
    CU_ASSERT_EQUAL(state_reason(1000 * MIB, MSEC(500)), DOCTOR_STATE_DIR_SLOW);
}

/* ---- this host ---- */

/* Whatever this KVM is, all the rest of an ordinary machine's configuration is right. */
static void a_good_configuration_is_refused_for_the_kvm_only(void)
{
    struct kvm_probe probe;
    int status;
    CU_ASSERT_EQUAL_FATAL(kvm_probe(&probe, NULL), 0);
    write_usual("memory = 64M");
    json_t *json = doctor_run(&status);
    CU_ASSERT_STRING_EQUAL(doctor_text_of(json, "vm"), "web");
    CU_ASSERT_EQUAL(status, probe.boots_linux ? 0 : 1);
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(json, "problems")),
                    probe.boots_linux ? 0 : 1);
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "kvm", ""), probe.boots_linux ? "ok"
                                                              : probe.usable    ? "kvm-no-linux"
                                                                                : "kvm-unusable");
    if (probe.usable) {
        CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "kvm-features", ""), "ok");
        CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "dirty-log", ""), "ok");
        CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "cpu", ""), "cpu-not-compared");
    }
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "files", ""), "ok");
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "versions", ""), "ok");
    json_decref(json);
    /* Nothing was made. */
    CU_ASSERT_EQUAL(access(doctor_state_dir, F_OK), -1);
}

/* A guest that QEMU runs by software needs no KVM. */
static void yes_is_said_and_is_the_exit_status(void)
{
    char vm[128], words[128], *out, *err;
    snprintf(vm, sizeof(vm), "state-dir = %s", doctor_state_dir);
    write_config(vm,
                 "type = qemu\nqemu = qemu-system-x86_64 -machine q35 -accel tcg\nmemory = 64M");
    enum process_log log;
    const bool can = process_log_choose(PROCESS_LOG_AUTO, &log, NULL) == 0;
    snprintf(words, sizeof(words), "doctor %s", doctor_config);
    CU_ASSERT_EQUAL(kemarictl_run_words(words, &out, &err), can ? 0 : 1);
    CU_ASSERT_STRING_EQUAL(err, "");
    CU_ASSERT_PTR_NOT_NULL(
        strstr(out, can ? "\nyes: this host can protect web; "
                        : "\nno: this host can't protect web: dirty-log-refused (dirty-log)\n"));
    if (strstr(out, can ? "\nyes" : "\nno") == NULL)
        printf("%s", out);
    free(out);
    free(err);
}

/* What QEMU says of itself is what a shell says in its place. */
static void write_qemu_script(const char *says)
{
    char text[256];
    snprintf(text, sizeof(text), "#!/bin/sh\n%s\n", says);
    doctor_write_file(doctor_program, text, 0700);
}

static void expect_qemu(const char *program, const char *words, const char *reason,
                        const char *found)
{
    char lines[512];
    int status;
    snprintf(lines, sizeof(lines), "type = qemu\nqemu = %s %s\nmemory = 64M", program, words);
    write_config("", lines);
    json_t *json = doctor_run(&status);
    CU_ASSERT_EQUAL(status, 1);
    CU_ASSERT_TRUE(json_is_false(json_object_get(json, "can_protect")));
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "qemu", ""), reason);
    char *text = json_dumps(json, 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, found));
    free(text);
    json_decref(json);
}

static void what_qemu_can_not_be_is_told_apart(void)
{
    static const char real[] = "qemu-system-x86_64";
    expect_qemu("/nowhere/qemu", "-machine q35", "qemu-missing", "No such file");
    expect_qemu("qemu-of-nobody", "-machine q35", "qemu-missing", "No such file");
    write_qemu_script("echo QEMU emulator version 7.1.9 '(Debian)'");
    expect_qemu(doctor_program, "-machine q35", "qemu-old", "is QEMU 7.1.9");
    write_qemu_script("echo hello");
    expect_qemu(doctor_program, "-machine q35", "qemu-fails", "it is no QEMU");
    unlink(doctor_program);
    expect_qemu(real, "-machine q35 -device vfio-pci", "qemu-unprotectable", "hardware");
    expect_qemu(real, "-machine q35 -device vhost-vsock-pci", "qemu-unprotectable", "the kernel");
    expect_qemu(real, "-machine q35 -device qxl-vga", "qemu-unprotectable", "pictures");
    expect_qemu(real, "-machine q35 -pflash code.fd", "qemu-unprotectable", "say -bios");
    expect_qemu(real, "-machine q35,pflash0=x", "qemu-unprotectable", "flash");
    expect_qemu(real, "-machine q35 -drive file=x", "qemu-refused", "disk.N");
    expect_qemu(real, "-machine q35 -device virtio-blk-pci,drive=x", "qemu-refused", "disk.N");
    expect_qemu(real, "-machine q35 -spellingmistake", "qemu-refused", "-spellingmistake");
}

/* What only QEMU itself knows is found by starting it. */
static void a_qemu_that_does_not_start_says_why(void)
{
    static const char real[] = "qemu-system-x86_64";
    expect_qemu(real, "-machine q36 -accel tcg", "qemu-fails", "unsupported machine type");
    expect_qemu(real, "-machine q35 -accel tcg -device nobody", "qemu-fails", "nobody");
    expect_qemu(real, "-machine q35 -accel tcg -device isa-debugcon", "qemu-fails", "char device");
    expect_qemu(real, "-machine q35 -accel tcg -device VGA,vgamem_mb=64", "qemu-unprotectable",
                "vga.vram");
    expect_qemu(real, "-machine q35 -accel tcg -device amd-iommu", "qemu-unprotectable",
                "only-migratable");
}

/* With a network card and a disk, of which QEMU is to have the devices and not the image. */
static void expect_devices(const char *lines, const char *reason, const char *found)
{
    char machine[512], image[16];
    int status;
    snprintf(machine, sizeof(machine),
             "type = qemu\nqemu = qemu-system-x86_64 -machine q35 -accel tcg\nmemory = 64M\n"
             "net.0 = kemari-nobody\ndisk.0 = %s\n%s",
             doctor_disk, lines);
    write_config("", machine);
    doctor_write_file(doctor_disk, "left alone", 0600);
    CU_ASSERT_EQUAL_FATAL(truncate(doctor_disk, 1 << 20), 0);
    json_t *json = doctor_run(&status);
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "qemu", ""), reason);
    char *text = json_dumps(json, JSON_ENCODE_ANY);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, found));
    if (!strstr(text, found))
        printf("%s: %s\n", lines, text);
    free(text);
    json_decref(json);
    const int fd = open(doctor_disk, O_RDONLY | O_CLOEXEC);
    CU_ASSERT_EQUAL(read(fd, image, 10), 10);
    CU_ASSERT_EQUAL(memcmp(image, "left alone", 10), 0);
    close(fd);
}

static void the_devices_of_cards_and_disks_are_tried(void)
{
    expect_devices("", "ok", "can be protected");
    expect_devices("qemu-net-device = e1000e\nqemu-disk-device = ide-hd,bus=ide.0", "ok",
                   "can be protected");
    expect_devices("qemu-net-device = nobody", "qemu-fails", "qemu-net-device: qemu-system-x86_64");
    expect_devices("qemu-net-device = nobody", "qemu-fails", "'nobody' is not a valid device");
    expect_devices("qemu-net-device = virtio-net-pci,colour=red", "qemu-fails", "colour");
    expect_devices("qemu-disk-device = nobody", "qemu-fails",
                   "qemu-disk-device: qemu-system-x86_64");
    expect_devices("qemu-disk-device = virtio-blk-pci,queue-size=33", "qemu-fails", "power of 2");
    expect_devices("qemu-disk-device = ide-hd,bus=nowhere", "qemu-fails",
                   "Bus 'nowhere' not found");
    expect_devices("qemu-disk-device = vhost-user-blk-pci", "qemu-unprotectable",
                   "another process");
    expect_devices("qemu-disk-device = virtio-blk-pci,drive=mine", "qemu-refused", "disk.N");
}

static void expect_kvm(const char *words, bool needed)
{
    char lines[512];
    int status;
    snprintf(lines, sizeof(lines), "type = qemu\nqemu = qemu-system-x86_64 %s\nmemory = 64M",
             words);
    write_config("", lines);
    json_t *json = doctor_run(&status);
    CU_ASSERT_EQUAL(doctor_reason_of(json, "kvm", "")[0] != '\0', needed);
    json_decref(json);
}

static void a_kvm_is_asked_for_by_the_words_that_name_it(void)
{
    expect_kvm("-machine q35 -accel kvm", true);
    expect_kvm("-machine q35,accel=kvm", true);
    expect_kvm("-machine q35 -cpu kvm64 -accel tcg", false);
    expect_kvm("-machine q35,accel=kvm:tcg", false);
}

static void what_this_host_lacks_is_refused(void)
{
    write_usual("memory = 1T");
    doctor_expect_refused("memory", "", "memory-short");
    write_usual("memory = 1T\nhuge-pages = yes");
    doctor_expect_refused("huge-pages", "", "huge-pages-short");
    write_config("state-dir = /dev/null/web", "kernel = /bin/sh\nmemory = 64M");
    doctor_expect_refused("state-dir", "", "state-dir-refused");
}

static void a_secret_that_others_read_is_refused(void)
{
    write_usual("memory = 64M");
    doctor_write_file(doctor_secret, "sixteen bytes and more", 0644);
    doctor_expect_refused("files", "", "file-refused");
}

static void disks_are_opened(void)
{
    char lines[128], sector[4096];
    const struct disk_image_config image = {.path = doctor_disk};
    struct disk_image *user;
    struct error err = {0};
    int status;
    snprintf(lines, sizeof(lines), "memory = 64M\ndisk.0 = %s", doctor_disk);
    write_usual(lines);
    unlink(doctor_disk);
    doctor_expect_refused("disk", "disk.0", "disk-refused");
    memset(sector, 'x', sizeof(sector) - 1);
    sector[sizeof(sector) - 1] = '\0';
    doctor_write_file(doctor_disk, sector, 0600); /* 4095 bytes: no disk */
    doctor_expect_refused("disk", "disk.0", "disk-refused");
    CU_ASSERT_EQUAL(truncate(doctor_disk, 8192), 0);
    json_t *json = doctor_run(&status);
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "disk", "disk.0"), "ok");
    json_decref(json);
    CU_ASSERT_EQUAL_FATAL(disk_image_open(&image, &user, &err), 0);
    doctor_expect_refused("disk", "disk.0", "disk-busy");
    disk_image_close(&user);
}

/* Without the capabilities and limits that the unit gives. */
static void expect_without_privileges(void)
{
    const struct rlimit none = {0};
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    int status;
    setrlimit(RLIMIT_RTPRIO, &none);
    setrlimit(RLIMIT_MEMLOCK, &none);
    syscall(SYS_capget, &header, data);
    data[0].effective &= ~(1u << CAP_SYS_NICE | 1u << CAP_IPC_LOCK);
    CU_ASSERT_EQUAL(syscall(SYS_capset, &header, data), 0);
    json_t *json = doctor_run(&status);
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "realtime", ""), "realtime-refused");
#ifndef __SANITIZE_ADDRESS__ /* whose mlock() does nothing, and succeeds */
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "locked-memory", ""), "memory-lock-refused");
#endif
    json_decref(json);
}

static void missing_privileges_are_warned_of(void)
{
    write_usual("memory = 64M");
    doctor_in_child(expect_without_privileges);
}

static void a_heartbeat_without_priority_is_warned_of(void)
{
    char lines[512];
    int status;
    snprintf(lines, sizeof(lines), "kernel = /bin/sh\nmemory = 64M\n[heartbeat]\nrealtime = no");
    write_config("", lines);
    json_t *json = doctor_run(&status);
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "realtime", ""), "realtime-off");
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, "locked-memory", ""), "");
    json_decref(json);
}

static void a_configuration_that_is_wrong_or_alone_is_refused(void)
{
    doctor_write_file(doctor_config, "[vm]\nname = web\nroll = primary\n", 0600);
    doctor_expect_refused("config", "", "config-refused");
    doctor_write_file(doctor_config,
                      "[vm]\nname = web\nrole = primary\n[machine]\nmemory = 64M\nkernel = "
                      "/bin/sh\n",
                      0600);
    doctor_expect_refused("pair", "", "no-pair");
    unlink(doctor_config);
    doctor_expect_refused("config", "", "config-refused");
}

static void other_words_make_no_sense(void)
{
    kemarictl_expect("doctor", 2, "", "kemarictl: doctor: say \"doctor FILE\" (try --help)\n");
    kemarictl_expect("doctor a b", 2, "", "kemarictl: doctor: say \"doctor FILE\" (try --help)\n");
}

static const struct test_case cases[] = {
    {"every reason has a name, a cure and a row in the documentation",
     every_reason_has_a_name_a_cure_and_a_row_in_the_documentation},
    {"the documentation has no row of a reason that is none",
     the_documentation_has_no_row_of_a_reason_that_is_none},
    {"warnings do not forbid, and a problem does", warnings_do_not_forbid_and_a_problem_does},
    {"the report ends with yes or no, and why", the_report_ends_with_yes_or_no_and_why},
    {"the JSON is as documented", the_json_is_as_documented},
    {"a report that is full takes no more", a_report_that_is_full_takes_no_more},
    {"memory is enough when all of it fits", memory_is_enough_when_all_of_it_fits},
    {"a state directory has room and is quick", a_state_directory_has_room_and_is_quick},
    {"a good configuration is refused for the KVM only",
     a_good_configuration_is_refused_for_the_kvm_only},
    {"yes is said, and is the exit status", yes_is_said_and_is_the_exit_status},
    {"what QEMU can't be is told apart", what_qemu_can_not_be_is_told_apart},
    {"a QEMU that does not start says why", a_qemu_that_does_not_start_says_why},
    {"the devices of cards and disks are tried", the_devices_of_cards_and_disks_are_tried},
    {"a KVM is asked for by the words that name it", a_kvm_is_asked_for_by_the_words_that_name_it},
    {"what this host lacks is refused", what_this_host_lacks_is_refused},
    {"a secret that others read is refused", a_secret_that_others_read_is_refused},
    {"disks are opened", disks_are_opened},
    {"missing privileges are warned of", missing_privileges_are_warned_of},
    {"a heartbeat without priority is warned of", a_heartbeat_without_priority_is_warned_of},
    {"a configuration that is wrong, or alone, is refused",
     a_configuration_that_is_wrong_or_alone_is_refused},
    {"other words make no sense", other_words_make_no_sense},
};

int main(int argc, char **argv)
{
    if (!doctor_begin())
        return 1;
    const int status = test_run(argc, argv, "doctor", cases, ARRAY_SIZE(cases));
    return doctor_end() ? status : 1;
}
