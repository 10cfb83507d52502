/* What the daemon knows about itself, as one plain struct.
 *
 * The daemon fills it (control_ops.status), the codec carries it, kemarictl prints it. The field
 * names are those of message Status in proto/control.proto and the keys of `status --json`;
 * control/schema.c ties the three together and a test proves that none is missing.
 *
 * Everything lives inside the struct: no ownership, copy by assignment. Strings are terminated;
 * a zeroed struct is a valid "knows nothing" status. Sizes in bytes, durations in nanoseconds. */
#ifndef KEMARI_CONTROL_STATUS_H
#define KEMARI_CONTROL_STATUS_H

#include "base/histogram.h"
#include "base/types.h"

#define CONTROL_NAME_MAX      64  /* VM name, kinds, addresses of paths; with the zero */
#define CONTROL_TEXT_MAX      256 /* a phrase for people */
#define CONTROL_PATHS_MAX     8
#define CONTROL_DISKS_MAX     16
#define CONTROL_HOSTS_MAX     4
#define CONTROL_WARNINGS_MAX  16
#define CONTROL_ENCODINGS_MAX 8

/* DESIGN §3. A promoted secondary is a primary; SOLO is a primary that holds a grant to release
 * output without a standby. */
enum control_role {
    CONTROL_ROLE_NONE,
    CONTROL_ROLE_PRIMARY,
    CONTROL_ROLE_SECONDARY,
    CONTROL_ROLE_SOLO,
};

/* What this daemon is doing.
 *
 *   primary:   STARTING ► CONNECTING ► SYNCHRONISING ► REPLICATING ─peer lost─► HOLDING ─grant─►
 * ALONE ▲                                                     │             │ └───────────────────
 * a secondary (re)turns ───────────┴─────────────┘ secondary: STARTING ► CONNECTING ► SYNCHRONISING
 * ► REPLICATING ─suspicion, grant─► PROMOTING, and from there on it is a primary either:    ... ►
 * STOPPING (operator), ... ► STOPPED (guest off, or the race for a term lost) */
enum control_state {
    CONTROL_STATE_STARTING,
    CONTROL_STATE_CONNECTING,
    CONTROL_STATE_SYNCHRONISING,
    CONTROL_STATE_REPLICATING,
    CONTROL_STATE_HOLDING,
    CONTROL_STATE_ALONE,
    CONTROL_STATE_PROMOTING,
    CONTROL_STATE_STOPPING,
    CONTROL_STATE_STOPPED,
};

enum control_guest_state {
    CONTROL_GUEST_NONE, /* not built, or a standby that has not been promoted */
    CONTROL_GUEST_RUNNING,
    CONTROL_GUEST_PARKED,
    CONTROL_GUEST_OFF,    /* switched itself off */
    CONTROL_GUEST_FAILED, /* a vCPU cannot go on */
};

enum control_arbiter_state {
    CONTROL_ARBITER_IDLE,        /* nobody asks */
    CONTROL_ARBITER_ASKING,      /* a question is open: `asked_term` */
    CONTROL_ARBITER_GRANTED,     /* this host owns the current term by a grant */
    CONTROL_ARBITER_DENIED,      /* this host lost the race */
    CONTROL_ARBITER_UNREACHABLE, /* alarm: a failure now would not fail over */
};

enum control_path_state { CONTROL_PATH_UNKNOWN, CONTROL_PATH_UP, CONTROL_PATH_DOWN };

struct control_peer {
    char address[CONTROL_NAME_MAX];   /* "tls://10.0.0.2:7000"; empty when none is known */
    char transport[CONTROL_NAME_MAX]; /* "tls", "tcp", "rdma", "rdma+tls" */
    bool connected;
    bool encrypted;
    char cipher[CONTROL_NAME_MAX];  /* "TLS_AES_128_GCM_SHA256"; empty when not encrypted */
    bool kernel_tls;                /* the kernel encrypts what is sent */
    uint64_t refused;               /* connections turned away since the start */
    char refusal[CONTROL_TEXT_MAX]; /* why the last of them was */
    uint32_t streams;               /* connections that carry pages; 0 while there is none */
};

/* One of several hosts that may be the peer, in the order in which they are tried. */
struct control_host {
    char address[CONTROL_NAME_MAX];
    char part[CONTROL_NAME_MAX]; /* "standby", "awaited" (in this term it alone may come), "waits";
                                    on a secondary "primary" or "other" */
    bool alive;                  /* its heartbeat is heard */
};

