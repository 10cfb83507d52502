/* A libvirt domain's XML as the words of a QEMU command and settings of Kemari's own.
 *
 * It is read by a fixed list of what is known. An element or attribute that isn't on it, or a value
 * that would mean something else, is refused with its line and name, and where something else is to
 * be written, with that: nothing is passed over in silence. Disks and network cards are such: a
 * protected guest's output passes by Kemari, which has options for them.
 *
 * Hostile text is bounded: DOMAIN_XML_MAX bytes, no document type and so no entities, no file or
 * network is touched. */
#ifndef KEMARI_QEMU_DOMAIN_XML_H
#define KEMARI_QEMU_DOMAIN_XML_H

#include "base/error.h"
#include "base/types.h"

#define DOMAIN_XML_MAX      (256u << 10) /* bytes */
#define DOMAIN_SETTINGS_MAX 8
#define DOMAIN_VALUE_MAX    4096 /* as a line of a configuration, its end included */

/* What an option of [machine] would say. */
struct domain_setting {
    const char *key; /* "memory", ...; static */
    unsigned line;   /* of the text, where it begins */
    char value[DOMAIN_VALUE_MAX];
};

struct domain_settings {
    unsigned count;
    struct domain_setting list[DOMAIN_SETTINGS_MAX];
};

/* Pure. -EINVAL or -ENOTSUP with "line N: ..."; -EFBIG. */
int domain_xml_read(const char *text, size_t size, struct domain_settings *out, struct error *err);

#endif
