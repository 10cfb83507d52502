/* The QEMU that would run the guest: its version, the words of its command, and whether it starts
 * and has nothing that can't be protected. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "app/config_use.h"
#include "app/doctor_checks.h"
#include "base/fd.h"
#include "dirtylog/process_log.h"
#include "qemu/machine.h"
#include "qemu/version.h"

#define MESSAGES_MAX 2048
#define MESSAGE_MAX  256

static bool is_word_allowed(const struct doctor *doctor, const struct qemu_command *command)
{
    struct error err = {0};
    const int rc = qemu_command_check(command, &err);
    if (rc < 0)
        doctor_say(doctor->report, "qemu", "",
                   rc == -ENOTSUP ? DOCTOR_QEMU_UNPROTECTABLE : DOCTOR_QEMU_REFUSED, "%s",
                   err.text);
    return rc == 0;
}

static bool is_version_good(const struct doctor *doctor, const char *program)
{
    struct qemu_version version;
    struct error err = {0};
    const int rc = qemu_version_ask(program, &version, &err);
    if (rc < 0)
        doctor_say(doctor->report, "qemu", "",
                   rc == -ENOENT ? DOCTOR_QEMU_MISSING : DOCTOR_QEMU_FAILS, "%s", err.text);
    else if (qemu_version_is_old(&version))
        doctor_say(doctor->report, "qemu", "", DOCTOR_QEMU_OLD, "%s is QEMU %u.%u.%u", program,
                   version.major, version.minor, version.micro);
    return rc == 0 && !qemu_version_is_old(&version);
}

/* The first line that QEMU has said and that is no warning: why it ended. */
static void read_message(int fd, char out[MESSAGE_MAX])
{
    char text[MESSAGES_MAX];
    const ssize_t size = pread(fd, text, sizeof(text) - 1, 0);
    text[size > 0 ? size : 0] = '\0';
    out[0] = '\0';
    for (const char *line = text; *line && !out[0]; line += line[strcspn(line, "\n")] == '\n') {
        const size_t length = strcspn(line, "\r\n");
        snprintf(out, MESSAGE_MAX, "%.*s", (int)length, line);
        if (strstr(out, "warning:"))
            out[0] = '\0';
        line += strcspn(line, "\n");
    }
}

/* Whose words QEMU's message is about, as the beginning of a sentence. */
static const char *blame(const char *message)
{
    return strstr(message, ",drive=disk")   ? "qemu-disk-device: "
           : strstr(message, ",netdev=net") ? "qemu-net-device: "
                                            : "";
}

/* QEMU names its option -only-migratable, which is in every command. */
static enum doctor_reason reason_of(int rc, const char *message)
{
    return rc == -ENOTSUP || strstr(message, "only-migratable") ? DOCTOR_QEMU_UNPROTECTABLE
                                                                : DOCTOR_QEMU_FAILS;
}

static void ignore_output(void *context, unsigned index, const struct iovec *parts, int count)
{
    (void)context, (void)index, (void)parts, (void)count;
}

static void ignore_console(void *context, const uint8_t *data, size_t size)
{
    (void)context, (void)data, (void)size;
}

static void ignore_event(void *context, enum qemu_event event, const char *detail)
{
    (void)context, (void)event, (void)detail;
}

/* Of "KEY=VALUE\n" lines; "" without it. */
static void find_line(const char *lines, const char *key, char out[MESSAGE_MAX])
{
    const char *at = strstr(lines, key);
    snprintf(out, MESSAGE_MAX, "%.*s", at ? (int)strcspn(at + strlen(key), "\n") : 0,
             at ? at + strlen(key) : "");
}

static void say_started(const struct doctor *doctor, const struct qemu_machine *machine)
{
    char version[MESSAGE_MAX], features[MESSAGE_MAX];
    const char *lines = qemu_machine_identity(machine);
    find_line(lines, "\nqemu=", version);
    find_line(lines, "\ncpu-features=", features);
    doctor_say(doctor->report, "qemu", "", DOCTOR_FINE,
               "QEMU %s starts with this command, and its machine can be protected", version);
    doctor_say(doctor->report, "cpu", "", DOCTOR_CPU_NOT_COMPARED,
               "not compared with the peer's; the guest's processors have the digest %s", features);
}

static int start(const struct qemu_command *command, int messages_fd, struct gmem *memory,
                 struct qemu_machine **machine, struct error *err)
{
    static const struct qemu_output_ops output = {
        .network = ignore_output, .console = ignore_console, .event = ignore_event};
    static const char *const environment[] = {NULL};
    const struct qemu_machine_config config = {.memory = memory,
                                               .command = *command,
                                               .preload_fd = -1,
                                               .environment = environment,
                                               .messages_fd = messages_fd,
                                               .output = &output};
    return qemu_machine_create(&config, machine, err);
}

/* What kemarid would do first, with disks that are nobody's. The guest doesn't run, so its memory
 * takes none of the host's. */
static void try_start(const struct doctor *doctor, const struct qemu_command *command)
{
    const struct gmem_config config = {.size = command->memory};
    struct gmem *memory = NULL;
    struct qemu_machine *machine = NULL;
    struct error err = {0};
    char message[MESSAGE_MAX] = "";
    int messages_fd = memfd_create("kemari-doctor", MFD_CLOEXEC);
    int rc = messages_fd < 0 ? error_set(&err, -errno, "%s", strerror(errno)) : 0;
    if (rc == 0)
        rc = gmem_create(&config, &memory, &err);
    if (rc == 0)
        rc = start(command, messages_fd, memory, &machine, &err);
    if (rc == -ECHILD || rc == -EIO)
        read_message(messages_fd, message);
    if (rc == 0)
        say_started(doctor, machine);
    else
        doctor_say(doctor->report, "qemu", "", reason_of(rc, message), "%s%s", blame(message),
                   message[0] ? message : err.text);
    qemu_machine_destroy(&machine);
    gmem_destroy(&memory);
    fd_close(&messages_fd);
}

void doctor_check_qemu(const struct doctor *doctor, bool accelerated)
{
    struct qemu_command command = config_qemu_command(doctor->config);
    command.trial = true;
    enum process_log log;
    struct error err = {0};
    if (is_word_allowed(doctor, &command) && is_version_good(doctor, command.words[0])) {
        if (accelerated)
            try_start(doctor, &command);
        else
            doctor_say(doctor->report, "qemu", "", DOCTOR_NOT_TRIED,
                       "QEMU isn't started without the KVM that its command asks for");
    }
    if (process_log_choose(doctor->config->qemu_dirty_log, &log, &err) < 0)
        doctor_say(doctor->report, "dirty-log", "", DOCTOR_DIRTY_LOG_REFUSED, "%s", err.text);
    else
        doctor_say(doctor->report, "dirty-log", "", DOCTOR_FINE,
                   "this kernel tells what another process writes (%s)", process_log_name(log));
}
