#include "app/config_value.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *suffix;
    uint64_t factor;
};

/* Largest first: formatting takes the first that divides. */
static const struct unit byte_units[] = {
    {"T", UINT64_C(1) << 40},
    {"G", UINT64_C(1) << 30},
    {"M", UINT64_C(1) << 20},
    {"K", UINT64_C(1) << 10},
    {"", 1},
};
static const struct unit time_units[] = {
    {"min", 60 * UINT64_C(1000000000)}, {"s", 1000000000}, {"ms", 1000000}, {"us", 1000}, {"ns", 1},
};

/* Digits at the start of `text`; returns what follows, or NULL when there is no digit or the number
 * does not fit. */
static const char *scan_digits(const char *text, uint64_t *out)
{
    const char *p = text;
    uint64_t value = 0;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return NULL;
    *out = value;
    return p == text ? NULL : p;
}

static bool scan_unit(const char *text, const struct unit *units, size_t count, uint64_t *out)
{
    uint64_t value;
    const char *suffix = scan_digits(text, &value);
    if (!suffix)
        return false;
    for (size_t i = 0; i < count; i++)
        if (strcmp(suffix, units[i].suffix) == 0)
            return !__builtin_mul_overflow(value, units[i].factor, out);
    return false;
}

static void format_unit(uint64_t value, const struct unit *units, size_t count,
                        char out[CONFIG_VALUE_TEXT_MAX])
{
    size_t i = 0;
    while (i < count - 1 && value % units[i].factor != 0)
        i++;
    snprintf(out, CONFIG_VALUE_TEXT_MAX, "%" PRIu64 "%s", value / units[i].factor, units[i].suffix);
}

void config_format_bytes(uint64_t value, char out[CONFIG_VALUE_TEXT_MAX])
{
    if (value == 0)
        snprintf(out, CONFIG_VALUE_TEXT_MAX, "0");
    else
        format_unit(value, byte_units, ARRAY_SIZE(byte_units), out);
}

void config_format_duration(nsec_t value, char out[CONFIG_VALUE_TEXT_MAX])
{
    if (value == 0)
        snprintf(out, CONFIG_VALUE_TEXT_MAX, "0");
    else
        format_unit((uint64_t)value, time_units, ARRAY_SIZE(time_units), out);
}

void config_format_mac(const uint8_t mac[6], char out[CONFIG_VALUE_TEXT_MAX])
{
    snprintf(out, CONFIG_VALUE_TEXT_MAX, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
             mac[3], mac[4], mac[5]);
}

int config_parse_uint(const char *text, uint64_t min, uint64_t max, uint64_t *out,
                      struct error *err)
{
    const char *end = scan_digits(text, out);
    if (!end || *end)
        return error_set(err, -EINVAL, "\"%s\" is not a whole number", text);
    if (*out < min || *out > max)
        return error_set(err, -EINVAL, "%s is out of range, %" PRIu64 " to %" PRIu64, text, min,
                         max);
    return 0;
}

int config_parse_bytes(const char *text, uint64_t min, uint64_t max, uint64_t *out,
                       struct error *err)
{
    if (!scan_unit(text, byte_units, ARRAY_SIZE(byte_units), out))
        return error_set(err, -EINVAL, "\"%s\" is not a size such as 4096, 512M or 2G", text);
    if (*out < min || *out > max) {
        char low[CONFIG_VALUE_TEXT_MAX], high[CONFIG_VALUE_TEXT_MAX];
        config_format_bytes(min, low);
        config_format_bytes(max, high);
        return error_set(err, -EINVAL, "%s is out of range, %s to %s", text, low, high);
    }
    return 0;
}

int config_parse_duration(const char *text, nsec_t min, nsec_t max, nsec_t *out, struct error *err)
{
    uint64_t value;
    if (strcmp(text, "0") == 0)
        value = 0;
    else if (!scan_unit(text, time_units, ARRAY_SIZE(time_units), &value))
        return error_set(
            err, -EINVAL,
            "\"%s\" is not a time such as 500us, 10ms, 3s or 2min (the unit is needed)", text);
    if (value < (uint64_t)min || value > (uint64_t)max) {
        char low[CONFIG_VALUE_TEXT_MAX], high[CONFIG_VALUE_TEXT_MAX];
        config_format_duration(min, low);
        config_format_duration(max, high);
        return error_set(err, -EINVAL, "%s is out of range, %s to %s", text, low, high);
    }
    *out = (nsec_t)value;
    return 0;
}

int config_parse_bool(const char *text, bool *out, struct error *err)
{
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strcmp(text, words[i]) == 0) {
            *out = i % 2 == 1;
            return 0;
        }
    return error_set(err, -EINVAL, "\"%s\" is neither yes nor no", text);
}

