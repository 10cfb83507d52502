#include "heartbeat/etcd_codec.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BASE64_SIZE(bytes) (4 * (((bytes) + 2) / 3) + 1)
/* Of a key or value in base64: longer ones are not ours. */
#define BASE64_MAX BASE64_SIZE(ETCD_KEY_MAX + ETCD_VALUE_MAX)

/* ---- the value ---- */

static bool is_word(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return size > 0;
}

size_t etcd_record_format(const struct etcd_record *record, char out[ETCD_VALUE_MAX])
{
    if (!record->term || !is_word(record->owner, strlen(record->owner)))
        return 0;
    return (size_t)snprintf(out, ETCD_VALUE_MAX, "term %" PRIu64 " owner %s",
                            (uint64_t)record->term, record->owner);
}

/* Canonical decimal. Returns the number of digits, 0 for none. */
static size_t parse_number(const char *text, size_t size, uint64_t *out)
{
    size_t used = 0;
    uint64_t value = 0;
    for (; used < size && text[used] >= '0' && text[used] <= '9'; used++) {
        const uint64_t digit = (uint64_t)(text[used] - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return 0;
        value = 10 * value + digit;
    }
    if (used > 1 && text[0] == '0')
        return 0;
    *out = value;
    return used;
}

/* Skips `word` at *text; false when something else is there. */
static bool skip(const char **text, size_t *size, const char *word)
{
    const size_t length = strlen(word);
    if (*size < length || memcmp(*text, word, length) != 0)
        return false;
    *text += length;
    *size -= length;
    return true;
}

int etcd_record_parse(const char *text, size_t size, struct etcd_record *out, struct error *err)
{
    uint64_t term = 0;
    /* A final newline comes from an operator's shell. */
    if (size && text[size - 1] == '\n')
        size--;
    bool good = skip(&text, &size, "term ");
    const size_t digits = good ? parse_number(text, size, &term) : 0;
    text += digits;
    size -= digits;
    good = good && digits && term && skip(&text, &size, " owner ") && size < sizeof(out->owner) &&
           is_word(text, size);
    if (!good)
        return error_set(err, -EBADMSG, "the key's value is not \"term NUMBER owner NAME\"");
    out->term = term;
    memcpy(out->owner, text, size);
    out->owner[size] = '\0';
    return 0;
}

/* ---- base64 ---- */

static bool encode64(const char *text, char out[BASE64_MAX])
{
    const size_t size = strlen(text);
    if (BASE64_SIZE(size) > BASE64_MAX)
        return false;
    EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)text, (int)size);
    return true;
}

/* Canonical base64 only. Returns the number of bytes, or -1. */
static int decode64(const char *text, char out[BASE64_MAX])
{
    const size_t size = strlen(text);
    if (size % 4 || size >= BASE64_MAX)
        return -1;
    const int padded =
        EVP_DecodeBlock((unsigned char *)out, (const unsigned char *)text, (int)size);
    if (padded < 0 || (size && text[0] == '='))
        return -1;
    int bytes = padded;
    for (size_t i = size; i > 0 && text[i - 1] == '='; i--)
        bytes--;
    char again[BASE64_MAX];
    EVP_EncodeBlock((unsigned char *)again, (const unsigned char *)out, bytes);
    return strcmp(again, text) == 0 ? bytes : -1;
}

/* ---- requests ---- */

static char *dump(json_t *object)
{
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    return text;
}

char *etcd_encode_range(const char *key)
{
    char key64[BASE64_MAX];
    return encode64(key, key64) ? dump(json_pack("{s:s}", "key", key64)) : NULL;
}

char *etcd_encode_swap(const char *key, uint64_t mod_revision, const char *value)
{
    char key64[BASE64_MAX], value64[BASE64_MAX], revision[24];
    if (!encode64(key, key64) || !encode64(value, value64))
        return NULL;
    snprintf(revision, sizeof(revision), "%" PRIu64, mod_revision);
    return dump(json_pack("{s:[{s:s,s:s,s:s,s:s}],s:[{s:{s:s,s:s}}],s:[{s:{s:s}}]}", "compare",
                          "key", key64, "target", "MOD", "result", "EQUAL", "mod_revision",
                          revision, "success", "request_put", "key", key64, "value", value64,
                          "failure", "request_range", "key", key64));
}

char *etcd_encode_login(const char *user, const char *password)
{
    return dump(json_pack("{s:s,s:s}", "name", user, "password", password));
}

/* ---- answers ---- */

static json_t *load(const char *body, size_t size, struct error *err)
{
    json_t *root = json_loadb(body, size, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(root))
        return root;
    json_decref(root);
    error_set(err, -EBADMSG, "the answer is not a JSON object");
    return NULL;
}

/* 64-bit numbers travel as strings; a missing one is 0 (proto3). False for anything else. */
static bool take_number(const json_t *object, const char *name, uint64_t *out)
{
    const json_t *member = json_object_get(object, name);
    *out = 0;
    if (!member)
        return true;
    if (json_is_integer(member) && json_integer_value(member) >= 0) {
        *out = (uint64_t)json_integer_value(member);
        return true;
    }
    const char *text = json_string_value(member);
    const size_t size = json_string_length(member);
    return text && size && parse_number(text, size, out) == size;
}

