/* What was written where: settings collected from the command line and a file, before they mean
 * anything. Knows the option table, not the values: an unknown name, a second setting of the same
 * option from the same side, an empty value, a control character or a line too long is refused here
 * with its place. */
#ifndef KEMARI_APP_CONFIG_SETTINGS_H
#define KEMARI_APP_CONFIG_SETTINGS_H

#include "app/config_table.h"

#define CONFIG_LINE_MAX      4096 /* bytes of a line in a file, its end included */
#define CONFIG_FILE_SIZE_MAX (1u << 20)
#define CONFIG_PLACE_MAX     320

struct config_settings;

/* NULL when memory is out. */
struct config_settings *config_settings_create(void);
void config_settings_destroy(struct config_settings **settings);

/* Reads the text of an INI file; `name` stands for it in messages. */
int config_settings_read_text(struct config_settings *settings, const char *name, const char *text,
                              size_t size, struct error *err);
int config_settings_read_file(struct config_settings *settings, const char *path,
                              struct error *err);

/* One flag, `name` without the dashes. */
int config_settings_read_flag(struct config_settings *settings, const char *name, const char *value,
                              struct error *err);

/* One setting of [machine] that another file, `path`, says on `line`. -EINVAL when it is set
 * already, with both places. */
int config_settings_add(struct config_settings *settings, const char *key, const char *value,
                        const char *path, unsigned line, struct error *err);

/* The value that counts (the flag's if there is one), NULL when not given. */
const char *config_settings_value(const struct config_settings *settings,
                                  const struct config_option *option, unsigned instance);

/* Where it was given, for a message: "kemari.ini:12: vcpus", "--vcpus"; where it is missing:
 * "[machine] vcpus". Written to `out`, which is returned. */
const char *config_settings_place(const struct config_settings *settings,
                                  const struct config_option *option, unsigned instance,
                                  char out[CONFIG_PLACE_MAX]);

#endif
