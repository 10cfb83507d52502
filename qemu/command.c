#include "qemu/command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the operator may say. */
static const struct option {
    const char *name;
    bool has_value;
} allowed[] = {
    {"machine", true},
    {"M", true},
    {"accel", true},
    {"cpu", true},
    {"device", true},
    {"global", true},
    {"rtc", true},
    {"bios", true},
    {"L", true},
    {"uuid", true},
    {"smbios", true},
    {"acpitable", true},
    {"name", true},
    {"boot", true},
    {"object", true},
    {"overcommit", true},
    {"sandbox", true},
    {"fw_cfg", true},
    {"enable-kvm", false},
    {"nodefaults", false},
    {"no-hpet", false},
    {"no-acpi", false},
    {"no-user-config", false},
};

/* What has a place of its own, and which. */
static const struct {
    const char *name, *instead;
} elsewhere[] = {
    {"m", "memory"},       {"smp", "vcpus"},       {"kernel", "kernel"},      {"initrd", "initrd"},
    {"append", "cmdline"}, {"netdev", "net.N"},    {"nic", "net.N"},          {"net", "net.N"},
    {"drive", "disk.N"},   {"blockdev", "disk.N"}, {"hda", "disk.N"},         {"cdrom", "disk.N"},
    {"hdb", "disk.N"},     {"hdc", "disk.N"},      {"hdd", "disk.N"},         {"sd", "disk.N"},
    {"fda", "disk.N"},     {"fdb", "disk.N"},      {"serial", "console-log"},
};

/* Options without a place here, and why. */
static const struct {
    const char *name, *why;
} unprotectable[] = {
    {"pflash", "flash is memory that no checkpoint has: say -bios, with firmware that needs none"},
    {"vga", "say -device VGA, bochs-display or cirrus-vga"},
    {"display", "a screen would show what is not committed yet"},
    {"vnc", "a screen would show what is not committed yet"},
    {"spice", "a screen would show what is not committed yet"},
    {"virtfs", "what the guest writes to files of the host can't be taken back"},
    {"fsdev", "what the guest writes to files of the host can't be taken back"},
    {"tpmdev", "what a TPM holds is in no checkpoint"},
    {"numa", "the guest's memory is one piece"},
    {"mem-path", "the guest's memory is Kemari's"},
    {"loadvm", "a guest begins by its firmware, or where its other host left it"},
};

#define HARDWARE "it is hardware of some host, whose state can't be had"
#define OUTSIDE  "another process, or the kernel, has a part of its state"
#define UNSAVED  "QEMU itself can't save its state"
#define MEMORY   "it has, or changes, memory of which no checkpoint knows"
#define GRAPHICS                                                                                   \
    "its pictures are where no checkpoint has them: say VGA, bochs-display or cirrus-vga"

/* Devices, by how their drivers' names begin. */
static const struct {
    const char *start, *why;
} refused_devices[] = {
    {"vfio", HARDWARE},        {"usb-host", HARDWARE},     {"usb-redir", HARDWARE},
    {"vhost", OUTSIDE},        {"ivshmem", OUTSIDE},       {"virtio-iommu", UNSAVED},
    {"pci-testdev", UNSAVED},  {"virtio-balloon", MEMORY}, {"virtio-mem", MEMORY},
    {"virtio-pmem", MEMORY},   {"nvdimm", MEMORY},         {"pc-dimm", MEMORY},
    {"virtio-gpu", GRAPHICS},  {"virtio-vga", GRAPHICS},   {"qxl", GRAPHICS},
    {"vmware-svga", GRAPHICS}, {"ati-vga", GRAPHICS},      {"ramfb", GRAPHICS},
};

static bool begins_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static const struct option *find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
        if (strcmp(name, allowed[i].name) == 0)
            return &allowed[i];
    return NULL;
}

/* Of "KEY=...,KEY=...", which may begin with a value alone. */
static bool has_key(const char *value, const char *key)
{
    const size_t length = strlen(key);
    for (const char *at = value; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, key, length) == 0 && at[length] == '=')
            return true;
    }
    return false;
}

static int check_device(const char *value, struct error *err)
{
    const char *driver = value + (begins_with(value, "driver=") ? 7 : 0);
    /* QEMU takes it from anywhere, and from JSON. */
    if (value[0] == '{' || has_key(driver, "driver"))
        return error_set(err, -EINVAL, "-device %.100s: write the driver first, then ,KEY=VALUE",
                         value);
    for (size_t i = 0; i < ARRAY_SIZE(refused_devices); i++)
        if (begins_with(driver, refused_devices[i].start))
            return error_set(err, -ENOTSUP, "-device %.100s: %s", value, refused_devices[i].why);
    if (has_key(value, "vhost") || has_key(value, "vhostfd"))
        return error_set(err, -ENOTSUP, "-device %.100s: " OUTSIDE, value);
    if (has_key(value, "drive"))
        return error_set(err, -EINVAL, "-device %.100s: say disks by the option disk.N", value);
    if (has_key(value, "netdev"))
        return error_set(err, -EINVAL, "-device %.100s: say cards by the option net.N", value);
    return 0;
}

