#include "qemu/domain_xml.h"

#include <errno.h>
#include <libxml/parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/domain_reader.h"

#define PROCESSORS_MAX 1024 /* in one level of a topology */

/* ---- memory and processors ---- */

static int read_size(struct reader *r, const xmlNode *node, uint64_t *kib)
{
    static const struct {
        const char *unit;
        uint64_t kib;
    } units[] = {{"", 1},         {"KiB", 1},        {"k", 1},       {"MiB", 1u << 10},
                 {"M", 1u << 10}, {"GiB", 1u << 20}, {"G", 1u << 20}};
    char unit[ATTRIBUTE_MAX], text[24], *end;
    int rc = xml_only_attributes(r, node, ATTRIBUTES("unit"));
    if (rc == 0)
        rc = xml_attribute(r, node, "unit", unit);
    if (rc == 0)
        rc = xml_text_of(r, node, text, sizeof(text));
    if (rc < 0)
        return rc;
    const uint64_t number = strtoull(text, &end, 10);
    for (size_t i = 0; i < ARRAY_SIZE(units); i++)
        if (strcmp(unit, units[i].unit) == 0 && xml_is_made_of(text, "0123456789") &&
            number <= (UINT64_C(1) << 30) && !*end) {
            *kib = number * units[i].kib;
            return 0;
        }
    return xml_refuse(r, node, -EINVAL, "\"%s\" \"%.20s\" is no size in KiB, MiB or GiB", text,
                      unit);
}

static int read_memory(struct reader *r, const xmlNode *node)
{
    uint64_t kib = 0;
    char value[32];
    const int rc = read_size(r, node, &kib);
    snprintf(value, sizeof(value), "%lluK", (unsigned long long)kib);
    return rc < 0 ? rc : xml_set(r, node, "memory", value);
}

static int read_current_memory(struct reader *r, const xmlNode *node)
{
    uint64_t kib = 0;
    char value[32];
    const int rc = read_size(r, node, &kib);
    snprintf(value, sizeof(value), "%lluK", (unsigned long long)kib);
    if (rc < 0)
        return rc;
    for (unsigned i = 0; i < r->out->count; i++)
        if (strcmp(r->out->list[i].key, "memory") == 0 && strcmp(r->out->list[i].value, value) == 0)
            return 0;
    return xml_refuse(
        r, node, -ENOTSUP,
        "memory that a balloon changes can't be protected: let it be as <memory>, which "
        "stands before it");
}

static int read_vcpu(struct reader *r, const xmlNode *node)
{
    char text[8];
    int rc = xml_only_attributes(r, node, ATTRIBUTES("placement"));
    if (rc == 0)
        rc = xml_one_of(r, node, "placement", ATTRIBUTES("static"));
    if (rc == 0)
        rc = xml_text_of(r, node, text, sizeof(text));
    if (rc == 0 && !xml_is_made_of(text, "0123456789"))
        rc = xml_refuse(r, node, -EINVAL, "\"%s\" is no number", text);
    return rc < 0 ? rc : xml_set(r, node, "vcpus", text);
}

static int read_model(struct reader *r, const xmlNode *node)
{
    char fallback[ATTRIBUTE_MAX], model[ATTRIBUTE_MAX];
    int rc = xml_only_attributes(r, node, ATTRIBUTES("fallback"));
    if (rc == 0)
        rc = xml_attribute(r, node, "fallback", fallback);
    if (rc == 0 && strcmp(fallback, "forbid") != 0 && fallback[0])
        rc = xml_refuse(r, node, -ENOTSUP,
                        "another model than this one is not looked for: say "
                        "fallback='forbid'");
    if (rc == 0)
        rc = xml_text_of(r, node, model, sizeof(model));
    if (rc == 0 && (!xml_is_made_of(model, NAME_CHARS) || r->cpu[0]))
        rc = xml_refuse(r, node, -EINVAL, "\"%.60s\" is no model, or not the first", model);
    return rc < 0 ? rc : xml_append(r, node, r->cpu, sizeof(r->cpu), "%s", model);
}

