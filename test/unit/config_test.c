/* Configuration: every option, every sentence. Files live in a directory of the test's own.
 * KEMARI_UPDATE_GOLDEN=1 writes docs/configuration.md anew. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/config.h"
#include "app/config_help.h"
#include "app/config_settings.h"
#include "app/config_value.h"
#include "base/fd.h"
#include "test/support/runner.h"

#define ARGS_MAX 24

static char directory[64];

static void write_file(const char *name, const char *text, mode_t mode)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0 || fchmod(fd, mode) < 0)
        abort(); /* also runs before there is a test to fail */
    fd_close(&fd);
}

static void prepare(void)
{
    snprintf(directory, sizeof(directory), "/tmp/kemari-config-XXXXXX");
    if (!mkdtemp(directory) || chdir(directory) < 0)
        abort();
    write_file("kernel", "k", 0600);
    write_file("domain.xml",
               "<domain type='qemu'><memory unit='MiB'>64</memory><vcpu>3</vcpu>"
               "<os><type machine='q35'>hvm</type></os></domain>",
               0600);
    write_file("initrd", "i", 0600);
    write_file("empty", "", 0600);
    write_file("disk", "d", 0600);
    write_file("disk2", "d", 0600);
    write_file("secret", "0123456789abcdef\n", 0600);
    write_file("open-secret", "0123456789abcdef\n", 0644);
    write_file("short-secret", "0123456789abcde\n", 0600);
    mkdir("folder", 0700);
}