static int check_value(const char *name, const char *value, struct error *err)
{
    if (strcmp(name, "device") == 0)
        return check_device(value, err);
    if (strcmp(name, "object") == 0 && !begins_with(value, "rng-") &&
        !begins_with(value, "qom-type=rng-"))
        return error_set(err, -ENOTSUP, "-object %.100s: only rng objects can be protected", value);
    if ((strcmp(name, "machine") == 0 || strcmp(name, "M") == 0) &&
        (strstr(value, "memory-") || strstr(value, "pflash") || strstr(value, "dumpdtb") ||
         strstr(value, "confidential")))
        return error_set(err, -ENOTSUP,
                         "-%s %.100s: memory, its encryption and flash can't be chosen here", name,
                         value);
    return 0;
}

static int refuse(const char *word, const char *name, struct error *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(elsewhere); i++)
        if (strcmp(name, elsewhere[i].name) == 0)
            return error_set(err, -EINVAL, "%.100s: say it by the option %s", word,
                             elsewhere[i].instead);
    for (size_t i = 0; i < ARRAY_SIZE(unprotectable); i++)
        if (strcmp(name, unprotectable[i].name) == 0)
            return error_set(err, -ENOTSUP, "%.100s: %s", word, unprotectable[i].why);
    return error_set(err, -EINVAL, "%.100s: not known to be safe in a protected machine", word);
}

/* Of a list "kvm:tcg" the next is taken when one can't be had. */
static bool is_only_kvm(const char *list)
{
    const size_t length = strcspn(list, ",");
    return length == 3 && strncmp(list, "kvm", 3) == 0;
}

bool qemu_command_needs_kvm(const char *const *words)
{
    bool needs = false;
    for (size_t i = 1; words[0] && words[i]; i++) {
        const char *name = words[i] + strspn(words[i], "-"), *next = words[i + 1];
        needs |= strcmp(name, "enable-kvm") == 0;
        if (!next)
            break;
        if (strcmp(name, "accel") == 0) {
            const char *kind = next + (begins_with(next, "accel=") ? 6 : 0);
            if (!is_only_kvm(kind))
                return false; /* several -accel are such a list, too */
            needs = true;
        } else if (strcmp(name, "machine") == 0 || strcmp(name, "M") == 0) {
            const char *kind = strstr(next, "accel=");
            needs |= kind && is_only_kvm(kind + 6);
        }
    }
    return needs;
}

int qemu_command_check(const struct qemu_command *command, struct error *err)
{
    const char *const *words = command->words;
    if (!words || !words[0])
        return error_set(err, -EINVAL, "no command of QEMU is given");
    for (size_t i = 1; words[i]; i++) {
        if (words[i][0] != '-')
            return error_set(err, -EINVAL, "%.100s: not an option of QEMU", words[i]);
        /* QEMU takes two dashes for one. */
        const char *name = words[i] + 1 + (words[i][1] == '-');
        const struct option *option = find(name);
        if (!option)
            return refuse(words[i], name, err);
        if (!option->has_value)
            continue;
        if (!words[i + 1])
            return error_set(err, -EINVAL, "%s: the value is missing", words[i]);
        const int rc = check_value(name, words[++i], err);
        if (rc < 0)
            return rc;
    }
    int rc = command->net_count ? check_device(command->net_device, err) : 0;
    if (rc == 0 && command->disk_count)
        rc = check_device(command->disk_device, err);
    return rc;
}

/* ---- the whole line ---- */

struct list {
    char **items;
    size_t count, capacity;
    bool failed;
};

static void __attribute__((format(printf, 2, 3))) add(struct list *list, const char *format, ...)
{
    if (list->count + 2 > list->capacity && !list->failed) {
        const size_t capacity = list->capacity ? 2 * list->capacity : 64;
        char **items = realloc(list->items, capacity * sizeof(*items));
        list->failed = !items;
        list->items = items ? items : list->items;
        list->capacity = items ? capacity : list->capacity;
    }
    if (list->failed)
        return;
    va_list arguments;
    va_start(arguments, format);
    char *text = NULL;
    if (vasprintf(&text, format, arguments) < 0)
        list->failed = true;
    else
        list->items[list->count++] = text;
    va_end(arguments);
    list->items[list->count] = NULL;
}

