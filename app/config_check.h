/* Second half of reading a configuration: values from settings, relations between them, and the
 * files they name. */
#ifndef KEMARI_APP_CONFIG_CHECK_H
#define KEMARI_APP_CONFIG_CHECK_H

#include "app/config_settings.h"

/* Parses every value, fills in defaults, checks what must be there and how options relate. Looks at
 * no file. `config` is zeroed before and freed by the caller after an error too. */
int config_apply(const struct config_settings *settings, struct config *config, struct error *err);

/* Proves that the named files are there and usable by us, and reads the secret. */
int config_check_files(const struct config_settings *settings, struct config *config,
                       struct error *err);

#endif