static void clean_up(void)
{
    static const char *const names[] = {"kernel",       "domain.xml", "initrd", "empty",
                                        "disk",         "disk2",      "secret", "open-secret",
                                        "short-secret", "ini"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        unlink(names[i]);
    rmdir("folder");
    if (chdir("/") == 0)
        rmdir(directory);
}

/* Runs config_read() on "kemarid WORDS...", words separated by blanks. */
static int read_words(const char *words, FILE *out, struct config *config,
                      enum config_action *action, struct error *err)
{
    char copy[4096];
    snprintf(copy, sizeof(copy), "%s", words);
    char *argv[ARGS_MAX] = {(char *)"kemarid"};
    int argc = 1;
    char *rest = copy;
    for (char *word; (word = strsep(&rest, " ")) != NULL && argc < ARGS_MAX;)
        if (*word)
            argv[argc++] = word;
    return config_read(argc, argv, out, config, action, err);
}

/* A file that is complete for a primary without a secondary, followed by `more`. */
static void write_ini(const char *more)
{
    char text[8192];
    snprintf(text, sizeof(text),
             "[vm]\nname = web\nrole = primary\n"
             "[machine]\nmemory = 64M\nkernel = kernel\n"
             "[replication]\npeer-wait = 60s\n%s",
             more);
    write_file("ini", text, 0600);
}

static void expect_error(const char *words, const char *sentence)
{
    struct config config;
    enum config_action action;
    struct error err = {0};
    const int rc = read_words(words, stdout, &config, &action, &err);
    CU_ASSERT(rc < 0);
    CU_ASSERT_EQUAL(rc, err.code);
    CU_ASSERT_STRING_EQUAL(err.text, sentence);
    if (strcmp(err.text, sentence) != 0)
        printf("\n  wanted: %s\n  got:    %s\n", sentence, err.text);
    CU_ASSERT_PTR_NULL(config.name);
}

static void expect_ini_error(const char *more, const char *sentence)
{
    write_ini(more);
    expect_error("--config ini", sentence);
}

static void a_minimal_file_gets_every_default(void)
{
    struct config c;
    enum config_action action;
    struct error err = {0};
    write_ini("");
    CU_ASSERT_EQUAL_FATAL(read_words("-c ini", stdout, &c, &action, &err), 0);
    CU_ASSERT_EQUAL(action, CONFIG_RUN);
    CU_ASSERT_STRING_EQUAL(c.name, "web");
    CU_ASSERT_EQUAL(c.role, CONFIG_ROLE_PRIMARY);
    CU_ASSERT_STRING_EQUAL(c.state_dir, "/var/lib/kemari/web");
    CU_ASSERT_STRING_EQUAL(c.control_socket, "/run/kemari/web.sock");
    CU_ASSERT_EQUAL(c.control_group, (gid_t)-1);
    CU_ASSERT_EQUAL(c.log_level, LOG_LEVEL_INFO);
    CU_ASSERT_EQUAL(c.memory, 64u << 20);
    CU_ASSERT_EQUAL(c.vcpus, 1);
    CU_ASSERT_PTR_NULL(c.initrd);
    CU_ASSERT_PTR_NULL(c.cmdline);
    CU_ASSERT_PTR_NULL(c.console_log);
    CU_ASSERT_EQUAL(c.serial, CONFIG_SERIAL_HELD);
    CU_ASSERT_TRUE(c.virtio_console && c.rng && !c.huge_pages);
    CU_ASSERT_EQUAL(c.on_panic, CONFIG_ON_PANIC_RESTART);
    CU_ASSERT_EQUAL(c.panic_restarts, 5);
    CU_ASSERT_EQUAL(c.panic_window, SEC(600));
    CU_ASSERT_EQUAL(c.policy, CONFIG_POLICY_PIPELINED);
    CU_ASSERT_EQUAL(c.window, 2);
    CU_ASSERT_EQUAL(c.max_interval, MSEC(500));
    CU_ASSERT_EQUAL(c.heartbeat_interval, MSEC(10));
    CU_ASSERT_EQUAL(c.heartbeat_multiplier, 3);
    CU_ASSERT_TRUE(c.realtime);
    CU_ASSERT_EQUAL(c.arbiter, CONFIG_ARBITER_MANUAL);
    CU_ASSERT_EQUAL(c.arbiter_timeout, SEC(10));
    CU_ASSERT_EQUAL(c.net_count + c.disk_count + c.path_count, 0);
    CU_ASSERT_PTR_NULL(c.listen.text);
    config_free(&c);
}

static void every_option_of_the_file_arrives(void)
{
    struct config c;
    enum config_action action;
    struct error err = {0};
    write_ini("listen = tcp://[fd00::1]:7001\npeer = tcp://10.0.0.2:7000\n"
              "window = 4\nmax-interval = 20ms\nstaging-cap = 1G\n"
              "outbox-cap = 16M\ndirty-budget = 8M\npolicy = kemari\n"
              "[machine]\nvcpus = 8\ninitrd = initrd\n  cmdline = console=ttyS0 a=b ; c\n"
              "huge-pages = on\nserial = free\nconsole-log = stdout\nrng = no\non-panic = stop\n"
              "panic-restarts = 0\npanic-window = 90s\n"
              "net.0 = tap0\nnet.1 = tap1,mac=52:54:00:AB:cd:01\n"
              "disk.0 = disk,read-only\ndisk.1 = disk2,read-only\n"
              "# comment\n; another\n\n"
              "[heartbeat]\npath.0 = 10.0.0.1:1,10.0.0.2:65535\npath.1 = [::1]:5,[::1]:6\n"
              "interval = 2500us\nmultiplier = 10\nrealtime = no\nsecret-file = secret\n"
              "[arbiter]\ntype = none\ntimeout = 2min\n");
    CU_ASSERT_EQUAL_FATAL(read_words("--config ini", stdout, &c, &action, &err), 0);
    CU_ASSERT_EQUAL(c.listen.address.ss_family, AF_INET6);
    const struct sockaddr_in *peer = (const struct sockaddr_in *)&c.peer.address;
    CU_ASSERT_EQUAL(ntohs(peer->sin_port), 7000);
    CU_ASSERT_EQUAL(ntohl(peer->sin_addr.s_addr), 0x0a000002);
    CU_ASSERT_EQUAL(c.window, 4);
    CU_ASSERT_EQUAL(c.staging_cap, 1u << 30);
    CU_ASSERT_EQUAL(c.peer_wait, SEC(60));
    CU_ASSERT_EQUAL(c.policy, CONFIG_POLICY_KEMARI);
    CU_ASSERT_STRING_EQUAL(c.cmdline, "console=ttyS0 a=b ; c");
    CU_ASSERT_EQUAL(c.serial, CONFIG_SERIAL_FREE);
    CU_ASSERT_EQUAL(c.on_panic, CONFIG_ON_PANIC_STOP);
    CU_ASSERT_EQUAL(c.panic_restarts, 0);
    CU_ASSERT_EQUAL(c.panic_window, SEC(90));
    CU_ASSERT_EQUAL_FATAL(c.net_count, 2);
    CU_ASSERT_STRING_EQUAL(c.nets[0].tap, "tap0");
    CU_ASSERT_EQUAL(c.nets[0].mac[0], 0x02);
    CU_ASSERT_EQUAL(memcmp(c.nets[1].mac, "\x52\x54\x00\xab\xcd\x01", 6), 0);
    CU_ASSERT_EQUAL_FATAL(c.disk_count, 2);
    CU_ASSERT_STRING_EQUAL(c.disks[1].path, "disk2");
    CU_ASSERT_TRUE(c.disks[0].read_only && c.disks[1].read_only);
    CU_ASSERT_EQUAL_FATAL(c.path_count, 2);
    CU_ASSERT_STRING_EQUAL(c.paths[0].remote.text, "10.0.0.2:65535");
    CU_ASSERT_EQUAL(c.heartbeat_interval, USEC(2500));
    CU_ASSERT_EQUAL(c.secret_size, 16);
    CU_ASSERT_EQUAL(memcmp(c.secret, "0123456789abcdef", 16), 0);
    CU_ASSERT_EQUAL(c.arbiter_timeout, SEC(120));
    config_free(&c);
}

static void flags_win_over_the_file_and_suffice_without_one(void)
{
    struct config c;
    enum config_action action;
    struct error err = {0};
    write_ini("window = 4\n");
    CU_ASSERT_EQUAL_FATAL(
        read_words("--window 7 --config=ini --vcpus=3 --arbiter none --peer-wait 0 --disk.0 disk",
                   stdout, &c, &action, &err),
        0);
    CU_ASSERT_EQUAL(c.window, 7);
    CU_ASSERT_EQUAL(c.vcpus, 3);
    CU_ASSERT_EQUAL(c.peer_wait, 0);
    CU_ASSERT_FALSE(c.disks[0].read_only);
    CU_ASSERT_EQUAL(c.arbiter, CONFIG_ARBITER_NONE);
    config_free(&c);
    CU_ASSERT_EQUAL_FATAL(read_words("--name db --role secondary --memory 2M --kernel kernel "
                                     "--listen tcp://0.0.0.0:7000 --peer tcp://10.0.0.1:7000 "
                                     "--path.0 10.0.0.2:1,10.0.0.1:1 --secret-file secret "
                                     "--net.0 tap9 --run-dir /x",
                                     stdout, &c, &action, &err),
                          0);
    CU_ASSERT_STRING_EQUAL(c.control_socket, "/x/db.sock");
    CU_ASSERT_STRING_EQUAL(c.nets[0].tap, "tap9");
    config_free(&c);
}

static void both_hosts_derive_the_same_mac(void)
{
    uint8_t first[6];
    for (int host = 0; host < 2; host++) {
        struct config c;
        enum config_action action;
        write_ini(host ? "[machine]\nnet.0 = a\n" : "[machine]\nnet.0 = b\nnet.1 = c\n");
        CU_ASSERT_EQUAL_FATAL(read_words("-c ini", stdout, &c, &action, NULL), 0);
        if (host) {
            CU_ASSERT_EQUAL(memcmp(first, c.nets[0].mac, 6), 0);
        } else {
            CU_ASSERT_NOT_EQUAL(memcmp(c.nets[0].mac, c.nets[1].mac, 6), 0);
        }
        memcpy(first, c.nets[0].mac, 6);
        config_free(&c);
    }
}

#define TLS_PAIR    "listen = 10.0.0.1:7000\npeer = tls://10.0.0.2:7000\n"
#define WITH_SECRET "[heartbeat]\nsecret-file = secret\npath.0 = 10.0.0.1:1,10.0.0.2:1\n"
#define PAIR        "listen = tcp://10.0.0.1:7000\npeer = tcp://10.0.0.2:7000\n"
#define THIRD       "host.0 = tcp://10.0.0.3:7000\n"
#define THIRD_PATH  "path.1 = 10.0.0.1:2,10.0.0.3:1,host=0\n"
#define ETCD        "[arbiter]\ntype = etcd\nendpoints = http://10.0.0.9:2379\n"

/* A grant of a term says nothing about what a dead host still has on its way to the disk. */
static void a_shared_disk_needs_who_fences(void)
{
    static const struct {
        const char *arbiter;
        bool taken;
    } cases[] = {
        {"type = none", false},
        {"type = etcd\nendpoints = http://a:1", false},
        {"type = manual", true},
        {"type = command\ncommand = /bin/true", true},
        {"type = none\ni-accept-unfenced-shared-disk = yes", true},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct config c;
        enum config_action action;
        struct error err = {0};
        char text[512];
        snprintf(text, sizeof(text),
                 PAIR WITH_SECRET
                 "[machine]\ndisk.0 = disk\ndisk.1 = disk2,shared\n[arbiter]\n%s\n",
                 cases[i].arbiter);
        write_ini(text);
        const int rc = read_words("--config ini", stdout, &c, &action, &err);
        CU_ASSERT_EQUAL(rc, cases[i].taken ? 0 : -EINVAL);
        if (rc == 0) {
            CU_ASSERT(c.disks[1].shared && !c.disks[1].read_only && !c.disks[0].shared);
            CU_ASSERT_STRING_EQUAL(c.disks[1].path, "disk2");
            config_free(&c);
        } else {
            CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "disk.1: a shared disk needs an arbiter that "
                                                    "fences the other host"));
            CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "--i-accept-unfenced-shared-disk"));
        }
    }
}

