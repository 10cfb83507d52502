/* The option table: the one place that knows every option of kemarid. Reading, checking, --help,
 * --print-config and docs/configuration.md all follow from it. */
#ifndef KEMARI_APP_CONFIG_TABLE_H
#define KEMARI_APP_CONFIG_TABLE_H

#include "app/config.h"

/* The type of the member that `offset` points at follows from the kind. */
enum config_kind {
    CONFIG_KIND_STRING,   /* char * */
    CONFIG_KIND_UINT,     /* unsigned, min..max */
    CONFIG_KIND_BYTES,    /* uint64_t, min..max */
    CONFIG_KIND_DURATION, /* nsec_t, min..max */
    CONFIG_KIND_BOOL,     /* bool */
    CONFIG_KIND_ENUM,     /* an enum that counts from 0, `names` */
    CONFIG_KIND_ADDRESS,  /* struct config_address of a link: tls:// or tcp://; once, or KEY.N */
    CONFIG_KIND_SERVICE,  /* struct config_address of a server that is local unless told else */
    CONFIG_KIND_GROUP,    /* gid_t */
    CONFIG_KIND_WORDS,    /* struct config_words */
    CONFIG_KIND_NET,      /* struct config_net[]; these three are given once per instance, KEY.N */
    CONFIG_KIND_DISK,     /* struct config_disk[] */
    CONFIG_KIND_PATH,     /* struct config_path[] */
};

struct config_option {
    const char *section;
    const char *key;
    const char *flag; /* without the dashes; the key unless another section has the same key */
    enum config_kind kind;
    size_t offset;        /* in struct config */
    const char *fallback; /* value when not given; NULL: none */
    bool required;
    uint64_t min; /* of a number */
    uint64_t max;
    const char *const *names;  /* of an enum, ends with NULL */
    unsigned instances;        /* of KEY.N; 0 for a single one */
    size_t count_offset;       /* of the number of instances, unsigned */
    const char *placeholder;   /* of the value in help */
    const char *help;          /* one sentence without a full stop */
    const char *fallback_text; /* describes a default that depends on other options, or NULL */
};

extern const struct config_option config_options[];
extern const size_t config_option_count;

/* By section and key, or by flag (`section` NULL), ".N" included for those with instances, which is
 * stored in *instance (0 otherwise). NULL when there is none of that name or N is too large. */
const struct config_option *config_option_find(const char *section, const char *name,
                                               unsigned *instance);

/* Of those below one is enough for a test or a message about relations between options. */
const struct config_option *config_option_at(size_t offset);

/* Formats the value that `config` holds for an option (instance), as it would be written in the
 * file; false when there is none. */
bool config_option_format(const struct config_option *option, unsigned instance,
                          const struct config *config, char *out, size_t size);

/* How many instances `config` holds: 1 for a single option. */
unsigned config_option_instances(const struct config_option *option, const struct config *config);

#endif
