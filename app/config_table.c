#include "app/config_table.h"

#include <inttypes.h>
#include <string.h>

#include "app/config_value.h"
#include "base/panic_limit.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define TIB ((uint64_t)1 << 40)

static const char *const role_names[] = {"primary", "secondary", "auto", NULL};
static const char *const log_names[] = {"error", "warning", "info", "debug", NULL};
static const char *const machine_names[] = {"kvm", "qemu", NULL};
static const char *const dirty_log_names[] = {"auto", "pagemap", "softdirty", NULL};
static const char *const serial_names[] = {"held", "free", NULL};
static const char *const on_panic_names[] = {"restart", "stop", "ignore", NULL};
static const char *const encoding_names[] = {"auto", "raw", "delta", "lz4", "smallest", NULL};
static const char *const policy_names[] = {"pipelined", "kemari", "interval", NULL};
static const char *const arbiter_names[] = {"none", "manual", "command", "etcd", NULL};

/* By number: the index is the value. */
static const char *const stream_names[] = {"auto", "1", "2", "3", "4", "5", "6", "7", "8", NULL};

#define AT(member)    .offset = offsetof(struct config, member)
#define COUNT(member) .count_offset = offsetof(struct config, member)

const struct config_option config_options[] = {
    {"vm", "name", "name", CONFIG_KIND_STRING, AT(name), .required = true, .placeholder = "NAME",
     .help = "Name of the virtual machine, equal on both hosts: letters, digits, - and _"},
    {"vm", "role", "role", CONFIG_KIND_ENUM, AT(role), .required = true, .names = role_names,
     .placeholder = "ROLE",
     .help = "Which of the two this host is when the daemon starts; auto, with arbiter etcd: the "
             "primary if the arbiter says that no other host owns the guest, else the secondary"},
    {"vm", "state-dir", "state-dir", CONFIG_KIND_STRING, AT(state_dir), .placeholder = "DIR",
     .fallback_text = "/var/lib/kemari/NAME",
     .help = "Directory of what must outlive the daemon, such as the term"},
    {"vm", "run-dir", "run-dir", CONFIG_KIND_STRING, AT(run_dir), .fallback = "/run/kemari",
     .placeholder = "DIR", .help = "Directory of control sockets"},
    {"vm", "control-socket", "control-socket", CONFIG_KIND_STRING, AT(control_socket),
     .placeholder = "PATH", .fallback_text = "RUN-DIR/NAME.sock",
     .help = "Unix socket for kemarictl"},
    {"vm", "control-group", "control-group", CONFIG_KIND_GROUP, AT(control_group),
     .placeholder = "GROUP", .fallback_text = "root and the daemon's own user only",
     .help = "Group whose members may use kemarictl, as a name or a number"},
    {"vm", "metrics", "metrics", CONFIG_KIND_SERVICE, AT(metrics), .placeholder = "[HOST:]PORT",
     .help =
         "Where metrics are served by HTTP for Prometheus, on 127.0.0.1 unless a HOST is given; "
         "whoever reaches the address may read them (docs/metrics.md)"},
    {"vm", "log-level", "log-level", CONFIG_KIND_ENUM, AT(log_level), .fallback = "info",
     .names = log_names, .placeholder = "LEVEL", .help = "Least severe level that is logged"},

    {"machine", "type", "machine", CONFIG_KIND_ENUM, AT(machine), .fallback = "kvm",
     .names = machine_names, .placeholder = "TYPE",
     .help =
         "What runs the guest: kvm, the machine of kemarid's own; qemu, a QEMU of this host (see "
         "qemu)"},
    {"machine", "memory", "memory", CONFIG_KIND_BYTES, AT(memory), .required = true, .min = 2 * MIB,
     .max = TIB, .placeholder = "SIZE", .help = "Memory of the guest, a multiple of 2M"},
    {"machine", "vcpus", "vcpus", CONFIG_KIND_UINT, AT(vcpus), .fallback = "1", .min = 1, .max = 64,
     .placeholder = "N", .help = "Number of virtual processors"},
    {"machine", "kernel", "kernel", CONFIG_KIND_STRING, AT(kernel), .placeholder = "FILE",
     .fallback_text = "none, needed by type kvm",
     .help = "bzImage or vmlinux, the same file on both hosts"},
    {"machine", "initrd", "initrd", CONFIG_KIND_STRING, AT(initrd), .placeholder = "FILE",
     .help = "Initial RAM disk, the same file on both hosts"},
    {"machine", "cmdline", "cmdline", CONFIG_KIND_STRING, AT(cmdline), .placeholder = "TEXT",
     .help = "Command line of the kernel"},
    {"machine", "qemu", "qemu", CONFIG_KIND_WORDS, AT(qemu), .placeholder = "PROGRAM WORD...",
     .fallback_text = "none, needed by type qemu",
     .help =
         "Command line of QEMU, equal on both hosts up to the program's path: what the machine is "
         "(-machine, -accel, -cpu, -device, ...). Memory, vcpus, kernel, net, disks and the "
         "console are "
         "said by the options here; what could not be protected is refused"},
    {"machine", "libvirt-xml", "libvirt-xml", CONFIG_KIND_STRING, AT(libvirt_xml),
     .placeholder = "FILE",
     .help =
         "With type qemu: XML of a libvirt domain that says qemu, memory, vcpus, kernel, initrd, "
         "cmdline and on-panic instead of these options; what in it is not understood is "
         "refused (docs/qemu.md)"},
    {"machine", "qemu-net-device", "qemu-net-device", CONFIG_KIND_STRING, AT(qemu_net_device),
     .fallback = "virtio-net-pci", .placeholder = "DRIVER",
     .help = "With type qemu: driver of the network cards, such as virtio-net-device or e1000"},
    {"machine", "qemu-disk-device", "qemu-disk-device", CONFIG_KIND_STRING, AT(qemu_disk_device),
     .fallback = "virtio-blk-pci,num-queues=1,queue-size=32", .placeholder = "DRIVER",
     .help = "With type qemu: driver of the disks and its properties, such as virtio-blk-device or "
             "scsi-hd. Short queues make short pauses: a checkpoint waits for what is in them"},
    {"machine", "qemu-dirty-log", "qemu-dirty-log", CONFIG_KIND_ENUM, AT(qemu_dirty_log),
     .fallback = "auto", .names = dirty_log_names, .placeholder = "HOW",
     .help = "With type qemu: how it is told what the guest writes to its memory. pagemap is faster "
             "and needs Linux 6.7, softdirty any kernel built with CONFIG_MEM_SOFT_DIRTY; auto is "
             "the first of these that the kernel has. The hosts may differ"},
    {"machine", "huge-pages", "huge-pages", CONFIG_KIND_BOOL, AT(huge_pages), .fallback = "no",
     .placeholder = "yes|no", .help = "Back guest memory by huge pages of 2 MiB"},
    {"machine", "serial", "serial", CONFIG_KIND_ENUM, AT(serial), .fallback = "held",
     .names = serial_names, .placeholder = "MODE",
     .help = "Whether console output is held until its checkpoint commits, or runs free; free is "
             "for debugging, since it may show what a failover undoes"},
    {"machine", "console-log", "console-log", CONFIG_KIND_STRING, AT(console_log),
     .placeholder = "FILE|stdout", .fallback_text = "not written",
     .help = "Where released console output goes"},
    {"machine", "virtio-console", "virtio-console", CONFIG_KIND_BOOL, AT(virtio_console),
     .fallback = "yes", .placeholder = "yes|no", .help = "Give the guest a virtio console"},
    {"machine", "rng", "rng", CONFIG_KIND_BOOL, AT(rng), .fallback = "yes", .placeholder = "yes|no",
     .help = "Give the guest a virtio entropy device"},
    {"machine", "on-panic", "on-panic", CONFIG_KIND_ENUM, AT(on_panic), .fallback = "restart",
     .names = on_panic_names, .placeholder = "WHAT",
     .help =
         "What to do when the guest reports through pvpanic that its kernel has panicked: reset "
         "it in place (restart), end it as if it had switched itself off (stop), or let it be "
         "(ignore). A guest with a crash kernel of its own is always left to that"},
    {"machine", "panic-restarts", "panic-restarts", CONFIG_KIND_UINT, AT(panic_restarts),
     .fallback = "5", .max = PANIC_RESTARTS_MAX, .placeholder = "N",
     .help = "With on-panic = restart: a guest that panics once more after so many restarts within "
             "panic-window is ended as with stop; 0: it is always restarted. Each host counts for "
             "itself"},
    {"machine", "panic-window", "panic-window", CONFIG_KIND_DURATION, AT(panic_window),
     .fallback = "10min", .min = SEC(1), .max = SEC(86400), .placeholder = "TIME",
     .help = "The time in which restarts after panics are counted"},
    {"machine", "net", "net", CONFIG_KIND_NET, AT(nets), .instances = CONFIG_NETS_MAX,
     COUNT(net_count), .placeholder = "TAP[,mac=MAC]",
     .help = "Network card number N on an existing tap device; without a MAC, one derived from the "
             "VM's name and N, equal on both hosts"},
    {"machine", "disk", "disk", CONFIG_KIND_DISK, AT(disks), .instances = CONFIG_DISKS_MAX,
     COUNT(disk_count), .placeholder = "PATH[,read-only|,shared]",
     .help =
         "Disk number N, a raw image or a block device. In a pair a writable disk is replicated: "
         "each host has its own image of the same size. A shared one is the same on both hosts, "
         "on a SAN or a network file system with direct I/O, and needs a fencing arbiter, that is "
         "command or manual; what the guest writes to it waits until its checkpoint commits"},

    {"replication", "listen", "listen", CONFIG_KIND_ADDRESS, AT(listen),
     .placeholder = "[SCHEME://]HOST:PORT",
     .help = "Address of this host at which the other one finds it, as long as this host is the "
             "primary; needed on both hosts. The scheme is tls, or rdma+tls, or tcp or rdma, which "
             "encrypt nothing. "
             "Without listen and peer a primary runs its guest alone, "
             "unprotected"},
    {"replication", "peer", "peer", CONFIG_KIND_ADDRESS, AT(peer),
     .placeholder = "[SCHEME://]HOST:PORT",
     .help = "The other host's listen: a secondary calls its primary there; needed on both hosts"},
    {"replication", "host", "host", CONFIG_KIND_ADDRESS, AT(hosts), .instances = CONFIG_HOSTS_MAX,
     COUNT(host_count), .placeholder = "[SCHEME://]HOST:PORT",
     .help = "With arbiter etcd: the listen of a further host that can run the guest. Each host "
             "lists all others, as peer, host.0, host.1 and so on, in the order in which they are "
             "tried as the secondary when this host is the primary"},
    {"replication", "host-wait", "host-wait", CONFIG_KIND_DURATION, AT(host_wait),
     .fallback = "10s", .min = 0, .max = SEC(86400), .placeholder = "TIME",
     .help = "How long a guest is without a secondary before the next host in the list may become "
             "that; peer may at once, host.0 after this time, host.1 after twice this time"},
    {"replication", "policy", "policy", CONFIG_KIND_ENUM, AT(policy), .fallback = "pipelined",
     .names = policy_names, .placeholder = "POLICY",
     .help = "When checkpoints are taken: pipelined, as soon as there is output and none is on its "
             "way; kemari, likewise, with the guest stopped until it has committed; interval, at "
             "a fixed pace. This and the next five are where a guest begins: \"kemarictl policy "
             "set\" changes them while it runs, the secondary takes them over with the guest, and "
             "a restart of both daemons comes back to what is configured"},
    {"replication", "interval", "checkpoint-interval", CONFIG_KIND_DURATION, AT(interval),
     .fallback = "25ms", .min = USEC(100), .max = SEC(60), .placeholder = "TIME",
     .help = "With policy interval: time from one checkpoint to the next"},
    {"replication", "window", "window", CONFIG_KIND_UINT, AT(window), .fallback = "2", .min = 1,
     .max = 8, .placeholder = "N", .help = "Most checkpoints on their way at the same time"},
    {"replication", "max-interval", "max-interval", CONFIG_KIND_DURATION, AT(max_interval),
     .fallback = "500ms", .min = MSEC(1), .max = SEC(60), .placeholder = "TIME",
     .help = "Longest time between two checkpoints when nothing else asks for one"},
    {"replication", "streams", "streams", CONFIG_KIND_ENUM, AT(streams), .fallback = "auto",
     .names = stream_names, .placeholder = "auto|N",
     .help = "Connections over which pages travel at the same time, the smaller number of both "
             "hosts; auto: one for every two processors, 4 at most"},
    {"replication", "staging-cap", "staging-cap", CONFIG_KIND_BYTES, AT(staging_cap),
     .fallback = "256M", .min = 8 * MIB, .max = 64 * GIB, .placeholder = "SIZE",
     .help = "Most memory for checkpoints that are not committed yet, on each host; set aside at "
             "the start, so that a running guest's can only be less"},
    {"replication", "dirty-budget", "dirty-budget", CONFIG_KIND_BYTES, AT(dirty_budget),
     .fallback = "64M", .min = MIB, .max = TIB, .placeholder = "SIZE",
     .help = "Changed memory that asks for a checkpoint by itself"},
    {"replication", "outbox-cap", "outbox-cap", CONFIG_KIND_BYTES, AT(outbox_cap),
     .fallback = "64M", .min = MIB, .max = 64 * GIB, .placeholder = "SIZE",
     .help = "Most memory for output that is held"},
    {"replication", "resync-rate", "resync-rate", CONFIG_KIND_BYTES, AT(resync_rate),
     .fallback = "256M", .min = 0, .max = TIB, .placeholder = "SIZE",
     .help = "Most bytes of disk compared per second while a secondary's images are made equal, so "
             "that the guest keeps its disk; 0: no limit"},
    {"replication", "encoding", "encoding", CONFIG_KIND_ENUM, AT(encoding), .fallback = "auto",
     .names = encoding_names, .placeholder = "ENCODING",
     .help = "How changed pages travel: as they are (raw), as what changed in them (delta), "
             "compressed (lz4), by whatever takes fewest bytes (smallest), or by what takes least "
             "time on this link (auto)"},
    {"replication", "encoding-cache", "encoding-cache", CONFIG_KIND_BYTES, AT(encoding_cache),
     .fallback = "48M", .min = MIB, .max = 16 * GIB, .placeholder = "SIZE",
     .help = "Memory of the primary for what the secondary holds, which differences refer to; not "
             "used by raw and lz4"},
    {"replication", "stall-timeout", "stall-timeout", CONFIG_KIND_DURATION, AT(stall_timeout),
     .fallback = "10s", .min = MSEC(100), .max = SEC(3600), .placeholder = "TIME",
     .help = "A secondary that is alive but keeps the guest stopped, or a checkpoint without "
             "acknowledgement, for so long is given up; a second more for every MiB to be sent"},
    {"replication", "peer-wait", "peer-wait", CONFIG_KIND_DURATION, AT(peer_wait),
     .fallback = "60s", .min = 0, .max = SEC(86400), .placeholder = "TIME",
     .help =
         "How long a starting primary waits for its secondary, its guest running and its output "
         "held, before it asks the arbiter to go on alone; 0: for ever"},

    {"tls", "cert-file", "tls-cert-file", CONFIG_KIND_STRING, AT(tls_cert_file),
     .placeholder = "FILE",
     .help = "PEM file of this host's certificate; with it the hosts authenticate each other by "
             "certificates, both of them, instead of by secret-file"},
    {"tls", "key-file", "tls-key-file", CONFIG_KIND_STRING, AT(tls_key_file), .placeholder = "FILE",
     .help =
         "PEM file of that certificate's key, without a passphrase, readable by its owner only"},
    {"tls", "ca-file", "tls-ca-file", CONFIG_KIND_STRING, AT(tls_ca_file), .placeholder = "FILE",
     .help = "PEM file of the authorities that the other host's certificate may come from"},
    {"tls", "peer-name", "tls-peer-name", CONFIG_KIND_STRING, AT(tls_peer_name),
     .placeholder = "NAME", .fallback_text = "the host in peer",
     .help = "What the other host's certificate must name, in full, among its alternative names: a "
             "DNS name or a numeric address"},
    {"tls", "kernel", "tls-kernel", CONFIG_KIND_BOOL, AT(tls_kernel), .fallback = "yes",
     .placeholder = "yes|no",
     .help = "Let the kernel encrypt what is sent, where it can (status shows it). One key serves "
             "for the whole connection then, else it is changed every 64 GiB or so"},

    {"heartbeat", "path", "path", CONFIG_KIND_PATH, AT(paths), .instances = CONFIG_PATHS_MAX,
     COUNT(path_count), .placeholder = "LOCAL,REMOTE[,host=N]",
     .help = "UDP path number N, each end HOST:PORT, in the same order on both hosts; a pair needs "
             "path.0, and the more independent paths, the better. A path leads to peer, or to "
             "host.N; each needs one, with a local end of its own"},
    {"heartbeat", "interval", "heartbeat-interval", CONFIG_KIND_DURATION, AT(heartbeat_interval),
     .fallback = "10ms", .min = MSEC(1), .max = SEC(10), .placeholder = "TIME",
     .help = "Time between two heartbeats on each path"},
    {"heartbeat", "multiplier", "heartbeat-multiplier", CONFIG_KIND_UINT, AT(heartbeat_multiplier),
     .fallback = "3", .min = 2, .max = 100, .placeholder = "N",
     .help = "Silence of this many intervals on every path is suspicion"},
    {"heartbeat", "realtime", "realtime", CONFIG_KIND_BOOL, AT(realtime), .fallback = "yes",
     .placeholder = "yes|no",
     .help = "Run the heartbeat, and the throttle of the guest, with real-time priority"},
    {"heartbeat", "secret-file", "secret-file", CONFIG_KIND_STRING, AT(secret_file),
     .placeholder = "FILE",
     .help =
         "Secret shared by both hosts, 16 to 4096 bytes, readable by its owner only; both prove in "
         "every connection and heartbeat that they know it, so a pair needs it"},

    {"arbiter", "type", "arbiter", CONFIG_KIND_ENUM, AT(arbiter), .fallback = "manual",
     .names = arbiter_names, .placeholder = "TYPE",
     .help = "Who decides which host goes on alone: a key in etcd, a command that fences the other "
             "host, an operator (manual), or nobody (none), which does not prevent split brain and "
             "is for drills on one machine"},
    {"arbiter", "timeout", "arbiter-timeout", CONFIG_KIND_DURATION, AT(arbiter_timeout),
     .fallback = "10s", .min = MSEC(10), .max = SEC(3600), .placeholder = "TIME",
     .help = "After this long without an answer the arbiter counts as unreachable; the question "
             "stays open"},
    {"arbiter", "attempt-timeout", "arbiter-attempt-timeout", CONFIG_KIND_DURATION,
     AT(arbiter_attempt_timeout), .fallback = "0", .min = 0, .max = SEC(600), .placeholder = "TIME",
     .help = "One attempt to get an answer ends after this long and is repeated; a command is "
             "killed then; 0: 2s with etcd, 1min with command"},
    {"arbiter", "command", "arbiter-command", CONFIG_KIND_WORDS, AT(arbiter_command),
     .placeholder = "PROGRAM [WORD]...",
     .help = "With type command: the agent that fences the other host, whole path and arguments, "
             "separated by blanks, \"quoted\" where a word has some"},
    {"arbiter", "endpoints", "arbiter-endpoints", CONFIG_KIND_WORDS, AT(arbiter_endpoints),
     .placeholder = "URL [URL]...",
     .help = "With type etcd: members of one etcd cluster, each http://HOST:PORT or "
             "https://HOST:PORT, the same cluster on both hosts"},
    {"arbiter", "key-prefix", "arbiter-key-prefix", CONFIG_KIND_STRING, AT(arbiter_key_prefix),
     .fallback = "/kemari/", .placeholder = "TEXT",
     .help = "With type etcd: the key is this and the VM's name, equal on both hosts"},
    {"arbiter", "ca-file", "arbiter-ca-file", CONFIG_KIND_STRING, AT(arbiter_ca_file),
     .placeholder = "FILE", .fallback_text = "the system's authorities",
     .help = "With type etcd: PEM file of the authorities that etcd's certificates are checked "
             "against"},
    {"arbiter", "cert-file", "arbiter-cert-file", CONFIG_KIND_STRING, AT(arbiter_cert_file),
     .placeholder = "FILE", .help = "With type etcd: PEM file of this host's certificate"},
    {"arbiter", "key-file", "arbiter-key-file", CONFIG_KIND_STRING, AT(arbiter_key_file),
     .placeholder = "FILE", .help = "With type etcd: PEM file of that certificate's key"},
    {"arbiter", "user", "arbiter-user", CONFIG_KIND_STRING, AT(arbiter_user), .placeholder = "NAME",
     .help = "With type etcd: whom to log in as, where etcd asks for that"},
    {"arbiter", "password-file", "arbiter-password-file", CONFIG_KIND_STRING,
     AT(arbiter_password_file), .placeholder = "FILE",
     .help = "With type etcd: password of that user, readable by its owner only"},
    {"arbiter", "i-accept-unfenced-shared-disk", "i-accept-unfenced-shared-disk", CONFIG_KIND_BOOL,
     AT(accept_unfenced), .fallback = "no", .placeholder = "yes|no",
     .help = "Take a shared disk without a fencing arbiter, in drills: a write that a host left "
             "behind when it was given up may reach the disk late, and damage it"},
    {"arbiter", "probe-interval", "arbiter-probe-interval", CONFIG_KIND_DURATION,
     AT(arbiter_probe_interval), .fallback = "2s", .min = 0, .max = SEC(3600),
     .placeholder = "TIME",
     .help = "With type etcd: how often it is tried whether the arbiter would answer, so that "
             "status can warn; 0: never"},

    {"drill", "power-off", "drill-power-off", CONFIG_KIND_WORDS, AT(power_off),
     .placeholder = "PROGRAM [WORD]...",
     .help = "How the drill power-off switches the other host off from this one, at once, as its "
             "management board can: whole path and arguments. Without it that drill is refused"},
    {"drill", "power-on", "drill-power-on", CONFIG_KIND_WORDS, AT(power_on),
     .placeholder = "PROGRAM [WORD]...",
     .help = "How it is switched on again; without it the drill waits until somebody has done it"},
};
const size_t config_option_count = ARRAY_SIZE(config_options);