static void a_link_without_a_scheme_is_tls_and_believes_the_host_it_calls(void)
{
    struct config c;
    enum config_action action;
    struct error err = {0};
    write_ini(TLS_PAIR WITH_SECRET);
    CU_ASSERT_EQUAL_FATAL(read_words("-c ini", stdout, &c, &action, &err), 0);
    CU_ASSERT_STRING_EQUAL(c.listen.text, "tls://10.0.0.1:7000");
    CU_ASSERT_TRUE(c.listen.encrypted && c.peer.encrypted && c.tls_kernel);
    CU_ASSERT_PTR_NULL(c.tls_peer_name);
    config_free(&c);
    CU_ASSERT_EQUAL(c.streams, 0);
    write_ini("streams = 8\n" PAIR WITH_SECRET);
    CU_ASSERT_EQUAL_FATAL(read_words("-c ini", stdout, &c, &action, &err), 0);
    CU_ASSERT_FALSE(c.listen.encrypted || c.peer.encrypted);
    CU_ASSERT_EQUAL(c.streams, 8);
    config_free(&c);
    write_ini(TLS_PAIR WITH_SECRET
              "[tls]\ncert-file = disk\nkey-file = secret\nca-file = disk\nkernel = no\n");
    CU_ASSERT_EQUAL_FATAL(read_words("-c ini", stdout, &c, &action, &err), 0);
    CU_ASSERT_STRING_EQUAL(c.tls_peer_name, "10.0.0.2");
    CU_ASSERT_STRING_EQUAL(c.tls_key_file, "secret");
    CU_ASSERT_FALSE(c.tls_kernel);
    config_free(&c);
}

