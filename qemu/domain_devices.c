/* <devices>: those that QEMU is told of, those it has anyway, and those it can't have here. */
#include <errno.h>
#include <string.h>

#include "qemu/domain_reader.h"

static int read_emulator(struct reader *r, const xmlNode *node)
{
    return xml_plain_text(r, node, PATH_CHARS, r->program);
}

/* Where a device is on the bus that every machine has. On others nothing stands: bridges are
 * refused. */
static int read_address(struct reader *r, const xmlNode *node)
{
    unsigned domain, bus, slot, function;
    const char *root = strstr(r->machine, "q35")           ? "pcie.0"
                       : strncmp(r->machine, "pc", 2) == 0 ? "pci.0"
                                                           : NULL;
    int rc = xml_only_attributes(r, node, ATTRIBUTES("type", "domain", "bus", "slot", "function"));
    if (rc == 0)
        rc = xml_one_of(r, node, "type", ATTRIBUTES("pci"));
    if (rc == 0)
        rc = xml_number(r, node, "domain", 0xffff, 0, &domain);
    if (rc == 0)
        rc = xml_number(r, node, "bus", 0xff, 0, &bus);
    if (rc == 0)
        rc = xml_number(r, node, "slot", 0x1f, 0, &slot);
    if (rc == 0)
        rc = xml_number(r, node, "function", 7, 0, &function);
    if (rc == 0 && (!root || domain || bus))
        rc = xml_refuse(r, node, -ENOTSUP,
                        "there is only the root bus of a q35 or pc: say domain='0' bus='0', or "
                        "leave it out");
    if (rc == 0 && !slot)
        rc = xml_refuse(r, node, -EINVAL, "slot 0 is the root bridge's");
    if (rc == 0)
        rc = xml_no_children(r, node);
    return rc < 0 ? rc
                  : xml_append(r, node, r->address, sizeof(r->address), ",bus=%s,addr=%02x.%x",
                               root, slot, function);
}

/* Of a device that is a part of a q35: it may be said, and is always the same. */
static int read_sata_address(struct reader *r, const xmlNode *node)
{
    r->address[0] = '\0';
    const int rc = read_address(r, node);
    return rc < 0 || strcmp(r->address, ",bus=pcie.0,addr=1f.2") == 0
               ? rc
               : xml_refuse(r, node, -ENOTSUP, "a q35 has it in slot 0x1f, function 2");
}

static int read_controller(struct reader *r, const xmlNode *node)
{
    char type[ATTRIBUTE_MAX], index[ATTRIBUTE_MAX], model[ATTRIBUTE_MAX];
    int rc = xml_only_attributes(r, node, ATTRIBUTES("type", "index", "model"));
    if (rc == 0)
        rc = xml_attribute(r, node, "type", type);
    if (rc == 0)
        rc = xml_attribute(r, node, "index", index);
    if (rc == 0)
        rc = xml_attribute(r, node, "model", model);
    if (rc < 0)
        return rc;
    const bool first = !index[0] || strcmp(index, "0") == 0;
    const bool own =
        (strcmp(type, "pci") == 0 && (!strcmp(model, "pcie-root") || !strcmp(model, "pci-root"))) ||
        (strcmp(type, "sata") == 0 && !model[0] && strstr(r->machine, "q35")) ||
        (strcmp(type, "usb") == 0 && strcmp(model, "none") == 0);
    static const struct child sata[] = {KNOWN("address", read_sata_address), {.name = NULL}};
    if (!first || !own)
        return xml_refuse(r, node, -ENOTSUP, "%.20s controllers are QEMU's to place: leave it out",
                          type);
    return strcmp(type, "sata") == 0 ? xml_read_children(r, node, sata) : xml_no_children(r, node);
}

static int read_backend(struct reader *r, const xmlNode *node)
{
    char model[ATTRIBUTE_MAX], path[ATTRIBUTE_MAX];
    int rc = xml_only_attributes(r, node, ATTRIBUTES("model"));
    if (rc == 0)
        rc = xml_one_of(r, node, "model", ATTRIBUTES("random", "builtin"));
    if (rc == 0)
        rc = xml_attribute(r, node, "model", model);
    if (rc == 0)
        rc = xml_text_of(r, node, path, sizeof(path));
    if (rc < 0)
        return rc;
    if (strcmp(model, "builtin") == 0)
        return xml_append(r, node, r->rng, sizeof(r->rng), "rng-builtin,id=rng%u", r->rngs);
    if (!xml_is_made_of(path[0] ? path : "/dev/urandom", PATH_CHARS))
        return xml_refuse(r, node, -EINVAL, "\"%.60s\" is no path that can be passed on", path);
    return xml_append(r, node, r->rng, sizeof(r->rng), "rng-random,id=rng%u,filename=%s", r->rngs,
                      path[0] ? path : "/dev/urandom");
}