static void add_monitor(struct list *list, const char *name, int fd)
{
    add(list, "-chardev");
    add(list, "socket,id=%s,fd=%d", name, fd);
    add(list, "-mon");
    add(list, "chardev=%s,mode=control", name);
}

static void add_networks(struct list *list, const struct qemu_command *command)
{
    for (unsigned i = 0; i < command->net_count; i++) {
        const uint8_t *mac = command->macs[i];
        add(list, "-netdev");
        add(list, "dgram,id=net%u,local.type=fd,local.str=%u", i, QEMU_FD_NET + i);
        add(list, "-device");
        add(list, "%s,netdev=net%u,id=card%u,mac=%02x:%02x:%02x:%02x:%02x:%02x",
            command->net_device, i, i, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
    }
}

/* An error of a disk is the guest's: a QEMU that stops by itself would do it behind our back. */
static void add_disks(struct list *list, const struct qemu_command *command)
{
    if (command->disk_count && !command->trial) {
        add(list, "-drive");
        add(list, "if=none,id=bell,driver=nbd,server.type=fd,server.str=%u,export=bell",
            QEMU_FD_BELL);
    }
    for (unsigned i = 0; i < command->disk_count; i++) {
        const char *read_only = command->disks_read_only[i] ? "on" : "off";
        add(list, "-blockdev");
        if (command->trial)
            add(list, "driver=null-co,node-name=disk%u,read-zeroes=on,read-only=%s,discard=unmap",
                i, read_only);
        else
            add(list,
                "driver=nbd,node-name=disk%u,server.type=fd,server.str=%u,export=disk%u,"
                "read-only=%s,discard=unmap",
                i, QEMU_FD_DISK + i, i, read_only);
        add(list, "-device");
        add(list, "%s,drive=disk%u,id=drive%u,serial=kemari-disk%u,rerror=report,werror=report",
            command->disk_device, i, i, i);
    }
}

static void add_boot(struct list *list, const struct qemu_command *command)
{
    const struct {
        const char *option, *value;
    } words[] = {{"-kernel", command->kernel},
                 {"-initrd", command->initrd},
                 {"-append", command->command_line}};
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (words[i].value) {
            add(list, "%s", words[i].option);
            add(list, "%s", words[i].value);
        }
}

char **qemu_command_arguments(const struct qemu_command *command, bool incoming)
{
    struct list list = {0};
    for (size_t i = 0; command->words[i]; i++)
        add(&list, "%s", command->words[i]);
    const unsigned long long memory = command->memory;
    /* -S: the guest runs when it is told to, on either side. -only-migratable: a device whose state
     * QEMU can't save is not left out of the state without a word. */
    static const char *const fixed[] = {"-nodefaults", "-no-user-config", "-display",        "none",
                                        "-S",          "-no-shutdown",    "-only-migratable"};
    for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
        add(&list, "%s", fixed[i]);
    add(&list, "-m");
    add(&list, "%lluK", memory >> 10);
    add(&list, "-smp");
    add(&list, "%u", command->vcpus);
    add(&list, "-object");
    add(&list,
        "memory-backend-file,id=" QEMU_MEMORY ",share=on,size=%llu,mem-path=/proc/self/fd/%d",
        memory, QEMU_FD_MEMORY);
    add(&list, "-machine");
    add(&list, "memory-backend=" QEMU_MEMORY ",suppress-vmdesc=on");
    add(&list, "-action");
    add(&list, "panic=%s", command->keep_on_panic ? "none" : "pause");
    add_monitor(&list, "control", QEMU_FD_CONTROL);
    add_monitor(&list, "saver", QEMU_FD_SAVER);
    add_monitor(&list, "events", QEMU_FD_EVENTS);
    add(&list, "-chardev");
    add(&list, "socket,id=console,fd=%d", QEMU_FD_SERIAL);
    add(&list, "-serial");
    add(&list, "chardev:console");
    add_boot(&list, command);
    add_networks(&list, command);
    add_disks(&list, command);
    /* What xen-save-devices-state writes has no configuration section. */
    add(&list, "-global");
    add(&list, "migration.send-configuration=off");
    if (incoming) {
        add(&list, "-incoming");
        add(&list, "defer");
    }
    if (list.failed)
        qemu_command_free(&list.items);
    return list.items;
}

void qemu_command_free(char ***arguments)
{
    for (size_t i = 0; *arguments && (*arguments)[i]; i++)
        free((*arguments)[i]);
    free(*arguments);
    *arguments = NULL;
}