static void arbiters_get_their_words_and_passwords(void)
{
    struct config c;
    enum config_action action;
    struct error err = {0};
    write_ini("[arbiter]\ntype = command\ncommand = /bin/sh  -c \"exit 10\" x\"\" \n"
              "attempt-timeout = 30s\n");
    CU_ASSERT_EQUAL_FATAL(read_words("-c ini", stdout, &c, &action, &err), 0);
    CU_ASSERT_EQUAL(c.arbiter, CONFIG_ARBITER_COMMAND);
    CU_ASSERT_STRING_EQUAL(c.arbiter_command.list[0], "/bin/sh");
    CU_ASSERT_STRING_EQUAL(c.arbiter_command.list[2], "exit 10");
    CU_ASSERT_STRING_EQUAL(c.arbiter_command.list[3], "x");
    CU_ASSERT_PTR_NULL(c.arbiter_command.list[4]);
    CU_ASSERT_EQUAL(c.arbiter_attempt_timeout, SEC(30));
    config_free(&c);
    write_ini("[arbiter]\ntype = etcd\nendpoints = http://10.0.0.1:2379 https://[::1]:2379\n"
              "user = kemari\npassword-file = secret\nca-file = disk\n");
    CU_ASSERT_EQUAL_FATAL(read_words("-c ini", stdout, &c, &action, &err), 0);
    CU_ASSERT_EQUAL(c.arbiter, CONFIG_ARBITER_ETCD);
    CU_ASSERT_STRING_EQUAL(c.arbiter_endpoints.list[1], "https://[::1]:2379");
    CU_ASSERT_PTR_NULL(c.arbiter_endpoints.list[2]);
    CU_ASSERT_STRING_EQUAL(c.arbiter_password, "0123456789abcdef");
    CU_ASSERT_STRING_EQUAL(c.arbiter_key_prefix, "/kemari/");
    config_free(&c);
}