static int read_rng(struct reader *r, const xmlNode *node)
{
    static const struct child children[] = {
        KNOWN("backend", read_backend), KNOWN("address", read_address), {.name = NULL}};
    r->rng[0] = r->address[0] = '\0';
    int rc = xml_only_attributes(r, node, ATTRIBUTES("model"));
    if (rc == 0)
        rc = xml_one_of(r, node, "model", ATTRIBUTES("virtio"));
    if (rc == 0)
        rc = xml_read_children(r, node, children);
    if (rc < 0 || !r->rng[0])
        return rc;
    const unsigned number = r->rngs++;
    return MORE(r, node, " -object %s -device virtio-rng-pci,rng=rng%u%s", r->rng, number,
                r->address);
}

static int read_panic(struct reader *r, const xmlNode *node)
{
    static const struct child placed[] = {KNOWN("address", read_address), {.name = NULL}};
    char model[ATTRIBUTE_MAX];
    r->address[0] = '\0';
    int rc = xml_only_attributes(r, node, ATTRIBUTES("model"));
    if (rc == 0)
        rc = xml_one_of(r, node, "model", ATTRIBUTES("isa", "pvpanic"));
    if (rc == 0)
        rc = xml_attribute(r, node, "model", model);
    const bool pci = rc == 0 && strcmp(model, "pvpanic") == 0;
    if (rc == 0)
        rc = pci ? xml_read_children(r, node, placed) : xml_no_children(r, node);
    return rc < 0 ? rc
                  : MORE(r, node, " -device %s%s", pci ? "pvpanic-pci" : "pvpanic", r->address);
}

/* The first serial port is Kemari's. */
static int read_serial(struct reader *r, const xmlNode *node)
{
    int rc = xml_only_attributes(r, node, ATTRIBUTES("type"));
    if (rc == 0)
        rc = xml_one_of(r, node, "type", ATTRIBUTES("pty"));
    return rc < 0 ? rc : xml_no_children(r, node);
}

static int read_absent(struct reader *r, const xmlNode *node)
{
    char model[ATTRIBUTE_MAX];
    int rc = xml_only_attributes(r, node, ATTRIBUTES("model"));
    if (rc == 0)
        rc = xml_attribute(r, node, "model", model);
    if (rc == 0)
        rc = xml_no_children(r, node);
    return rc < 0 || strcmp(model, "none") == 0
               ? rc
               : xml_refuse(r, node, -ENOTSUP,
                            "no checkpoint could have its memory: say <%s model='none'/>",
                            xml_name_of(node));
}

#define HARDWARE "it is hardware of some host, whose state can't be had"
#define SCREEN   "a screen would show what is not committed yet: use kemarictl console"

int xml_read_devices(struct reader *r, const xmlNode *node)
{
    static const struct child children[] = {
        KNOWN("emulator", read_emulator),
        OFTEN("controller", read_controller),
        OFTEN("rng", read_rng),
        KNOWN("panic", read_panic),
        KNOWN("serial", read_serial),
        KNOWN("memballoon", read_absent),
        REFUSED("disk", "say it by the option disk.N = FILE, and leave it out here"),
        REFUSED("interface", "say it by the option net.N = TAP, and leave it out here"),
        REFUSED("video", "graphics have memory that no checkpoint has: leave it out"),
        REFUSED("console", "leave it out: kemarictl console shows the first serial port"),
        REFUSED("graphics", SCREEN),
        REFUSED("hostdev", HARDWARE),
        REFUSED("redirdev", HARDWARE),
        REFUSED("filesystem", "what the guest writes to files of the host can't be taken back"),
        REFUSED("tpm", "what a TPM holds is in no checkpoint"),
        REFUSED("shmem", "others write to its memory"),
        REFUSED("channel", "what the guest says there would not be held: leave it out"),
        {.name = NULL}};
    int rc = xml_only_attributes(r, node, ATTRIBUTES());
    if (rc == 0)
        rc = xml_after_os(r, node);
    return rc < 0 ? rc : xml_read_children(r, node, children);
}
