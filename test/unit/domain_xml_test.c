/* A libvirt domain's XML: the settings that follow from it, and what is refused. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/command.h"
#include "qemu/domain_xml.h"
#include "test/support/runner.h"

static const char whole[] =
    "<domain type='kvm'>\n"
    "  <name>web</name>\n"
    "  <uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>\n"
    "  <metadata><x:y xmlns:x='http://example.org/'/></metadata>\n"
    "  <memory unit='MiB'>256</memory>\n"
    "  <currentMemory>262144</currentMemory>\n"
    "  <vcpu placement='static'>2</vcpu>\n"
    "  <os>\n"
    "    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>\n"
    "    <loader readonly='yes' type='rom'>/usr/share/ovmf/OVMF.fd</loader>\n"
    "    <kernel>/boot/vmlinuz</kernel>\n"
    "    <initrd>/boot/initrd.img</initrd>\n"
    "    <cmdline>console=ttyS0 a=\"b;c\" # d</cmdline>\n"
    "    <boot dev='hd'/>\n"
    "  </os>\n"
    "  <features><acpi/><apic/></features>\n"
    "  <cpu mode='custom' match='exact' check='partial'>\n"
    "    <model fallback='forbid'>Skylake-Server</model>\n"
    "    <topology sockets='1' dies='1' cores='1' threads='2'/>\n"
    "    <feature policy='require' name='aes'/>\n"
    "    <feature policy='disable' name='svm'/>\n"
    "  </cpu>\n"
    "  <clock offset='utc'>\n"
    "    <timer name='rtc' tickpolicy='catchup'/>\n"
    "    <timer name='pit' tickpolicy='delay'/>\n"
    "    <timer name='hpet' present='no'/>\n"
    "  </clock>\n"
    "  <on_poweroff>destroy</on_poweroff>\n"
    "  <on_reboot>restart</on_reboot>\n"
    "  <on_crash>destroy</on_crash>\n"
    "  <pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='yes'/></pm>\n"
    "  <devices>\n"
    "    <!-- nothing that talks -->\n"
    "    <emulator>/usr/bin/qemu-system-x86_64</emulator>\n"
    "    <controller type='usb' model='none'/>\n"
    "    <controller type='pci' index='0' model='pcie-root'/>\n"
    "    <controller type='sata' index='0'>\n"
    "      <address type='pci' domain='0x0000' bus='0x00' slot='0x1f' function='0x2'/>\n"
    "    </controller>\n"
    "    <serial type='pty'/>\n"
    "    <rng model='virtio'><backend model='random'>/dev/random</backend></rng>\n"
    "    <rng model='virtio'>\n"
    "      <backend model='builtin'/>\n"
    "      <address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x1'/>\n"
    "    </rng>\n"
    "    <panic model='isa'/>\n"
    "    <memballoon model='none'/>\n"
    "  </devices>\n"
    "</domain>\n";

static const struct {
    const char *key;
    unsigned line;
    const char *value;
} golden[] = {
    {"memory", 5, "262144K"},
    {"vcpus", 7, "2"},
    {"kernel", 11, "/boot/vmlinuz"},
    {"initrd", 12, "/boot/initrd.img"},
    {"cmdline", 13, "console=ttyS0 a=\"b;c\" # d"},
    {"on-panic", 30, "stop"},
    {"qemu", 1,
     "/usr/bin/qemu-system-x86_64 -machine "
     "pc-q35-7.2,smp.sockets=1,smp.dies=1,smp.cores=1,smp.threads=2,hpet=off -accel kvm -cpu "
     "Skylake-Server,aes=on,svm=off -uuid c7a5fdbd-edaf-9455-926a-d65c16db1809 -bios "
     "/usr/share/ovmf/OVMF.fd -rtc base=utc -rtc driftfix=slew -global "
     "kvm-pit.lost_tick_policy=delay -global ICH9-LPC.disable_s3=1 -global ICH9-LPC.disable_s4=0 "
     "-object rng-random,id=rng0,filename=/dev/random -device virtio-rng-pci,rng=rng0 -object "
     "rng-builtin,id=rng1 -device virtio-rng-pci,rng=rng1,bus=pcie.0,addr=05.1 -device pvpanic"},
};

static void a_domain_becomes_settings(void)
{
    struct domain_settings s;
    struct error err = {0};
    CU_ASSERT_EQUAL_FATAL(domain_xml_read(whole, sizeof(whole) - 1, &s, &err), 0);
    CU_ASSERT_EQUAL_FATAL(s.count, ARRAY_SIZE(golden));
    for (unsigned i = 0; i < s.count; i++) {
        CU_ASSERT_STRING_EQUAL(s.list[i].key, golden[i].key);
        CU_ASSERT_EQUAL(s.list[i].line, golden[i].line);
        CU_ASSERT_STRING_EQUAL(s.list[i].value, golden[i].value);
    }
}

static void a_device_stands_where_it_is_said_to(void)
{
    static const char text[] =
        "<domain type='kvm'><os><type machine='pc-i440fx-7.2'>hvm</type></os><devices>"
        "<panic model='pvpanic'><address type='pci' slot='7'/></panic>"
        "<rng model='virtio'><address slot='010'/><backend model='builtin'/></rng></devices>"
        "</domain>";
    struct domain_settings s;
    CU_ASSERT_EQUAL_FATAL(domain_xml_read(text, sizeof(text) - 1, &s, NULL), 0);
    CU_ASSERT_EQUAL(s.count, 1);
    CU_ASSERT_STRING_EQUAL(
        s.list[0].value,
        "qemu-system-x86_64 -machine pc-i440fx-7.2 -accel kvm -device "
        "pvpanic-pci,bus=pci.0,addr=07.0 "
        "-object rng-builtin,id=rng0 -device virtio-rng-pci,rng=rng0,bus=pci.0,addr=08.0");
}

/* The command that comes out has no words but those that are allowed. */
static void the_command_is_one_that_can_be_protected(void)
{
    struct domain_settings s;
    const char *words[64] = {NULL};
    unsigned count = 0;
    CU_ASSERT_EQUAL_FATAL(domain_xml_read(whole, sizeof(whole) - 1, &s, NULL), 0);
    char *rest = NULL;
    for (char *word = strtok_r(s.list[s.count - 1].value, " ", &rest); word && count < 63;
         word = strtok_r(NULL, " ", &rest))
        words[count++] = word;
    const struct qemu_command command = {.words = words};
    CU_ASSERT_EQUAL(qemu_command_check(&command, NULL), 0);
}

