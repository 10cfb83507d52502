/* Everything that is printed from the option table. */
#ifndef KEMARI_APP_CONFIG_HELP_H
#define KEMARI_APP_CONFIG_HELP_H

#include "app/config_table.h"

/* --help: usage and one entry per option. */
void config_print_help(FILE *out);

/* --help-markdown: docs/configuration.md. */
void config_print_markdown(FILE *out);

/* --print-config: an INI file that says the same as `config`, defaults written out. */
void config_print(const struct config *config, FILE *out);

#endif
