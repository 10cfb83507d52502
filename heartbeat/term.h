/* The durable term record: what this host last knew about who owns the guest.
 *
 * One small text file per VM in the state directory, `<vm>.term`, so that an operator can read it
 * during an incident:
 *
 *     kemari-term 1
 *     vm redis
 *     term 7
 *     ownership owner
 *     standby tls://192.0.2.2:7000
 *     sha256 <64 hex digits over all lines above>
 *
 * The line "standby" is there where several hosts may be the standby: the one that may hold a state
 * of this owner's term, or "none".
 *
 * Rule (DESIGN §6, P2): a term is written here, durably, *before* it is used. The record never goes
 * backwards, and within a term it only makes these steps:
 *
 *     owner ──► lost ──► standby        (and standby ──► lost)
 *
 * Within one term nobody becomes owner: ownership always comes with a new term.
 *
 * A `<vm>.lock` beside the file is held while the store is open, so two daemons of one VM on one
 * host can't share a record. Not thread safe: one thread at a time. */
#ifndef KEMARI_HEARTBEAT_TERM_H
#define KEMARI_HEARTBEAT_TERM_H

#include "base/error.h"
#include "base/types.h"

#define TERM_VM_NAME_MAX  64  /* including the terminating zero */
#define TERM_STANDBY_MAX  64  /* likewise */
#define TERM_RECORD_MAX   320 /* bytes of the encoded record */

#define TERM_STANDBY_NONE "none" /* no host but the owner holds a state of this term */

enum term_ownership {
    TERM_STANDBY =
        1,          /* another host owns the guest in this term; also a host that never took part */
    TERM_OWNER = 2, /* this host was granted this term */
    TERM_LOST = 3,  /* this host was owner and is no more: its guest never speaks again */
};

struct term_record {
    term_t term; /* 0 only before the first one */
    enum term_ownership ownership;
    char vm[TERM_VM_NAME_MAX];
    char standby[TERM_STANDBY_MAX]; /* of an owner; "": it was not written down */
};

struct term_store;

/* Letters, digits, '.', '_' and '-', not beginning with '.', shorter than TERM_VM_NAME_MAX. */
bool term_vm_name_valid(const char *vm);

/* Printable, without blanks, shorter than TERM_STANDBY_MAX, not empty. */
bool term_standby_name_valid(const char *standby);

/* Pure codec. Encode returns the number of bytes; decode accepts exactly what encode makes. */
size_t term_record_encode(const struct term_record *record, char out[TERM_RECORD_MAX]);
int term_record_decode(const char *bytes, size_t size, struct term_record *out, struct error *err);

/* Locks and loads. A missing record is {0, standby}. -EBADMSG: corrupted (it is not guessed: the
 * sentence says what to do); -EBUSY: another process holds it; -EINVAL: bad name or record of
 * another VM; other -errno: the directory can't be used. */
int term_store_open(const char *directory, const char *vm, struct term_store **out,
                    struct error *err);

/* Releases the lock; the file stays. */
void term_store_close(struct term_store **store);

/* What is on the disk. */
struct term_record term_store_current(const struct term_store *store);

/* Makes it durable; only then may it be used. Refuses (-ESTALE, record unchanged) what the rules
 * above forbid. The same again is a successful no-op. After a failed write the disk may hold the
 * old or the new record: the store reports the old one as current, and does not go back behind
 * the new one. */
int term_store_advance(struct term_store *store, term_t term, enum term_ownership ownership,
                       struct error *err);

/* ---- where several hosts may be the standby ---- */

/* From now on a term that is owned is recorded with its standby: none. */
void term_store_name_standbys(struct term_store *store);

/* As term_store_advance() to OWNER, with a standby from the beginning; "": it is not recorded. */
int term_store_own(struct term_store *store, term_t term, const char *standby, struct error *err);

/* That host may hold a state of the term that is owned; to be called before it does. The only step
 * from owner to owner within a term. A record that is not an owner's needs none, and stays. */
int term_store_bind(struct term_store *store, const char *standby, struct error *err);

const char *term_ownership_name(enum term_ownership ownership);

#endif