static void the_smallest_domain_has_the_usual_program(void)
{
    static const char text[] =
        "<domain type='qemu'><os><type machine='microvm'>hvm</type></os></domain>";
    struct domain_settings s;
    CU_ASSERT_EQUAL_FATAL(domain_xml_read(text, sizeof(text) - 1, &s, NULL), 0);
    CU_ASSERT_EQUAL(s.count, 1);
    CU_ASSERT_STRING_EQUAL(s.list[0].value, "qemu-system-x86_64 -machine microvm -accel tcg");
}

#define OS           "<os><type machine='q35'>hvm</type></os>"
#define DOMAIN       "<domain type='kvm'>"
#define IN(text)     DOMAIN OS text "</domain>"
#define DEVICE(text) IN("<devices>" text "</devices>")
#define RNG(address) "<rng model='virtio'><backend model='builtin'/><address " address "/></rng>"

static const struct {
    const char *text;
    int rc;
    const char *says;
} refused[] = {
    {"", -EINVAL, "it is no XML"},
    {"hello", -EINVAL, "line 1: it is no XML"},
    {"<domain type='kvm'>", -EINVAL, "it is no XML"},
    {"<network/>", -EINVAL, "<network>: it is no <domain>"},
    {"<domain>" OS "</domain>", -EINVAL, "its type is missing"},
    {"<domain type='xen'>" OS "</domain>", -ENOTSUP, "type='xen'"},
    {"<domain type='kvm' id='1'>" OS "</domain>", -ENOTSUP, "attribute id is not known"},
    {DOMAIN "</domain>", -EINVAL, "which machine is it?"},
    {DOMAIN "<os><type machine='q35,accel=tcg'>hvm</type></os></domain>", -EINVAL, "not such a"},
    {DOMAIN "<os><type machine='q35' arch='aarch64'>hvm</type></os></domain>", -ENOTSUP,
     "arch='aarch64'"},
    {DOMAIN "<os><type machine='q35'>xen</type></os></domain>", -ENOTSUP, "only hvm"},
    {DOMAIN "<os firmware='efi'><type machine='q35'>hvm</type></os></domain>", -ENOTSUP,
     "say <loader type='rom'>"},
    {DOMAIN "<os><type machine='q35'>hvm</type><loader type='pflash'>/x</loader></os></domain>",
     -ENOTSUP, "flash is memory"},
    {DOMAIN "<os><type machine='q35'>hvm</type><nvram>/x</nvram></os></domain>", -ENOTSUP,
     "<nvram>: flash"},
    {DOMAIN "<os><type machine='q35'>hvm</type><loader>/x -device y</loader></os></domain>",
     -EINVAL, "no path that can be passed on"},
    {DOMAIN "<os><type machine='q35'>hvm</type><boot dev='network'/></os></domain>", -ENOTSUP,
     "dev='network'"},
    {IN("\n<os/>"), -EINVAL, "line 2: <os>: it is there twice"},
    {IN("text"), -EINVAL, "text stands where elements are expected"},
    {IN("<iothreads>1</iothreads>"), -ENOTSUP, "<iothreads>: not known to be safe"},
    {IN("<memory unit='TiB'>1</memory>"), -EINVAL, "is no size"},
    {IN("<memory>-1</memory>"), -EINVAL, "is no size"},
    {IN("<memory>99999999999999999999999</memory>"), -EINVAL, "is no size"},
    {IN("<memory/>"), -EINVAL, "is no size"},
    {IN("<memory>2048<b/></memory>"), -EINVAL, "more than text"},
    {IN("<memory>2048</memory><currentMemory>1024</currentMemory>"), -ENOTSUP, "a balloon"},
    {IN("<currentMemory>1024</currentMemory>"), -ENOTSUP, "a balloon"},
    {IN("<vcpu current='1'>2</vcpu>"), -ENOTSUP, "attribute current"},
    {IN("<vcpu>two</vcpu>"), -EINVAL, "is no number"},
    {IN("<cpu mode='host-model'/>"), -ENOTSUP, "mode='host-model'"},
    {IN("<cpu/>"), -EINVAL, "its <model> is missing"},
    {IN("<cpu><model>a,b=on</model></cpu>"), -EINVAL, "is no model"},
    {IN("<cpu><feature policy='require' name='aes'/></cpu>"), -EINVAL, "before the model"},
    {IN("<cpu mode='maximum'><feature policy='optional' name='aes'/></cpu>"), -ENOTSUP,
     "policy='optional'"},
    {IN("<cpu mode='maximum'><feature policy='require' name='a,b'/></cpu>"), -EINVAL, "not such"},
    {IN("<vcpu>4</vcpu><cpu mode='maximum'><topology sockets='2' cores='3'/></cpu>"), -EINVAL,
     "<topology>: it has 6 processors, and <vcpu> says 4"},
    {IN("<cpu mode='maximum'><topology sockets='0'/></cpu>"), -EINVAL, "leaves no processor"},
    {IN("<cpu mode='maximum'><topology cores='1025'/></cpu>"), -EINVAL, "no number up to 1024"},
    {IN("<cpu mode='maximum'><topology cores='2,maxcpus=9'/></cpu>"), -EINVAL, "no number up"},
    {IN("<cpu mode='maximum'><topology clusters='1'/></cpu>"), -ENOTSUP, "attribute clusters"},
    {DOMAIN "<cpu mode='maximum'><topology cores='1'/></cpu>" OS "</domain>", -EINVAL,
     "<os> has to stand before it"},
    {IN("<features><hyperv/></features>"), -ENOTSUP, "<hyperv>: not known"},
    {IN("<features><apic eoi='on'/></features>"), -ENOTSUP, "attribute eoi"},
    {IN("<clock offset='variable'/>"), -ENOTSUP, "offset='variable'"},
    {IN("<clock offset='utc'><timer name='kvmclock' present='no'/></clock>"), -ENOTSUP,
     "timer 'kvmclock'"},
    {DOMAIN "<clock offset='utc'/>" OS "</domain>", -EINVAL, "<os> has to stand before it"},
    {IN("<on_reboot>destroy</on_reboot>"), -ENOTSUP, "say restart"},
    {IN("<on_crash>preserve</on_crash>"), -ENOTSUP, "say destroy or restart"},
    {DEVICE("<disk type='file'/>"), -ENOTSUP, "<disk>: say it by the option disk.N"},
    {DEVICE("<interface type='bridge'/>"), -ENOTSUP, "<interface>: say it by the option net.N"},
    {DEVICE("<hostdev/>"), -ENOTSUP, "<hostdev>: it is hardware"},
    {DEVICE("<graphics type='vnc'/>"), -ENOTSUP, "<graphics>: a screen"},
    {DEVICE("<video/>"), -ENOTSUP, "<video>: graphics"},
    {DEVICE("<sound model='ich9'/>"), -ENOTSUP, "<sound>: not known"},
    {DEVICE("<memballoon model='virtio'/>"), -ENOTSUP, "say <memballoon model='none'/>"},
    {DEVICE("<controller type='pci' index='1' model='pcie-root-port'/>"), -ENOTSUP, "to place"},
    {DEVICE("<rng model='virtio'><rate bytes='1'/></rng>"), -ENOTSUP, "<rate>: not known"},
    {DEVICE("<rng model='virtio'><backend model='egd'/></rng>"), -ENOTSUP, "model='egd'"},
    {DEVICE("<rng model='virtio'><backend model='random'>/a,b=c</backend></rng>"), -EINVAL,
     "no path that can be passed on"},
    {DEVICE("<panic model='hyperv'/>"), -ENOTSUP, "model='hyperv'"},
    {DEVICE("<serial type='tcp'/>"), -ENOTSUP, "type='tcp'"},
    {DEVICE(RNG("type='pci' bus='0x01' slot='0'")), -ENOTSUP, "only the root bus"},
    {DEVICE(RNG("type='pci' domain='1' slot='2'")), -ENOTSUP, "only the root bus"},
    {DEVICE(RNG("type='pci' bus='0' slot='0'")), -EINVAL, "slot 0 is the root bridge's"},
    {DEVICE(RNG("type='pci' slot='0x20'")), -EINVAL, "slot='0x20' is no number up to 31"},
    {DEVICE(RNG("type='pci' slot='1' function='8'")), -EINVAL, "is no number up to 7"},
    {DEVICE(RNG("type='pci' slot='-1'")), -EINVAL, "slot='-1' is no number"},
    {DEVICE(RNG("type='pci' slot='99999999999999999999'")), -EINVAL, "is no number"},
    {DEVICE(RNG("type='ccid' slot='1'")), -ENOTSUP, "type='ccid'"},
    {DEVICE(RNG("type='pci' slot='1' multifunction='on'")), -ENOTSUP, "attribute multifunction"},
    {DOMAIN "<os><type machine='microvm'>hvm</type></os><devices>" RNG("slot='1'") "</devices>"
                                                                                   "</domain>",
     -ENOTSUP, "only the root bus"},
    {DEVICE("<controller type='sata'><address type='pci' slot='3'/></controller>"), -ENOTSUP,
     "slot 0x1f, function 2"},
    {DEVICE("<panic model='isa'><address type='isa'/></panic>"), -ENOTSUP, "<address>: not known"},
    {DEVICE("<q:disk xmlns:q='x'/>"), -ENOTSUP, "<disk>: not known"},
    {IN("<q:commandline xmlns:q='x'/>"), -ENOTSUP, "<commandline>: not known"},
};

