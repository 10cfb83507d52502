/* Words exchanged with etcd's v3 JSON gateway: request bodies out, answers in. Pure.
 *
 * One key per VM holds who owns the guest, as one line that an operator can read and write with
 * etcdctl:
 *
 *     term 7 owner host-a/4711/1f2e3d4c
 *
 * Everything that etcd says is hostile until decoded here: bounded by the caller, strictly typed,
 * and about our key alone. What can't be read is no answer (-EBADMSG with a phrase). */
#ifndef KEMARI_HEARTBEAT_ETCD_CODEC_H
#define KEMARI_HEARTBEAT_ETCD_CODEC_H

#include "base/error.h"
#include "base/types.h"
#include "heartbeat/arbiter.h"

#define ETCD_KEY_MAX   256 /* with the zero */
#define ETCD_VALUE_MAX (ARBITER_TEXT_MAX + 48)
#define ETCD_TOKEN_MAX 512

struct etcd_record {
    term_t term;                  /* never 0 */
    char owner[ARBITER_TEXT_MAX]; /* printable, without blanks */
};

/* What an answer says of the key at one moment. */
struct etcd_fact {
    uint64_t cluster;      /* which cluster spoke */
    uint64_t revision;     /* of its store; never decreases */
    bool present;          /* the key exists: the two below are valid */
    uint64_t mod_revision; /* of the key's last change; 0 when absent, which is how etcd compares */
    struct etcd_record record;
};

/* The value of the key. Format returns its length; 0: the owner can't be written like that. */
size_t etcd_record_format(const struct etcd_record *record, char out[ETCD_VALUE_MAX]);
int etcd_record_parse(const char *text, size_t size, struct etcd_record *out, struct error *err);

/* Request bodies, for free(). NULL: out of memory. */
char *etcd_encode_range(const char *key);
/* Puts `value` if the key was last changed in `mod_revision` (0: does not exist), reads the key
 * otherwise. */
char *etcd_encode_swap(const char *key, uint64_t mod_revision, const char *value);
char *etcd_encode_login(const char *user, const char *password);

/* Answers. `body` need not be terminated. */
int etcd_decode_range(const char *body, size_t size, const char *key, struct etcd_fact *out,
                      struct error *err);
/* *swapped: the put happened; then of `out` only cluster and revision are valid, and the key's
 * mod_revision is that revision. Otherwise `out` is what the key says. */
int etcd_decode_swap(const char *body, size_t size, const char *key, struct etcd_fact *out,
                     bool *swapped, struct error *err);
int etcd_decode_login(const char *body, size_t size, char token[ETCD_TOKEN_MAX], struct error *err);
/* The phrase of an error answer, "" when there is none that can be shown. */
void etcd_decode_error(const char *body, size_t size, char text[ERROR_TEXT_MAX]);

#endif