struct control_guest {
    enum control_guest_state state;
    uint32_t vcpus;
    uint64_t memory_bytes;
    bool console_free; /* the console is not held: what it shows may never have happened (§5) */
    uint64_t panics;   /* that the guest reported on this host since the daemon's start */
};

struct control_distribution {
    uint64_t count; /* samples since the start */
    uint64_t p50_ns;
    uint64_t p99_ns;
    uint64_t max_ns;
};

/* One way for pages to travel, since the start. */
struct control_encoding {
    char name[CONTROL_NAME_MAX]; /* "raw", "zero", "same", "lz4", "delta", "delta-lz4" */
    uint64_t pages;
    uint64_t page_bytes; /* of those pages */
    uint64_t sent_bytes; /* for them */
    uint64_t encode_ns;  /* spent on them */
};

struct control_replication {
    char policy[CONTROL_NAME_MAX]; /* "pipelined", "kemari", "interval" */
    uint64_t epoch_committed;      /* number of the newest committed checkpoint; 0: none */
    uint64_t epoch_in_flight;      /* number of the newest epoch that was cut; 0: none in flight */
    uint32_t in_flight;            /* epochs cut and not yet committed */
    uint32_t window;               /* limit of the above */
    uint64_t epochs_committed;     /* how many, since the start */
    uint64_t epochs_aborted;
    double epochs_per_second;           /* over the last second or so */
    struct control_distribution pause;  /* guest stopped, cut to resume */
    struct control_distribution hold;   /* output, from the guest to its release */
    struct control_distribution commit; /* cut to acknowledgement */
    uint64_t dirty_pages_last;          /* of the last epoch */
    double dirty_pages_per_second;
    uint64_t pages_sent;
    uint64_t zero_pages; /* of pages_sent, those sent as "all zero" */
    uint64_t bytes_sent; /* on the wire, everything */
    uint64_t staging_bytes;
    uint64_t staging_cap_bytes;
    uint32_t throttle_percent;       /* of guest time taken away to stay under the cap; 0: none */
    char encoding[CONTROL_NAME_MAX]; /* "auto", "raw", ...: in use on this link */
    uint64_t dirty_bytes;            /* of the pages of all checkpoints */
    uint64_t checkpoint_bytes;       /* of bytes_sent, those for checkpoints */
    unsigned encoding_count;         /* <= CONTROL_ENCODINGS_MAX */
    struct control_encoding encodings[CONTROL_ENCODINGS_MAX];
    uint64_t throttled_ns; /* the guest was parked by the throttle, in all */
    uint64_t overflows;    /* times that it was not protected because more was dirty than fits */
    uint64_t oversize; /* checkpoints larger than the staging memory, sent with the guest parked */
    uint64_t lag_ns;   /* age of the state that the standby holds; 0: nobody follows */
};

struct control_outbox {
    uint64_t bytes; /* held now */
    uint64_t frames;
    uint64_t cap_bytes;
};

/* The first copy of all memory to a new secondary. */
struct control_synchronisation {
    bool active;
    uint64_t bytes_done;
    uint64_t bytes_total;
    double bytes_per_second;
    uint64_t eta_ns; /* 0: unknown */
};

struct control_heartbeat_path {
    char local[CONTROL_NAME_MAX]; /* "10.0.0.1:7001" */
    char remote[CONTROL_NAME_MAX];
    enum control_path_state state;
    uint64_t last_seen_ns; /* age of the last accepted packet; 0 when none ever came */
    uint64_t received;
    uint64_t lost;     /* gaps in the sequence */
    uint64_t rejected; /* bad authentication, replay, lower term */
};

struct control_heartbeat {
    bool peer_alive;
    uint64_t interval_ns;
    uint32_t multiplier;
    unsigned path_count; /* <= CONTROL_PATHS_MAX */
    struct control_heartbeat_path paths[CONTROL_PATHS_MAX];
};

struct control_arbiter {
    char kind[CONTROL_NAME_MAX]; /* "none", "manual"; "none" adds a warning by itself */
    enum control_arbiter_state state;
    uint64_t asked_term; /* the term of the open question; 0: none */
    char detail[CONTROL_TEXT_MAX];
};

/* How this daemon became the primary. Each duration counts from the last sign of life of the old
 * primary to the end of that step; 0: not reached. */