static void further_hosts_are_listed_with_their_paths(void)
{
    struct config c;
    enum config_action action;
    struct error err = {0};
    write_ini(PAIR THIRD "host.1 = tcp://[fd00::4]:7000\nhost-wait = 3s\n" WITH_SECRET THIRD_PATH
                         "path.2 = 10.0.0.1:3,10.0.0.4:1,host=1\n" ETCD);
    CU_ASSERT_EQUAL_FATAL(read_words("-c ini", stdout, &c, &action, &err), 0);
    CU_ASSERT_EQUAL(c.host_count, 2);
    CU_ASSERT_STRING_EQUAL(c.hosts[1].text, "tcp://[fd00::4]:7000");
    CU_ASSERT_EQUAL(c.host_wait, SEC(3));
    CU_ASSERT_EQUAL(c.path_count, 3);
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(c.paths[i].host, i);
    CU_ASSERT_STRING_EQUAL(c.paths[2].remote.text, "10.0.0.4:1");
    config_free(&c);
    write_ini("");
    CU_ASSERT_EQUAL_FATAL(read_words("-c ini", stdout, &c, &action, &err), 0);
    CU_ASSERT_EQUAL(c.host_wait, SEC(10));
    CU_ASSERT_EQUAL(c.host_count, 0);
    config_free(&c);
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
    {MINIMAL "--machine qemu --qemu q --listen tcp://10.0.0.1:7000 --peer tcp://10.0.0.2:7000 "
             "--disk.0 disk --disk.1 other,shared",
     "--disk.1: type qemu can't protect a shared disk: QEMU doesn't stop the guest before its "
     "writes "
     "have ended, and those of a shared disk end after the checkpoint; give each host an image of "
     "its own, or use type kvm"},
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
    write_file("ini", "name = web\n", 0600);
    expect_error("-c ini", "ini:1: a key stands before the first [section]");
}

