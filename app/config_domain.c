#include "app/config_domain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/domain_xml.h"

static int add_all(struct config_settings *settings, const char *path,
                   const struct domain_settings *domain, struct error *err)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < domain->count; i++)
        rc = config_settings_add(settings, domain->list[i].key, domain->list[i].value, path,
                                 domain->list[i].line, err);
    return rc;
}

int config_domain_read(struct config_settings *settings, struct error *err)
{
    unsigned none;
    char place[CONFIG_PLACE_MAX];
    const struct config_option *option = config_option_find("machine", "libvirt-xml", &none);
    const char *path = config_settings_value(settings, option, 0);
    if (!path)
        return 0;
    FILE *file = fopen(path, "re");
    if (!file)
        return error_set(err, -errno, "%s: %s: %s",
                         config_settings_place(settings, option, 0, place), path, strerror(errno));
    int rc = 0;
    char *text = malloc(DOMAIN_XML_MAX + 1);
    struct domain_settings *domain = malloc(sizeof(*domain));
    const size_t size = text ? fread(text, 1, DOMAIN_XML_MAX + 1, file) : 0;
    if (!text || !domain)
        rc = error_set(err, -ENOMEM, "out of memory");
    else if (ferror(file))
        rc = error_set(err, -EIO, "%s: it can't be read", path);
    else if (domain_xml_read(text, size, domain, err) < 0)
        rc = error_prefix(err, "%s", path);
    else
        rc = add_all(settings, path, domain, err);
    free(domain);
    free(text);
    fclose(file);
    return rc;
}
