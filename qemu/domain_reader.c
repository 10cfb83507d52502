#include "qemu/domain_reader.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *xml_name_of(const xmlNode *node)
{
    return (const char *)node->name;
}

int xml_refuse(struct reader *r, const xmlNode *node, int code, const char *format, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    return error_set(r->err, code, "line %ld: <%.40s>: %s", xmlGetLineNo(node), xml_name_of(node),
                     text);
}

/* ---- attributes and text ---- */

/* "" when there is none. */
int xml_attribute(struct reader *r, const xmlNode *node, const char *name, char out[ATTRIBUTE_MAX])
{
    xmlChar *value = xmlGetNoNsProp(node, (const xmlChar *)name);
    const int length = snprintf(out, ATTRIBUTE_MAX, "%s", value ? (char *)value : "");
    xmlFree(value);
    return length < ATTRIBUTE_MAX ? 0
                                  : xml_refuse(r, node, -EFBIG, "attribute %s: more than %d bytes",
                                               name, ATTRIBUTE_MAX);
}

/* All that are there are in the list, which ends with NULL. */
int xml_only_attributes(struct reader *r, const xmlNode *node, const char *const *known)
{
    for (const xmlAttr *a = node->properties; a; a = a->next) {
        size_t i = 0;
        while (known[i] && strcmp(known[i], (const char *)a->name) != 0)
            i++;
        if (!known[i] || a->ns)
            return xml_refuse(r, node, -ENOTSUP, "attribute %.40s is not known here", a->name);
    }
    return 0;
}

/* An attribute that is missing, or has one of these values (ends with NULL). */
int xml_one_of(struct reader *r, const xmlNode *node, const char *name, const char *const *values)
{
    char value[ATTRIBUTE_MAX];
    const int rc = xml_attribute(r, node, name, value);
    if (rc < 0 || !value[0])
        return rc;
    for (size_t i = 0; values[i]; i++)
        if (strcmp(value, values[i]) == 0)
            return 0;
    return xml_refuse(r, node, -ENOTSUP, "%s='%.60s' can't be protected or is not known", name,
                      value);
}

bool xml_is_made_of(const char *text, const char *characters)
{
    return text[0] && text[strspn(text, characters)] == '\0';
}

/* One that becomes a part of the command: nothing in it means something to QEMU. */
int xml_plain(struct reader *r, const xmlNode *node, const char *name, const char *characters,
              char out[ATTRIBUTE_MAX])
{
    const int rc = xml_attribute(r, node, name, out);
    return rc < 0 || xml_is_made_of(out, characters)
               ? rc
               : xml_refuse(r, node, -EINVAL, "%s='%.60s': not such a name", name, out);
}

int xml_number(struct reader *r, const xmlNode *node, const char *name, unsigned max,
               unsigned fallback, unsigned *out)
{
    char text[ATTRIBUTE_MAX], *end;
    const int rc = xml_attribute(r, node, name, text);
    *out = fallback;
    if (rc < 0 || !text[0])
        return rc;
    errno = 0;
    const unsigned long value = strtoul(text, &end, 0);
    if (text[0] < '0' || text[0] > '9' || *end || errno || value > max)
        return xml_refuse(r, node, -EINVAL, "%s='%.60s' is no number up to %u", name, text, max);
    *out = (unsigned)value;
    return 0;
}

static bool is_blank(const xmlNode *node)
{
    return node->type == XML_COMMENT_NODE || (node->type == XML_TEXT_NODE && xmlIsBlankNode(node));
}

/* Of an element that has no children but text. */
int xml_text_of(struct reader *r, const xmlNode *node, char *out, size_t room)
{
    for (const xmlNode *child = node->children; child; child = child->next)
        if (child->type != XML_TEXT_NODE && child->type != XML_COMMENT_NODE &&
            child->type != XML_CDATA_SECTION_NODE)
            return xml_refuse(r, node, -EINVAL, "there is more than text in it");
    xmlChar *content = xmlNodeGetContent(node);
    const char *text = content ? (char *)content : "";
    size_t length = strlen(text);
    while (length && strchr(" \t\r\n", text[length - 1]))
        length--;
    const size_t blanks = strspn(text, " \t\r\n");
    text += blanks < length ? blanks : length;
    length -= blanks < length ? blanks : length;
    const bool fits = length < room;
    snprintf(out, room, "%.*s", (int)(fits ? length : 0), text);
    xmlFree(content);
    return fits ? 0 : xml_refuse(r, node, -EFBIG, "more than %zu bytes", room);
}

int xml_plain_text(struct reader *r, const xmlNode *node, const char *characters,
                   char out[ATTRIBUTE_MAX])
{
    int rc = xml_only_attributes(r, node, ATTRIBUTES());
    if (rc == 0)
        rc = xml_text_of(r, node, out, ATTRIBUTE_MAX);
    return rc < 0 || xml_is_made_of(out, characters)
               ? rc
               : xml_refuse(r, node, -EINVAL, "\"%.60s\" is not what can stand here", out);
}

/* ---- children ---- */

static bool is_repeated(const xmlNode *node)
{
    for (const xmlNode *before = node->prev; before; before = before->prev)
        if (before->type == XML_ELEMENT_NODE && xmlStrEqual(before->name, node->name))
            return true;
    return false;
}

int xml_read_children(struct reader *r, const xmlNode *node, const struct child *known)
{
    for (const xmlNode *child = node->children; child; child = child->next) {
        if (is_blank(child))
            continue;
        if (child->type != XML_ELEMENT_NODE)
            return xml_refuse(r, node, -EINVAL, "text stands where elements are expected");
        const struct child *k = known;
        while (k->name && (child->ns || strcmp(k->name, xml_name_of(child)) != 0))
            k++;
        if (!k->name)
            return xml_refuse(r, child, -ENOTSUP, "not known to be safe in a protected machine");
        if (!k->read)
            return xml_refuse(r, child, -ENOTSUP, "%s", k->why);
        if (!k->often && is_repeated(child))
            return xml_refuse(r, child, -EINVAL, "it is there twice");
        const int rc = k->read(r, child);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int xml_no_children(struct reader *r, const xmlNode *node)
{
    static const struct child none[] = {{.name = NULL}};
    return xml_read_children(r, node, none);
}

int xml_nothing_more(struct reader *r, const xmlNode *node)
{
    const int rc = xml_only_attributes(r, node, ATTRIBUTES());
    return rc < 0 ? rc : xml_no_children(r, node);
}

/* ---- what comes out ---- */

int xml_set(struct reader *r, const xmlNode *node, const char *key, const char *value)
{
    for (unsigned i = 0; i < r->out->count; i++)
        if (strcmp(r->out->list[i].key, key) == 0)
            return xml_refuse(r, node, -EINVAL, "%s is said twice, first on line %u", key,
                              r->out->list[i].line);
    struct domain_setting *s = &r->out->list[r->out->count++];
    s->key = key;
    s->line = (unsigned)xmlGetLineNo(node);
    snprintf(s->value, sizeof(s->value), "%s", value);
    return 0;
}

int xml_append(struct reader *r, const xmlNode *node, char *text, size_t room, const char *format,
               ...)
{
    const size_t used = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(text + used, room - used, format, arguments);
    va_end(arguments);
    return (size_t)length < room - used
               ? 0
               : xml_refuse(r, node, -EFBIG, "the command becomes too long");
}

/* What follows depends on the machine. */
int xml_after_os(struct reader *r, const xmlNode *node)
{
    return r->machine[0] ? 0 : xml_refuse(r, node, -EINVAL, "<os> has to stand before it");
}