static void a_line_too_long_or_with_a_zero_byte_is_refused(void)
{
    char text[CONFIG_LINE_MAX + 64] = "[machine]\ncmdline = ";
    memset(text + strlen(text), 'x', CONFIG_LINE_MAX);
    write_file("ini", text, 0600);
    expect_error("-c ini", "ini:2: the line is too long");

    struct config_settings *settings = config_settings_create();
    struct error err = {0};
    CU_ASSERT_EQUAL(config_settings_read_text(settings, "z", "[vm]\nna\0me = x\n", 15, &err),
                    -EINVAL);
    CU_ASSERT_STRING_EQUAL(err.text, "z:2: the line contains a zero byte");
    config_settings_destroy(&settings);
}

/* What --print-config shows, read again, shows itself. */
static void the_printed_configuration_reads_back_as_itself(void)
{
    char *text[2] = {NULL, NULL};
    size_t size;
    write_ini(PAIR
              "[machine]\ncmdline = a ; b # c\nvcpus = 4\nnet.0 = tap0\ndisk.0 = disk,read-only\n"
              "console-log = stdout\n"
              "[heartbeat]\nsecret-file = secret\npath.0 = [::1]:1,[::1]:2\n"
              "interval = 1500us\n[vm]\ncontrol-group = root\n");
    for (int round = 0; round < 2; round++) {
        FILE *out = open_memstream(&text[round], &size);
        struct config c;
        enum config_action action = CONFIG_RUN;
        struct error err = {0};
        CU_ASSERT_EQUAL_FATAL(read_words("-c ini --print-config", out, &c, &action, &err), 0);
        CU_ASSERT_EQUAL(action, CONFIG_EXIT);
        fclose(out);
        write_file("ini", text[round], 0600);
    }
    CU_ASSERT_STRING_EQUAL(text[0], text[1]);
    CU_ASSERT_PTR_NOT_NULL(strstr(text[0], "\ncmdline = a ; b # c\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text[0], "\ninterval = 1500us\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text[0], "\ncontrol-group = 0\n"));
    free(text[0]);
    free(text[1]);
}

static void help_names_every_option_and_needs_no_other(void)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    struct config c;
    enum config_action action = CONFIG_RUN;
    CU_ASSERT_EQUAL(read_words("--help", out, &c, &action, NULL), 0);
    fclose(out);
    CU_ASSERT_EQUAL(action, CONFIG_EXIT);
    for (size_t i = 0; i < config_option_count; i++) {
        char flag[64];
        snprintf(flag, sizeof(flag), "\n  --%s%s %s\n", config_options[i].flag,
                 config_options[i].instances ? ".N" : "", config_options[i].placeholder);
        CU_ASSERT_PTR_NOT_NULL(strstr(text, flag));
    }
    free(text);
}

static void no_two_options_share_a_flag_or_a_key(void)
{
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *a = &config_options[i];
        CU_ASSERT_PTR_EQUAL(config_option_at(a->offset), a);
        for (size_t j = 0; j < i; j++) {
            const struct config_option *b = &config_options[j];
            CU_ASSERT_NOT_EQUAL(strcmp(a->flag, b->flag), 0);
            CU_ASSERT(strcmp(a->section, b->section) != 0 || strcmp(a->key, b->key) != 0);
        }
    }
}

static void a_domains_XML_says_options_of_the_machine(void)
{
    struct config c;
    enum config_action action;
    struct error err = {0};
    CU_ASSERT_EQUAL_FATAL(read_words("--name vm --role primary --machine qemu --kernel kernel "
                                     "--libvirt-xml domain.xml",
                                     stdout, &c, &action, &err),
                          0);
    CU_ASSERT_EQUAL(c.memory, (uint64_t)64 << 20);
    CU_ASSERT_EQUAL(c.vcpus, 3);
    CU_ASSERT_STRING_EQUAL(c.qemu.text, "qemu-system-x86_64 -machine q35 -accel tcg");
    CU_ASSERT_STRING_EQUAL(c.kernel, "kernel");
    config_free(&c);
}