static int read_feature(struct reader *r, const xmlNode *node)
{
    char name[ATTRIBUTE_MAX], policy[ATTRIBUTE_MAX];
    int rc = xml_only_attributes(r, node, ATTRIBUTES("policy", "name"));
    if (rc == 0)
        rc = xml_one_of(r, node, "policy", ATTRIBUTES("force", "require", "disable", "forbid"));
    if (rc == 0)
        rc = xml_attribute(r, node, "policy", policy);
    if (rc == 0)
        rc = xml_plain(r, node, "name", NAME_CHARS, name);
    if (rc == 0 && !r->cpu[0])
        rc = xml_refuse(r, node, -EINVAL, "a feature stands before the model");
    if (rc == 0)
        rc = xml_no_children(r, node);
    const bool off = strcmp(policy, "disable") == 0 || strcmp(policy, "forbid") == 0;
    return rc < 0 ? rc
                  : xml_append(r, node, r->cpu, sizeof(r->cpu), ",%s=%s", name, off ? "off" : "on");
}

static int check_processors(struct reader *r, const xmlNode *node, unsigned long long count)
{
    char value[32];
    snprintf(value, sizeof(value), "%llu", count);
    for (unsigned i = 0; i < r->out->count; i++)
        if (strcmp(r->out->list[i].key, "vcpus") == 0 &&
            strtoull(r->out->list[i].value, NULL, 10) != count)
            return xml_refuse(r, node, -EINVAL, "it has %s processors, and <vcpu> says %.8s", value,
                              r->out->list[i].value);
    return 0;
}

/* How many there are in all is said by the option vcpus, where <vcpu> doesn't. */
static int read_topology(struct reader *r, const xmlNode *node)
{
    static const char *const levels[] = {"sockets", "dies", "cores", "threads", NULL};
    unsigned long long count = 1;
    int rc = xml_only_attributes(r, node, levels);
    if (rc == 0)
        rc = xml_after_os(r, node);
    for (size_t i = 0; rc == 0 && levels[i]; i++) {
        unsigned number;
        rc = xml_number(r, node, levels[i], PROCESSORS_MAX, 1, &number);
        if (rc == 0 && number == 0)
            rc = xml_refuse(r, node, -EINVAL, "%s='0' leaves no processor", levels[i]);
        if (rc == 0)
            rc = xml_append(r, node, r->machine, sizeof(r->machine), ",smp.%s=%u", levels[i],
                            number);
        count *= number;
    }
    if (rc == 0)
        rc = xml_no_children(r, node);
    return rc < 0 ? rc : check_processors(r, node, count);
}

static int read_cpu(struct reader *r, const xmlNode *node)
{
    static const struct child children[] = {
        KNOWN("model", read_model),
        OFTEN("feature", read_feature),
        KNOWN("topology", read_topology),
        REFUSED("numa", "the guest's memory is one piece: leave it out"),
        {.name = NULL}};
    char mode[ATTRIBUTE_MAX];
    int rc = xml_only_attributes(r, node, ATTRIBUTES("mode", "match", "check", "migratable"));
    if (rc == 0)
        rc = xml_one_of(r, node, "mode", ATTRIBUTES("custom", "host-passthrough", "maximum"));
    if (rc == 0)
        rc = xml_one_of(r, node, "match", ATTRIBUTES("exact"));
    if (rc == 0)
        rc = xml_one_of(r, node, "check", ATTRIBUTES("none", "partial"));
    if (rc == 0)
        rc = xml_one_of(r, node, "migratable", ATTRIBUTES("on"));
    if (rc == 0)
        rc = xml_attribute(r, node, "mode", mode);
    if (rc == 0 && strcmp(mode, "host-passthrough") == 0)
        rc = xml_append(r, node, r->cpu, sizeof(r->cpu), "host,migratable=on");
    if (rc == 0 && strcmp(mode, "maximum") == 0)
        rc = xml_append(r, node, r->cpu, sizeof(r->cpu), "max");
    if (rc == 0)
        rc = xml_read_children(r, node, children);
    return rc < 0 || r->cpu[0] ? rc : xml_refuse(r, node, -EINVAL, "its <model> is missing");
}

/* ---- what it begins with ---- */

static int read_type(struct reader *r, const xmlNode *node)
{
    char text[16];
    int rc = xml_only_attributes(r, node, ATTRIBUTES("arch", "machine"));
    if (rc == 0)
        rc = xml_one_of(r, node, "arch", ATTRIBUTES("x86_64"));
    if (rc == 0)
        rc = xml_plain(r, node, "machine", NAME_CHARS, r->machine);
    if (rc == 0)
        rc = xml_text_of(r, node, text, sizeof(text));
    return rc < 0 || strcmp(text, "hvm") == 0
               ? rc
               : xml_refuse(r, node, -ENOTSUP, "only hvm can be started");
}

