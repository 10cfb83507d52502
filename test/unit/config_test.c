/* Configuration: every option. What is refused is in config_refusals_test.c.
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
#include "test/support/config_fixture.h"
#include "test/support/runner.h"

static void a_minimal_file_gets_every_default(void)
{
    struct config c;
    enum config_action action;
    struct error err = {0};
    config_fixture_write_ini("");
    CU_ASSERT_EQUAL_FATAL(config_fixture_read("-c ini", stdout, &c, &action, &err), 0);
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
    config_fixture_write_ini(
        "listen = tcp://[fd00::1]:7001\npeer = tcp://10.0.0.2:7000\n"
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
    CU_ASSERT_EQUAL_FATAL(config_fixture_read("--config ini", stdout, &c, &action, &err), 0);
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
    config_fixture_write_ini("window = 4\n");
    CU_ASSERT_EQUAL_FATAL(
        config_fixture_read(
            "--window 7 --config=ini --vcpus=3 --arbiter none --peer-wait 0 --disk.0 disk", stdout,
            &c, &action, &err),
        0);
    CU_ASSERT_EQUAL(c.window, 7);
    CU_ASSERT_EQUAL(c.vcpus, 3);
    CU_ASSERT_EQUAL(c.peer_wait, 0);
    CU_ASSERT_FALSE(c.disks[0].read_only);
    CU_ASSERT_EQUAL(c.arbiter, CONFIG_ARBITER_NONE);
    config_free(&c);
    CU_ASSERT_EQUAL_FATAL(
        config_fixture_read("--name db --role secondary --memory 2M --kernel kernel "
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
        config_fixture_write_ini(host ? "[machine]\nnet.0 = a\n"
                                      : "[machine]\nnet.0 = b\nnet.1 = c\n");
        CU_ASSERT_EQUAL_FATAL(config_fixture_read("-c ini", stdout, &c, &action, NULL), 0);
        if (host) {
            CU_ASSERT_EQUAL(memcmp(first, c.nets[0].mac, 6), 0);
        } else {
            CU_ASSERT_NOT_EQUAL(memcmp(c.nets[0].mac, c.nets[1].mac, 6), 0);
        }
        memcpy(first, c.nets[0].mac, 6);
        config_free(&c);
    }
}

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
        config_fixture_write_ini(text);
        const int rc = config_fixture_read("--config ini", stdout, &c, &action, &err);
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
    config_fixture_write_ini(TLS_PAIR WITH_SECRET);
    CU_ASSERT_EQUAL_FATAL(config_fixture_read("-c ini", stdout, &c, &action, &err), 0);
    CU_ASSERT_STRING_EQUAL(c.listen.text, "tls://10.0.0.1:7000");
    CU_ASSERT_TRUE(c.listen.encrypted && c.peer.encrypted && c.tls_kernel);
    CU_ASSERT_PTR_NULL(c.tls_peer_name);
    config_free(&c);
    CU_ASSERT_EQUAL(c.streams, 0);
    config_fixture_write_ini("streams = 8\n" PAIR WITH_SECRET);
    CU_ASSERT_EQUAL_FATAL(config_fixture_read("-c ini", stdout, &c, &action, &err), 0);
    CU_ASSERT_FALSE(c.listen.encrypted || c.peer.encrypted);
    CU_ASSERT_EQUAL(c.streams, 8);
    config_free(&c);
    config_fixture_write_ini(
        TLS_PAIR WITH_SECRET
        "[tls]\ncert-file = disk\nkey-file = secret\nca-file = disk\nkernel = no\n");
    CU_ASSERT_EQUAL_FATAL(config_fixture_read("-c ini", stdout, &c, &action, &err), 0);
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
    config_fixture_write_ini("[arbiter]\ntype = command\ncommand = /bin/sh  -c \"exit 10\" x\"\" \n"
                             "attempt-timeout = 30s\n");
    CU_ASSERT_EQUAL_FATAL(config_fixture_read("-c ini", stdout, &c, &action, &err), 0);
    CU_ASSERT_EQUAL(c.arbiter, CONFIG_ARBITER_COMMAND);
    CU_ASSERT_STRING_EQUAL(c.arbiter_command.list[0], "/bin/sh");
    CU_ASSERT_STRING_EQUAL(c.arbiter_command.list[2], "exit 10");
    CU_ASSERT_STRING_EQUAL(c.arbiter_command.list[3], "x");
    CU_ASSERT_PTR_NULL(c.arbiter_command.list[4]);
    CU_ASSERT_EQUAL(c.arbiter_attempt_timeout, SEC(30));
    config_free(&c);
    config_fixture_write_ini(
        "[arbiter]\ntype = etcd\nendpoints = http://10.0.0.1:2379 https://[::1]:2379\n"
        "user = kemari\npassword-file = secret\nca-file = disk\n");
    CU_ASSERT_EQUAL_FATAL(config_fixture_read("-c ini", stdout, &c, &action, &err), 0);
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
    config_fixture_write_ini(
        PAIR THIRD "host.1 = tcp://[fd00::4]:7000\nhost-wait = 3s\n" WITH_SECRET THIRD_PATH
                   "path.2 = 10.0.0.1:3,10.0.0.4:1,host=1\n" ETCD);
    CU_ASSERT_EQUAL_FATAL(config_fixture_read("-c ini", stdout, &c, &action, &err), 0);
    CU_ASSERT_EQUAL(c.host_count, 2);
    CU_ASSERT_STRING_EQUAL(c.hosts[1].text, "tcp://[fd00::4]:7000");
    CU_ASSERT_EQUAL(c.host_wait, SEC(3));
    CU_ASSERT_EQUAL(c.path_count, 3);
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(c.paths[i].host, i);
    CU_ASSERT_STRING_EQUAL(c.paths[2].remote.text, "10.0.0.4:1");
    config_free(&c);
    config_fixture_write_ini("");
    CU_ASSERT_EQUAL_FATAL(config_fixture_read("-c ini", stdout, &c, &action, &err), 0);
    CU_ASSERT_EQUAL(c.host_wait, SEC(10));
    CU_ASSERT_EQUAL(c.host_count, 0);
    config_free(&c);
}

/* What --print-config shows, read again, shows itself. */
static void the_printed_configuration_reads_back_as_itself(void)
{
    char *text[2] = {NULL, NULL};
    size_t size;
    config_fixture_write_ini(
        PAIR "[machine]\ncmdline = a ; b # c\nvcpus = 4\nnet.0 = tap0\ndisk.0 = disk,read-only\n"
             "console-log = stdout\n"
             "[heartbeat]\nsecret-file = secret\npath.0 = [::1]:1,[::1]:2\n"
             "interval = 1500us\n[vm]\ncontrol-group = root\n");
    for (int round = 0; round < 2; round++) {
        FILE *out = open_memstream(&text[round], &size);
        struct config c;
        enum config_action action = CONFIG_RUN;
        struct error err = {0};
        CU_ASSERT_EQUAL_FATAL(config_fixture_read("-c ini --print-config", out, &c, &action, &err),
                              0);
        CU_ASSERT_EQUAL(action, CONFIG_EXIT);
        fclose(out);
        config_fixture_write("ini", text[round], 0600);
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
    CU_ASSERT_EQUAL(config_fixture_read("--help", out, &c, &action, NULL), 0);
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
    CU_ASSERT_EQUAL_FATAL(
        config_fixture_read("--name vm --role primary --machine qemu --kernel kernel "
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
        config_fixture_write(SOURCE_DIR "/docs/configuration.md", text, 0644);
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
    config_fixture_prepare();
    const int status = test_run(argc, argv, "config", cases, ARRAY_SIZE(cases));
    config_fixture_clean_up();
    return status;
}