struct control_takeover {
    bool happened;
    uint64_t term;
    uint64_t epoch;               /* the checkpoint it continued from */
    char cause[CONTROL_TEXT_MAX]; /* "connection reset", "silence on every path", "operator" */
    uint64_t suspect_ns;
    uint64_t grant_ns;
    uint64_t drop_ns;  /* the unfinished epoch is dropped */
    uint64_t apply_ns; /* committed epochs are all in memory */
    uint64_t load_ns;  /* machine state is loaded */
    uint64_t network_ns;
    uint64_t run_ns;
    uint64_t first_output_ns;
    int64_t suspect_wall_ns; /* CLOCK_REALTIME of the suspicion */
};

struct control_disk {
    uint32_t index;
    char path[CONTROL_TEXT_MAX];
    char mode[CONTROL_NAME_MAX];   /* "plain", "replicated", "shared" */
    char engine[CONTROL_NAME_MAX]; /* "io_uring", "threads" */
    uint64_t size_bytes;
    bool read_only;
    uint64_t reads; /* of the guest on this host, since the start */
    uint64_t writes;
    uint64_t read_errors;
    uint64_t write_errors;             /* of flushes and discards, too */
    char last_error[CONTROL_NAME_MAX]; /* of this image; empty: none */
    /* Of a replicated disk: what this host knows about its image. */
    char state[CONTROL_NAME_MAX]; /* "new", "owner", "follower", "syncing", "outdated"; or empty */
    uint64_t marked_bytes;        /* may differ from the other host's copy */
    char trouble[CONTROL_TEXT_MAX];  /* why its map is not trusted or not kept; empty: it is */
    bool sync_active;                /* on the primary: the other host's copy is being made equal */
    char sync_why[CONTROL_TEXT_MAX]; /* why all of it is compared, or why it can't be done */
    uint64_t sync_done_bytes;        /* compared, of the running or last synchronisation */
    uint64_t sync_total_bytes;
    uint64_t sync_differed_bytes;
    uint64_t sync_sent_bytes;     /* on the wire */
    uint64_t sync_eta_ns;         /* 0: unknown */
    double sync_bytes_per_second; /* compared */
    uint32_t held;                /* of a shared disk: writes that wait for their epoch to commit */
    uint32_t writing;             /* of a shared disk: writes let out that the image lacks still */
};

/* What the guest wrote to its disks and the standby has not committed. */
struct control_disk_log {
    bool active;
    uint64_t bytes;
    uint64_t cap_bytes;
    uint32_t waiting; /* requests of the guest that wait for room */
};

/* The standby's side of the same. */
struct control_disk_replica {
    bool failed; /* what was committed can't be applied: this host protects nothing */
    char why[CONTROL_TEXT_MAX];
    uint64_t pending_bytes; /* committed or arriving, not applied */
    uint64_t applied_bytes; /* since the start */
};

struct control_status {
    char vm[CONTROL_NAME_MAX];
    char daemon_version[CONTROL_NAME_MAX];
    uint32_t pid;
    uint64_t uptime_ns;
    enum control_role role;
    enum control_state state;
    bool protected;                /* P5: a failure of either host now loses nothing */
    char reason[CONTROL_TEXT_MAX]; /* exactly why not; empty when protected */
    bool unprotected_by_order;     /* an operator's: no standby is let in until it ends */
    uint64_t term;
    struct control_peer peer;
    struct control_guest guest;
    struct control_replication replication;
    struct control_outbox outbox;
    struct control_synchronisation synchronisation;
    struct control_heartbeat heartbeat;
    struct control_arbiter arbiter;
    struct control_takeover takeover;
    unsigned host_count; /* <= CONTROL_HOSTS_MAX; 0 where there is a peer only */
    struct control_host hosts[CONTROL_HOSTS_MAX];
    unsigned disk_count; /* <= CONTROL_DISKS_MAX */
    struct control_disk disks[CONTROL_DISKS_MAX];
    struct control_disk_log disk_log;
    struct control_disk_replica disk_replica;
    unsigned warning_count; /* <= CONTROL_WARNINGS_MAX */
    char warnings[CONTROL_WARNINGS_MAX][CONTROL_TEXT_MAX];
};

/* Appends a phrase; when the list is full the last entry becomes "... and more". */
void control_status_warn(struct control_status *status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Percentiles of a histogram, which the caller keeps from changing meanwhile. */
void control_distribution_from(struct control_distribution *out, const struct histogram *histogram);

/* What every daemon must say whatever it fills in; the server calls it after control_ops.status.
 * Adds warnings that follow from the fields: an arbiter that prevents nothing, plain TCP, a free
 * console, throttling, a silent heartbeat path. Takes `protected` back when `reason` is not empty
 * or a field contradicts it (P5), and sees to it that what is not protected has a reason. */
void control_status_finish(struct control_status *status);

#endif