static int take_header(const json_t *root, struct etcd_fact *out, struct error *err)
{
    const json_t *header = json_object_get(root, "header");
    if (!json_is_object(header) || !take_number(header, "cluster_id", &out->cluster) ||
        !take_number(header, "revision", &out->revision) || !out->cluster || !out->revision)
        return error_set(err, -EBADMSG, "the answer has no header with cluster and revision");
    return 0;
}

static int take_pair(const json_t *pair, const char *key, struct etcd_fact *out, struct error *err)
{
    char bytes[BASE64_MAX];
    const char *key64 = json_string_value(json_object_get(pair, "key"));
    const char *value64 = json_string_value(json_object_get(pair, "value"));
    int size = key64 ? decode64(key64, bytes) : -1;
    if (size < 0 || (size_t)size != strlen(key) || memcmp(bytes, key, (size_t)size) != 0)
        return error_set(err, -EBADMSG, "the answer is about another key");
    if (!take_number(pair, "mod_revision", &out->mod_revision) || !out->mod_revision ||
        out->mod_revision > out->revision)
        return error_set(err, -EBADMSG, "the answer contradicts itself (revisions)");
    size = value64 ? decode64(value64, bytes) : -1;
    if (size < 0)
        return error_set(err, -EBADMSG, "the key's value can't be read");
    out->present = true;
    return etcd_record_parse(bytes, (size_t)size, &out->record, err);
}

/* The body of a range's answer; the header has been taken. */
static int take_range(const json_t *range, const char *key, struct etcd_fact *out,
                      struct error *err)
{
    const json_t *pairs = json_object_get(range, "kvs");
    uint64_t count = 0;
    if (!take_number(range, "count", &count) || (pairs && !json_is_array(pairs)) ||
        count != json_array_size(pairs) || count > 1)
        return error_set(err, -EBADMSG, "the answer contradicts itself (number of keys)");
    out->present = false;
    out->mod_revision = 0;
    return count ? take_pair(json_array_get(pairs, 0), key, out, err) : 0;
}

int etcd_decode_range(const char *body, size_t size, const char *key, struct etcd_fact *out,
                      struct error *err)
{
    *out = (struct etcd_fact){0};
    json_t *root = load(body, size, err);
    if (!root)
        return -EBADMSG;
    int rc = take_header(root, out, err);
    if (rc == 0)
        rc = take_range(root, key, out, err);
    json_decref(root);
    return rc;
}

static int take_swap(const json_t *root, const char *key, struct etcd_fact *out, bool *swapped,
                     struct error *err)
{
    const json_t *succeeded = json_object_get(root, "succeeded");
    const json_t *responses = json_object_get(root, "responses");
    const json_t *first = json_array_get(responses, 0);
    const json_t *put = json_object_get(first, "response_put");
    const json_t *range = json_object_get(first, "response_range");
    *swapped = json_is_true(succeeded);
    if ((succeeded && !json_is_boolean(succeeded)) || json_array_size(responses) != 1 ||
        json_is_object(put) != *swapped || json_is_object(range) == *swapped)
        return error_set(err, -EBADMSG, "the answer contradicts itself (transaction)");
    return *swapped ? 0 : take_range(range, key, out, err);
}

int etcd_decode_swap(const char *body, size_t size, const char *key, struct etcd_fact *out,
                     bool *swapped, struct error *err)
{
    *out = (struct etcd_fact){0};
    *swapped = false;
    json_t *root = load(body, size, err);
    if (!root)
        return -EBADMSG;
    int rc = take_header(root, out, err);
    if (rc == 0)
        rc = take_swap(root, key, out, swapped, err);
    json_decref(root);
    if (rc < 0)
        *swapped = false;
    return rc;
}

int etcd_decode_login(const char *body, size_t size, char token[ETCD_TOKEN_MAX], struct error *err)
{
    json_t *root = load(body, size, err);
    if (!root)
        return -EBADMSG;
    const json_t *member = json_object_get(root, "token");
    const char *text = json_string_value(member);
    const size_t length = json_string_length(member);
    /* It becomes a header line. */
    const bool good = text && length < ETCD_TOKEN_MAX && is_word(text, length);
    if (good)
        memcpy(token, text, length + 1);
    json_decref(root);
    return good ? 0 : error_set(err, -EBADMSG, "the answer to the login has no usable token");
}

void etcd_decode_error(const char *body, size_t size, char text[ERROR_TEXT_MAX])
{
    text[0] = '\0';
    json_t *root = json_loadb(body, size, JSON_REJECT_DUPLICATES, NULL);
    const char *said = json_string_value(json_object_get(root, "error"));
    if (!said)
        said = json_string_value(json_object_get(root, "message"));
    size_t used = 0;
    for (; said && said[used] && used < ERROR_TEXT_MAX / 2; used++)
        text[used] = said[used];
    text[used] = '\0';
    for (char *c = text; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    json_decref(root);
}
