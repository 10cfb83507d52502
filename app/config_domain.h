/* What a libvirt domain's XML says, as settings like those of the configuration. */
#ifndef KEMARI_APP_CONFIG_DOMAIN_H
#define KEMARI_APP_CONFIG_DOMAIN_H

#include "app/config_settings.h"

/* Adds what the file of option libvirt-xml says, where that is given. -EINVAL with the place of
 * what is not understood or is said twice. */
int config_domain_read(struct config_settings *settings, struct error *err);

#endif
