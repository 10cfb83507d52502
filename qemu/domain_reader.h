/* Inside of the reader of libvirt's XML: what its files share. domain_xml.c knows the domain,
 * domain_devices.c its devices, domain_reader.c how strictly they are read.
 *
 * Every element has a function that reads it, and names the attributes and children it knows. All
 * of them return 0, or -errno with the line and name of the element in the reader's error. */
#ifndef KEMARI_QEMU_DOMAIN_READER_H
#define KEMARI_QEMU_DOMAIN_READER_H

#include <libxml/tree.h>

#include "qemu/domain_xml.h"

#define ATTRIBUTE_MAX 256
#define NAME_CHARS    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
#define PATH_CHARS    NAME_CHARS "/+@:"

struct reader {
    struct domain_settings *out;
    struct error *err;
    /* Parts of the command, joined at the end. */
    char program[ATTRIBUTE_MAX], machine[ATTRIBUTE_MAX], cpu[1024], more[2048];
    char rng[1024], address[ATTRIBUTE_MAX]; /* of the device that is being read */
    bool kvm;
    unsigned rngs;
};

typedef int (*element_reader)(struct reader *r, const xmlNode *node);

/* A child that is known: how it is read, or why it is not. */
struct child {
    const char *name;
    element_reader read; /* NULL: refused because of */
    const char *why;
    bool often; /* it may be there several times */
};

#define KNOWN(element, reader)                                                                     \
    {                                                                                              \
        .name = element, .read = reader                                                            \
    }
#define OFTEN(element, reader)                                                                     \
    {                                                                                              \
        .name = element, .read = reader, .often = true                                             \
    }
#define REFUSED(element, text)                                                                     \
    {                                                                                              \
        .name = element, .why = text                                                               \
    }

const char *xml_name_of(const xmlNode *node);

/* An error of this element; returns `code`. */
int xml_refuse(struct reader *r, const xmlNode *node, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* ---- attributes ---- */

/* "" when there is none. */
int xml_attribute(struct reader *r, const xmlNode *node, const char *name, char out[ATTRIBUTE_MAX]);

#define ATTRIBUTES(...) ((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

/* All that are there are in the list, which ends with NULL. */
int xml_only_attributes(struct reader *r, const xmlNode *node, const char *const *known);
/* It is missing, or has one of these values (ends with NULL). */
int xml_one_of(struct reader *r, const xmlNode *node, const char *name, const char *const *values);
/* One that becomes a part of the command: has only these characters, and some. */
int xml_plain(struct reader *r, const xmlNode *node, const char *name, const char *characters,
              char out[ATTRIBUTE_MAX]);
/* A number up to `max`, as C writes it; `fallback` when it is missing. */
int xml_number(struct reader *r, const xmlNode *node, const char *name, unsigned max,
               unsigned fallback, unsigned *out);
bool xml_is_made_of(const char *text, const char *characters);

/* ---- text and children ---- */

/* Of an element that has no children but text, without blanks around it. */
int xml_text_of(struct reader *r, const xmlNode *node, char *out, size_t room);
/* Likewise, of these characters, in an element without attributes. */
int xml_plain_text(struct reader *r, const xmlNode *node, const char *characters,
                   char out[ATTRIBUTE_MAX]);

/* Each by its reader. The list ends with a name of NULL. */
int xml_read_children(struct reader *r, const xmlNode *node, const struct child *known);
int xml_no_children(struct reader *r, const xmlNode *node);
/* Neither attributes nor children. */
int xml_nothing_more(struct reader *r, const xmlNode *node);
/* What depends on the machine stands behind it. */
int xml_after_os(struct reader *r, const xmlNode *node);

/* ---- what comes out ---- */

int xml_set(struct reader *r, const xmlNode *node, const char *key, const char *value);
int xml_append(struct reader *r, const xmlNode *node, char *text, size_t room, const char *format,
               ...) __attribute__((format(printf, 5, 6)));

#define MORE(r, node, ...) xml_append(r, node, (r)->more, sizeof((r)->more), __VA_ARGS__)

/* <devices>: domain_devices.c */
int xml_read_devices(struct reader *r, const xmlNode *node);

#endif
