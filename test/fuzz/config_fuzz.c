/* A configuration file of any bytes is read or refused with a sentence. What is read prints. */
#include <stdlib.h>

#include "app/config_check.h"
#include "app/config_help.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config config;
    struct error err = {0};
    struct config_settings *settings = config_settings_create();
    if (!settings)
        return 0;
    int rc = config_settings_read_text(settings, "fuzz.ini", (const char *)data, size, &err);
    if (rc == 0)
        rc = config_apply(settings, &config, &err);
    if (rc < 0 && !err.text[0])
        abort();
    if (rc == 0) {
        char *text = NULL;
        size_t length;
        FILE *out = open_memstream(&text, &length);
        if (out) {
            config_print(&config, out);
            fclose(out);
        }
        free(text);
    }
    config_free(&config);
    config_settings_destroy(&settings);
    return 0;
}
