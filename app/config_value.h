/* Values of options: text → number, address, device, and back. All are pure, bounded, and refuse
 * with a phrase that quotes the text and says what would be right. On error *out is unspecified but
 * owns nothing. */
#ifndef KEMARI_APP_CONFIG_VALUE_H
#define KEMARI_APP_CONFIG_VALUE_H

#include "app/config.h"

#define CONFIG_VALUE_TEXT_MAX 256 /* of a formatted number or duration, with the zero */

/* Decimal, nothing around it, min..max. */
int config_parse_uint(const char *text, uint64_t min, uint64_t max, uint64_t *out,
                      struct error *err);

/* A number of bytes, optionally with K, M, G or T (powers of 1024). */
int config_parse_bytes(const char *text, uint64_t min, uint64_t max, uint64_t *out,
                       struct error *err);

/* A whole number with ns, us, ms, s or min. 0 needs no unit. */
int config_parse_duration(const char *text, nsec_t min, nsec_t max, nsec_t *out, struct error *err);

/* yes, true, on, 1; no, false, off, 0. */
int config_parse_bool(const char *text, bool *out, struct error *err);

/* `names` ends with NULL; *out is the index. */
int config_parse_enum(const char *text, const char *const *names, unsigned *out, struct error *err);

/* HOST:PORT with a numeric host, an IPv6 one in brackets, after nothing else. Owns
 * out->text. */
int config_parse_address(const char *text, struct config_address *out, struct error *err);

/* An address of a link: as above with "tls://", "tcp://", or without a scheme, which is tls and is
 * written into out->text. */
int config_parse_link(const char *text, struct config_address *out, struct error *err);

/* HOST:PORT as above, or PORT alone on 127.0.0.1. Owns out->text. */
int config_parse_service(const char *text, struct config_address *out, struct error *err);

/* TAP[,mac=XX:XX:XX:XX:XX:XX]; *has_mac says whether one was given. Owns out->tap. */
int config_parse_net(const char *text, struct config_net *out, bool *has_mac, struct error *err);

/* PATH[,read-only]. Owns out->path. */
int config_parse_disk(const char *text, struct config_disk *out, struct error *err);

/* Words between blanks; double quotes keep blanks together and stand for themselves nowhere. 1 to
 * CONFIG_WORDS_MAX of them, none empty. Owns out->text and out->words. */
int config_parse_words(const char *text, struct config_words *out, struct error *err);

/* LOCAL,REMOTE[,host=N], the first two HOST:PORT of one address family. Owns both texts. */
int config_parse_path(const char *text, struct config_path *out, struct error *err);

/* The largest unit that divides the value: "512M", "10ms". */
void config_format_bytes(uint64_t value, char out[CONFIG_VALUE_TEXT_MAX]);
void config_format_duration(nsec_t value, char out[CONFIG_VALUE_TEXT_MAX]);
void config_format_mac(const uint8_t mac[6], char out[CONFIG_VALUE_TEXT_MAX]);

#endif