static char *read_whole(const char *path)
{
    static char text[65536];
    FILE *file = fopen(path, "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    return text;
}

static void the_committed_reference_is_what_the_table_says(void)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    config_print_markdown(out);
    fclose(out);
    if (getenv("KEMARI_UPDATE_GOLDEN"))
        write_file(SOURCE_DIR "/docs/configuration.md", text, 0644);
    CU_ASSERT_STRING_EQUAL(text, read_whole(SOURCE_DIR "/docs/configuration.md"));
    free(text);
}

static void durations_and_sizes_print_as_they_read(void)
{
    char text[CONFIG_VALUE_TEXT_MAX];
    config_format_bytes(1536, text);
    CU_ASSERT_STRING_EQUAL(text, "1536");
    config_format_bytes(UINT64_C(3) << 30, text);
    CU_ASSERT_STRING_EQUAL(text, "3G");
    config_format_duration(SEC(90), text);
    CU_ASSERT_STRING_EQUAL(text, "90s");
    config_format_duration(0, text);
    CU_ASSERT_STRING_EQUAL(text, "0");
    nsec_t t;
    CU_ASSERT_EQUAL(config_parse_duration("7ns", 0, SEC(1), &t, NULL), 0);
    CU_ASSERT_EQUAL(t, 7);
    CU_ASSERT_EQUAL(config_parse_duration("-7ns", 0, SEC(1), &t, NULL), -EINVAL);
    CU_ASSERT_EQUAL(config_parse_duration("7 ns", 0, SEC(1), &t, NULL), -EINVAL);
}

static void metrics_are_local_unless_told_else(void)
{
    static const char *const pairs[][2] = {
        {"9120", "127.0.0.1:9120"}, {"0.0.0.0:9120", "0.0.0.0:9120"}, {"[::1]:9120", "[::1]:9120"}};
    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        struct config_address address;
        CU_ASSERT_EQUAL(config_parse_service(pairs[i][0], &address, NULL), 0);
        CU_ASSERT_STRING_EQUAL(address.text, pairs[i][1]);
        CU_ASSERT(address.length > 0);
        free(address.text);
    }
}

static const struct test_case cases[] = {
    {"metrics are local unless told else", metrics_are_local_unless_told_else},
    {"a minimal file gets every default", a_minimal_file_gets_every_default},
    {"every option of the file arrives", every_option_of_the_file_arrives},
    {"flags win over the file and suffice without one",
     flags_win_over_the_file_and_suffice_without_one},
    {"a shared disk needs who fences", a_shared_disk_needs_who_fences},
    {"a link without a scheme is tls and believes the host it calls",
     a_link_without_a_scheme_is_tls_and_believes_the_host_it_calls},
    {"arbiters get their words and passwords", arbiters_get_their_words_and_passwords},
    {"further hosts are listed with their paths", further_hosts_are_listed_with_their_paths},
    {"both hosts derive the same MAC", both_hosts_derive_the_same_mac},
    {"what is wrong in a file is told with its line",
     what_is_wrong_in_a_file_is_told_with_its_line},
    {"what is wrong on the command line is told with its flag",
     what_is_wrong_on_the_command_line_is_told_with_its_flag},
    {"a key before any section is refused", a_key_before_any_section_is_refused},
    {"a line too long or with a zero byte is refused",
     a_line_too_long_or_with_a_zero_byte_is_refused},
    {"the printed configuration reads back as itself",
     the_printed_configuration_reads_back_as_itself},
    {"help names every option and needs no other", help_names_every_option_and_needs_no_other},
    {"no two options share a flag or a key", no_two_options_share_a_flag_or_a_key},
    {"a domain's XML says options of the machine", a_domains_XML_says_options_of_the_machine},
    {"the committed reference is what the table says",
     the_committed_reference_is_what_the_table_says},
    {"durations and sizes print as they read", durations_and_sizes_print_as_they_read},
};

int main(int argc, char **argv)
{
    prepare();
    const int status = test_run(argc, argv, "config", cases, ARRAY_SIZE(cases));
    clean_up();
    return status;
}