int config_parse_enum(const char *text, const char *const *names, unsigned *out, struct error *err)
{
    char choices[CONFIG_VALUE_TEXT_MAX] = "";
    for (unsigned i = 0; names[i]; i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return 0;
        }
        const size_t used = strlen(choices);
        snprintf(choices + used, sizeof(choices) - used, "%s%s", i ? ", " : "", names[i]);
    }
    return error_set(err, -EINVAL, "\"%s\" is not one of: %s", text, choices);
}

/* Splits "HOST:PORT" or "[HOST]:PORT"; false when it is neither. */
static bool split_endpoint(const char *text, char host[INET6_ADDRSTRLEN], uint16_t *port)
{
    const bool bracket = *text == '[';
    const char *start = text + bracket;
    const char *end = strchr(start, bracket ? ']' : ':');
    if (!end || end == start || (size_t)(end - start) >= INET6_ADDRSTRLEN)
        return false;
    const char *colon = end + bracket;
    uint64_t number;
    const char *rest = *colon == ':' ? scan_digits(colon + 1, &number) : NULL;
    if (!rest || *rest || number < 1 || number > UINT16_MAX)
        return false;
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';
    *port = (uint16_t)number;
    return true;
}

static bool scan_endpoint(const char *text, struct config_address *out)
{
    char host[INET6_ADDRSTRLEN];
    uint16_t port;
    if (!split_endpoint(text, host, &port))
        return false;
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (*text != '[' && inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        memcpy(&out->address, &v4, sizeof(v4));
        out->length = sizeof(v4);
        return true;
    }
    if (*text == '[' && inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
        memcpy(&out->address, &v6, sizeof(v6));
        out->length = sizeof(v6);
        return true;
    }
    return false;
}

int config_parse_address(const char *text, struct config_address *out, struct error *err)
{
    *out = (struct config_address){0};
    if (!scan_endpoint(text, out))
        return error_set(err, -EINVAL,
                         "\"%s\" is not an address such as 192.0.2.1:7000 or [2001:db8::1]:7000",
                         text);
    out->text = strdup(text);
    return out->text ? 0 : error_set(err, -ENOMEM, "out of memory");
}

int config_parse_service(const char *text, struct config_address *out, struct error *err)
{
    char local[CONFIG_VALUE_TEXT_MAX];
    snprintf(local, sizeof(local), "%s%.64s", strchr(text, ':') ? "" : "127.0.0.1:", text);
    *out = (struct config_address){0};
    if (strlen(text) > 64 || !scan_endpoint(local, out))
        return error_set(err, -EINVAL,
                         "\"%.64s\" is not a port or an address such as 9120, "
                         "192.0.2.1:9120 or [2001:db8::1]:9120",
                         text);
    out->text = strdup(local);
    return out->text ? 0 : error_set(err, -ENOMEM, "out of memory");
}

int config_parse_link(const char *text, struct config_address *out, struct error *err)
{
    static const struct {
        const char *scheme;
        bool encrypted;
    } transports[] = {{"tls", true}, {"tcp", false}, {"rdma", false}, {"rdma+tls", true}};
    *out = (struct config_address){0};
    const char *colon = strstr(text, "://");
    const char *endpoint = colon ? colon + 3 : text;
    const size_t length = colon ? (size_t)(colon - text) : 0;
    size_t i = 0;
    while (colon && i < ARRAY_SIZE(transports) &&
           (strlen(transports[i].scheme) != length ||
            strncmp(transports[i].scheme, text, length) != 0))
        i++;
    if (i == ARRAY_SIZE(transports) || !scan_endpoint(endpoint, out))
        return error_set(err, -EINVAL,
                         "\"%s\" is not an address such as tls://192.0.2.1:7000 or "
                         "tls://[2001:db8::1]:7000; the schemes are tls, tcp, rdma and "
                         "rdma+tls",
                         text);
    out->scheme = transports[i].scheme;
    out->encrypted = transports[i].encrypted;
    if (asprintf(&out->text, "%s://%s", out->scheme, endpoint) >= 0)
        return 0;
    out->text = NULL;
    return error_set(err, -ENOMEM, "out of memory");
}

