/* Configuration of kemarid: one option table, read from an INI file and from flags of the same
 * names, checked, and handed over as one plain struct.
 *
 * `[machine] vcpus = 2` in the file and `--vcpus 2` on the command line are the same option; the
 * command line wins over the file; within each an option is given once. Where two sections have a
 * key of the same name the flag carries the section (`--arbiter-timeout`); docs/configuration.md,
 * generated from the table, lists every name, default and limit.
 *
 * Every error is one sentence that begins with its place: "FILE:LINE: ", "--flag: ", or, for
 * relations between options, the option's name. */
#ifndef KEMARI_APP_CONFIG_H
#define KEMARI_APP_CONFIG_H

#include <netinet/in.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/log.h"
#include "base/types.h"
#include "dirtylog/process_log.h"

#define CONFIG_NETS_MAX     8
#define CONFIG_DISKS_MAX    16
#define CONFIG_PATHS_MAX    8
#define CONFIG_HOSTS_MAX    3  /* beside this one and its peer */
#define CONFIG_NAME_MAX     32 /* VM name, with the zero */
#define CONFIG_WORDS_MAX    64
#define CONFIG_PASSWORD_MAX 256 /* bytes of a password, with the zero */
#define CONFIG_SECRET_MIN   16  /* bytes of a secret file */
#define CONFIG_SECRET_MAX   4096

/* AUTO: whichever the term record and the arbiter leave to this host. */
enum config_role { CONFIG_ROLE_PRIMARY, CONFIG_ROLE_SECONDARY, CONFIG_ROLE_AUTO };
enum config_machine { CONFIG_MACHINE_KVM, CONFIG_MACHINE_QEMU };
enum config_serial { CONFIG_SERIAL_HELD, CONFIG_SERIAL_FREE };
enum config_on_panic { CONFIG_ON_PANIC_RESTART, CONFIG_ON_PANIC_STOP, CONFIG_ON_PANIC_IGNORE };
enum config_encoding {
    CONFIG_ENCODING_AUTO,
    CONFIG_ENCODING_RAW,
    CONFIG_ENCODING_DELTA,
    CONFIG_ENCODING_LZ4,
    CONFIG_ENCODING_SMALLEST,
};
enum config_policy { CONFIG_POLICY_PIPELINED, CONFIG_POLICY_KEMARI, CONFIG_POLICY_INTERVAL };
enum config_arbiter {
    CONFIG_ARBITER_NONE,
    CONFIG_ARBITER_MANUAL,
    CONFIG_ARBITER_COMMAND,
    CONFIG_ARBITER_ETCD,
};

/* Every `char *` is owned by the config and NULL when the option was not given and has no default.
 */
struct config_address {
    char *text;         /* "10.0.0.1:7001", a link's with its scheme: "tls://[fd00::1]:7000"; NULL
                           when not given */
    const char *scheme; /* of a link: "tls", "tcp", "rdma", "rdma+tls"; static */
    bool encrypted;     /* of a link: tls:// or rdma+tls:// */
    struct sockaddr_storage address; /* numeric, AF_INET or AF_INET6; port 0 never */
    socklen_t length;
};

struct config_net {
    char *tap;      /* interface name, IFNAMSIZ - 1 at most */
    uint8_t mac[6]; /* unicast; derived from VM name and index when not given */
};

struct config_disk {
    char *path;
    bool read_only;
    bool shared; /* both hosts see the same image */
};

struct config_words {
    char *text;                       /* as written; NULL when not given */
    char *list[CONFIG_WORDS_MAX + 1]; /* ends with NULL; points into `words` */
    char *words;                      /* owned */
};

struct config_path { /* of the heartbeat: UDP, both ends of one family */
    struct config_address local;
    struct config_address remote;
    unsigned host; /* number in the list of hosts: 0 is `peer`, N + 1 is host.N */
};

struct config {
    /* [vm] */
    char *name;
    enum config_role role;
    struct config_address metrics; /* served by HTTP; text NULL: nowhere */
    char *state_dir;               /* default /var/lib/kemari/NAME */
    char *run_dir;                 /* default /run/kemari */
    char *control_socket;          /* default RUN-DIR/NAME.sock */
    gid_t control_group;           /* (gid_t)-1: none */
    enum log_level log_level;

