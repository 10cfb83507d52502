/* Configuration: every sentence about what is wrong in it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "app/config.h"
#include "app/config_settings.h"
#include "test/support/config_fixture.h"
#include "test/support/runner.h"

static void expect_error(const char *words, const char *sentence)
{
    struct config config;
    enum config_action action;
    struct error err = {0};
    const int rc = config_fixture_read(words, stdout, &config, &action, &err);
    CU_ASSERT(rc < 0);
    CU_ASSERT_EQUAL(rc, err.code);
    CU_ASSERT_STRING_EQUAL(err.text, sentence);
    if (strcmp(err.text, sentence) != 0)
        printf("\n  wanted: %s\n  got:    %s\n", sentence, err.text);
    CU_ASSERT_PTR_NULL(config.name);
}

static void expect_ini_error(const char *more, const char *sentence)
{
    config_fixture_write_ini(more);
    expect_error("--config ini", sentence);
}

static const struct {
    const char *more; /* from line 9 of the file on */
    const char *sentence;
} ini_errors[] = {
    {"[vm]\nmetrics = 0\n", "ini:10: metrics: \"0\" is not a port or an address such as 9120, "
                            "192.0.2.1:9120 or [2001:db8::1]:9120"},
    {"[vm]\nmetrics = web:80\n",
     "ini:10: metrics: \"web:80\" is not a port or an address such as 9120, 192.0.2.1:9120 or "
     "[2001:db8::1]:9120"},
    {"[arbiter]\ntype = etcd\n",
     "[arbiter] endpoints: this option is needed with arbiter type etcd"},
    {"[arbiter]\ntype = etcd\nendpoints = 10.0.0.1:2379\n",
     "ini:11: endpoints: \"10.0.0.1:2379\" is not http://HOST:PORT or https://HOST:PORT"},
    {"[arbiter]\ntype = etcd\nendpoints = http://a:1\nuser = me\n",
     "[arbiter] password-file: this option is needed with user"},
    {"[arbiter]\ntype = etcd\nendpoints = http://a:1\npassword-file = secret\n",
     "[arbiter] user: this option is needed with password-file"},
    {"[arbiter]\ntype = etcd\nendpoints = http://a:1\ncert-file = disk\n",
     "[arbiter] key-file: this option is needed with cert-file"},
    {"[arbiter]\ntype = etcd\nendpoints = http://a:1\nca-file = gone\n",
     "ini:12: ca-file: gone: No such file or directory"},
    {"[arbiter]\ntype = etcd\nendpoints = http://a:1\nuser = me\npassword-file = open-secret\n",
     "ini:13: password-file: open-secret: mode 0644 lets others read or change it, set it to 0600"},
    {"[arbiter]\ntype = command\n",
     "[arbiter] command: this option is needed with arbiter type command"},
    {"[arbiter]\ntype = command\ncommand = fence_it\n",
     "ini:11: command: fence_it is not the whole path of a program"},
    {"[arbiter]\ntype = command\ncommand = /no/such agent\n",
     "ini:11: command: /no/such: No such file or directory"},
    {"[arbiter]\ncommand = /bin/true \"a b\n",
     "ini:10: command: \"/bin/true \"a b\" is not 1 to 64 words, each quote closed"},
    {"gibberish\n", "ini:9: neither \"[section]\" nor \"key = value\""},
    {"colour = blue\n", "ini:9: there is no option colour in section [replication]"},
    {"[machin]\nvcpus = 2\n", "ini:10: there is no option vcpus in section [machin]"},
    {"peer-wait = 1s\n", "ini:9: peer-wait: given twice, first on line 8"},
    {"[machine]\nvcpus =\n", "ini:10: vcpus: the value is empty"},
    {"[machine]\nvcpus = two\n", "ini:10: vcpus: \"two\" is not a whole number"},
    {"[machine]\nvcpus = 2 ; two\n", "ini:10: vcpus: \"2 ; two\" is not a whole number"},
    {"[machine]\nvcpus = 65\n", "ini:10: vcpus: 65 is out of range, 1 to 64"},
    {"[machine]\nvcpus = 99999999999999999999\n",
     "ini:10: vcpus: \"99999999999999999999\" is not a whole number"},
    {"staging-cap = 1.5G\n", "ini:9: staging-cap: \"1.5G\" is not a size such as 4096, 512M or 2G"},
    {"staging-cap = 1M\n", "ini:9: staging-cap: 1M is out of range, 8M to 64G"},
    {"staging-cap = 99999999999T\n",
     "ini:9: staging-cap: \"99999999999T\" is not a size such as 4096, 512M or 2G"},
    {"staging-cap = 32M\n", "[replication] dirty-budget: the size is larger than staging-cap"},
    {"max-interval = 20\n", "ini:9: max-interval: \"20\" is not a time such as 500us, 10ms, 3s or "
                            "2min (the unit is needed)"},
    {"max-interval = 2min\n", "ini:9: max-interval: 2min is out of range, 1ms to 1min"},
    {"streams = 9\n", "ini:9: streams: \"9\" is not one of: auto, 1, 2, 3, 4, 5, 6, 7, 8"},
    {"policy = lazy\n", "ini:9: policy: \"lazy\" is not one of: pipelined, kemari, interval"},
    {"[machine]\nrng = maybe\n", "ini:10: rng: \"maybe\" is neither yes nor no"},
    {"listen = tcp://localhost:1\n",
     "ini:9: listen: \"tcp://localhost:1\" is not an address such as tls://192.0.2.1:7000 or "
     "tls://[2001:db8::1]:7000; the schemes are tls, tcp, rdma and rdma+tls"},
    {"listen = tcp://10.0.0.1:0\n",
     "ini:9: listen: \"tcp://10.0.0.1:0\" is not an address such as tls://192.0.2.1:7000 or "
     "tls://[2001:db8::1]:7000; the schemes are tls, tcp, rdma and rdma+tls"},
    {"listen = udp://10.0.0.1:7000\n",
     "ini:9: listen: \"udp://10.0.0.1:7000\" is not an address such as tls://192.0.2.1:7000 or "
     "tls://[2001:db8::1]:7000; the schemes are tls, tcp, rdma and rdma+tls"},
    {"[vm]\ncontrol-group = no-such-group\n",
     "ini:10: control-group: there is no group \"no-such-group\" on this host"},
    {"[machine]\nnet = tap0\n", "ini:10: there is no option net in section [machine]"},
    {"[machine]\nnet.8 = tap0\n", "ini:10: there is no option net.8 in section [machine]"},
    {"[machine]\nnet.00 = tap0\n", "ini:10: there is no option net.00 in section [machine]"},
    {"[machine]\nvcpus.0 = 1\n", "ini:10: there is no option vcpus.0 in section [machine]"},
    {"[machine]\nnet.0 = a\nnet.2 = c\n",
     "ini:11: net.2: net.1 is missing, numbers count from 0 without gaps"},
    {"[machine]\nnet.0 = a/b\n", "ini:10: net.0: \"a/b\" is not the name of a network interface"},
    {"[machine]\nnet.0 = a-name-of-16-byt\n",
     "ini:10: net.0: \"a-name-of-16-byt\" is not the name of a network interface"},
    {"[machine]\nnet.0 = a,b\n", "ini:10: net.0: \"a,b\" is not TAP or TAP,mac=XX:XX:XX:XX:XX:XX"},
    {"[machine]\nnet.0 = a,mac=01:00:00:00:00:01\n",
     "ini:10: net.0: \"01:00:00:00:00:01\" is not a unicast MAC address"},
    {"[machine]\nnet.0 = a,mac=52:54:00:00:00:0g\n",
     "ini:10: net.0: \"52:54:00:00:00:0g\" is not a unicast MAC address"},
    {"[machine]\nnet.0 = a\nnet.1 = a\n", "ini:11: net.1: a is already used by net.0"},
    {"[machine]\nnet.0 = a,mac=52:54:00:00:00:01\nnet.1 = b,mac=52:54:00:00:00:01\n",
     "ini:11: net.1: the MAC address is that of net.0"},
    {"[machine]\ndisk.0 = disk,readonly\n",
     "ini:10: disk.0: \"disk,readonly\" is not PATH, PATH,read-only or PATH,shared"},
    {"[machine]\ndisk.0 = ,shared\n",
     "ini:10: disk.0: \",shared\" is not PATH, PATH,read-only or PATH,shared"},
    {"[machine]\ndisk.0 = disk\ndisk.1 = disk,read-only\n",
     "ini:11: disk.1: disk is already used by disk.0"},
    {"[machine]\ndisk.0 = gone\n", "ini:10: disk.0: gone: No such file or directory"},
    {"[machine]\ndisk.0 = folder\n", "ini:10: disk.0: folder: Is a directory"},
    {"[machine]\ndisk.0 = /dev/null\n",
     "ini:10: disk.0: /dev/null: not a regular file or block device"},
    {"[machine]\ninitrd = empty\n", "ini:10: initrd: empty: the file is empty"},
    {"[machine]\ninitrd = folder\n", "ini:10: initrd: folder: not a regular file"},
    {"[machine]\nconsole-log = gone/log\n",
     "ini:10: console-log: directory gone: No such file or directory"},
    {"[heartbeat]\npath.0 = 10.0.0.1:1\n",
     "ini:10: path.0: \"10.0.0.1:1\" is not LOCAL,REMOTE, each HOST:PORT"},
    {"[heartbeat]\npath.0 = 10.0.0.1:1,[::1]:2\n",
     "ini:10: path.0: \"10.0.0.1:1,[::1]:2\" mixes IPv4 and IPv6"},
    {"[heartbeat]\npath.0 = 10.0.0.1:1,10.0.0.2:70000\n",
     "ini:10: path.0: \"10.0.0.2:70000\" is not an address such as 192.0.2.1:7000 or "
     "[2001:db8::1]:7000"},
    {"[heartbeat]\npath.0 = 10.0.0.1:1,10.0.0.2:1\n",
     "ini:10: path.0: a heartbeat needs a pair, that is listen and peer"},
    {"listen = tcp://10.0.0.1:7000\n", "[replication] peer: this option is needed with listen, "
                                       "either host may have to call the other"},
    {"peer = tcp://10.0.0.2:7000\n", "[replication] listen: this option is needed with peer, "
                                     "either host may have to let the other in"},
    {"listen = tcp://10.0.0.1:7000\npeer = tcp://10.0.0.1:7000\n",
     "ini:10: peer: tcp://10.0.0.1:7000 is this host's own listen"},
    {"listen = 10.0.0.1:7000\npeer = tls://10.0.0.1:7000\n",
     "ini:10: peer: tls://10.0.0.1:7000 is this host's own listen"},
    {"listen = 10.0.0.1:7000\npeer = tcp://10.0.0.2:7000\n",
     "ini:10: peer: tcp://10.0.0.2:7000 is of another scheme than listen, tls://10.0.0.1:7000; "
     "both "
     "hosts need the same"},
    {PAIR WITH_SECRET "[tls]\ncert-file = disk\n",
     "ini:15: cert-file: this option needs listen and peer with tls:// or rdma+tls://"},
    {TLS_PAIR WITH_SECRET "[tls]\ncert-file = disk\n",
     "[tls] key-file: this option is needed with cert-file"},
    {TLS_PAIR WITH_SECRET "[tls]\npeer-name = b\n",
     "[tls] cert-file: this option is needed with peer-name"},
    {TLS_PAIR WITH_SECRET "[tls]\ncert-file = disk\nkey-file = gone\nca-file = disk\n",
     "ini:16: key-file: gone: No such file or directory"},
    {PAIR "[heartbeat]\npath.0 = 10.0.0.1:1,10.0.0.2:1\n",
     "[heartbeat] secret-file: this option is needed in a pair, both hosts prove that they know "
     "the secret"},
    {PAIR "[heartbeat]\nsecret-file = secret\n",
     "[heartbeat] path.0: this option is needed in a pair, without a heartbeat a silent host is "
     "never noticed"},
    {PAIR "[heartbeat]\nsecret-file = secret\npath.0 = 10.0.0.1:1,10.0.0.2:1\n"
          "path.1 = 10.0.0.1:1,10.0.0.3:1\n",
     "ini:14: path.1: 10.0.0.1:1 is already the local end of path.0"},
    {PAIR THIRD WITH_SECRET THIRD_PATH "[arbiter]\ntype = manual\n",
     "ini:11: host.0: more than one standby host needs an arbiter that remembers the term, that is "
     "etcd: any other could let one take over that was left behind"},
    {THIRD ETCD, "[replication] peer: this option is needed with host.0"},
    {"listen = tcp://0.0.0.0:7000\npeer = tcp://10.0.0.2:7000\n" THIRD WITH_SECRET THIRD_PATH ETCD,
     "ini:9: listen: tcp://0.0.0.0:7000 names no host: with host.0, the address at which the "
     "others "
     "list this one is needed"},
    {PAIR "host.0 = tls://10.0.0.3:7000\n" WITH_SECRET THIRD_PATH ETCD,
     "ini:11: host.0: tls://10.0.0.3:7000 is of another scheme than listen, tcp://10.0.0.1:7000; "
     "all hosts need the same"},
    {PAIR "host.0 = tcp://10.0.0.1:7000\n" WITH_SECRET THIRD_PATH ETCD,
     "ini:11: host.0: tcp://10.0.0.1:7000 is this host's own listen"},
    {PAIR "host.0 = tcp://10.0.0.2:7000\n" WITH_SECRET THIRD_PATH ETCD,
     "ini:11: host.0: tcp://10.0.0.2:7000 is in the list already"},
    {PAIR THIRD WITH_SECRET ETCD,
     "ini:11: host.0: no heartbeat path leads to it: one that ends in ,host=0 is needed"},
    {PAIR WITH_SECRET THIRD_PATH ETCD, "ini:14: path.1: there is no host.0"},
    {PAIR THIRD "[heartbeat]\nsecret-file = secret\npath.0 = 10.0.0.1:2,10.0.0.3:1,host=0\n" ETCD,
     "ini:14: path.0: no path leads to peer"},
    {PAIR WITH_SECRET "path.1 = 10.0.0.1:2,10.0.0.3:1,host=3\n",
     "ini:14: path.1: \",host=3\" is not ,host=N with N from 0 to 2"},
    {TLS_PAIR "host.0 = 10.0.0.3:7000\n" WITH_SECRET THIRD_PATH
              "[tls]\ncert-file = disk\nkey-file = disk\nca-file = disk\n" ETCD,
     "[tls] peer-name: this option is needed with host.0: one name that the certificates of all "
     "hosts contain"},
    {"[heartbeat]\nsecret-file = gone\n", "ini:10: secret-file: gone: No such file or directory"},
    {"[heartbeat]\nsecret-file = folder\n", "ini:10: secret-file: folder: not a regular file"},
    {"[heartbeat]\nsecret-file = open-secret\n",
     "ini:10: secret-file: open-secret: mode 0644 lets others read or change it, set it to 0600"},
    {"[heartbeat]\nsecret-file = short-secret\n",
     "ini:10: secret-file: short-secret: shorter than 16 bytes"},
    {"[heartbeat]\nmultiplier = 1\n", "ini:10: multiplier: 1 is out of range, 2 to 100"},
};

