/* The handshake: from a fresh link to two sides that know each other, agree and have proved that
 * they hold the pair's secret.
 *
 *   connector                                             listener
 *      │ Hello(version, party, nonce) ───────────────────────► │  version
 *      │ ◄──────────────────────────────── Challenge(nonce)    │
 *      │ Proof(HMAC over both) ──────────────────────────────► │  key, then judge
 *      │ ◄─ Verdict(Welcome(party) or Refuse(reason, text),    │
 *      │            HMAC over all of the above)                │
 *      │  key, then judge                                      │
 *
 * A term is believed only from a peer that has proved the key: a stranger can't talk a primary into
 * standing down. Refusals before that point (version, key, busy) travel without proof. The HMACs
 * bind both nonces and both parties, and differ by direction, so nothing can be replayed or
 * reflected. On TLS the connection is secured first, and the HMACs cover its binding: proofs made
 * on one connection are worth nothing on another. What follows the handshake on plain TCP is
 * neither encrypted nor authenticated. */
#ifndef KEMARI_TRANSPORT_SESSION_H
#define KEMARI_TRANSPORT_SESSION_H

#include "transport/key.h"
#include "transport/link.h"

#define SESSION_MAJOR        1           /* must be equal on both sides */
#define SESSION_MINOR        0           /* the lower of the two is spoken */
#define SESSION_NAME_MAX     64          /* including the terminating zero */
#define SESSION_HOST_MAX     64          /* likewise */
#define SESSION_IDENTITY_MAX (32u << 10) /* including the terminating zero */
#define SESSION_SLOTS_MAX    8
#define SESSION_STREAMS_MAX  8
#define SESSION_ID_SIZE      32

/* Capability bits: what a side understands beyond the first version of the protocol. Used only when
 * both have them. */
#define SESSION_CAP_ENCODED        UINT64_C(1) /* encoded batches of pages */
#define SESSION_CAP_RELATIVE_STATE UINT64_C(2)
#define SESSION_CAP_SWITCHOVER     UINT64_C(4)  /* takes part in a planned switchover */
#define SESSION_CAP_SPILL          UINT64_C(8)  /* takes oversize epochs, see below */
#define SESSION_CAP_RELEASE        UINT64_C(16) /* gives up what it holds when it is told to */

/* So many batches of pages more than its staging memory takes (less two chunks) may be in one epoch
 * for a standby that has SESSION_CAP_SPILL. */
#define SESSION_SPILL_BATCHES 64

enum session_role { SESSION_PRIMARY = 1, SESSION_SECONDARY = 2 };

/* Why a peer is refused. On the wire and in `kemarictl`: numbers never change. */
enum session_reason {
    SESSION_OK = 0,
    SESSION_VERSION = 1,     /* another major protocol version */
    SESSION_KEY = 2,         /* the proof doesn't match: another secret */
    SESSION_VM_NAME = 3,     /* another virtual machine */
    SESSION_LOWER_TERM = 4,  /* a primary of a lower term than ours: the peer is stale */
    SESSION_HIGHER_TERM = 5, /* we are a primary of a lower term than the peer's: we are stale */
    SESSION_ROLE = 6,        /* not one primary and one secondary */
    SESSION_LAYOUT = 7,      /* memory size or slots differ */
    SESSION_CPU = 8,         /* vCPUs, CPUID, MSRs differ */
    SESSION_DEVICES = 9,     /* any other line of the identity differs */
    SESSION_BUSY = 10,       /* the listener has a peer already */
    SESSION_STRANGER = 11,   /* the peer is not in the primary's list of hosts */
    SESSION_TURN = 12,       /* it is, and may not come now: `text` says why */
};

struct session_slot {
    gpa_t gpa;
    uint64_t size; /* bytes */
};