    /* [machine] */
    enum config_machine machine;
    uint64_t memory; /* bytes, a multiple of 2 MiB */
    unsigned vcpus;
    char *kernel;             /* or NULL for QEMU */
    char *initrd;             /* or NULL */
    char *cmdline;            /* or NULL */
    struct config_words qemu; /* program and arguments; of type qemu only */
    char *libvirt_xml;        /* a file that says qemu and others; of type qemu only */
    char *qemu_net_device;
    char *qemu_disk_device;
    enum process_log qemu_dirty_log;
    bool huge_pages;
    enum config_serial serial;
    char *console_log; /* file to append to, "stdout", or NULL: nowhere */
    bool virtio_console;
    bool rng;
    enum config_on_panic on_panic;
    unsigned panic_restarts; /* within panic_window; 0: any number */
    nsec_t panic_window;
    unsigned net_count;
    struct config_net nets[CONFIG_NETS_MAX];
    unsigned disk_count;
    struct config_disk disks[CONFIG_DISKS_MAX];

    /* [replication] */
    /* Both or neither. Neither: a primary without a secondary, on purpose. */
    struct config_address listen; /* where this host is found while it is the primary */
    struct config_address peer;   /* the other host's `listen` */
    unsigned host_count;          /* further hosts that may take `peer`'s place, in that order */
    struct config_address hosts[CONFIG_HOSTS_MAX];
    nsec_t host_wait; /* how long the guest is unprotected before the next of them may come */
    enum config_policy policy;
    nsec_t interval;       /* from cut to cut under policy interval */
    unsigned window;       /* epochs in flight */
    nsec_t max_interval;   /* between two cuts when nothing else triggers one */
    unsigned streams;      /* connections for pages; 0: auto */
    uint64_t staging_cap;  /* bytes */
    uint64_t resync_rate;  /* bytes of disk per second; 0: no limit */
    uint64_t outbox_cap;   /* bytes */
    uint64_t dirty_budget; /* bytes of dirty pages that trigger a cut */
    enum config_encoding encoding;
    uint64_t encoding_cache; /* bytes */
    nsec_t stall_timeout;    /* of a standby that is alive and doesn't do its part */
    nsec_t peer_wait;        /* a starting primary waits this long for its secondary; 0: for ever */

    /* [tls] The three files are given all or not at all: without them the pair's secret serves. */
    char *tls_cert_file;
    char *tls_key_file;
    char *tls_ca_file;
    char *tls_peer_name; /* with the files never NULL: the host in `peer` when not given */
    bool tls_kernel;

    /* [heartbeat] */
    unsigned path_count;
    struct config_path paths[CONFIG_PATHS_MAX];
    nsec_t heartbeat_interval;
    unsigned heartbeat_multiplier;
    bool realtime;                     /* SCHED_FIFO for the heartbeat thread */
    char *secret_file;                 /* or NULL */
    uint8_t secret[CONFIG_SECRET_MAX]; /* its content without a final newline */
    size_t secret_size;                /* 0 when there is no secret-file */

    /* [arbiter] */
    enum config_arbiter arbiter;
    nsec_t arbiter_timeout;         /* after which an unanswered question counts as "unreachable" */
    nsec_t arbiter_attempt_timeout; /* 0: the kind's own */
    nsec_t arbiter_probe_interval;  /* 0: never */
    struct config_words arbiter_command;
    struct config_words arbiter_endpoints;
    char *arbiter_key_prefix;
    char *arbiter_ca_file;
    char *arbiter_cert_file;
    char *arbiter_key_file;
    char *arbiter_user;
    char *arbiter_password_file;
    char arbiter_password[CONFIG_PASSWORD_MAX]; /* content of the file without a final newline */
    bool accept_unfenced;                       /* a shared disk without fencing, for drills */

    /* [drill] */
    struct config_words power_off; /* of the other host; empty: no way */
    struct config_words power_on;
};

enum config_action {
    CONFIG_RUN,  /* go on with the configuration */
    CONFIG_EXIT, /* --help, --version, --print-config or --help-markdown was answered on `out` */
};

/* Reads the command line and the files it names, checks everything, and fills `*config`, which the
 * caller frees with config_free(). On error nothing is owned. `out` receives what --help and the
 * like print. 0 or -errno (-EINVAL for a wrong option, the errno of a file otherwise). */
int config_read(int argc, char **argv, FILE *out, struct config *config, enum config_action *action,
                struct error *err);

/* For those who look closer than a daemon that starts: reads the file, checks all but the files
 * that it names, and tells what is wrong with the first of those, if anything, in `files` (its code
 * is 0 otherwise; the secrets are empty unless it is). 0 or as config_read(). */
int config_examine(const char *path, struct config *config, struct error *files, struct error *err);

/* Frees the strings, wipes the secret, zeroes the struct. NULL and a zeroed struct are fine. */
void config_free(struct config *config);

#endif