static void what_is_wrong_in_a_file_is_told_with_its_line(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(ini_errors); i++)
        expect_ini_error(ini_errors[i].more, ini_errors[i].sentence);
}

#define MINIMAL "--name web --role primary --memory 2M --kernel kernel "

static const struct {
    const char *words;
    const char *sentence;
} flag_errors[] = {
    {"", "[vm] name: this option is needed"},
    {"--name web", "[vm] role: this option is needed"},
    {"--name web --role secondary --memory 2M --kernel kernel",
     "[replication] peer: this option is needed, a secondary must know its primary"},
    {"--name web --role both --memory 2M --kernel kernel",
     "--role: \"both\" is not one of: primary, secondary, auto"},
    {"--name web --role auto --memory 2M --kernel kernel",
     "--role: auto needs an arbiter that remembers who owns the guest, that is etcd"},
    {"--name web --role auto --memory 2M --kernel kernel --arbiter none",
     "--role: auto needs an arbiter that remembers who owns the guest, that is etcd"},
    {"--name web --role auto --memory 2M --kernel kernel --arbiter etcd "
     "--arbiter-endpoints http://10.0.0.1:2379",
     "[replication] peer: this option is needed, a secondary must know its primary"},
    {MINIMAL "--name db", "--name: given twice"},
    {MINIMAL "--colour blue", "--colour: there is no such option"},
    {MINIMAL "--vcpus", "--vcpus: the value is missing"},
    {MINIMAL "--vcpus=", "--vcpus: the value is empty"},
    {MINIMAL "--rng=a\tb", "--rng: the value contains a control character"},
    {MINIMAL "--qemu q", "--qemu: only type qemu has use for this"},
    {MINIMAL "--libvirt-xml gone", "--libvirt-xml: gone: No such file or directory"},
    {MINIMAL "--libvirt-xml domain.xml",
     "domain.xml:1: memory is also said at --memory: leave one out"},
    {"--name vm --role primary --kernel kernel --libvirt-xml domain.xml",
     "--libvirt-xml: only type qemu has use for this"},
    {"--name vm --role primary --kernel kernel --machine qemu --libvirt-xml kernel",
     "kernel: line 1: it is no XML: Start tag expected, '<' not found"},
    {MINIMAL "--machine qemu", "[machine] qemu: this option is needed with type qemu"},
    {MINIMAL "--qemu-dirty-log softdirty", "--qemu-dirty-log: only type qemu has use for this"},
    {MINIMAL "--machine qemu --qemu q --qemu-dirty-log softdirty --huge-pages yes",
     "--qemu-dirty-log: softdirty can't be had with huge-pages, which have no soft-dirty bits"},
    {MINIMAL "--machine qemu --qemu q --qemu-dirty-log ring",
     "--qemu-dirty-log: \"ring\" is not one of: auto, pagemap, softdirty"},
    {"--name vm --role primary --memory 64M --machine qemu --qemu q --initrd initrd",
     "[machine] kernel: this option is needed with initrd or cmdline"},
    {MINIMAL "--vcpus 0", "--vcpus: 0 is out of range, 1 to 64"},
    {MINIMAL "--net tap0", "--net: there is no such option"},
    {MINIMAL "--disk.0 gone", "--disk.0: gone: No such file or directory"},
    {MINIMAL "--arbiter-timeout 1ms", "--arbiter-timeout: 1ms is out of range, 10ms to 60min"},
    {MINIMAL "stray", "\"stray\": there is no such argument (try --help)"},
    {MINIMAL "--", "\"--\": there is no such argument (try --help)"},
    {"--config", "--config: the value is missing"},
    {"--config a -c b", "--config: given twice"},
    {"--config gone", "configuration file gone: No such file or directory"},
    {"--config folder", "configuration file folder: Is a directory"},
    {"--name a/b --role primary",
     "--name: \"a/b\" is not 1 to 31 letters, digits, - or _, beginning with no -"},
    {"--name 12345678901234567890123456789012",
     "--name: \"12345678901234567890123456789012\" is not 1 to 31 letters, digits, - or _, "
     "beginning with no -"},
    {"--name web --role primary --memory 3M --kernel kernel",
     "--memory: the size is not a multiple of 2M"},
    {"--name web --role primary --memory 2M --kernel gone",
     "--kernel: gone: No such file or directory"},
    {MINIMAL "--control-socket "
             "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
             "aaaaaaaaaaaaaaaaaaaaaaaaa",
     "--control-socket: "
     "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
     "aaaaaaaaaaaaaaaaaaaaaaaaa is longer than the 107 bytes of a Unix socket's name"},
};