/* What one side says about itself. */
struct session_party {
    uint32_t major; /* SESSION_MAJOR, SESSION_MINOR */
    uint32_t minor;
    enum session_role role;
    term_t term; /* highest known; 0 for a secondary that knows none, never for a primary */
    uint64_t memory_size;  /* bytes */
    uint64_t staging_cap;  /* bytes this side is willing to stage */
    uint64_t capabilities; /* bits; unknown ones are ignored */
    uint64_t life; /* of a primary's guest: random at its first start, kept over every failover, so
                      that a primary that crashed and began anew isn't taken for the old one */
    uint32_t streams; /* connections it would use for one session, 1..SESSION_STREAMS_MAX */
    uint32_t stream;  /* 0: begins a session; else joins `joins` as its connection of that number */
    uint8_t joins[SESSION_ID_SIZE];
    uint32_t slot_count;
    struct session_slot slots[SESSION_SLOTS_MAX];
    char vm_name[SESSION_NAME_MAX]; /* [A-Za-z0-9._-] */
    char host[SESSION_HOST_MAX];    /* its listen address, which names it; "": it does not say */
    char identity[SESSION_IDENTITY_MAX]; /* machine_identity(): lines "key=value\n" */
};

struct session_config {
    struct session_party local;
    uint8_t key[KEY_SIZE]; /* key_derive(.., KEY_LABEL_SESSION, ..) */
    unsigned timeout_ms;   /* for the whole handshake; > 0 */

    /* Listener only, may be NULL: called once when a proved peer would be welcome. Any answer but
     * OK refuses it for that reason, in the words of `why`, which both sides read (BUSY needs
     * none). An admitted peer may still be lost before session_accept() returns, which fails then.
     */
    enum session_reason (*admit)(void *context, const struct session_party *peer,
                                 struct error *why);
    /* Likewise for a proved peer that joins a session as a further connection; NULL: none may. */
    bool (*join)(void *context, const struct session_party *peer);
    void *admit_context;
};

/* What both sides know afterwards. */
struct session {
    struct session_party peer;
    term_t term;                 /* of the primary: the term of the session */
    uint32_t minor;              /* agreed */
    uint64_t capabilities;       /* of both */
    uint64_t staging_cap;        /* the smaller of the two */
    uint32_t streams;            /* the smaller of the two */
    uint8_t id[SESSION_ID_SIZE]; /* of both nonces, parties and the connection: never twice */
    enum session_reason reason;  /* set when the handshake failed by a refusal, either way */
};

/* Pure. May `local` and `remote` be a pair? On refusal `text` says why from the local point of
 * view: "peer has vcpus=2, this host vcpus=4". Symmetric: judge(a, b) and judge(b, a) both accept,
 * or both refuse, with the same reason except that LOWER_TERM and HIGHER_TERM swap. The order of
 * checks is that of the enum. */
enum session_reason session_judge(const struct session_party *local,
                                  const struct session_party *remote, struct error *text);

/* Which reason a difference in the identity line `key` gives: "vcpus", and keys starting "cpu",
 * "msr", "tsc" or "xsave" are SESSION_CPU; starting "memory" or "slot", SESSION_LAYOUT; the rest,
 * SESSION_DEVICES. */
enum session_reason session_reason_of_key(const char *key, size_t length);

/* Performs the handshake on a fresh link, within config->timeout_ms in all. The local party is
 * checked first (-EINVAL). Errors beside those of link.h and link_establish():
 *   -ESTALE        this side is a primary of a lower term than the (proved) peer's: stand down
 *   -EKEYREJECTED  the peer doesn't hold our secret, or says that we don't hold its
 *   -ECONNREFUSED  refused, by either side: out->reason, and a sentence in `err`
 *   -EPROTO        a valid frame that has no place in the handshake
 * After an error the link is of no use; the caller destroys it. On success the link's deadline is
 * removed and its time-outs are as before. */
int session_connect(struct link *link, const struct session_config *config, struct session *out,
                    struct error *err);
int session_accept(struct link *link, const struct session_config *config, struct session *out,
                   struct error *err);

/* Machine-readable name: "layout", "lower-term", ... Static. */
const char *session_reason_name(enum session_reason reason);

#endif
