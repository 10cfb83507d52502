/* XML of any bytes is read or refused with a sentence; what comes out are options of [machine] with
 * values that stand on a line. */
#include <stdlib.h>
#include <string.h>

#include "app/config_check.h"
#include "qemu/domain_xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct domain_settings s;
    struct error err = {0};
    if (domain_xml_read((const char *)data, size, &s, &err) < 0) {
        if (!err.text[0])
            abort();
        return 0;
    }
    struct config_settings *settings = config_settings_create();
    if (!settings)
        return 0;
    for (unsigned i = 0; i < s.count; i++) {
        if (strlen(s.list[i].value) >= DOMAIN_VALUE_MAX)
            abort();
        if (config_settings_add(settings, s.list[i].key, s.list[i].value, "x", 1, &err) < 0 &&
            !err.text[0])
            abort();
    }
    config_settings_destroy(&settings);
    return 0;
}