/* Splits "net.3" into the length of "net" and 3; false when there is no canonical number. */
static bool split_instance(const char *name, size_t *length, unsigned *instance)
{
    const char *dot = strrchr(name, '.');
    if (!dot || strlen(dot) < 2 || strlen(dot) > 3 || (dot[1] == '0' && dot[2]))
        return false;
    unsigned value = 0;
    for (const char *p = dot + 1; *p; p++) {
        if (*p < '0' || *p > '9')
            return false;
        value = 10 * value + (unsigned)(*p - '0');
    }
    *length = (size_t)(dot - name);
    *instance = value;
    return true;
}

const struct config_option *config_option_find(const char *section, const char *name,
                                               unsigned *instance)
{
    size_t length = strlen(name);
    unsigned number = 0;
    const bool numbered = split_instance(name, &length, &number);
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *option = &config_options[i];
        const char *candidate = section ? option->key : option->flag;
        if ((section && strcmp(section, option->section) != 0) || strlen(candidate) != length ||
            strncmp(candidate, name, length) != 0)
            continue;
        if (numbered != (option->instances > 0) || (numbered && number >= option->instances))
            return NULL;
        *instance = number;
        return option;
    }
    return NULL;
}

const struct config_option *config_option_at(size_t offset)
{
    for (size_t i = 0; i < config_option_count; i++)
        if (config_options[i].offset == offset)
            return &config_options[i];
    return NULL;
}