static bool is_interface_name(const char *name)
{
    const size_t length = strlen(name);
    if (length == 0 || length >= IF_NAMESIZE || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return false;
    return strcspn(name, "/: \t") == length;
}

static bool scan_mac(const char *text, uint8_t mac[6])
{
    if (strlen(text) != 17)
        return false;
    for (size_t i = 0; i < 6; i++) {
        char *end;
        const char digits[3] = {text[3 * i], text[3 * i + 1], '\0'};
        mac[i] = (uint8_t)strtoul(digits, &end, 16);
        if (end != digits + 2 || strspn(digits, "0123456789abcdefABCDEF") != 2 ||
            text[3 * i + 2] != (i < 5 ? ':' : '\0'))
            return false;
    }
    static const uint8_t zero[6];
    return !(mac[0] & 1) && memcmp(mac, zero, 6) != 0; /* unicast */
}

int config_parse_net(const char *text, struct config_net *out, bool *has_mac, struct error *err)
{
    *out = (struct config_net){0};
    char *tap = strdup(text);
    if (!tap)
        return error_set(err, -ENOMEM, "out of memory");
    char *comma = strchr(tap, ',');
    if (comma)
        *comma = '\0';
    const char *mac = comma && strncmp(comma + 1, "mac=", 4) == 0 ? comma + 5 : NULL;
    int rc = 0;
    if (!is_interface_name(tap))
        rc = error_set(err, -EINVAL, "\"%s\" is not the name of a network interface", tap);
    else if (comma && !mac)
        rc = error_set(err, -EINVAL, "\"%s\" is not TAP or TAP,mac=XX:XX:XX:XX:XX:XX", text);
    else if (mac && !scan_mac(mac, out->mac))
        rc = error_set(err, -EINVAL, "\"%s\" is not a unicast MAC address", mac);
    if (rc < 0) {
        free(tap);
        return rc;
    }
    *has_mac = mac != NULL;
    out->tap = tap;
    return 0;
}

int config_parse_disk(const char *text, struct config_disk *out, struct error *err)
{
    const char *comma = strchr(text, ',');
    const char *mode = comma ? comma + 1 : "";
    *out = (struct config_disk){.read_only = strcmp(mode, "read-only") == 0,
                                .shared = strcmp(mode, "shared") == 0};
    if (comma == text || (comma && !out->read_only && !out->shared))
        return error_set(err, -EINVAL, "\"%s\" is not PATH, PATH,read-only or PATH,shared", text);
    out->path = comma ? strndup(text, (size_t)(comma - text)) : strdup(text);
    return out->path ? 0 : error_set(err, -ENOMEM, "out of memory");
}

/* Ends the word at *p in place; what follows it, or NULL when a quote is left open. */
static char *cut_word(char *p)
{
    char *to = p;
    bool quoted = false;
    for (; *p && (quoted || *p != ' '); p++) {
        if (*p == '"')
            quoted = !quoted;
        else
            *to++ = *p;
    }
    char *next = *p ? p + 1 : p;
    *to = '\0';
    return quoted ? NULL : next;
}

int config_parse_words(const char *text, struct config_words *out, struct error *err)
{
    *out = (struct config_words){.text = strdup(text), .words = strdup(text)};
    size_t count = 0;
    int rc = out->text && out->words ? 0 : error_set(err, -ENOMEM, "out of memory");
    for (char *p = rc == 0 ? out->words : NULL; p && *p;) {
        if (*p == ' ') {
            p++;
            continue;
        }
        char *word = p;
        p = cut_word(word);
        if (!p || !*word || count == CONFIG_WORDS_MAX)
            rc = error_set(err, -EINVAL, "\"%.100s\" is not 1 to %d words, each quote closed", text,
                           CONFIG_WORDS_MAX);
        else
            out->list[count++] = word;
        if (rc < 0)
            break;
    }
    if (rc == 0 && !count)
        rc = error_set(err, -EINVAL, "\"%.100s\" has no word", text);
    if (rc < 0) {
        free(out->text);
        free(out->words);
        *out = (struct config_words){0};
    }
    return rc;
}

static int parse_path_host(const char *suffix, unsigned *out, struct error *err)
{
    static const char prefix[] = ",host=";
    uint64_t number = 0;
    if (strncmp(suffix, prefix, strlen(prefix)) != 0 ||
        config_parse_uint(suffix + strlen(prefix), 0, CONFIG_HOSTS_MAX - 1, &number, NULL) < 0)
        return error_set(err, -EINVAL, "\"%s\" is not ,host=N with N from 0 to %d", suffix,
                         CONFIG_HOSTS_MAX - 1);
    *out = (unsigned)number + 1;
    return 0;
}

int config_parse_path(const char *text, struct config_path *out, struct error *err)
{
    *out = (struct config_path){0};
    const char *comma = strchr(text, ',');
    if (!comma)
        return error_set(err, -EINVAL, "\"%s\" is not LOCAL,REMOTE, each HOST:PORT", text);
    const char *suffix = strchr(comma + 1, ',');
    char *local = strndup(text, (size_t)(comma - text));
    char *remote = strndup(comma + 1, suffix ? (size_t)(suffix - comma - 1) : strlen(comma + 1));
    int rc = local && remote ? 0 : error_set(err, -ENOMEM, "out of memory");
    if (rc == 0)
        rc = config_parse_address(local, &out->local, err);
    if (rc == 0)
        rc = config_parse_address(remote, &out->remote, err);
    free(local);
    free(remote);
    if (rc == 0 && suffix)
        rc = parse_path_host(suffix, &out->host, err);
    if (rc == 0 && out->local.address.ss_family != out->remote.address.ss_family)
        rc = error_set(err, -EINVAL, "\"%s\" mixes IPv4 and IPv6", text);
    if (rc < 0) {
        free(out->local.text);
        free(out->remote.text);
        *out = (struct config_path){0};
    }
    return rc;
}