static void what_is_wrong_on_the_command_line_is_told_with_its_flag(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(flag_errors); i++)
        expect_error(flag_errors[i].words, flag_errors[i].sentence);
}

static void a_key_before_any_section_is_refused(void)
{
    config_fixture_write("ini", "name = web\n", 0600);
    expect_error("-c ini", "ini:1: a key stands before the first [section]");
}

static void a_line_too_long_or_with_a_zero_byte_is_refused(void)
{
    char text[CONFIG_LINE_MAX + 64] = "[machine]\ncmdline = ";
    memset(text + strlen(text), 'x', CONFIG_LINE_MAX);
    config_fixture_write("ini", text, 0600);
    expect_error("-c ini", "ini:2: the line is too long");

    struct config_settings *settings = config_settings_create();
    struct error err = {0};
    CU_ASSERT_EQUAL(config_settings_read_text(settings, "z", "[vm]\nna\0me = x\n", 15, &err),
                    -EINVAL);
    CU_ASSERT_STRING_EQUAL(err.text, "z:2: the line contains a zero byte");
    config_settings_destroy(&settings);
}

static const struct test_case cases[] = {
    {"what is wrong in a file is told with its line",
     what_is_wrong_in_a_file_is_told_with_its_line},
    {"what is wrong on the command line is told with its flag",
     what_is_wrong_on_the_command_line_is_told_with_its_flag},
    {"a key before any section is refused", a_key_before_any_section_is_refused},
    {"a line too long or with a zero byte is refused",
     a_line_too_long_or_with_a_zero_byte_is_refused},
};

int main(int argc, char **argv)
{
    config_fixture_prepare();
    const int status = test_run(argc, argv, "config-refusals", cases, ARRAY_SIZE(cases));
    config_fixture_clean_up();
    return status;
}