unsigned config_option_instances(const struct config_option *option, const struct config *config)
{
    if (!option->instances)
        return 1;
    unsigned count;
    memcpy(&count, (const char *)config + option->count_offset, sizeof(count));
    return count;
}

static bool format_device(const struct config_option *option, const void *member, unsigned instance,
                          char *out, size_t size)
{
    if (option->kind == CONFIG_KIND_NET) {
        const struct config_net *net = (const struct config_net *)member + instance;
        char mac[CONFIG_VALUE_TEXT_MAX];
        config_format_mac(net->mac, mac);
        snprintf(out, size, "%s,mac=%s", net->tap, mac);
    } else if (option->kind == CONFIG_KIND_DISK) {
        const struct config_disk *disk = (const struct config_disk *)member + instance;
        snprintf(out, size, "%s%s", disk->path,
                 disk->read_only ? ",read-only"
                 : disk->shared  ? ",shared"
                                 : "");
    } else {
        const struct config_path *path = (const struct config_path *)member + instance;
        snprintf(out, size, path->host ? "%s,%s,host=%u" : "%s,%s", path->local.text,
                 path->remote.text, path->host - 1);
    }
    return true;
}

static bool format_string(const char *text, char *out, size_t size)
{
    if (text)
        snprintf(out, size, "%s", text);
    return text != NULL;
}