static int read_loader(struct reader *r, const xmlNode *node)
{
    char type[ATTRIBUTE_MAX], path[ATTRIBUTE_MAX];
    int rc = xml_only_attributes(r, node, ATTRIBUTES("type", "readonly"));
    if (rc == 0)
        rc = xml_attribute(r, node, "type", type);
    if (rc == 0 && strcmp(type, "pflash") == 0)
        rc =
            xml_refuse(r, node, -ENOTSUP,
                       "flash is memory that no checkpoint has: say type='rom', with firmware that "
                       "needs none, such as /usr/share/ovmf/OVMF.fd");
    if (rc == 0)
        rc = xml_one_of(r, node, "type", ATTRIBUTES("rom"));
    if (rc == 0)
        rc = xml_one_of(r, node, "readonly", ATTRIBUTES("yes"));
    if (rc == 0)
        rc = xml_text_of(r, node, path, sizeof(path));
    if (rc == 0 && !xml_is_made_of(path, PATH_CHARS))
        rc = xml_refuse(r, node, -EINVAL, "\"%.60s\" is no path that can be passed on", path);
    return rc < 0 ? rc : MORE(r, node, " -bios %s", path);
}

static int read_boot_text(struct reader *r, const xmlNode *node, const char *key)
{
    char text[DOMAIN_VALUE_MAX - 32];
    int rc = xml_only_attributes(r, node, ATTRIBUTES());
    if (rc == 0)
        rc = xml_text_of(r, node, text, sizeof(text));
    return rc < 0 ? rc : xml_set(r, node, key, text);
}

static int read_kernel(struct reader *r, const xmlNode *node)
{
    return read_boot_text(r, node, "kernel");
}

static int read_initrd(struct reader *r, const xmlNode *node)
{
    return read_boot_text(r, node, "initrd");
}

static int read_cmdline(struct reader *r, const xmlNode *node)
{
    return read_boot_text(r, node, "cmdline");
}

static int read_boot(struct reader *r, const xmlNode *node)
{
    int rc = xml_only_attributes(r, node, ATTRIBUTES("dev"));
    if (rc == 0)
        rc = xml_one_of(r, node, "dev", ATTRIBUTES("hd"));
    return rc < 0 ? rc : xml_no_children(r, node);
}

static int read_os(struct reader *r, const xmlNode *node)
{
    static const struct child children[] = {
        KNOWN("type", read_type),
        KNOWN("loader", read_loader),
        KNOWN("kernel", read_kernel),
        KNOWN("initrd", read_initrd),
        KNOWN("cmdline", read_cmdline),
        OFTEN("boot", read_boot),
        REFUSED("nvram", "flash is memory that no checkpoint has: leave it out, and say "
                         "<loader type='rom'>/usr/share/ovmf/OVMF.fd</loader>"),
        {.name = NULL}};
    if (xmlHasProp(node, (const xmlChar *)"firmware"))
        return xml_refuse(
            r, node, -ENOTSUP,
            "firmware is not chosen by itself: say <loader type='rom'>, for UEFI with "
            "/usr/share/ovmf/OVMF.fd");
    const int rc = xml_only_attributes(r, node, ATTRIBUTES());
    return rc < 0 ? rc : xml_read_children(r, node, children);
}

/* ---- behaviour ---- */

static int read_features(struct reader *r, const xmlNode *node)
{
    /* What every machine type here has. */
    static const struct child children[] = {KNOWN("acpi", xml_nothing_more),
                                            KNOWN("apic", xml_nothing_more),
                                            KNOWN("pae", xml_nothing_more),
                                            {.name = NULL}};
    const int rc = xml_only_attributes(r, node, ATTRIBUTES());
    return rc < 0 ? rc : xml_read_children(r, node, children);
}