static void what_is_not_understood_is_refused_by_name(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        struct domain_settings s;
        struct error err = {0};
        const int rc = domain_xml_read(refused[i].text, strlen(refused[i].text), &s, &err);
        CU_ASSERT_EQUAL(rc, refused[i].rc);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, refused[i].says));
        if (rc != refused[i].rc || !strstr(err.text, refused[i].says))
            printf("%s\n  %s\n", refused[i].text, err.text);
    }
}

static void a_text_that_is_cut_short_is_refused(void)
{
    /* All but the newline at its end is needed. */
    for (size_t size = 0; size + 2 < sizeof(whole); size++) {
        struct domain_settings s;
        struct error err = {0};
        CU_ASSERT_EQUAL(domain_xml_read(whole, size, &s, &err), -EINVAL);
        CU_ASSERT_NOT_EQUAL(err.text[0], '\0');
    }
}

static void expect_refused(const char *text, size_t size, int rc)
{
    struct domain_settings s;
    struct error err = {0};
    CU_ASSERT_EQUAL(domain_xml_read(text, size, &s, &err), rc);
    CU_ASSERT_NOT_EQUAL(err.text[0], '\0');
}

static void hostile_texts_are_bounded(void)
{
    static const char entities[] =
        "<!DOCTYPE d [<!ENTITY a 'xxxxxxxxxx'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>]>"
        "<domain type='&b;'/>";
    static const char file[] = "<!DOCTYPE d SYSTEM 'file:///etc/passwd'><domain type='kvm'/>";
    expect_refused(entities, sizeof(entities) - 1, -EINVAL);
    expect_refused(file, sizeof(file) - 1, -EINVAL);
    char *text = malloc(DOMAIN_XML_MAX + 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    for (size_t i = 0; i + 3 <= DOMAIN_XML_MAX; i += 3)
        memcpy(text + i, "<a>", 3);
    expect_refused(text, DOMAIN_XML_MAX / 3 * 3, -EINVAL);
    memset(text, ' ', DOMAIN_XML_MAX + 1);
    expect_refused(text, DOMAIN_XML_MAX + 1, -EFBIG);
    memcpy(text, "<domain type='kvm'><os><type machine='", 38);
    memset(text + 38, 'x', 100000);
    expect_refused(text, 100038, -EINVAL);
    memcpy(text + 100038, "'>hvm</type></os></domain>", 26);
    expect_refused(text, 100064, -EFBIG);
    /* UTF-16 would hide a document type. */
    for (size_t i = 0; i < sizeof(entities) - 1; i++)
        memcpy(text + 2 * i, (const char[]){entities[i], '\0'}, 2);
    expect_refused(text, 2 * (sizeof(entities) - 1), -EINVAL);
    free(text);
}

static const struct test_case cases[] = {
    {"a domain becomes settings", a_domain_becomes_settings},
    {"a device stands where it is said to", a_device_stands_where_it_is_said_to},
    {"the command is one that can be protected", the_command_is_one_that_can_be_protected},
    {"the smallest domain has the usual program", the_smallest_domain_has_the_usual_program},
    {"what is not understood is refused by name", what_is_not_understood_is_refused_by_name},
    {"a text that is cut short is refused", a_text_that_is_cut_short_is_refused},
    {"hostile texts are bounded", hostile_texts_are_bounded},
};

TEST_MAIN("domain-xml", cases)