bool config_option_format(const struct config_option *option, unsigned instance,
                          const struct config *config, char *out, size_t size)
{
    const void *member = (const char *)config + option->offset;
    char number[CONFIG_VALUE_TEXT_MAX];
    switch (option->kind) {
    case CONFIG_KIND_STRING:
        return format_string(*(char *const *)member, out, size);
    case CONFIG_KIND_ADDRESS:
    case CONFIG_KIND_SERVICE:
        return format_string(((const struct config_address *)member)[instance].text, out, size);
    case CONFIG_KIND_WORDS:
        return format_string(((const struct config_words *)member)->text, out, size);
    case CONFIG_KIND_UINT:
        snprintf(out, size, "%u", *(const unsigned *)member);
        return true;
    case CONFIG_KIND_BYTES:
        config_format_bytes(*(const uint64_t *)member, number);
        return format_string(number, out, size);
    case CONFIG_KIND_DURATION:
        config_format_duration(*(const nsec_t *)member, number);
        return format_string(number, out, size);
    case CONFIG_KIND_BOOL:
        return format_string(*(const bool *)member ? "yes" : "no", out, size);
    case CONFIG_KIND_ENUM:
        return format_string(option->names[*(const unsigned *)member], out, size);
    case CONFIG_KIND_GROUP:
        snprintf(out, size, "%u", *(const gid_t *)member);
        return *(const gid_t *)member != (gid_t)-1;
    case CONFIG_KIND_NET:
    case CONFIG_KIND_DISK:
    case CONFIG_KIND_PATH:
        break;
    }
    return format_device(option, member, instance, out, size);
}