static int read_timer(struct reader *r, const xmlNode *node)
{
    char name[ATTRIBUTE_MAX], policy[ATTRIBUTE_MAX], present[ATTRIBUTE_MAX];
    int rc = xml_only_attributes(r, node, ATTRIBUTES("name", "tickpolicy", "present"));
    if (rc == 0)
        rc = xml_attribute(r, node, "name", name);
    if (rc == 0)
        rc = xml_attribute(r, node, "tickpolicy", policy);
    if (rc == 0)
        rc = xml_attribute(r, node, "present", present);
    if (rc == 0)
        rc = xml_no_children(r, node);
    if (rc < 0)
        return rc;
    if (strcmp(name, "rtc") == 0 && strcmp(policy, "catchup") == 0 && !present[0])
        return MORE(r, node, " -rtc driftfix=slew");
    if (strcmp(name, "pit") == 0 && strcmp(policy, "delay") == 0 && !present[0])
        return r->kvm ? MORE(r, node, " -global kvm-pit.lost_tick_policy=delay") : 0;
    if (strcmp(name, "hpet") == 0 && !policy[0] &&
        (strcmp(present, "no") == 0 || strcmp(present, "yes") == 0))
        return xml_append(r, node, r->machine, sizeof(r->machine), ",hpet=%s",
                          strcmp(present, "no") == 0 ? "off" : "on");
    return xml_refuse(r, node, -ENOTSUP, "timer '%.20s' is not known like this", name);
}

static int read_clock(struct reader *r, const xmlNode *node)
{
    static const struct child children[] = {OFTEN("timer", read_timer), {.name = NULL}};
    char offset[ATTRIBUTE_MAX];
    int rc = xml_only_attributes(r, node, ATTRIBUTES("offset"));
    if (rc == 0)
        rc = xml_after_os(r, node);
    if (rc == 0)
        rc = xml_one_of(r, node, "offset", ATTRIBUTES("utc", "localtime"));
    if (rc == 0)
        rc = xml_attribute(r, node, "offset", offset);
    if (rc == 0 && offset[0])
        rc = MORE(r, node, " -rtc base=%s", offset);
    return rc < 0 ? rc : xml_read_children(r, node, children);
}

static int read_lifecycle(struct reader *r, const xmlNode *node)
{
    char text[24];
    const bool crash = strcmp(xml_name_of(node), "on_crash") == 0;
    const char *usual = strcmp(xml_name_of(node), "on_reboot") == 0 ? "restart" : "destroy";
    int rc = xml_only_attributes(r, node, ATTRIBUTES());
    if (rc == 0)
        rc = xml_text_of(r, node, text, sizeof(text));
    if (rc < 0)
        return rc;
    if (crash && strcmp(text, "restart") == 0)
        return xml_set(r, node, "on-panic", "restart");
    if (strcmp(text, usual) != 0)
        return xml_refuse(r, node, -ENOTSUP,
                          "\"%s\" is not what a protected guest can do: say %s%s", text, usual,
                          crash ? " or restart" : "");
    return crash ? xml_set(r, node, "on-panic", "stop") : 0;
}

static int read_suspend(struct reader *r, const xmlNode *node)
{
    const bool disk = strcmp(xml_name_of(node), "suspend-to-disk") == 0;
    const bool q35 = strstr(r->machine, "q35") != NULL;
    char enabled[ATTRIBUTE_MAX];
    int rc = xml_only_attributes(r, node, ATTRIBUTES("enabled"));
    if (rc == 0)
        rc = xml_one_of(r, node, "enabled", ATTRIBUTES("yes", "no"));
    if (rc == 0)
        rc = xml_attribute(r, node, "enabled", enabled);
    if (rc == 0)
        rc = xml_no_children(r, node);
    return rc < 0 ? rc
                  : MORE(r, node, " -global %s.disable_s%d=%d", q35 ? "ICH9-LPC" : "PIIX4_PM",
                         disk ? 4 : 3, strcmp(enabled, "no") == 0);
}

static int read_pm(struct reader *r, const xmlNode *node)
{
    static const struct child children[] = {KNOWN("suspend-to-mem", read_suspend),
                                            KNOWN("suspend-to-disk", read_suspend),
                                            {.name = NULL}};
    int rc = xml_only_attributes(r, node, ATTRIBUTES());
    if (rc == 0)
        rc = xml_after_os(r, node);
    return rc < 0 ? rc : xml_read_children(r, node, children);
}

static int read_uuid(struct reader *r, const xmlNode *node)
{
    char text[ATTRIBUTE_MAX];
    const int rc = xml_plain_text(r, node, "0123456789abcdefABCDEF-", text);
    return rc < 0 ? rc : MORE(r, node, " -uuid %s", text);
}

/* What describes the domain and does nothing. */
static int pass(struct reader *r, const xmlNode *node)
{
    (void)r, (void)node;
    return 0;
}

static int read_domain(struct reader *r, const xmlNode *node)
{
    static const struct child children[] = {KNOWN("name", pass),
                                            KNOWN("title", pass),
                                            KNOWN("description", pass),
                                            KNOWN("metadata", pass),
                                            KNOWN("uuid", read_uuid),
                                            KNOWN("memory", read_memory),
                                            KNOWN("currentMemory", read_current_memory),
                                            KNOWN("vcpu", read_vcpu),
                                            KNOWN("os", read_os),
                                            KNOWN("features", read_features),
                                            KNOWN("cpu", read_cpu),
                                            KNOWN("clock", read_clock),
                                            KNOWN("on_poweroff", read_lifecycle),
                                            KNOWN("on_reboot", read_lifecycle),
                                            KNOWN("on_crash", read_lifecycle),
                                            KNOWN("pm", read_pm),
                                            KNOWN("devices", xml_read_devices),
                                            {.name = NULL}};
    char type[ATTRIBUTE_MAX];
    if (strcmp(xml_name_of(node), "domain") != 0)
        return xml_refuse(r, node, -EINVAL, "it is no <domain>");
    int rc = xml_only_attributes(r, node, ATTRIBUTES("type"));
    if (rc == 0)
        rc = xml_one_of(r, node, "type", ATTRIBUTES("kvm", "qemu"));
    if (rc == 0)
        rc = xml_attribute(r, node, "type", type);
    if (rc == 0 && !type[0])
        rc = xml_refuse(r, node, -EINVAL, "its type is missing: kvm or qemu");
    r->kvm = strcmp(type, "kvm") == 0;
    if (rc == 0)
        rc = xml_read_children(r, node, children);
    if (rc == 0 && !r->machine[0])
        rc = xml_refuse(r, node, -EINVAL,
                        "<os><type machine='...'> is missing: which machine is it?");
    if (rc < 0)
        return rc;
    char command[DOMAIN_VALUE_MAX];
    const int length = snprintf(command, sizeof(command), "%s -machine %s -accel %s%s%s%s",
                                r->program[0] ? r->program : "qemu-system-x86_64", r->machine,
                                r->kvm ? "kvm" : "tcg", r->cpu[0] ? " -cpu " : "", r->cpu, r->more);
    return (size_t)length < sizeof(command)
               ? xml_set(r, node, "qemu", command)
               : xml_refuse(r, node, -EFBIG, "the command is too long");
}

/* ---- the text ---- */

static bool contains(const char *text, size_t size, const char *word)
{
    return memmem(text, size, word, strlen(word)) != NULL;
}

int domain_xml_read(const char *text, size_t size, struct domain_settings *out, struct error *err)
{
    struct error local = {0};
    struct reader r = {.out = out, .err = err ? err : &local};
    *out = (struct domain_settings){0};
    if (size > DOMAIN_XML_MAX)
        return error_set(err, -EFBIG, "more than %u bytes", DOMAIN_XML_MAX);
    /* Only with one are there entities; and it is UTF-8 whatever it says, so that it is seen. */
    if (contains(text, size, "<!DOCTYPE") || contains(text, size, "<!ENTITY"))
        return error_set(err, -EINVAL, "a document type can't stand in it");
    xmlParserCtxt *context = xmlNewParserCtxt();
    if (!context)
        return error_set(err, -ENOMEM, "out of memory");
    xmlDoc *document = xmlCtxtReadMemory(context, text, (int)size, NULL, "UTF-8",
                                         XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    const xmlError *why = xmlCtxtGetLastError(context);
    const xmlNode *root = document ? xmlDocGetRootElement(document) : NULL;
    int rc = 0;
    if (!root)
        rc = error_set(err, -EINVAL, "line %d: it is no XML: %.*s", why ? why->line : 0,
                       why && why->message ? (int)strcspn(why->message, "\n") : 9,
                       why && why->message ? why->message : "no element");
    else
        rc = read_domain(&r, root);
    xmlFreeDoc(document);
    xmlFreeParserCtxt(context);
    return rc;
}
